//! Records in the store of which gateway has which machine's tunnel: one for each machine with a tunnel, under the lease of its
//! gateway. It is removed with the tunnel, and with the gateway.
//!
//! A record is written after its tunnel is up, many in one commit: a machine that reconnects does not wait for the store, and stays
//! connected while the store is unreachable. Of two tunnels of one machine, the newer is the one whose gateway knew the other's record
//! when it came up; the enforcer ends the older one.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use pki::{Identity, Name, Role};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use super::{
    connect,
    shell::{Shell, readable},
};
use crate::{
    core::{
        keys,
        records::{Seen, ServiceRecord, TunnelRecord},
        refusal::Fault,
        replica::{RecordChange, is_newer, record_change},
        session::{EndReason, Mode},
    },
    registry::{tunnel_table::Tunnels, tunnels::Tunnel},
    store::{Batch, Commit, CommitError, LeaseId},
};

/// Most records in one commit: half a batch, if each machine has the most services.
const AT_ONCE: usize = 100;

/// How long changes are collected for the next commit: some forty machines when a fleet reconnects.
const GATHER: Duration = Duration::from_millis(200);

/// Pause before the next attempt after the store failed.
const AGAIN: Duration = Duration::from_secs(2);

/// Starts the task that writes them.
pub fn start(shell: &Arc<Shell>) -> JoinHandle<()> {
    tokio::spawn(keep_written(Arc::downgrade(shell), Arc::clone(&shell.tunnels), shell.lease.follow()))
}

async fn keep_written(shell: Weak<Shell>, tunnels: Arc<Tunnels>, mut leases: watch::Receiver<Option<LeaseId>>) {
    // An error means that the shell is gone.
    while let Ok(Some(lease)) = leases.wait_for(Option::is_some).await.map(|lease| *lease) {
        tunnels.write_all();
        loop {
            tokio::select! {
                biased;
                _ = leases.changed() => break,
                () = tunnels.unwritten() => {}
            }
            let Some(shell) = shell.upgrade() else { return };
            let machines = tunnels.take_unwritten(AT_ONCE);
            let wrote = write(&shell, lease, &machines).await;
            drop(shell);
            let pause = match wrote {
                Ok(()) if machines.len() == AT_ONCE => Duration::ZERO,
                Ok(()) => GATHER,
                Err(error) => {
                    tunnels.write_again(machines);
                    match error {
                        WriteError::Raced => Duration::ZERO,
                        WriteError::Failed(why) => {
                            tracing::warn!(why, "which tunnels are here could not be written down; it is tried again");
                            AGAIN
                        }
                        WriteError::Closed => return,
                    }
                }
            };
            sleep(pause).await;
        }
    }
}

/// Why records were not written.
enum WriteError {
    /// Another gateway wrote one of them meanwhile.
    Raced,
    Failed(String),
    /// The store is closed for good.
    Closed,
}

impl From<Fault> for WriteError {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault.to_string())
    }
}

impl From<CommitError> for WriteError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::Raced,
            CommitError::Closed => Self::Closed,
            CommitError::Invalid(_)
            | CommitError::Lapsed
            | CommitError::Unknown(_)
            | CommitError::Unavailable { .. } => Self::Failed(error.to_string()),
        }
    }
}

/// Writes the records of these machines, as far as their tunnels are at this gateway.
async fn write(shell: &Arc<Shell>, lease: LeaseId, machines: &[Identity]) -> Result<(), WriteError> {
    let found = records(shell, machines).await?;
    let (mut batch, mut written) = (Batch::default(), Vec::new());
    for (machine, seen) in machines.iter().zip(found) {
        // A damaged record is overwritten.
        let held = shell.tunnels.held(machine);
        let stands = seen.as_ref().and_then(Option::as_ref);
        let change = record_change(&shell.replica.name, stands, held.as_ref().map(|held| held.after));
        let here = match (change, held, stands) {
            (RecordChange::Write, Some(held), _) => Some(held.tunnel),
            (RecordChange::Delete, ..) => None,
            // The enforcer may have checked before this tunnel came up.
            (RecordChange::Nothing, Some(held), Some(newer)) => {
                end(shell, held.tunnel, newer.clone());
                continue;
            }
            (RecordChange::Write | RecordChange::Nothing, ..) => continue,
        };
        batch = match &seen {
            Some(Some(seen)) => batch.at(key(machine), seen.version),
            Some(None) => batch.absent(key(machine)),
            None => batch,
        };
        batch = match here {
            Some(tunnel) => {
                let value = serde_json::to_vec(&record(shell, &tunnel));
                let value = value.map_err(|error| WriteError::Failed(error.to_string()))?;
                written.push(tunnel);
                batch.put_leased(key(machine), value, lease)
            }
            None => batch.delete(key(machine)),
        };
    }
    if batch.writes.is_empty() {
        return Ok(());
    }
    let version = shell.store.commit(batch).await?;
    written.iter().for_each(|tunnel| shell.tunnels.written(tunnel, version));
    Ok(())
}

fn key(machine: &Identity) -> String {
    keys::tunnel(machine.name.as_str())
}

fn record(shell: &Shell, tunnel: &Tunnel) -> TunnelRecord {
    let services = tunnel.services();
    let service = |offer: &crate::core::session::Offer| ServiceRecord {
        name: offer.name.clone(),
        sealed: offer.mode == Mode::Sealed,
    };
    TunnelRecord {
        gateway: shell.replica.name.to_string(),
        since: tunnel.since().into(),
        source: tunnel.source(),
        services: services.iter().map(service).collect(),
    }
}

/// Ends the tunnels here whose machines have come up at other gateways by these commits.
///
/// # Errors
/// When the store fails.
pub(super) async fn end_overtaken(shell: &Arc<Shell>, commits: &[Commit]) -> Result<(), Fault> {
    let mut machines = BTreeSet::new();
    for (version, keys) in commits {
        for key in keys {
            let name = keys::tunnel_of(&key.to_string()).and_then(|name| Name::parse(name).ok());
            let machine = name.map(|name| Identity { domain: shell.domain.clone(), role: Role::Machine, name });
            machines.extend(machine.filter(|machine| shell.tunnels.may_be_overtaken(machine, *version)));
        }
    }
    end_older(shell, &machines.into_iter().collect::<Vec<_>>()).await
}

/// The same for these machines, without commits.
///
/// # Errors
/// When the store fails.
pub(super) async fn end_older(shell: &Arc<Shell>, machines: &[Identity]) -> Result<(), Fault> {
    for some in machines.chunks(AT_ONCE) {
        for (machine, seen) in some.iter().zip(records(shell, some).await?) {
            match (shell.tunnels.held(machine), seen.flatten()) {
                (Some(held), Some(seen)) if is_newer(&shell.replica.name, &seen, held.after) => {
                    end(shell, held.tunnel, seen);
                }
                // The record that prevented ours is gone.
                (Some(_), None) => shell.tunnels.write_again([machine.clone()]),
                (Some(_), Some(_)) | (None, _) => {}
            }
        }
    }
    Ok(())
}

/// The records of these machines, nothing for one that is damaged.
async fn records(shell: &Shell, machines: &[Identity]) -> Result<Vec<Option<Option<Seen<TunnelRecord>>>>, Fault> {
    shell.look(|look| machines.iter().map(|machine| readable(look.get(&key(machine)))).collect()).await
}

fn end(shell: &Arc<Shell>, older: Arc<Tunnel>, newer: Seen<TunnelRecord>) {
    let (gateway, source) = (newer.record.gateway, newer.record.source);
    tracing::debug!(machine = %older.identity(), gateway, "the machine came up at another gateway");
    older.end(EndReason::Replaced, &format!("the machine came back at the gateway `{gateway}`"));
    let shell = Arc::clone(shell);
    tokio::spawn(async move { connect::replaced(&shell, &older, source).await });
}
