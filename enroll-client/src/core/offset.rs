//! The offset of the gateway's clock. Schedules and proofs use the gateway's time, so that a machine whose clock is an hour off can
//! join and renews on time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use std::time::Duration;

use pki::UnixTime;

use crate::core::trust::GatewayCertificate;

/// Differences up to this, in seconds, are attributed to network delay and not to a change of a clock.
const LATE_MOST: u64 = 20;

/// Largest difference to the local clock that is accepted without further check: machines without a real-time clock start at an
/// arbitrary time, and time zones are confused. For a larger one the gateway's certificate must be valid at the gateway's time.
const ON_ITS_WORD: Duration = Duration::from_secs(24 * 3_600);

/// The gateway's time is not plausible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway says that it is {said}, at which its own certificate is not valid; its clock is not used")]
pub struct Unbelievable {
    /// The time that it sent.
    pub said: UnixTime,
}

/// Seconds to add to the local clock to get the gateway's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset(i64);

impl Offset {
    /// From the value stored in `state.json`.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs)
    }

    /// The offset from the gateway's time in a reply. A reply must not move the time by years, which would make valid certificates
    /// expired. `shown` is the gateway's certificate.
    ///
    /// # Errors
    /// When it differs by more than a day and the certificate is not valid at that time. The caller keeps the previous offset.
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

    /// Whether the difference to `other` can be explained by network delay.
    #[must_use]
    pub const fn is_about(self, other: Self) -> bool {
        self.0.abs_diff(other.0) <= LATE_MOST
    }

    /// The value for `state.json`, in seconds.
    #[must_use]
    pub const fn secs(self) -> i64 {
        self.0
    }

    /// The gateway's time at the local time `local`.
    #[must_use]
    pub fn gateway_time(self, local: UnixTime) -> UnixTime {
        UnixTime::new(local.secs().saturating_add_signed(self.0))
    }
}

/// An offset shared by several tasks, each of which sees the newest value.
#[derive(Clone, Debug)]
pub struct Shared(Arc<AtomicI64>);

impl Shared {
    /// With an initial value.
    #[must_use]
    pub fn new(offset: Offset) -> Self {
        Self(Arc::new(AtomicI64::new(offset.secs())))
    }

    /// The newest value.
    #[must_use]
    pub fn get(&self) -> Offset {
        Offset::from_secs(self.0.load(Ordering::Relaxed))
    }

    /// Sets the value for all holders.
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
        // Valid for a week, since three days ago.
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
