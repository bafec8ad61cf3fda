//! The table of sessions: every stream that crosses the gateway, who opened it, where it leads, why it was allowed. A lock,
//! a new policy, an expiry or a person ends those that an index finds here.

use std::{
    collections::{BTreeSet, HashMap, VecDeque, hash_map::RandomState},
    hash::{BuildHasher, Hash},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use pki::{Identity, KeyDigest};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    core::session::{EndReason, Mode},
    limits::{SESSION_EVENTS_KEPT, SESSIONS_KEPT},
    registry::live::{self, ConnId},
};

/// By which door a session came.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum EntryPoint {
    /// HTTP `CONNECT` on the proxy face.
    Connect,
    /// Raw TLS to `<service>--<machine>.<gateway>`.
    Raw,
    /// A stream of a person's helper.
    Helper,
    /// A stream of a machine's own tunnel.
    Tunnel,
}

impl EntryPoint {
    /// The word for views and the audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Raw => "raw",
            Self::Helper => "helper",
            Self::Tunnel => "tunnel",
        }
    }
}

/// Who opened a session, as of then.
#[derive(Clone, Debug)]
pub struct Party {
    /// Who.
    pub identity: Identity,
    /// The lineage of their certificate.
    pub lineage: String,
    /// The key they showed.
    pub key: KeyDigest,
    /// The connection they came by.
    pub conn: ConnId,
    /// The tunnel, when it came by one.
    pub tunnel: Option<u64>,
    /// Where from.
    pub source: IpAddr,
}

/// What a session is about; fixed from its beginning.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Who opened it.
    pub caller: Party,
    /// The machine it leads to.
    pub machine: Identity,
    /// The lineage of that machine's certificate.
    pub machine_lineage: String,
    /// The tunnel it goes through.
    pub tunnel: u64,
    /// The service there.
    pub service: String,
    /// Whether the gateway carries ciphertext only.
    pub mode: Mode,
    /// The rules that allowed it.
    pub rules: Vec<String>,
    /// By which door.
    pub door: EntryPoint,
    /// When, milliseconds since the Unix epoch.
    pub started_ms: u64,
}

/// One stream with who, what, when.
#[derive(Debug)]
pub struct Session {
    id: String,
    about: SessionInfo,
    to_machine: AtomicU64,
    from_machine: AtomicU64,
    reason: OnceLock<EndReason>,
    ended_ms: OnceLock<u64>,
    moved: AtomicUsize,
    told: CancellationToken,
    ended: CancellationToken,
}

impl Session {
    /// Its id, hex.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it is about.
    #[must_use]
    pub const fn about(&self) -> &SessionInfo {
        &self.about
    }

    /// Bytes carried so far: to the machine, and from it.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.to_machine.load(Ordering::Relaxed), self.from_machine.load(Ordering::Relaxed))
    }

    /// The counter of bytes to the machine.
    #[must_use]
    pub const fn to_machine(&self) -> &AtomicU64 {
        &self.to_machine
    }

    /// The counter of bytes from the machine.
    #[must_use]
    pub const fn from_machine(&self) -> &AtomicU64 {
        &self.from_machine
    }

    /// At how many of its ends it has a connection of its own by now.
    #[must_use]
    pub fn dial_backs(&self) -> usize {
        self.moved.load(Ordering::Relaxed)
    }

    /// It has one more.
    pub fn dialed_back(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    /// Why it ended or is about to.
    #[must_use]
    pub fn reason(&self) -> Option<EndReason> {
        self.reason.get().copied()
    }

    /// When it ended, milliseconds since the Unix epoch.
    #[must_use]
    pub fn ended_ms(&self) -> Option<u64> {
        self.ended_ms.get().copied()
    }

    /// Tells it to end. The first reason stands. Returns whether this was it.
    pub fn cut(&self, reason: EndReason) -> bool {
        let first = self.reason.set(reason).is_ok();
        self.told.cancel();
        first
    }

    /// Ready when it was told to end.
    pub async fn told(&self) -> EndReason {
        self.told.cancelled().await;
        self.reason().unwrap_or(EndReason::Killed)
    }

    /// Ready when it has ended: no byte moves any more.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

/// Which sessions are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionSelector {
    /// Those that lead to this machine, or that this person or machine opened.
    Identity(Identity),
    /// Those at either end of which a certificate of this lineage stands.
    Lineage(String),
    /// Those that this rule allowed.
    Rule(String),
    /// Those that were opened with this key.
    Key(KeyDigest),
    /// Those that were opened on this connection.
    Conn(ConnId),
    /// Those that go through this tunnel, or came by it.
    Tunnel(u64),
    /// One.
    Id(String),
    /// All.
    All,
}

impl SessionSelector {
    /// Whether a session is among them.
    #[must_use]
    pub fn matches(&self, session: &Session) -> bool {
        let about = &session.about;
        match self {
            Self::Identity(identity) => about.machine == *identity || about.caller.identity == *identity,
            Self::Lineage(lineage) => about.machine_lineage == *lineage || about.caller.lineage == *lineage,
            Self::Rule(rule) => about.rules.contains(rule),
            Self::Key(key) => about.caller.key == *key,
            Self::Conn(conn) => about.caller.conn == *conn,
            Self::Tunnel(tunnel) => about.tunnel == *tunnel || about.caller.tunnel == Some(*tunnel),
            Self::Id(id) => session.id == *id,
            Self::All => true,
        }
    }
}

/// Something that happened to a session.
#[derive(Clone, Debug)]
pub struct Happened {
    /// Counts up from 1; never used twice in one run of the gateway.
    pub number: u64,
    /// True for its end.
    pub ended: bool,
    /// Which one.
    pub session: Arc<Session>,
}

/// All sessions, and the last of those that ended.
#[derive(Debug, Default)]
pub struct Sessions {
    table: Mutex<SessionTable>,
    hasher: RandomState,
    news: Notify,
}

#[derive(Debug, Default)]
struct SessionTable {
    open: HashMap<u64, Arc<Session>>,
    index: BTreeSet<(u64, u64)>,
    recent: VecDeque<Arc<Session>>,
    events: VecDeque<Happened>,
    number: u64,
    next: u64,
}

impl SessionTable {
    fn happened(&mut self, ended: bool, session: &Arc<Session>) {
        self.number += 1;
        if self.events.len() == SESSION_EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(Happened { number: self.number, ended, session: Arc::clone(session) });
    }
}

impl Sessions {
    /// None yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn lock(&self) -> MutexGuard<'_, SessionTable> {
        // Nothing under this lock can panic half-way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tag(&self, kind: &str, value: &(impl Hash + ?Sized)) -> u64 {
        self.hasher.hash_one((kind, value))
    }

    fn tags(&self, session: &Session) -> Vec<u64> {
        let about = &session.about;
        let mut tags = vec![
            self.tag("identity", &about.machine),
            self.tag("identity", &about.caller.identity),
            self.tag("lineage", about.machine_lineage.as_str()),
            self.tag("lineage", about.caller.lineage.as_str()),
            self.tag("key", &about.caller.key),
            self.tag("conn", &about.caller.conn),
            self.tag("tunnel", &about.tunnel),
            self.tag("id", session.id.as_str()),
        ];
        tags.extend(about.caller.tunnel.map(|tunnel| self.tag("tunnel", &tunnel)));
        tags.extend(about.rules.iter().map(|rule| self.tag("rule", rule.as_str())));
        tags
    }

    /// Enters a session. It leaves when the seat is dropped.
    pub fn enter(self: &Arc<Self>, id: String, about: SessionInfo) -> SessionGuard {
        let session = Arc::new(Session {
            id,
            about,
            to_machine: AtomicU64::new(0),
            from_machine: AtomicU64::new(0),
            reason: OnceLock::new(),
            ended_ms: OnceLock::new(),
            moved: AtomicUsize::new(0),
            told: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        let tags = self.tags(&session);
        let mut table = self.lock();
        table.next += 1;
        let place = table.next;
        for tag in tags {
            table.index.insert((tag, place));
        }
        table.open.insert(place, Arc::clone(&session));
        table.happened(false, &session);
        drop(table);
        self.news.notify_waiters();
        SessionGuard { sessions: Arc::clone(self), session, place }
    }

    /// Those selected that are open, oldest first.
    #[must_use]
    pub fn find(&self, selector: &SessionSelector) -> Vec<Arc<Session>> {
        let tag = match selector {
            SessionSelector::Identity(identity) => self.tag("identity", identity),
            SessionSelector::Lineage(lineage) => self.tag("lineage", lineage.as_str()),
            SessionSelector::Rule(rule) => self.tag("rule", rule.as_str()),
            SessionSelector::Key(key) => self.tag("key", key),
            SessionSelector::Conn(conn) => self.tag("conn", conn),
            SessionSelector::Tunnel(tunnel) => self.tag("tunnel", tunnel),
            SessionSelector::Id(id) => self.tag("id", id.as_str()),
            SessionSelector::All => {
                let table = self.lock();
                let mut all: Vec<(u64, Arc<Session>)> =
                    table.open.iter().map(|(place, session)| (*place, Arc::clone(session))).collect();
                drop(table);
                all.sort_by_key(|(place, _)| *place);
                return all.into_iter().map(|(_, session)| session).collect();
            }
        };
        let table = self.lock();
        let tagged = table.index.range((tag, 0)..=(tag, u64::MAX));
        // Two things may share a hash.
        tagged
            .filter_map(|(_, place)| table.open.get(place))
            .filter(|session| selector.matches(session))
            .map(Arc::clone)
            .collect()
    }

    /// How many that one opened are open.
    #[must_use]
    pub fn count_by(&self, identity: &Identity) -> usize {
        let opened = self.find(&SessionSelector::Identity(identity.clone()));
        opened.iter().filter(|session| session.about.caller.identity == *identity).count()
    }

    /// Tells the selected to end. Returns those that had not been told.
    pub fn cut(&self, selector: &SessionSelector, reason: EndReason) -> Vec<Arc<Session>> {
        let mut found = self.find(selector);
        found.retain(|session| session.cut(reason));
        found
    }

    /// One that is open, or ended a short while ago.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        let open = self.find(&SessionSelector::Id(id.to_owned())).pop();
        open.or_else(|| self.lock().recent.iter().rev().find(|session| session.id == id).map(Arc::clone))
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of the last thing that happened.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.lock().number
    }

    /// What happened after a number, oldest first; what is too long ago is left out.
    #[must_use]
    pub fn since(&self, number: u64) -> Vec<Happened> {
        self.lock().events.iter().filter(|event| event.number > number).cloned().collect()
    }

    /// Whether something that happened after a number is too long ago to be told.
    #[must_use]
    pub fn has_dropped_since(&self, number: u64) -> bool {
        self.lock().events.front().is_some_and(|oldest| oldest.number > number + 1)
    }

    /// Ready when something happened after a number.
    pub async fn news(&self, number: u64) {
        loop {
            let mut told = std::pin::pin!(self.news.notified());
            // Listening begins before the look, so what happens in between is not missed.
            told.as_mut().enable();
            if self.last() > number {
                return;
            }
            told.await;
        }
    }
}

/// A session's place in the table, given up when dropped.
#[derive(Debug)]
pub struct SessionGuard {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    place: u64,
}

impl SessionGuard {
    /// The session.
    #[must_use]
    pub const fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// It ended at this time, milliseconds since the Unix epoch: for the reason it was told, or because an end closed it.
    pub fn end(self, now_ms: u64) {
        let _ = self.session.ended_ms.set(now_ms);
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let _ = self.session.reason.set(EndReason::Peer);
        let _ = self.session.ended_ms.set(self.session.about.started_ms);
        let tags = self.sessions.tags(&self.session);
        let mut table = self.sessions.lock();
        table.open.remove(&self.place);
        for tag in tags {
            table.index.remove(&(tag, self.place));
        }
        if table.recent.len() == SESSIONS_KEPT {
            table.recent.pop_front();
        }
        table.recent.push_back(Arc::clone(&self.session));
        table.happened(true, &self.session);
        drop(table);
        self.session.ended.cancel();
        self.sessions.news.notify_waiters();
    }
}

/// What the end of a connection means for the streams in it.
impl From<live::CloseReason> for EndReason {
    fn from(reason: live::CloseReason) -> Self {
        match reason {
            live::CloseReason::Drained | live::CloseReason::Stopped => Self::Drained,
            live::CloseReason::Expired => Self::Expired,
            live::CloseReason::Killed => Self::Killed,
            live::CloseReason::Locked => Self::Locked,
            live::CloseReason::Policy => Self::Policy,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{
        core::{face::Face, requester::Requester},
        ports::metrics::Metrics,
        registry::live::{Live, NewConn},
    };

    fn identity(role: &str, name: &str) -> Identity {
        Identity::parse(&format!("spiffe://td.example/{role}/{name}")).unwrap()
    }

    fn key(byte: u8) -> KeyDigest {
        KeyDigest::from_spki_der(&[byte])
    }

    fn conn() -> ConnId {
        let live = Live::new(Arc::new(Metrics::new()));
        let source = IpAddr::from(Ipv4Addr::LOCALHOST);
        live.enter(NewConn { face: Face::Proxy, requester: Requester::Nobody, source, exporter: [0; 32] }).conn().id()
    }

    fn about(person: &str, machine: &str, rule: &str) -> SessionInfo {
        SessionInfo {
            caller: Party {
                identity: identity("person", person),
                lineage: format!("l-{person}"),
                key: key(person.as_bytes()[0]),
                conn: conn(),
                tunnel: None,
                source: IpAddr::from(Ipv4Addr::LOCALHOST),
            },
            machine: identity("machine", machine),
            machine_lineage: format!("l-{machine}"),
            tunnel: u64::from(machine.as_bytes()[0]),
            service: "ssh".to_owned(),
            mode: Mode::Raw,
            rules: vec![rule.to_owned()],
            door: EntryPoint::Connect,
            started_ms: 5,
        }
    }

    #[track_caller]
    fn check(selector: &SessionSelector, want: [bool; 3]) {
        let sessions = Sessions::new();
        let seats = [("ann", "a", "r1"), ("bob", "a", "r2"), ("ann", "b", "r2")]
            .map(|(person, machine, rule)| sessions.enter(format!("{person}-{machine}"), about(person, machine, rule)));
        let cut = sessions.cut(selector, EndReason::Locked);
        assert_eq!(seats.each_ref().map(|seat| seat.session().reason().is_some()), want, "{selector:?}");
        assert_eq!(cut.len(), want.iter().filter(|cut| **cut).count());
        assert!(sessions.cut(selector, EndReason::Killed).is_empty(), "the first reason stands");
        drop(seats);
        assert!(sessions.is_empty());
        assert!(sessions.lock().index.is_empty(), "nothing is left behind");
    }

    #[test]
    fn selectors() {
        check(&SessionSelector::Identity(identity("machine", "a")), [true, true, false]);
        check(&SessionSelector::Identity(identity("person", "ann")), [true, false, true]);
        check(&SessionSelector::Identity(identity("person", "a")), [false; 3]);
        check(&SessionSelector::Lineage("l-b".into()), [false, false, true]);
        check(&SessionSelector::Lineage("l-bob".into()), [false, true, false]);
        check(&SessionSelector::Rule("r2".into()), [false, true, true]);
        check(&SessionSelector::Key(key(b'a')), [true, false, true]);
        check(&SessionSelector::Tunnel(u64::from(b'b')), [false, false, true]);
        check(&SessionSelector::Id("bob-a".into()), [false, true, false]);
        check(&SessionSelector::All, [true; 3]);
    }

    #[test]
    fn an_ended_session_can_be_asked_why() {
        let sessions = Sessions::new();
        let seat = sessions.enter("s".into(), about("ann", "a", "r"));
        assert_eq!(sessions.count_by(&identity("person", "ann")), 1);
        assert_eq!(sessions.count_by(&identity("machine", "a")), 0, "it leads there, nobody there opened it");
        seat.end(9);
        let session = sessions.get("s").unwrap();
        assert_eq!((session.reason(), session.ended_ms()), (Some(EndReason::Peer), Some(9)));
        for n in 0..SESSIONS_KEPT {
            drop(sessions.enter(format!("{n}"), about("ann", "a", "r")));
        }
        assert!(sessions.get("s").is_none(), "bounded");
        assert_eq!(sessions.lock().events.len(), (2 * SESSIONS_KEPT + 2).min(SESSION_EVENTS_KEPT));
    }

    #[tokio::test]
    async fn news_come_once_and_in_order() {
        let sessions = Sessions::new();
        let waiting = {
            let sessions = Arc::clone(&sessions);
            tokio::spawn(async move { sessions.news(0).await })
        };
        tokio::task::yield_now().await;
        let seat = sessions.enter("s".into(), about("ann", "a", "r"));
        waiting.await.unwrap();
        seat.session().cut(EndReason::Killed);
        assert_eq!(seat.session().told().await, EndReason::Killed);
        let session = Arc::clone(seat.session());
        drop(seat);
        session.ended().await;
        let events: Vec<(u64, bool)> = sessions.since(0).iter().map(|event| (event.number, event.ended)).collect();
        assert_eq!(events, [(1, false), (2, true)]);
        assert_eq!(sessions.since(1).len(), 1);
    }
}
