//! Whether the holder of a certificate may speak, decided on every request of the manage face.
//!
//! The first use of a new certificate makes it current and retires the one before. A retired certificate that is used
//! after that means two holders of one lineage: that lineage is locked.

use std::time::Duration;

use pki::{Identity, KeyDigest, Peer, Role, Serial, UnixTime};

use super::{
    audit::{self, Event},
    change::Changes,
    keys,
    lock::{self, Locks},
    records::{Certificate, Convergence, KeptName, Lineage, Lock, LockKind, Seen, Stale, Subject},
    refusal::{REMOVED, Refusal},
    subjects,
};

/// How long a retired certificate may still read, and is not taken for a second holder's when it would change something. Programs on the machine that read the
/// files just before they were replaced, or hold a connection open, are not thieves. Never more than a tenth of the
/// certificate's life, so that short lives keep their meaning.
pub const RETIRED_GRACE: Duration = Duration::from_secs(120);

/// How long after a stale certificate was shown the next one of its lineage is written down.
const STALE_AGAIN: Duration = Duration::from_hours(1);

/// The grace of a retired certificate that was made for so long.
#[must_use]
pub fn grace(life: Duration) -> Duration {
    RETIRED_GRACE.min(life / 10)
}

/// What is known of the holder.
#[derive(Clone, Debug, Default)]
pub struct AdmissionRecords {
    /// The certificate's record.
    pub certificate: Option<Seen<Certificate>>,
    /// Its lineage.
    pub lineage: Option<Seen<Lineage>>,
    /// The subject.
    pub subject: Option<Seen<Subject>>,
    /// Who holds the name of the subject's owner now, if it has one.
    pub owner: Option<Seen<Subject>>,
    /// The last run that was reported of a machine that is being renamed.
    pub convergence: Option<Seen<Convergence>>,
    /// Locks on subject, lineage and key.
    pub locks: Locks,
    /// The lock epoch.
    pub epoch: lock::Epoch,
}

/// What the holder is about to do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// Renew.
    Renewal,
    /// Read, say how a run went, or open a connection: a certificate that was just replaced is forgiven.
    Read,
    /// Anything that makes, ends or grants: with the certificate in use and no other.
    Change,
}

/// A holder that may speak.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub identity: Identity,
    /// The certificate's serial.
    pub serial: Serial,
    /// Its key.
    pub key: KeyDigest,
    /// End of its validity.
    pub not_after: UnixTime,
    /// Its lineage.
    pub lineage: Seen<Lineage>,
    /// The subject.
    pub subject: Seen<Subject>,
    /// Who holds the name of the subject's owner now, if it has one.
    pub owner: Option<Seen<Subject>>,
    /// The locks that were looked up: on name, lineage and key. None stands.
    pub locks: Locks,
}

/// The outcome.
#[derive(Debug)]
pub enum Admission {
    /// May speak; commit the changes first, if any.
    Admit(Box<Caller>, Option<Changes>),
    /// Two holders: commit the changes, then refuse.
    Fork(Changes, Refusal),
}

/// The lineage of a certificate that is recorded and not over, and whose it is, when nothing stands against them.
fn holder<'a>(
    peer: &Peer,
    standing: &'a AdmissionRecords,
    now: UnixTime,
) -> Result<(&'a Seen<Lineage>, &'a Seen<Subject>), Refusal> {
    if now > peer.not_after {
        return Err(Refusal::Expired);
    }
    let (Some(certificate), Some(lineage)) = (&standing.certificate, &standing.lineage) else {
        return Err(Refusal::Retired { why: "this gateway has no record of it" });
    };
    if certificate.record.key != peer.key {
        return Err(Refusal::Retired { why: "this gateway has no record of it" });
    }
    if lineage.record.ended {
        return Err(Refusal::Retired { why: REMOVED });
    }
    if lineage.record.forked {
        return Err(Refusal::Forked { what: peer.identity.to_string() });
    }
    standing.locks.refuse()?;
    let Some(subject) = standing.subject.as_ref().filter(|subject| subject.record.lineage == lineage.record.id) else {
        return Err(Refusal::Retired { why: REMOVED });
    };
    Ok((lineage, subject))
}

/// Decides.
///
/// # Errors
/// Why the holder may not speak; nothing is to be changed then.
pub fn decide(peer: &Peer, standing: &AdmissionRecords, intent: Use, now: UnixTime) -> Result<Admission, Refusal> {
    let (lineage, subject) = holder(peer, standing, now)?;
    let caller = |lineage: Seen<Lineage>, subject: &Seen<Subject>| {
        Box::new(Caller {
            identity: peer.identity.clone(),
            serial: peer.serial,
            key: peer.key,
            not_after: peer.not_after,
            lineage,
            subject: subject.clone(),
            owner: standing.owner.clone(),
            locks: standing.locks.clone(),
        })
    };
    let is = |cert: &Option<super::records::CertRef>| cert.as_ref().is_some_and(|cert| cert.serial == peer.serial);
    if is(&lineage.record.current) {
        return Ok(Admission::Admit(caller(lineage.clone(), subject), None));
    }
    if is(&lineage.record.pending) {
        let (mut changes, mut activated) = activate(peer, lineage, now);
        let subject = if peer.identity.name.as_str() == lineage.record.name {
            subject.clone()
        } else {
            rename(&mut changes, peer, (&mut activated.record, lineage), subject, standing)?
        };
        changes.update(keys::lineage(&activated.record.id), lineage, &activated.record);
        return Ok(Admission::Admit(caller(activated, &subject), Some(changes)));
    }
    let life = peer.not_after.since(peer.not_before);
    let since = now.since(lineage.record.activated.into());
    let replaced_by_use = lineage.record.activated.0 > 0;
    let forgiven = replaced_by_use && since <= grace(life);
    match intent {
        // Under a name that is its machine's no more nothing begins: a lock on the new one would not find it.
        Use::Read if forgiven && peer.identity.name.as_str() != lineage.record.name => return Err(Refusal::Replaced),
        Use::Read if forgiven => return Ok(Admission::Admit(caller(lineage.clone(), subject), None)),
        // A program that read the files a moment too early is no thief; a thief gets nothing by posing as one.
        Use::Change if forgiven => return Err(Refusal::Replaced),
        Use::Read | Use::Change | Use::Renewal => {}
    }
    if shown_again(peer.not_after, &standing.locks, now) == ShownAgain::Stale {
        return Err(Refusal::Retired { why: "it was replaced by a newer one" });
    }
    let why = match intent {
        Use::Renewal => "a certificate that was replaced asked to be renewed",
        Use::Read | Use::Change => "a certificate that was replaced was used",
    };
    let changes = fork(&lineage.clone(), &peer.identity, peer.serial, standing, why, now);
    Ok(Admission::Fork(changes, Refusal::Forked { what: peer.identity.to_string() }))
}

/// What it means that a certificate which was replaced is shown again, at whichever face.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ShownAgain {
    /// It would still be good if it had not been replaced: two holders of one lineage.
    Fork,
    /// It could do nothing any more, so that whoever shows it can do nothing either: no reason to lock anybody out.
    Stale,
}

/// Decides that: only an unexpired certificate with no lock on anything behind it can mean two holders.
#[must_use]
pub fn shown_again(not_after: UnixTime, locks: &Locks, now: UnixTime) -> ShownAgain {
    if now <= not_after && !locks.any() { ShownAgain::Fork } else { ShownAgain::Stale }
}

/// What is remembered of a stale certificate that was shown, for as long as it is told.
#[must_use]
pub fn stale(
    before: Option<&Seen<Stale>>,
    lineage: &Lineage,
    used: Serial,
    source: &str,
    now: UnixTime,
) -> Option<Changes> {
    // Whoever holds an old key may show it as often as they like: once an hour is written down.
    if before.is_some_and(|seen| now < UnixTime::from(seen.record.at).plus(STALE_AGAIN)) {
        return None;
    }
    let record = Stale { lineage: lineage.id.clone(), used, source: source.to_owned(), at: now.into() };
    let mut changes = Changes::new();
    changes.upsert(keys::stale(&lineage.id), before, &record);
    changes.event(Event::Standing(audit::StandingEvent::CertificateStale {
        identity: format!("{}/{}", lineage.role, lineage.name),
        lineage: lineage.id.clone(),
        used: used.hex(),
        source: source.to_owned(),
    }));
    Some(changes)
}

/// Decides whether somebody may go on who was admitted when their connection began. What does not matter any more is which
/// certificate of the lineage they showed then: the connection proves nothing new.
///
/// # Errors
/// Why the holder may not go on.
pub fn still(peer: &Peer, standing: &AdmissionRecords, now: UnixTime) -> Result<Box<Caller>, Refusal> {
    if now > peer.not_after {
        return Err(Refusal::Expired);
    }
    let gone = Refusal::Retired { why: REMOVED };
    let Some(lineage) = standing.lineage.as_ref().filter(|lineage| !lineage.record.ended) else { return Err(gone) };
    if lineage.record.forked {
        return Err(Refusal::Forked { what: peer.identity.to_string() });
    }
    standing.locks.refuse()?;
    let Some(subject) = standing.subject.as_ref().filter(|subject| subject.record.lineage == lineage.record.id) else {
        return Err(gone);
    };
    if peer.identity.name.as_str() != subject.record.name {
        return Err(Refusal::Replaced);
    }
    Ok(Box::new(Caller {
        identity: peer.identity.clone(),
        serial: peer.serial,
        key: peer.key,
        not_after: peer.not_after,
        lineage: lineage.clone(),
        subject: subject.clone(),
        owner: standing.owner.clone(),
        locks: standing.locks.clone(),
    }))
}

/// Makes the name in the certificate the subject's, as it was told to become: everything that stands under the old name moves,
/// and that stays kept until the last certificate with it has ended. Whoever sets a lock at the same moment looks again, so that none
/// is left on a name that nobody has.
fn rename(
    changes: &mut Changes,
    peer: &Peer,
    (lineage, before): (&mut Lineage, &Seen<Lineage>),
    seen: &Seen<Subject>,
    standing: &AdmissionRecords,
) -> Result<Seen<Subject>, Refusal> {
    let (role, new) = (lineage.role, peer.identity.name.to_string());
    let old = std::mem::replace(&mut lineage.name, new.clone());
    if seen.record.renaming.as_deref() != Some(new.as_str()) {
        return Err(Refusal::Retired { why: "its name is not this machine's" });
    }
    let subject = Subject { name: new.clone(), renaming: None, ..seen.record.clone() };
    subjects::remove(changes, seen);
    subjects::create(changes, &subject);
    lock::bump(changes, &standing.epoch);
    changes.delete(keys::kept_name(role, &new));
    let (current, retired, sealed) = (&before.record.current, &before.record.retired, &before.record.sealed);
    let ends = current.iter().chain(retired).chain(sealed).map(|cert| cert.not_after);
    // One that was replaced before anybody used it is not among them. It was issued before this one, and so ends no later.
    let until = ends.chain([peer.not_after.into()]).max_by_key(|end| end.0);
    changes.put(keys::kept_name(role, &old), &KeptName { lineage: lineage.id.clone(), until });
    if let Some(convergence) = &standing.convergence {
        changes.remove(keys::convergence(&old), convergence);
        changes.put(keys::convergence(&new), &convergence.record);
    }
    changes.event(Event::Standing(audit::StandingEvent::SubjectRenamed {
        identity: peer.identity.to_string(),
        before: old,
    }));
    Ok(Seen { record: subject, version: seen.version })
}

/// Makes the pending certificate current. The lineage is the caller's to write.
fn activate(peer: &Peer, seen: &Seen<Lineage>, now: UnixTime) -> (Changes, Seen<Lineage>) {
    let mut lineage = seen.record.clone();
    let retired = lineage.current.take();
    lineage.current = lineage.pending.take();
    lineage.retired.clone_from(&retired);
    lineage.activated = now.into();
    let mut changes = Changes::new();
    changes.event(Event::CertificateActivated {
        serial: peer.serial.hex(),
        identity: peer.identity.to_string(),
        retired: retired.map(|cert| cert.serial.hex()),
    });
    (changes, Seen { record: lineage, version: seen.version })
}

/// Locks a lineage that two holders use.
pub fn fork(
    seen: &Seen<Lineage>,
    identity: &Identity,
    used: Serial,
    standing: &AdmissionRecords,
    why: &'static str,
    now: UnixTime,
) -> Changes {
    let mut lineage = seen.record.clone();
    lineage.forked = true;
    let mut changes = Changes::new();
    changes.update(keys::lineage(&lineage.id), seen, &lineage);
    let lock = Lock {
        kind: LockKind::Lineage,
        target: lineage.id.clone(),
        reason: format!("two holders of the key of {identity} were seen: {why}"),
        by: "gateway".to_owned(),
        at: now.into(),
        of_key: None,
        instance: "fork".to_owned(),
    };
    changes.put(keys::lock(lock.kind, &lock.target), &lock);
    lock::bump(&mut changes, &standing.epoch);
    changes.event(Event::LineageForked {
        lineage: lineage.id.clone(),
        identity: identity.to_string(),
        used: used.hex(),
        current: lineage.current.as_ref().map(|cert| cert.serial.hex()).unwrap_or_default(),
        why,
    });
    changes.event(Event::LockSet {
        kind: lock.kind.as_str(),
        target: lock.target.clone(),
        reason: lock.reason,
        rules: vec![],
    });
    changes
}

/// The role's kind of lock.
#[must_use]
pub const fn lock_kind(role: Role) -> LockKind {
    match role {
        Role::Machine | Role::Gateway => LockKind::Machine,
        Role::Person => LockKind::Person,
    }
}
