//! Who waits for a person, in memory beside the store: which numbers they hold, from where, and who wants the same name. Made from
//! the store when first needed, and kept by every commit: those of this gateway as they are made, those of others as they are heard of.
//! It says which numbers are free, and may be late; the commit that takes them says whether they are ([`crate::core::queue`]).

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::{self, Arc, PoisonError},
};

use tokio::sync::{Mutex, MutexGuard};

use crate::{
    core::{records::Waiting, refusal::QueueFull},
    ports::rate::Prefix,
};

/// Entries that are remembered to be gone: four times as many commits as a store has under way.
const GONE_KEPT: usize = 4096;

/// The queue. Entries are those of the index `waiting/`.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<Option<Entries>>,
    /// Entries that are being ended for somebody else.
    going: Arc<sync::Mutex<BTreeSet<String>>>,
}

/// A change of the index: whose entry, and what stands there afterwards.
pub type QueueChange = (String, Option<Waiting>);

/// The entries, and by what they are found.
#[derive(Debug, Default)]
pub struct Entries {
    /// By id, with the commit that wrote it. One that was taken away stays for a while, since of two commits the later may be told
    /// first.
    entries: HashMap<String, (u64, Option<Waiting>)>,
    /// Those that were taken away, oldest first.
    gone: VecDeque<(String, u64)>,
    waiting: usize,
    /// How many of them were taken back, and only count.
    withdrawn: usize,
    /// Oldest first.
    by_prefix: HashMap<Prefix, BTreeSet<(u64, String)>>,
    by_name: HashMap<String, BTreeSet<String>>,
    by_lineage: HashMap<String, BTreeSet<String>>,
    /// Numbers that are held, by what they are of: all, or a network.
    held: HashMap<String, HashSet<u32>>,
}

/// How many may wait.
#[derive(Copy, Clone, Debug)]
pub struct QueueLimits {
    /// In all.
    pub all: usize,
    /// From one network.
    pub per_prefix: usize,
}

/// What the numbers of all are called.
const OF_ALL: &str = "all";

/// An entry that is to end for somebody else. As long as this lives, whoever else needs room gets another.
#[derive(Debug)]
pub struct Eviction {
    id: String,
    going: Arc<sync::Mutex<BTreeSet<String>>>,
}

impl Eviction {
    /// Whose entry.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Eviction {
    fn drop(&mut self) {
        // Nothing under this lock can panic half-way through a change.
        self.going.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Queue {
    /// Who gives way to one from `source`: the oldest from the network with most, if that has more. Of many who come at once each gets
    /// another, or all but one would have to begin again.
    #[must_use]
    pub fn choose_eviction(&self, entries: &Entries, source: &str) -> Option<Eviction> {
        let mut going = self.going.lock().unwrap_or_else(PoisonError::into_inner);
        let id = entries.eviction_candidate(source, &going)?;
        going.insert(id.clone());
        Some(Eviction { id, going: Arc::clone(&self.going) })
    }

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
        Some(state.waiting())
    }
}

impl Entries {
    /// Free numbers for one from the network of `source`, a prefix in its written form: one of all, and one of each prefix that it is in,
    /// a wider one having more of them. Where `random` points to, so that two who come at once mostly get different ones.
    ///
    /// # Errors
    /// Why there are none: its network comes first, since for one from elsewhere somebody may have to give way.
    pub fn numbers(&self, source: &str, limits: QueueLimits, random: u32) -> Result<Vec<String>, QueueFull> {
        let mut numbers = Vec::new();
        for (prefix, share) in prefixes(source) {
            let most = limits.per_prefix.saturating_mul(share as usize);
            let free = self.free(&prefix.to_string(), most, random).filter(|_| self.of(prefix) < most);
            numbers.push(free.ok_or(QueueFull::Network)?);
        }
        let free = self.free(OF_ALL, limits.all, random).filter(|_| self.waiting < limits.all);
        numbers.push(free.ok_or(QueueFull::All)?);
        Ok(numbers)
    }

    fn free(&self, of: &str, most: usize, random: u32) -> Option<String> {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let from = random.checked_rem(most)?;
        let held = self.held.get(of);
        let free = (from..most).chain(0..from).find(|number| !held.is_some_and(|held| held.contains(number)))?;
        Some(format!("{of}/{free:05}"))
    }

    /// Whether somebody is known to hold a number.
    #[must_use]
    pub fn is_held(&self, number: &str) -> bool {
        parsed(number).is_some_and(|(of, number)| self.held.get(of).is_some_and(|held| held.contains(&number)))
    }

    /// How many wait for a person.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting - self.withdrawn
    }

    /// The commit that is known to have written an entry last.
    #[must_use]
    pub fn version(&self, id: &str) -> Option<u64> {
        self.entries.get(id).map(|(version, _)| *version)
    }

    /// The oldest that waits from the network with most and is not among `going`, if that network has more than the one of `source`.
    fn eviction_candidate(&self, source: &str, going: &BTreeSet<String>) -> Option<String> {
        let ours = prefixes(source).next().map_or(0, |(prefix, _)| self.of(prefix));
        let narrow = self.by_prefix.iter().filter(|(prefix, _)| prefix.is_narrowest());
        let (_, entries) = narrow.max_by_key(|(prefix, entries)| (entries.len(), **prefix))?;
        let staying = entries.iter().map(|(_, id)| id).filter(|id| !going.contains(*id));
        staying.take(entries.len().saturating_sub(ours)).next().cloned()
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
            for (of, number) in old.numbers.iter().filter_map(|number| parsed(number)) {
                if let Some(held) = self.held.get_mut(of) {
                    held.remove(&number);
                    if held.is_empty() {
                        self.held.remove(of);
                    }
                }
            }
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
            for (of, number) in new.numbers.iter().filter_map(|number| parsed(number)) {
                self.held.entry(of.to_owned()).or_default().insert(number);
            }
        }
        if entry.is_none() {
            self.gone.push_back((id.clone(), version));
        }
        self.entries.insert(id, (version, entry));
        if self.gone.len() > GONE_KEPT
            && let Some((id, version)) = self.gone.pop_front()
            && self.entries.get(&id).is_some_and(|(known, entry)| *known == version && entry.is_none())
        {
            self.entries.remove(&id);
        }
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

/// What a number is of, and which.
fn parsed(number: &str) -> Option<(&str, u32)> {
    let (of, number) = number.rsplit_once('/')?;
    Some((of, number.parse().ok()?))
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
            numbers: vec![],
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

    #[test]
    fn of_many_who_come_at_once_each_gets_another_place() {
        let (queue, mut state) = (Queue::default(), Entries::default());
        for (id, version) in [("a", 1), ("b", 2), ("c", 3)] {
            state.set(id.into(), version, entry("192.0.2.0/24", None));
        }
        state.set("d".into(), 4, entry("198.51.100.0/24", None));
        let goes = |source: &str| queue.choose_eviction(&state, source);
        let (first, second) = (goes("203.0.113.0/24").unwrap(), goes("203.0.113.0/24").unwrap());
        assert_eq!((first.id(), second.id()), ("a", "b"));
        drop(first);
        // The network keeps as many as that of whoever comes.
        let third = goes("198.51.100.0/24").unwrap();
        assert_eq!((third.id(), goes("198.51.100.0/24").map(|goes| goes.id().to_owned())), ("a", Some("c".into())));
        assert!(goes("192.0.2.0/24").is_none(), "nobody from their own network");
    }

    #[test]
    fn numbers_are_free_and_of_each_network() {
        let limits = QueueLimits { all: 4, per_prefix: 2 };
        let mut state = Entries::default();
        let join = |state: &mut Entries, id: &str, source: &str, random| -> Result<Vec<String>, QueueFull> {
            let numbers = state.numbers(source, limits, random)?;
            let entry = entry(source, None).map(|entry| Waiting { numbers: numbers.clone(), ..entry });
            state.set(id.to_owned(), 1, entry);
            Ok(numbers)
        };
        assert_eq!(join(&mut state, "a", "192.0.2.0/24", 7).unwrap(), ["192.0.2.0/24/00001", "all/00003"]);
        assert_eq!(join(&mut state, "b", "192.0.2.0/24", 7).unwrap(), ["192.0.2.0/24/00000", "all/00000"]);
        assert_eq!(join(&mut state, "c", "192.0.2.0/24", 7), Err(QueueFull::Network));
        let wide = join(&mut state, "d", "2001:db8:1:2::/64", 0).unwrap();
        assert_eq!(wide.len(), 4, "a prefix of each width: {wide:?}");
        join(&mut state, "e", "198.51.100.0/24", 0).unwrap();
        assert_eq!(join(&mut state, "f", "203.0.113.0/24", 0), Err(QueueFull::All));
        assert!(state.is_held("all/00003") && !state.is_held("all/00004"));
        state.set("a".to_owned(), 2, None);
        assert_eq!(join(&mut state, "f", "203.0.113.0/24", 0).unwrap()[1], "all/00003");
    }
}
