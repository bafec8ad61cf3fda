//! Lets the holder of a client certificate speak, or not: on every request.

use pki::{KeyDigest, Peer, Role};

use super::{
    locks, owners,
    shell::{Actor, Retry, Shell, retrying},
};
use crate::core::{
    admission::{self, Admission, AdmissionRecords, Caller, Use},
    keys,
    lock::Locks,
    records::{Certificate, Lineage, Lock, LockKind, Seen, Subject},
    refusal::{Fault, Refusal},
};

/// Admits a peer: checks record, lineage, locks; activates a new certificate; locks a forked lineage.
///
/// # Errors
/// Why the peer may not speak.
pub async fn admit(shell: &Shell, peer: &Peer, intent: Use, instance: &str) -> Result<Box<Caller>, Refusal> {
    retrying(|| once(shell, peer, intent, instance)).await
}

async fn once(shell: &Shell, peer: &Peer, intent: Use, instance: &str) -> Result<Box<Caller>, Retry> {
    let standing = standing(shell, peer).await?;
    match admission::decide(peer, &standing, intent, shell.now())? {
        Admission::Admit(caller, None) => Ok(caller),
        Admission::Admit(mut caller, Some(changes)) => {
            let who = peer.identity.to_string();
            caller.lineage.version = shell.commit(changes, &Actor { who: &who, instance }).await?;
            if standing.subject.is_some_and(|seen| seen.record.name != caller.subject.record.name) {
                caller.subject.version = caller.lineage.version;
                // Whatever goes on under the old name has ended.
                shell.enforcer.passed(caller.lineage.version).await;
            }
            Ok(caller)
        }
        Admission::Fork(changes, refusal) => {
            let version = shell.commit(changes, &Actor { who: "gateway", instance }).await?;
            shell.metrics.lock("forked");
            let lineage = standing.lineage.map(|seen| seen.record.id);
            tracing::warn!(identity = %peer.identity, lineage, "two holders of one key: lineage locked");
            shell.enforcer.passed(version).await;
            Err(refusal.into())
        }
    }
}

/// Lets somebody go on who was admitted with a lineage when their connection began. Unlike [`admit`] it does not mind that
/// the certificate was replaced since: a connection outlives the renewal, and is no second holder of the key.
///
/// # Errors
/// Why the peer may not go on.
pub async fn still(shell: &Shell, peer: &Peer, lineage: &str) -> Result<Box<Caller>, Refusal> {
    let standing = known(shell, peer, lineage).await?;
    admission::still(peer, &standing, shell.now())
}

/// Everything known of the holder. Two reads: the certificate says which lineage.
async fn standing(shell: &Shell, peer: &Peer) -> Result<AdmissionRecords, Fault> {
    let certificate: Option<Seen<Certificate>> = shell.get(keys::certificate(&peer.serial)).await?;
    let Some(certificate) = certificate else { return Ok(AdmissionRecords::default()) };
    let standing = known(shell, peer, &certificate.record.lineage).await?;
    Ok(AdmissionRecords { certificate: Some(certificate), ..standing })
}

/// Everything but the certificate's own record. A certificate may have a name that its machine has not taken yet, or has no
/// more: the lineage says what it is called.
async fn known(shell: &Shell, peer: &Peer, lineage: &str) -> Result<AdmissionRecords, Fault> {
    let (role, name) = (peer.identity.role, peer.identity.name.as_str());
    let (key, lineage_id) = (peer.key.hex(), lineage.to_owned());
    let mut read = shell
        .read(vec![
            keys::lineage(lineage),
            keys::subject(role, name),
            keys::EPOCH.to_owned(),
            keys::lock(admission::lock_kind(role), name),
            keys::lock(LockKind::Lineage, lineage),
            keys::lock(LockKind::Key, &key),
        ])
        .await?;
    let lineage: Option<Seen<Lineage>> = read.take()?;
    let mut subject: Option<Seen<Subject>> = read.take()?;
    let epoch = read.take()?;
    let found: [Option<Seen<Lock>>; 3] = [read.take()?, read.take()?, read.take()?];
    let asked = [(admission::lock_kind(role), name.to_owned()), (LockKind::Lineage, lineage_id), (LockKind::Key, key)];
    let mut locks = Locks::new(asked, found.into_iter().flatten().collect());
    let mut convergence = None;
    if let Some(called) = lineage.as_ref().map(|seen| &seen.record.name).filter(|called| *called != name) {
        subject = shell.get(keys::subject(role, called)).await?;
        locks = locks.and(locks::on(shell, vec![(admission::lock_kind(role), called.clone())]).await?);
        convergence = match role {
            Role::Machine => shell.get(keys::convergence(called)).await?,
            Role::Person | Role::Gateway => None,
        };
    }
    let owner = match &subject {
        Some(seen) => owners::person(shell, &seen.record).await?,
        None => None,
    };
    Ok(AdmissionRecords { certificate: None, lineage, subject, owner, convergence, locks, epoch })
}

/// A caller for whom the locks on another key were looked up as well: the one to be certified.
///
/// # Errors
/// [`Fault`] when the store fails.
pub async fn with_key(shell: &Shell, caller: &Caller, key: &KeyDigest) -> Result<Caller, Fault> {
    let more = locks::on(shell, vec![(LockKind::Key, key.hex())]).await?;
    Ok(Caller { locks: caller.locks.clone().and(more), ..caller.clone() })
}
