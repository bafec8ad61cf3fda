//! Whether housekeeping may trust the wall clock. If the clock is ahead for only a minute, every record looks old, and what is
//! deleted in that minute stays deleted. So the wall clock is compared with the time counted from the monotonic clock since the wall
//! clock was last trusted; while they disagree, only short-lived records expire, by the counted time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::records::UnixSecs;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Allowed difference between the wall clock and the counted time, in seconds: more than any correction of a synchronised clock,
/// less than the shortest retention of anything that is deleted permanently.
pub const TOLERANCE: u64 = DAY;

/// How long a gateway may have been off, in seconds, before its clock is doubted at the start. What is deleted permanently is
/// kept for 400 days, so a clock that is wrong by this much shortens that by a thirteenth.
pub const OFF_PLAUSIBLE: u64 = 30 * DAY;

/// For how long, in seconds, a doubted clock stops all deletion. After that short-lived records expire, by the counted time.
pub const EVERYTHING_STOPS: u64 = DAY;

/// How often the time is written to the store while nothing else about it changes, in seconds: far less than [`TOLERANCE`],
/// and no load on the disk.
const NOTE_EVERY: u64 = HOUR;

/// The record about the clock, for the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockNote {
    /// The wall clock if it was trusted, else the counted time.
    pub at: UnixSecs,
    /// Set while the clock is doubted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubted>,
}

/// A doubt in the store.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubted {
    /// Start of the doubt, by the counted time.
    pub since: UnixSecs,
    /// How far ahead the clock could have been without a doubt, in seconds.
    pub slack: u64,
}

/// Both clocks at one moment.
#[derive(Copy, Clone, Debug)]
pub struct ClockReading {
    /// Seconds since the Unix epoch.
    pub wall: u64,
    /// The monotonic clock.
    pub uptime: Duration,
}

/// Which way the wall clock is off, and how far, in seconds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Off {
    /// Ahead of the counted time.
    Ahead(u64),
    /// Behind it.
    Behind(u64),
}

impl std::fmt::Display for Off {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (secs, which) = match self {
            Self::Ahead(secs) => (*secs, "ahead of"),
            Self::Behind(secs) => (*secs, "behind"),
        };
        let days = secs / DAY;
        write!(f, "{days} day{} {which} what it should be", if days == 1 { "" } else { "s" })
    }
}

/// Why the clock is not trusted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Difference from the counted time.
    pub off: Off,
    /// Start of the doubt, by the counted time, seconds since the Unix epoch.
    pub since: u64,
}

/// What housekeeping may delete.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Deletes {
    /// Everything that is past its retention at this time, seconds since the Unix epoch.
    Everything(u64),
    /// Only short-lived records, at this counted time.
    ShortLived(u64),
    /// Nothing.
    Nothing,
}

/// The counted time and the doubt, after each reading.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct CountedTime {
    /// Start of counting: the wall clock when it was last trusted, and the uptime then.
    from: (u64, Duration),
    /// How far ahead the clock may be without a doubt, in seconds.
    slack: u64,
    /// The counted time, seconds since the Unix epoch.
    pub expected: u64,
    /// Set while the wall clock is not trusted.
    pub doubt: Option<Doubt>,
}

impl CountedTime {
    /// Trusts the wall clock without a comparison: at the first start, or because an operator confirmed it.
    #[must_use]
    pub const fn believing(now: ClockReading) -> Self {
        Self { from: (now.wall, now.uptime), slack: TOLERANCE, expected: now.wall, doubt: None }
    }

    /// The state after a start, from the record in the store or one made of the newest time found there.
    #[must_use]
    pub fn resumed(note: &ClockNote, now: ClockReading) -> Self {
        let at = note.at.0;
        let slack = note.doubt.map_or(OFF_PLAUSIBLE, |doubt| doubt.slack);
        let doubt = note.doubt.map(|doubt| Doubt { off: Off::Ahead(0), since: doubt.since.0 });
        Self { from: (at, now.uptime), slack, expected: at, doubt }
    }

    /// Compares a reading with the counted time.
    #[must_use]
    pub fn judge(self, now: ClockReading) -> Self {
        let (at, since) = self.from;
        let expected = at.saturating_add(now.uptime.saturating_sub(since).as_secs());
        let off = if now.wall > expected.saturating_add(self.slack) {
            Off::Ahead(now.wall - expected)
        } else if now.wall.saturating_add(TOLERANCE) < expected {
            Off::Behind(expected - now.wall)
        } else {
            return Self::believing(now);
        };
        let since = self.doubt.map_or(expected, |doubt| doubt.since);
        Self { expected, doubt: Some(Doubt { off, since }), ..self }
    }

    /// The timestamp for an event, in milliseconds: the wall clock, or the counted time while the clock is doubted. With a wrong time an
    /// event could be past its retention as soon as the clock is right again.
    #[must_use]
    pub fn stamp(&self, wall_ms: u64, uptime: Duration) -> u64 {
        let (at, since) = self.from;
        match self.doubt {
            None => wall_ms,
            Some(_) => {
                let elapsed = u64::try_from(uptime.saturating_sub(since).as_millis()).unwrap_or(u64::MAX);
                at.saturating_mul(1000).saturating_add(elapsed)
            }
        }
    }

    /// What may be deleted now.
    #[must_use]
    pub const fn deletes(&self) -> Deletes {
        match self.doubt {
            None => Deletes::Everything(self.expected),
            Some(doubt) if self.expected >= doubt.since.saturating_add(EVERYTHING_STOPS) => {
                Deletes::ShortLived(self.expected)
            }
            Some(_) => Deletes::Nothing,
        }
    }

    /// The record to write, if the stored one is more than an hour old or has another doubt.
    #[must_use]
    pub fn note(&self, stored: Option<&ClockNote>) -> Option<ClockNote> {
        let doubt = self.doubt.map(|doubt| Doubted { since: UnixSecs(doubt.since), slack: self.slack });
        let good = |note: &&ClockNote| note.doubt == doubt && note.at.0.abs_diff(self.expected) < NOTE_EVERY;
        match stored.filter(good) {
            Some(_) => None,
            None => Some(ClockNote { at: UnixSecs(self.expected), doubt }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000;

    fn at(wall: u64, uptime: u64) -> ClockReading {
        ClockReading { wall, uptime: Duration::from_secs(uptime) }
    }

    /// Each step: the wall clock (days from the start), the uptime (days), and what may be deleted then.
    #[track_caller]
    fn check(begin: CountedTime, steps: &[(f64, f64, Want)]) {
        let mut counted = begin;
        for (step, (wall, uptime, want)) in steps.iter().enumerate() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "days of a table")]
            let secs = |days: f64| (days * DAY as f64) as u64;
            #[expect(clippy::cast_possible_truncation, reason = "days of a table")]
            let wall = START.saturating_add_signed((*wall * DAY as f64) as i64);
            counted = counted.judge(at(wall, secs(*uptime)));
            let got = match (counted.deletes(), counted.doubt.map(|doubt| doubt.off)) {
                (Deletes::Everything(by), None) => {
                    assert_eq!(by, wall, "step {step}");
                    Want::All
                }
                (Deletes::ShortLived(by), Some(_)) => {
                    assert!(by < wall.max(START + secs(*uptime) + DAY), "step {step}");
                    Want::Short
                }
                (Deletes::Nothing, Some(Off::Ahead(_))) => Want::Ahead,
                (Deletes::Nothing, Some(Off::Behind(_))) => Want::Behind,
                other => panic!("step {step}: {other:?}"),
            };
            assert_eq!(got, *want, "step {step}");
        }
    }

    #[derive(Copy, Clone, Debug, PartialEq)]
    enum Want {
        All,
        Short,
        Ahead,
        Behind,
    }
    use Want::{Ahead, All, Behind, Short};

    fn running() -> CountedTime {
        CountedTime::believing(at(START, 0))
    }

    fn off_since(days: u64) -> CountedTime {
        CountedTime::resumed(&ClockNote { at: UnixSecs(START - days * DAY), doubt: None }, at(0, 0))
    }

    #[test]
    fn while_it_runs() {
        check(running(), &[(0.001, 0.001, All), (10.0, 10.0, All), (10.9, 10.0, All), (10.0, 10.0, All)]);
        // a jump and back, twice
        check(running(), &[(500.0, 0.001, Ahead), (0.002, 0.002, All), (8.0, 0.003, Ahead), (0.004, 0.004, All)]);
        check(running(), &[(401.0, 0.001, Ahead), (401.5, 0.5, Ahead), (0.6, 0.6, All)]);
        check(running(), &[(-500.0, 0.001, Behind), (0.002, 0.002, All)]);
        check(running(), &[(-8.0, 0.001, Behind), (8.0, 0.002, Ahead), (0.003, 0.003, All)]);
        // a jump that stays: after a day short-lived records expire, and nothing else ever does
        check(running(), &[(8.0, 0.001, Ahead), (8.9, 0.9, Ahead), (9.1, 1.1, Short), (99.0, 91.0, Short)]);
        // suspended, with a monotonic clock that counts it: both agree
        check(running(), &[(8.0, 8.0, All), (508.0, 508.0, All)]);
    }

    #[test]
    fn across_restarts() {
        check(off_since(0), &[(0.0, 0.0, All)]);
        check(off_since(29), &[(0.0, 0.0, All)]);
        check(off_since(31), &[(0.0, 0.0, Ahead), (0.5, 0.5, Ahead), (1.1, 1.1, Short)]);
        // a flat battery: off for a week, starts with a clock in the past, which is corrected later
        check(off_since(7), &[(-3000.0, 0.0, Behind), (-2999.0, 1.0, Short), (1.1, 1.1, All), (8.1, 1.2, Ahead)]);
        // a doubt from before a restart continues after it, also for a jump of a week
        let jumped = running().judge(at(START + 8 * DAY, 60));
        let note = jumped.note(None).unwrap();
        check(CountedTime::resumed(&note, at(0, 0)), &[(8.0, 0.0, Ahead), (0.01, 0.01, All)]);
        // the doubt about a flat battery also ends after another restart
        let flat = off_since(7).judge(at(START - 3000 * DAY, 60));
        let note = flat.note(None).unwrap();
        check(CountedTime::resumed(&note, at(0, 0)), &[(-3000.0, 0.0, Behind), (0.0, 0.1, All)]);
    }

    #[test]
    fn notes_are_written_when_they_say_something_new() {
        let begun = running();
        let first = begun.note(None).unwrap();
        assert_eq!(begun.judge(at(START + 60, 60)).note(Some(&first)), None);
        let later = begun.judge(at(START + HOUR, HOUR));
        assert_eq!(later.note(Some(&first)), Some(ClockNote { at: UnixSecs(START + HOUR), doubt: None }));
        let jumped = begun.judge(at(START + 500 * DAY, 60));
        let doubted = jumped.note(Some(&first)).unwrap();
        assert_eq!((doubted.at, doubted.doubt.unwrap().since), (UnixSecs(START + 60), UnixSecs(START + 60)));
        assert_eq!(jumped.judge(at(START + 500 * DAY + 60, 120)).note(Some(&doubted)), None);
        assert_eq!(jumped.judge(at(START + 120, 120)).note(Some(&doubted)).unwrap().doubt, None);
    }

    #[test]
    fn events_of_a_doubted_clock_have_the_counted_time() {
        let uptime = Duration::from_secs(120);
        assert_eq!(running().stamp(7, uptime), 7);
        let behind = running().judge(at(START - 500 * DAY, 60));
        assert_eq!(behind.stamp(7, uptime), (START + 120) * 1000);
    }

    #[test]
    fn says_how_far() {
        assert_eq!(Off::Ahead(500 * DAY + 5).to_string(), "500 days ahead of what it should be");
        assert_eq!(Off::Behind(DAY + HOUR).to_string(), "1 day behind what it should be");
    }
}
