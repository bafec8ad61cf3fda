//! Admits the holder of a client certificate, or refuses: on every request.

use pki::{Peer, Role, UnixTime};

use super::{
    owners,
    shell::{Actor, Retry, Shell, retrying},
};
use crate::core::{
    admission::{self, Admission, AdmissionRecords, Caller, Use},
    keys,
    look::Look,
    records::{Certificate, Lineage, LockKind, Seen, Subject},
    refusal::{Fault, Refusal},
};

/// Admits a peer: checks record, lineage, locks; activates a new certificate; locks a forked lineage.
///
/// # Errors
/// The reason for the refusal.
pub async fn admit(shell: &Shell, peer: &Peer, intent: Use, instance: &str) -> Result<Box<Caller>, Refusal> {
    retrying(|| once(shell, peer, intent, instance)).await
}

async fn once(shell: &Shell, peer: &Peer, intent: Use, instance: &str) -> Result<Box<Caller>, Retry> {
    let standing = shell.look(|look| standing(look, peer)).await?;
    match admission::decide(peer, &standing, intent, shell.now())? {
        Admission::Admit(caller, None) => Ok(caller),
        Admission::Admit(mut caller, Some(changes)) => {
            let who = peer.identity.to_string();
            caller.lineage.version = shell.commit(changes, &Actor { who: &who, instance }).await?;
            if standing.subject.is_some_and(|seen| seen.record.name != caller.subject.record.name) {
                caller.subject.version = caller.lineage.version;
                // Everything under the old name has ended now.
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

/// Checks again a holder who was admitted with a lineage when the connection began. Unlike [`admit`] it accepts a certificate that was
/// replaced since: a connection outlives a renewal, and is no second holder of the key.
///
/// # Errors
/// The reason for the refusal.
pub async fn recheck(shell: &Shell, peer: &Peer, lineage: &str) -> Result<Box<Caller>, Refusal> {
    shell.look(|look| recheck_in(look, peer, lineage, shell.now())).await
}

/// [`recheck`] with the records of a look-up.
pub(super) fn recheck_in(look: &Look, peer: &Peer, lineage: &str, now: UnixTime) -> Result<Box<Caller>, Refusal> {
    admission::recheck(peer, &known(look, peer, Some(lineage))?, now)
}

/// Everything known of the holder. The certificate's record names the lineage.
fn standing(look: &Look, peer: &Peer) -> Result<AdmissionRecords, Fault> {
    let certificate: Option<Seen<Certificate>> = look.get(&keys::certificate(&peer.serial))?;
    let standing = known(look, peer, certificate.as_ref().map(|seen| seen.record.lineage.as_str()))?;
    Ok(match certificate {
        Some(_) => AdmissionRecords { certificate, ..standing },
        None => AdmissionRecords::default(),
    })
}

/// Everything except the certificate's own record. The name in a certificate may differ from the machine's current name, during and
/// after a renaming: the lineage has the current one.
fn known(look: &Look, peer: &Peer, lineage: Option<&str>) -> Result<AdmissionRecords, Fault> {
    let (role, name) = (peer.identity.role, peer.identity.name.as_str());
    let mut targets = vec![(admission::lock_kind(role), name.to_owned())];
    targets.extend(lineage.map(|lineage| (LockKind::Lineage, lineage.to_owned())));
    targets.push((LockKind::Key, peer.key.hex()));
    let lineage: Option<Seen<Lineage>> = match lineage {
        Some(lineage) => look.get(&keys::lineage(lineage))?,
        None => None,
    };
    let mut subject: Option<Seen<Subject>> = look.get(&keys::subject(role, name))?;
    let mut convergence = None;
    if let Some(called) = lineage.as_ref().map(|seen| &seen.record.name).filter(|called| *called != name) {
        subject = look.get(&keys::subject(role, called))?;
        targets.push((admission::lock_kind(role), called.clone()));
        convergence = match role {
            Role::Machine => look.get(&keys::convergence(called))?,
            Role::Person | Role::Gateway => None,
        };
    }
    let owner = match &subject {
        Some(seen) => owners::person(look, &seen.record)?,
        None => None,
    };
    let (locks, epoch) = (look.locks(targets)?, look.get(keys::EPOCH)?);
    Ok(AdmissionRecords { certificate: None, lineage, subject, owner, convergence, locks, epoch })
}
