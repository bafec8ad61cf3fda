//! How far the gateway's clock is ahead of ours. Schedules and proofs use the gateway's time, so that a machine whose
//! clock is an hour off still joins and renews on time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use pki::UnixTime;

/// Seconds by which what the gateway says of its clock may be late on the way: less is no change of a clock.
const LATE_MOST: u64 = 20;

/// Seconds to add to the local clock to get the gateway's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset(i64);

impl Offset {
    /// From what was stored.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs)
    }

    /// From one reading of both clocks.
    #[must_use]
    pub fn between(gateway: UnixTime, local: UnixTime) -> Self {
        let secs = i128::from(gateway.secs()) - i128::from(local.secs());
        Self(i64::try_from(secs).unwrap_or(0))
    }

    /// Whether clocks that differ by this and by `other` stand where a message that was late would put one of them.
    #[must_use]
    pub const fn is_about(self, other: Self) -> bool {
        self.0.abs_diff(other.0) <= LATE_MOST
    }

    /// For storing.
    #[must_use]
    pub const fn secs(self) -> i64 {
        self.0
    }

    /// The gateway's time at our time `local`.
    #[must_use]
    pub fn gateway_time(self, local: UnixTime) -> UnixTime {
        UnixTime::new(local.secs().saturating_add_signed(self.0))
    }
}

/// An offset that may turn out to be another while somebody uses it: all who hold it go by the newest.
#[derive(Clone, Debug)]
pub struct Shared(Arc<AtomicI64>);

impl Shared {
    /// To begin with.
    #[must_use]
    pub fn new(offset: Offset) -> Self {
        Self(Arc::new(AtomicI64::new(offset.secs())))
    }

    /// As last learnt.
    #[must_use]
    pub fn get(&self) -> Offset {
        Offset::from_secs(self.0.load(Ordering::Relaxed))
    }

    /// It is this one from now on.
    pub fn set(&self, offset: Offset) {
        self.0.store(offset.secs(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions() {
        for (gateway, local, want) in
            [(1_000, 1_000, 0), (4_600, 1_000, 3_600), (1_000, 4_600, -3_600), (0, u64::MAX, 0)]
        {
            let offset = Offset::between(UnixTime::new(gateway), UnixTime::new(local));
            assert_eq!(offset.secs(), want);
            if want != 0 {
                assert_eq!(offset.gateway_time(UnixTime::new(local)).secs(), gateway);
            }
        }
    }

    #[test]
    fn never_wraps() {
        assert_eq!(Offset::from_secs(-10).gateway_time(UnixTime::new(3)).secs(), 0);
        assert_eq!(Offset::from_secs(10).gateway_time(UnixTime::new(u64::MAX)).secs(), u64::MAX);
    }

    #[test]
    fn what_is_late_is_no_other_clock() {
        for (one, other, want) in [(0, 20, true), (-10, 10, true), (0, 21, false), (i64::MIN, i64::MAX, false)] {
            assert_eq!(Offset::from_secs(one).is_about(Offset::from_secs(other)), want, "{one} and {other}");
        }
    }

    #[test]
    fn who_shares_it_hears_of_another() {
        let one = Shared::new(Offset::from_secs(3));
        let other = one.clone();
        one.set(Offset::from_secs(-4));
        assert_eq!(other.get().secs(), -4);
    }
}
