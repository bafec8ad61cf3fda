//! Decides what a person's approval or denial does, and says who is who in the policy's words.

use std::collections::BTreeMap;

use pki::{KeyDigest, UnixTime};
use policy::Ruleset;

use super::{
    admission::Caller,
    audit::Event,
    change::Changes,
    enroll::{NameRecords, begin, policy_claims},
    keys,
    lock::Locks,
    name,
    records::{AdmittedBy, Approval, Enrollment, EnrollmentState, Lineage, Owner, Seen, Subject},
    refusal::Refusal,
};

/// How the approver stands to the waiting code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// Typed as seen on the machine.
    Typed(String),
    /// The approver says it was not checked.
    NotChecked,
}

/// An approval as asked for.
#[derive(Clone, Debug)]
pub struct Approve {
    /// The code.
    pub code: Code,
    /// A name other than the wanted one.
    pub name: Option<String>,
    /// Labels to add.
    pub labels: BTreeMap<String, String>,
    /// The owner, by name.
    pub owner: Option<String>,
}

/// What the decision needs to know.
#[derive(Clone, Debug)]
pub struct Records {
    /// The enrollment.
    pub enrollment: Seen<Enrollment>,
    /// What is known of the name it would get.
    pub name: NameRecords,
    /// The owner it would get.
    pub owner: Option<Owner>,
    /// Locks on the key, or on the lineage it rejoins.
    pub locks: Locks,
    /// The lineage it rejoins.
    pub rejoins: Option<Seen<Lineage>>,
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// Recorded: commit the changes.
    Done(Box<Enrollment>, Changes),
    /// The code was wrong: commit the event, then refuse.
    WrongCode(Changes),
}

/// The name an approval would give.
#[must_use]
pub fn name_for(enrollment: &Enrollment, asked: Option<&str>) -> Option<String> {
    asked.map(str::to_owned).or_else(|| enrollment.name.clone()).or_else(|| enrollment.wanted_name.clone())
}

/// Decides an approval.
///
/// # Errors
/// Why it has no effect.
pub fn approve(
    caller: &Caller,
    asked: &Approve,
    records: Records,
    rules: &Ruleset,
    root_pin: &KeyDigest,
    now: UnixTime,
    entropy: &[u8; 8],
) -> Result<Outcome, Refusal> {
    let seen = records.enrollment;
    let mut enrollment = seen.record.clone();
    let grant =
        permit(rules, caller, policy::Action::Approve, policy::Resource::Request(request_facts(&enrollment)), now)?;
    records.locks.refuse()?;
    still_waiting(&enrollment, now)?;
    let by = caller.identity.name.to_string();
    if enrollment.approvals.iter().any(|approval| approval.by == by) {
        return Err(Refusal::Conflict("you approved this request already; another person must".to_owned()));
    }
    let code_checked = match &asked.code {
        Code::NotChecked => false,
        Code::Typed(typed) => {
            if !pki::waiting_code(&enrollment.key, root_pin, &enrollment.nonce).matches(typed) {
                let mut changes = Changes::new();
                changes.event(Event::ApprovalWrongCode { enrollment: enrollment.id.clone() });
                return Ok(Outcome::WrongCode(changes));
            }
            true
        }
    };
    enrollment.approvals_wanted = enrollment.approvals_wanted.max(grant.approvals()).max(1);
    enrollment.lifetime = strictest(enrollment.lifetime, grant.lifetime().map(|lifetime| lifetime.as_secs()));
    let rules = grant.rules().to_vec();
    enrollment.approvals.push(Approval { by, at: now.into(), code_checked, rules: rules.clone() });
    enrollment.labels.extend(asked.labels.clone());
    enrollment.owner = records.owner.or(enrollment.owner);
    let wanted = match &records.rejoins {
        Some(lineage) if enrollment.rejoin => Some(kept_name(&lineage.record, asked.name.as_deref())?),
        Some(_) | None => name_for(&enrollment, asked.name.as_deref()),
    };
    let name = name::choose(wanted.as_deref(), &[], enrollment.role, &enrollment.key)?;
    enrollment.name = Some(name.to_string());
    let mut changes = Changes::new();
    let given = u32::try_from(enrollment.approvals.len()).unwrap_or(u32::MAX);
    let missing = enrollment.approvals_wanted.saturating_sub(given);
    if missing > 0 {
        changes.event(Event::EnrollmentApproval { enrollment: enrollment.id.clone(), code_checked, missing, rules });
    } else {
        enrollment.state = EnrollmentState::Approved;
        if !enrollment.rejoin {
            let by = AdmittedBy::Person;
            let lineage = begin(&mut changes, &mut enrollment, &name, by, &records.name, now, entropy)?;
            enrollment.lineage = Some(lineage.record.id.clone());
            changes.create(keys::lineage(&lineage.record.id), &lineage.record);
        }
        changes.delete(keys::waiting(&enrollment.id));
        let name = name.to_string();
        changes.event(Event::EnrollmentApproved { enrollment: enrollment.id.clone(), name, code_checked, rules });
    }
    changes.update(keys::enrollment(&enrollment.id), &seen, &enrollment);
    Ok(Outcome::Done(Box::new(enrollment), changes))
}

/// Decides a denial.
///
/// # Errors
/// Why it has no effect.
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
    still_waiting(&enrollment, now)?;
    enrollment.state = EnrollmentState::Denied;
    enrollment.reason = Some(reason.to_owned());
    let mut changes = Changes::new();
    changes.update(keys::enrollment(&enrollment.id), seen, &enrollment);
    changes.delete(keys::waiting(&enrollment.id));
    changes.event(Event::EnrollmentDenied {
        enrollment: enrollment.id,
        reason: reason.to_owned(),
        rules: grant.rules().to_vec(),
    });
    Ok(changes)
}

/// Whoever rejoins keeps the name of its lineage: another name may be somebody else's.
fn kept_name(lineage: &Lineage, asked: Option<&str>) -> Result<String, Refusal> {
    match asked {
        Some(other) if other != lineage.name => Err(Refusal::NameIllegal {
            name: other.chars().take(64).collect(),
            why: format!("this is `{}` coming back, and it keeps its name", lineage.name),
        }),
        Some(_) | None => Ok(lineage.name.clone()),
    }
}

fn still_waiting(enrollment: &Enrollment, now: UnixTime) -> Result<(), Refusal> {
    match enrollment.state {
        EnrollmentState::Waiting if now.secs() <= enrollment.expires.0 => Ok(()),
        EnrollmentState::Waiting | EnrollmentState::Expired => {
            Err(Refusal::Conflict("this request lapsed; the machine must ask again".to_owned()))
        }
        EnrollmentState::Approved | EnrollmentState::Issued => {
            let by: Vec<&str> = enrollment.approvals.iter().map(|approval| approval.by.as_str()).collect();
            let by = if by.is_empty() { "policy".to_owned() } else { by.join(", ") };
            Err(Refusal::Conflict(format!("this request was approved already, by {by}")))
        }
        EnrollmentState::Denied => Err(Refusal::Conflict("this request was denied already".to_owned())),
    }
}

fn strictest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Asks the policy whether a caller may act.
///
/// # Errors
/// [`Refusal::Denied`] with the rules that decided.
pub fn permit(
    rules: &Ruleset,
    caller: &Caller,
    action: policy::Action,
    resource: policy::Resource,
    now: UnixTime,
) -> Result<policy::Grant, Refusal> {
    let ask = policy::Ask { action, principal: principal(caller, now), resource, now: now.secs() };
    match policy::decide(rules, &ask) {
        policy::Decision::Allowed(grant) => Ok(grant),
        policy::Decision::Denied(denial) => Err(Refusal::Denied { rules: denial.rules, action: action.as_str() }),
    }
}

/// The caller in the policy's words.
#[must_use]
pub fn principal(caller: &Caller, now: UnixTime) -> policy::Principal {
    let subject = &caller.subject.record;
    match subject.role {
        pki::Role::Person => policy::Principal::Person(person_facts(subject)),
        pki::Role::Machine | pki::Role::Gateway => {
            let owner = caller.owner.as_ref().map(|seen| &seen.record);
            policy::Principal::Machine(machine_facts(subject, owner, Some(&caller.lineage.record), false, now))
        }
    }
}

/// A person in the policy's words.
#[must_use]
pub fn person_facts(subject: &Subject) -> policy::Person {
    policy::Person { name: subject.name.clone(), groups: subject.groups.clone(), locked: false }
}

/// A machine in the policy's words. `person` is whoever holds the name of its owner now: the machine has an owner only
/// while that is the person who was named, and not another of the same name.
#[must_use]
pub fn machine_facts(
    subject: &Subject,
    person: Option<&Subject>,
    lineage: Option<&Lineage>,
    locked: bool,
    now: UnixTime,
) -> policy::Machine {
    let owner = subject.owner.as_ref().filter(|owner| person.is_some_and(|person| owner.is(person)));
    policy::Machine {
        name: subject.name.clone(),
        owner: owner.map(|owner| owner.name.clone()),
        labels: subject.labels.clone(),
        assurance: subject.assurance as u8,
        locked,
        forked: lineage.is_some_and(|lineage| lineage.forked),
        lineage_age: lineage.map_or(0, |lineage| now.since(lineage.created.into()).as_secs()),
        admitted_by: subject.approvers.last().cloned(),
        claims: policy_claims(&subject.claims),
    }
}

/// A waiting request in the policy's words.
#[must_use]
pub fn request_facts(enrollment: &Enrollment) -> policy::Request {
    policy::Request {
        id: enrollment.id.clone(),
        newcomer: policy::Newcomer {
            key: enrollment.key.hex(),
            role: enrollment.role.as_str().to_owned(),
            wanted_name: enrollment.wanted_name.clone(),
            assurance: enrollment.assurance as u8,
            claims: policy_claims(&enrollment.claims),
            attributes: enrollment.attributes.clone(),
            // The address it came from then says nothing about whoever decides now.
            source: None,
            locked: false,
            known: enrollment.rejoin,
        },
    }
}

#[cfg(test)]
mod tests {
    use pki::{AssuranceLevel, Role};

    use super::*;
    use crate::core::records::UnixSecs;

    fn subject(role: Role, name: &str, lineage: &str, owner: Option<&str>) -> Subject {
        Subject {
            name: name.to_owned(),
            role,
            lineage: lineage.to_owned(),
            labels: BTreeMap::new(),
            groups: vec![],
            owner: owner.map(|text| text.to_owned().into()),
            created: UnixSecs(0),
            claims: BTreeMap::new(),
            attributes: BTreeMap::new(),
            assurance: AssuranceLevel::Software,
            admitted_by: AdmittedBy::Policy,
            approvers: vec![],
            enrollment: "e".to_owned(),
        }
    }

    #[track_caller]
    fn check(owner: Option<&str>, person: Option<(Role, &str, &str)>, want: Option<&str>) {
        let machine = subject(Role::Machine, "box", "l-box", owner);
        let person = person.map(|(role, name, lineage)| subject(role, name, lineage, None));
        let facts = machine_facts(&machine, person.as_ref(), None, false, UnixTime::new(0));
        assert_eq!(facts.owner.as_deref(), want, "{owner:?} {person:?}");
    }

    #[test]
    fn an_owner_is_a_name_and_a_lineage() {
        let olga = Some((Role::Person, "olga", "l-1"));
        check(None, None, None);
        check(None, olga, None);
        check(Some("olga/l-1"), olga, Some("olga"));
        check(Some("olga/l-1"), None, None);
        check(Some("olga/l-1"), Some((Role::Person, "olga", "l-2")), None);
        check(Some("olga/l-1"), Some((Role::Person, "bob", "l-1")), None);
        check(Some("olga/l-1"), Some((Role::Machine, "olga", "l-1")), None);
        // Recorded before owners had a lineage, or named before there was such a person.
        check(Some("olga"), olga, None);
    }
}
