//! What a decision wants changed: expectations, writes and the audit events that go in the same batch.

use serde::Serialize;

use super::{audit::Event, records::Seen};

/// A condition under which the changes hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing stands there.
    Absent(String),
    /// What stands there was last written by this commit.
    At(String, u64),
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordWrite {
    /// Put a value.
    Put(String, Vec<u8>),
    /// Take a value away.
    Delete(String),
}

/// Everything one decision changes, all or nothing.
#[derive(Debug, Default)]
#[must_use = "changes that are not committed change nothing"]
pub struct Changes {
    /// Conditions.
    pub expect: Vec<Expectation>,
    /// Writes.
    pub writes: Vec<RecordWrite>,
    /// Events for the audit.
    pub events: Vec<Event>,
}

impl Changes {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a record that must not exist yet.
    pub fn create(&mut self, key: String, record: &impl Serialize) {
        self.expect.push(Expectation::Absent(key.clone()));
        self.put(key, record);
    }

    /// Writes a record over the version that was seen.
    pub fn update<T>(&mut self, key: String, seen: &Seen<T>, record: &impl Serialize) {
        self.expect.push(Expectation::At(key.clone(), seen.version));
        self.put(key, record);
    }

    /// Writes a record over whatever was seen: a version, or nothing.
    pub fn upsert<T>(&mut self, key: String, seen: Option<&Seen<T>>, record: &impl Serialize) {
        match seen {
            Some(seen) => self.update(key, seen, record),
            None => self.create(key, record),
        }
    }

    /// Writes a record whatever stands there.
    pub fn put(&mut self, key: String, record: &impl Serialize) {
        // Our records are structs of strings, numbers and maps with string keys: serialising them cannot fail.
        let value = serde_json::to_vec(record).unwrap_or_default();
        self.writes.push(RecordWrite::Put(key, value));
    }

    /// Holds only while a record is at the version that was seen.
    pub fn expect_seen<T>(&mut self, key: String, seen: &Seen<T>) {
        self.expect.push(Expectation::At(key, seen.version));
    }

    /// Takes a record away, at the version that was seen.
    pub fn remove<T>(&mut self, key: String, seen: &Seen<T>) {
        self.expect.push(Expectation::At(key.clone(), seen.version));
        self.writes.push(RecordWrite::Delete(key));
    }

    /// Holds only while nothing else was written there than what was seen: a version, or nothing.
    pub fn unchanged<T>(&mut self, key: String, seen: Option<&Seen<T>>) {
        self.expect.push(match seen {
            Some(seen) => Expectation::At(key, seen.version),
            None => Expectation::Absent(key),
        });
    }

    /// Takes a record away, whatever its version.
    pub fn delete(&mut self, key: String) {
        self.writes.push(RecordWrite::Delete(key));
    }

    /// Whether nothing is to be changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Adds those of another decision, to be committed with these.
    pub fn extend(&mut self, other: Self) {
        self.expect.extend(other.expect);
        self.writes.extend(other.writes);
        self.events.extend(other.events);
    }

    /// Adds an event.
    pub fn event(&mut self, event: Event) {
        self.events.push(event);
    }
}
