//! Leases of the embedded engines. They are in memory only: since no other process can open the store, every lease ends with the process,
//! and the leased entries are deleted when the store is opened again.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::batch::{Key, LeaseId, Version};

/// Leases and the entries written with them.
#[derive(Debug, Default)]
pub(super) struct Leases {
    last_id: u64,
    by_id: BTreeMap<LeaseId, LeaseState>,
    by_key: HashMap<Key, LeaseId>,
}

#[derive(Debug)]
struct LeaseState {
    ttl: Duration,
    ends: Duration,
    keys: BTreeMap<Key, Version>,
}

impl Leases {
    pub(super) fn grant(&mut self, ttl: Duration, now: Duration) -> LeaseId {
        self.last_id += 1;
        let lease = LeaseId(self.last_id);
        self.by_id.insert(lease, LeaseState { ttl, ends: now.saturating_add(ttl), keys: BTreeMap::new() });
        lease
    }

    /// Restarts the lease's `ttl`. False if it has ended.
    pub(super) fn keep_alive(&mut self, lease: LeaseId, now: Duration) -> bool {
        match self.by_id.get_mut(&lease).filter(|state| state.ends > now) {
            Some(state) => {
                state.ends = now.saturating_add(state.ttl);
                true
            }
            None => false,
        }
    }

    pub(super) fn exists(&self, lease: LeaseId) -> bool {
        self.by_id.contains_key(&lease)
    }

    /// A commit wrote the key: attaches it to `lease` and detaches it from any other.
    pub(super) fn attach(&mut self, key: &Key, version: Version, lease: Option<LeaseId>) {
        if let Some(before) = self.by_key.remove(key)
            && let Some(state) = self.by_id.get_mut(&before)
        {
            state.keys.remove(key);
        }
        if let Some(lease) = lease
            && let Some(state) = self.by_id.get_mut(&lease)
        {
            state.keys.insert(key.clone(), version);
            self.by_key.insert(key.clone(), lease);
        }
    }

    /// Ends a lease and returns its entries, each with the version last written.
    pub(super) fn end(&mut self, lease: LeaseId) -> Vec<(Key, Version)> {
        let keys: Vec<_> = self.by_id.remove(&lease).into_iter().flat_map(|state| state.keys).collect();
        for (key, _) in &keys {
            self.by_key.remove(key);
        }
        keys
    }

    /// Ends every lease whose `ttl` is over and returns their entries.
    pub(super) fn lapse(&mut self, now: Duration) -> Vec<(Key, Version)> {
        let over: Vec<LeaseId> =
            self.by_id.iter().filter(|(_, state)| state.ends <= now).map(|(lease, _)| *lease).collect();
        over.into_iter().flat_map(|lease| self.end(lease)).collect()
    }
}
