//! Subjects and requests as policy values, and the question whether a caller may act.

use std::collections::BTreeMap;

use pki::{Assurance, UnixTime};
use policy::Ruleset;

use super::{
    admission::Caller,
    records::{Claim, Enrollment, Lineage, Subject},
    refusal::Refusal,
};

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

/// The caller as a policy principal.
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

/// A person as a policy value.
#[must_use]
pub fn person_facts(subject: &Subject) -> policy::Person {
    policy::Person { name: subject.name.clone(), groups: subject.groups.clone(), locked: false }
}

/// A machine as a policy value. `person` has the name of its owner now: the machine has an owner only if that is the person who was
/// named, and not another with the same name.
#[must_use]
pub fn machine_facts(
    subject: &Subject,
    person: Option<&Subject>,
    lineage: Option<&Lineage>,
    locked: bool,
    now: UnixTime,
) -> policy::Machine {
    let owner = subject.owner.as_ref().filter(|owner| person.is_some_and(|person| owner.is(person)));
    let assurance = lineage.and_then(Lineage::assurance).unwrap_or(subject.assurance);
    policy::Machine {
        name: subject.name.clone(),
        owner: owner.map(|owner| owner.name.clone()),
        labels: subject.labels.clone(),
        assurance: assurance.level() as u8,
        assurance_of: assurance_of(assurance),
        locked,
        forked: lineage.is_some_and(|lineage| lineage.forked),
        lineage_age: lineage.map_or(0, |lineage| now.since(lineage.created.into()).as_secs()),
        admitted_by: subject.approvers.last().cloned(),
        claims: policy_claims(&subject.claims),
    }
}

/// A waiting request as a policy value.
#[must_use]
pub fn request_facts(enrollment: &Enrollment) -> policy::Request {
    policy::Request {
        id: enrollment.id.clone(),
        newcomer: policy::Newcomer {
            key: enrollment.key.hex(),
            role: enrollment.role.as_str().to_owned(),
            wanted_name: enrollment.wanted_name.clone(),
            assurance: enrollment.assurance.level() as u8,
            assurance_of: assurance_of(enrollment.assurance),
            claims: policy_claims(&enrollment.claims),
            attributes: enrollment.attributes.clone(),
            // The address of the request says nothing about the person who decides now.
            source: None,
            known: enrollment.rejoin && !enrollment.same_device,
            same_device: enrollment.same_device,
        },
        approvals_wanted: enrollment.approvals_wanted,
        approval: None,
    }
}

/// What an assurance is of, as a policy value.
#[must_use]
pub fn assurance_of(assurance: Assurance) -> Option<String> {
    assurance.of().map(|of| of.as_str().to_owned())
}

/// Claims as policy values.
#[must_use]
pub fn policy_claims(claims: &BTreeMap<String, Claim>) -> BTreeMap<String, policy::Claim> {
    let convert = |claim: &Claim| match claim {
        Claim::Bool(value) => policy::Claim::Bool(*value),
        Claim::Number(value) => policy::Claim::Number(*value),
        Claim::Text(value) => policy::Claim::Text(value.clone()),
    };
    claims.iter().map(|(name, claim)| (name.clone(), convert(claim))).collect()
}

#[cfg(test)]
mod tests {
    use pki::Role;

    use super::*;
    use crate::core::subjects::sample;

    #[track_caller]
    fn check(owner: Option<&str>, person: Option<(Role, &str, &str)>, want: Option<&str>) {
        let machine = sample(Role::Machine, "box", "l-box", owner);
        let person = person.map(|(role, name, lineage)| sample(role, name, lineage, None));
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
        // Recorded before owners had a lineage, or before the named person existed.
        check(Some("olga"), olga, None);
    }
}
