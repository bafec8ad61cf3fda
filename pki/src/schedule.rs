//! The renewal times of a certificate.

use aws_lc_rs::digest::{SHA256, digest};

use crate::profile::BACKDATE;
use crate::serial::Serial;
use crate::time::UnixTime;

/// The renewal times of one certificate.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// Earliest renewal: 40 % to 60 % of the lifetime after its start.
    pub renew_after: UnixTime,
    /// From here on a missing renewal is a warning: 75 % of the lifetime after its start.
    pub renew_by: UnixTime,
}

/// Computes the renewal times. The spread is derived from the serial: machines that enrolled in the same minute renew at
/// different times, and gateway and client compute the same times independently.
#[must_use]
pub fn schedule(serial: &Serial, not_before: UnixTime, not_after: UnixTime) -> Schedule {
    let start = not_before.plus(BACKDATE).min(not_after);
    let life = u128::from(not_after.since(start).as_secs());
    // 0 ..= 65_535 maps to 40 % ..= 60 % of the lifetime.
    let draw = match digest(&SHA256, serial.as_bytes()).as_ref() {
        [high, low, ..] => u128::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    let after = life * 4 / 10 + life * 2 * draw / (10 * 65_535);
    let at = |secs: u128| UnixTime::new(start.secs().saturating_add(u64::try_from(secs).unwrap_or(u64::MAX)));
    Schedule { renew_after: at(after), renew_by: at(life * 3 / 4) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    #[test]
    fn serials_spread_over_a_fifth_of_life() {
        let start = UnixTime::new(1_000_000);
        let drawn: Vec<u64> = (0..200)
            .map(|n| {
                let s = schedule(&Serial::from_entropy([n; 16]), start.minus(BACKDATE), UnixTime::new(1_100_000));
                assert_eq!(s.renew_by.secs(), 1_075_000);
                s.renew_after.secs() - start.secs()
            })
            .collect();
        let (min, max) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!((40_000..42_000).contains(min) && (58_000..=60_000).contains(max), "{min} {max}");
    }

    #[test]
    fn a_certificate_shorter_than_the_backdate_renews_at_its_end() {
        let s = schedule(&Serial::from_entropy([1; 16]), UnixTime::new(100), UnixTime::new(150));
        assert_eq!((s.renew_after, s.renew_by), (UnixTime::new(150), UnixTime::new(150)));
    }

    proptest! {
        #[test]
        fn in_order_and_never_overflows(serial: [u8; 16], a: u64, b: u64) {
            let s = schedule(&Serial::from_entropy(serial), UnixTime::new(a), UnixTime::new(b));
            assert!(s.renew_after <= s.renew_by && s.renew_by <= UnixTime::new(b));
        }
    }
}
