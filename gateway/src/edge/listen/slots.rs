//! How many connections there may be: in total, on the open face, and from one source prefix.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    edge::{metrics::TurnedAway, rate::Prefix, tls::Face},
    limits::Limits,
};

/// All slots there are.
#[derive(Debug)]
pub(super) struct Slots {
    taken: Mutex<Taken>,
    connections: usize,
    connections_per_prefix: usize,
    connections_enroll: usize,
    handshakes_per_prefix: usize,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    enroll: usize,
    prefixes: HashMap<Prefix, OfPrefix>,
}

#[derive(Debug, Default)]
struct OfPrefix {
    connections: usize,
    handshakes: usize,
}

impl Slots {
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::default(),
            connections: limits.connections,
            connections_per_prefix: limits.connections_per_prefix,
            connections_enroll: limits.connections_enroll,
            handshakes_per_prefix: limits.handshakes_per_prefix,
        })
    }

    /// A slot for a fresh socket, unless it is one too many.
    pub fn take(self: &Arc<Self>, source: IpAddr) -> Result<Slot, TurnedAway> {
        let prefix = Prefix::of(source);
        let mut taken = self.lock();
        if taken.total >= self.connections {
            return Err(TurnedAway::Total);
        }
        if let Some(of_prefix) = taken.prefixes.get(&prefix) {
            if of_prefix.connections >= self.connections_per_prefix {
                return Err(TurnedAway::Prefix);
            }
            if of_prefix.handshakes >= self.handshakes_per_prefix {
                return Err(TurnedAway::Handshakes);
            }
        }
        taken.total += 1;
        let of_prefix = taken.prefixes.entry(prefix).or_default();
        of_prefix.connections += 1;
        of_prefix.handshakes += 1;
        drop(taken);
        Ok(Slot { slots: Arc::clone(self), prefix, in_handshake: true, on_enroll: false })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing under this lock can panic half-way through a change.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's slot, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    prefix: Prefix,
    in_handshake: bool,
    on_enroll: bool,
}

impl Slot {
    /// The connection goes to a face; the open one has its own limit.
    pub fn enter(&mut self, face: Face) -> Result<(), TurnedAway> {
        match face {
            Face::Manage | Face::Proxy | Face::Tunnel => Ok(()),
            Face::Enroll => {
                let mut taken = self.slots.lock();
                if taken.enroll >= self.slots.connections_enroll {
                    return Err(TurnedAway::Enroll);
                }
                taken.enroll += 1;
                self.on_enroll = true;
                Ok(())
            }
        }
    }

    /// The handshake ended, one way or the other.
    pub fn handshake_over(&mut self) {
        if std::mem::take(&mut self.in_handshake)
            && let Some(of_prefix) = self.slots.lock().prefixes.get_mut(&self.prefix)
        {
            of_prefix.handshakes -= 1;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.handshake_over();
        let mut taken = self.slots.lock();
        taken.total -= 1;
        if self.on_enroll {
            taken.enroll -= 1;
        }
        if let Some(of_prefix) = taken.prefixes.get_mut(&self.prefix) {
            of_prefix.connections -= 1;
            if of_prefix.connections == 0 {
                taken.prefixes.remove(&self.prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Arc<Slots> {
        Slots::new(&Limits {
            connections: 4,
            connections_per_prefix: 3,
            connections_enroll: 1,
            handshakes_per_prefix: 2,
            ..Limits::default()
        })
    }

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    fn settled(slots: &Arc<Slots>, source: IpAddr) -> Result<Slot, TurnedAway> {
        let mut slot = slots.take(source)?;
        slot.handshake_over();
        Ok(slot)
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

    #[test]
    fn the_open_face_cannot_fill_the_house() {
        let slots = slots();
        let (mut a, mut b) = (settled(&slots, A).unwrap(), settled(&slots, B).unwrap());
        assert_eq!(a.enter(Face::Enroll), Ok(()));
        assert_eq!(b.enter(Face::Enroll), Err(TurnedAway::Enroll));
        assert_eq!(b.enter(Face::Manage), Ok(()));
        drop(a);
        assert_eq!(b.enter(Face::Enroll), Ok(()));
    }
}
