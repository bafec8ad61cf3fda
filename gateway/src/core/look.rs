//! Look-ups without I/O. A decision asks a [`Look`] for records as if all were loaded. A record that is not loaded counts as absent and
//! is noted; the caller then reads all noted records at once and evaluates the decision again, until none is missing. So the number of
//! reads is the length of the longest chain of records that refer to each other, not the number of records.
//!
//! The result of a decision with missing records is discarded, even an error.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    evidence::{Document, DocumentSource, Freshness},
    keys,
    lock::{Locks, Target},
    records::{Lock, Seen},
    refusal::Fault,
    stored::{RawRecord, ReadRecord, Stored},
};

/// The loaded records, and the missing ones.
#[derive(Debug, Default)]
pub struct Look {
    records: BTreeMap<String, Option<Arc<ReadRecord>>>,
    filled: BTreeMap<String, bool>,
    documents: BTreeMap<(DocumentSource, Freshness), Option<Document>>,
    missed: RefCell<Missed>,
    damaged: RefCell<Vec<(String, Fault)>>,
}

/// What was asked for and is not loaded.
#[derive(Debug, Default)]
pub struct Missed {
    /// Records, by their keys.
    pub records: BTreeSet<String>,
    /// Prefixes for which the decision asked whether any record exists.
    pub prefixes: BTreeSet<String>,
    /// Documents, and how new each must be.
    pub documents: BTreeSet<(DocumentSource, Freshness)>,
}

impl Missed {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.prefixes.is_empty() && self.documents.is_empty()
    }
}

impl Look {
    /// A record, if it exists.
    ///
    /// # Errors
    /// [`Fault::Record`] if it is damaged.
    pub fn get<T: Stored + Clone + Send + Sync + 'static>(&self, key: &str) -> Result<Option<Seen<T>>, Fault> {
        let Some(known) = self.known(key) else { return Ok(None) };
        match known.decoded() {
            (seen, None) => Ok(seen),
            (seen, Some(fault)) => {
                self.note(key, &fault);
                seen.map(Some).ok_or(fault)
            }
        }
    }

    /// A record of a kind that only `damage` can check; it returns why bytes under a key are not of that kind.
    ///
    /// # Errors
    /// As [`Look::get`].
    pub fn record(
        &self,
        key: &str,
        damage: impl Fn(&[u8], &[u8]) -> Option<String>,
    ) -> Result<Option<Arc<ReadRecord>>, Fault> {
        let Some(known) = self.known(key) else { return Ok(None) };
        match known.damage(damage) {
            None => Ok(Some(Arc::clone(known))),
            Some(why) => {
                let fault = Fault::Record(format!("{key}: {why}"));
                self.note(key, &fault);
                Err(fault)
            }
        }
    }

    /// Those of these locks that exist.
    ///
    /// # Errors
    /// Never: an unreadable lock still locks.
    pub fn locks(&self, of: impl IntoIterator<Item = Target>) -> Result<Locks, Fault> {
        let of: Vec<Target> = of.into_iter().collect();
        let found: Vec<Option<Seen<Lock>>> =
            of.iter().map(|(kind, target)| self.get(&keys::lock(*kind, target))).collect::<Result<_, Fault>>()?;
        Ok(Locks::new(of, found.into_iter().flatten().collect()))
    }

    /// Whether there is any record with a prefix.
    #[must_use]
    pub fn any_under(&self, prefix: &str) -> bool {
        let known = self.filled.get(prefix).copied();
        known.unwrap_or_else(|| {
            self.missed.borrow_mut().prefixes.insert(prefix.to_owned());
            false
        })
    }

    /// A document that is maintained outside the gateway; `None` if it could not be read.
    #[must_use]
    pub fn document(&self, source: DocumentSource, freshness: Freshness) -> Option<Document> {
        let wanted = (source, freshness);
        match self.documents.get(&wanted) {
            Some(known) => known.clone(),
            None => {
                self.missed.borrow_mut().documents.insert(wanted);
                None
            }
        }
    }

    /// Announces a record, so that it is read together with the others of this round.
    pub fn expect(&self, keys: impl IntoIterator<Item = String>) {
        let missing = keys.into_iter().filter(|key| !self.records.contains_key(key));
        self.missed.borrow_mut().records.extend(missing);
    }

    fn known(&self, key: &str) -> Option<&Arc<ReadRecord>> {
        let known = self.records.get(key);
        if known.is_none() {
            self.missed.borrow_mut().records.insert(key.to_owned());
        }
        known?.as_ref()
    }

    /// Notes a damaged record, to be reported at the end.
    pub fn note(&self, key: &str, damage: &Fault) {
        self.damaged.borrow_mut().push((key.to_owned(), damage.clone()));
    }

    /// Takes what was noted as missing since the last call.
    pub fn missed(&mut self) -> Missed {
        std::mem::take(self.missed.get_mut())
    }

    /// Takes the damage noted since the last call.
    pub fn damaged(&mut self) -> Vec<(String, Fault)> {
        std::mem::take(self.damaged.get_mut())
    }

    /// The keys of all loaded records.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.records.keys()
    }

    /// Adds a loaded record.
    pub fn learn(&mut self, key: String, raw: Option<RawRecord>) {
        let record = raw.map(|raw| Arc::new(ReadRecord::new(key.clone(), raw)));
        self.records.insert(key, record);
    }

    /// Adds whether there is any record with a prefix.
    pub fn learn_filled(&mut self, prefix: String, filled: bool) {
        self.filled.insert(prefix, filled);
    }

    /// Adds a document.
    pub fn learn_document(&mut self, wanted: (DocumentSource, Freshness), document: Option<Document>) {
        self.documents.insert(wanted, document);
    }
}
