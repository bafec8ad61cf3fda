//! Group commit: one writer thread in front of every disk engine, and reads that never run ahead of the disk.
//!
//! ```text
//! commit() -> bounded queue -> writer: drain a group -> check each batch against the engine and the group so far
//!          -> hide the keys being written -> one atomic apply -> durable sync -> unhide -> announce -> answer all
//! ```
//!
//! - **Hidden until durable.** Between apply and sync the engine already shows writes that a power cut can undo. Before apply,
//!   the old values of the keys in flight go into a map that reads and scans consult first; after the sync the map is emptied.
//!   Both happen under a lock that readers share, so a read that holds the lock sees one unchanging state: every read and every
//!   page of a scan is a snapshot.
//! - **Fail stop.** Any error or panic while a group is written is final: every batch in it fails with `Unknown`, the engine
//!   is dropped, and every later call fails with `Closed`. A failed sync cannot be repeated on the same file: the kernel
//!   may have dropped the dirty pages. Open the store again and read.
//! - **No work when idle.** The writer sleeps in `recv`; a single batch is written at once; only under load does the writer wait
//!   for more batches before it writes a group.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread,
    time::Duration,
};

use futures::future;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    api::{BoxFuture, CommitError, Entry, ReadError, ScanPage, Snapshot, Store},
    batch::{Batch, Expect, Key, LeaseId, StoreLimits, Version, Write},
    engine::{self, Checked, DiskEngine, EngineError, RowChange, Totals, View, Writes, caller_key, guarded, row_key},
    folder::Folder,
    format,
    lease::Leases,
    record,
    scan::{Direction, Span, check_page, fill},
    watch::{Announcer, Commit, Watch},
};

/// Batches in one group. 256 gave the best rate with every engine (512 gains nothing and lengthens the slowest commit).
const GROUP_MAX: usize = 256;

/// Bytes in one group, approximately: several groups a second even on a slow disk, and a bound on memory.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Batches waiting for the writer: four groups, so that it always has a full one, and a committer waits at most some tens of
/// milliseconds. When the queue is full, `commit` waits for space; this is the back pressure.
const QUEUE_MAX: usize = 4 * GROUP_MAX;

/// After a group of at least this many batches the writer waits [`GATHER_TIME`] before the next, because one sync costs
/// as much as some ten batches, however many it makes durable.
const LOADED_MIN: usize = 4;

/// How long a group gathers under load: a tenth of the 20 ms that a renewal may take.
const GATHER_TIME: Duration = Duration::from_millis(2);

type BytesOf<E> = <<E as DiskEngine>::View as View>::Bytes;

/// What readers share with the writer. `None` once closed.
type Shared<E> = Arc<RwLock<Option<Open<E>>>>;

struct Open<E: DiskEngine> {
    engine: Arc<E>,
    /// Old values of the keys in flight; empty when nothing is.
    hidden: BTreeMap<Vec<u8>, Option<BytesOf<E>>>,
    /// Number of the newest commit that readers see.
    shown: Version,
    announcer: Announcer,
}

// Nothing that can panic runs under the exclusive lock, so the state behind a poisoned lock is consistent.
fn shared<E: DiskEngine>(state: &Shared<E>) -> RwLockReadGuard<'_, Option<Open<E>>> {
    state.read().unwrap_or_else(PoisonError::into_inner)
}

fn exclusive<E: DiskEngine>(state: &Shared<E>) -> RwLockWriteGuard<'_, Option<Open<E>>> {
    state.write().unwrap_or_else(PoisonError::into_inner)
}

/// Callers grant and keep leases; the writer checks them.
type SharedLeases = Arc<Mutex<Leases>>;

fn locked(leases: &SharedLeases) -> MutexGuard<'_, Leases> {
    leases.lock().unwrap_or_else(PoisonError::into_inner)
}

type CommitResult = Result<Version, CommitError>;
type CommitReply = oneshot::Sender<CommitResult>;

enum Job {
    Commit(Batch, CommitReply),
    Close,
}

/// A store made of an engine and its writer thread.
pub(super) struct Grouped<E: DiskEngine> {
    state: Shared<E>,
    queue: mpsc::Sender<Job>,
    /// Becomes true when the engine has been dropped and its lock released.
    closed: watch::Receiver<bool>,
    /// Keys of the records that were damaged at opening.
    damaged: Vec<Key>,
    leases: SharedLeases,
}

impl<E: DiskEngine> Grouped<E> {
    /// Starts the writer, which owns `folder` and so its lock until the store is closed.
    pub(super) fn start(engine: E, checked: Checked, folder: Option<Folder>) -> Result<Self, EngineError> {
        let Checked { totals, damaged, leased } = checked;
        let engine = Arc::new(engine);
        let announcer = Announcer::new();
        let open = Open {
            engine: Arc::clone(&engine),
            hidden: BTreeMap::new(),
            shown: totals.commits,
            announcer: announcer.clone(),
        };
        let state = Arc::new(RwLock::new(Some(open)));
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let (tell_closed, closed) = watch::channel(false);
        let leases = SharedLeases::default();
        let mut writer =
            Writer { engine, state: Arc::clone(&state), announcer, totals, folder, leases: Arc::clone(&leases) };
        if !leased.is_empty() {
            guarded(|| writer.write(vec![leased.into_iter().fold(Batch::default(), Batch::delete)]))?;
        }
        thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                writer.run(jobs);
                let _ = tell_closed.send(true); // nobody may be waiting
            })
            .map_err(|error| EngineError::io("starting the writer thread", &error))?;
        Ok(Self { state, queue, closed, damaged, leases })
    }

    fn open(&self) -> Result<(), CommitError> {
        if shared(&self.state).is_some() { Ok(()) } else { Err(CommitError::Closed) }
    }

    /// Deletes entries of leases that have ended. An entry that was written again since keeps its new value.
    fn delete_leased(&self, keys: Vec<(Key, Version)>) -> BoxFuture<'static, Result<(), CommitError>> {
        let commits: Vec<_> =
            keys.into_iter().map(|(key, at)| self.commit(Batch::default().at(key.clone(), at).delete(key))).collect();
        Box::pin(async move {
            for outcome in future::join_all(commits).await {
                match outcome {
                    Ok(_) | Err(CommitError::Conflict) => {}
                    Err(other) => return Err(other),
                }
            }
            Ok(())
        })
    }

    fn read_now(&self, keys: &[Key]) -> Result<Snapshot, ReadError> {
        let state = shared(&self.state);
        let open = state.as_ref().ok_or(ReadError::Closed)?;
        guarded(|| {
            let view = open.engine.view()?;
            let entries = keys.iter().map(|key| open.read_one(&view, key)).collect::<Result<_, ReadError>>()?;
            Ok(Snapshot { at: open.shown, entries })
        })
    }

    fn scan_now(&self, span: &Span, order: Direction, limit: usize) -> Result<ScanPage, ReadError> {
        check_page(limit)?;
        let state = shared(&self.state);
        let open = state.as_ref().ok_or(ReadError::Closed)?;
        if limit == 0 || span.is_empty() {
            return Ok(ScanPage::default());
        }
        guarded(|| open.scan(span, order, limit))
    }
}

impl<E: DiskEngine> Open<E> {
    fn read_one(&self, view: &E::View, key: &Key) -> Result<Option<Entry>, ReadError> {
        let row = row_key(key.as_bytes());
        Ok(match self.hidden.get(&row) {
            Some(Some(old)) => Some(entry(key.as_bytes(), old.as_ref())),
            Some(None) => None,
            None => view.get(&row)?.map(|bytes| entry(key.as_bytes(), bytes.as_ref())),
        })
    }

    /// Merges the engine's rows, less those in flight, with the old values of those in flight.
    fn scan(&self, span: &Span, order: Direction, limit: usize) -> Result<ScanPage, ReadError> {
        let view = self.engine.view()?;
        let mut rows = view.rows(span, order)?.filter(|row| match row {
            Ok((key, _)) => self.hidden.is_empty() || !self.hidden.contains_key(key.as_ref()),
            Err(_) => true,
        });
        let in_flight = self.hidden.range::<[u8], _>(span.bounds());
        let in_flight = in_flight.filter_map(|(key, old)| Some((key.as_slice(), old.as_ref()?.as_ref())));
        let mut in_flight: Box<dyn Iterator<Item = (&[u8], &[u8])>> = match order {
            Direction::Ascending => Box::new(in_flight),
            Direction::Descending => Box::new(in_flight.rev()),
        };

        let mut row = rows.next().transpose()?;
        let mut old = in_flight.next();
        let next = || {
            let old_first = match (&row, &old) {
                (None, None) => return Ok(None),
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (Some((key, _)), Some((old, _))) => (*old < key.as_ref()) == (order == Direction::Ascending),
            };
            if old_first {
                let found = old.map(|(key, bytes)| (caller_key(key), bytes));
                old = in_flight.next();
                return Ok(found.map(|(key, bytes)| (Key::from(key), entry(key, bytes))));
            }
            let found = row.take();
            row = rows.next().transpose()?;
            let Some((key, raw)) = found else { return Ok(None) };
            let key = caller_key(key.as_ref());
            Ok::<_, ReadError>(Some((Key::from(key), entry(key, view.assemble(raw)?.as_ref()))))
        };
        fill(next, limit, &StoreLimits::EMBEDDED)
    }
}

fn entry(key: &[u8], bytes: &[u8]) -> Entry {
    match record::decode(key, bytes) {
        Ok((head, payload)) => Entry { version: head.version, value: payload.to_vec(), damage: None },
        Err(bad) => {
            let value = bytes.get(record::HEADER..).unwrap_or(bytes).to_vec();
            Entry { version: record::head(bytes).version, value, damage: Some(bad.to_string()) }
        }
    }
}

impl From<EngineError> for ReadError {
    fn from(fault: EngineError) -> Self {
        Self::Engine(fault.to_string())
    }
}

impl<E: DiskEngine> Store for Grouped<E> {
    fn read<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Snapshot, ReadError>> {
        Box::pin(async move { self.read_now(keys) })
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a Key,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<ScanPage, ReadError>> {
        let after = after.map(|key| row_key(key.as_bytes()));
        let span = Span::of(&row_key(prefix.as_bytes())).after(after.as_deref());
        Box::pin(async move { self.scan_now(&span, Direction::Ascending, limit) })
    }

    fn scan_back<'a>(
        &'a self,
        prefix: &'a Key,
        before: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<ScanPage, ReadError>> {
        let before = before.map(|key| row_key(key.as_bytes()));
        let span = Span::of(&row_key(prefix.as_bytes())).before(before.as_deref());
        Box::pin(async move { self.scan_now(&span, Direction::Descending, limit) })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Version, CommitError>> {
        let queue = self.queue.clone();
        Box::pin(async move {
            batch.check(&StoreLimits::EMBEDDED)?;
            let (answer, answered) = oneshot::channel();
            queue.send(Job::Commit(batch, answer)).await.map_err(|_| CommitError::Closed)?;
            // reached only if the writer thread died with this batch in hand
            let silent = || Err(CommitError::Unknown("the writer stopped without an answer".to_owned()));
            answered.await.unwrap_or_else(|_| silent())
        })
    }

    fn lease(&self, ttl: Duration, now: Duration) -> BoxFuture<'static, Result<LeaseId, CommitError>> {
        let given = self.open().map(|()| locked(&self.leases).grant(ttl, now));
        Box::pin(future::ready(given))
    }

    fn keep_alive(&self, lease: LeaseId, now: Duration) -> BoxFuture<'static, Result<(), CommitError>> {
        let kept = self
            .open()
            .and_then(|()| if locked(&self.leases).keep_alive(lease, now) { Ok(()) } else { Err(CommitError::Lapsed) });
        Box::pin(future::ready(kept))
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'static, Result<(), CommitError>> {
        self.delete_leased(locked(&self.leases).end(lease))
    }

    fn lapse(&self, now: Duration) -> BoxFuture<'static, Result<(), CommitError>> {
        self.delete_leased(locked(&self.leases).lapse(now))
    }

    fn watch(&self, prefixes: Vec<Key>) -> Watch {
        match shared(&self.state).as_ref() {
            Some(open) => open.announcer.watch(prefixes),
            None => Announcer::closed(),
        }
    }

    fn damaged(&self) -> &[Key] {
        &self.damaged
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let queue = self.queue.clone();
        let mut closed = self.closed.clone();
        Box::pin(async move {
            // both errors mean that the writer is already gone
            let _ = queue.send(Job::Close).await;
            drop(queue);
            let _ = closed.wait_for(|closed| *closed).await;
        })
    }
}

/// The thread that owns all writing.
struct Writer<E: DiskEngine> {
    engine: Arc<E>,
    state: Shared<E>,
    announcer: Announcer,
    totals: Totals,
    folder: Option<Folder>,
    leases: SharedLeases,
}

/// A group, checked and ready to write.
struct GroupPlan<B> {
    writes: Writes,
    hidden: BTreeMap<Vec<u8>, Option<B>>,
    changed: Vec<Commit>,
    totals: Totals,
}

/// One key: what is stored, and its header after the batches of the group decided so far.
struct SeenVersions<B> {
    stored: Option<B>,
    now: Option<record::Head>,
    written: bool,
}

impl<E: DiskEngine> Writer<E> {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut fault = None;
        let mut batches = 0;
        while let Some(Job::Commit(batch, answer)) = jobs.blocking_recv() {
            if batches >= LOADED_MIN {
                thread::sleep(GATHER_TIME);
            }
            let (group, close) = drain(batch, answer, &mut jobs);
            batches = group.len();
            fault = self.write_and_answer(group).err();
            if close || fault.is_some() {
                break;
            }
        }
        self.stop(jobs, fault);
    }

    /// Writes a group and answers each of its committers.
    fn write_and_answer(&mut self, group: Vec<(Batch, CommitReply)>) -> Result<(), EngineError> {
        let (batches, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        match guarded(|| self.write(batches)) {
            Ok(verdicts) => {
                for (answer, verdict) in answers.into_iter().zip(verdicts) {
                    let _ = answer.send(verdict); // the caller may have gone
                }
                Ok(())
            }
            Err(fault) => {
                tracing::error!(%fault, "the store has stopped");
                // close first: a caller that receives Unknown must find the store closed
                *exclusive(&self.state) = None;
                for answer in answers {
                    let _ = answer.send(Err(CommitError::Unknown(fault.to_string())));
                }
                Err(fault)
            }
        }
    }

    fn write(&mut self, batches: Vec<Batch>) -> Result<Vec<CommitResult>, EngineError> {
        let (plan, verdicts) = self.plan(batches)?;
        if plan.writes.is_empty() {
            return Ok(verdicts); // checked against a state that is durable already
        }
        if let Some(open) = exclusive(&self.state).as_mut() {
            open.hidden = plan.hidden;
        }
        self.engine.apply(&plan.writes)?;
        self.engine.sync()?;
        if let Some(folder) = &mut self.folder {
            folder.reached(plan.totals.commits)?;
        }
        let over = exclusive(&self.state).as_mut().map(|open| {
            open.shown = plan.totals.commits;
            std::mem::take(&mut open.hidden)
        });
        drop(over); // freed outside the lock
        self.totals = plan.totals;
        self.announcer.announce(plan.changed);
        Ok(verdicts)
    }

    /// Decides every batch against what is stored and what the group has changed so far. Nothing is answered before the sync,
    /// not even a conflict: it may depend on a batch of this group that is then lost.
    fn plan(&self, batches: Vec<Batch>) -> Result<(GroupPlan<BytesOf<E>>, Vec<CommitResult>), EngineError> {
        let view = self.engine.view()?;
        let mut seen = BTreeMap::new();
        let mut plan =
            GroupPlan { writes: Writes::new(), hidden: BTreeMap::new(), changed: Vec::new(), totals: self.totals };
        let mut verdicts = Vec::with_capacity(batches.len());
        for batch in batches {
            let verdict = if !holds(&view, &mut seen, &batch.expect)? {
                Err(CommitError::Conflict)
            } else if !self.leases_exist(&batch) {
                Err(CommitError::Lapsed)
            } else if batch.writes.is_empty() {
                Ok(plan.totals.commits)
            } else {
                plan.totals.commits += 1;
                plan.changed.push((plan.totals.commits, Vec::with_capacity(batch.writes.len())));
                for write in batch.writes {
                    plan.add(&view, &mut seen, &self.leases, write)?;
                }
                Ok(plan.totals.commits)
            };
            verdicts.push(verdict);
        }
        if !plan.writes.is_empty() {
            plan.writes.insert(format::TOTALS.to_vec(), RowChange::put(format::encode_totals(plan.totals)));
        }
        plan.hidden = seen.into_iter().filter(|(_, s)| s.written).map(|(row, s)| (row, s.stored)).collect();
        Ok((plan, verdicts))
    }

    /// Whether every lease of a batch exists. If one ends between this check and the commit, the new entries hang on none and stay
    /// until the store is opened again; so whoever writes with a lease ends it after its last commit.
    fn leases_exist(&self, batch: &Batch) -> bool {
        let leases = locked(&self.leases);
        batch.writes.iter().all(|write| match write {
            Write::PutLeased(_, _, lease) => leases.exists(*lease),
            Write::Put(..) | Write::Delete(_) => true,
        })
    }

    /// Stops after `Close` or a fault: answers all queued commits, drops the engine, then releases the folder's lock.
    fn stop(self, mut jobs: mpsc::Receiver<Job>, fault: Option<EngineError>) {
        jobs.close();
        while let Ok(job) = jobs.try_recv() {
            if let Job::Commit(_, answer) = job {
                let _ = answer.send(Err(CommitError::Closed));
            }
        }
        *exclusive(&self.state) = None;
        let Self { engine, folder, totals, .. } = self;
        // engines flush when dropped and may panic if that fails
        if let Err(fault) = guarded(|| {
            drop(engine);
            Ok::<_, EngineError>(())
        }) {
            tracing::warn!(%fault, "closing the store");
        }
        if let (Some(folder), None) = (folder, fault)
            && let Err(fault) = folder.mark(totals.commits)
        {
            tracing::warn!(%fault, "noting the last commit");
        }
    }
}

/// Takes the batches that are waiting, up to the limits of a group. True if the store is to close after this group.
fn drain(batch: Batch, answer: CommitReply, jobs: &mut mpsc::Receiver<Job>) -> (Vec<(Batch, CommitReply)>, bool) {
    let mut bytes = batch.bytes();
    let mut group = vec![(batch, answer)];
    while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
        match jobs.try_recv() {
            Ok(Job::Commit(batch, answer)) => {
                bytes += batch.bytes();
                group.push((batch, answer));
            }
            Ok(Job::Close) => return (group, true),
            Err(_) => break,
        }
    }
    (group, false)
}

type SeenKeys<B> = BTreeMap<Vec<u8>, SeenVersions<B>>;

fn load<'s, V: View>(
    view: &V,
    seen: &'s mut SeenKeys<V::Bytes>,
    key: &[u8],
) -> Result<&'s mut SeenVersions<V::Bytes>, EngineError> {
    use std::collections::btree_map::Entry;
    match seen.entry(row_key(key)) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(new) => {
            let stored = view.get(new.key())?;
            let now = stored.as_ref().map(|bytes| record::head(bytes.as_ref()));
            Ok(new.insert(SeenVersions { stored, now, written: false }))
        }
    }
}

fn holds<V: View>(view: &V, seen: &mut SeenKeys<V::Bytes>, expect: &[Expect]) -> Result<bool, EngineError> {
    for expect in expect {
        let (key, want) = match expect {
            Expect::Absent(key) => (key, None),
            Expect::At(key, version) => (key, Some(*version)),
        };
        if load(view, seen, key.as_bytes())?.now.map(|head| head.version) != want {
            return Ok(false);
        }
    }
    Ok(true)
}

impl<B: engine::Bytes> GroupPlan<B> {
    /// Adds one write of the batch with the number `totals.commits`.
    fn add<V: View<Bytes = B>>(
        &mut self,
        view: &V,
        seen: &mut SeenKeys<B>,
        leases: &SharedLeases,
        write: Write,
    ) -> Result<(), EngineError> {
        let (key, value, lease) = match write {
            Write::Put(key, value) => (key, Some(value), None),
            Write::PutLeased(key, value, lease) => (key, Some(value), Some(lease)),
            Write::Delete(key) => (key, None, None),
        };
        let known = load(view, seen, key.as_bytes())?;
        let commit = self.totals.commits;
        let encoded = value.map(|value| record::encode(key.as_bytes(), commit, lease.is_some(), &value));
        if let Some(before) = known.now {
            self.totals.remove(before);
        }
        known.now = encoded.as_ref().map(|(head, _)| *head);
        if let Some(after) = known.now {
            self.totals.add(after);
        }
        known.written = true;
        let before = known.stored.as_ref().map_or(0, |stored| stored.as_ref().len());
        self.writes.insert(row_key(key.as_bytes()), RowChange { after: encoded.map(|(_, bytes)| bytes), before });
        locked(leases).attach(&key, commit, lease);
        if let Some((_, keys)) = self.changed.last_mut() {
            keys.push(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
