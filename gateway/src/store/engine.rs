//! What an engine on disk must do for the group commit in `group`, and what it shares with that.

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

/// What becomes of one key.
#[derive(Clone, Debug, Default)]
pub(super) struct RowChange {
    /// Its new value; `None` deletes.
    pub after: Option<Vec<u8>>,
    /// Bytes of the value there now, 0 if there is none: an engine that stores large values apart need not look.
    pub before: usize,
}

impl RowChange {
    /// A value for a key that has none, or a small one.
    pub(super) fn put(value: Vec<u8>) -> Self {
        Self { after: Some(value), before: 0 }
    }
}

/// What an engine must do. It is only ever written by one thread.
pub(super) trait DiskEngine: Send + Sync + 'static {
    /// How it is read.
    type View: View;

    /// Its present state. Writes after this call may or may not show through.
    fn view(&self) -> Result<Self::View, EngineError>;

    /// Applies all of it or, whatever happens, none of it.
    fn apply(&self, writes: &Writes) -> Result<(), EngineError>;

    /// Returns when everything applied survives a power cut.
    fn sync(&self) -> Result<(), EngineError>;
}

/// One side of a row, or a whole value, in whatever form the engine hands out cheaply.
pub(super) trait Bytes: AsRef<[u8]> + Send + Sync + 'static {}
impl<T: AsRef<[u8]> + Send + Sync + 'static> Bytes for T {}

/// Rows of an engine, as stored: key and raw value.
pub(super) type RawRows<'a, B> = Box<dyn Iterator<Item = Result<(B, B), EngineError>> + 'a>;

/// Reading an engine.
pub(super) trait View {
    /// Its bytes.
    type Bytes: Bytes;

    /// The whole value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Self::Bytes>, EngineError>;

    /// Rows in a span that is not empty.
    fn rows<'a>(&'a self, span: &Span, order: Direction) -> Result<RawRows<'a, Self::Bytes>, EngineError>;

    /// Turns a raw value from [`View::rows`] into the whole value. Apart, so that rows in flight are never put together.
    fn whole(&self, raw: Self::Bytes) -> Result<Self::Bytes, EngineError>;
}

/// What can go wrong below the contract.
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
    /// Sorts an I/O error; `doing` says what failed.
    pub(super) fn io(doing: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full(format!("{doing}: {error}")),
            _ => Self::Io(format!("{doing}: {error}")),
        }
    }
}

/// Runs code of an engine. Both engines assert where they should return an error, above all on damaged files; whoever sees
/// the fault must treat the engine as broken.
pub(super) fn guarded<T, F: From<EngineError>>(work: impl FnOnce() -> Result<T, F>) -> Result<T, F> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(EngineError::Panicked(text.unwrap_or_else(|| "without a message".to_owned())).into())
    })
}

/// How engine keys are told apart: `r` before a caller's key, other first letters for what the store keeps for itself.
pub(super) fn row_key(key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + key.len());
    row.push(b'r');
    row.extend_from_slice(key);
    row
}

/// The caller's key of a row.
pub(super) fn caller_key(row: &[u8]) -> &[u8] {
    row.split_first().map_or(&[], |(_, key)| key)
}

/// Counts over the whole store, stored with every group; what is counted when the store is opened must agree.
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

/// What the check at opening found.
#[derive(Clone, Debug, Default)]
pub(super) struct Checked {
    pub totals: Totals,
    pub damaged: Vec<Key>,
    /// Entries of leases, which ended with the process that held them.
    pub leased: Vec<Key>,
}

impl From<Totals> for Checked {
    fn from(totals: Totals) -> Self {
        Self { totals, ..Self::default() }
    }
}
