//! `can-i`: asks the policy a question without any effect.

use pki::Role;

use super::{
    asked::PolicyQuestion,
    connect::service_of,
    people, queue,
    shell::{self, Shell},
    subjects::{find_subject, may_see, resource, visible},
    views::PolicyAnswer,
};
use crate::core::{
    admission::Caller,
    evidence::DIFFERS,
    facts::{principal, request_facts},
    keys,
    look::Look,
    records::Enrollment,
    refusal::{Malformed, Missing, Refusal},
};

/// Answers whether the caller may do something, and by which rules.
///
/// # Errors
/// When the question makes no sense, or the resource is not there.
pub async fn can_i(shell: &Shell, caller: &Caller, asked: &PolicyQuestion) -> Result<PolicyAnswer, Refusal> {
    let action = policy::Action::parse(&asked.action).ok_or_else(|| {
        let known = policy::Action::ALL.map(policy::Action::as_str).join(", ");
        // Actions whose names on the command line and in the policy differ.
        let meant = match asked.action.as_str() {
            "ssh" | "forward" => "; `connect` is what it takes",
            "unlock" | "remove" | "invite" | "set" | "offboard" | "revoke" => "; `administer` is what it takes",
            "deny" => "; `approve` is what it takes",
            _ => "",
        };
        Refusal::Malformed(Malformed::Action { name: asked.action.clone(), meant, known })
    })?;
    let waiting = match action {
        policy::Action::Approve => queue::rivals(shell, &asked.resource, "").await?,
        _ => vec![],
    };
    let resource = shell.look(|look| concerned(shell, look, caller, (action, &asked.resource), &waiting)).await?;
    let ask = policy::Ask { action, principal: principal(caller, shell.now()), resource, now: shell.now().secs() };
    let decision = policy::decide(&shell.rules.load(), &ask);
    let explanation = decision.explain() + &differences(&ask.resource);
    let (allowed, rules) = match decision {
        policy::Decision::Allowed(grant) => (true, grant.rules().to_vec()),
        policy::Decision::Denied(denial) => (false, denial.rules),
    };
    Ok(PolicyAnswer { allowed, rules, explanation })
}

/// How what was measured of the machine or newcomer that the question is about differs from what is allowed.
fn differences(about: &policy::Resource) -> String {
    let claims = match about {
        policy::Resource::Request(request) => &request.newcomer.claims,
        policy::Resource::Machine(machine) => &machine.claims,
        policy::Resource::Gateway
        | policy::Resource::Person(_)
        | policy::Resource::Service(_)
        | policy::Resource::Token(_) => return String::new(),
    };
    let text = |(name, claim): (&String, &policy::Claim)| match claim {
        policy::Claim::Text(text) if name.ends_with(DIFFERS) => Some(format!("; {name}: {text}")),
        policy::Claim::Text(_) | policy::Claim::Bool(_) | policy::Claim::Number(_) => None,
    };
    claims.iter().filter_map(text).collect()
}

/// The policy resource of the question. Each action is defined for some kinds of resource only; other combinations are refused here
/// with an explanation, since the policy would report an error.
fn concerned(
    shell: &Shell,
    look: &Look,
    caller: &Caller,
    (action, name): (policy::Action, &str),
    waiting: &[String],
) -> Result<policy::Resource, Refusal> {
    let senseless = |concerns| Err(Refusal::Malformed(Malformed::Concern { action: action.as_str(), concerns }));
    match action {
        policy::Action::Enroll | policy::Action::Request => {
            senseless("is asked of newcomers, who have no certificate yet; `lychgate-gateway policy test` tries it")
        }
        policy::Action::Connect | policy::Action::Reach => match name.split_once('@') {
            Some((service, machine)) if wire::tunnel::is_service_name(service) => {
                let Some(records) = find_subject(look, Role::Machine, machine)? else {
                    return Err(Refusal::NotFound(Missing::Machine));
                };
                let asked = policy::Ask {
                    action,
                    principal: principal(caller, shell.now()),
                    resource: service_of(shell, &records, service)?,
                    now: shell.now().secs(),
                };
                let allowed = matches!(policy::decide(&shell.rules.load(), &asked), policy::Decision::Allowed(_));
                // As for the action itself: a resource that the caller may not know of does not exist.
                if allowed || may_see(shell, caller, &records) {
                    Ok(asked.resource)
                } else {
                    Err(Refusal::NotFound(Missing::Machine))
                }
            }
            _ => senseless("concerns a service on a machine: write it as SERVICE@MACHINE, such as ssh@edge-7"),
        },
        policy::Action::Renew | policy::Action::Login if name.is_empty() => Ok(policy::Resource::Gateway),
        policy::Action::Login => senseless("is for oneself, wherever sshd trusts the CA for users: leave the name out"),
        policy::Action::Renew => {
            senseless("is for oneself: leave the name out; to ask machines to renew is to `administer` them")
        }
        // A machine without any known properties: this asks whether there is any machine that the caller could approve.
        policy::Action::Approve if name.is_empty() => {
            let newcomer = policy::Newcomer { role: Role::Machine.as_str().to_owned(), ..policy::Newcomer::default() };
            Ok(policy::Resource::Request(policy::Request {
                newcomer,
                approvals_wanted: 1,
                ..policy::Request::default()
            }))
        }
        policy::Action::Approve => request(shell, look, caller, name, waiting),
        policy::Action::Lock | policy::Action::Read | policy::Action::Administer if name.is_empty() => {
            Ok(policy::Resource::Gateway)
        }
        policy::Action::Report if name.is_empty() => senseless("concerns a machine: give its name"),
        policy::Action::Report if name.starts_with("person/") => senseless("concerns machines, not people"),
        policy::Action::Lock | policy::Action::Report => subject(shell, look, caller, name),
        policy::Action::Read | policy::Action::Administer => {
            if name == "token" {
                return Ok(policy::Resource::Token(policy::Token::default()));
            }
            match people::visible(shell, look, caller, name) {
                Ok(seen) => Ok(policy::Resource::Request(request_facts(&seen.record))),
                Err(Refusal::NotFound(_)) => subject(shell, look, caller, name),
                Err(refusal) => Err(refusal),
            }
        }
    }
}

/// `edge-7`, `machine/edge-7` or `person/bob`.
fn subject(shell: &Shell, look: &Look, caller: &Caller, name: &str) -> Result<policy::Resource, Refusal> {
    let (role, name) = match name.split_once('/') {
        Some(("person", name)) => (Role::Person, name),
        Some(("machine", name)) => (Role::Machine, name),
        Some(_) | None => (Role::Machine, name),
    };
    Ok(resource(shell, &visible(shell, look, caller, role, name)?))
}

/// The request with that id, or the waiting request for that name.
fn request(
    shell: &Shell,
    look: &Look,
    caller: &Caller,
    name: &str,
    waiting: &[String],
) -> Result<policy::Resource, Refusal> {
    look.expect(waiting.iter().map(|id| keys::enrollment(id)));
    match people::visible(shell, look, caller, name) {
        Ok(seen) => return Ok(policy::Resource::Request(request_facts(&seen.record))),
        Err(Refusal::NotFound(_)) => {}
        Err(refusal) => return Err(refusal),
    }
    let mut readable: Vec<Enrollment> = Vec::new();
    for id in waiting {
        let found = shell::readable(look.get::<Enrollment>(&keys::enrollment(id)))?.flatten();
        readable.extend(found.map(|seen| seen.record).filter(|one| people::may_see(shell, caller, one)));
    }
    match readable.as_slice() {
        [one] => Ok(policy::Resource::Request(request_facts(one))),
        [] => Err(Refusal::NotFound(Missing::WaitingRequest)),
        several => {
            let ids: Vec<&str> = several.iter().map(|enrollment| enrollment.id.as_str()).collect();
            Err(Refusal::Malformed(Malformed::SeveralRequests { name: name.to_owned(), ids: ids.join(", ") }))
        }
    }
}
