//! How many connections there may be: in total, on the open face, and from each source prefix on either. When the open face
//! is full, the prefix with most connections on it loses its oldest that does nothing.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    core::face::Face,
    limits::{EVICTIONS_MAX, Limits},
    ports::{metrics::TurnedAway, rate::Prefix},
    registry::live::{Conn, ConnId},
};

/// All slots there are.
#[derive(Debug)]
pub(super) struct ConnSlots {
    taken: Mutex<TakenSlots>,
    connections: usize,
    connections_per_prefix: usize,
    connections_enroll: usize,
    connections_enroll_per_prefix: usize,
    handshakes_per_prefix: usize,
}

#[derive(Debug, Default)]
struct TakenSlots {
    total: usize,
    enroll: usize,
    prefixes: HashMap<Prefix, OfPrefix>,
    /// Connections on the open face by their narrowest prefix, oldest first.
    strangers: HashMap<Prefix, VecDeque<Arc<Conn>>>,
}

#[derive(Debug, Default)]
struct OfPrefix {
    connections: usize,
    enroll: usize,
    handshakes: usize,
}

impl TakenSlots {
    /// A change of what each prefix of a source has.
    fn change(&mut self, source: IpAddr, change: impl Fn(&mut OfPrefix)) {
        for (prefix, _) in Prefix::shares(source) {
            let of_prefix = self.prefixes.entry(prefix).or_default();
            change(of_prefix);
            if of_prefix.connections == 0 {
                self.prefixes.remove(&prefix);
            }
        }
    }

    /// Whether each prefix of a source has less than its share of `each`.
    fn has_room(&self, source: IpAddr, each: usize, count: impl Fn(&OfPrefix) -> usize) -> bool {
        Prefix::shares(source).all(|(prefix, share)| {
            self.prefixes.get(&prefix).is_none_or(|of_prefix| count(of_prefix) < each.saturating_mul(share as usize))
        })
    }

    /// Ends the oldest connection without a request of the prefix that has most on the open face.
    fn evict(&mut self) -> bool {
        let idle = |strangers: &VecDeque<Arc<Conn>>| strangers.iter().position(|conn| conn.is_idle());
        let greediest = self
            .strangers
            .iter()
            .filter_map(|(prefix, strangers)| Some((strangers.len(), *prefix, idle(strangers)?)))
            .max_by_key(|(count, _, _)| *count);
        let Some((_, prefix, at)) = greediest else { return false };
        let Some(conn) = self.strangers.get_mut(&prefix).and_then(|strangers| strangers.remove(at)) else {
            return false;
        };
        self.left_enroll(conn.source());
        conn.evict();
        true
    }

    fn left_enroll(&mut self, source: IpAddr) {
        self.enroll -= 1;
        self.change(source, |of_prefix| of_prefix.enroll -= 1);
        let narrowest = Prefix::of(source);
        if self.strangers.get(&narrowest).is_some_and(VecDeque::is_empty) {
            self.strangers.remove(&narrowest);
        }
    }
}

impl ConnSlots {
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::default(),
            connections: limits.connections,
            connections_per_prefix: limits.connections_per_prefix,
            connections_enroll: limits.connections_enroll,
            connections_enroll_per_prefix: limits.connections_enroll_per_prefix,
            handshakes_per_prefix: limits.handshakes_per_prefix,
        })
    }

    /// A slot for a fresh socket, unless it is one too many.
    pub fn take(self: &Arc<Self>, source: IpAddr) -> Result<Slot, TurnedAway> {
        let mut slot = self.take_for_balancer()?;
        slot.attribute(source)?;
        Ok(slot)
    }

    /// A slot for a socket of which it is not known yet whom it is from. It counts in total only.
    pub fn take_for_balancer(self: &Arc<Self>) -> Result<Slot, TurnedAway> {
        let mut taken = self.lock();
        let most = self.connections.saturating_add(EVICTIONS_MAX);
        if taken.total >= self.connections && (taken.total >= most || !taken.evict()) {
            return Err(TurnedAway::Total);
        }
        taken.total += 1;
        drop(taken);
        Ok(Slot { slots: Arc::clone(self), source: None, in_handshake: false, on_enroll: OnEnroll::No })
    }

    fn lock(&self) -> MutexGuard<'_, TakenSlots> {
        // Nothing under this lock can panic half-way through a change.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's slot, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<ConnSlots>,
    source: Option<IpAddr>,
    in_handshake: bool,
    on_enroll: OnEnroll,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum OnEnroll {
    No,
    /// Counted there, and still in its handshake.
    Entered,
    /// Counted there as long as it is in the list of strangers.
    Seated(ConnId),
}

impl Slot {
    /// It is known whom the connection is from: its handshake begins.
    pub fn attribute(&mut self, source: IpAddr) -> Result<(), TurnedAway> {
        let mut taken = self.slots.lock();
        if !taken.has_room(source, self.slots.connections_per_prefix, |of_prefix| of_prefix.connections) {
            return Err(TurnedAway::Prefix);
        }
        if !taken.has_room(source, self.slots.handshakes_per_prefix, |of_prefix| of_prefix.handshakes) {
            return Err(TurnedAway::Handshakes);
        }
        taken.change(source, |of_prefix| {
            of_prefix.connections += 1;
            of_prefix.handshakes += 1;
        });
        drop(taken);
        (self.source, self.in_handshake) = (Some(source), true);
        Ok(())
    }

    /// The connection goes to a face; the open one has its own limits.
    pub fn enter(&mut self, face: Face) -> Result<(), TurnedAway> {
        let (true, Some(source)) = (face.row().is_open(), self.source) else { return Ok(()) };
        let mut taken = self.slots.lock();
        if !taken.has_room(source, self.slots.connections_enroll_per_prefix, |of_prefix| of_prefix.enroll) {
            return Err(TurnedAway::EnrollPrefix);
        }
        if taken.enroll >= self.slots.connections_enroll && !taken.evict() {
            return Err(TurnedAway::Enroll);
        }
        taken.enroll += 1;
        taken.change(source, |of_prefix| of_prefix.enroll += 1);
        self.on_enroll = OnEnroll::Entered;
        Ok(())
    }

    /// The connection is open. On the open face it may have to give way from now on.
    pub fn seated(&mut self, conn: &Arc<Conn>) {
        self.handshake_over();
        if self.on_enroll == OnEnroll::Entered {
            let mut taken = self.slots.lock();
            taken.strangers.entry(Prefix::of(conn.source())).or_default().push_back(Arc::clone(conn));
            self.on_enroll = OnEnroll::Seated(conn.id());
        }
    }

    /// The handshake ended, one way or the other.
    fn handshake_over(&mut self) {
        if std::mem::take(&mut self.in_handshake)
            && let Some(source) = self.source
        {
            self.slots.lock().change(source, |of_prefix| of_prefix.handshakes -= 1);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.handshake_over();
        let mut taken = self.slots.lock();
        taken.total -= 1;
        let Some(source) = self.source else { return };
        let counts = match self.on_enroll {
            OnEnroll::No => false,
            OnEnroll::Entered => true,
            OnEnroll::Seated(id) => {
                // What is not in the list has given way, and is not counted any more.
                let of_prefix = taken.strangers.get_mut(&Prefix::of(source));
                of_prefix.is_some_and(|strangers| {
                    let at = strangers.iter().position(|conn| conn.id() == id);
                    at.and_then(|at| strangers.remove(at)).is_some()
                })
            }
        };
        if counts {
            taken.left_enroll(source);
        }
        taken.change(source, |of_prefix| of_prefix.connections -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::requester::Requester,
        ports::metrics::Metrics,
        registry::live::{ConnGuard, Live, NewConn},
    };

    fn slots() -> Arc<ConnSlots> {
        ConnSlots::new(&Limits {
            connections: 4,
            connections_per_prefix: 3,
            connections_enroll: 1,
            connections_enroll_per_prefix: 1,
            handshakes_per_prefix: 2,
            ..Limits::default()
        })
    }

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    fn settled(slots: &Arc<ConnSlots>, source: IpAddr) -> Result<Slot, TurnedAway> {
        let mut slot = slots.take(source)?;
        slot.handshake_over();
        Ok(slot)
    }

    /// A connection on the open face.
    fn stranger(slots: &Arc<ConnSlots>, live: &Arc<Live>, source: IpAddr) -> Result<(Slot, ConnGuard), TurnedAway> {
        let mut slot = slots.take(source)?;
        slot.enter(Face::Enroll)?;
        let seat = live.enter(NewConn { face: Face::Enroll, requester: Requester::Nobody, source, exporter: [0; 32] });
        slot.seated(seat.conn());
        Ok((slot, seat))
    }

    #[test]
    fn a_prefix_has_so_many_handshakes_and_connections() {
        let slots = slots();
        let mut first = slots.take(A).unwrap();
        let _second = slots.take(A).unwrap();
        assert_eq!(slots.take(A).unwrap_err(), TurnedAway::Handshakes);
        first.handshake_over();
        first.handshake_over();
        let mut third = slots.take(A).unwrap();
        third.handshake_over();
        assert_eq!(slots.take(A).unwrap_err(), TurnedAway::Prefix);
        assert!(slots.take(B).is_ok(), "others are not affected");
        drop(third);
        assert!(slots.take(A).is_ok());
    }

    #[test]
    fn all_together_have_so_many() {
        let slots = slots();
        let held: Vec<Slot> = [A, A, A, B].map(|source| settled(&slots, source).unwrap()).into();
        assert_eq!(slots.take(B).unwrap_err(), TurnedAway::Total);
        drop(held);
        let taken = slots.lock();
        assert_eq!((taken.total, taken.prefixes.len()), (0, 0), "nothing is left behind");
    }

    /// Behind a balancer nobody counts before it is known who it is, and then as if there were none.
    #[test]
    fn a_balancer_has_no_share_of_its_own() {
        let slots = slots();
        let mut held: Vec<Slot> = (0..4).map(|_| slots.take_for_balancer().unwrap()).collect();
        assert_eq!(slots.take_for_balancer().unwrap_err(), TurnedAway::Total);
        assert_eq!(held[0].attribute(A), Ok(()));
        assert_eq!(held[1].attribute(A), Ok(()));
        assert_eq!(held[2].attribute(A), Err(TurnedAway::Handshakes));
        assert_eq!(held[2].attribute(B), Ok(()));
        drop(held);
        let taken = slots.lock();
        assert_eq!((taken.total, taken.prefixes.len()), (0, 0), "nothing is left behind");
    }

    #[test]
    fn the_open_face_cannot_fill_the_house() {
        let slots = slots();
        let (mut a, mut b) = (settled(&slots, A).unwrap(), settled(&slots, B).unwrap());
        assert_eq!(a.enter(Face::Enroll), Ok(()));
        assert_eq!(b.enter(Face::Enroll), Err(TurnedAway::Enroll), "whoever is in its handshake gives no way");
        assert_eq!(b.enter(Face::Manage), Ok(()));
        drop(a);
        assert_eq!(b.enter(Face::Enroll), Ok(()));
    }

    /// Idle connections from a few networks do not shut out who comes from another; who is being answered stays.
    #[test]
    fn a_newcomer_takes_the_place_of_the_greediests_oldest() {
        let live = Live::new(Arc::new(Metrics::new()));
        let limits =
            Limits { connections: 200, connections_enroll: 20, connections_enroll_per_prefix: 5, ..Limits::default() };
        let slots = ConnSlots::new(&limits);
        let from = |net: u8| IpAddr::from([198, 51, net, 1]);
        let mut held: Vec<(Slot, ConnGuard)> = Vec::new();
        for net in 0..4 {
            held.extend((0..5).map(|_| stranger(&slots, &live, from(net)).unwrap()));
            assert_eq!(stranger(&slots, &live, from(net)).unwrap_err(), TurnedAway::EnrollPrefix);
        }
        // The very first is busy.
        let _serving = held[0].1.conn().serving();
        for newcomer in 100..110 {
            held.push(stranger(&slots, &live, from(newcomer)).unwrap());
        }
        let gone: Vec<usize> =
            held.iter().enumerate().filter(|(_, (_, seat))| seat.conn().cut().is_some()).map(|(at, _)| at).collect();
        assert_eq!(gone.len(), 10, "{gone:?}");
        assert!(!gone.contains(&0) && gone.iter().all(|at| *at < 20), "only of those who had many: {gone:?}");
        for net in 0..4 {
            let of_net = gone.iter().filter(|at| **at / 5 == net).count();
            assert!((2..=3).contains(&of_net), "the greediest each time: {gone:?}");
        }
        assert_eq!(slots.lock().enroll, 20);
        drop(held);
        let taken = slots.lock();
        assert_eq!((taken.total, taken.enroll, taken.prefixes.len(), taken.strangers.len()), (0, 0, 0, 0));
    }

    /// A company's /48 is not one machine, and a provider's /32 is not everybody.
    #[test]
    fn prefixes_of_ipv6_have_each_their_share() {
        let limits = Limits { connections: 1_000, connections_per_prefix: 2, ..Limits::default() };
        let slots = ConnSlots::new(&limits);
        let from = |a: u16, b: u16| IpAddr::from([0x2001, 0xdb8, a, b, 0, 0, 0, 1]);
        let mut held: Vec<Slot> = Vec::new();
        let mut fill = |a: u16, b: u16| {
            let before = held.len();
            while let Ok(slot) = settled(&slots, from(a, b)) {
                held.push(slot);
            }
            held.len() - before
        };
        assert_eq!([fill(1, 1), fill(1, 1), fill(1, 2), fill(1, 3), fill(1, 4), fill(1, 5)], [2, 0, 2, 2, 2, 0]);
        assert_eq!([fill(2, 1), fill(2, 2), fill(2, 3), fill(2, 4), fill(3, 1)], [2, 2, 2, 2, 0]);
        assert!(slots.take(IpAddr::from([0x2001, 0xdb9, 0, 0, 0, 0, 0, 1])).is_ok());
    }
}
