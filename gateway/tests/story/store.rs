//! A store between the gateway and its engine: it counts what is asked of it, and fails as it is told to.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use gateway::store::{
    Batch, BoxFuture, CommitError, Key, LeaseId, ReadError, ScanPage, Snapshot, Store, StoreLimits, Version, Watch,
};

/// How a store is.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It does what it is asked.
    #[default]
    Well,
    /// Its reads never end.
    Hangs,
    /// It cannot be reached.
    Away,
    /// It is closed for good.
    Closed,
}

/// What becomes of a commit.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It happens, and is answered.
    Happens,
    /// It happens, and the answer is lost.
    HappensUntold,
    /// It is lost, and so is the answer.
    LostUntold,
}

/// When whoever comes while it is away is to come again.
pub const AWAY: Duration = Duration::from_secs(7);

/// The store.
pub struct TestStore {
    inner: Arc<dyn Store>,
    health: Mutex<Health>,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    limits: StoreLimits,
    rounds: AtomicUsize,
    leaving: AtomicBool,
    rival: Arc<Mutex<Option<Batch>>>,
}

impl TestStore {
    /// In front of an engine, with its limits.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        let limits = inner.limits();
        Self {
            inner,
            health: Mutex::default(),
            fates: Arc::default(),
            limits,
            rounds: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            rival: Arc::default(),
        }
    }

    /// The same with limits of its own.
    pub fn with_limits(inner: Arc<dyn Store>, limits: StoreLimits) -> Self {
        Self { limits, ..Self::new(inner) }
    }

    /// What it stands in front of.
    pub fn inner(&self) -> Arc<dyn Store> {
        Arc::clone(&self.inner)
    }

    /// From now on it is so.
    pub fn becomes(&self, health: Health) {
        *self.health.lock().unwrap() = health;
    }

    /// What becomes of the next commits; of those after them nothing is said.
    pub fn next_commits(&self, fates: impl IntoIterator<Item = Fate>) {
        *self.fates.lock().unwrap() = fates.into_iter().collect();
    }

    /// The next commit is the last thing it does.
    pub fn goes_away_with_the_next_commit(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }

    /// Somebody else commits this just before the next commit that changes something.
    pub fn before_the_next_commit(&self, rival: Batch) {
        *self.rival.lock().unwrap() = Some(rival);
    }

    /// Whether that somebody has come.
    pub fn rival_came(&self) -> bool {
        self.rival.lock().unwrap().is_none()
    }

    /// How many of the fates were not met yet.
    pub fn fates_left(&self) -> usize {
        self.fates.lock().unwrap().len()
    }

    /// How often whoever asks read it since this was last asked, tasks of the gateway left out: each read and each page is one round
    /// trip of an engine elsewhere.
    pub fn rounds(&self) -> usize {
        self.rounds.swap(0, Ordering::SeqCst)
    }

    async fn reads<T>(&self, answer: BoxFuture<'_, Result<T, ReadError>>) -> Result<T, ReadError> {
        let health = *self.health.lock().unwrap();
        self.rounds.fetch_add(usize::from(tokio::task::try_id().is_none()), Ordering::SeqCst);
        match health {
            Health::Well => answer.await,
            Health::Hangs => std::future::pending().await,
            Health::Away => Err(ReadError::Unavailable { retry_after: AWAY, why: "as told".to_owned() }),
            Health::Closed => Err(ReadError::Closed),
        }
    }

    fn writes<T: Send + 'static>(
        &self,
        answer: BoxFuture<'static, Result<T, CommitError>>,
    ) -> BoxFuture<'static, Result<T, CommitError>> {
        match *self.health.lock().unwrap() {
            Health::Well => answer,
            Health::Away => {
                let away = CommitError::Unavailable { retry_after: AWAY, why: "as told".to_owned() };
                Box::pin(std::future::ready(Err(away)))
            }
            Health::Hangs | Health::Closed => Box::pin(std::future::ready(Err(CommitError::Closed))),
        }
    }

    /// A commit with the next fate.
    fn fated(&self, batch: Batch) -> BoxFuture<'static, Result<Version, CommitError>> {
        let (inner, fates, rival) = (Arc::clone(&self.inner), Arc::clone(&self.fates), Arc::clone(&self.rival));
        Box::pin(async move {
            // Of a batch that changes nothing there is nothing to lose.
            let rival = if batch.writes.is_empty() { None } else { rival.lock().unwrap().take() };
            if let Some(rival) = rival {
                inner.commit(rival).await.unwrap();
            }
            let fate = if batch.writes.is_empty() { None } else { fates.lock().unwrap().pop_front() };
            let untold = || CommitError::Unknown("as told".to_owned());
            match fate {
                None | Some(Fate::Happens) => inner.commit(batch).await,
                Some(Fate::HappensUntold) => {
                    // One that comes second does not happen, whoever hears of it.
                    let _ = inner.commit(batch).await;
                    Err(untold())
                }
                Some(Fate::LostUntold) => Err(untold()),
            }
        })
    }
}

impl Store for TestStore {
    fn limits(&self) -> StoreLimits {
        self.limits
    }

    fn read<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Snapshot, ReadError>> {
        Box::pin(self.reads(self.inner.read(keys)))
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a Key,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<ScanPage, ReadError>> {
        Box::pin(self.reads(self.inner.scan(prefix, after, limit)))
    }

    fn scan_back<'a>(
        &'a self,
        prefix: &'a Key,
        before: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<ScanPage, ReadError>> {
        Box::pin(self.reads(self.inner.scan_back(prefix, before, limit)))
    }

    fn damaged(&self) -> &[Key] {
        self.inner.damaged()
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Version, CommitError>> {
        if let Err(invalid) = batch.check(&self.limits) {
            return Box::pin(std::future::ready(Err(invalid.into())));
        }
        let answer = self.writes(self.fated(batch));
        if self.leaving.swap(false, Ordering::SeqCst) {
            self.becomes(Health::Away);
        }
        answer
    }

    fn lease(&self, ttl: Duration, now: Duration) -> BoxFuture<'static, Result<LeaseId, CommitError>> {
        self.writes(self.inner.lease(ttl, now))
    }

    fn keep_alive(&self, lease: LeaseId, now: Duration) -> BoxFuture<'static, Result<(), CommitError>> {
        self.writes(self.inner.keep_alive(lease, now))
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'static, Result<(), CommitError>> {
        self.writes(self.inner.revoke(lease))
    }

    fn lapse(&self, now: Duration) -> BoxFuture<'static, Result<(), CommitError>> {
        self.writes(self.inner.lapse(now))
    }

    fn watch(&self, prefixes: Vec<Key>) -> Watch {
        self.inner.watch(prefixes)
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.inner.close()
    }
}
