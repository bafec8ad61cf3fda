//! How far the gateway's clock is ahead of ours. Schedules and proofs use the gateway's time, so that a machine whose
//! clock is an hour off still joins and renews on time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use std::time::Duration;

use pki::UnixTime;

use crate::core::trust::GatewayCertificate;

/// Seconds by which what the gateway says of its clock may be late on the way: less is no change of a clock.
const LATE_MOST: u64 = 20;

/// How far from ours a gateway's clock may be on its own word: machines without a clock that keeps time start somewhere, and zones
/// are mistaken for one another. Beyond that the certificate it has shown must be valid at the time it tells.
const ON_ITS_WORD: Duration = Duration::from_secs(24 * 3_600);

/// A gateway tells a time that is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway says that it is {said}, at which its own certificate is not valid; its clock is not believed")]
pub struct Unbelievable {
    /// What it said.
    pub said: UnixTime,
}

/// Seconds to add to the local clock to get the gateway's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset(i64);

impl Offset {
    /// From what was stored.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs)
    }

    /// What a gateway says of its clock, within bounds: a word of whoever speaks for it must not move us by years, and make of a good
    /// certificate one that is over. `shown` is the certificate by which it was believed.
    ///
    /// # Errors
    /// When it is more than a day off and its certificate is not valid then; what was known before stands.
    pub fn heard(gateway: UnixTime, local: UnixTime, shown: Option<&GatewayCertificate>) -> Result<Self, Unbelievable> {
        let near = gateway.secs().abs_diff(local.secs()) <= ON_ITS_WORD.as_secs();
        if near || shown.is_some_and(|shown| shown.covers(gateway)) {
            Ok(Self::between(gateway, local))
        } else {
            Err(Unbelievable { said: gateway })
        }
    }

    /// From one reading of both clocks.
    fn between(gateway: UnixTime, local: UnixTime) -> Self {
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
    fn a_clock_is_believed_within_bounds() {
        const DAY: u64 = 86_400;
        const NOW: u64 = 1_000 * DAY;
        // Valid from three days ago for a week.
        let shown = GatewayCertificate::valid(UnixTime::new(NOW - 3 * DAY), UnixTime::new(NOW + 4 * DAY));
        for (said, with, without) in [
            (NOW, true, true),
            (NOW + DAY, true, true),
            (NOW - DAY, true, true),
            (NOW + DAY + 1, true, false),
            (NOW - DAY - 1, true, false),
            (NOW + 4 * DAY, true, false),
            (NOW - 3 * DAY, true, false),
            (NOW + 4 * DAY + 1, false, false),
            (NOW - 3 * DAY - 1, false, false),
            (NOW + 3_650 * DAY, false, false),
            (0, false, false),
            (u64::MAX, false, false),
        ] {
            for (shown, want) in [(Some(&shown), with), (None, without)] {
                let heard = Offset::heard(UnixTime::new(said), UnixTime::new(NOW), shown);
                assert_eq!(heard.is_ok(), want, "{said} {shown:?}");
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
