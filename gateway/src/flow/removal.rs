//! What ends when a machine or person is removed or leaves, and what depends on a locked key.

use std::collections::BTreeSet;

use pki::Role;

use super::{crl, page::All, queue, shell::Shell, subjects::SubjectRecords};
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

/// Unexpired certificates read at a time.
const PAGE: usize = 256;

/// The changes for the end of a machine or person: its name becomes free, and its lineage and all requests that depend on it end. An
/// approved request to rejoin the lineage is refused when its client polls, because the lineage has ended.
///
/// # Errors
/// When the store fails.
pub(super) async fn end(
    shell: &Shell,
    records: &SubjectRecords,
    event: Event,
    epoch: &lock::Epoch,
) -> Result<Changes, Fault> {
    let mut changes = Changes::new();
    lock::bump(&mut changes, epoch);
    let subject = &records.subject.record;
    subjects::remove(&mut changes, &records.subject);
    if subject.role == Role::Machine {
        changes.delete(keys::convergence(&subject.name));
    }
    if let Some(name) = &subject.renaming {
        changes.delete(keys::kept_name(subject.role, name));
    }
    if let Some(seen) = &records.lineage {
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

/// The request that a lineage came from, and the waiting requests to rejoin it.
async fn resting_on(shell: &Shell, lineage: &str, enrollment: &str) -> Result<Vec<Seen<Enrollment>>, Fault> {
    let mut ids: BTreeSet<String> = queue::resting_on(shell, lineage).await?.into_iter().collect();
    ids.insert(enrollment.to_owned());
    let of = |look: &Look| ids.iter().map(|id| look.get(&keys::enrollment(id))).collect();
    let found: Vec<Option<Seen<Enrollment>>> = shell.look::<_, Fault>(of).await?;
    Ok(found.into_iter().flatten().filter(|seen| seen.record.lineage.as_deref() == Some(lineage)).collect())
}

/// The ids of the lineages that depend on a key: those with an unexpired certificate for it, even a replaced one. Certificates that
/// were issued later on the strength of this key belong to the same lineage, so the lock on the lineage covers them. Reads all
/// unexpired certificates page by page, but only for a permitted lock on a key.
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

/// The locks on lineages that were set together with a lock on a key, and are lifted with it.
///
/// # Errors
/// When the store fails.
pub async fn locks_with_key(shell: &Shell, kind: LockKind, target: &str) -> Result<Vec<Seen<Lock>>, Fault> {
    if kind != LockKind::Key {
        return Ok(vec![]);
    }
    // All locks on lineages: people set them one by one, and they are read only when a lock on a key is lifted.
    let mut locks = All::<Lock>::of(shell, &keys::lock(LockKind::Lineage, ""), None);
    let mut of_key = Vec::new();
    while let Some((_, seen)) = locks.next().await? {
        if seen.record.of_key.as_deref() == Some(target) {
            of_key.push(seen);
        }
    }
    Ok(of_key)
}
