//! The trait of an engine on disk, as the group commit in `group` needs it, and the types both use.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{
    batch::{Key, Version},
    record,
    scan::{Direction, Span},
};

/// Whether the folder has held a store before.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// The first opening: an empty engine is made into a store.
    New,
    /// A store was made here and reached at least this commit: less than that is damage.
    AtLeast(Version),
}

/// All changes of a group, by engine key.
pub(super) type Writes = BTreeMap<Vec<u8>, RowChange>;

/// The change of one key.
#[derive(Clone, Debug, Default)]
pub(super) struct RowChange {
    /// Its new value; `None` deletes.
    pub after: Option<Vec<u8>>,
    /// Bytes of the current value, 0 if there is none, so that an engine that splits large values need not read it.
    pub before: usize,
}

impl RowChange {
    /// A value for a key that has none, or a small one.
    pub(super) fn put(value: Vec<u8>) -> Self {
        Self { after: Some(value), before: 0 }
    }
}

/// An engine on disk. Only one thread writes to it.
pub(super) trait DiskEngine: Send + Sync + 'static {
    type View: View;

    /// The current state. Writes after this call may or may not be visible in it.
    fn view(&self) -> Result<Self::View, EngineError>;

    /// Applies all of the writes or, even after a crash, none of them.
    fn apply(&self, writes: &Writes) -> Result<(), EngineError>;

    /// Returns when everything applied survives a power cut.
    fn sync(&self) -> Result<(), EngineError>;
}

/// A key or value of a row, in the form that the engine returns without a copy.
pub(super) trait Bytes: AsRef<[u8]> + Send + Sync + 'static {}
impl<T: AsRef<[u8]> + Send + Sync + 'static> Bytes for T {}

/// Rows of an engine, as stored: key and raw value.
pub(super) type RawRows<'a, B> = Box<dyn Iterator<Item = Result<(B, B), EngineError>> + 'a>;

/// Reads from an engine.
pub(super) trait View {
    type Bytes: Bytes;

    /// The value of a key, assembled from its parts.
    fn get(&self, key: &[u8]) -> Result<Option<Self::Bytes>, EngineError>;

    /// The rows of `span`, which must not be empty.
    fn rows<'a>(&'a self, span: &Span, order: Direction) -> Result<RawRows<'a, Self::Bytes>, EngineError>;

    /// Turns a raw value from [`View::rows`] into the value. A step of its own, so that rows in flight are never assembled.
    fn assemble(&self, raw: Self::Bytes) -> Result<Self::Bytes, EngineError>;
}

/// An engine's error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EngineError {
    #[error("no space left on the store's disk ({0}); free some, then start again")]
    Full(String),
    #[error("{0}")]
    Io(String),
    #[error("the store's files are damaged: {0}")]
    Damaged(String),
    #[error("the engine panicked: {0}")]
    Panicked(String),
}

impl EngineError {
    /// Classifies an I/O error; `doing` names the operation that failed.
    pub(super) fn io(doing: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full(format!("{doing}: {error}")),
            _ => Self::Io(format!("{doing}: {error}")),
        }
    }
}

/// Runs code of an engine and turns a panic into an error. Both engines assert where they should return an error, above all on
/// damaged files. After [`EngineError::Panicked`] the engine must not be used again.
pub(super) fn guarded<T, F: From<EngineError>>(work: impl FnOnce() -> Result<T, F>) -> Result<T, F> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(EngineError::Panicked(text.unwrap_or_else(|| "without a message".to_owned())).into())
    })
}

/// The engine key of a caller's key: `r` before it. Other first letters are the store's own rows.
pub(super) fn row_key(key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + key.len());
    row.push(b'r');
    row.extend_from_slice(key);
    row
}

/// Inverse of [`row_key`].
pub(super) fn caller_key(row: &[u8]) -> &[u8] {
    row.split_first().map_or(&[], |(_, key)| key)
}

/// Counts over the entire store, stored with every group. Opening the store counts again and compares.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub commits: Version,
    pub rows: u64,
    pub sum: u64,
}

impl Totals {
    pub(super) fn add(&mut self, head: record::Head) {
        self.rows = self.rows.wrapping_add(1);
        self.sum = self.sum.wrapping_add(head.fingerprint());
    }

    pub(super) fn remove(&mut self, head: record::Head) {
        self.rows = self.rows.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(head.fingerprint());
    }
}

/// Result of the check at opening.
#[derive(Clone, Debug, Default)]
pub(super) struct Checked {
    pub totals: Totals,
    pub damaged: Vec<Key>,
    /// Leased entries. Their leases ended with the process that had the store open.
    pub leased: Vec<Key>,
}

impl From<Totals> for Checked {
    fn from(totals: Totals) -> Self {
        Self { totals, ..Self::default() }
    }
}
