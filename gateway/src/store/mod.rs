//! The store: everything the gateway must remember, behind one small contract about durability.
//!
//! | call | promise |
//! |---|---|
//! | [`Store::read`] | one consistent view of the keys asked for |
//! | [`Store::scan`], [`Store::scan_back`] | one consistent page of keys under a prefix |
//! | [`Store::commit`] | `Ok`: the whole batch survives a power cut; `Conflict`: nothing happened; `Unknown`: read before trying again |
//! | [`Store::watch`] | every key written, told after it is durable |
//!
//! **Reads never run ahead of the disk.** No read, scan or watch shows a write before it is durable, so a decision can
//! never rest on something a power cut takes away.
//!
//! **Versions.** A store counts its commits. An entry's version is the number of the commit that last wrote it, so versions
//! only grow, and a key deleted and written again never gets an old version back. The count is stored in the same atomic
//! step as the batch.
//!
//! Engines: [`memory`] is the executable specification, `sled` the default, `redb` the second. All three pass `contract`.
//! [`open()`] chooses one by name; [`transfer`] moves the contents from one to another.

pub mod memory;
pub mod open;
pub mod transfer;

mod folder;
mod format;
mod group;
mod record;
mod redb;
mod sled;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod damage;

use std::{borrow::Borrow, fmt, pin::Pin, sync::Arc};

use tokio::sync::broadcast;

pub use open::{Engine, OpenError, open, open_copy};

/// A future that can be stored behind `dyn Store`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The number of the commit that last wrote a key. The first commit of a store is 1.
pub type Version = u64;

/// Longest key. sled keeps up to 320 keys in one index page, and a page above 128 kB would go to a separate file that our
/// sync does not cover: 320 * (384 + 10) = 126,080 bytes.
pub const KEY_MAX: usize = 384;

/// Largest value. Records are a few kB; the largest are certificate chains and evidence, which are limited to less than
/// this when they arrive. Bulk data does not belong in the store.
pub const VALUE_MAX: usize = 128 * 1024;

/// Most writes, and most expectations, in one batch: a request touches a few dozen records, an import sends hundreds.
pub const BATCH_ITEMS_MAX: usize = 1024;

/// Most bytes of keys and values in one batch: room for a few of the largest values, small enough that a full queue
/// stays in memory.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Most rows in one page of a scan. A scan holds the writer back while it runs (it is one consistent view); this keeps it
/// to a few milliseconds.
pub const SCAN_MAX: usize = 1000;

/// Groups of changes kept for a slow watcher before it is told [`Change::Lagged`]: some hundred milliseconds of full load.
const WATCH_BACKLOG: usize = 256;

/// A key: bytes, ordered as bytes. By custom `kind/part/part`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<u8>);

impl Key {
    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes of the key, owned.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Whether the key lies under `prefix`.
    pub fn starts_with(&self, prefix: &Key) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// Lets maps keyed by `Key` be searched by bytes; the order of a `Key` is the order of its bytes.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// What is stored under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The commit that wrote it.
    pub version: Version,
    /// Exactly the bytes that were put, unless it is damaged.
    pub value: Vec<u8>,
    /// Why it is not what was put, when it is not: then nothing may rest on the value, nor on the version.
    pub damage: Option<String>,
}

/// What must hold in the store, just before the batch, for the batch to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent(Key),
    /// The key exists and was last written by this commit.
    At(Key, Version),
}

/// One change. Where a batch writes a key twice, the later write stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Creates or replaces the entry.
    Put(Key, Vec<u8>),
    /// Removes the entry; no error if there is none.
    Delete(Key),
}

/// Changes that happen together or not at all, under conditions that all hold or nothing happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The conditions, all about the state before the batch.
    pub expect: Vec<Expect>,
    /// The changes.
    pub writes: Vec<Write>,
}

impl Batch {
    /// Adds the condition that `key` does not exist.
    #[must_use]
    pub fn absent(mut self, key: impl Into<Key>) -> Self {
        self.expect.push(Expect::Absent(key.into()));
        self
    }

    /// Adds the condition that `key` was last written by commit `version`.
    #[must_use]
    pub fn at(mut self, key: impl Into<Key>, version: Version) -> Self {
        self.expect.push(Expect::At(key.into(), version));
        self
    }

    /// Adds a put.
    #[must_use]
    pub fn put(mut self, key: impl Into<Key>, value: impl Into<Vec<u8>>) -> Self {
        self.writes.push(Write::Put(key.into(), value.into()));
        self
    }

    /// Adds a delete.
    #[must_use]
    pub fn delete(mut self, key: impl Into<Key>) -> Self {
        self.writes.push(Write::Delete(key.into()));
        self
    }

    /// Bytes of keys and values in the writes.
    pub(crate) fn bytes(&self) -> usize {
        self.writes
            .iter()
            .map(|write| match write {
                Write::Put(key, value) => key.0.len() + value.len(),
                Write::Delete(key) => key.0.len(),
            })
            .sum()
    }

    /// Refuses what no engine may be asked to store. Runs before the queue, so nothing oversized waits in it.
    pub(crate) fn check(&self) -> Result<(), InvalidBatch> {
        let items = self.writes.len().max(self.expect.len());
        if items > BATCH_ITEMS_MAX {
            return Err(InvalidBatch::TooManyItems { items });
        }
        for write in &self.writes {
            let (key, len) = match write {
                Write::Put(key, value) => (key, value.len()),
                Write::Delete(key) => (key, 0),
            };
            if key.0.is_empty() {
                return Err(InvalidBatch::EmptyKey);
            }
            if key.0.len() > KEY_MAX {
                return Err(InvalidBatch::KeyTooLong { len: key.0.len() });
            }
            if len > VALUE_MAX {
                return Err(InvalidBatch::ValueTooLarge { key: key.clone(), len });
            }
        }
        let bytes = self.bytes();
        if bytes > BATCH_BYTES_MAX {
            return Err(InvalidBatch::TooLarge { bytes });
        }
        Ok(())
    }
}

/// A batch no store accepts; nothing of it happened. A mistake of the caller, not of the disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatch {
    /// A write to the empty key.
    #[error("a key is empty")]
    EmptyKey,
    /// A key above [`KEY_MAX`].
    #[error("a key has {len} bytes, at most {KEY_MAX} are allowed")]
    KeyTooLong {
        /// Its length.
        len: usize,
    },
    /// A value above [`VALUE_MAX`].
    #[error("the value of {key:?} has {len} bytes, at most {VALUE_MAX} are allowed")]
    ValueTooLarge {
        /// Whose value.
        key: Key,
        /// Its length.
        len: usize,
    },
    /// More writes or expectations than [`BATCH_ITEMS_MAX`].
    #[error("the batch has {items} writes or expectations, at most {BATCH_ITEMS_MAX} are allowed: split it")]
    TooManyItems {
        /// How many.
        items: usize,
    },
    /// More bytes than [`BATCH_BYTES_MAX`].
    #[error("the batch has {bytes} bytes, at most {BATCH_BYTES_MAX} are allowed: split it")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
}

/// Why a commit did not answer with a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// An expectation did not hold. Nothing happened.
    #[error("another change came first; read again and decide again")]
    Conflict,
    /// The batch can never be stored. Nothing happened.
    #[error("the batch was refused: {0}")]
    Invalid(#[from] InvalidBatch),
    /// Writing failed; the batch may or may not survive. The store has closed itself: open it again and read. A full disk
    /// ends here too, and says so.
    #[error("it is unknown whether the change was stored, the store has stopped: {0}")]
    Unknown(String),
    /// The store is closed. Nothing happened.
    #[error("the store is closed")]
    Closed,
}

/// Why a read or scan failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// What is stored is not what was written, and is wanted whole.
    #[error("the record {key:?} is damaged: {reason}; `store quarantine` puts it aside, an older export has it whole")]
    Corrupt {
        /// Whose record.
        key: Key,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine could not read.
    #[error("the store could not be read: {0}")]
    Engine(String),
    /// A page above [`SCAN_MAX`] was asked for.
    #[error("a page of {asked} rows was asked for, at most {SCAN_MAX} are given: ask again after the last key")]
    PageTooLarge {
        /// How many rows.
        asked: usize,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// Rows of a scan.
pub type Rows = Vec<(Key, Entry)>;

/// The contract. A record that is damaged is given as such, and takes no other with it. Object safe: the gateway holds an `Arc<dyn Store>`.
pub trait Store: Send + Sync {
    /// The entries of `keys`, in the same order, all from one moment.
    fn read<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Entry>>, ReadError>>;

    /// Up to `limit` (at most [`SCAN_MAX`]) entries under `prefix`, ascending, from just after `after`, all from one moment.
    /// Fewer than `limit` rows means the end. The empty prefix means everything.
    fn scan<'a>(
        &'a self,
        prefix: &'a Key,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Rows, ReadError>>;

    /// The same, descending, from just before `before`: the newest first where keys carry the time.
    fn scan_back<'a>(
        &'a self,
        prefix: &'a Key,
        before: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Rows, ReadError>>;

    /// The keys of records that were damaged when the store was opened.
    fn damaged(&self) -> &[Key] {
        &[]
    }

    /// Checks the expectations and applies the writes in one step, and answers when that is durable.
    ///
    /// Nothing is sent before the first poll; dropping the future after it does not take the batch back. A batch without
    /// writes stores nothing and answers with the number of the newest commit.
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Version, CommitError>>;

    /// Tells every key under `prefix` written by a commit that finishes after this call; see [`Watch`].
    fn watch(&self, prefix: Key) -> Watch;

    /// Finishes what is queued, stops the writer and releases the store's lock. Later calls answer `Closed`.
    /// A store that is dropped without it does the same a moment later, at no certain time.
    fn close(&self) -> BoxFuture<'static, ()>;
}

impl fmt::Debug for dyn Store + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// Every entry under `prefix`, page by page. Each page is consistent in itself; between pages the store may change.
pub async fn scan_all(store: &dyn Store, prefix: &Key) -> Result<Rows, ReadError> {
    let mut rows: Rows = Vec::new();
    loop {
        let page = store.scan(prefix, rows.last().map(|(key, _)| key), SCAN_MAX).await?;
        let last = page.len() < SCAN_MAX;
        rows.extend(page);
        if last {
            return Ok(rows);
        }
    }
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key was put or deleted. Read it to see what it is now.
    Key(Key),
    /// The watcher was too slow and changes were skipped: it must scan its prefix again.
    Lagged,
}

/// A stream of changed keys under one prefix.
///
/// - A key is told only after its commit is durable; reading it then shows that commit or a later one.
/// - Keys of one commit come together, and commits come in order. A key may be told although its value is the same.
/// - To follow a prefix without a gap: watch first, then scan, then act on changes; scan again on [`Change::Lagged`].
pub struct Watch {
    prefix: Key,
    changes: broadcast::Receiver<Arc<[Key]>>,
    current: Option<(Arc<[Key]>, usize)>,
}

impl Watch {
    /// The next change; `None` when the store has closed. Safe to cancel: a dropped call loses no change.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(key) = self.next_of_current() {
                return Some(Change::Key(key));
            }
            match self.changes.recv().await {
                Ok(keys) => self.current = Some((keys, 0)),
                Err(broadcast::error::RecvError::Lagged(_)) => return Some(Change::Lagged),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    fn next_of_current(&mut self) -> Option<Key> {
        let (keys, at) = self.current.as_mut()?;
        while let Some(key) = keys.get(*at) {
            *at += 1;
            if key.starts_with(&self.prefix) {
                return Some(key.clone());
            }
        }
        self.current = None;
        None
    }
}

/// The sending side of all watches of one store.
#[derive(Clone)]
struct Announcer(broadcast::Sender<Arc<[Key]>>);

impl Announcer {
    fn new() -> Self {
        Self(broadcast::Sender::new(WATCH_BACKLOG))
    }

    /// A watch on a store that is already closed: it ends at once.
    fn closed(prefix: Key) -> Watch {
        Self::new().watch(prefix)
    }

    fn watch(&self, prefix: Key) -> Watch {
        Watch { prefix, changes: self.0.subscribe(), current: None }
    }

    fn announce(&self, keys: Vec<Key>) {
        if !keys.is_empty() && self.0.receiver_count() > 0 {
            // an error only says that the last watcher has gone meanwhile
            let _ = self.0.send(keys.into());
        }
    }
}

/// The half-open range `[from, to)` that a scan covers, as keys; `to` is `None` at the end of the key space.
struct Span {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl Span {
    /// All keys under `prefix`.
    fn of(prefix: &[u8]) -> Self {
        let mut to = prefix.to_vec();
        while let Some(last) = to.pop() {
            if last < u8::MAX {
                to.push(last + 1);
                return Self { from: prefix.to_vec(), to: Some(to) };
            }
        }
        Self { from: prefix.to_vec(), to: None }
    }

    /// Without the keys up to and including `key`.
    fn after(mut self, key: Option<&[u8]>) -> Self {
        if let Some(key) = key {
            let mut from = key.to_vec();
            from.push(0); // the very next key in byte order
            self.from = self.from.max(from);
        }
        self
    }

    /// Without the keys from `key` on.
    fn before(mut self, key: Option<&[u8]>) -> Self {
        if let Some(key) = key {
            self.to = Some(match self.to {
                Some(to) => to.min(key.to_vec()),
                None => key.to_vec(),
            });
        }
        self
    }

    /// `BTreeMap::range` panics on such a range, so ask first.
    fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }

    /// As bounds, for maps and engines.
    fn bounds(&self) -> (std::ops::Bound<&[u8]>, std::ops::Bound<&[u8]>) {
        use std::ops::Bound;
        let to = self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(&self.from), to)
    }
}

/// Which end of a span comes first.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
}

/// Refuses a page above [`SCAN_MAX`].
fn check_page(limit: usize) -> Result<(), ReadError> {
    if limit > SCAN_MAX { Err(ReadError::PageTooLarge { asked: limit }) } else { Ok(()) }
}
