//! Requests to renew now: who may make them, and which machines they reach.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
};

use pki::{Role, UnixTime};
use tokio::task::JoinHandle;

use super::{
    shell::{Actor, Shell, readable, retrying},
    subjects::{SubjectRecords, identity, resource, visible},
};
use crate::{
    core::{
        admission::Caller,
        change::Changes,
        facts::permit,
        keys,
        look::Look,
        records::{Lineage, Seen, UnixSecs},
        refusal::{Fault, Missing, Refusal},
        renew_now,
    },
    store::{Key, Reported, Watch},
};

/// Most lineages or commits processed together.
const AT_ONCE: usize = 64;

/// The machines to renew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// These machines.
    Named(BTreeSet<String>),
    /// All machines.
    All,
}

/// Asks machines to renew now: all that are named, or none if one of them cannot be asked.
///
/// # Errors
/// Why not.
pub async fn ask(shell: &Shell, caller: &Caller, whom: &Whom, reason: &str, instance: &str) -> Result<(), Refusal> {
    let who = caller.identity.to_string();
    retrying(|| async {
        let changes = match whom {
            Whom::Named(names) => named(shell, caller, names, reason).await?,
            Whom::All => {
                let (action, resource) = (policy::Action::Administer, policy::Resource::Gateway);
                let grant = permit(&shell.rules.load(), caller, action, resource, shell.now())?;
                renew_now::ask_all(reason, grant.rules(), shell.now())
            }
        };
        shell.commit(changes, &Actor { who: &who, instance }).await?;
        Ok(())
    })
    .await
}

/// Starts the task that tells the machines with tunnels here, whichever gateway received the request. Other machines learn of it at
/// their next query.
pub fn start(shell: &Arc<Shell>) -> JoinHandle<()> {
    let watch = shell.store.watch([keys::LINEAGES, keys::RENEW_MACHINES].map(Key::from).to_vec());
    tokio::spawn(tell(Arc::downgrade(shell), watch))
}

async fn tell(shell: Weak<Shell>, mut watch: Watch) {
    while let Some(first) = watch.next().await {
        let Some(shell) = shell.upgrade() else { return };
        let Reported { commits, lagged } = watch.with_ready(first, AT_ONCE);
        if shell.tunnels.is_empty() {
            continue;
        }
        let told = if lagged {
            tell_all(&shell).await
        } else {
            tell_of(&shell, commits.iter().flat_map(|(_, keys)| keys).map(ToString::to_string).collect()).await
        };
        if let Err(fault) = told {
            tracing::warn!(%fault, "machines with tunnels here were perhaps asked to renew; they hear of it when they next ask");
        }
    }
}

/// Tells the machines whose lineages were written, or all machines after a request for all.
async fn tell_of(shell: &Shell, mut lineages: BTreeSet<String>) -> Result<(), Fault> {
    if lineages.remove(keys::RENEW_MACHINES) {
        tell_everybody(shell).await?;
    }
    if lineages.is_empty() {
        return Ok(());
    }
    let found = |look: &Look| lineages.iter().map(|key| readable(look.get::<Lineage>(key))).collect();
    let found: Vec<Option<Option<Seen<Lineage>>>> = shell.look::<_, Fault>(found).await?;
    for seen in found.into_iter().flatten().flatten() {
        let Lineage { role: Role::Machine, name, renewal_asked: Some(at), .. } = seen.record else { continue };
        let Ok(name) = pki::Name::parse(&name) else { continue };
        let machine = pki::Identity { domain: shell.domain.clone(), role: Role::Machine, name };
        shell.tunnels.renewal_asked(&machine, at.into());
    }
    Ok(())
}

async fn tell_everybody(shell: &Shell) -> Result<(), Fault> {
    if let Some(seen) = readable(shell.get::<UnixSecs>(keys::RENEW_MACHINES.to_owned()).await)?.flatten() {
        shell.tunnels.all_renewals_asked(seen.record.into());
    }
    Ok(())
}

/// Checks all machines with a tunnel here, because notifications were missed.
async fn tell_all(shell: &Shell) -> Result<(), Fault> {
    tell_everybody(shell).await?;
    let lineages: Vec<String> = shell.tunnels.lineages().iter().map(|id| keys::lineage(id)).collect();
    for some in lineages.chunks(AT_ONCE) {
        tell_of(shell, some.iter().cloned().collect()).await?;
    }
    Ok(())
}

async fn named(shell: &Shell, caller: &Caller, names: &BTreeSet<String>, reason: &str) -> Result<Changes, Refusal> {
    let mut changes = Changes::new();
    let found = |look: &Look| Ok(names.iter().map(|name| visible(shell, look, caller, Role::Machine, name)).collect());
    let found: Vec<Result<SubjectRecords, Refusal>> = shell.look::<_, Fault>(found).await?;
    for (name, found) in names.iter().zip(found) {
        let records = found.map_err(|refusal| match refusal {
            Refusal::NotFound(_) if names.len() > 1 => Refusal::NotFound(Missing::OneOfMachines),
            other => other,
        })?;
        let action = policy::Action::Administer;
        let grant = permit(&shell.rules.load(), caller, action, resource(shell, &records), shell.now())?;
        let lineage = records.lineage.ok_or_else(|| Fault::Record(format!("machine {name} has no lineage")))?;
        let identity = identity(shell, &records.subject.record)?.to_string();
        renew_now::ask(&mut changes, &lineage, identity, reason, grant.rules(), shell.now());
    }
    Ok(changes)
}

/// Whether a caller with a certificate that begins at `not_before` should renew now.
///
/// # Errors
/// When the store fails.
pub async fn is_wanted(shell: &Shell, caller: &Caller, not_before: UnixTime) -> Result<bool, Fault> {
    let everybody: Option<Seen<UnixSecs>> = match caller.identity.role {
        // An unreadable request counts as none, and does not prevent renewals at their time.
        Role::Machine => readable(shell.get(keys::RENEW_MACHINES.to_owned()).await)?.flatten(),
        Role::Person | Role::Gateway => None,
    };
    let (issued, everybody) = (not_before.plus(pki::BACKDATE), everybody.map(|seen| seen.record));
    Ok(renew_now::is_wanted(issued, &caller.lineage.record, everybody, shell.now()))
}
