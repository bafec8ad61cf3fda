//! What ends when a machine or person is removed or leaves, and what a lock on a key hits.

use std::collections::BTreeSet;

use pki::Role;

use super::{crl, page::All, queue, shell::Shell, subjects::Whole};
use crate::core::{
    audit::{Event, StandingEvent},
    change::Changes,
    keys, lock,
    look::Look,
    queue as waiting,
    records::{CertificateEnd, Enrollment, EnrollmentState, Lock, LockKind, Seen},
    refusal::Fault,
    subjects,
};

/// Certificates read at a time, on the way through those that live.
const PAGE: usize = 256;

/// What the end of a machine or person changes: its name is free, its lineage ends, and so does every request that rests on
/// it. A request that is approved already and would rejoin the lineage finds it ended when its client comes for it.
///
/// # Errors
/// When the store fails.
pub(super) async fn end(shell: &Shell, whole: &Whole, event: Event, epoch: &lock::Epoch) -> Result<Changes, Fault> {
    let mut changes = Changes::new();
    lock::bump(&mut changes, epoch);
    let subject = &whole.subject.record;
    subjects::remove(&mut changes, &whole.subject);
    if subject.role == Role::Machine {
        changes.delete(keys::convergence(&subject.name));
    }
    if let Some(name) = &subject.renaming {
        changes.delete(keys::kept_name(subject.role, name));
    }
    if let Some(seen) = &whole.lineage {
        let mut lineage = seen.record.clone();
        lineage.ended = true;
        lineage.ended_at = Some(shell.now().into());
        changes.update(keys::lineage(&lineage.id), seen, &lineage);
    }
    let identity = format!("{}/{}", subject.role, subject.name);
    for seen in resting_on(shell, &subject.lineage, &subject.enrollment).await? {
        let mut enrollment = seen.record.clone();
        let decided = enrollment.state == EnrollmentState::Issued;
        enrollment.state = EnrollmentState::Removed;
        enrollment.numbers.clear();
        changes.update(keys::enrollment(&enrollment.id), &seen, &enrollment);
        waiting::leave(&mut changes, &seen.record);
        if !decided {
            changes.event(Event::Standing(StandingEvent::EnrollmentEnded {
                enrollment: enrollment.id,
                identity: identity.clone(),
            }));
        }
    }
    changes.event(event);
    Ok(changes)
}

/// The request that a lineage came from, and those that wait to rejoin it.
async fn resting_on(shell: &Shell, lineage: &str, enrollment: &str) -> Result<Vec<Seen<Enrollment>>, Fault> {
    let mut ids: BTreeSet<String> = queue::resting_on(shell, lineage).await?.into_iter().collect();
    ids.insert(enrollment.to_owned());
    let of = |look: &Look| ids.iter().map(|id| look.get(&keys::enrollment(id))).collect();
    let found: Vec<Option<Seen<Enrollment>>> = shell.look::<_, Fault>(of).await?;
    Ok(found.into_iter().flatten().filter(|seen| seen.record.lineage.as_deref() == Some(lineage)).collect())
}

/// The lineages, by their ids, in which a key still stands for something: those with an unexpired certificate for it, replaced or not. What
/// was made with the key since is of the same lineage, so a lock on the key stands for it, too. All unexpired certificates are
/// looked through, page by page: only when somebody who may lock sets a lock on a key.
///
/// # Errors
/// When the store fails.
pub async fn lineages_of_key(shell: &Shell, key: &pki::KeyDigest) -> Result<Vec<String>, Fault> {
    let mut ids = BTreeSet::new();
    let ca = shell.ca();
    for issuer in [Role::Machine, Role::Person].into_iter().flat_map(|role| ca.issuers(role)) {
        let prefix = keys::certificate_ends(&issuer);
        let mut after = keys::ending_from(&issuer, shell.now().into());
        loop {
            let rows: Vec<(String, Seen<CertificateEnd>)> = shell.scan(&prefix, Some(&after), PAGE).await?;
            let Some((last, _)) = rows.last() else { break };
            after.clone_from(last);
            for end in crl::completed(shell, rows).await?.into_iter().filter(|end| end.key == *key) {
                ids.insert(end.lineage);
            }
        }
    }
    Ok(ids.into_iter().collect())
}

/// The locks on lineages that came with a lock on a key, and go with it.
///
/// # Errors
/// When the store fails.
pub async fn locks_with_key(shell: &Shell, kind: LockKind, target: &str) -> Result<Vec<Seen<Lock>>, Fault> {
    if kind != LockKind::Key {
        return Ok(vec![]);
    }
    // All locks on lineages: set by people one by one, and read only when somebody lifts one on a key.
    let mut locks = All::<Lock>::of(shell, &keys::lock(LockKind::Lineage, ""), None);
    let mut of_key = Vec::new();
    while let Some((_, seen)) = locks.next().await? {
        if seen.record.of_key.as_deref() == Some(target) {
            of_key.push(seen);
        }
    }
    Ok(of_key)
}
