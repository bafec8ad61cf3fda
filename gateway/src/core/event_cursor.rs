//! Cursors of session events. A cursor has a meaning only for the process that made it.

use std::fmt;

use super::replica::RunId;

/// Most digits of a position.
const DIGITS: usize = 20;

/// A cursor from a client.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum EventCursor {
    /// Position in one run of a gateway: `<run>-<number>`.
    OfRun {
        /// The run.
        run: RunId,
        /// The position, encrypted: see [`Places::hide`](super::places::Places::hide).
        place: u64,
    },
    /// The position alone, as clients of 0.1.0 send it. It does not show which run it is from.
    Bare(u64),
}

impl EventCursor {
    /// Parses a cursor.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('-') {
            Some((run, place)) => Some(Self::OfRun { run: RunId::parse(run)?, place: number(place)? }),
            None => number(text).map(Self::Bare),
        }
    }

    /// Its position.
    #[must_use]
    pub const fn place(self) -> u64 {
        match self {
            Self::OfRun { place, .. } | Self::Bare(place) => place,
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let is_plain = text.len() <= DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfRun { run, place } => write!(f, "{run}-{place}"),
            Self::Bare(place) => place.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        let run = RunId::new([0xab; 8]);
        for (cursor, text) in [
            (EventCursor::OfRun { run, place: 7 }, "abababababababab-7"),
            (EventCursor::OfRun { run, place: u64::MAX }, "abababababababab-18446744073709551615"),
            (EventCursor::Bare(7), "7"),
        ] {
            assert_eq!(cursor.to_string(), text);
            assert_eq!(EventCursor::parse(text), Some(cursor));
        }
        for bad in [
            "",
            "-",
            "-7",
            "x",
            "+7",
            " 7",
            "7.0",
            "abababababababab-",
            "abababababababab-+7",
            "ab-7",
            "ABABABABABABABAB-7",
            "abababababababab-7-7",
            "18446744073709551616",
            "000000000000000000007",
        ] {
            assert_eq!(EventCursor::parse(bad), None, "{bad}");
        }
    }
}
