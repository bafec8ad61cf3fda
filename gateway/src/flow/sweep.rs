//! Housekeeping: what lapses, and what is too old.

use std::marker::PhantomData;

use pki::Role;

use super::{
    clock, enroll,
    page::All,
    shell::{Actor, Shell, readable},
};
use crate::core::{
    audit::{AuditRecord, Event},
    change::Changes,
    keys,
    records::{
        Certificate, CertificateEnd, Enrollment, EnrollmentState, KeptName, Lineage, Seen, Stale, Subject, Token,
        UnixSecs,
    },
    refusal::{Fault, Refusal},
    stored::Stored,
    subjects,
    timekeeping::Deletes,
};

/// How long a decided enrollment is kept for its client to come back to.
const DECIDED_KEPT: u64 = 7 * 24 * 3600;

/// How long a token that was redeemed is kept after it expired: so long it goes on counting for the keys that did.
const REDEEMED_KEPT: u64 = 90 * 24 * 3600;

/// How long a decided enrollment with a token is kept: longer than the token, so that whoever was denied or removed does not
/// come back by it.
const DECIDED_WITH_TOKEN_KEPT: u64 = crate::limits::TOKEN_TTL_MAX.as_secs() + REDEEMED_KEPT + DECIDED_KEPT;

/// How long after its end it is remembered that a ticket was used: a clock that is set back by less gives nobody a second use.
const TICKET_KEPT: u64 = 3600;

/// How long it is told that a stale certificate was shown.
pub const STALE_KEPT: u64 = 7 * 24 * 3600;

/// How long a certificate's record outlives it, and so the longest time after which its holder can come back.
const CERTIFICATE_KEPT: u64 = 400 * 24 * 3600;

/// Most records changed in one batch.
const BATCH: usize = 256;

/// One round: as much as the clock allows.
///
/// # Errors
/// When the store fails; the next round goes on.
pub async fn sweep(shell: &Shell) -> Result<(), Refusal> {
    match clock::look(shell).await? {
        Deletes::Nothing => Ok(()),
        Deletes::ShortLived(now) => short_lived(shell, now).await,
        Deletes::Everything(now) => {
            short_lived(shell, now).await?;
            long_lived(shell, now).await
        }
    }
}

/// Records of kinds whose term is [`Term::Short`](crate::core::kinds::Term).
async fn short_lived(shell: &Shell, now: u64) -> Result<(), Refusal> {
    enroll::expire(shell, now).await.map(drop)
}

/// Records of kinds whose term is [`Term::Long`](crate::core::kinds::Term), and what hangs on them.
async fn long_lived(shell: &Shell, now: u64) -> Result<(), Refusal> {
    enrollments(shell, now).await?;
    without_enrollment(shell).await?;
    forgotten(shell, now).await?;
    let old_token = |seen: &Token| {
        let kept = if seen.redeemed.is_empty() { DECIDED_KEPT } else { REDEEMED_KEPT };
        seen.expires.0 + kept < now
    };
    drop_old::<Token>(shell, keys::TOKENS, old_token).await?;
    drop_old::<UnixSecs>(shell, keys::TICKETS, |ends| ends.0 + TICKET_KEPT < now).await?;
    drop_old::<Stale>(shell, keys::STALE, |seen| seen.at.0 + STALE_KEPT < now).await?;
    let retention = shell.settings.load().audit_retention.as_secs();
    let too_old = |seen: &AuditRecord| seen.at_ms / 1000 + retention < now;
    drop_ordered(shell, keys::AUDIT, too_old).await?;
    let ca = shell.ca();
    for issuer in Role::ALL.into_iter().flat_map(|role| ca.issuers(role)) {
        let long_ended = |seen: &CertificateEnd| seen.not_after.0 + CERTIFICATE_KEPT < now;
        drop_ordered(shell, &keys::certificate_ends(&issuer), long_ended).await?;
    }
    kept_names(shell, now).await?;
    lineages(shell, now).await?;
    drop_old::<Certificate>(shell, keys::CERTIFICATES, |seen| seen.not_after.0 + CERTIFICATE_KEPT < now).await
}

/// Deletes entries of the index by key whose enrollment is gone.
async fn without_enrollment(shell: &Shell) -> Result<(), Refusal> {
    let mut pages = Pages::<String>::of(shell, keys::ENROLLMENT_KEYS);
    while let Some(rows) = pages.next().await? {
        let mut changes = Changes::new();
        for (key, seen) in &rows {
            // Also one that cannot be read is there.
            let found = readable(shell.get::<serde_json::Value>(keys::enrollment(&seen.record)).await)?;
            if found.is_some_and(|found| found.is_none()) {
                changes.remove(key.clone(), seen);
            }
        }
        quietly(shell, changes).await?;
    }
    Ok(())
}

/// Frees names whose last certificate has ended, and those that were to be taken by a machine that is gone.
async fn kept_names(shell: &Shell, now: u64) -> Result<(), Refusal> {
    let mut pages = Pages::<KeptName>::of(shell, keys::KEPT_NAMES);
    while let Some(rows) = pages.next().await? {
        let mut changes = Changes::new();
        for (key, seen) in &rows {
            let free = match seen.record.until {
                Some(until) => until.0 < now,
                None => {
                    let lineage = readable(shell.get::<Lineage>(keys::lineage(&seen.record.lineage)).await)?;
                    lineage.is_some_and(|found| found.is_none_or(|lineage| lineage.record.ended))
                }
            };
            if free {
                changes.remove(key.clone(), seen);
            }
        }
        quietly(shell, changes).await?;
    }
    Ok(())
}

/// Deletes lineages that are nobody's any more, once their last certificate is as old as certificates get.
async fn lineages(shell: &Shell, now: u64) -> Result<(), Refusal> {
    let mut pages = Pages::<Lineage>::of(shell, keys::LINEAGES);
    while let Some(rows) = pages.next().await? {
        let mut changes = Changes::new();
        for (key, seen) in rows.iter().filter(|(_, seen)| last_end(&seen.record) + CERTIFICATE_KEPT < now) {
            let lineage = &seen.record;
            let subject = shell.get::<Subject>(keys::subject(lineage.role, &lineage.name)).await;
            let gone = match readable(subject)? {
                Some(subject) => subject.is_none_or(|subject| subject.record.lineage != lineage.id),
                // It cannot be said whose it is.
                None => false,
            };
            if gone {
                changes.remove(key.clone(), seen);
            }
        }
        quietly(shell, changes).await?;
    }
    Ok(())
}

/// When the last certificate of a lineage ends, or when it began if it never had one.
fn last_end(lineage: &Lineage) -> u64 {
    let certificates = lineage.current.iter().chain(&lineage.pending).chain(&lineage.sealed);
    certificates.map(|cert| cert.not_after.0).max().unwrap_or(lineage.created.0)
}

/// Drops enrollments that were decided long ago, each with the entry of its key, if that still leads to it.
async fn enrollments(shell: &Shell, now: u64) -> Result<(), Refusal> {
    let old = |seen: &Enrollment| match seen.state {
        EnrollmentState::Waiting | EnrollmentState::Approved => false,
        EnrollmentState::Issued
        | EnrollmentState::Denied
        | EnrollmentState::Expired
        | EnrollmentState::Removed
        | EnrollmentState::Withdrawn => {
            let kept = if seen.evidence.iter().all(|shown| shown.reference.is_none()) {
                DECIDED_KEPT
            } else {
                DECIDED_WITH_TOKEN_KEPT
            };
            seen.expires.0 + kept < now
        }
    };
    let mut pages = Pages::<Enrollment>::of(shell, keys::ENROLLMENTS);
    while let Some(rows) = pages.next().await? {
        let mut changes = Changes::new();
        for (key, seen) in rows.iter().filter(|(_, seen)| old(&seen.record)) {
            changes.remove(key.clone(), seen);
            let index = keys::enrollment_of_key(&seen.record.key);
            let entry = readable(shell.get::<String>(index.clone()).await)?.flatten();
            if let Some(entry) = entry.filter(|entry| entry.record == seen.record.id) {
                changes.remove(index, &entry);
            }
        }
        quietly(shell, changes).await?;
    }
    Ok(())
}

/// Frees the names of those who were approved and never came for their certificate.
async fn forgotten(shell: &Shell, now: u64) -> Result<(), Refusal> {
    let mut all = All::<Enrollment>::of(shell, keys::ENROLLMENTS, None);
    let late = |seen: &Enrollment| seen.state == EnrollmentState::Approved && seen.expires.0 + DECIDED_KEPT < now;
    while let Some((id, seen)) = all.next().await? {
        if !late(&seen.record) {
            continue;
        }
        let mut changes = Changes::new();
        let mut enrollment = seen.record.clone();
        enrollment.state = EnrollmentState::Expired;
        changes.update(keys::enrollment(&id), &seen, &enrollment);
        if let (Some(lineage), false) = (&enrollment.lineage, enrollment.rejoin) {
            give_up(shell, &enrollment, lineage, now, &mut changes).await?;
        }
        changes.event(Event::EnrollmentExpired { enrollment: enrollment.id, state: "approved" });
        quietly(shell, changes).await?;
    }
    Ok(())
}

/// Frees the name of an enrollment, if it is still held by the lineage that began with it, and ends that lineage.
async fn give_up(
    shell: &Shell,
    enrollment: &Enrollment,
    lineage: &str,
    now: u64,
    changes: &mut Changes,
) -> Result<(), Refusal> {
    if let Some(seen) = readable(shell.get::<Lineage>(keys::lineage(lineage)).await)?.flatten() {
        let mut record = seen.record.clone();
        (record.ended, record.ended_at) = (true, Some(UnixSecs(now)));
        changes.update(keys::lineage(lineage), &seen, &record);
    }
    let Some(name) = &enrollment.name else { return Ok(()) };
    let key = keys::subject(enrollment.role, name);
    let subject = readable(shell.get::<Subject>(key).await)?.flatten();
    if let Some(seen) = subject.filter(|seen| seen.record.lineage == lineage) {
        subjects::remove(changes, &seen);
        if enrollment.role == Role::Machine {
            changes.delete(keys::convergence(name));
        }
    }
    Ok(())
}

/// Deletes records that are too old, page by page.
async fn drop_old<T: Stored>(shell: &Shell, prefix: &str, old: impl Fn(&T) -> bool) -> Result<(), Refusal> {
    let mut pages = Pages::<T>::of(shell, prefix);
    while let Some(rows) = pages.next().await? {
        let mut changes = Changes::new();
        for (key, seen) in rows.iter().filter(|(_, seen)| old(&seen.record)) {
            changes.remove(key.clone(), seen);
        }
        quietly(shell, changes).await?;
    }
    Ok(())
}

/// Records under a prefix, a batch at a time.
struct Pages<'a, T> {
    shell: &'a Shell,
    prefix: &'a str,
    after: Option<String>,
    ended: bool,
    of: PhantomData<T>,
}

impl<'a, T: Stored> Pages<'a, T> {
    const fn of(shell: &'a Shell, prefix: &'a str) -> Self {
        Self { shell, prefix, after: None, ended: false, of: PhantomData }
    }

    async fn next(&mut self) -> Result<Option<Vec<(String, Seen<T>)>>, Fault> {
        if self.ended {
            return Ok(None);
        }
        let rows = self.shell.scan(self.prefix, self.after.as_deref(), BATCH).await?;
        self.ended = rows.len() < BATCH;
        self.after = rows.last().map(|(key, _)| key.clone());
        Ok(Some(rows))
    }
}

/// Deletes from the start of an ordered log until the first record that is young enough.
async fn drop_ordered<T: Stored>(shell: &Shell, prefix: &str, old: impl Fn(&T) -> bool) -> Result<(), Refusal> {
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
