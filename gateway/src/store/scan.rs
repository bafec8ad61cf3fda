//! Scans: the range of keys, the order, and the size of a page.

use super::{
    api::{Entry, ReadError, SCAN_MAX, ScanPage},
    batch::{Key, StoreLimits},
};

/// The half-open range `[from, to)` that a scan covers, as keys; `to` is `None` at the end of the key space.
pub(super) struct Span {
    pub(super) from: Vec<u8>,
    pub(super) to: Option<Vec<u8>>,
}

impl Span {
    /// All keys under `prefix`.
    pub(super) fn of(prefix: &[u8]) -> Self {
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
    pub(super) fn after(mut self, key: Option<&[u8]>) -> Self {
        if let Some(key) = key {
            let mut from = key.to_vec();
            from.push(0); // the very next key in byte order
            self.from = self.from.max(from);
        }
        self
    }

    /// Without the keys from `key` on.
    pub(super) fn before(mut self, key: Option<&[u8]>) -> Self {
        if let Some(key) = key {
            self.to = Some(match self.to {
                Some(to) => to.min(key.to_vec()),
                None => key.to_vec(),
            });
        }
        self
    }

    /// To be checked first: `BTreeMap::range` panics on such a range.
    pub(super) fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }

    pub(super) fn bounds(&self) -> (std::ops::Bound<&[u8]>, std::ops::Bound<&[u8]>) {
        use std::ops::Bound;
        let to = self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(&self.from), to)
    }
}

#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Direction {
    Ascending,
    Descending,
}

/// Refuses a page above [`SCAN_MAX`].
pub(super) fn check_page(limit: usize) -> Result<(), ReadError> {
    if limit > SCAN_MAX { Err(ReadError::PageTooLarge { asked: limit }) } else { Ok(()) }
}

/// Takes rows until there are `limit` of them or the page reaches [`StoreLimits::page_bytes`].
pub(super) fn fill<F: From<ReadError>>(
    mut rows: impl FnMut() -> Result<Option<(Key, Entry)>, F>,
    limit: usize,
    limits: &StoreLimits,
) -> Result<ScanPage, F> {
    let (mut page, mut bytes) = (ScanPage::default(), 0);
    while let Some((key, entry)) = rows()? {
        if page.rows.len() >= limit || bytes >= limits.page_bytes {
            page.more = true;
            break;
        }
        bytes += key.as_bytes().len() + entry.value.len();
        page.rows.push((key, entry));
    }
    Ok(page)
}
