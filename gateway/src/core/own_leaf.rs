//! When the gateway's own certificate is renewed: by the wall clock, looked at each minute, so that a machine that slept and
//! a clock that was set are noticed. A timer of half a week stands still with the machine.

use std::time::Duration;

use pki::{BACKDATE, UnixTime};

use crate::limits::GATEWAY_LEAF_LIFE;

/// How often it is looked at.
pub const LOOK: Duration = Duration::from_mins(1);

/// Most looks that a renewal which failed is put off by: a quarter of an hour, so that days of a fault cost some hundred tries.
const PUT_OFF_MAX: u32 = 15;

/// A time in which a certificate is valid, both ends included.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From then.
    pub from: UnixTime,
    /// Until then.
    pub until: UnixTime,
}

impl Validity {
    /// Of a certificate that would be made now by a CA of this validity. It lies within the CA's whatever the clock says:
    /// before the CA began and after it ended the gateway can still start, and say so.
    #[must_use]
    pub fn of_new(ca: Self, now: UnixTime) -> Self {
        let at = now.min(ca.until.minus(SHORTEST)).max(ca.from.plus(BACKDATE));
        Self { from: at.minus(BACKDATE), until: at.plus(GATEWAY_LEAF_LIFE).min(ca.until) }
    }

    /// Whether it holds then.
    #[must_use]
    pub fn holds(&self, now: UnixTime) -> bool {
        self.from <= now && now <= self.until
    }

    fn half(&self) -> UnixTime {
        self.from.plus(self.until.since(self.from) / 2)
    }
}

/// Life of the last certificates before a CA ends.
const SHORTEST: Duration = Duration::from_hours(1);

/// The certificate in force, and how renewing it went.
#[derive(Clone, Debug)]
pub struct OwnLeaf {
    validity: Validity,
    failures: u32,
    /// Looks that go by before the next try.
    put_off: u32,
}

impl OwnLeaf {
    /// One that was just made.
    #[must_use]
    pub const fn new(validity: Validity) -> Self {
        Self { validity, failures: 0, put_off: 0 }
    }

    /// The one in force now: perhaps another, since a reload makes one too.
    pub fn in_force(&mut self, validity: Validity) {
        if self.validity != validity {
            *self = Self::new(validity);
        }
    }

    /// Looks at the clock: whether to renew now.
    pub fn look(&mut self, ca: Validity, now: UnixTime) -> bool {
        let new = Validity::of_new(ca, now);
        // Not when it would gain nothing: near the CA's end, and when the clock says that the CA has not begun.
        let gains = (now >= self.validity.half() && new.until > self.validity.until)
            || (now < self.validity.from && new.from < self.validity.from);
        if gains && self.put_off > 0 {
            self.put_off -= 1;
            return false;
        }
        gains
    }

    /// It did not work; the next try is put off, each time for longer.
    pub fn failed(&mut self) {
        self.put_off = (1 << self.failures.min(4)).min(PUT_OFF_MAX);
        self.failures = self.failures.saturating_add(1);
    }

    /// What is wrong with the certificate in force, if anything.
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

    /// Whatever happens to the clock between two looks, the look after it puts things right.
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
            assert!(leaf.look(ca(), now), "{what}");
            let renewed = Validity::of_new(ca(), now);
            assert!(renewed.holds(now), "{what}");
            // And when the clock comes back.
            let mut leaf = OwnLeaf::new(renewed);
            assert!(leaf.look(ca(), START), "{what}, and again");
            assert!(Validity::of_new(ca(), START).holds(START), "{what}, and again");
        }
    }

    #[test]
    fn by_day_it_is_renewed_at_half_of_its_life() {
        let mut leaf = fresh(START);
        let looks = |leaf: &mut OwnLeaf, minutes: u32| leaf.look(ca(), START.plus(LOOK * minutes));
        assert!((0..5_037).all(|minute| !looks(&mut leaf, minute)));
        assert!(looks(&mut leaf, 5_038));
    }

    #[test]
    fn a_failure_is_repeated_ever_more_slowly() {
        let mut leaf = fresh(START);
        let mut tries = Vec::new();
        for minute in 0..60 {
            let now = START.plus(DAY * 4).plus(LOOK * minute);
            if leaf.look(ca(), now) {
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
            assert!(!leaf.look(ca, START.plus(Duration::from_hours(hours))), "nothing is gained {hours} h later");
        }
        assert_eq!(leaf.trouble(START.plus(DAY * 4)), Some("it has expired"));
        // A start after the end: it lies within the CA's validity, or it could not be signed.
        let late = Validity::of_new(ca, START.plus(DAY * 100));
        assert!(late.from >= ca.from && late.until == ca.until, "{late:?}");
        // The CA is certified anew.
        let renewed = Validity { until: START.plus(DAY * 1_800), ..ca };
        assert!(leaf.look(renewed, START.plus(DAY * 4)));
        // And a clock that knows nothing of this century.
        let mut early = OwnLeaf::new(Validity::of_new(ca, UnixTime::new(5)));
        assert!(early.validity.from >= ca.from);
        assert!(!early.look(ca, UnixTime::new(65)) && early.trouble(UnixTime::new(65)).is_some());
        assert!(early.look(renewed, START), "and then it is set right");
    }
}
