//! What every sequence holds: the store, the rules, the keys, the clock. And the few ways in which they are used.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use arc_swap::ArcSwap;
use pki::{Name, TrustDomain, UnixTime};
use policy::Ruleset;

use crate::{
    attest::Attestors,
    core::{
        audit::AuditRecord,
        change::{Changes, Expectation, RecordWrite, encoded},
        keys, kinds,
        places::Places,
        plan::Common,
        records::Seen,
        refusal::{Fault, Refusal},
        replica::{Replica, RunId},
        stored::{self, RawRecord, Stored},
        timekeeping::CountedTime,
    },
    ports::{clock::Clock, documents::Documents, entropy::Entropy, log::AsJson, metrics::Metrics},
    registry::{
        damaged::DamagedRecords,
        dial_back::DialBacks,
        enforcer::Enforcer,
        lead::Leading,
        lease::ReplicaLease,
        lists::Lists,
        live::Live,
        queue::{self, Queue},
        sessions::Sessions,
        tunnel_table::Tunnels,
    },
    signer::{Authority, SignError, Signer},
    store::{self, Batch, CommitError, ReadError, Store},
};

/// Most attempts of a sequence while others change the same records: enough for every approver of a large team at the same moment.
const ATTEMPTS: u32 = 16;

/// The direction of a scan.
#[derive(Copy, Clone)]
enum ScanOrder {
    Ascending,
    Descending,
}

/// Settings for the sequences that a reload may change.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port` of the enroll face, as clients are told.
    pub public_enroll: String,
    /// `host:port` of the manage face, as clients are told.
    pub public_manage: String,
    /// `host:port` of the proxy face, as clients are told, if there is one.
    pub public_proxy: Option<String>,
    /// `host:port` for dial-backs, if it differs from the face of the stream.
    pub dial_back_at: Option<String>,
    /// The DNS name below which service names are accepted on the proxy face, if there is one.
    pub services_below: Option<String>,
    /// Host names of this gateway for machines.
    pub tunnel_hosts: Vec<String>,
    /// Host names of this gateway for people who connect to services.
    pub proxy_hosts: Vec<String>,
    /// The address of the revocation lists for third parties, if certificates contain it.
    pub public_crl: Option<pki::ListsUrl>,
    /// Host names of this gateway on the enroll face.
    pub hosts: Vec<String>,
    /// How long a request may wait.
    pub pending_ttl: std::time::Duration,
    /// Most waiting requests.
    pub pending_max: usize,
    /// Most waiting requests from one prefix.
    pub pending_max_per_prefix: usize,
    /// Most certificates of each kind for a lineage within one lifetime of a certificate.
    pub certificates_per_life: u32,
    /// How long audit events are kept.
    pub audit_retention: std::time::Duration,
    /// The enabled attestors.
    pub attestors: Arc<Attestors>,
}

/// Everything that a sequence uses.
pub struct Shell {
    /// Records.
    pub store: Arc<dyn Store>,
    /// The policy in force.
    pub rules: ArcSwap<Ruleset>,
    /// The trust domain.
    pub domain: TrustDomain,
    /// This process among the gateways of the store.
    pub replica: Replica,
    /// The lease of this process, under which it writes records that must not outlive it.
    pub lease: ReplicaLease,
    /// The authority in force.
    pub authority: Arc<ArcSwap<Authority>>,
    /// Signs with the authority's keys.
    pub signer: Signer,
    /// Settings.
    pub settings: ArcSwap<Settings>,
    /// The clock.
    pub clock: Clock,
    /// Randomness.
    pub entropy: Entropy,
    /// Open connections.
    pub live: Arc<Live>,
    /// Tunnels at this gateway; `flow::locate` knows the others.
    pub tunnels: Arc<Tunnels>,
    /// Open sessions.
    pub sessions: Arc<Sessions>,
    /// The enforcer, which ends connections and sessions.
    pub enforcer: Enforcer,
    /// Streams that may be moved by a dial-back.
    pub dial_backs: Arc<DialBacks>,
    /// The newest revocation lists.
    pub lists: Lists,
    /// The time as counted by housekeeping; nothing before its first round.
    pub counted: Mutex<Option<CountedTime>>,
    /// The damaged records.
    pub damaged: DamagedRecords,
    /// Encrypts positions in listings.
    pub places: Places,
    /// The last known lock epoch.
    pub epoch: AtomicU64,
    /// The current order of signed statements.
    pub order: AtomicU64,
    /// The waiting requests.
    pub queue: Queue,
    /// Whether this gateway is the leader of its store.
    pub leading: Leading,
    /// Documents for attestors, such as key sets, kept up to date.
    pub documents: Documents,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Notified when the store has stopped: no commit is possible any more, and the process must be restarted.
    pub fatal: Arc<tokio::sync::Notify>,
}

/// The actor of an audit event, and the correlation id.
#[derive(Clone, Debug)]
pub struct Actor<'a> {
    /// An identity, `gateway`, or `key:<digest>`.
    pub who: &'a str,
    /// Correlation id.
    pub instance: &'a str,
}

/// A commit that may be tried again after a fresh read.
#[derive(Debug)]
pub enum Retry {
    /// Another commit changed a record first.
    Conflict,
    /// A final refusal.
    Refused(Refusal),
}

impl From<Refusal> for Retry {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// For a change that is not tried again: after a conflict the client may ask again.
impl From<Retry> for Refusal {
    fn from(retry: Retry) -> Self {
        match retry {
            Retry::Conflict => Fault::Contention.into(),
            Retry::Refused(refusal) => refusal,
        }
    }
}

impl From<SignError> for Retry {
    fn from(error: SignError) -> Self {
        match error {
            SignError::Superseded => Self::Conflict,
            error @ (SignError::Unavailable | SignError::Refused(_)) => Self::Refused(error.into()),
        }
    }
}

impl From<Fault> for Retry {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault.into())
    }
}

impl Shell {
    /// Combines the opened and loaded parts; no connection exists yet.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        rules: Ruleset,
        authority: Authority,
        settings: Settings,
        name: Name,
        (clock, entropy): (Clock, Entropy),
    ) -> Arc<Self> {
        let metrics = Arc::new(Metrics::new());
        let domain = authority.domain().clone();
        let authority = Arc::new(ArcSwap::from_pointee(authority));
        Arc::new(Self {
            places: Places::new(entropy.bytes()),
            store,
            rules: ArcSwap::from_pointee(rules),
            domain,
            replica: Replica { name, run: RunId::new(entropy.bytes()) },
            lease: ReplicaLease::default(),
            signer: Signer::new(Arc::clone(&authority)),
            authority,
            settings: ArcSwap::from_pointee(settings),
            clock,
            entropy,
            live: Live::new(Arc::clone(&metrics)),
            tunnels: Tunnels::new(),
            sessions: Sessions::new(),
            enforcer: Enforcer::default(),
            dial_backs: DialBacks::new(),
            lists: Lists::default(),
            counted: Mutex::new(None),
            damaged: DamagedRecords::new(Arc::clone(&metrics)),
            epoch: AtomicU64::new(0),
            order: AtomicU64::new(0),
            queue: Queue::default(),
            leading: Leading::default(),
            documents: Documents::default(),
            metrics,
            fatal: Arc::default(),
        })
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// The time as counted by housekeeping, after its first round.
    #[must_use]
    pub fn counted(&self) -> Option<CountedTime> {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The authority in force now. Take values that must be consistent from the same one.
    #[must_use]
    pub fn ca(&self) -> Arc<Authority> {
        self.authority.load_full()
    }

    /// The time to write on an event, in milliseconds.
    fn stamp(&self) -> u64 {
        let wall = self.clock.now_ms();
        self.counted().map_or(wall, |counted| counted.stamp(wall, self.clock.uptime()))
    }

    /// Values from these settings that go into every certificate.
    #[must_use]
    pub fn common<'a>(&'a self, ca: &'a Authority, settings: &'a Settings) -> Common<'a> {
        Common {
            domain: &self.domain,
            lists: settings.public_crl.as_ref(),
            signing: ca.signing(),
            per_life: settings.certificates_per_life,
        }
    }

    /// Reads one record. For more than one use [`Shell::look`].
    ///
    /// # Errors
    /// [`Fault::Read`] if the store fails, [`Fault::Record`] if the record is damaged.
    pub async fn get<T: Stored>(&self, key: String) -> Result<Option<Seen<T>>, Fault> {
        let keys = [store::Key::from(key)];
        let read = self.store.read(&keys).await.map_err(|error| self.fault(error))?;
        read.only().map(|entry| self.parse(&keys[0], entry)).transpose()
    }

    /// Scans records under a prefix, ascending, after a key. One that does not read as a `T` is left out, and named in log
    /// and metric: it must not break a list. Whatever hangs on one record reads it by [`Shell::get`], which refuses. A lock is never
    /// left out: see [`Stored::unreadable`].
    ///
    /// # Errors
    /// [`Fault::Read`] when the store fails.
    pub async fn scan<T: Stored>(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Seen<T>)>, Fault> {
        self.pages(prefix, after, limit, ScanOrder::Ascending).await
    }

    /// Scans records under a prefix, newest key first, before a key; otherwise as [`Shell::scan`].
    ///
    /// # Errors
    /// As [`Shell::scan`].
    pub async fn scan_back<T: Stored>(
        &self,
        prefix: &str,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Seen<T>)>, Fault> {
        self.pages(prefix, before, limit, ScanOrder::Descending).await
    }

    /// Reads pages until there are `limit` readable rows, or no more.
    async fn pages<T: Stored>(
        &self,
        prefix: &str,
        from: Option<&str>,
        limit: usize,
        order: ScanOrder,
    ) -> Result<Vec<(String, Seen<T>)>, Fault> {
        let prefix = store::Key::from(prefix);
        let mut from = from.map(store::Key::from);
        let mut rows = Vec::new();
        while rows.len() < limit {
            let page = (limit - rows.len()).min(store::SCAN_MAX);
            let found = match order {
                ScanOrder::Ascending => self.store.scan(&prefix, from.as_ref(), page).await,
                ScanOrder::Descending => self.store.scan_back(&prefix, from.as_ref(), page).await,
            };
            let found = found.map_err(|error| self.fault(error))?;
            let last = !found.more;
            from = found.rows.last().map(|(key, _)| key.clone());
            let rows_read = found.rows.into_iter();
            rows.extend(rows_read.filter_map(|(key, entry)| Some((key.to_string(), self.parse(&key, entry).ok()?))));
            if last {
                break;
            }
        }
        Ok(rows)
    }

    /// The fault for a failed read. If the store is closed, the process ends.
    pub(super) fn fault(&self, error: ReadError) -> Fault {
        match error {
            ReadError::Unavailable { retry_after, why } => Fault::Unavailable { retry_after, why },
            ReadError::Closed => {
                self.fatal.notify_one();
                Fault::Read(error.to_string())
            }
            ReadError::Corrupt { .. } | ReadError::Engine(_) | ReadError::PageTooLarge { .. } => {
                Fault::Read(error.to_string())
            }
        }
    }

    /// Finds the outcome of a commit that the store reported as unknown: it happened if its first event exists. A commit without an
    /// event is decided again on the current records.
    async fn settled(&self, event: Option<store::Key>, why: String) -> Result<u64, CommitError> {
        tracing::warn!(why, "the store could not tell what became of a commit: reading");
        let Some(event) = event else { return Err(CommitError::Conflict) };
        match self.store.read(&[event]).await {
            Ok(found) => found.only().map(|entry| entry.version).ok_or(CommitError::Conflict),
            Err(ReadError::Unavailable { retry_after, why }) => Err(CommitError::Unavailable { retry_after, why }),
            Err(
                ReadError::Closed | ReadError::Corrupt { .. } | ReadError::Engine(_) | ReadError::PageTooLarge { .. },
            ) => Err(CommitError::Unknown(why)),
        }
    }

    /// The result for a failed commit.
    fn not_committed(&self, error: CommitError) -> Retry {
        if error != CommitError::Conflict {
            self.metrics.commit_failed();
        }
        match error {
            CommitError::Conflict => Retry::Conflict,
            CommitError::Unavailable { retry_after, why } => Fault::Unavailable { retry_after, why }.into(),
            CommitError::Invalid(_) | CommitError::Lapsed => Fault::Commit(error.to_string()).into(),
            // No commit is possible any more, and only a restart shows which have happened.
            CommitError::Unknown(_) | CommitError::Closed => {
                self.fatal.notify_one();
                Fault::Commit(error.to_string()).into()
            }
        }
    }

    /// What an entry holds. Damage is noted on the way.
    fn parse<T: Stored>(&self, key: &store::Key, entry: store::Entry) -> Result<Seen<T>, Fault> {
        let key = key.to_string();
        let (seen, damage) = stored::read(&key, &raw(entry));
        if let Some(fault) = &damage {
            self.damaged.note(&key, fault);
        }
        seen.ok_or_else(|| damage.unwrap_or(Fault::Record(key)))
    }

    /// Commits changes with their audit events, durably.
    ///
    /// # Errors
    /// [`Retry::Conflict`] when an expectation failed, otherwise what went wrong.
    pub async fn commit(&self, changes: Changes, actor: &Actor<'_>) -> Result<u64, Retry> {
        let mut batch = Batch::default();
        for expect in changes.expect {
            batch.expect.push(match expect {
                Expectation::Absent(key) => store::Expect::Absent(key.into()),
                Expectation::At(key, version) => store::Expect::At(key.into(), version),
            });
        }
        let mut queue = Vec::new();
        for write in changes.writes {
            queue.extend(of_queue(&write));
            batch.writes.push(match write {
                RecordWrite::Put(key, value) => {
                    debug_assert!(kinds::of(&key).is_some(), "`{key}` has no row in core/kinds.rs");
                    store::Write::Put(key.into(), value)
                }
                RecordWrite::Delete(key) => store::Write::Delete(key.into()),
            });
        }
        let at_ms = self.stamp();
        let mut records = Vec::with_capacity(changes.events.len());
        let mut first_event = None;
        for (index, event) in changes.events.into_iter().enumerate() {
            let mut tie: [u8; 6] = self.entropy.bytes();
            // Events of one batch keep their order.
            tie[0] = u8::try_from(index).unwrap_or(u8::MAX);
            let record = event.record(actor.who, at_ms, actor.instance);
            let value = encoded(&record);
            let key = store::Key::from(keys::audit(at_ms, tie));
            first_event.get_or_insert_with(|| key.clone());
            batch.writes.push(store::Write::Put(key, value));
            records.push(record);
        }
        let started = tokio::time::Instant::now();
        let outcome = match self.store.commit(batch).await {
            Err(CommitError::Unknown(why)) => self.settled(first_event, why).await,
            told => told,
        };
        self.metrics.commit(started.elapsed());
        if let Ok(version) = &outcome {
            // After the commit: a batch that lost a race has not happened.
            records.iter().for_each(log);
            if let Some(waiting) = self.queue.committed(*version, queue).await {
                self.metrics.waiting(waiting);
            }
        }
        outcome.map_err(|error| self.not_committed(error))
    }
}

/// The change of the queue by a write.
fn of_queue(write: &RecordWrite) -> Option<queue::QueueChange> {
    let (RecordWrite::Put(key, _) | RecordWrite::Delete(key)) = write;
    let id = key.strip_prefix(keys::WAITING)?.to_owned();
    let entry = match write {
        RecordWrite::Put(_, value) => serde_json::from_slice(value).ok(),
        RecordWrite::Delete(_) => None,
    };
    Some((id, entry))
}

/// One line for an event.
fn log(record: &AuditRecord) {
    tracing::info!(
        target: "audit",
        event = record.event, actor = record.actor, subject = record.subject,
        rules = %AsJson(&record.rules), instance = record.instance, detail = %AsJson(&record.detail),
    );
}

/// Repeats a sequence while other commits change its records first.
///
/// # Errors
/// The sequence's refusal, or [`Fault::Contention`].
pub async fn retrying<T, F, Fut>(mut sequence: F) -> Result<T, Refusal>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Retry>>,
{
    for _ in 0..ATTEMPTS {
        match sequence().await {
            Ok(done) => return Ok(done),
            Err(Retry::Refused(refusal)) => return Err(refusal),
            Err(Retry::Conflict) => {}
        }
    }
    Err(Fault::Contention.into())
}

/// A store entry in the form that decisions read.
pub(super) fn raw(entry: store::Entry) -> RawRecord {
    let record = match entry.damage {
        None => Ok(entry.value),
        Some(why) => Err(why),
    };
    Seen { record, version: entry.version }
}

/// Leaves out, in a list, what depends on a damaged record; other faults remain.
///
/// # Errors
/// The fault, if it is not [`Fault::Record`].
pub fn readable<T>(found: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Fault::Record(_)) => Ok(None),
        Err(other) => Err(other),
    }
}
