//! Which keys of the configuration take effect at a reload, and which at the next start.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// When a change of a key takes effect.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Counts {
    /// At the next reload.
    AtReload,
    /// At the next start.
    AtStart,
}
use Counts::{AtReload, AtStart};

/// Keys and sections, keys before their sections. `docs/operator.md` has the same table.
pub const TABLE: &[(&str, Counts)] = &[
    ("trust_domain", AtStart),
    ("name", AtStart),
    ("data_dir", AtStart),
    ("listen", AtStart),
    ("names", AtReload),
    ("public", AtReload),
    ("store", AtStart),
    ("policy", AtReload),
    ("ca", AtStart),
    ("enroll", AtReload),
    ("attest", AtReload),
    ("audit", AtReload),
    ("log", AtStart),
    ("limits.certificates_per_life", AtReload),
    ("limits", AtStart),
];

/// When a change of `key` (`section.key`) takes effect; `None` for an unknown key.
#[must_use]
pub fn counts(key: &str) -> Option<Counts> {
    let covers = |row: &str| key.strip_prefix(row).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    TABLE.iter().find(|(row, _)| covers(row)).map(|(_, counts)| *counts)
}

/// All keys, as `section.key`, with their values.
fn flat(table: &Table) -> BTreeMap<String, &Value> {
    let mut all = BTreeMap::new();
    for (section, value) in table {
        match value {
            Value::Table(keys) => all.extend(keys.iter().map(|(key, value)| (format!("{section}.{key}"), value))),
            other => drop(all.insert(section.clone(), other)),
        }
    }
    all
}

/// The keys that were changed and take effect only at the next start.
#[must_use]
pub fn waiting_for_start(started_with: &Table, now: &Table) -> Vec<String> {
    let (before, after) = (flat(started_with), flat(now));
    let mut keys: Vec<String> = before.keys().chain(after.keys()).cloned().collect();
    keys.sort();
    keys.dedup();
    keys.retain(|key| before.get(key) != after.get(key) && counts(key) != Some(AtReload));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All keys of a configuration, from the source of the structs in `raw`.
    fn all_keys() -> Vec<String> {
        let (mut keys, mut section) = (Vec::new(), String::new());
        for line in include_str!("raw.rs").lines().map(str::trim) {
            if let Some(name) = line.split_once("struct Raw").and_then(|(_, rest)| rest.strip_suffix(" {")) {
                section = if name == "Config" { String::new() } else { format!("{}.", name.to_lowercase()) };
            } else if let Some((key, kind)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(": "))
                && kind.starts_with("Option<")
            {
                keys.push(format!("{section}{key}"));
            }
        }
        keys
    }

    #[test]
    fn every_key_counts_at_some_time_and_the_manual_says_when() {
        let keys = all_keys();
        assert!(keys.len() > 40, "{keys:?}");
        let manual = include_str!("../../../docs/operator.md");
        for key in &keys {
            assert!(counts(key).is_some(), "`{key}` has no row in config/reload.rs: does a reload take it?");
        }
        for (row, counts) in TABLE {
            assert!(keys.iter().any(|key| key == row || key.starts_with(&format!("{row}."))), "no key for `{row}`");
            let when = if *counts == AtReload { "reload" } else { "start" };
            assert!(manual.contains(&format!("| `{row}` | {when} |")), "docs/operator.md: `{row}` counts at a {when}");
        }
    }

    #[test]
    fn what_was_changed_and_waits_for_a_start_is_named() {
        let table = |text: &str| text.parse::<Table>().unwrap();
        let before =
            table("trust_domain = 'a'\n[limits]\nconnections = 5\ncertificates_per_life = 3\n[names]\nenroll = ['a']");
        for (after, want) in [
            (
                "trust_domain = 'a'\n[limits]\nconnections = 5\ncertificates_per_life = 9\n[names]\nenroll = ['b']",
                &[][..],
            ),
            (
                "trust_domain = 'b'\n[limits]\nconnections = 6\ncertificates_per_life = 3",
                &["limits.connections", "trust_domain"],
            ),
            (
                "trust_domain = 'a'\n[limits]\ncertificates_per_life = 3\n[log]\nlevel = 'debug'",
                &["limits.connections", "log.level"],
            ),
        ] {
            assert_eq!(waiting_for_start(&before, &table(after)), want, "{after}");
        }
    }
}
