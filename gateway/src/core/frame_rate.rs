//! Rate limit of the frames that a peer sends on a control stream.

use std::time::Duration;

/// Frames that a machine or a helper may send in [`FRAMES_SPAN`]: heartbeats, a renewal, changed services, and the end of every
/// stream it can have, four times over for a machine and once for a helper.
pub const FRAMES_MAX: u32 = 256;

/// See [`FRAMES_MAX`].
pub const FRAMES_SPAN: Duration = Duration::from_secs(10);

/// Counts the frames of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRate {
    count: u32,
    since: Duration,
}

impl FrameRate {
    /// A full allowance, from `now`.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self { count: 0, since: now }
    }

    /// Counts a frame. False if it exceeds the limit.
    pub fn allows(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.since) >= FRAMES_SPAN {
            *self = Self::new(now);
        }
        self.count = self.count.saturating_add(1);
        self.count <= FRAMES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_span_and_again_in_the_next() {
        let mut rate = FrameRate::new(Duration::ZERO);
        assert!((0..FRAMES_MAX).all(|_| rate.allows(Duration::from_secs(1))));
        assert!(!rate.allows(Duration::from_secs(9)));
        assert!(rate.allows(Duration::from_secs(10)));
    }
}
