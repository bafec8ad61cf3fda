//! The holder of the connection's certificate as a requester, and the locks on everything it depends on.

use crate::core::{
    admission::lock_kind,
    evidence::{Cleared, RestsOn},
    keys,
    lock::Target,
    look::Look,
    records::{Certificate, Lineage, LockKind, Seen},
    refusal::{REMOVED, Refusal},
    requester::Requester,
};

/// The keys, lineages and names behind a requester; none of them is locked.
///
/// # Errors
/// [`Refusal::Locked`].
pub(super) fn cleared(look: &Look, requester: &Requester) -> Result<Cleared, Refusal> {
    let targets = behind(look, requester)?;
    let locks = look.locks(targets.clone())?;
    RestsOn { own: targets.clone(), targets }.clear(&locks)
}

/// The key of the certificate; for one of our own certificates also its name, its lineage, and the lineage's current name. One of ours
/// with an ended or forked lineage, or without a record, is refused.
fn behind(look: &Look, requester: &Requester) -> Result<Vec<Target>, Refusal> {
    let peer = match requester {
        Requester::Nobody => return Ok(vec![]),
        Requester::Foreign(peer) => return Ok(vec![(LockKind::Key, peer.key.hex())]),
        Requester::Ours(peer) => peer,
    };
    let kind = lock_kind(peer.identity.role);
    let mut targets = vec![(LockKind::Key, peer.key.hex()), (kind, peer.identity.name.to_string())];
    let certificate: Option<Seen<Certificate>> = look.get(&keys::certificate(&peer.serial))?;
    let lineage = match certificate {
        Some(seen) => look.get::<Lineage>(&keys::lineage(&seen.record.lineage))?,
        None => None,
    };
    let Some(Seen { record: lineage, .. }) = lineage.filter(|seen| !seen.record.ended && !seen.record.forked) else {
        return Err(Refusal::Retired { why: REMOVED });
    };
    targets.extend([(kind, lineage.name), (LockKind::Lineage, lineage.id)]);
    Ok(targets)
}
