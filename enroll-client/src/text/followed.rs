//! Which events of the audit are new to whoever follows it. Pure.
//!
//! An event has its time before it is written, so of two that are written at once the earlier may be seen later. So the second before
//! the newest is read again each time, and what was seen is known by its id.

use std::collections::BTreeSet;

/// What was seen so far.
#[derive(Debug)]
pub struct Followed {
    since: u64,
    seen: BTreeSet<(u64, String)>,
}

impl Followed {
    /// From a second on, in seconds since the Unix epoch.
    #[must_use]
    pub const fn since(second: u64) -> Self {
        Self { since: second, seen: BTreeSet::new() }
    }

    /// From when on to read.
    #[must_use]
    pub const fn from(&self) -> u64 {
        self.since
    }

    /// Takes note of an event; whether it is new.
    pub fn note(&mut self, at_ms: u64, id: &str) -> bool {
        at_ms / 1000 >= self.since && self.seen.insert((at_ms, id.to_owned()))
    }

    /// Moves on, when everything that was read is noted.
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

    /// What is there, what of it is new, and from when on is read next.
    type Look = (&'static [(u64, &'static str)], &'static [&'static str], u64);

    /// Each look shows what is there from the second asked for on, oldest first.
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
