//! How far the gateway's clock is ahead of ours. Schedules and proofs use the gateway's time, so that a machine whose
//! clock is an hour off still joins and renews on time.

use pki::UnixTime;

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
}
