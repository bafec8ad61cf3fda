//! Housekeeping: what lapses, and what is too old.

use pki::Role;

use super::{
    enroll,
    shell::{Actor, Shell},
};
use crate::core::{
    audit::{AuditRecord, Event},
    change::Changes,
    keys,
    records::{Certificate, CertificateEnd, Enrollment, EnrollmentState, Seen, Token},
    refusal::Refusal,
};

/// How long a decided enrollment is kept for its client to come back to.
const DECIDED_KEPT: u64 = 7 * 24 * 3600;

/// How long a certificate's record outlives it, and so the longest time after which its holder can come back.
const CERTIFICATE_KEPT: u64 = 400 * 24 * 3600;

/// Most records changed in one batch.
const BATCH: usize = 256;

/// One round.
///
/// # Errors
/// When the store fails; the next round goes on.
pub async fn sweep(shell: &Shell) -> Result<(), Refusal> {
    enroll::expire(shell).await?;
    let now = shell.now().secs();
    let old_enrollment = |seen: &Enrollment| match seen.state {
        EnrollmentState::Waiting | EnrollmentState::Approved => false,
        EnrollmentState::Issued | EnrollmentState::Denied | EnrollmentState::Expired => {
            seen.expires.0 + DECIDED_KEPT < now
        }
    };
    drop_old::<Enrollment>(shell, keys::ENROLLMENTS, old_enrollment, |seen| vec![keys::enrollment_of_key(&seen.key)])
        .await?;
    forgotten(shell, now).await?;
    drop_old::<Token>(shell, keys::TOKENS, |seen| seen.expires.0 + DECIDED_KEPT < now, |_| vec![]).await?;
    let retention = shell.settings.load().audit_retention.as_secs();
    let too_old = |seen: &AuditRecord| seen.at_ms / 1000 + retention < now;
    drop_ordered(shell, keys::AUDIT, too_old).await?;
    for issuer in Role::ALL {
        let long_ended = |seen: &CertificateEnd| seen.not_after.0 + CERTIFICATE_KEPT < now;
        drop_ordered(shell, &keys::certificate_ends(issuer), long_ended).await?;
    }
    drop_old::<Certificate>(shell, keys::CERTIFICATES, |seen| seen.not_after.0 + CERTIFICATE_KEPT < now, |_| vec![])
        .await
}

/// Frees the names of those who were approved and never came for their certificate.
async fn forgotten(shell: &Shell, now: u64) -> Result<(), Refusal> {
    let rows: Vec<(String, Seen<Enrollment>)> = shell.scan(keys::ENROLLMENTS, None, usize::MAX).await?;
    let late = |seen: &Enrollment| seen.state == EnrollmentState::Approved && seen.expires.0 + DECIDED_KEPT < now;
    for (key, seen) in rows.into_iter().filter(|(_, seen)| late(&seen.record)) {
        let mut changes = Changes::new();
        let mut enrollment = seen.record.clone();
        enrollment.state = EnrollmentState::Expired;
        changes.update(key, &seen, &enrollment);
        if let (Some(name), false) = (&enrollment.name, enrollment.rejoin) {
            changes.delete(keys::subject(enrollment.role, name));
            if enrollment.role == pki::Role::Machine {
                changes.delete(keys::convergence(name));
            }
        }
        changes.event(Event::EnrollmentExpired { enrollment: enrollment.id, state: "approved" });
        quietly(shell, changes).await?;
    }
    Ok(())
}

/// Deletes records that are too old, page by page.
async fn drop_old<T: serde::de::DeserializeOwned>(
    shell: &Shell,
    prefix: &str,
    old: impl Fn(&T) -> bool,
    more: impl Fn(&T) -> Vec<String>,
) -> Result<(), Refusal> {
    let mut after: Option<String> = None;
    loop {
        let rows: Vec<(String, Seen<T>)> = shell.scan(prefix, after.as_deref(), BATCH).await?;
        let last = rows.len() < BATCH;
        after = rows.last().map(|(key, _)| key.clone());
        let mut changes = Changes::new();
        for (key, seen) in rows.iter().filter(|(_, seen)| old(&seen.record)) {
            changes.remove(key.clone(), seen);
            more(&seen.record).into_iter().for_each(|key| changes.delete(key));
        }
        quietly(shell, changes).await?;
        if last {
            return Ok(());
        }
    }
}

/// Deletes from the start of an ordered log until the first record that is young enough.
async fn drop_ordered<T: serde::de::DeserializeOwned>(
    shell: &Shell,
    prefix: &str,
    old: impl Fn(&T) -> bool,
) -> Result<(), Refusal> {
    loop {
        let rows: Vec<(String, Seen<T>)> = shell.scan(prefix, None, BATCH).await?;
        let mut changes = Changes::new();
        let dropped =
            rows.iter().take_while(|(_, seen)| old(&seen.record)).map(|(key, _)| changes.delete(key.clone())).count();
        quietly(shell, changes).await?;
        if dropped < BATCH {
            return Ok(());
        }
    }
}

/// Commits; a conflict means that somebody else is at it, and the next round looks again.
async fn quietly(shell: &Shell, changes: Changes) -> Result<(), Refusal> {
    if changes.writes.is_empty() {
        return Ok(());
    }
    match shell.commit(changes, &Actor { who: "gateway", instance: "sweep" }).await {
        Ok(_) | Err(super::shell::Retry::Conflict) => Ok(()),
        Err(super::shell::Retry::Refused(refusal)) => Err(refusal),
    }
}
