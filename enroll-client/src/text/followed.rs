//! Finds the new events of `audit --follow`.
//!
//! An event gets its time before it is written, so an event may appear after one with a later time. The second before the newest
//! event is therefore read again each time, and events already printed are recognised by their ids.

use std::collections::BTreeSet;

/// The events seen so far.
#[derive(Debug)]
pub struct Followed {
    since: u64,
    seen: BTreeSet<(u64, String)>,
}

impl Followed {
    /// Starts at a time in seconds since the Unix epoch.
    #[must_use]
    pub const fn since(second: u64) -> Self {
        Self { since: second, seen: BTreeSet::new() }
    }

    /// The time from which to read next.
    #[must_use]
    pub const fn from(&self) -> u64 {
        self.since
    }

    /// Records an event; returns whether it is new.
    pub fn note(&mut self, at_ms: u64, id: &str) -> bool {
        at_ms / 1000 >= self.since && self.seen.insert((at_ms, id.to_owned()))
    }

    /// Advances the time, after all events that were read are recorded.
    pub fn move_on(&mut self) {
        if let Some((newest, _)) = self.seen.last() {
            self.since = self.since.max((newest / 1000).saturating_sub(1));
            self.seen.retain(|(at_ms, _)| at_ms / 1000 >= self.since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events read, the new ones among them, and the time of the next read.
    type Look = (&'static [(u64, &'static str)], &'static [&'static str], u64);

    /// Each read returns the events from the requested second on, oldest first.
    #[test]
    fn what_comes_late_is_new_and_nothing_is_twice() {
        let mut followed = Followed::since(10);
        let looks: [Look; 4] = [
            (&[(9_999, "old"), (10_500, "b"), (12_005, "d")], &["b", "d"], 11),
            // Written at the same time as `d`, and begun before it; and in its very millisecond, with a smaller id.
            (&[(11_990, "c"), (12_005, "a"), (12_005, "d")], &["c", "a"], 11),
            (&[(11_990, "c"), (12_005, "a"), (12_005, "d"), (15_000, "e")], &["e"], 14),
            (&[(15_000, "e")], &[], 14),
        ];
        for (there, new, since) in looks {
            let got: Vec<&str> = there.iter().filter(|(at, id)| followed.note(*at, id)).map(|(_, id)| *id).collect();
            assert_eq!(got, new);
            followed.move_on();
            assert_eq!(followed.from(), since);
        }
        assert_eq!(followed.seen.len(), 1, "what is over is forgotten");
    }
}
