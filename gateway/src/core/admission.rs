//! Whether the holder of a certificate is admitted, decided on every request of the manage face.
//!
//! The first use of a new certificate makes it current and retires its predecessor. If the retired certificate is used after
//! that, two holders share one lineage (a clone or a stolen key), and the lineage is locked.

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

/// For how long a retired certificate may still read, and for how long a change with it is refused without locking the lineage.
/// Programs on the machine may have read the files just before they were replaced, or keep a connection open. At most a tenth of
/// the certificate's lifetime, so that short lifetimes remain effective.
pub const RETIRED_GRACE: Duration = Duration::from_secs(120);

/// Shortest time between two records of a stale certificate of the same lineage.
const STALE_AGAIN: Duration = Duration::from_hours(1);

/// The grace of a retired certificate with this lifetime.
#[must_use]
pub fn grace(life: Duration) -> Duration {
    RETIRED_GRACE.min(life / 10)
}

/// The records of a certificate's holder.
#[derive(Clone, Debug, Default)]
pub struct AdmissionRecords {
    /// By serial.
    pub certificate: Option<Seen<Certificate>>,
    /// The certificate's lineage.
    pub lineage: Option<Seen<Lineage>>,
    /// The lineage's machine or person.
    pub subject: Option<Seen<Subject>>,
    /// The person who has the name of the machine's owner now.
    pub owner: Option<Seen<Subject>>,
    /// The last reported run, if the machine is being renamed.
    pub convergence: Option<Seen<Convergence>>,
    /// Locks on subject, lineage and key.
    pub locks: Locks,
    /// The lock epoch.
    pub epoch: lock::Epoch,
}

/// What the holder requests.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// Renewing its certificate.
    Renewal,
    /// Reading, reporting a run, or opening a connection to a service; a retired certificate is accepted within its grace.
    Read,
    /// Creating, ending or granting something, or holding a machine's tunnel; only the current certificate is accepted.
    Change,
}

/// An admitted holder.
#[derive(Clone, Debug)]
pub struct Caller {
    /// From the certificate.
    pub identity: Identity,
    /// From the certificate.
    pub serial: Serial,
    /// SHA-256 of the certificate's public key.
    pub key: KeyDigest,
    /// From the certificate.
    pub not_after: UnixTime,
    /// The certificate's lineage.
    pub lineage: Seen<Lineage>,
    /// The lineage's machine or person.
    pub subject: Seen<Subject>,
    /// The person who has the name of the machine's owner now.
    pub owner: Option<Seen<Subject>>,
    /// The look-up for locks on name, lineage and key, which found none.
    pub locks: Locks,
}

impl Caller {
    /// The same, for whom more locks were looked up: those on the key to be certified.
    #[must_use]
    pub fn with_locks(mut self, more: Locks) -> Self {
        self.locks = self.locks.and(more);
        self
    }
}

/// The decision about a request.
#[derive(Debug)]
pub enum Admission {
    /// Admitted. If there are changes, commit them first.
    Admit(Box<Caller>, Option<Changes>),
    /// Two holders of one lineage: commit the changes, which lock it, then refuse.
    Fork(Changes, Refusal),
}

/// The lineage and subject of a certificate, if it is recorded and unexpired and neither is ended, forked or locked.
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

/// Decides about one request.
///
/// # Errors
/// The holder is refused; nothing is to be committed.
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
        // nothing may start under the machine's former name: a lock on its new name would not find it
        Use::Read if forgiven && peer.identity.name.as_str() != lineage.record.name => return Err(Refusal::Replaced),
        Use::Read if forgiven => return Ok(Admission::Admit(caller(lineage.clone(), subject), None)),
        // no lock, since a program may just have read the files too early; and no change, since it may be a thief
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

/// What the use of a replaced certificate means, on any face.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ShownAgain {
    /// Apart from the replacement it is valid: two holders of one lineage.
    Fork,
    /// It is not valid anyway, so its use is harmless and no reason for a lock.
    Stale,
}

/// Only an unexpired certificate without any lock counts as a fork.
#[must_use]
pub fn shown_again(not_after: UnixTime, locks: &Locks, now: UnixTime) -> ShownAgain {
    if now <= not_after && !locks.any() { ShownAgain::Fork } else { ShownAgain::Stale }
}

/// The record and event for the use of a stale certificate; `None` if there was one within the last hour.
#[must_use]
pub fn stale(
    before: Option<&Seen<Stale>>,
    lineage: &Lineage,
    used: Serial,
    source: &str,
    now: UnixTime,
) -> Option<Changes> {
    // the holder of an old key could show it any number of times
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

/// Decides whether a holder who was admitted at the start of a connection is still admitted. Which certificate of the lineage the
/// connection started with does not matter here: an open connection is no new use of it.
///
/// # Errors
/// The holder is refused, and the connection is to be closed.
pub fn recheck(peer: &Peer, standing: &AdmissionRecords, now: UnixTime) -> Result<Box<Caller>, Refusal> {
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

/// Completes a renaming: the machine takes the name in the certificate, and all records under the old name move. The old name stays
/// reserved until the last certificate with it has expired. The lock epoch is incremented, so that a lock set at the same moment is
/// decided again and does not end up on the old name.
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
    // A pending certificate that was replaced before its first use is missing here. It was issued before this one, so it ends no later.
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

/// Makes the pending certificate current. The caller writes the lineage.
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

/// Locks a lineage with two holders.
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

/// The kind of a lock on the name of a machine or person.
#[must_use]
pub const fn lock_kind(role: Role) -> LockKind {
    match role {
        Role::Machine | Role::Gateway => LockKind::Machine,
        Role::Person => LockKind::Person,
    }
}
