//! The store in memory: the executable specification of the contract. Every other engine must behave the same. Its contents
//! are lost when the process ends, so it is for tests and for `dev`.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use super::{
    api::{BoxFuture, CommitError, Entry, ReadError, ScanPage, Snapshot, Store},
    batch::{Batch, Expect, Key, LeaseId, StoreLimits, Version, Write},
    lease::Leases,
    scan::{Direction, Span, check_page, fill},
    watch::{Announcer, Watch},
};

/// A store without a file.
pub struct Memory {
    inner: Arc<RwLock<Inner>>,
}

struct Inner {
    rows: BTreeMap<Key, Entry>,
    commits: Version,
    leases: Leases,
    /// `None` once closed.
    announcer: Option<Announcer>,
}

impl Default for Memory {
    fn default() -> Self {
        let inner =
            Inner { rows: BTreeMap::new(), commits: 0, leases: Leases::default(), announcer: Some(Announcer::new()) };
        Self { inner: Arc::new(RwLock::new(inner)) }
    }
}

impl Inner {
    fn open(&self) -> Result<&Self, ReadError> {
        if self.announcer.is_some() { Ok(self) } else { Err(ReadError::Closed) }
    }

    fn scan(&self, span: &Span, order: Direction, limit: usize) -> Result<ScanPage, ReadError> {
        check_page(limit)?;
        if span.is_empty() || limit == 0 {
            return Ok(ScanPage::default());
        }
        let rows = self.rows.range::<[u8], _>(span.bounds()).map(|(key, entry)| (key.clone(), entry.clone()));
        let mut rows: Box<dyn Iterator<Item = _>> = match order {
            Direction::Ascending => Box::new(rows),
            Direction::Descending => Box::new(rows.rev()),
        };
        fill(|| Ok(rows.next()), limit, &StoreLimits::EMBEDDED)
    }

    fn holds(&self, expect: &Expect) -> bool {
        match expect {
            Expect::Absent(key) => !self.rows.contains_key(key),
            Expect::At(key, version) => self.rows.get(key).is_some_and(|entry| entry.version == *version),
        }
    }

    fn commit(&mut self, batch: Batch) -> Result<Version, CommitError> {
        batch.check(&StoreLimits::EMBEDDED)?;
        let announcer = self.announcer.clone().ok_or(CommitError::Closed)?;
        if !batch.expect.iter().all(|expect| self.holds(expect)) {
            return Err(CommitError::Conflict);
        }
        let lease_exists = |write: &Write| match write {
            Write::PutLeased(_, _, lease) => self.leases.exists(*lease),
            Write::Put(..) | Write::Delete(_) => true,
        };
        if !batch.writes.iter().all(lease_exists) {
            return Err(CommitError::Lapsed);
        }
        if batch.writes.is_empty() {
            return Ok(self.commits);
        }
        self.commits += 1;
        let changed = batch.writes.into_iter().map(|write| self.write(write)).collect();
        announcer.announce(vec![(self.commits, changed)]);
        Ok(self.commits)
    }

    fn write(&mut self, write: Write) -> Key {
        let (key, value, lease) = match write {
            Write::Put(key, value) => (key, Some(value), None),
            Write::PutLeased(key, value, lease) => (key, Some(value), Some(lease)),
            Write::Delete(key) => (key, None, None),
        };
        match value {
            Some(value) => {
                drop(self.rows.insert(key.clone(), Entry { version: self.commits, value, damage: None }));
            }
            None => drop(self.rows.remove(&key)),
        }
        self.leases.attach(&key, self.commits, lease);
        key
    }

    /// Deletes entries of leases that have ended.
    fn delete_leased(&mut self, keys: Vec<(Key, Version)>) -> Result<(), CommitError> {
        for (key, _) in keys {
            self.commit(Batch::default().delete(key))?;
        }
        Ok(())
    }
}

// No code that can panic runs under the lock, so the state behind a poisoned lock is consistent.
fn shared(inner: &RwLock<Inner>) -> RwLockReadGuard<'_, Inner> {
    inner.read().unwrap_or_else(PoisonError::into_inner)
}

fn exclusive(inner: &RwLock<Inner>) -> RwLockWriteGuard<'_, Inner> {
    inner.write().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// Runs `work` under the lock; fails with `Closed` after [`Store::close`].
    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner) -> Result<T, CommitError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, CommitError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let mut inner = exclusive(&inner);
            if inner.announcer.is_none() {
                return Err(CommitError::Closed);
            }
            work(&mut inner)
        })
    }
}

impl Store for Memory {
    fn read<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Snapshot, ReadError>> {
        Box::pin(async move {
            let inner = shared(&self.inner);
            let inner = inner.open()?;
            let entries = keys.iter().map(|key| inner.rows.get(key).cloned()).collect();
            Ok(Snapshot { at: inner.commits, entries })
        })
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a Key,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<ScanPage, ReadError>> {
        let span = Span::of(prefix.as_bytes()).after(after.map(Key::as_bytes));
        Box::pin(async move { shared(&self.inner).open()?.scan(&span, Direction::Ascending, limit) })
    }

    fn scan_back<'a>(
        &'a self,
        prefix: &'a Key,
        before: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<ScanPage, ReadError>> {
        let span = Span::of(prefix.as_bytes()).before(before.map(Key::as_bytes));
        Box::pin(async move { shared(&self.inner).open()?.scan(&span, Direction::Descending, limit) })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Version, CommitError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { exclusive(&inner).commit(batch) })
    }

    fn lease(&self, ttl: Duration, now: Duration) -> BoxFuture<'static, Result<LeaseId, CommitError>> {
        self.with(move |inner| Ok(inner.leases.grant(ttl, now)))
    }

    fn keep_alive(&self, lease: LeaseId, now: Duration) -> BoxFuture<'static, Result<(), CommitError>> {
        self.with(move |inner| if inner.leases.keep_alive(lease, now) { Ok(()) } else { Err(CommitError::Lapsed) })
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'static, Result<(), CommitError>> {
        self.with(move |inner| {
            let over = inner.leases.end(lease);
            inner.delete_leased(over)
        })
    }

    fn lapse(&self, now: Duration) -> BoxFuture<'static, Result<(), CommitError>> {
        self.with(move |inner| {
            let over = inner.leases.lapse(now);
            inner.delete_leased(over)
        })
    }

    fn watch(&self, prefixes: Vec<Key>) -> Watch {
        match &shared(&self.inner).announcer {
            Some(announcer) => announcer.watch(prefixes),
            None => Announcer::closed(),
        }
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { exclusive(&inner).announcer = None })
    }
}
