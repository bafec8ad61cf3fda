//! Texts that people write, with their limits: each has a type here, and records take no others.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    records::Owner,
    refusal::{Malformed, Refusal},
};
use crate::limits::{GROUP_NAME_MAX, GROUPS_MAX, LABEL_KEY_MAX, LABEL_VALUE_MAX, LABELS_MAX};

/// The reason for an action, shown to the other side and in the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenReason(String);

impl GivenReason {
    /// An optional reason; may be empty.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] if it is too long or has more than one line.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let (text, most) = (text.trim(), wire::limits::REASON_MAX);
        if text.len() > most || !printable(text) {
            return Err(Refusal::Malformed(Malformed::Reason));
        }
        Ok(Self(text.to_owned()))
    }

    /// A required reason: one that is empty is refused.
    pub fn wanted(text: &str) -> Result<Self, Refusal> {
        match Self::parse(text)? {
            Self(text) if text.is_empty() => Err(Refusal::Malformed(Malformed::NoReason)),
            reason => Ok(reason),
        }
    }

    /// One line, possibly empty.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Labels of a machine. Keys are restricted to words, so that policy, shells and Ansible read them alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Checks number, keys and values.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] with the first invalid label.
    pub fn parse(labels: &BTreeMap<String, String>) -> Result<Self, Refusal> {
        if labels.len() > LABELS_MAX {
            return Err(Refusal::Malformed(Malformed::Labels));
        }
        for (key, value) in labels {
            if !word(key, LABEL_KEY_MAX) {
                return Err(Refusal::Malformed(Malformed::LabelKey(shown(key))));
            }
            if value.len() > LABEL_VALUE_MAX || !printable(value) || value.trim() != value {
                return Err(Refusal::Malformed(Malformed::LabelValue(key.clone())));
            }
        }
        Ok(Self(labels.clone()))
    }

    /// For a record.
    #[must_use]
    pub fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }
}

/// Groups of a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups(Vec<String>);

impl Groups {
    /// Checks number and names; sorts and removes duplicates.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] with the first invalid group.
    pub fn parse(groups: &[String]) -> Result<Self, Refusal> {
        let groups: BTreeSet<&String> = groups.iter().collect();
        if groups.len() > GROUPS_MAX {
            return Err(Refusal::Malformed(Malformed::Groups));
        }
        match groups.iter().find(|group| !word(group, GROUP_NAME_MAX)) {
            Some(group) => Err(Refusal::Malformed(Malformed::Group(shown(group)))),
            None => Ok(Self(groups.into_iter().cloned().collect())),
        }
    }

    /// For a record.
    #[must_use]
    pub fn into_vec(self) -> Vec<String> {
        self.0
    }
}

/// Refuses an owner who does not exist: a person who gets that name later would not own the machine, so the name is probably a mistake.
///
/// # Errors
/// [`Refusal::Malformed`].
pub fn known_owner(owner: Option<&Owner>) -> Result<(), Refusal> {
    match owner {
        Some(Owner { name, lineage: None }) => Err(Refusal::Malformed(Malformed::UnknownOwner(shown(name)))),
        Some(_) | None => Ok(()),
    }
}

/// ASCII letters, digits and a few signs, with a letter or digit first.
fn word(text: &str, most: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    text.len() <= most && text.bytes().all(plain) && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

/// Whether a text is one line without control characters and characters that reorder or hide text.
fn printable(text: &str) -> bool {
    text.chars().all(|c| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    })
}

/// The beginning of an invalid text, for the error.
fn shown(text: &str) -> String {
    text.chars().take(GROUP_NAME_MAX).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_labels_and_groups() {
        for good in ["a", "env", "Env", "9", "a.b", "a_b", "a-b", "example.org/tier", &"k".repeat(64)] {
            assert!(Labels::parse(&BTreeMap::from([(good.to_owned(), String::new())])).is_ok(), "{good}");
            assert!(Groups::parse(&[good.to_owned()]).is_ok(), "{good}");
        }
        for bad in ["", " ", "Bad Key", "-a", ".a", "_a", "/a", "a=b", "\u{e4}", "a\n", "a,b", "a:b", &"k".repeat(65)] {
            assert!(Labels::parse(&BTreeMap::from([(bad.to_owned(), String::new())])).is_err(), "{bad}");
            assert!(Groups::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines() {
        for (text, good) in [
            ("", true),
            ("rack 7, the left one", true),
            ("Z\u{fc}rich", true),
            (" a", false),
            ("a ", false),
            ("a\nb", false),
            ("a\u{1b}[2J", false),
            ("a\u{202e}b", false),
            ("a\u{200b}b", false),
            (&"v".repeat(129), false),
        ] {
            assert_eq!(Labels::parse(&BTreeMap::from([("k".to_owned(), text.to_owned())])).is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn many_are_too_many() {
        let some = |count: usize| (0..count).map(|n| format!("g{n}"));
        assert!(Groups::parse(&some(32).collect::<Vec<_>>()).is_ok());
        assert!(Groups::parse(&some(33).collect::<Vec<_>>()).is_err());
        assert!(Labels::parse(&some(32).map(|key| (key, String::new())).collect()).is_ok());
        assert!(Labels::parse(&some(33).map(|key| (key, String::new())).collect()).is_err());
        let twice = ["b".to_owned(), "a".to_owned(), "b".to_owned()];
        assert_eq!(Groups::parse(&twice).unwrap().into_vec(), ["a", "b"]);
    }

    #[test]
    fn reasons() {
        assert_eq!(GivenReason::parse("").unwrap().as_str(), "");
        assert_eq!(GivenReason::wanted(" stolen ").unwrap().as_str(), "stolen");
        for bad in ["", "  ", "a\nb", "a\u{7}", &"r".repeat(wire::limits::REASON_MAX + 1)] {
            assert!(GivenReason::wanted(bad).is_err(), "{bad:?}");
        }
    }
}
