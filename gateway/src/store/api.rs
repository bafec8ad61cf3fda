//! The contract that every engine implements, and its errors.

use std::{fmt, pin::Pin, time::Duration};

use super::{
    batch::{Batch, InvalidBatch, Key, LeaseId, StoreLimits, Version},
    watch::Watch,
};

/// Most rows in one page of a scan, with every engine.
pub const SCAN_MAX: usize = 1000;

/// A future that can be stored behind `dyn Store`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is stored under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The commit that wrote it.
    pub version: Version,
    /// Exactly the bytes that were put, unless it is damaged.
    pub value: Vec<u8>,
    /// Why the record is damaged, if it is: then neither the value nor the version can be relied on.
    pub damage: Option<String>,
}

/// Entries read together, all from one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The newest commit that it shows. Two snapshots with the same one are of one moment, too.
    pub at: Version,
    /// What is stored under each key, in the order of the keys.
    pub entries: Vec<Option<Entry>>,
}

impl Snapshot {
    /// The entry of the first key, which was the only one asked for.
    #[must_use]
    pub fn only(self) -> Option<Entry> {
        self.entries.into_iter().next().flatten()
    }
}

/// Rows of a scan.
pub type Rows = Vec<(Key, Entry)>;

/// One page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// The rows, in the order that was asked for.
    pub rows: Rows,
    /// Whether rows follow the last one. This can be so although the page has fewer rows than the requested limit.
    pub more: bool,
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
    /// The lease in the batch, or the one to keep alive, has lapsed or never existed. Nothing happened.
    #[error("the lease has lapsed")]
    Lapsed,
    /// The commit either happened or never will: the next read that succeeds shows which. An embedded engine has closed itself:
    /// open it again and read. A full disk has the same effect and is named in the text.
    #[error("it is unknown whether the change was stored: {0}")]
    Unknown(String),
    /// The store cannot be reached or does not accept commits now. Nothing happened, and the store is not closed.
    #[error("the store is unavailable: {why}")]
    Unavailable {
        /// How long to wait before the next attempt.
        retry_after: Duration,
        /// The engine's error.
        why: String,
    },
    /// The store is closed for the rest of this process. Nothing happened.
    #[error("the store is closed")]
    Closed,
}

/// Why a read or scan failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The record fails its check, and the caller needs it intact.
    #[error(
        "the record {key:?} is damaged: {reason}; `store quarantine` quarantines it; an older export may have it intact"
    )]
    Corrupt {
        /// Key of the record.
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
        /// The requested limit, in rows.
        asked: usize,
    },
    /// The store cannot be reached now, and is not closed.
    #[error("the store is unavailable: {why}")]
    Unavailable {
        /// How long to wait before the next attempt.
        retry_after: Duration,
        /// The engine's error.
        why: String,
    },
    /// The store is closed for the rest of this process.
    #[error("the store is closed")]
    Closed,
}

/// The contract. A damaged record is returned with [`Entry::damage`] set and does not affect other records. Object safe: the gateway
/// holds an `Arc<dyn Store>`.
///
/// **Reads are linearizable.** A read shows every commit that any process had acknowledged before the read began, and none that a power
/// cut can undo. Of two successive calls, the second never shows an older state. No read is served from a cache that may lag.
pub trait Store: Send + Sync {
    /// Limits of one batch and one page.
    fn limits(&self) -> StoreLimits {
        StoreLimits::EMBEDDED
    }

    /// The entries of `keys`, in the same order, all from one moment.
    fn read<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Snapshot, ReadError>>;

    /// Up to `limit` (at most [`SCAN_MAX`]) entries under `prefix`, ascending, from just after `after`, all from one moment.
    /// The empty prefix means everything.
    fn scan<'a>(
        &'a self,
        prefix: &'a Key,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<ScanPage, ReadError>>;

    /// The same, descending, from just before `before`: the newest first where keys carry the time.
    fn scan_back<'a>(
        &'a self,
        prefix: &'a Key,
        before: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<ScanPage, ReadError>>;

    /// Keys of the records that were damaged when the store was opened.
    fn damaged(&self) -> &[Key] {
        &[]
    }

    /// Checks the expectations and applies the writes in one step; completes when that is durable.
    ///
    /// Nothing is sent before the first poll; dropping the future after that does not cancel the batch. A batch without
    /// writes stores nothing and returns the number of the newest commit.
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Version, CommitError>>;

    /// Grants a lease for `ttl`. Entries written with it are deleted when it lapses, each by a commit that watchers see.
    ///
    /// `now` is monotonic time ([`Clock::uptime`](crate::ports::clock::Clock::uptime)): an embedded engine counts by it, a remote one by
    /// its own clock.
    fn lease(&self, ttl: Duration, now: Duration) -> BoxFuture<'static, Result<LeaseId, CommitError>>;

    /// Restarts the lease's `ttl`. Fails with [`CommitError::Lapsed`] if it has ended.
    fn keep_alive(&self, lease: LeaseId, now: Duration) -> BoxFuture<'static, Result<(), CommitError>>;

    /// Ends a lease and deletes its entries. No error if it has ended already.
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'static, Result<(), CommitError>>;

    /// Deletes the entries of leases that have ended by `now`. The opener of an embedded engine calls this every second; a remote engine
    /// does it by its own clock.
    fn lapse(&self, now: Duration) -> BoxFuture<'static, Result<(), CommitError>>;

    /// Reports every commit that writes keys under any of `prefixes` and finishes after this call; see [`Watch`].
    fn watch(&self, prefixes: Vec<Key>) -> Watch;

    /// Finishes what is queued, stops the writer and releases the store's lock. Later calls fail with `Closed`.
    /// Dropping the store does the same, but in the background: do not reopen it right after a drop.
    fn close(&self) -> BoxFuture<'static, ()>;
}

impl fmt::Debug for dyn Store + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// Every entry under `prefix`, page by page. Each page is consistent in itself; between pages the store may change.
///
/// # Errors
/// [`ReadError`] of any page.
pub async fn scan_all(store: &dyn Store, prefix: &Key) -> Result<Rows, ReadError> {
    let mut rows: Rows = Vec::new();
    loop {
        let page = store.scan(prefix, rows.last().map(|(key, _)| key), SCAN_MAX).await?;
        rows.extend(page.rows);
        if !page.more {
            return Ok(rows);
        }
    }
}
