//! Housekeeping: what lapses, what is too old, and the lists made from it.

use pki::{RevocationReason, RevokedEntry, Role};

use super::{
    enroll,
    shell::{Actor, Shell},
};
use crate::core::{
    audit::{AuditRecord, Event},
    change::Changes,
    keys,
    records::{CertState, Certificate, Enrollment, EnrollmentState, Revoked, RevokedReason, Seen, Token, UnixSecs},
    refusal::{Fault, Refusal},
};

/// How long a decided enrollment is kept for its client to come back to.
const DECIDED_KEPT: u64 = 7 * 24 * 3600;

/// How long a certificate's record outlives it, and so the longest time after which its holder can come back.
const CERTIFICATE_KEPT: u64 = 400 * 24 * 3600;

/// A reservation older than this was interrupted between reserving and recording.
const SIGNING_DEADLINE: u64 = 300;

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
    drop_old::<Revoked>(shell, keys::REVOKED, |seen| seen.not_after.0 < now, |_| vec![]).await?;
    let retention = shell.settings.load().audit_retention.as_secs();
    let too_old = |seen: &AuditRecord| seen.at_ms / 1000 + retention < now;
    drop_ordered(shell, keys::AUDIT, too_old).await?;
    certificates(shell, now).await
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

/// Revokes reservations that were never recorded, and drops certificates long expired.
async fn certificates(shell: &Shell, now: u64) -> Result<(), Refusal> {
    let mut after: Option<String> = None;
    loop {
        let rows: Vec<(String, Seen<Certificate>)> = shell.scan(keys::CERTIFICATES, after.as_deref(), BATCH).await?;
        let last = rows.len() < BATCH;
        after = rows.last().map(|(key, _)| key.clone());
        let mut changes = Changes::new();
        for (key, seen) in rows {
            let cert = &seen.record;
            if cert.not_after.0 + CERTIFICATE_KEPT < now {
                changes.remove(key, &seen);
            } else if cert.state == CertState::Reserved
                && cert.not_after.0 >= now
                && cert.not_before.0 + pki::BACKDATE.as_secs() + SIGNING_DEADLINE < now
            {
                let entry = Revoked {
                    serial: cert.serial,
                    at: UnixSecs(now),
                    not_after: cert.not_after,
                    reason: RevokedReason::Superseded,
                };
                changes.put(keys::revoked(cert.role, &cert.serial.hex()), &entry);
            }
        }
        quietly(shell, changes).await?;
        if last {
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

/// How long a CRL says it is good for. It is made anew on every request for it after a minute.
const CRL_LIFE: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// The CRL of one issuing CA, now. Its number is the time in milliseconds, which only grows.
///
/// # Errors
/// When the store or the key fails.
pub async fn crl(shell: &Shell, role: Role) -> Result<Vec<u8>, Refusal> {
    let prefix = format!("{}{}/", keys::REVOKED, role.as_str());
    let rows: Vec<(String, Seen<Revoked>)> = shell.scan(&prefix, None, usize::MAX).await?;
    let now = shell.now();
    let entries: Vec<RevokedEntry> = rows
        .into_iter()
        .filter(|(_, seen)| seen.record.not_after.0 >= now.secs())
        .map(|(_, seen)| RevokedEntry {
            serial: seen.record.serial,
            at: seen.record.at.into(),
            reason: match seen.record.reason {
                RevokedReason::Hold => RevocationReason::CertificateHold,
                RevokedReason::Ceased => RevocationReason::CessationOfOperation,
                RevokedReason::Compromised => RevocationReason::KeyCompromise,
                RevokedReason::Superseded => RevocationReason::Superseded,
            },
        })
        .collect();
    pki::crl(shell.ca.issuing(role), &entries, shell.clock.now_ms(), now, now.plus(CRL_LIFE))
        .map_err(|error| Fault::Issue(error.to_string()).into())
}
