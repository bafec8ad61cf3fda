//! Machines and people as they are written: the record of a machine goes with the entry by which its owner's machines are found,
//! and neither without the other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    change::Changes,
    keys,
    records::{Seen, Subject},
};

/// Entry in the index of machines by their owner's name: the machine's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owned(pub String);

/// The key of a machine's entry in the index by owner, if it has an owner.
#[must_use]
pub fn entry(subject: &Subject) -> Option<String> {
    let owner = subject.owner.as_ref().filter(|_| subject.role == pki::Role::Machine)?;
    Some(keys::owned(&owner.name, &subject.name))
}

/// Writes a new subject, which must not exist.
pub fn create(changes: &mut Changes, subject: &Subject) {
    changes.create(keys::subject(subject.role, &subject.name), subject);
    index(changes, subject);
}

/// Writes a changed subject over the one that was seen.
pub fn update(changes: &mut Changes, seen: &Seen<Subject>, subject: &Subject) {
    changes.update(keys::subject(subject.role, &subject.name), seen, subject);
    let (before, after) = (entry(&seen.record), entry(subject));
    if before != after {
        before.into_iter().for_each(|key| changes.delete(key));
        after.into_iter().for_each(|key| changes.put(key, &Owned(subject.name.clone())));
    }
}

/// Writes the entry of a machine that has an owner again.
pub fn index(changes: &mut Changes, subject: &Subject) {
    if let Some(key) = entry(subject) {
        changes.put(key, &Owned(subject.name.clone()));
    }
}

/// Removes a subject that was seen.
pub fn remove(changes: &mut Changes, seen: &Seen<Subject>) {
    changes.remove(keys::subject(seen.record.role, &seen.record.name), seen);
    entry(&seen.record).into_iter().for_each(|key| changes.delete(key));
}

/// Holds the index against the records: gathers both while a store is read from end to end.
#[derive(Debug, Default)]
pub struct Agreement {
    wanted: BTreeMap<String, bool>,
}

impl Agreement {
    /// Takes note of one record.
    pub fn note(&mut self, key: &str, value: &[u8]) {
        let of_record = || serde_json::from_slice::<Subject>(value).ok().as_ref().and_then(entry);
        let entry = match key {
            key if key.starts_with(keys::OWNED) => Some(key.to_owned()),
            key if key.starts_with(keys::SUBJECTS) => of_record(),
            _ => None,
        };
        if let Some(entry) = entry {
            self.wanted.entry(entry).and_modify(|there| *there = !*there).or_insert(false);
        }
    }

    /// What stands on one side alone.
    pub fn disagree(&self) -> impl Iterator<Item = &str> {
        self.wanted.iter().filter(|(_, both)| !**both).map(|(key, _)| key.as_str())
    }
}
