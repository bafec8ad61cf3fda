//! When the gateway's own certificate is renewed. The wall clock is checked every minute, because a timer of half a week stops while
//! the machine is suspended and does not notice a clock that is set.

use std::time::Duration;

use pki::{BACKDATE, UnixTime};

use crate::limits::GATEWAY_LEAF_LIFE;

/// Interval between two checks of the clock.
pub const CHECK_INTERVAL: Duration = Duration::from_mins(1);

/// Most checks to skip after a failed renewal: a quarter of an hour, so that a fault of several days costs some hundred attempts.
const SKIP_MAX: u32 = 15;

/// The validity of a certificate; both ends are included (RFC 5280 4.1.2.5).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// `notBefore`.
    pub from: UnixTime,
    /// `notAfter`.
    pub until: UnixTime,
}

impl Validity {
    /// Validity of a certificate issued now by a CA of this validity. It is always within the CA's: if the clock is before or after the
    /// CA's validity, the gateway must still start and report that.
    #[must_use]
    pub fn of_new(ca: Self, now: UnixTime) -> Self {
        let at = now.min(ca.until.minus(SHORTEST)).max(ca.from.plus(BACKDATE));
        Self { from: at.minus(BACKDATE), until: at.plus(GATEWAY_LEAF_LIFE).min(ca.until) }
    }

    /// Whether `now` is within it.
    #[must_use]
    pub fn holds(&self, now: UnixTime) -> bool {
        self.from <= now && now <= self.until
    }

    fn half(&self) -> UnixTime {
        self.from.plus(self.until.since(self.from) / 2)
    }
}

/// Shortest lifetime, for the last certificates before a CA ends.
const SHORTEST: Duration = Duration::from_hours(1);

/// The certificate in use, and the failed renewals.
#[derive(Clone, Debug)]
pub struct OwnLeaf {
    validity: Validity,
    failures: u32,
    /// Checks to skip before the next attempt.
    skip: u32,
}

impl OwnLeaf {
    /// A new certificate.
    #[must_use]
    pub const fn new(validity: Validity) -> Self {
        Self { validity, failures: 0, skip: 0 }
    }

    /// Sets the certificate in use, which a reload may have replaced.
    pub fn set_current(&mut self, validity: Validity) {
        if self.validity != validity {
            *self = Self::new(validity);
        }
    }

    /// To be called every [`CHECK_INTERVAL`]; true if the certificate is to be renewed now.
    pub fn is_due(&mut self, ca: Validity, now: UnixTime) -> bool {
        let new = Validity::of_new(ca, now);
        // not if a new one would be no better: near the CA's end, and while the clock is before the CA's validity
        let gains = (now >= self.validity.half() && new.until > self.validity.until)
            || (now < self.validity.from && new.from < self.validity.from);
        if gains && self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        gains
    }

    /// Renewing failed. Doubles the time until the next attempt, up to [`SKIP_MAX`] checks.
    pub fn failed(&mut self) {
        self.skip = (1 << self.failures.min(4)).min(SKIP_MAX);
        self.failures = self.failures.saturating_add(1);
    }

    /// Why clients refuse the certificate in use at this time; `None` if they accept it.
    #[must_use]
    pub fn trouble(&self, now: UnixTime) -> Option<&'static str> {
        if now > self.validity.until {
            Some("it has expired")
        } else if now < self.validity.from {
            Some("it is not valid yet; was the clock set back?")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const START: UnixTime = UnixTime::new(1_800_000_000);

    fn ca() -> Validity {
        Validity { from: START.minus(DAY * 600), until: START.plus(DAY * 1_800) }
    }

    fn fresh(now: UnixTime) -> OwnLeaf {
        OwnLeaf::new(Validity::of_new(ca(), now))
    }

    /// Any change of the clock between two checks is corrected at the next check.
    #[test]
    fn a_clock_that_jumps() {
        for (what, ahead, back) in [
            ("asleep for 4 days", 4, 0),
            ("asleep for 8 days", 8, 0),
            ("500 days ahead", 500, 0),
            ("8 days back", 0, 8),
            ("500 days back", 0, 500),
        ] {
            let mut leaf = fresh(START);
            let now = START.plus(DAY * ahead).minus(DAY * back);
            assert!(leaf.is_due(ca(), now), "{what}");
            let renewed = Validity::of_new(ca(), now);
            assert!(renewed.holds(now), "{what}");
            // and when the clock is set right
            let mut leaf = OwnLeaf::new(renewed);
            assert!(leaf.is_due(ca(), START), "{what}, and again");
            assert!(Validity::of_new(ca(), START).holds(START), "{what}, and again");
        }
    }

    #[test]
    fn by_day_it_is_renewed_at_half_of_its_life() {
        let mut leaf = fresh(START);
        let looks = |leaf: &mut OwnLeaf, minutes: u32| leaf.is_due(ca(), START.plus(CHECK_INTERVAL * minutes));
        assert!((0..5_037).all(|minute| !looks(&mut leaf, minute)));
        assert!(looks(&mut leaf, 5_038));
    }

    #[test]
    fn a_failure_is_repeated_ever_more_slowly() {
        let mut leaf = fresh(START);
        let mut tries = Vec::new();
        for minute in 0..60 {
            let now = START.plus(DAY * 4).plus(CHECK_INTERVAL * minute);
            if leaf.is_due(ca(), now) {
                tries.push(minute);
                leaf.failed();
            }
        }
        assert_eq!(tries, [0, 2, 5, 10, 19, 35, 51]);
    }

    #[test]
    fn within_the_last_week_of_the_ca_and_beyond() {
        let ca = Validity { from: START.minus(DAY * 900), until: START.plus(DAY * 3) };
        let new = Validity::of_new(ca, START);
        assert_eq!((new.holds(START), new.until), (true, ca.until));
        let mut leaf = OwnLeaf::new(new);
        for hours in 0..200 {
            assert!(!leaf.is_due(ca, START.plus(Duration::from_hours(hours))), "nothing is gained {hours} h later");
        }
        assert_eq!(leaf.trouble(START.plus(DAY * 4)), Some("it has expired"));
        // a start after the CA's end: outside the CA's validity it could not be signed
        let late = Validity::of_new(ca, START.plus(DAY * 100));
        assert!(late.from >= ca.from && late.until == ca.until, "{late:?}");
        // the CA is renewed
        let renewed = Validity { until: START.plus(DAY * 1_800), ..ca };
        assert!(leaf.is_due(renewed, START.plus(DAY * 4)));
        // a clock at 1970
        let mut early = OwnLeaf::new(Validity::of_new(ca, UnixTime::new(5)));
        assert!(early.validity.from >= ca.from);
        assert!(!early.is_due(ca, UnixTime::new(65)) && early.trouble(UnixTime::new(65)).is_some());
        assert!(early.is_due(renewed, START), "and then it is set right");
    }
}
