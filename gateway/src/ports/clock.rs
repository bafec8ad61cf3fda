//! The clock. All other code gets the time as an argument or from a [`Clock`].
#![expect(clippy::disallowed_methods, reason = "this file is where the wall clock is read")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pki::UnixTime;

/// The system's clock, or one that a test controls.
#[derive(Clone, Debug)]
pub struct Clock(ClockSource);

#[derive(Clone, Debug)]
enum ClockSource {
    System,
    Fake(FakeClock),
}

impl Clock {
    /// The system's wall clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(ClockSource::System)
    }

    /// A clock that only its handle changes.
    #[must_use]
    pub fn fake(start: UnixTime) -> (Self, FakeClock) {
        let wall = Arc::new(AtomicU64::new(start.secs().saturating_mul(1000)));
        let hand = FakeClock { wall, uptime: Arc::default() };
        (Self(ClockSource::Fake(hand.clone())), hand)
    }

    /// Monotonic time from an arbitrary origin. On systems that support it, it includes the time while the machine is suspended.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        match &self.0 {
            ClockSource::System => uptime(),
            ClockSource::Fake(hand) => Duration::from_millis(hand.uptime.load(Ordering::SeqCst)),
        }
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        UnixTime::new(self.now_ms() / 1000)
    }

    /// Milliseconds since the Unix epoch, for the audit, which can have several events in one second.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            // a clock before 1970 reads as 1970: no certificate is valid yet then, which fails closed
            ClockSource::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            ClockSource::Fake(hand) => hand.wall.load(Ordering::SeqCst),
        }
    }
}

#[cfg(target_os = "linux")]
fn uptime() -> Duration {
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(since_boot).unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
fn uptime() -> Duration {
    static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGUN.get_or_init(std::time::Instant::now).elapsed()
}

/// Moves a fake [`Clock`] and all its clones. Both in milliseconds.
#[derive(Clone, Debug)]
pub struct FakeClock {
    wall: Arc<AtomicU64>,
    uptime: Arc<AtomicU64>,
}

impl FakeClock {
    /// Moves wall clock and uptime forward.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.wall.fetch_add(millis, Ordering::SeqCst);
        self.uptime.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the wall clock, also backwards. Does not change the uptime.
    pub fn set(&self, to: UnixTime) {
        self.wall.store(to.secs().saturating_mul(1000), Ordering::SeqCst);
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
        assert_eq!((clock.now(), clock.uptime()), (UnixTime::new(5), Duration::from_millis(1_500)));
    }

    #[test]
    fn system_clock_is_after_this_was_written() {
        assert!(Clock::system().now() > UnixTime::new(1_700_000_000));
        let before = Clock::system().uptime();
        assert!(Clock::system().uptime() >= before);
    }
}
