//! The table of open connections. TLS never looks again at a connection it has let in, so ending one when its
//! certificate ends, or when somebody is locked, is our work.

use std::{
    collections::{BTreeSet, HashMap, hash_map::RandomState},
    fmt,
    hash::{BuildHasher, Hash},
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use pki::{Identity, KeyDigest, Peer, Serial, UnixTime};
use tokio::sync::Notify;

use crate::{
    core::{face::Face, requester::Requester},
    ports::metrics::Metrics,
};

/// A connection's number; never used twice in one run of the gateway.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Why a connection is told to end. The first is gentle, the others cut.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseReason {
    /// The gateway stops; what is under way may end.
    Drained,
    /// Its certificate came to the end of its validity.
    Expired,
    /// Somebody ended it by hand.
    Killed,
    /// The gateway stops, and its time to end by itself is over.
    Stopped,
    /// A lock stands against its machine, person, lineage or key.
    Locked,
    /// A new policy no longer allows it.
    Policy,
}

impl CloseReason {
    /// All there are.
    pub const ALL: [Self; 6] = [Self::Drained, Self::Expired, Self::Killed, Self::Stopped, Self::Locked, Self::Policy];

    /// The word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Expired => "expired",
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::Locked => "locked",
            Self::Policy => "policy",
        }
    }

    /// Whether what is under way may end first.
    #[must_use]
    pub const fn is_gentle(self) -> bool {
        match self {
            Self::Drained => true,
            Self::Expired | Self::Killed | Self::Stopped | Self::Locked | Self::Policy => false,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of one connection for as long as it lives. Handlers get it as a request extension, `Arc<Conn>`.
#[derive(Debug)]
pub struct Conn {
    id: ConnId,
    face: Face,
    requester: Requester,
    source: IpAddr,
    exporter: [u8; 32],
    reason: Mutex<Option<CloseReason>>,
    closes_after_response: AtomicBool,
    /// Requests that are being answered.
    in_progress: AtomicUsize,
    told: Notify,
}

/// A request that is being answered.
#[derive(Debug)]
pub struct Serving(Arc<Conn>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the table is told of a new connection.
#[derive(Debug)]
pub struct NewConn {
    /// The face it came in by.
    pub face: Face,
    /// Who is at the other end.
    pub requester: Requester,
    /// Where it comes from.
    pub source: IpAddr,
    /// The TLS exporter value of RFC 9266.
    pub exporter: [u8; 32],
}

impl Conn {
    /// Its number.
    #[must_use]
    pub const fn id(&self) -> ConnId {
        self.id
    }

    /// The face it came in by.
    #[must_use]
    pub const fn face(&self) -> Face {
        self.face
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn requester(&self) -> &Requester {
        &self.requester
    }

    /// Where it comes from.
    #[must_use]
    pub const fn source(&self) -> IpAddr {
        self.source
    }

    /// The TLS exporter value that proofs are bound to (RFC 9266).
    #[must_use]
    pub const fn exporter(&self) -> &[u8; 32] {
        &self.exporter
    }

    /// A request is being answered, as long as the value lives.
    #[must_use]
    pub fn serving(self: &Arc<Self>) -> Serving {
        self.in_progress.fetch_add(1, Ordering::SeqCst);
        Serving(Arc::clone(self))
    }

    /// Whether no request is being answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_progress.load(Ordering::SeqCst) == 0
    }

    /// Ends it in favour of a new connection. For those that are idle and have no holder.
    pub fn evict(&self) {
        self.tell(CloseReason::Killed);
    }

    /// Ends the connection once the answer under way is out.
    pub fn close_after_response(&self) {
        self.closes_after_response.store(true, Ordering::SeqCst);
    }

    /// Takes [`Conn::close_after_response`] back.
    pub fn stays_open(&self) {
        self.closes_after_response.store(false, Ordering::SeqCst);
    }

    /// Whether [`Conn::close_after_response`] was called.
    #[must_use]
    pub fn closes_after_response(&self) -> bool {
        self.closes_after_response.load(Ordering::SeqCst)
    }

    /// Why it was told to end, if it was.
    #[must_use]
    pub fn reason(&self) -> Option<CloseReason> {
        *lock(&self.reason)
    }

    /// Why it was cut, if it was: no further request may be served on it.
    #[must_use]
    pub fn cut(&self) -> Option<CloseReason> {
        self.reason().filter(|reason| !reason.is_gentle())
    }

    /// Ready when the connection is told to end. A long poll gives up then.
    pub async fn told_to_end(&self) -> CloseReason {
        self.told_when(Self::reason).await
    }

    /// Ready when the connection is cut.
    pub async fn told_to_end_at_once(&self) -> CloseReason {
        self.told_when(Self::cut).await
    }

    async fn told_when(&self, test: impl Fn(&Self) -> Option<CloseReason> + Send) -> CloseReason {
        loop {
            let mut told = pin!(self.told.notified());
            // Listening begins before the look, so a word said in between is not missed.
            told.as_mut().enable();
            if let Some(reason) = test(self) {
                return reason;
            }
            told.await;
        }
    }

    /// Tells it to end. Returns whether that was news: a cut after a drain is, a second cut is not.
    fn tell(&self, reason: CloseReason) -> bool {
        let mut standing = lock(&self.reason);
        let news = match *standing {
            None => true,
            Some(before) => before.is_gentle() && !reason.is_gentle(),
        };
        if news {
            *standing = Some(reason);
            drop(standing);
            self.told.notify_waiters();
        }
        news
    }
}

/// Which connections are meant. There is none for a lineage: all certificates of one name the same machine or person, and
/// that is known from the handshake on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnSelector {
    /// Those of a machine or person.
    Identity(Identity),
    /// Those that show this key.
    Key(KeyDigest),
    /// Those that show this certificate.
    Serial(Serial),
    /// One.
    Conn(ConnId),
    /// All.
    All,
}

impl ConnSelector {
    fn matches(&self, conn: &Conn) -> bool {
        let ours = conn.requester.ours();
        match self {
            Self::Identity(identity) => ours.is_some_and(|peer| peer.identity == *identity),
            Self::Key(key) => conn.requester.key() == Some(*key),
            Self::Serial(serial) => ours.is_some_and(|peer| peer.serial == *serial),
            Self::Conn(id) => conn.id == *id,
            Self::All => true,
        }
    }
}

/// All open connections. One index holds a keyed hash for each thing a connection can be found by: 16 bytes each, where
/// a map for each would hold the names once more.
#[derive(Debug)]
pub struct Live {
    table: Mutex<ConnTable>,
    next: AtomicU64,
    hasher: RandomState,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct ConnTable {
    conns: HashMap<ConnId, Arc<Conn>>,
    index: BTreeSet<(u64, ConnId)>,
    ends: BTreeSet<(UnixTime, ConnId)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// An empty table.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), next: AtomicU64::new(1), hasher: RandomState::new(), metrics })
    }

    /// Enters a connection. It leaves when the seat is dropped.
    pub fn enter(self: &Arc<Self>, new: NewConn) -> ConnGuard {
        let NewConn { face, requester, source, exporter } = new;
        let conn = Arc::new(Conn {
            id: ConnId(self.next.fetch_add(1, Ordering::Relaxed)),
            face,
            requester,
            source,
            exporter,
            reason: Mutex::new(None),
            closes_after_response: AtomicBool::new(false),
            in_progress: AtomicUsize::new(0),
            told: Notify::new(),
        });
        let mut table = lock(&self.table);
        for tag in self.tags(&conn).into_iter().flatten() {
            table.index.insert((tag, conn.id));
        }
        if let Some(end) = conn.requester.not_after() {
            table.ends.insert((end, conn.id));
        }
        table.conns.insert(conn.id, Arc::clone(&conn));
        drop(table);
        self.metrics.opened(face.as_str());
        ConnGuard { live: Arc::clone(self), conn }
    }

    /// Tells the selected connections to end, at once unless the reason is gentle. Returns how many had not been told. One on which its
    /// holder left ends by itself, with the answer that is still to go out; only a lock does not wait for that.
    pub fn cut(&self, selector: &ConnSelector, reason: CloseReason) -> usize {
        let mut found = self.find(selector);
        if reason == CloseReason::Killed {
            found.retain(|conn| !conn.closes_after_response());
        }
        self.tell(found, reason)
    }

    /// Enters the connection of a machine or person of ours.
    pub fn enter_holder(
        self: &Arc<Self>,
        peer: Arc<Peer>,
        face: Face,
        source: IpAddr,
        exporter: [u8; 32],
    ) -> HolderGuard {
        let requester = Requester::Ours(Arc::clone(&peer));
        HolderGuard { guard: self.enter(NewConn { face, requester, source, exporter }), peer }
    }

    /// The holder of a connection has proven a renewed certificate on it: from now on it ends with that one, and is found by its
    /// key. The seat before is to be given up for the one returned.
    #[must_use]
    pub fn renewed(self: &Arc<Self>, before: &HolderGuard, peer: Arc<Peer>) -> HolderGuard {
        let conn = before.conn();
        let after = self.enter_holder(peer, conn.face, conn.source, conn.exporter);
        // In the table first: whatever it was told until now, it is told once more.
        if let Some(reason) = conn.reason() {
            self.cut(&ConnSelector::Conn(after.conn().id()), reason);
        }
        after
    }

    /// Cuts the connections whose certificates have ended (RFC 5280 4.1.2.5: `notAfter` itself still counts).
    pub fn cut_expired(&self, now: UnixTime) -> usize {
        let ended: Vec<Arc<Conn>> = {
            let table = lock(&self.table);
            let ended = table.ends.iter().take_while(|(end, _)| *end < now);
            ended.filter_map(|(_, id)| table.conns.get(id).map(Arc::clone)).collect()
        };
        self.tell(ended, CloseReason::Expired)
    }

    /// Those selected.
    #[must_use]
    pub fn find(&self, selector: &ConnSelector) -> Vec<Arc<Conn>> {
        let tag = match selector {
            ConnSelector::Identity(identity) => self.tag("identity", identity),
            ConnSelector::Key(key) => self.tag("key", key),
            ConnSelector::Serial(serial) => self.tag("serial", serial),
            ConnSelector::Conn(id) => return lock(&self.table).conns.get(id).map(Arc::clone).into_iter().collect(),
            ConnSelector::All => return lock(&self.table).conns.values().map(Arc::clone).collect(),
        };
        let table = lock(&self.table);
        let tagged = table.index.range((tag, ConnId(0))..=(tag, ConnId(u64::MAX)));
        tagged
            .filter_map(|(_, id)| table.conns.get(id))
            // Two things may share a hash.
            .filter(|conn| selector.matches(conn))
            .map(Arc::clone)
            .collect()
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.table).conns.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn tell(&self, conns: Vec<Arc<Conn>>, reason: CloseReason) -> usize {
        let told = conns.into_iter().filter(|conn| conn.tell(reason));
        told.inspect(|_| self.metrics.cut(reason.as_str())).count()
    }

    fn tag(&self, kind: &'static str, what: impl Hash) -> u64 {
        self.hasher.hash_one((kind, what))
    }

    fn tags(&self, conn: &Conn) -> [Option<u64>; 3] {
        let ours = conn.requester.ours();
        [
            ours.map(|peer| self.tag("identity", &peer.identity)),
            conn.requester.key().map(|key| self.tag("key", key)),
            ours.map(|peer| self.tag("serial", peer.serial)),
        ]
    }

    fn leave(&self, conn: &Conn) {
        let mut table = lock(&self.table);
        table.conns.remove(&conn.id);
        for tag in self.tags(conn).into_iter().flatten() {
            table.index.remove(&(tag, conn.id));
        }
        if let Some(end) = conn.requester.not_after() {
            table.ends.remove(&(end, conn.id));
        }
        drop(table);
        self.metrics.closed(conn.face.as_str());
    }
}

/// A connection's place in the table, given back when dropped.
#[derive(Debug)]
pub struct ConnGuard {
    live: Arc<Live>,
    conn: Arc<Conn>,
}

impl ConnGuard {
    /// The connection.
    #[must_use]
    pub const fn conn(&self) -> &Arc<Conn> {
        &self.conn
    }
}

/// The place of a connection that a machine or person of ours holds, by the certificate of its handshake. Whatever is not
/// for everybody takes this.
#[derive(Debug)]
pub struct HolderGuard {
    guard: ConnGuard,
    peer: Arc<Peer>,
}

impl HolderGuard {
    /// The connection.
    #[must_use]
    pub const fn conn(&self) -> &Arc<Conn> {
        &self.guard.conn
    }

    /// Who holds it.
    #[must_use]
    pub const fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }
}

impl From<HolderGuard> for ConnGuard {
    fn from(holder: HolderGuard) -> Self {
        holder.guard
    }
}

impl Drop for ConnGuard {
    fn drop(&mut self) {
        self.live.leave(&self.conn);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use pki::Assurance;

    use super::*;

    fn peer(name: &str, key: u8, not_after: u64) -> Peer {
        Peer {
            identity: identity(name),
            serial: Serial::from_entropy([key; 16]),
            key: KeyDigest::from_spki_der(&[key]),
            spki: vec![key],
            not_before: UnixTime::new(0),
            not_after: UnixTime::new(not_after),
            assurance: Assurance::SOFTWARE,
        }
    }

    fn identity(name: &str) -> Identity {
        Identity::parse(&format!("spiffe://td.example/machine/{name}")).unwrap()
    }

    fn enter(live: &Arc<Live>, peer: Option<Peer>) -> ConnGuard {
        let face = if peer.is_some() { Face::Manage } else { Face::Enroll };
        live.enter(NewConn { face, requester: peer.into(), source: Ipv4Addr::LOCALHOST.into(), exporter: [0; 32] })
    }

    /// Which of four connections (two of machine a with keys 1 and 2, one of b with key 3, one anonymous) are cut.
    #[track_caller]
    fn check(selector: &ConnSelector, want: [bool; 4]) {
        let live = Live::new(Arc::new(Metrics::new()));
        let seats = [
            enter(&live, Some(peer("a", 1, 100))),
            enter(&live, Some(peer("a", 2, 200))),
            enter(&live, Some(peer("b", 3, 300))),
            enter(&live, None),
        ];
        let count = live.cut(selector, CloseReason::Locked);
        assert_eq!(seats.each_ref().map(|seat| seat.conn().cut() == Some(CloseReason::Locked)), want, "{selector:?}");
        assert_eq!(count, want.iter().filter(|cut| **cut).count());
        assert_eq!(live.cut(selector, CloseReason::Killed), 0, "told once");
        drop(seats);
        assert!(live.is_empty());
        let table = lock(&live.table);
        assert!(table.index.is_empty() && table.ends.is_empty(), "nothing is left behind");
    }

    #[test]
    fn selectors() {
        check(&ConnSelector::Identity(identity("a")), [true, true, false, false]);
        check(&ConnSelector::Identity(identity("c")), [false; 4]);
        check(&ConnSelector::Key(KeyDigest::from_spki_der(&[1])), [true, false, false, false]);
        check(&ConnSelector::Serial(Serial::from_entropy([3; 16])), [false, false, true, false]);
        check(&ConnSelector::Conn(ConnId(4)), [false, false, false, true]);
        check(&ConnSelector::All, [true; 4]);
    }

    #[test]
    fn a_certificate_counts_through_its_last_second() {
        let live = Live::new(Arc::new(Metrics::new()));
        let (a, b) = (enter(&live, Some(peer("a", 1, 100))), enter(&live, Some(peer("b", 2, 200))));
        assert_eq!(live.cut_expired(UnixTime::new(100)), 0);
        assert_eq!(live.cut_expired(UnixTime::new(101)), 1);
        assert_eq!((a.conn().cut(), b.conn().cut()), (Some(CloseReason::Expired), None));
    }

    #[test]
    fn whoever_leaves_gets_an_answer_unless_a_lock_comes() {
        let live = Live::new(Arc::new(Metrics::new()));
        let (a, b) = (enter(&live, Some(peer("a", 1, 100))), enter(&live, Some(peer("a", 2, 100))));
        let selector = ConnSelector::Identity(identity("a"));
        a.conn().close_after_response();
        assert_eq!(live.cut(&selector, CloseReason::Killed), 1);
        assert_eq!((a.conn().cut(), b.conn().cut()), (None, Some(CloseReason::Killed)));
        assert_eq!(live.cut(&selector, CloseReason::Locked), 1);
        assert_eq!(a.conn().cut(), Some(CloseReason::Locked));
    }

    #[tokio::test]
    async fn a_drain_can_be_followed_by_a_cut_and_not_the_reverse() {
        let live = Live::new(Arc::new(Metrics::new()));
        let a = enter(&live, None);
        assert_eq!(live.cut(&ConnSelector::All, CloseReason::Drained), 1);
        assert_eq!((a.conn().told_to_end().await, a.conn().cut()), (CloseReason::Drained, None));
        assert_eq!(live.cut(&ConnSelector::All, CloseReason::Locked), 1);
        assert_eq!(live.cut(&ConnSelector::All, CloseReason::Drained), 0);
        assert_eq!(a.conn().told_to_end_at_once().await, CloseReason::Locked);
    }

    #[tokio::test]
    async fn waiting_for_the_word_ends_with_it() {
        let live = Live::new(Arc::new(Metrics::new()));
        let a = enter(&live, None);
        let conn = Arc::clone(a.conn());
        let waiting = tokio::spawn(async move { conn.told_to_end().await });
        tokio::task::yield_now().await;
        live.cut(&ConnSelector::All, CloseReason::Policy);
        assert_eq!(waiting.await.unwrap(), CloseReason::Policy);
    }
}
