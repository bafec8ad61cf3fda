//! One machine or person with all its records: its policy resource, who may see it, and its view.

use std::collections::BTreeMap;

use pki::{KeyDigest, Role};

use super::{
    locate, owners,
    shell::Shell,
    views::{LockDetails, SubjectDetails, TunnelDetails},
};
use crate::core::{
    admission::{Caller, lock_kind},
    facts::{machine_facts, permit, person_facts},
    keys,
    lock::Locks,
    look::Look,
    name,
    records::{CertRef, Claim, Convergence, Lineage, Lock, LockKind, Owner, Seen, Subject},
    refusal::{Fault, Missing, Refusal},
};

/// Subject, lineage and locks of one machine or person.
#[derive(Clone)]
pub(super) struct SubjectRecords {
    pub(super) subject: Seen<Subject>,
    pub(super) lineage: Option<Seen<Lineage>>,
    /// The person who has the name of its owner now.
    owner: Option<Seen<Subject>>,
    locks: Locks,
}

/// The states of a machine or person.
pub const STATES: [&str; 4] = ["active", "expired", "locked", "reserved"];

impl SubjectRecords {
    /// Whether a lock stands against it.
    pub(super) const fn is_locked(&self) -> bool {
        self.locks.any()
    }

    /// Its newest certificate.
    fn newest(&self) -> Option<&CertRef> {
        self.lineage.as_ref().and_then(|seen| seen.record.current.as_ref().or(seen.record.pending.as_ref()))
    }

    /// Its state, one of [`STATES`].
    pub(super) fn state(&self, now: pki::UnixTime) -> &'static str {
        match self.newest() {
            _ if self.locks.any() => "locked",
            None => "reserved",
            Some(cert) if cert.not_after.0 < now.secs() => "expired",
            Some(_) => "active",
        }
    }

    /// The subject as a caller, for a question on its behalf.
    pub(super) fn into_caller(self, identity: pki::Identity, key: KeyDigest) -> Option<Caller> {
        let lineage = self.lineage?;
        let cert = lineage.record.current.clone().or_else(|| lineage.record.pending.clone())?;
        Some(Caller {
            identity,
            serial: cert.serial,
            key,
            not_after: cert.not_after.into(),
            lineage,
            subject: self.subject,
            owner: self.owner,
            locks: self.locks,
        })
    }
}

/// Finds the machine or person of that name.
pub(super) fn find_subject(look: &Look, role: Role, name: &str) -> Result<Option<SubjectRecords>, Fault> {
    look.expect([keys::lock(lock_kind(role), name)]);
    match look.get(&keys::subject(role, name))? {
        Some(seen) => load_subject(look, seen).map(Some),
        None => Ok(None),
    }
}

/// Whether the caller may know of it.
pub(super) fn may_see(shell: &Shell, caller: &Caller, records: &SubjectRecords) -> bool {
    permit(&shell.rules.load(), caller, policy::Action::Read, resource(shell, records), shell.now()).is_ok()
}

/// Loads lineage, owner and locks of a machine or person.
///
/// # Errors
/// [`Fault::Record`] when a record makes no sense.
pub(super) fn load_subject(look: &Look, subject: Seen<Subject>) -> Result<SubjectRecords, Fault> {
    let lineage: Option<Seen<Lineage>> = look.get(&keys::lineage(&subject.record.lineage))?;
    let mut targets = vec![
        (lock_kind(subject.record.role), subject.record.name.clone()),
        (LockKind::Lineage, subject.record.lineage.clone()),
    ];
    if let Some(seen) = &lineage {
        let certs = [&seen.record.current, &seen.record.pending];
        targets.extend(certs.into_iter().flatten().map(|cert| (LockKind::Key, cert.key.hex())));
    }
    let (locks, owner) = (look.locks(targets)?, owners::person(look, &subject.record)?);
    Ok(SubjectRecords { subject, lineage, owner, locks })
}

/// The policy resource.
pub(super) fn resource(shell: &Shell, records: &SubjectRecords) -> policy::Resource {
    let subject = &records.subject.record;
    match subject.role {
        Role::Person => {
            let mut facts = person_facts(subject);
            facts.locked = records.locks.any();
            policy::Resource::Person(facts)
        }
        Role::Machine | Role::Gateway => {
            let lineage = records.lineage.as_ref().map(|seen| &seen.record);
            let owner = records.owner.as_ref().map(|seen| &seen.record);
            policy::Resource::Machine(machine_facts(subject, owner, lineage, records.locks.any(), shell.now()))
        }
    }
}

/// One machine or person that the caller may read.
///
/// # Errors
/// [`Refusal::NotFound`] also when the caller may not know of it.
pub(super) fn visible(
    shell: &Shell,
    look: &Look,
    caller: &Caller,
    role: Role,
    name: &str,
) -> Result<SubjectRecords, Refusal> {
    let what = if role == Role::Person { Missing::Person } else { Missing::Machine };
    let records = find_subject(look, role, name)?.ok_or(Refusal::NotFound(what))?;
    if may_see(shell, caller, &records) { Ok(records) } else { Err(Refusal::NotFound(what)) }
}

/// Its SPIFFE ID.
///
/// # Errors
/// The name in the record is invalid.
pub(super) fn identity(shell: &Shell, subject: &Subject) -> Result<pki::Identity, Refusal> {
    let name = name::known(&subject.name)?;
    Ok(pki::Identity { domain: shell.domain.clone(), role: subject.role, name })
}

/// The view of it for callers.
///
/// # Errors
/// [`Fault::Record`] when a record makes no sense.
pub(super) fn view(shell: &Shell, look: &Look, records: SubjectRecords) -> Result<SubjectDetails, Fault> {
    let state = records.state(shell.now());
    let newest = records.newest().cloned();
    let SubjectRecords { subject, lineage, owner, locks } = records;
    let subject = subject.record;
    let is = |named: &Owner| owner.is_some_and(|person| named.is(&person.record));
    let owner_gone = subject.owner.as_ref().is_some_and(|named| !is(named));
    let convergence: Option<Seen<Convergence>> = match subject.role {
        Role::Machine => look.get(&keys::convergence(&subject.name))?,
        Role::Person | Role::Gateway => None,
    };
    let current = lineage.as_ref().and_then(|seen| seen.record.current.as_ref());
    let pending = lineage.as_ref().and_then(|seen| seen.record.pending.as_ref());
    let tunnel = match (subject.role, identity(shell, &subject)) {
        (Role::Machine, Ok(machine)) => locate::details(shell, look, &machine)?,
        (Role::Machine, Err(_)) | (Role::Person | Role::Gateway, _) => None,
    };
    let last_seen = last_seen(shell, &subject, tunnel.as_ref(), lineage.as_ref().map(|seen| &seen.record));
    Ok(SubjectDetails {
        identity: shell.domain.id_of(subject.role, &subject.name),
        role: subject.role,
        state,
        labels: subject.labels,
        groups: subject.groups,
        owner: subject.owner.map(|owner| owner.name),
        owner_gone,
        assurance: lineage.as_ref().and_then(|seen| seen.record.assurance()).unwrap_or(subject.assurance),
        lineage: subject.lineage,
        serial: current.map(|cert| cert.serial),
        not_after: newest.map(|cert| cert.not_after.0),
        pending_serial: pending.map(|cert| cert.serial),
        created: subject.created.0,
        last_seen,
        renaming: subject.renaming,
        tunnel,
        locks: locks.into_found().map(lock_view).collect(),
        verified: texts(&subject.claims),
        stated: subject.stated,
        claimed: subject.attributes,
        convergence: convergence.map(|seen| seen.record),
        name: subject.name,
    })
}

/// When a machine was last seen; nothing for one that never connected.
fn last_seen(
    shell: &Shell,
    subject: &Subject,
    tunnel: Option<&TunnelDetails>,
    lineage: Option<&Lineage>,
) -> Option<u64> {
    if subject.role != Role::Machine {
        return None;
    }
    if tunnel.is_some() {
        return Some(shell.now().secs());
    }
    let lineage = lineage?;
    Some(lineage.activated.0.max(lineage.last_seen.map_or(0, |at| at.0))).filter(|at| *at > 0)
}

pub(super) fn lock_view(lock: Lock) -> LockDetails {
    LockDetails {
        kind: lock.kind,
        target: lock.target,
        reason: lock.reason,
        by: lock.by,
        at: lock.at.0,
        ended: None,
        hits: vec![],
        suspended: None,
    }
}

/// Claims as text, for views.
#[must_use]
pub fn texts(claims: &BTreeMap<String, Claim>) -> BTreeMap<String, String> {
    claims.iter().map(|(name, claim)| (name.clone(), claim.text())).collect()
}
