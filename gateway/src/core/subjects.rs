//! Writes records of machines and people. A machine's record and its entry in the index by owner are always written together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[cfg(test)]
use super::records::{AdmittedBy, UnixSecs};
use super::{
    change::Changes,
    keys,
    records::{Claim, Seen, Shown, Subject},
};

/// Value of an entry in the index by owner: the machine's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owned(pub String);

/// Store key of a machine's entry in the index by owner; `None` without an owner.
#[must_use]
pub fn entry(subject: &Subject) -> Option<String> {
    let owner = subject.owner.as_ref().filter(|_| subject.role == pki::Role::Machine)?;
    Some(keys::owned(&owner.name, &subject.name))
}

/// Writes a new subject, on condition that there is none of its name.
pub fn create(changes: &mut Changes, subject: &Subject) {
    changes.create(keys::subject(subject.role, &subject.name), subject);
    index(changes, subject);
}

/// Replaces a subject, on condition that it is unchanged since it was read.
pub fn update(changes: &mut Changes, seen: &Seen<Subject>, subject: &Subject) {
    changes.update(keys::subject(subject.role, &subject.name), seen, subject);
    let (before, after) = (entry(&seen.record), entry(subject));
    if before != after {
        before.into_iter().for_each(|key| changes.delete(key));
        after.into_iter().for_each(|key| changes.put(key, &Owned(subject.name.clone())));
    }
}

/// Writes only the index entry of a machine, if it has an owner.
pub fn index(changes: &mut Changes, subject: &Subject) {
    if let Some(key) = entry(subject) {
        changes.put(key, &Owned(subject.name.clone()));
    }
}

/// Deletes a subject, on condition that it is unchanged since it was read.
pub fn remove(changes: &mut Changes, seen: &Seen<Subject>) {
    changes.remove(keys::subject(seen.record.role, &seen.record.name), seen);
    entry(&seen.record).into_iter().for_each(|key| changes.delete(key));
}

/// What is shown now takes the place of what was known by evidence of its kind. Of kinds that only admit nothing is remembered.
pub fn remember(
    subject: &mut Subject,
    claims: &BTreeMap<String, Claim>,
    stated: &BTreeMap<String, String>,
    shown: &[Shown],
    again: &[(&'static str, &'static str)],
) {
    for (kind, prefix) in again {
        let Some(piece) = shown.iter().find(|piece| piece.kind == *kind) else { continue };
        replace(&mut subject.claims, claims, prefix);
        replace(&mut subject.stated, stated, prefix);
        subject.evidence.retain(|known| known.kind != *kind);
        subject.evidence.push(piece.clone());
    }
}

/// What there is of the attestor with this prefix takes the place of what was known of it.
fn replace<T: Clone>(known: &mut BTreeMap<String, T>, by: &BTreeMap<String, T>, prefix: &str) {
    known.retain(|name, _| !is_of(name, prefix));
    known.extend(by.iter().filter(|(name, _)| is_of(name, prefix)).map(|(k, v)| (k.clone(), v.clone())));
}

/// Whether a claim is of the attestor with this prefix.
#[must_use]
pub fn is_of(claim: &str, prefix: &str) -> bool {
    claim.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('_'))
}

/// Compares the index with the records, during a scan of the entire store.
#[derive(Debug, Default)]
pub struct Agreement {
    wanted: BTreeMap<String, bool>,
}

impl Agreement {
    /// To be called for every record of the store.
    pub fn note(&mut self, key: &str, value: &[u8]) {
        let of_record = || serde_json::from_slice::<Subject>(value).ok().as_ref().and_then(entry);
        let entry = match key {
            key if key.starts_with(keys::OWNED) => Some(key.to_owned()),
            key if key.starts_with(keys::SUBJECTS) => of_record(),
            _ => None,
        };
        if let Some(entry) = entry {
            self.wanted.entry(entry).and_modify(|both| *both = !*both).or_insert(false);
        }
    }

    /// Keys of index entries without a machine, and of entries that a machine lacks.
    pub fn disagree(&self) -> impl Iterator<Item = &str> {
        self.wanted.iter().filter(|(_, both)| !**both).map(|(key, _)| key.as_str())
    }
}

/// A subject for tests, of which only this is said.
#[cfg(test)]
pub fn sample(role: pki::Role, name: &str, lineage: &str, owner: Option<&str>) -> Subject {
    Subject {
        name: name.to_owned(),
        role,
        lineage: lineage.to_owned(),
        labels: BTreeMap::new(),
        groups: vec![],
        owner: owner.map(|text| text.to_owned().into()),
        created: UnixSecs(0),
        claims: BTreeMap::new(),
        stated: BTreeMap::new(),
        attributes: BTreeMap::new(),
        assurance: pki::Assurance::SOFTWARE,
        admitted_by: AdmittedBy::Policy,
        evidence: vec![],
        approvers: vec![],
        enrollment: "e".to_owned(),
        renaming: None,
    }
}
