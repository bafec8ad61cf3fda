//! Keeps the lease of this process, under which it writes records that must not outlive it: those of its tunnels.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{task::JoinHandle, time::sleep};

use super::shell::Shell;
use crate::store::{CommitError, LeaseId};

/// How long records under the lease outlive their gateway: two renewals of the lease may fail.
const TTL: Duration = Duration::from_secs(15);

/// Interval of renewing the lease.
const KEEP: Duration = Duration::from_secs(5);

/// Starts the task that renews it.
pub fn start(shell: &Arc<Shell>) -> JoinHandle<()> {
    tokio::spawn(keep(Arc::downgrade(shell)))
}

async fn keep(shell: Weak<Shell>) {
    loop {
        let Some(shell) = shell.upgrade() else { return };
        match kept(&shell).await {
            Ok(lease) => shell.lease.becomes(Some(lease)),
            Err(CommitError::Lapsed) => {
                tracing::warn!("the lease of this gateway has lapsed: other gateways took its tunnels for gone");
                shell.lease.becomes(None);
                continue;
            }
            // A closed store is noticed by its readers and writers.
            Err(CommitError::Closed) => return,
            // Open tunnels stay open; the store reports a lapsed lease.
            Err(
                error @ (CommitError::Conflict
                | CommitError::Invalid(_)
                | CommitError::Unknown(_)
                | CommitError::Unavailable { .. }),
            ) => tracing::warn!(%error, "the lease of this gateway could not be kept; it is tried again"),
        }
        drop(shell);
        sleep(KEEP).await;
    }
}

/// A new lease for its full duration.
async fn kept(shell: &Shell) -> Result<LeaseId, CommitError> {
    let now = shell.clock.uptime();
    match shell.lease.current() {
        Some(lease) => shell.store.keep_alive(lease, now).await.map(|()| lease),
        None => shell.store.lease(TTL, now).await,
    }
}

/// Revokes it: the records under it are removed at once.
pub async fn give_up(shell: &Shell) {
    if let Some(lease) = shell.lease.current() {
        shell.lease.becomes(None);
        // If it cannot be revoked it lapses.
        let _ = shell.store.revoke(lease).await;
    }
}
