//! The queue of waiting requests in memory: read from the store when it is first needed, then updated by the commits of all gateways.

use std::sync::{Arc, Weak};

use tokio::task::JoinHandle;

use super::{page::All, shell::Shell};
use crate::{
    core::{
        keys,
        look::Look,
        records::{NumberHolder, Seen, Waiting},
        refusal::{Fault, QueueFull},
    },
    registry::queue::{Entries, Eviction, QueueLimits},
    store::{Commit, Reported, Watch},
};

/// Most commits processed together.
const AT_ONCE: usize = 256;

/// Starts the task that follows the commits of other gateways.
pub fn start(shell: &Arc<Shell>) -> JoinHandle<()> {
    let watch = shell.store.watch(vec![keys::WAITING.into()]);
    tokio::spawn(follow(Arc::downgrade(shell), watch))
}

async fn follow(shell: Weak<Shell>, mut watch: Watch) {
    while let Some(first) = watch.next().await {
        let Some(shell) = shell.upgrade() else { return };
        // Our own commits update the queue themselves, a moment later.
        tokio::task::yield_now().await;
        let Reported { commits, lagged } = watch.with_ready(first, AT_ONCE);
        if lagged || heard(&shell, &commits).await.is_err() {
            forget(&shell).await;
        }
    }
}

/// Applies changes that are not known yet.
async fn heard(shell: &Shell, commits: &[Commit]) -> Result<(), Fault> {
    let mut news: Vec<(String, u64)> = Vec::new();
    {
        let held = shell.queue.entries().await;
        let Some(entries) = held.as_ref() else { return Ok(()) };
        for (version, keys) in commits {
            let ids = keys.iter().filter_map(|key| Some(key.to_string().strip_prefix(keys::WAITING)?.to_owned()));
            let news_of = |id: &String| entries.version(id).is_none_or(|known| known < *version);
            news.extend(ids.filter(news_of).map(|id| (id, *version)));
        }
    }
    if news.is_empty() {
        return Ok(());
    }
    let found = |look: &Look| news.iter().map(|(id, _)| look.get::<Waiting>(&keys::waiting(id))).collect();
    let found: Vec<Option<Seen<Waiting>>> = shell.look::<_, Fault>(found).await?;
    let mut held = shell.queue.entries().await;
    let Some(entries) = held.as_mut() else { return Ok(()) };
    for ((id, version), found) in news.into_iter().zip(found) {
        match found {
            Some(Seen { record, version }) => entries.set(id, version, Some(record)),
            None => entries.set(id, version, None),
        }
    }
    shell.metrics.waiting(entries.waiting());
    Ok(())
}

/// Free numbers for a request from the network `source` (a prefix as text), or the reason why there are none.
///
/// # Errors
/// When the store fails.
pub async fn numbers(shell: &Shell, source: &str) -> Result<Result<Vec<String>, QueueFull>, Fault> {
    let settings = shell.settings.load();
    let limits = QueueLimits { all: settings.pending_max, per_prefix: settings.pending_max_per_prefix };
    let random = u32::from_le_bytes(shell.entropy.bytes());
    look(shell, |entries| entries.numbers(source, limits, random)).await
}

/// Called after a conflict on these slots: reloads the queue unless it already shows them taken.
///
/// # Errors
/// When the store fails.
pub async fn lost(shell: &Shell, numbers: &[String]) -> Result<(), Fault> {
    let held =
        |look: &Look| numbers.iter().map(|number| look.get::<NumberHolder>(&keys::queue_number(number))).collect();
    let held: Vec<Option<Seen<NumberHolder>>> = shell.look::<_, Fault>(held).await?;
    tokio::task::yield_now().await;
    let mut known = shell.queue.entries().await;
    let unknown =
        |entries: &Entries| numbers.iter().zip(&held).any(|(number, held)| held.is_some() && !entries.is_held(number));
    if known.as_ref().is_some_and(unknown) {
        *known = None;
    }
    Ok(())
}

/// Chooses the entry to evict for a request from `source`: the oldest of the network with the most, if that has more than the one of
/// `source`.
///
/// # Errors
/// When the store fails.
pub async fn choose_eviction(shell: &Shell, source: &str) -> Result<Option<Eviction>, Fault> {
    look(shell, |entries| shell.queue.choose_eviction(entries, source)).await
}

/// Discards the queue in memory, because it was found wrong; it is read again when it is next needed.
pub async fn forget(shell: &Shell) {
    *shell.queue.entries().await = None;
}

/// Other waiting requests for the same name.
///
/// # Errors
/// When the store fails.
pub async fn rivals(shell: &Shell, name: &str, id: &str) -> Result<Vec<String>, Fault> {
    look(shell, |entries| entries.rivals(name, id)).await
}

/// Waiting requests to rejoin a lineage.
///
/// # Errors
/// When the store fails.
pub async fn resting_on(shell: &Shell, lineage: &str) -> Result<Vec<String>, Fault> {
    look(shell, |entries| entries.resting_on(lineage)).await
}

async fn look<T>(shell: &Shell, look: impl FnOnce(&Entries) -> T) -> Result<T, Fault> {
    let mut held = shell.queue.entries().await;
    if let Some(entries) = held.as_ref() {
        return Ok(look(entries));
    }
    let fresh = from_store(shell).await?;
    let value = look(&fresh);
    shell.metrics.waiting(fresh.waiting());
    *held = Some(fresh);
    Ok(value)
}

/// Loads the queue and reports its length.
///
/// # Errors
/// When the store fails.
pub async fn begin(shell: &Shell) -> Result<(), Fault> {
    look(shell, |_| ()).await
}

/// The entries in the store: at most `[enroll] pending_max`.
///
/// # Errors
/// When the store fails.
pub async fn from_store(shell: &Shell) -> Result<Entries, Fault> {
    let (mut all, mut entries) = (All::<Waiting>::of(shell, keys::WAITING, None), Entries::default());
    while let Some((id, seen)) = all.next().await? {
        entries.set(id, seen.version, Some(seen.record));
    }
    Ok(entries)
}
