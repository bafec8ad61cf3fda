//! Text for terminals: escaping of untrusted text, durations and fingerprints.

mod cells;
pub mod disconnect;
pub mod followed;
pub mod records;
pub mod report;
pub mod requests;
pub mod sessions;
pub mod subjects;
pub mod table;

use std::fmt::Write as _;
use std::time::Duration;

use pki::is_deceptive;

/// Escapes everything in `raw` that could move the cursor, change colours, hide or reorder characters. All self-reported text of a
/// machine is escaped before an approver sees it.
#[must_use]
pub fn safe(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for c in raw.chars() {
        if is_deceptive(c) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// As [`safe`], but keeps newlines and tabs.
#[must_use]
pub fn block(raw: &str) -> String {
    raw.split_inclusive(['\n', '\t'])
        .map(|part| match part.char_indices().next_back() {
            Some((at, end @ ('\n' | '\t'))) => safe(&part[..at]) + end.encode_utf8(&mut [0; 4]),
            _ => safe(part),
        })
        .collect()
}

/// Colours of state words: red for refusals, yellow for expired.
const COLOURS: [(&str, &str); 5] =
    [("locked", "31"), ("revoked", "31"), ("denied", "31"), ("expired", "33"), ("suspended", "33")];

/// Colours the cells of a table that are such words. Columns are separated by two blanks. Untrusted text is escaped already, so the
/// only control characters are those added here.
#[must_use]
pub fn coloured(list: &str) -> String {
    let cell = |cell: &str| match COLOURS.iter().find(|(word, _)| *word == cell.trim()) {
        Some((word, colour)) => cell.replacen(word, &format!("\u{1b}[{colour}m{word}\u{1b}[0m"), 1),
        None => cell.to_owned(),
    };
    list.split("  ").map(cell).collect::<Vec<_>>().join("  ")
}

/// JSON on one line, with JSON escapes for all characters that [`safe`] escapes.
#[must_use]
pub fn json(value: &serde_json::Value) -> String {
    let mut out = String::new();
    // Such characters occur only in JSON strings.
    for c in value.to_string().chars() {
        if is_deceptive(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// A duration in its two largest units: `3 d 4 h`, `12 min 5 s`, `40 s`.
#[must_use]
pub fn span(length: Duration) -> String {
    let secs = length.as_secs();
    let (days, hours, minutes, seconds) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60, secs % 60);
    let pair = |large: u64, large_unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{large} {large_unit}") } else { format!("{large} {large_unit} {small} {small_unit}") }
    };
    if days > 0 {
        pair(days, "d", hours, "h")
    } else if hours > 0 {
        pair(hours, "h", minutes, "min")
    } else if minutes > 0 {
        pair(minutes, "min", seconds, "s")
    } else {
        format!("{seconds} s")
    }
}

/// `1 attempt`, `2 attempts`.
#[must_use]
pub fn count(number: u32, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A fingerprint in groups of four digits, eight groups per line, indented.
#[must_use]
pub fn fingerprint(hex: &str, indent: &str) -> String {
    let groups: Vec<&str> = hex.as_bytes().chunks(4).filter_map(|group| std::str::from_utf8(group).ok()).collect();
    let lines: Vec<String> = groups.chunks(8).map(|line| format!("{indent}{}", line.join(" "))).collect();
    lines.join("\n")
}

/// `key  value` lines with the keys padded to the same width. Values are escaped here.
#[must_use]
pub fn fields(indent: &str, pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (key, value) in pairs {
        let _ = writeln!(out, "{indent}{:<width$}  {}", safe(key), safe(value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_cells_of_their_own_are_coloured() {
        for (list, want) in [
            ("NAME  STATE\na     locked   x\n", "NAME  STATE\na     \u{1b}[31mlocked\u{1b}[0m   x\n"),
            ("a  expired\n", "a  \u{1b}[33mexpired\u{1b}[0m\n"),
            ("a  not locked here\n", "a  not locked here\n"),
            ("", ""),
        ] {
            assert_eq!(coloured(list), want);
        }
    }

    #[test]
    fn escapes() {
        for (raw, want) in [
            ("edge-07", "edge-07"),
            ("Grüße, 世界", "Grüße, 世界"),
            ("a\nb", "a\\u{a}b"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
            ("a\u{200b}b", "a\\u{200b}b"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("\r\u{7f}", "\\u{d}\\u{7f}"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(safe(raw), want);
        }
    }

    #[test]
    fn spans() {
        for (secs, want) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3_600, "1 h"),
            (3_660, "1 h 1 min"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(Duration::from_secs(secs)), want);
        }
    }

    #[test]
    fn counts() {
        for (number, want) in [(0, "0 attempts"), (1, "1 attempt"), (2, "2 attempts")] {
            assert_eq!(count(number, "attempt"), want);
        }
    }

    #[test]
    fn fingerprints_are_grouped() {
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(
            fingerprint(&hex, "  "),
            "  0123 4567 89ab cdef 0123 4567 89ab cdef\n  0123 4567 89ab cdef 0123 4567 89ab cdef"
        );
    }

    #[test]
    fn fields_escape_keys_too() {
        assert_eq!(fields(" ", &[("a", "x\u{1b}".into()), ("bb", "y".into())]), " a   x\\u{1b}\n bb  y\n");
    }

    proptest! {
        #[test]
        fn nothing_deceptive_survives(raw in "\\PC*|.*") {
            prop_assert!(!safe(&raw).chars().any(is_deceptive));
        }
    }
}
