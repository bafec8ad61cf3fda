//! Decides approvals, denials and reopened requests.

use std::collections::BTreeMap;

use pki::{Name, UnixTime};
use policy::Ruleset;

use super::{
    admission::Caller,
    audit::{self, Event},
    change::Changes,
    enroll::{EnrollmentBasis, NameRecords, begin},
    facts::{permit, person_facts, request_facts},
    given::known_owner,
    keys,
    lock::{self, Locks},
    name, plan, queue,
    records::{AdmittedBy, Approval, ApprovedContent, Enrollment, EnrollmentState, Lineage, Owner, Seen, Subject},
    refusal::{Conflict, NameRule, QueueFull, REMOVED, Refusal},
};
use crate::limits::APPROVALS_MAX;

/// Whether the approver checked the waiting code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeCheck {
    /// The code that the approver typed, to be compared with the machine's.
    Typed(String),
    /// The approver declares that they did not check it. The policy decides if that is enough.
    NotChecked,
}

/// What the approver wants the machine or person to get.
#[derive(Clone, Debug)]
pub enum Wish {
    /// Values that the approver gives.
    Own {
        /// Replaces the requested name.
        name: Option<String>,
        /// Added to the requested labels.
        labels: BTreeMap<String, String>,
        /// Name of a person.
        owner: Option<String>,
    },
    /// The values of an earlier approval, by the digest of its content.
    SameAs(String),
}

/// An approval as asked for.
#[derive(Clone, Debug)]
pub struct Approve {
    /// Result of comparing the codes.
    pub code: CodeCheck,
    /// Name, labels and owner.
    pub wish: Wish,
}

/// Records for the decision.
#[derive(Clone, Debug)]
pub struct ApprovalRecords {
    /// The enrollment.
    pub enrollment: Seen<Enrollment>,
    /// The holder of the name it would get.
    pub name: NameRecords,
    /// The owner it would get, if the approver names one.
    pub owner: Option<Owner>,
    /// Locks on the key, on the subjects behind the evidence, and on the lineage that it rejoins.
    pub locks: Locks,
    /// What the request depends on: the lineage that it rejoins, and its tokens.
    pub basis: EnrollmentBasis,
    /// The earlier approvers as they are now, in the order of [`Enrollment::approvals`].
    pub approvers: Vec<Approver>,
    /// The lock epoch. Every lock and removal changes it, so a change to an approver during the decision is a conflict.
    pub epoch: lock::Epoch,
}

/// An earlier approver as they are now.
#[derive(Clone, Debug)]
pub struct Approver {
    /// The person who has the approver's name now.
    pub subject: Option<Seen<Subject>>,
    /// Locks on the person and on the lineage that approved.
    pub locks: Locks,
}

/// Result of an approval.
#[derive(Debug)]
pub enum ApprovalOutcome {
    /// Recorded: commit the changes.
    Done(Box<Enrollment>, Changes),
    /// The code was wrong: commit the event, then refuse.
    WrongCode(Changes),
}

/// The action in a refusal if the policy permits the approval only with the code.
pub const UNCHECKED: &str = "approve without the code";

/// The name that an approval would assign to a newcomer. If neither the request nor the approver names one, it is derived from the key.
///
/// # Errors
/// [`Refusal::Conflict`] if [`Wish::SameAs`] names no approval of this request; [`Refusal::NameIllegal`].
pub fn name_for(enrollment: &Enrollment, wish: &Wish) -> Result<Name, Refusal> {
    let wanted = match wish {
        Wish::Own { name: Some(name), .. } => Some(name.as_str()),
        Wish::Own { name: None, .. } => enrollment.wanted_name.as_deref(),
        Wish::SameAs(digest) => Some(approved(enrollment, digest)?.name.as_str()),
    };
    name::choose(wanted, &[], enrollment.role, &enrollment.key)
}

/// The content of an earlier approval, by its digest.
fn approved<'a>(enrollment: &'a Enrollment, digest: &str) -> Result<&'a ApprovedContent, Refusal> {
    let mut contents = enrollment.approvals.iter().map(|approval| &approval.content);
    contents.find(|content| content.digest() == digest).ok_or(Refusal::Conflict(Conflict::ApprovalChanged))
}

/// The content of this approval.
fn content(enrollment: &Enrollment, asked: &Approve, records: &ApprovalRecords) -> Result<ApprovedContent, Refusal> {
    let code_checked = matches!(asked.code, CodeCheck::Typed(_));
    let (labels, owner) = match &asked.wish {
        Wish::SameAs(digest) => {
            let same = approved(enrollment, digest)?;
            (same.labels.clone(), same.owner.clone())
        }
        Wish::Own { labels, .. } => {
            let mut all = enrollment.labels.clone();
            all.extend(labels.clone());
            (all, records.owner.clone().or_else(|| enrollment.owner.clone()))
        }
    };
    let name = match &records.basis.lineage {
        Some(lineage) if enrollment.rejoin => {
            let named = match &asked.wish {
                Wish::Own { name, .. } => name.clone(),
                Wish::SameAs(digest) => Some(approved(enrollment, digest)?.name.clone()),
            };
            kept_name(&lineage.record, named.as_deref())?
        }
        Some(_) | None => name_for(enrollment, &asked.wish)?.to_string(),
    };
    Ok(ApprovedContent { name, labels, owner, code_checked })
}

/// Decides an approval. The caller has checked that the person may see the request. Checks in this order: the state of the request, the
/// content and whether this person may approve it, then the code.
///
/// # Errors
/// The approval has no effect; nothing is to be committed.
pub fn approve(
    caller: &Caller,
    asked: &Approve,
    records: ApprovalRecords,
    rules: &Ruleset,
    now: UnixTime,
    entropy: &[u8; 8],
) -> Result<ApprovalOutcome, Refusal> {
    let seen = &records.enrollment;
    let mut enrollment = seen.record.clone();
    check_waiting(&enrollment, now)?;
    records.locks.refuse()?;
    let content = content(&enrollment, asked, &records)?;
    let permitted = |content: &ApprovedContent| {
        permit(rules, caller, policy::Action::Approve, approval_of(&enrollment, content), now)
    };
    let grant = permitted(&content).map_err(|refusal| match refusal {
        Refusal::Denied { rules, .. }
            if !content.code_checked
                && permitted(&ApprovedContent { code_checked: true, ..content.clone() }).is_ok() =>
        {
            Refusal::Denied { rules, action: UNCHECKED }
        }
        other => other,
    })?;
    // after the permission check, since the answer shows which people exist
    known_owner(records.owner.as_ref())?;
    if let CodeCheck::Typed(typed) = &asked.code
        && !pki::waiting_code(&enrollment.key, &enrollment.pin, &enrollment.nonce).matches(typed)
    {
        let mut changes = Changes::new();
        changes.event(Event::ApprovalWrongCode { enrollment: enrollment.id.clone() });
        return Ok(ApprovalOutcome::WrongCode(changes));
    }
    let mut changes = Changes::new();
    check_basis(&enrollment, &records.basis, &records.locks, &mut changes)?;
    let fallen = drop_invalid(&mut enrollment, &records.approvers, rules, now);
    add(&mut enrollment, caller, content.clone(), &grant, now)?;
    let missing = missing(&enrollment, &content);
    let (id, rules) = (enrollment.id.clone(), grant.rules().to_vec());
    if missing > 0 {
        // unchanged, but the write notifies those who watch the waiting list
        queue::rewrite(&mut changes, &enrollment);
        changes.event(Event::EnrollmentApproval { enrollment: id, content, missing, fallen, rules });
    } else {
        admit(&mut changes, &mut enrollment, &content, &records, now, entropy)?;
        changes.event(Event::EnrollmentApproved { enrollment: id, content, fallen, rules });
    }
    changes.update(keys::enrollment(&enrollment.id), seen, &enrollment);
    changes.unchanged(keys::EPOCH.to_owned(), records.epoch.as_ref());
    Ok(ApprovalOutcome::Done(Box::new(enrollment), changes))
}

/// Admits the newcomer: enough people approved the same content.
fn admit(
    changes: &mut Changes,
    enrollment: &mut Enrollment,
    content: &ApprovedContent,
    records: &ApprovalRecords,
    now: UnixTime,
    entropy: &[u8; 8],
) -> Result<(), Refusal> {
    enrollment.state = EnrollmentState::Approved;
    enrollment.approvals.retain(|approval| approval.content == *content);
    enrollment.name = Some(content.name.clone());
    enrollment.labels.clone_from(&content.labels);
    enrollment.owner.clone_from(&content.owner);
    if !enrollment.rejoin {
        let name = name::legal(&content.name)?;
        let by = AdmittedBy::Person;
        let (lineage, subject) = begin(changes, enrollment, &name, by, &records.name, now, entropy)?;
        let locks = records.locks.clone().and(records.name.locks.clone());
        plan::stand_on(changes, plan::stands(&lineage, Some(&subject), &[enrollment.key], &locks)?);
        enrollment.lineage = Some(lineage.record.id.clone());
        changes.create(keys::lineage(&lineage.record.id), &lineage.record);
    }
    queue::leave(changes, enrollment);
    enrollment.numbers.clear();
    Ok(())
}

/// Adds an approval; it replaces an earlier one by the same person.
fn add(
    enrollment: &mut Enrollment,
    caller: &Caller,
    content: ApprovedContent,
    grant: &policy::Grant,
    now: UnixTime,
) -> Result<(), Refusal> {
    let lineage = caller.lineage.record.id.clone();
    if enrollment.approvals.iter().any(|one| one.lineage == lineage && one.content == content) {
        return Err(Refusal::Conflict(Conflict::ApprovedByCaller));
    }
    enrollment.approvals.retain(|one| one.lineage != lineage);
    if enrollment.approvals.len() >= APPROVALS_MAX {
        return Err(Refusal::Conflict(Conflict::NoAgreement));
    }
    enrollment.approvals_wanted = enrollment.approvals_wanted.max(grant.approvals()).max(1);
    enrollment.lifetime = strictest(enrollment.lifetime, grant.lifetime().map(|lifetime| lifetime.as_secs()));
    let (by, rules) = (caller.identity.name.to_string(), grant.rules().to_vec());
    enrollment.approvals.push(Approval { by, lineage, at: now.into(), content, rules });
    Ok(())
}

/// How many more people must approve a content.
#[must_use]
pub fn missing(enrollment: &Enrollment, content: &ApprovedContent) -> u32 {
    let given = enrollment.approvals.iter().filter(|approval| approval.content == *content).count();
    enrollment.approvals_wanted.saturating_sub(u32::try_from(given).unwrap_or(u32::MAX))
}

/// Drops the approvals of people who were removed, are locked or are no longer permitted; returns their names. Approvals belong to a
/// lineage: a person who left and joined again has a new one, so their earlier approvals are dropped.
fn drop_invalid(enrollment: &mut Enrollment, approvers: &[Approver], rules: &Ruleset, now: UnixTime) -> Vec<String> {
    let valid = |approval: &Approval, approver: Option<&Approver>| {
        let Some(Approver { subject: Some(subject), locks }) = approver else { return false };
        let facts = person_facts(&subject.record);
        let ask = policy::Ask {
            action: policy::Action::Approve,
            principal: policy::Principal::Person(facts),
            resource: approval_of(enrollment, &approval.content),
            now: now.secs(),
        };
        subject.record.lineage == approval.lineage
            && !locks.any()
            && matches!(policy::decide(rules, &ask), policy::Decision::Allowed(_))
    };
    let judged: Vec<bool> = enrollment
        .approvals
        .iter()
        .enumerate()
        .map(|(index, approval)| valid(approval, approvers.get(index)))
        .collect();
    let mut fallen = Vec::new();
    let mut stood = judged.into_iter();
    enrollment.approvals.retain(|approval| {
        let stood = stood.next().unwrap_or(false);
        if !stood {
            fallen.push(approval.by.clone());
        }
        stood
    });
    fallen
}

/// The policy resource of a request with the content of an approval.
fn approval_of(enrollment: &Enrollment, content: &ApprovedContent) -> policy::Resource {
    let approval = policy::Approval {
        name: content.name.clone(),
        owner: content.owner.as_ref().map(|owner| owner.name.clone()),
        labels: content.labels.clone(),
        code_checked: content.code_checked,
    };
    policy::Resource::Request(policy::Request { approval: Some(approval), ..request_facts(enrollment) })
}

/// Checks again what the request depends on, since it may have been locked, ended or revoked since the request was made.
fn check_basis(
    enrollment: &Enrollment,
    basis: &EnrollmentBasis,
    locks: &Locks,
    changes: &mut Changes,
) -> Result<(), Refusal> {
    locks.cover(&enrollment.behind)?;
    basis.require_evidence(changes)?;
    if enrollment.rejoin {
        let lineage = basis.lineage.as_ref().ok_or(Refusal::Retired { why: REMOVED })?;
        let subject = basis.subject.as_ref().map(|seen| &seen.record);
        plan::stand_on(changes, plan::stands(lineage, subject, &[enrollment.key], locks)?);
    }
    Ok(())
}

/// Decides a denial.
///
/// # Errors
/// The denial has no effect; nothing is to be committed.
pub fn deny(
    caller: &Caller,
    seen: &Seen<Enrollment>,
    reason: &str,
    rules: &Ruleset,
    now: UnixTime,
) -> Result<Changes, Refusal> {
    let mut enrollment = seen.record.clone();
    let resource = policy::Resource::Request(request_facts(&enrollment));
    let grant = permit(rules, caller, policy::Action::Approve, resource, now)?;
    check_waiting(&enrollment, now)?;
    enrollment.state = EnrollmentState::Denied;
    enrollment.reason = Some(reason.to_owned());
    enrollment.numbers.clear();
    let mut changes = Changes::new();
    changes.update(keys::enrollment(&enrollment.id), seen, &enrollment);
    queue::leave(&mut changes, &seen.record);
    changes.event(Event::EnrollmentDenied {
        enrollment: enrollment.id,
        wanted_name: enrollment.wanted_name,
        reason: reason.to_owned(),
        rules: grant.rules().to_vec(),
    });
    Ok(changes)
}

/// Decides to reopen a denied request. The permission is the same as for an approval. The request waits again, without the approvals it
/// had.
///
/// # Errors
/// The request stays denied; nothing is to be committed.
pub fn reopen(
    caller: &Caller,
    seen: &Seen<Enrollment>,
    numbers: Result<Vec<String>, QueueFull>,
    rules: &Ruleset,
    now: UnixTime,
) -> Result<(Enrollment, Changes), Refusal> {
    let mut enrollment = seen.record.clone();
    let resource = policy::Resource::Request(request_facts(&enrollment));
    let grant = permit(rules, caller, policy::Action::Approve, resource, now)?;
    if enrollment.state != EnrollmentState::Denied {
        return Err(Refusal::Conflict(Conflict::NotDenied(enrollment.state.as_str())));
    }
    enrollment.state = EnrollmentState::Waiting;
    check_waiting(&enrollment, now)?;
    enrollment.reason = None;
    enrollment.approvals.clear();
    enrollment.numbers = numbers?;
    let mut changes = Changes::new();
    changes.update(keys::enrollment(&enrollment.id), seen, &enrollment);
    queue::enter(&mut changes, &enrollment);
    let (id, rules) = (enrollment.id.clone(), grant.rules().to_vec());
    changes.event(Event::Standing(audit::StandingEvent::EnrollmentReopened { enrollment: id, rules }));
    Ok((enrollment, changes))
}

/// A rejoining machine or person keeps the name of its lineage: another name may belong to somebody else.
fn kept_name(lineage: &Lineage, asked: Option<&str>) -> Result<String, Refusal> {
    match asked {
        Some(other) if other != lineage.name => Err(Refusal::NameIllegal {
            name: other.chars().take(64).collect(),
            why: format!("`{}` is rejoining and keeps its name", lineage.name),
            whose: NameRule::Kept,
        }),
        Some(_) | None => Ok(lineage.name.clone()),
    }
}

fn check_waiting(enrollment: &Enrollment, now: UnixTime) -> Result<(), Refusal> {
    match enrollment.state {
        EnrollmentState::Waiting if now.secs() <= enrollment.expires.0 => Ok(()),
        EnrollmentState::Waiting | EnrollmentState::Expired => Err(Refusal::Conflict(Conflict::Lapsed)),
        EnrollmentState::Approved | EnrollmentState::Issued => {
            let by: Vec<&str> = enrollment.approvals.iter().map(|approval| approval.by.as_str()).collect();
            let by = if by.is_empty() { "policy".to_owned() } else { by.join(", ") };
            Err(Refusal::Conflict(Conflict::Approved(by)))
        }
        EnrollmentState::Denied => Err(Refusal::Conflict(Conflict::Denied)),
        EnrollmentState::Withdrawn => Err(Refusal::Conflict(Conflict::Withdrawn)),
        EnrollmentState::Removed => Err(Refusal::Conflict(Conflict::Removed)),
    }
}

fn strictest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
