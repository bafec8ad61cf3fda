//! Leases of the engines in this process. They are held in memory: an engine that only this process may open has no lease left once the
//! process is gone, and takes the entries away when it is opened again.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::batch::{Key, Version};

/// A lease, as the store that gave it knows it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// Leases and the entries that hang on them.
#[derive(Debug, Default)]
pub(super) struct Leases {
    given: u64,
    held: BTreeMap<LeaseId, Held>,
    of: HashMap<Key, LeaseId>,
}

#[derive(Debug)]
struct Held {
    ttl: Duration,
    ends: Duration,
    keys: BTreeMap<Key, Version>,
}

impl Leases {
    pub(super) fn give(&mut self, ttl: Duration, now: Duration) -> LeaseId {
        self.given += 1;
        let lease = LeaseId(self.given);
        self.held.insert(lease, Held { ttl, ends: now.saturating_add(ttl), keys: BTreeMap::new() });
        lease
    }

    /// Whether it still stood, and goes on from now.
    pub(super) fn keep(&mut self, lease: LeaseId, now: Duration) -> bool {
        match self.held.get_mut(&lease).filter(|held| held.ends > now) {
            Some(held) => {
                held.ends = now.saturating_add(held.ttl);
                true
            }
            None => false,
        }
    }

    pub(super) fn stands(&self, lease: LeaseId) -> bool {
        self.held.contains_key(&lease)
    }

    /// A commit wrote a key: from now on it hangs on this lease, or on none.
    pub(super) fn wrote(&mut self, key: &Key, version: Version, lease: Option<LeaseId>) {
        if let Some(before) = self.of.remove(key)
            && let Some(held) = self.held.get_mut(&before)
        {
            held.keys.remove(key);
        }
        if let Some(lease) = lease
            && let Some(held) = self.held.get_mut(&lease)
        {
            held.keys.insert(key.clone(), version);
            self.of.insert(key.clone(), lease);
        }
    }

    /// Ends a lease. Gives what hung on it, each as it was last written.
    pub(super) fn end(&mut self, lease: LeaseId) -> Vec<(Key, Version)> {
        let keys: Vec<_> = self.held.remove(&lease).into_iter().flat_map(|held| held.keys).collect();
        for (key, _) in &keys {
            self.of.remove(key);
        }
        keys
    }

    /// Ends those whose time is over.
    pub(super) fn lapse(&mut self, now: Duration) -> Vec<(Key, Version)> {
        let over: Vec<LeaseId> =
            self.held.iter().filter(|(_, held)| held.ends <= now).map(|(lease, _)| *lease).collect();
        over.into_iter().flat_map(|lease| self.end(lease)).collect()
    }
}
