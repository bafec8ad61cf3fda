//! The store in memory: the executable specification of the contract. It forgets everything when the process ends, so it is
//! for tests and for `dev`; what it answers is what every other engine must answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{
    Announcer, Batch, BoxFuture, CommitError, Entry, Expect, Key, Order, ReadError, Rows, Span, Store, Version, Watch,
    Write, check_page,
};

/// A store that lives as long as the process.
pub struct Memory {
    inner: Arc<RwLock<Inner>>,
}

struct Inner {
    rows: BTreeMap<Key, Entry>,
    commits: Version,
    /// `None` once closed.
    announcer: Option<Announcer>,
}

impl Default for Memory {
    fn default() -> Self {
        let inner = Inner { rows: BTreeMap::new(), commits: 0, announcer: Some(Announcer::new()) };
        Self { inner: Arc::new(RwLock::new(inner)) }
    }
}

impl Inner {
    fn open(&self) -> Result<&Self, ReadError> {
        if self.announcer.is_some() { Ok(self) } else { Err(ReadError::Closed) }
    }

    fn scan(&self, span: &Span, order: Order, limit: usize) -> Result<Rows, ReadError> {
        check_page(limit)?;
        if span.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.rows.range::<[u8], _>(span.bounds()).map(|(key, entry)| (key.clone(), entry.clone()));
        Ok(match order {
            Order::Ascending => rows.take(limit).collect(),
            Order::Descending => rows.rev().take(limit).collect(),
        })
    }

    fn holds(&self, expect: &Expect) -> bool {
        match expect {
            Expect::Absent(key) => !self.rows.contains_key(key),
            Expect::At(key, version) => self.rows.get(key).is_some_and(|entry| entry.version == *version),
        }
    }

    fn commit(&mut self, batch: Batch) -> Result<Version, CommitError> {
        batch.check()?;
        let announcer = self.announcer.clone().ok_or(CommitError::Closed)?;
        if !batch.expect.iter().all(|expect| self.holds(expect)) {
            return Err(CommitError::Conflict);
        }
        if batch.writes.is_empty() {
            return Ok(self.commits);
        }
        self.commits += 1;
        let mut changed = Vec::with_capacity(batch.writes.len());
        for write in batch.writes {
            match write {
                Write::Put(key, value) => {
                    self.rows.insert(key.clone(), Entry { version: self.commits, value, damage: None });
                    changed.push(key);
                }
                Write::Delete(key) => {
                    self.rows.remove(&key);
                    changed.push(key);
                }
            }
        }
        announcer.announce(changed);
        Ok(self.commits)
    }
}

// No code that can panic runs under the lock, so a poisoned one still holds a whole state.
fn shared(inner: &RwLock<Inner>) -> RwLockReadGuard<'_, Inner> {
    inner.read().unwrap_or_else(PoisonError::into_inner)
}

fn exclusive(inner: &RwLock<Inner>) -> RwLockWriteGuard<'_, Inner> {
    inner.write().unwrap_or_else(PoisonError::into_inner)
}

impl Store for Memory {
    fn read<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Entry>>, ReadError>> {
        Box::pin(async move {
            let inner = shared(&self.inner);
            let inner = inner.open()?;
            Ok(keys.iter().map(|key| inner.rows.get(key).cloned()).collect())
        })
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a Key,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Rows, ReadError>> {
        let span = Span::of(prefix.as_bytes()).after(after.map(Key::as_bytes));
        Box::pin(async move { shared(&self.inner).open()?.scan(&span, Order::Ascending, limit) })
    }

    fn scan_back<'a>(
        &'a self,
        prefix: &'a Key,
        before: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Rows, ReadError>> {
        let span = Span::of(prefix.as_bytes()).before(before.map(Key::as_bytes));
        Box::pin(async move { shared(&self.inner).open()?.scan(&span, Order::Descending, limit) })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Version, CommitError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { exclusive(&inner).commit(batch) })
    }

    fn watch(&self, prefix: Key) -> Watch {
        match &shared(&self.inner).announcer {
            Some(announcer) => announcer.watch(prefix),
            None => Announcer::closed(prefix),
        }
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { exclusive(&inner).announcer = None })
    }
}
