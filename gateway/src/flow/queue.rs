//! The queue of those who wait for a person, read from the store when it is first needed.

use super::shell::Shell;
use crate::{
    core::{
        keys,
        records::{Seen, Waiting},
        refusal::Fault,
    },
    registry::queue::{Entries, Fullness},
};

/// How many wait, in all and from the network of `source`, a prefix in its written form.
///
/// # Errors
/// When the store fails.
pub async fn fullness(shell: &Shell, source: &str) -> Result<Fullness, Fault> {
    look(shell, |entries| entries.fullness(source)).await
}

/// The oldest that waits from the network with most, if that has more than the one of `source`.
///
/// # Errors
/// When the store fails.
pub async fn to_give_way(shell: &Shell, source: &str) -> Result<Option<String>, Fault> {
    look(shell, |entries| entries.to_give_way(source)).await
}

/// Others that wait and want the same name.
///
/// # Errors
/// When the store fails.
pub async fn rivals(shell: &Shell, name: &str, id: &str) -> Result<Vec<String>, Fault> {
    look(shell, |entries| entries.rivals(name, id)).await
}

/// Those that wait to rejoin a lineage.
///
/// # Errors
/// When the store fails.
pub async fn resting_on(shell: &Shell, lineage: &str) -> Result<Vec<String>, Fault> {
    look(shell, |entries| entries.resting_on(lineage)).await
}

/// Reads the store again, since whoever commits may be gone before it can tell. Gives the entries.
///
/// # Errors
/// When the store fails.
pub async fn reread(shell: &Shell) -> Result<Vec<(String, Seen<Waiting>)>, Fault> {
    let mut held = shell.queue.entries().await;
    let (rows, read) = from_store(shell).await?;
    *held = Some(read);
    Ok(rows)
}

async fn look<T>(shell: &Shell, look: impl FnOnce(&Entries) -> T) -> Result<T, Fault> {
    let mut held = shell.queue.entries().await;
    if let Some(entries) = held.as_ref() {
        return Ok(look(entries));
    }
    let (_, fresh) = from_store(shell).await?;
    let value = look(&fresh);
    *held = Some(fresh);
    Ok(value)
}

/// The entries as the store has them.
///
/// # Errors
/// When the store fails.
pub async fn from_store(shell: &Shell) -> Result<(Vec<(String, Seen<Waiting>)>, Entries), Fault> {
    // No more than `[limits] pending` lets wait.
    let rows: Vec<(String, Seen<Waiting>)> = shell.scan(keys::WAITING, None, usize::MAX).await?;
    let mut entries = Entries::default();
    for (key, seen) in &rows {
        entries.set(key.trim_start_matches(keys::WAITING).to_owned(), seen.version, Some(seen.record.clone()));
    }
    Ok((rows, entries))
}
