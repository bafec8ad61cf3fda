//! Names that other programs read as a number, date or keyword. They are valid names, but the gateway does not assign them.

/// Keywords, each with the programs that give it another meaning.
const KEYWORDS: &[(&str, &str)] = &[
    ("localhost", "programs take it for the machine they run on"),
    ("localhost4", "programs take it for the machine they run on"),
    ("localhost6", "programs take it for the machine they run on"),
    ("ip6-localhost", "programs take it for the machine they run on"),
    ("ip6-loopback", "programs take it for the machine they run on"),
    ("loopback", "programs take it for the machine they run on"),
    ("localdomain", "programs take it for the machine they run on"),
    ("broadcasthost", "programs take it for an address"),
    ("all", "Ansible takes it for every machine"),
    ("ungrouped", "Ansible takes it for a group of its own"),
    ("none", "YAML and Ansible take it for nothing"),
    ("null", "YAML takes it for nothing"),
    ("true", "YAML takes it for a truth value"),
    ("false", "YAML takes it for a truth value"),
    ("yes", "YAML takes it for a truth value"),
    ("no", "YAML takes it for a truth value"),
    ("on", "YAML takes it for a truth value"),
    ("off", "YAML takes it for a truth value"),
    ("y", "YAML takes it for a truth value"),
    ("n", "YAML takes it for a truth value"),
];

/// What other programs read `name` as, or `None` if they read it as a name. Whether it is valid is decided by
/// [`crate::Name::parse`].
#[must_use]
pub fn misread(name: &str) -> Option<&'static str> {
    let word = KEYWORDS.iter().find(|(word, _)| *word == name).map(|(_, why)| *why);
    word.or_else(|| is_number(name).then_some("programs take it for a number or an address"))
        .or_else(|| is_date(name).then_some("YAML takes it for a date"))
}

/// `7`, `0x7f000001` (which `inet_aton` takes for an address), `0o17`, `0b101`, `12e4`, `12e-4`.
fn is_number(name: &str) -> bool {
    let all = |text: &str, good: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(good);
    let decimal = |text: &str| all(text, u8::is_ascii_digit);
    let radix = |start: &str, good: fn(&u8) -> bool| name.strip_prefix(start).is_some_and(|rest| all(rest, good));
    decimal(name)
        || radix("0x", u8::is_ascii_hexdigit)
        || radix("0o", |byte| matches!(byte, b'0'..=b'7'))
        || radix("0b", |byte| matches!(byte, b'0' | b'1'))
        || name
            .split_once('e')
            .is_some_and(|(digits, power)| decimal(digits) && decimal(power.strip_prefix('-').unwrap_or(power)))
}

/// `2026-11-28`.
fn is_date(name: &str) -> bool {
    let parts: Vec<&str> = name.split('-').collect();
    let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    matches!(parts[..], [year, month, day] if year.len() == 4 && digits(year, 4) && digits(month, 2) && digits(day, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_as_something_else() {
        let numbers =
            ["0", "7", "007", "2130706433", "0x7f000001", "0o17", "0b101", "1e5", "12e-4", "2026-11-28", "2026-1-2"];
        for name in KEYWORDS.iter().map(|(word, _)| *word).chain(numbers) {
            assert!(misread(name).is_some(), "{name}");
            assert!(crate::Name::parse(name).is_ok(), "{name} could not be a name anyway");
        }
    }

    #[test]
    fn names_are_names() {
        for name in [
            "edge-7",
            "m-0a1b2c",
            "all-1",
            "localhost-2",
            "nobody",
            "yes-man",
            "e5",
            "1e",
            "0x",
            "0xg",
            "0b2",
            "x1e5",
            "127-0-0-1",
            "2026-11-28-a",
            "26-11-28",
            "7a",
            "a7",
            "null0",
            "web1e5x",
        ] {
            assert_eq!(misread(name), None, "{name}");
        }
    }
}
