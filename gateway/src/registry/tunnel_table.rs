//! The table of the tunnels that are up at this gateway, by machine; and of which machines the store does not say yet what stands
//! here.

use std::{
    collections::{BTreeSet, HashMap},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pki::{Identity, KeyDigest, UnixTime};
use tokio::sync::Notify;

use crate::{core::session::Offer, registry::tunnels::Tunnel, store::Version};

/// All tunnels that are up here.
#[derive(Debug, Default)]
pub struct Tunnels {
    table: Mutex<TunnelTable>,
    changed: Notify,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct TunnelTable {
    up: HashMap<Identity, HeldTunnel>,
    /// Of whom the store does not say yet what stands here: of no more than there are machines.
    unwritten: BTreeSet<Identity>,
    /// The newest commit of which everything has ended that it ends.
    passed: Version,
}

/// A tunnel that is up here, among those of the same machine at other gateways.
#[derive(Clone, Debug)]
pub struct HeldTunnel {
    /// The tunnel.
    pub tunnel: Arc<Tunnel>,
    /// What had been committed when it came up, as far as this gateway had taken notice.
    pub after: Version,
    /// The commit that wrote it down last.
    written: Option<Version>,
}

/// Of two tunnels of one machine here, the one that goes and the one that stays.
#[derive(Debug)]
pub struct TunnelReplacement {
    /// It goes.
    pub older: Arc<Tunnel>,
    /// It stays.
    pub newer: Arc<Tunnel>,
}

impl Tunnels {
    /// None yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn lock(&self) -> MutexGuard<'_, TunnelTable> {
        // Nothing under this lock can panic half-way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tunnel of a machine, if it is here: `flow::locate` says where it is otherwise.
    #[must_use]
    pub fn held(&self, machine: &Identity) -> Option<HeldTunnel> {
        self.lock().up.get(machine).cloned()
    }

    /// Enters one, unless a newer one stands there: a hello may be overtaken by that of a later connection. Says which of two must go.
    pub fn enter(&self, tunnel: &Arc<Tunnel>) -> Option<TunnelReplacement> {
        let mut table = self.lock();
        let standing = table.up.get(tunnel.identity()).map(|held| Arc::clone(&held.tunnel));
        if let Some(newer) = standing.as_ref().filter(|standing| standing.number() > tunnel.number()) {
            return Some(TunnelReplacement { older: Arc::clone(tunnel), newer: Arc::clone(newer) });
        }
        let held = HeldTunnel { tunnel: Arc::clone(tunnel), after: table.passed, written: None };
        table.up.insert(tunnel.identity().clone(), held);
        self.to_write(&mut table, tunnel.identity());
        standing.map(|older| TunnelReplacement { older, newer: Arc::clone(tunnel) })
    }

    /// Takes one out, unless another has taken its place.
    pub fn leave(&self, tunnel: &Arc<Tunnel>) {
        let mut table = self.lock();
        if table.up.get(tunnel.identity()).is_some_and(|held| Arc::ptr_eq(&held.tunnel, tunnel)) {
            table.up.remove(tunnel.identity());
            if table.up.capacity() > 4 * table.up.len() {
                table.up.shrink_to_fit();
            }
            self.to_write(&mut table, tunnel.identity());
        }
    }

    /// It exposes this from now on.
    pub fn exposes(&self, tunnel: &Tunnel, services: Vec<Offer>) {
        let changed = *tunnel.services() != *services;
        tunnel.exposes(services);
        // A commit each, and every gateway looks at it.
        if changed {
            self.to_write(&mut self.lock(), tunnel.identity());
        }
    }

    fn to_write(&self, table: &mut TunnelTable, machine: &Identity) {
        table.unwritten.insert(machine.clone());
        self.changed.notify_one();
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().up.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The machines that hold one.
    #[must_use]
    pub fn machines(&self) -> Vec<Identity> {
        self.lock().up.keys().cloned().collect()
    }

    /// The lineages of their certificates.
    #[must_use]
    pub fn lineages(&self) -> Vec<String> {
        self.lock().up.values().map(|held| held.tunnel.lineage().to_owned()).collect()
    }

    /// The numbers of those whose machines proved this key.
    #[must_use]
    pub fn by_key(&self, key: &KeyDigest) -> Vec<u64> {
        let table = self.lock();
        let tunnels = table.up.values().map(|held| &held.tunnel);
        tunnels.filter(|tunnel| tunnel.peer().key == *key).map(|tunnel| tunnel.number()).collect()
    }

    /// Within which time all of them can come back when they are lost at once, so many in a second.
    #[must_use]
    pub fn reconnect_within(&self, per_second: usize) -> Duration {
        let seconds = self.len().div_ceil(per_second.max(1)).max(1);
        Duration::from_secs(seconds.try_into().unwrap_or(u64::MAX))
    }

    /// A number for a new one.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until the store does not say of some machine what stands here.
    pub async fn unwritten(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Listening begins before the look, so what happens in between is not missed.
            changed.as_mut().enable();
            if !self.lock().unwritten.is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// Takes up to `most` of those machines, for whoever writes them down.
    #[must_use]
    pub fn take_unwritten(&self, most: usize) -> Vec<Identity> {
        let mut table = self.lock();
        std::iter::from_fn(|| table.unwritten.pop_first()).take(most).collect()
    }

    /// They could not be written down.
    pub fn write_again(&self, machines: impl IntoIterator<Item = Identity>) {
        self.lock().unwritten.extend(machines);
        self.changed.notify_one();
    }

    /// What was written is gone, as the lease that it was written with.
    pub fn write_all(&self) {
        let mut table = self.lock();
        table.unwritten = table.up.keys().cloned().collect();
        self.changed.notify_one();
    }

    /// A commit has written down this tunnel.
    pub fn written(&self, tunnel: &Tunnel, version: Version) {
        let mut table = self.lock();
        if let Some(held) = table.up.get_mut(tunnel.identity()).filter(|held| held.tunnel.number() == tunnel.number()) {
            held.written = Some(version);
        }
    }

    /// Whether a commit that wrote about this machine's tunnel may have told of one elsewhere, after the one here.
    #[must_use]
    pub fn may_be_overtaken(&self, machine: &Identity, version: Version) -> bool {
        self.lock().up.get(machine).is_some_and(|held| held.after < version && held.written != Some(version))
    }

    /// Everything that commits up to this one end has been told to end. A tunnel that comes up from now on is newer than they are.
    pub fn has_passed(&self, version: Version) {
        let mut table = self.lock();
        table.passed = table.passed.max(version);
    }

    /// A machine was asked to renew, at this time.
    pub fn renewal_asked(&self, machine: &Identity, at: UnixTime) {
        if let Some(held) = self.held(machine) {
            held.tunnel.renewal_asked(at);
        }
    }

    /// All were.
    pub fn all_renewals_asked(&self, at: UnixTime) {
        self.lock().up.values().for_each(|held| held.tunnel.renewal_asked(at));
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use pki::{Assurance, Peer, Serial};
    use tokio::sync::mpsc;
    use transport::{mux::LastHeard, streams::StreamCount};

    use super::*;
    use crate::{
        core::session::Mode,
        registry::tunnels::{COMMANDS, NewTunnel, TunnelCommand},
    };

    fn peer(name: &str, not_before: u64) -> Peer {
        Peer {
            identity: Identity::parse(&format!("spiffe://td.example/machine/{name}")).unwrap(),
            serial: Serial::from_entropy([1; 16]),
            key: KeyDigest::from_spki_der(name.as_bytes()),
            spki: vec![],
            not_before: UnixTime::new(not_before),
            not_after: UnixTime::new(u64::MAX),
            assurance: Assurance::SOFTWARE,
        }
    }

    fn tunnel(tunnels: &Tunnels, name: &str) -> (Arc<Tunnel>, mpsc::Receiver<TunnelCommand>) {
        let (to, commands) = mpsc::channel(COMMANDS);
        let new = NewTunnel {
            number: tunnels.number(),
            lineage: format!("l-{name}"),
            source: IpAddr::from(Ipv4Addr::LOCALHOST),
            since: UnixTime::new(5),
            peer: Arc::new(peer(name, 1_000)),
            services: vec![],
            commands: to,
            streams: StreamCount::default(),
            heard: LastHeard::new(),
        };
        (Tunnel::new(new), commands)
    }

    #[test]
    fn the_newest_of_two_stays() {
        let tunnels = Tunnels::new();
        let ([first, second], other) = (["a", "a"].map(|name| tunnel(&tunnels, name).0), tunnel(&tunnels, "b").0);
        assert!(tunnels.enter(&second).is_none() && tunnels.enter(&other).is_none());
        // Its hello was overtaken.
        let late = tunnels.enter(&first).unwrap();
        assert!(Arc::ptr_eq(&late.older, &first) && Arc::ptr_eq(&late.newer, &second));
        let (third, _) = tunnel(&tunnels, "a");
        let replaced = tunnels.enter(&third).unwrap();
        assert!(Arc::ptr_eq(&replaced.older, &second) && Arc::ptr_eq(&replaced.newer, &third));
        tunnels.leave(&second);
        assert_eq!(tunnels.held(first.identity()).unwrap().tunnel.number(), third.number());
        assert_eq!(tunnels.by_key(&third.peer().key), [third.number()]);
        tunnels.leave(&third);
        assert_eq!(tunnels.machines(), [other.identity().clone()]);
    }

    #[test]
    fn a_commit_is_newer_than_what_came_up_before_it() {
        let tunnels = Tunnels::new();
        let (one, _commands) = tunnel(&tunnels, "a");
        tunnels.has_passed(7);
        tunnels.has_passed(5);
        tunnels.enter(&one);
        let overtaken = |version| tunnels.may_be_overtaken(one.identity(), version);
        assert_eq!([6, 7, 8, 9].map(overtaken), [false, false, true, true]);
        tunnels.written(&one, 8);
        assert_eq!([8, 9].map(overtaken), [false, true], "its own");
        tunnels.leave(&one);
        assert!(!overtaken(9));
    }

    #[tokio::test]
    async fn what_is_not_written_down_is_waited_for() {
        let tunnels = Tunnels::new();
        let [a, b] = ["a", "b"].map(|name| tunnel(&tunnels, name).0);
        let waiting = tokio::spawn({
            let tunnels = Arc::clone(&tunnels);
            async move { tunnels.unwritten().await }
        });
        tokio::task::yield_now().await;
        tunnels.enter(&a);
        tunnels.enter(&b);
        waiting.await.unwrap();
        assert_eq!(tunnels.take_unwritten(1), [a.identity().clone()]);
        assert_eq!(tunnels.take_unwritten(5), [b.identity().clone()]);
        assert!(tunnels.take_unwritten(5).is_empty());
        tunnels.leave(&a);
        let services = || vec![Offer { name: "ssh".to_owned(), mode: Mode::Raw }];
        tunnels.exposes(&b, services());
        assert_eq!(tunnels.take_unwritten(5), [a.identity().clone(), b.identity().clone()], "what changed since");
        tunnels.exposes(&b, services());
        assert!(tunnels.take_unwritten(5).is_empty(), "the same services");
        tunnels.write_again([a.identity().clone()]);
        tunnels.write_all();
        assert_eq!(tunnels.take_unwritten(5), [b.identity().clone()], "what has gone is not written anew");
    }

    #[test]
    fn a_machine_hears_once_of_each_call_to_renew() {
        let tunnels = Tunnels::new();
        let (one, mut commands) = tunnel(&tunnels, "a");
        tunnels.enter(&one);
        let issued = 1_000 + pki::BACKDATE.as_secs();
        let mut asked = |at| {
            tunnels.renewal_asked(one.identity(), UnixTime::new(at));
            commands.try_recv().is_ok()
        };
        assert!(!asked(issued - 1), "before its certificate was made");
        assert!(asked(issued));
        assert!(!asked(issued), "the same");
        assert!(asked(issued + 1));
        one.renewed(Arc::new(peer("a", 2_000)));
        assert!(!asked(issued + 2), "it has renewed since");
    }
}
