//! The one place that reads the clock. Everything else is told the time.
#![expect(clippy::disallowed_methods, reason = "this file is where the wall clock is read")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pki::UnixTime;

/// Tells the time: the system's, or one that a test holds in its hand.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Milliseconds since the Unix epoch.
    Fake(Arc<AtomicU64>),
}

impl Clock {
    /// The system's wall clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until its handle moves it.
    #[must_use]
    pub fn fake(start: UnixTime) -> (Self, FakeClock) {
        let millis = Arc::new(AtomicU64::new(start.secs().saturating_mul(1000)));
        (Self(Source::Fake(Arc::clone(&millis))), FakeClock(millis))
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        UnixTime::new(self.now_ms() / 1000)
    }

    /// Milliseconds since the Unix epoch; for the audit, where several events fall into one second.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            // A clock before 1970 reads as 1970: every certificate is then not yet valid, which fails closed.
            Source::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            Source::Fake(millis) => millis.load(Ordering::SeqCst),
        }
    }
}

/// Moves a fake [`Clock`] and all its clones.
#[derive(Clone, Debug)]
pub struct FakeClock(Arc<AtomicU64>);

impl FakeClock {
    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Puts the clock to a time, also backwards.
    pub fn set(&self, to: UnixTime) {
        self.0.store(to.secs().saturating_mul(1000), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fake_clock_moves_only_when_told() {
        let (clock, hand) = Clock::fake(UnixTime::new(1_000));
        let copy = clock.clone();
        assert_eq!(clock.now_ms(), 1_000_000);
        hand.advance(Duration::from_millis(1_500));
        assert_eq!((copy.now(), copy.now_ms()), (UnixTime::new(1_001), 1_001_500));
        hand.set(UnixTime::new(5));
        assert_eq!(clock.now(), UnixTime::new(5));
    }

    #[test]
    fn system_clock_is_after_this_was_written() {
        assert!(Clock::system().now() > UnixTime::new(1_700_000_000));
    }
}
