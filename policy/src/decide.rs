//! Evaluation: one question in, one decision out. Any error denies.

use cedar_policy::{Entities, Response};

use crate::facts::{Action, Ask, BadFacts, Newcomer, Principal, Resource};
use crate::grant::{Grant, Measured, Reattest, Without, show_lifetime};
use crate::principals;
use crate::rules::Ruleset;

#[cfg(test)]
mod tests;

/// The answer to one question.
#[derive(Debug, Eq, PartialEq)]
#[must_use]
pub enum Decision {
    /// The grant has the terms of the rules that permit.
    Allowed(Grant),
    /// Also the result of any error.
    Denied(Denial),
}

/// Why it is denied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Denial {
    /// The rules that decided, sorted: those that forbid, for [`Why::EvaluationError`] those that
    /// failed, for [`Why::NoPrincipals`] those that permit. Empty for [`Why::NoRule`].
    pub rules: Vec<String>,
    /// The first reason in the order of [`Why`].
    pub why: Why,
}

/// The reasons of a denial, the most important first.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Why {
    /// A rule failed to evaluate or a fact does not fit the schema. The text is for the log only.
    EvaluationError(String),
    /// At least one rule forbids it.
    Forbidden,
    /// Rules about all actions permit `login`, and none of them has `@principals`.
    NoPrincipals,
    /// No rule permits it.
    NoRule,
}

/// The decision about a newcomer.
#[derive(Debug, Eq, PartialEq)]
#[must_use]
pub enum Admission {
    /// `enroll` was permitted: issue at once.
    Issue(Grant),
    /// `request` was permitted: wait for [`Grant::approvals`] people.
    Wait(Grant),
    /// Neither was permitted.
    Refuse(Denial),
}

/// Decides one question.
pub fn decide(rules: &Ruleset, ask: &Ask) -> Decision {
    match evaluate(rules, ask) {
        Ok(response) => judge(rules, ask, &response),
        Err(bad) => failed(Vec::new(), bad.to_string()),
    }
}

/// Decides about a newcomer: `enroll`, else `request`, else refuse.
///
/// An `enroll` rule that fails to evaluate refuses the newcomer and `request` is not evaluated, because the failed rule may be a
/// `forbid` that applies.
pub fn admit(rules: &Ruleset, newcomer: &Newcomer, now: u64) -> Admission {
    let mut ask = Ask {
        action: Action::Enroll,
        principal: Principal::Newcomer(newcomer.clone()),
        resource: Resource::Gateway,
        now,
    };
    let first = match decide(rules, &ask) {
        Decision::Allowed(grant) => return Admission::Issue(grant),
        Decision::Denied(denial) if matches!(denial.why, Why::EvaluationError(_)) => {
            return Admission::Refuse(denial);
        }
        Decision::Denied(denial) => denial,
    };
    ask.action = Action::Request;
    match decide(rules, &ask) {
        Decision::Allowed(grant) => Admission::Wait(grant),
        Decision::Denied(second) if second.why <= first.why => Admission::Refuse(second),
        Decision::Denied(_) => Admission::Refuse(first),
    }
}

impl Decision {
    /// One sentence naming the rules, for people who may see them.
    #[must_use]
    pub fn explain(&self) -> String {
        match self {
            Self::Allowed(grant) => grant.explain(),
            Self::Denied(denial) => denial.explain(),
        }
    }
}

impl Grant {
    /// One sentence naming the rules, for people who may see them.
    #[must_use]
    pub fn explain(&self) -> String {
        let mut text = format!("allowed by {}", named(self.rules()));
        if let Some(lifetime) = self.lifetime() {
            text.push_str(&format!(", for {}", show_lifetime(lifetime)));
        }
        if !self.principals().is_empty() {
            text.push_str(&format!(", as {}", quoted(self.principals())));
        }
        if let Some(Reattest { within, measured, without }) = self.reattest() {
            let evidence = match within.as_secs() {
                0 => "with evidence".to_owned(),
                _ => format!("with evidence of the last {}", show_lifetime(within)),
            };
            let or = match without {
                Without::Lower => "else of assurance 1",
                Without::Refuse => "else refused",
            };
            let boot = match measured {
                Measured::Any => "",
                Measured::Allowed => " of a boot that is allowed",
            };
            text.push_str(&format!(", {evidence}{boot}, {or}"));
        }
        if self.approvals() > 1 {
            text.push_str(&format!(", with {} approvals", self.approvals()));
        }
        text
    }
}

impl Denial {
    /// One sentence naming the rules, for people who may see them.
    #[must_use]
    pub fn explain(&self) -> String {
        match &self.why {
            Why::NoRule => "denied: no rule permits it".to_owned(),
            Why::Forbidden => format!("denied: forbidden by {}", named(&self.rules)),
            Why::NoPrincipals => format!("denied: allowed by {}, with no `@principals`", named(&self.rules)),
            Why::EvaluationError(error) => format!("denied: the policy failed: {error}"),
        }
    }
}

fn named(rules: &[String]) -> String {
    let list = quoted(rules);
    match rules.len() {
        1 => format!("rule {list}"),
        _ => format!("rules {list}"),
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn evaluate(rules: &Ruleset, ask: &Ask) -> Result<Response, BadFacts> {
    let Some(known) = rules.for_action(ask.action) else {
        return Err(BadFacts::Question(format!("no rules were indexed for `{}`", ask.action)));
    };
    let (principal, resource) = rules.vocabulary().types(ask);
    let Some(of_types) = known.of(principal, resource) else {
        let question = format!("`{}` is not something a {principal} asks of a {resource}", ask.action);
        return Err(BadFacts::Question(question));
    };
    let built = rules.vocabulary().build(ask, &of_types.reads)?;
    // Without the schema: it would repeat the checks above, and check the context, whose shape a test compares with the schema.
    let request = cedar_policy::Request::new(built.principal, known.uid.clone(), built.resource, built.context, None)
        .map_err(|error| BadFacts::Question(error.to_string()))?;
    let entities = Entities::from_entities(built.entities, None).map_err(|error| BadFacts::Value(error.to_string()))?;
    Ok(rules.authorizer().is_authorized(&request, &of_types.policies, &entities))
}

/// Converts Cedar's response. Cedar skips a policy that fails to evaluate; we deny.
fn judge(rules: &Ruleset, ask: &Ask, response: &Response) -> Decision {
    let errors: Vec<String> = response.diagnostics().errors().map(ToString::to_string).collect();
    if !errors.is_empty() {
        let failing = response.diagnostics().errors().map(|error| match error {
            cedar_policy::AuthorizationError::PolicyEvaluationError(error) => error.policy_id().to_string(),
        });
        return failed(sorted(failing), errors.join("; "));
    }
    let deciding = sorted(response.diagnostics().reason().map(ToString::to_string));
    match response.decision() {
        cedar_policy::Decision::Allow => {}
        cedar_policy::Decision::Deny if deciding.is_empty() => {
            return Decision::Denied(Denial { rules: deciding, why: Why::NoRule });
        }
        cedar_policy::Decision::Deny => {
            return Decision::Denied(Denial { rules: deciding, why: Why::Forbidden });
        }
    }
    let mut lifetime = None;
    let mut approvals = 1;
    let mut reattest: Option<Reattest> = None;
    let mut logins = Vec::new();
    for id in &deciding {
        let Some(rule) = rules.rule(id) else {
            return failed(Vec::new(), format!("a rule `{id}` decided that was never loaded"));
        };
        lifetime = match (lifetime, rule.lifetime) {
            (Some(sofar), Some(next)) => Some(std::cmp::min(sofar, next)),
            (sofar, next) => sofar.or(next),
        };
        approvals = approvals.max(rule.approvals.unwrap_or(1));
        reattest = match (reattest, rule.reattest) {
            (Some(sofar), Some(next)) => Some(sofar.and(next)),
            (sofar, next) => sofar.or(next),
        };
        logins.push(&rule.principals);
    }
    let grant = |rules| Grant::new(ask.action, lifetime, approvals, rules).with_reattest(reattest);
    match (ask.action, &ask.principal) {
        (Action::Login, Principal::Person(person)) => {
            let names = principals::union(logins.into_iter(), &person.name);
            // OpenSSH accepts a certificate without principals for every name.
            if names.is_empty() {
                return Decision::Denied(Denial { rules: deciding, why: Why::NoPrincipals });
            }
            Decision::Allowed(grant(deciding).with_principals(names))
        }
        _ => Decision::Allowed(grant(deciding)),
    }
}

fn failed(rules: Vec<String>, error: String) -> Decision {
    Decision::Denied(Denial { rules, why: Why::EvaluationError(error) })
}

fn sorted(ids: impl Iterator<Item = String>) -> Vec<String> {
    let mut ids: Vec<String> = ids.collect();
    ids.sort();
    ids.dedup();
    ids
}
