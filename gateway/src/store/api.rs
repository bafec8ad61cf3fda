//! The contract: what every engine answers, and how it fails.

use std::{fmt, pin::Pin, time::Duration};

use super::{
    batch::{Batch, InvalidBatch, Key, StoreLimits, Version},
    lease::LeaseId,
    scan::SCAN_MAX,
    watch::Watch,
};

/// A future that can be stored behind `dyn Store`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

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

/// Rows of a scan.
pub type Rows = Vec<(Key, Entry)>;

/// One page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// The rows, in the order that was asked for.
    pub rows: Rows,
    /// Whether there are more behind the last of them. A page may be shorter than it was asked to be and have more behind it.
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
    /// A lease that the batch names, or that was to be kept, has lapsed or never was. Nothing happened.
    #[error("the lease has lapsed")]
    Lapsed,
    /// It happened, or it never will: the next read that is answered shows which. An engine in this process has closed itself with it:
    /// open it again and read. A full disk ends there too, and says so.
    #[error("it is unknown whether the change was stored: {0}")]
    Unknown(String),
    /// The store cannot be reached, or takes nothing now. Nothing happened, and the store is not closed.
    #[error("the store is unavailable: {why}")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
        /// What keeps it.
        why: String,
    },
    /// The store is closed, for this process for good. Nothing happened.
    #[error("the store is closed")]
    Closed,
}

/// Why a read or scan failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// What is stored is not what was written, and is wanted whole.
    #[error(
        "the record {key:?} is damaged: {reason}; `store quarantine` quarantines it; an older export may have it intact"
    )]
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
    /// The store cannot be reached now, and is not closed.
    #[error("the store is unavailable: {why}")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
        /// What keeps it.
        why: String,
    },
    /// The store is closed, for this process for good.
    #[error("the store is closed")]
    Closed,
}

/// The contract. A record that is damaged is given as such, and takes no other with it. Object safe: the gateway holds an `Arc<dyn Store>`.
///
/// **What a read shows.** Every commit that was acknowledged before the read began, by whichever process, and none that a power cut can
/// take away. So of two calls, one after the other, the second never shows an older state. Nothing here is served from a cache that may lag.
pub trait Store: Send + Sync {
    /// What it takes and gives at once.
    fn limits(&self) -> StoreLimits {
        StoreLimits::EMBEDDED
    }

    /// The entries of `keys`, in the same order, all from one moment.
    fn read<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Entry>>, ReadError>>;

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

    /// The keys of records that were damaged when the store was opened.
    fn damaged(&self) -> &[Key] {
        &[]
    }

    /// Checks the expectations and applies the writes in one step, and answers when that is durable.
    ///
    /// Nothing is sent before the first poll; dropping the future after it does not take the batch back. A batch without
    /// writes stores nothing and answers with the number of the newest commit.
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Version, CommitError>>;

    /// A lease for `ttl`. Entries written with it vanish when it lapses, as if somebody deleted them: each by a commit, which watchers
    /// are told.
    ///
    /// `now` is time that nobody sets ([`Clock::uptime`](crate::ports::clock::Clock::uptime)): an engine in this process counts by it, one
    /// elsewhere by its own clock.
    fn lease(&self, ttl: Duration, now: Duration) -> BoxFuture<'static, Result<LeaseId, CommitError>>;

    /// Lets a lease stand for its whole time again, or says [`CommitError::Lapsed`].
    fn keep_alive(&self, lease: LeaseId, now: Duration) -> BoxFuture<'static, Result<(), CommitError>>;

    /// Ends a lease now; one that has ended is no error.
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'static, Result<(), CommitError>>;

    /// Tells the time: an engine in this process takes away what hangs on leases that are over. Whoever opens one tells it every second.
    fn lapse(&self, now: Duration) -> BoxFuture<'static, Result<(), CommitError>>;

    /// Tells every commit that writes keys under any of `prefixes` and finishes after this call; see [`Watch`].
    fn watch(&self, prefixes: Vec<Key>) -> Watch;

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
