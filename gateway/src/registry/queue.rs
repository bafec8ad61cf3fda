//! Who waits for a person, in memory beside the store: how many in all and from where, and who wants the same name. Made from
//! the store when first needed and kept by every commit, so that no request reads the whole queue.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use tokio::sync::{Mutex, MutexGuard};

use crate::{core::records::Waiting, ports::rate::Prefix};

/// The queue. Entries are those of the index `waiting/`.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<Option<Entries>>,
}

/// A change of the index: whose entry, and what stands there afterwards.
pub type QueueChange = (String, Option<Waiting>);

/// The entries, and by what they are found.
#[derive(Debug, Default)]
pub struct Entries {
    /// By id, with the commit that wrote it. One that was taken away stays until the next look, since of two commits the later
    /// may be told first.
    entries: HashMap<String, (u64, Option<Waiting>)>,
    waiting: usize,
    /// How many of them were taken back, and only count.
    withdrawn: usize,
    /// Oldest first.
    by_prefix: HashMap<Prefix, BTreeSet<(u64, String)>>,
    by_name: HashMap<String, BTreeSet<String>>,
    by_lineage: HashMap<String, BTreeSet<String>>,
}

/// How full the queue is for one network.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Fullness {
    /// How many wait.
    pub all: usize,
    /// How many wait from there, in shares: of a wider prefix a part of those that wait from it.
    pub from_prefix: usize,
}

impl Queue {
    /// The entries, once they were read. Commits meanwhile wait to tell theirs, and the later version counts.
    pub async fn entries(&self) -> MutexGuard<'_, Option<Entries>> {
        self.state.lock().await
    }

    /// What a commit changed. Gives how many wait, once that is known.
    pub async fn committed(&self, version: u64, changes: Vec<QueueChange>) -> Option<usize> {
        if changes.is_empty() {
            return None;
        }
        let mut state = self.state.lock().await;
        let state = state.as_mut()?;
        for (id, entry) in changes {
            state.set(id, version, entry);
        }
        Some(state.waiting - state.withdrawn)
    }
}

impl Entries {
    /// How many wait, in all and from the network of `source`, a prefix in its written form.
    #[must_use]
    pub fn fullness(&self, source: &str) -> Fullness {
        let from_prefix = prefixes(source).map(|(prefix, share)| self.of(prefix) / share as usize).max();
        Fullness { all: self.waiting, from_prefix: from_prefix.unwrap_or(0) }
    }

    /// The oldest that waits from the network with most, if that has more than the one of `source`.
    #[must_use]
    pub fn to_give_way(&self, source: &str) -> Option<String> {
        let ours = prefixes(source).next().map_or(0, |(prefix, _)| self.of(prefix));
        let narrow = self.by_prefix.iter().filter(|(prefix, _)| prefix.is_narrowest());
        let (_, entries) = narrow.max_by_key(|(prefix, entries)| (entries.len(), **prefix))?;
        (entries.len() > ours).then(|| entries.first().map(|(_, id)| id.clone())).flatten()
    }

    /// Others that wait and want the same name.
    #[must_use]
    pub fn rivals(&self, name: &str, id: &str) -> Vec<String> {
        let same = self.by_name.get(name).into_iter().flatten();
        same.filter(|other| *other != id).cloned().collect()
    }

    /// Those that wait to rejoin a lineage.
    #[must_use]
    pub fn resting_on(&self, lineage: &str) -> Vec<String> {
        self.by_lineage.get(lineage).into_iter().flatten().cloned().collect()
    }

    fn of(&self, prefix: Prefix) -> usize {
        self.by_prefix.get(&prefix).map_or(0, BTreeSet::len)
    }

    /// An entry as the commit with this version left it.
    pub fn set(&mut self, id: String, version: u64, entry: Option<Waiting>) {
        if self.entries.get(&id).is_some_and(|(known, _)| *known > version) {
            return;
        }
        if let Some((known, Some(old))) = self.entries.remove(&id) {
            self.waiting -= 1;
            self.withdrawn -= usize::from(old.withdrawn);
            for (prefix, _) in prefixes(&old.source) {
                if let Some(entries) = self.by_prefix.get_mut(&prefix) {
                    entries.remove(&(known, id.clone()));
                    if entries.is_empty() {
                        self.by_prefix.remove(&prefix);
                    }
                }
            }
            forget(&mut self.by_name, old.wanted_name.as_ref(), &id);
            forget(&mut self.by_lineage, old.lineage.as_ref(), &id);
        }
        if let Some(new) = &entry {
            self.waiting += 1;
            self.withdrawn += usize::from(new.withdrawn);
            for (prefix, _) in prefixes(&new.source) {
                self.by_prefix.entry(prefix).or_default().insert((version, id.clone()));
            }
            if let Some(name) = &new.wanted_name {
                self.by_name.entry(name.clone()).or_default().insert(id.clone());
            }
            if let Some(lineage) = &new.lineage {
                self.by_lineage.entry(lineage.clone()).or_default().insert(id.clone());
            }
        }
        self.entries.insert(id, (version, entry));
    }
}

fn forget(index: &mut HashMap<String, BTreeSet<String>>, of: Option<&String>, id: &str) {
    if let Some(of) = of
        && let Some(ids) = index.get_mut(of)
    {
        ids.remove(id);
        if ids.is_empty() {
            index.remove(of);
        }
    }
}

/// The prefixes that an entry counts for, from the written form of the narrowest.
fn prefixes(source: &str) -> impl Iterator<Item = (Prefix, u32)> + use<> {
    let address: Option<IpAddr> = source.split('/').next().and_then(|address| address.parse().ok());
    address.into_iter().flat_map(Prefix::shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::records::UnixSecs;

    fn entry(source: &str, name: Option<&str>) -> Option<Waiting> {
        Some(Waiting {
            wanted_name: name.map(str::to_owned),
            source: source.to_owned(),
            expires: UnixSecs(9),
            lineage: None,
            withdrawn: false,
        })
    }

    #[test]
    fn entries_come_and_go_in_any_order() {
        let mut state = Entries::default();
        state.set("a".into(), 5, entry("192.0.2.0/24", Some("n")));
        state.set("b".into(), 6, entry("192.0.2.0/24", Some("n")));
        state.set("c".into(), 7, entry("2001:db8:1:2::/64", None));
        assert_eq!((state.waiting, state.by_prefix.len(), state.by_name["n"].len()), (3, 4, 2));
        // The later commit is told first, and stands.
        state.set("d".into(), 9, None);
        state.set("d".into(), 8, entry("192.0.2.0/24", None));
        state.set("a".into(), 10, None);
        state.set("a".into(), 10, None);
        assert_eq!((state.waiting, state.by_prefix.len(), state.by_name["n"].len()), (2, 4, 1));
        state.set("b".into(), 11, entry("198.51.100.0/24", None));
        state.set("c".into(), 12, None);
        assert_eq!((state.waiting, state.by_prefix.len(), state.by_name.len()), (1, 1, 0));
        state.set("b".into(), 13, None);
        assert_eq!((state.waiting, state.by_prefix.len()), (0, 0));
    }
}
