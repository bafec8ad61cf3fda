//! The changes that a decision makes: expectations, writes and audit events, committed in one batch.

use serde::Serialize;

use super::{audit::Event, records::Seen};

/// Bytes that an event has room in: names, rules and reasons have limits of their own.
const EVENT_BYTES: usize = 8 * 1024;

/// Room for a record of the usual size, so that it need not be moved while it is written.
const RECORD_BYTES: usize = 2048;

/// A record as it is stored.
#[must_use]
pub fn encoded(record: &impl Serialize) -> Vec<u8> {
    json(record, RECORD_BYTES)
}

/// JSON of a value of our own, in a buffer that has `room` bytes at first.
#[must_use]
pub fn json(value: &impl Serialize, room: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(room);
    // They are structs of strings, numbers and maps with string keys: serialising them cannot fail.
    match serde_json::to_writer(&mut bytes, value) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

/// A condition on the store, by key. If one fails, nothing is changed and the caller decides again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// There is no record.
    Absent(String),
    /// The record was last written by this commit.
    At(String, u64),
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordWrite {
    /// Key and value.
    Put(String, Vec<u8>),
    /// No error if there is no record.
    Delete(String),
}

/// All changes of one decision, committed atomically.
#[derive(Clone, Debug, Default)]
#[must_use = "changes that are not committed change nothing"]
pub struct Changes {
    /// All on the state before the batch.
    pub expect: Vec<Expectation>,
    /// Applied in order.
    pub writes: Vec<RecordWrite>,
    /// Audit events.
    pub events: Vec<Event>,
}

impl Changes {
    /// As `default`.
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

    /// [`Changes::update`] if the record was seen, else [`Changes::create`].
    pub fn upsert<T>(&mut self, key: String, seen: Option<&Seen<T>>, record: &impl Serialize) {
        match seen {
            Some(seen) => self.update(key, seen, record),
            None => self.create(key, record),
        }
    }

    /// Writes a record without a condition.
    pub fn put(&mut self, key: String, record: &impl Serialize) {
        self.writes.push(RecordWrite::Put(key, encoded(record)));
    }

    /// Adds the condition that the record still has the version that was seen.
    pub fn expect_seen<T>(&mut self, key: String, seen: &Seen<T>) {
        self.expect.push(Expectation::At(key, seen.version));
    }

    /// Deletes a record, if it still has the version that was seen.
    pub fn remove<T>(&mut self, key: String, seen: &Seen<T>) {
        self.expect.push(Expectation::At(key.clone(), seen.version));
        self.writes.push(RecordWrite::Delete(key));
    }

    /// Adds the condition that the record still has the version that was seen, or is still absent.
    pub fn unchanged<T>(&mut self, key: String, seen: Option<&Seen<T>>) {
        self.expect.push(match seen {
            Some(seen) => Expectation::At(key, seen.version),
            None => Expectation::Absent(key),
        });
    }

    /// Deletes a record without a condition.
    pub fn delete(&mut self, key: String) {
        self.writes.push(RecordWrite::Delete(key));
    }

    /// No conditions, writes or events.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// How much of what a batch of the store has room for these are: items, each event being one.
    #[must_use]
    pub const fn items(&self) -> usize {
        let writes = self.writes.len() + self.events.len();
        if writes > self.expect.len() { writes } else { self.expect.len() }
    }

    /// The same in bytes, about: events count as what the largest have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |write: &RecordWrite| match write {
            RecordWrite::Put(key, value) => key.len() + value.len(),
            RecordWrite::Delete(key) => key.len(),
        };
        self.writes.iter().map(of).sum::<usize>() + self.events.len() * EVENT_BYTES
    }

    /// Appends the changes of another decision.
    pub fn extend(&mut self, other: Self) {
        self.expect.extend(other.expect);
        self.writes.extend(other.writes);
        self.events.extend(other.events);
    }

    /// Adds an audit event.
    pub fn event(&mut self, event: Event) {
        self.events.push(event);
    }
}
