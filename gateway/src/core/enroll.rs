//! Decides requests to join. Order of checks: prove, locks, state, change.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use pki::{Identity, KeyDigest, Name, Role, Serial, SubjectKey, UnixTime};
use policy::Ruleset;

use super::{
    audit::{Asker, Event, StandingEvent},
    change::Changes,
    device::{self, KnownDevices, Showing},
    evidence::{Claims, Continues, DeviceClaims, Judged, Reject},
    facts::{assurance_of, policy_claims},
    keys,
    lock::Locks,
    name,
    plan::{self, Common, LeafKind, LeafSpec, Plan, Stands, Terms},
    proven::ProvenKey,
    queue,
    records::{
        AdmittedBy, Certificate, Enrollment, EnrollmentState, KeptName, Lineage, Seen, Shown, Subject, UnixSecs,
    },
    refusal::{Conflict, Fault, QueueFull, REMOVED, Refusal},
    requester::Requester,
    subjects,
};

pub use self::basis::EnrollmentBasis;

mod basis;

/// A request to join whose key is proven.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// The key.
    pub key: ProvenKey,
    /// The requester, by the certificate of the connection.
    pub requester: Requester,
    /// The requested name.
    pub wanted_name: Option<String>,
    /// The pin that the client verified, if it sent one.
    pub pin: Option<KeyDigest>,
    /// Kind and body of each piece of evidence.
    pub evidence: Vec<(String, String)>,
    /// The ticket of an earlier challenge.
    pub ticket: Option<String>,
    /// Unverified attributes.
    pub attributes: BTreeMap<String, String>,
    /// Its address.
    pub source: IpAddr,
    /// The prefix that counts against queue limits.
    pub prefix: String,
}

impl Asker {
    fn of(inbound: &Inbound) -> Self {
        let certificate = match &inbound.requester {
            Requester::Nobody => None,
            shown @ (Requester::Ours(_) | Requester::Foreign(_)) => Some(shown.to_string()),
        };
        Self { proof: inbound.key.by().as_str(), certificate }
    }
}

/// Records for the decision.
#[derive(Debug)]
pub struct EnrollRecords {
    /// The enrollment of this key, if there is one.
    pub existing: Option<Seen<Enrollment>>,
    /// Its index entry.
    pub existing_index: Option<Seen<String>>,
    /// The records that it depends on.
    pub basis: EnrollmentBasis,
    /// The newest certificate of its lineage, if it is for this key.
    pub issued: Option<Seen<Certificate>>,
    /// Records of the name that it would get.
    pub name: NameRecords,
    /// The devices that its evidence is of.
    pub devices: KnownDevices,
    /// Whether the ticket that came with the evidence was used before.
    pub ticket_spent: bool,
    /// Locks on the key, on everything the evidence depends on, and on the lineage.
    pub locks: Locks,
    /// Its numbers in the queue, or the reason why there are none.
    pub numbers: Result<Vec<String>, QueueFull>,
}

/// Records of a name that is to be assigned. They are not disclosed to a requester who only wishes for the name.
#[derive(Clone, Debug, Default)]
pub struct NameRecords {
    /// Its holder.
    pub holder: Option<Seen<Subject>>,
    /// Locks on the name; they outlive its holder.
    pub locks: Locks,
    /// The reservation of the name for a renaming, if there is one.
    pub kept: Option<Seen<KeptName>>,
    /// Whether some machine names an owner of this name, and the newcomer chose the name.
    pub is_owners: bool,
}

impl NameRecords {
    /// Whether the name is taken: it has a holder, it is reserved for a renaming, or it is that of an owner.
    #[must_use]
    pub fn is_taken(&self, now: UnixTime) -> bool {
        self.holder.is_some() || self.is_owners || self.kept.as_ref().is_some_and(|seen| seen.record.is_kept(now))
    }
}

/// Settings of this gateway.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// Contents of every certificate.
    pub common: Common<'a>,
    /// The pin that the newcomer verified.
    pub pin: KeyDigest,
    /// How long a request may wait.
    pub pending_ttl: Duration,
    /// The claims about devices.
    pub devices: &'a [DeviceClaims],
    /// Kinds of evidence that can be shown again at renewal, each with the prefix of its claims.
    pub again: &'a [(&'static str, &'static str)],
}

/// Random bytes for one decision.
#[derive(Clone, Debug)]
pub struct EnrollEntropy {
    /// For ids.
    pub id: [u8; 6],
    /// For a lineage.
    pub lineage: [u8; 8],
    /// For a serial.
    pub serial: [u8; 16],
    /// For the waiting code.
    pub nonce: [u8; 16],
}

/// The decision.
#[derive(Debug)]
pub enum EnrollVerdict {
    /// Issue a certificate.
    Issue(Box<Plan>),
    /// Send the certificate issued before for this key again.
    Known(Box<(Enrollment, Certificate)>),
    /// The client must wait for a person, once these changes are durable.
    Wait(Box<Enrollment>, Changes),
    /// It is waiting already.
    Waits(Box<Enrollment>),
}

/// Decides. The key is proven and the evidence verified before.
///
/// # Errors
/// The reason for the refusal; then nothing is changed.
pub fn decide(
    inbound: &Inbound,
    judged: Judged,
    records: EnrollRecords,
    rules: &Ruleset,
    frame: &Frame<'_>,
    now: UnixTime,
    entropy: &EnrollEntropy,
) -> Result<EnrollVerdict, Refusal> {
    records.locks.refuse_telling(&records.basis.own(&inbound.key.digest()))?;
    let fresh_evidence = !inbound.evidence.is_empty();
    if let Some(verdict) = continue_existing(inbound, &records, fresh_evidence, frame, now, entropy)? {
        return Ok(verdict);
    }
    if let Some(prior) = rejoins(&judged.claims)
        && judged.claims.other_device(&prior.subject.record.claims, frame.devices)
    {
        return Err(Reject::together("they are of two machines").into());
    }
    let role = judged.claims.role.unwrap_or(Role::Machine);
    let newcomer = newcomer(inbound, &judged, role);
    match policy::admit(rules, &newcomer, now.secs()) {
        policy::Admission::Issue(grant) => {
            unspent(&records)?;
            let mut enrollment = enrollment(inbound, &judged, role, frame, now, entropy);
            if let Some(seen) = &records.existing {
                enrollment.id.clone_from(&seen.record.id);
            }
            enrollment.lifetime = grant.lifetime().map(|lifetime| lifetime.as_secs());
            enrollment.rules = grant.rules().to_vec();
            admit(inbound, Terms::granted(grant)?, enrollment, judged, &records, frame, now, entropy)
        }
        policy::Admission::Wait(grant) => {
            if let Some(seen) = &records.existing
                && seen.record.state == EnrollmentState::Waiting
                && now.secs() <= seen.record.expires.0
                && judged
                    .shown
                    .iter()
                    .all(|shown| shown.reference.is_none() || seen.record.evidence.iter().any(|taken| taken.is(shown)))
            {
                return Ok(EnrollVerdict::Waits(Box::new(seen.record.clone())));
            }
            unspent(&records)?;
            let numbers = records.numbers.clone()?;
            let mut enrollment = enrollment(inbound, &judged, role, frame, now, entropy);
            enrollment.numbers = numbers;
            enrollment.approvals_wanted = grant.approvals().max(1);
            enrollment.lifetime = grant.lifetime().map(|lifetime| lifetime.as_secs());
            enrollment.rules = grant.rules().to_vec();
            let spends = judged.changes_of(&enrollment.id);
            wait(inbound, enrollment, spends, &records)
        }
        policy::Admission::Refuse(denial) => Err(Refusal::Denied { rules: denial.rules, action: "enroll or request" }),
    }
}

/// The result for a key that has an enrollment; `None` if that does not decide the request.
fn continue_existing(
    inbound: &Inbound,
    records: &EnrollRecords,
    fresh_evidence: bool,
    frame: &Frame<'_>,
    now: UnixTime,
    entropy: &EnrollEntropy,
) -> Result<Option<EnrollVerdict>, Refusal> {
    let Some(existing) = &records.existing else { return Ok(None) };
    match existing.record.state {
        EnrollmentState::Issued => Ok(reissue(records, existing, now)),
        EnrollmentState::Approved => {
            collect(existing, &records.basis, &records.locks, inbound.key.key(), frame, now, entropy).map(Some)
        }
        EnrollmentState::Waiting if now.secs() > existing.record.expires.0 => Ok(None),
        EnrollmentState::Waiting if fresh_evidence => Ok(None),
        EnrollmentState::Waiting => {
            records.basis.require_evidence(&mut Changes::new())?;
            Ok(Some(EnrollVerdict::Waits(Box::new(existing.record.clone()))))
        }
        EnrollmentState::Denied => {
            Err(Refusal::DeniedByPerson { reason: existing.record.reason.clone().unwrap_or_default() })
        }
        EnrollmentState::Expired | EnrollmentState::Withdrawn => Ok(None),
        EnrollmentState::Removed => Err(Refusal::Retired { why: REMOVED }),
    }
}

/// The certificate issued for this key, while it is the newest of its lineage and unexpired.
fn reissue(records: &EnrollRecords, existing: &Seen<Enrollment>, now: UnixTime) -> Option<EnrollVerdict> {
    let (certificate, lineage) = (records.issued.as_ref()?, records.basis.lineage.as_ref()?);
    let newest = lineage.record.pending.as_ref().or(lineage.record.current.as_ref())?;
    let good = !lineage.record.ended
        && newest.serial == certificate.record.serial
        && certificate.record.not_after.0 > now.secs();
    good.then(|| EnrollVerdict::Known(Box::new((existing.record.clone(), certificate.record.clone()))))
}

/// Refuses a used ticket. A repeated request after a lost reply is answered before this check.
fn unspent(records: &EnrollRecords) -> Result<(), Reject> {
    if records.ticket_spent { Err(Reject::spent_ticket()) } else { Ok(()) }
}

fn newcomer(inbound: &Inbound, judged: &Judged, role: Role) -> policy::Newcomer {
    let claims = &judged.claims;
    policy::Newcomer {
        key: inbound.key.digest().hex(),
        role: role.as_str().to_owned(),
        wanted_name: inbound.wanted_name.clone(),
        assurance: claims.assurance.level() as u8,
        assurance_of: assurance_of(claims.assurance),
        claims: policy_claims(&claims.values),
        attributes: inbound.attributes.clone(),
        source: Some(inbound.source),
        known: rejoins(claims).is_some() && !judged.same_device,
        same_device: judged.same_device,
    }
}

/// The lineage that the evidence continues, if any.
fn rejoins(claims: &Claims) -> Option<&Continues> {
    claims.grants.as_ref().and_then(|grants| grants.continues.as_ref())
}

fn enrollment(
    inbound: &Inbound,
    judged: &Judged,
    role: Role,
    frame: &Frame<'_>,
    now: UnixTime,
    entropy: &EnrollEntropy,
) -> Enrollment {
    let claims = &judged.claims;
    let grants = claims.grants.clone().unwrap_or_default();
    let rejoins = rejoins(claims);
    Enrollment {
        id: hex::encode(entropy.id),
        state: EnrollmentState::Waiting,
        role,
        key: inbound.key.digest(),
        spki: inbound.key.key().spki_der().to_vec(),
        wanted_name: inbound.wanted_name.clone(),
        name: None,
        claims: claims.values.clone(),
        stated: judged.stated.clone(),
        attributes: inbound.attributes.clone(),
        assurance: claims.assurance,
        source: inbound.prefix.clone(),
        pin: frame.pin,
        nonce: entropy.nonce,
        created: now.into(),
        expires: now.plus(frame.pending_ttl).into(),
        approvals: vec![],
        approvals_wanted: 0,
        lifetime: None,
        rules: vec![],
        labels: grants.labels,
        groups: grants.groups,
        owner: grants.owner,
        lineage: rejoins.map(|prior| prior.lineage.record.id.clone()),
        rejoin: rejoins.is_some(),
        same_device: judged.same_device,
        reason: None,
        evidence: judged.shown.clone(),
        numbers: vec![],
        behind: judged.rests_on().iter().cloned().collect(),
    }
}

/// Puts an enrollment into the queue. What its evidence uses up is used up now, before the approval.
fn wait(
    inbound: &Inbound,
    enrollment: Enrollment,
    spends: Changes,
    records: &EnrollRecords,
) -> Result<EnrollVerdict, Refusal> {
    if let Some(wanted) = &enrollment.wanted_name {
        name::legal(wanted)?;
    }
    let mut changes = Changes::new();
    if let Some(old) = &records.existing {
        changes.remove(keys::enrollment(&old.record.id), old);
        if old.record.state != EnrollmentState::Withdrawn {
            queue::leave(&mut changes, &old.record);
        }
    }
    changes.create(keys::enrollment(&enrollment.id), &enrollment);
    changes.upsert(keys::enrollment_of_key(&enrollment.key), records.existing_index.as_ref(), &enrollment.id);
    queue::enter(&mut changes, &enrollment);
    changes.extend(spends);
    changes.expect.extend(records.locks.conditions());
    changes.event(Event::EnrollmentWaiting {
        enrollment: enrollment.id.clone(),
        wanted_name: enrollment.wanted_name.clone(),
        source: enrollment.source.clone(),
        stated: enrollment.stated.clone(),
        asked: Asker::of(inbound),
        rules: enrollment.rules.clone(),
    });
    Ok(EnrollVerdict::Wait(Box::new(enrollment), changes))
}

/// Admits without an approval.
#[expect(clippy::too_many_arguments, reason = "what was granted, and everything that it is granted on")]
fn admit(
    inbound: &Inbound,
    terms: Terms,
    mut enrollment: Enrollment,
    judged: Judged,
    records: &EnrollRecords,
    frame: &Frame<'_>,
    now: UnixTime,
    entropy: &EnrollEntropy,
) -> Result<EnrollVerdict, Refusal> {
    let name = name::choose(enrollment.wanted_name.as_deref(), &judged.claims.names, enrollment.role, &enrollment.key)?;
    enrollment.name = Some(name.to_string());
    enrollment.state = EnrollmentState::Issued;
    let mut changes = Changes::new();
    changes.event(Event::EnrollmentAdmitted {
        enrollment: enrollment.id.clone(),
        name: name.to_string(),
        evidence: inbound.evidence.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>().join(","),
        stated: enrollment.stated.clone(),
        asked: Asker::of(inbound),
        rules: enrollment.rules.clone(),
    });
    changes.extend(judged.changes_of(&enrollment.id));
    let (lineage, subject) = match (rejoins(&judged.claims), own_lineage(records)) {
        (Some(prior), _) => {
            let subject = back(&mut changes, prior, &enrollment, frame, now);
            (prior.lineage.clone(), Some(subject))
        }
        (None, Some((own, subject))) => (own.clone(), Some(subject.record.clone())),
        (None, None) => {
            // Who holds or held the name, and why it is locked, is not disclosed to the newcomer.
            if records.name.locks.any() {
                return Err(Refusal::NameTaken { name: name.to_string() });
            }
            let by = AdmittedBy::Policy;
            let (lineage, subject) =
                begin(&mut changes, &mut enrollment, &name, by, &records.name, now, &entropy.lineage)?;
            (lineage, Some(subject))
        }
    };
    records.devices.belong(&mut changes, &lineage.record.id);
    enrollment.lineage = Some(lineage.record.id.clone());
    if let Some(old) = &records.existing
        && old.record.state == EnrollmentState::Waiting
    {
        queue::leave(&mut changes, &old.record);
    }
    changes.upsert(keys::enrollment_of_key(&enrollment.key), records.existing_index.as_ref(), &enrollment.id);
    changes.upsert(keys::enrollment(&enrollment.id), records.existing.as_ref(), &enrollment);
    let locks = records.locks.clone().and(records.name.locks.clone());
    let stands = plan::stands(&lineage, subject.as_ref(), &[enrollment.key], &locks)?;
    certify(changes, stands, terms, enrollment, lineage, AdmittedBy::Policy, inbound.key.key(), frame, now, entropy)
}

/// A machine or person comes back to its lineage. Of what an enrollment shows only that counts which nothing newer was shown for: it
/// may have waited.
fn back(
    changes: &mut Changes,
    machine: &Continues,
    enrollment: &Enrollment,
    frame: &Frame<'_>,
    now: UnixTime,
) -> Subject {
    let (lineage, seen) = (&machine.lineage.record, &machine.subject);
    let newer =
        |piece: &Shown| seen.record.evidence.iter().any(|known| known.kind == piece.kind && known.at > piece.at);
    let shown: Vec<Shown> = enrollment.evidence.iter().filter(|piece| !newer(piece)).cloned().collect();
    let identity = frame.common.domain.id_of(lineage.role, &lineage.name);
    if enrollment.same_device {
        let (identity, lineage, enrollment) = (identity.clone(), lineage.id.clone(), enrollment.id.clone());
        changes.event(Event::Standing(StandingEvent::DeviceReturned { identity, lineage, enrollment }));
    }
    let Enrollment { claims, stated, .. } = enrollment;
    let showing = Showing { claims, stated, shown: &shown, again: frame.again, devices: frame.devices };
    device::back(changes, (&lineage.id, seen), identity, showing, now)
}

/// The lineage that began with this key, if its subject still has the name: a client that lost its certificate but not its key
/// continues it.
fn own_lineage(records: &EnrollRecords) -> Option<(&Seen<Lineage>, &Seen<Subject>)> {
    let lineage = records.basis.lineage.as_ref()?;
    let (_, holder) = (records.issued.as_ref()?, records.name.holder.as_ref()?);
    (holder.record.lineage == lineage.record.id && !lineage.record.ended).then_some((lineage, holder))
}

/// Decides the withdrawal of a request; `None` if it is over already. Does not end the machine or person that it admitted; the caller
/// does.
///
/// # Errors
/// [`Refusal::Conflict`] if a certificate was issued for it.
pub fn withdraw(seen: &Seen<Enrollment>) -> Result<Option<Changes>, Refusal> {
    let mut enrollment = seen.record.clone();
    match enrollment.state {
        EnrollmentState::Waiting | EnrollmentState::Approved => {}
        EnrollmentState::Issued => {
            return Err(Refusal::Conflict(Conflict::Issued));
        }
        EnrollmentState::Denied | EnrollmentState::Expired | EnrollmentState::Removed | EnrollmentState::Withdrawn => {
            return Ok(None);
        }
    }
    enrollment.state = EnrollmentState::Withdrawn;
    let mut changes = Changes::new();
    changes.update(keys::enrollment(&enrollment.id), seen, &enrollment);
    if seen.record.state == EnrollmentState::Waiting {
        // The entry stays in the queue: otherwise asking and withdrawing repeatedly would write without limit.
        queue::rewrite(&mut changes, &enrollment);
    }
    changes.event(Event::Standing(StandingEvent::EnrollmentWithdrawn { enrollment: enrollment.id }));
    Ok(Some(changes))
}

/// Begins a lineage, which takes the subject's name.
///
/// # Errors
/// [`Refusal::Locked`] if there is a lock on the name, [`Refusal::NameTaken`] if it has a holder or is that of an owner.
pub fn begin(
    changes: &mut Changes,
    enrollment: &mut Enrollment,
    name: &Name,
    admitted_by: AdmittedBy,
    records: &NameRecords,
    now: UnixTime,
    entropy: &[u8; 8],
) -> Result<(Seen<Lineage>, Subject), Refusal> {
    records.locks.refuse()?;
    if records.is_taken(now) {
        return Err(Refusal::NameTaken { name: name.to_string() });
    }
    // A concurrent renaming to this name is a conflict.
    changes.unchanged(keys::kept_name(enrollment.role, name.as_str()), records.kept.as_ref());
    let lineage = Lineage {
        id: hex::encode(entropy),
        role: enrollment.role,
        name: name.to_string(),
        current: None,
        pending: None,
        sealed: Vec::new(),
        activated: UnixSecs(0),
        retired: None,
        forked: false,
        ended: false,
        ended_at: None,
        created: now.into(),
        paid_until: UnixSecs(0),
        sealed_paid_until: UnixSecs(0),
        ssh_paid_until: UnixSecs(0),
        last_seen: None,
        renewal_asked: None,
    };
    let subject = Subject {
        name: name.to_string(),
        role: enrollment.role,
        lineage: lineage.id.clone(),
        labels: enrollment.labels.clone(),
        groups: enrollment.groups.clone(),
        owner: enrollment.owner.clone(),
        created: now.into(),
        claims: enrollment.claims.clone(),
        stated: enrollment.stated.clone(),
        attributes: enrollment.attributes.clone(),
        assurance: enrollment.assurance,
        admitted_by,
        evidence: enrollment.evidence.clone(),
        approvers: enrollment.approvals.iter().map(|approval| approval.by.clone()).collect(),
        enrollment: enrollment.id.clone(),
        renaming: None,
    };
    subjects::create(changes, &subject);
    // Version 0 means that it is not written yet: `certify` creates it.
    Ok((Seen { record: lineage, version: 0 }, subject))
}

/// Issues the certificate of an approved enrollment when its client polls. Everything the request depends on is checked again, because
/// it may have changed since the approval.
///
/// # Errors
/// If the request is no longer valid, the records are inconsistent, or the draft breaks a rule.
pub fn collect(
    existing: &Seen<Enrollment>,
    basis: &EnrollmentBasis,
    locks: &Locks,
    key: &SubjectKey,
    frame: &Frame<'_>,
    now: UnixTime,
    entropy: &EnrollEntropy,
) -> Result<EnrollVerdict, Refusal> {
    let terms = Terms::approved(&existing.record)?;
    let enrollment = Enrollment { state: EnrollmentState::Issued, ..existing.record.clone() };
    let Some(lineage) = &basis.lineage else {
        return Err(Fault::Record(format!("enrollment {} is approved without a lineage", enrollment.id)).into());
    };
    let admitted_by = if enrollment.approvals.is_empty() { AdmittedBy::Policy } else { AdmittedBy::Person };
    let mut changes = Changes::new();
    basis.require_evidence(&mut changes)?;
    locks.cover(&enrollment.behind)?;
    let subject = basis.subject.as_ref().map(|seen| &seen.record);
    let stands = plan::stands(lineage, subject, &[enrollment.key], locks)?;
    if let Some(subject) = basis.subject.as_ref().filter(|_| enrollment.rejoin) {
        let machine = Continues { lineage: lineage.clone(), subject: subject.clone() };
        let _: Subject = back(&mut changes, &machine, &enrollment, frame, now);
    }
    basis.devices.belong(&mut changes, &lineage.record.id);
    changes.update(keys::enrollment(&enrollment.id), existing, &enrollment);
    certify(changes, stands, terms, enrollment, lineage.clone(), admitted_by, key, frame, now, entropy)
}

#[expect(clippy::too_many_arguments, reason = "the one place where all parts of a first certificate meet")]
fn certify(
    mut changes: Changes,
    stands: Stands,
    terms: Terms,
    enrollment: Enrollment,
    seen: Seen<Lineage>,
    admitted_by: AdmittedBy,
    key: &SubjectKey,
    frame: &Frame<'_>,
    now: UnixTime,
    entropy: &EnrollEntropy,
) -> Result<EnrollVerdict, Refusal> {
    let name = name::known(enrollment.name.as_deref().unwrap_or_default())?;
    let identity = Identity { domain: frame.common.domain.clone(), role: enrollment.role, name: name.clone() };
    let wanted = LeafSpec {
        common: frame.common,
        role: enrollment.role,
        name,
        key: key.clone(),
        assurance: enrollment.assurance,
        admitted_by,
    };
    let draft = plan::draft(terms, wanted, LeafKind::Own, Serial::from_entropy(entropy.serial), now)?;
    let mut lineage = seen.record.clone();
    if lineage.name != identity.name.as_str() || lineage.role != identity.role {
        return Err(Fault::Record(format!("lineage {} is not of {identity}", lineage.id)).into());
    }
    let (charged, reference) = draft.charge(frame.common, &mut lineage, now)?;
    lineage.pending = Some(reference);
    let lineage_key = keys::lineage(&lineage.id);
    if seen.version == 0 {
        changes.create(lineage_key, &lineage);
    } else {
        changes.update(lineage_key, &seen, &lineage);
    }
    Ok(EnrollVerdict::Issue(Box::new(charged.plan(changes, stands, enrollment.id))))
}
