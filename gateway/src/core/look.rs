//! Looking things up without doing it. A decision asks a [`Look`] for whatever it needs, as if all of it were at hand. What was not
//! looked up yet is as good as absent, and is remembered as missed: whoever holds the look reads all of that at once and asks the
//! decision again, until it misses nothing. So the number of reads is the length of the longest chain, in which one record names the
//! next, and never the number of records.
//!
//! What comes of a decision that missed something counts for nothing, an error included.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    evidence::{Document, DocumentSource},
    keys,
    lock::{Locks, Target},
    records::{Lock, Seen},
    refusal::Fault,
    stored::{RawRecord, ReadRecord, Stored},
};

/// What was looked up so far, and what was missed.
#[derive(Debug, Default)]
pub struct Look {
    records: BTreeMap<String, Option<Arc<ReadRecord>>>,
    filled: BTreeMap<String, bool>,
    documents: BTreeMap<DocumentSource, Option<Document>>,
    missed: RefCell<Missed>,
    damaged: RefCell<Vec<(String, Fault)>>,
}

/// What was asked for and not looked up yet.
#[derive(Debug, Default)]
pub struct Missed {
    /// Records, by their keys.
    pub records: BTreeSet<String>,
    /// Prefixes of which it was asked whether anything stands under them.
    pub prefixes: BTreeSet<String>,
    /// Documents.
    pub documents: BTreeSet<DocumentSource>,
}

impl Missed {
    /// Whether nothing was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.prefixes.is_empty() && self.documents.is_empty()
    }
}

impl Look {
    /// A record, if it exists.
    ///
    /// # Errors
    /// [`Fault::Record`] when it makes no sense.
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

    /// A record whose kind only `damage` knows, which says of a key and bytes why they do not read as that.
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

    /// The locks that stand among those asked for.
    ///
    /// # Errors
    /// Never, as a lock that cannot be read still locks.
    pub fn locks(&self, of: impl IntoIterator<Item = Target>) -> Result<Locks, Fault> {
        let of: Vec<Target> = of.into_iter().collect();
        let found: Vec<Option<Seen<Lock>>> =
            of.iter().map(|(kind, target)| self.get(&keys::lock(*kind, target))).collect::<Result<_, Fault>>()?;
        Ok(Locks::new(of, found.into_iter().flatten().collect()))
    }

    /// Whether anything stands under a prefix.
    #[must_use]
    pub fn any_under(&self, prefix: &str) -> bool {
        let known = self.filled.get(prefix).copied();
        known.unwrap_or_else(|| {
            self.missed.borrow_mut().prefixes.insert(prefix.to_owned());
            false
        })
    }

    /// A text that others keep up to date; nothing when it cannot be had.
    #[must_use]
    pub fn document(&self, source: &DocumentSource) -> Option<Document> {
        match self.documents.get(source) {
            Some(known) => known.clone(),
            None => {
                self.missed.borrow_mut().documents.insert(source.clone());
                None
            }
        }
    }

    /// Says that a record will be asked for, so that it is looked up together with what is asked for now.
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

    /// A damaged record was met: it is named in the end.
    pub fn note(&self, key: &str, damage: &Fault) {
        self.damaged.borrow_mut().push((key.to_owned(), damage.clone()));
    }

    /// What was missed since this was last asked.
    pub fn missed(&mut self) -> Missed {
        std::mem::take(self.missed.get_mut())
    }

    /// The damage that was met since this was last asked.
    pub fn damaged(&mut self) -> Vec<(String, Fault)> {
        std::mem::take(self.damaged.get_mut())
    }

    /// The keys of all records that were looked up.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.records.keys()
    }

    /// A record as it was read, now.
    pub fn learn(&mut self, key: String, raw: Option<RawRecord>) {
        let record = raw.map(|raw| Arc::new(ReadRecord::new(key.clone(), raw)));
        self.records.insert(key, record);
    }

    /// Whether anything stands under a prefix, now.
    pub fn learn_filled(&mut self, prefix: String, filled: bool) {
        self.filled.insert(prefix, filled);
    }

    /// A document as it is now.
    pub fn learn_document(&mut self, source: DocumentSource, document: Option<Document>) {
        self.documents.insert(source, document);
    }
}
