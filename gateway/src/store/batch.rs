//! Batches: keys, conditions and writes, and the limits of an engine.

use std::{borrow::Borrow, fmt};

/// The number of the commit that last wrote a key. The first commit of a store is 1.
pub type Version = u64;

/// Longest key. sled keeps up to 320 keys in one index page, and a page above 128 kB would go to a separate file that our
/// sync does not cover: 320 * (384 + 10) = 126,080 bytes.
pub const KEY_MAX: usize = 384;

/// Largest value. Records are a few kB; the largest are certificate chains and evidence, which are limited to less than
/// this when they arrive. Bulk data does not belong in the store.
pub const VALUE_MAX: usize = 128 * 1024;

/// Limits of one batch and of one page. Larger changes and reads are split by the caller.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Most writes, and most expectations, in one batch.
    pub batch_items: usize,
    /// Most bytes of keys and values in the writes of one batch.
    pub batch_bytes: usize,
    /// A page of a scan ends with the row that reaches this many bytes of keys and values, so it has at least one row.
    pub page_bytes: usize,
}

impl StoreLimits {
    /// Limits of the embedded engines. A request touches a few dozen records, an import sends hundreds; a batch has room for a
    /// few of the largest values, small enough that a full queue fits in memory. A scan blocks the writer while it runs, since
    /// it is one consistent view: `page_bytes` keeps that to a few milliseconds.
    pub const EMBEDDED: Self = Self { batch_items: 1024, batch_bytes: 1024 * 1024, page_bytes: 4 * 1024 * 1024 };
}

/// A key: bytes, ordered as bytes. The convention is `kind/part/part`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<u8>);

impl Key {
    /// The key as stored, without the engine's row prefix.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As [`Key::as_bytes`], without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// A prefix need not end at a `/`.
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

/// A condition on the state just before the batch. If one fails, the batch is a `Conflict`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent(Key),
    /// The key exists and was last written by this commit.
    At(Key, Version),
}

/// Number of a lease, valid only in the store that granted it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// One change. If a batch writes a key twice, the later write applies. The last write of a key decides whether it is leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Creates or replaces the entry.
    Put(Key, Vec<u8>),
    /// As `Put`; the entry is deleted when the lease ends.
    PutLeased(Key, Vec<u8>, LeaseId),
    /// Removes the entry; no error if there is none.
    Delete(Key),
}

impl Write {
    /// Key of the entry that is put or deleted.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::PutLeased(key, ..) | Self::Delete(key) => key,
        }
    }

    /// Bytes of its key and value.
    pub(crate) fn bytes(&self) -> usize {
        self.key().0.len() + self.value_len()
    }

    const fn value_len(&self) -> usize {
        match self {
            Self::Put(_, value) | Self::PutLeased(_, value, _) => value.len(),
            Self::Delete(_) => 0,
        }
    }
}

/// Writes that are applied atomically, and only if every condition holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// All on the state before the batch.
    pub expect: Vec<Expect>,
    /// Applied in order.
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

    /// Adds [`Write::Put`].
    #[must_use]
    pub fn put(mut self, key: impl Into<Key>, value: impl Into<Vec<u8>>) -> Self {
        self.writes.push(Write::Put(key.into(), value.into()));
        self
    }

    /// Adds [`Write::PutLeased`].
    #[must_use]
    pub fn put_leased(mut self, key: impl Into<Key>, value: impl Into<Vec<u8>>, lease: LeaseId) -> Self {
        self.writes.push(Write::PutLeased(key.into(), value.into(), lease));
        self
    }

    /// Adds [`Write::Delete`].
    #[must_use]
    pub fn delete(mut self, key: impl Into<Key>) -> Self {
        self.writes.push(Write::Delete(key.into()));
        self
    }

    pub(crate) fn bytes(&self) -> usize {
        self.writes.iter().map(Write::bytes).sum()
    }

    pub(crate) fn has_room_for(&self, write: &Write, limits: &StoreLimits) -> bool {
        self.writes.len() < limits.batch_items && self.bytes() + write.bytes() <= limits.batch_bytes
    }

    /// Refuses a batch above the limits. Runs before the queue, so nothing oversized waits in it.
    ///
    /// # Errors
    /// [`InvalidBatch`] names the first limit exceeded; a batch with too many items or bytes can be split and sent again.
    pub fn check(&self, limits: &StoreLimits) -> Result<(), InvalidBatch> {
        let (items, most) = (self.writes.len().max(self.expect.len()), limits.batch_items);
        if items > most {
            return Err(InvalidBatch::TooManyItems { items, most });
        }
        for write in &self.writes {
            let (key, len) = (write.key(), write.value_len());
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
        let (bytes, most) = (self.bytes(), limits.batch_bytes);
        if bytes > most {
            return Err(InvalidBatch::TooLarge { bytes, most });
        }
        Ok(())
    }
}

/// Why no store accepts the batch. Nothing was stored. A mistake of the caller, not a fault of the disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatch {
    /// A write to the empty key.
    #[error("a key is empty")]
    EmptyKey,
    /// A key above [`KEY_MAX`].
    #[error("a key has {len} bytes, at most {KEY_MAX} are allowed")]
    KeyTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A value above [`VALUE_MAX`].
    #[error("the value of {key:?} has {len} bytes, at most {VALUE_MAX} are allowed")]
    ValueTooLarge {
        /// Key of the entry.
        key: Key,
        /// Length of the value in bytes.
        len: usize,
    },
    /// More writes or expectations than [`StoreLimits::batch_items`].
    #[error("the batch has {items} writes or expectations, at most {most} are allowed: split it")]
    TooManyItems {
        /// The larger of the number of writes and the number of expectations.
        items: usize,
        /// The engine's limit.
        most: usize,
    },
    /// More bytes than [`StoreLimits::batch_bytes`].
    #[error("the batch has {bytes} bytes, at most {most} are allowed: split it")]
    TooLarge {
        /// Bytes of keys and values in the writes.
        bytes: usize,
        /// The engine's limit.
        most: usize,
    },
}
