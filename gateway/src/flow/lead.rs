//! Leader election: the gateway that holds this lease does the housekeeping of the store. When it stops, the lease lapses, and another
//! gateway takes it.

use super::shell::Shell;
use crate::{
    core::{
        change::{Changes, Expectation},
        keys,
        refusal::Fault,
    },
    limits::LEAD_LEASE,
    registry::lead::HeldLease,
    store::{Batch, CommitError, Key, Version},
};

/// Proof that this gateway was the leader a moment ago.
#[derive(Copy, Clone, Debug)]
pub struct Lead(Version);

impl Lead {
    /// Adds the condition that this gateway is still the leader.
    pub fn guards(self, changes: &mut Changes) {
        changes.expect.push(Expectation::At(keys::LEAD.to_owned(), self.0));
    }
}

/// Takes the lease, or keeps it; nothing while another gateway holds it.
///
/// # Errors
/// When the store fails.
pub async fn lead(shell: &Shell) -> Result<Option<Lead>, Fault> {
    let mut held = shell.leading.lock().await;
    let held_before = held.map(|held| held.version);
    let now = shell.clock.uptime();
    let key = Key::from(keys::LEAD);
    let read = shell.store.read(std::slice::from_ref(&key)).await.map_err(|error| shell.fault(error))?;
    let standing = read.only();
    if let Some(HeldLease { lease, version }) = *held {
        match shell.store.keep_alive(lease, now).await {
            Ok(()) if standing.as_ref().is_some_and(|entry| entry.version == version) => {
                return Ok(Some(Lead(version)));
            }
            // The lease lapsed, or the record was overwritten.
            Ok(()) | Err(CommitError::Lapsed) => {
                *held = None;
                tracing::warn!("this gateway does not do the housekeeping of the store any more");
                shell.store.revoke(lease).await.map_err(|error| failed(shell, error))?;
            }
            Err(error) => return Err(failed(shell, error)),
        }
    }
    let free = match &standing {
        None => Batch::default().absent(key.clone()),
        // A damaged record belongs to nobody.
        Some(entry) if entry.damage.is_some() || serde_json::from_slice::<u64>(&entry.value).is_err() => {
            Batch::default()
        }
        // If our earlier record has not lapsed yet, this commit fails.
        Some(entry) if held_before == Some(entry.version) => Batch::default().absent(key.clone()),
        Some(_) => return Ok(None),
    };
    let lease = shell.store.lease(LEAD_LEASE, now).await.map_err(|error| failed(shell, error))?;
    let since = serde_json::to_vec(&shell.now().secs()).unwrap_or_default();
    let taken = free.put_leased(key, since, lease);
    match shell.store.commit(taken).await {
        Ok(version) => {
            tracing::info!("this gateway does the housekeeping of the store");
            *held = Some(HeldLease { lease, version });
            Ok(Some(Lead(version)))
        }
        // Another gateway took the lease. If the outcome of our commit is unknown, our lease lapses by itself.
        Err(CommitError::Conflict | CommitError::Lapsed) => {
            shell.store.revoke(lease).await.map_err(|error| failed(shell, error))?;
            Ok(None)
        }
        Err(error) => Err(failed(shell, error)),
    }
}

/// Releases the lease, so that another gateway need not wait until it lapses.
pub async fn give_up(shell: &Shell) {
    if let Some(HeldLease { lease, .. }) = shell.leading.lock().await.take() {
        // It lapses by itself.
        let _ = shell.store.revoke(lease).await;
    }
}

fn failed(shell: &Shell, error: CommitError) -> Fault {
    match error {
        CommitError::Unavailable { retry_after, why } => Fault::Unavailable { retry_after, why },
        CommitError::Closed | CommitError::Unknown(_) => {
            shell.fatal.notify_one();
            Fault::Commit(error.to_string())
        }
        CommitError::Conflict | CommitError::Invalid(_) | CommitError::Lapsed => Fault::Commit(error.to_string()),
    }
}
