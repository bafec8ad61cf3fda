//! Keeps the lease of this process, under which it writes what must not outlive it: which tunnels it holds.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{task::JoinHandle, time::sleep};

use super::shell::Shell;
use crate::store::{CommitError, LeaseId};

/// How long what a gateway wrote under its lease outlives it: two tries to keep the lease may fail.
const TTL: Duration = Duration::from_secs(15);

/// How often the lease is kept.
const KEEP: Duration = Duration::from_secs(5);

/// Starts the task that keeps it.
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
            // Its end is noticed by whoever reads or writes.
            Err(CommitError::Closed) => return,
            // What is up stays up; the store says when the lease has lapsed meanwhile.
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

/// The lease, for its whole time from now.
async fn kept(shell: &Shell) -> Result<LeaseId, CommitError> {
    let now = shell.clock.uptime();
    match shell.lease.current() {
        Some(lease) => shell.store.keep_alive(lease, now).await.map(|()| lease),
        None => shell.store.lease(TTL, now).await,
    }
}

/// Gives it up: what was written with it vanishes at once.
pub async fn give_up(shell: &Shell) {
    if let Some(lease) = shell.lease.current() {
        shell.lease.becomes(None);
        // One that cannot be ended lapses.
        let _ = shell.store.revoke(lease).await;
    }
}
