//! `@id`, `@lifetime`, `@approvals`, `@principals`, `@reattest`: every rule has an id, and every annotation has an effect.

use std::collections::BTreeMap;

use cedar_policy::{Effect, EntityUid};

use super::{Draft, Place, Rule, covers, names_action};
use crate::complaint::{Complaint, did_you_mean};
use crate::facts::Action;
use crate::grant::{APPROVALS_MAX, Reattest, parse_lifetime, parse_reattest};
use crate::principals::Principals;

const KNOWN: [&str; 5] = ["approvals", "id", "lifetime", "principals", "reattest"];
/// Longest id, in bytes: ids are printed in logs and refusals, and typed to find a rule.
const ID_MAX: usize = 64;
/// Actions that lead to a certificate.
const WITH_LIFETIME: [Action; 5] = [Action::Enroll, Action::Request, Action::Approve, Action::Renew, Action::Login];
/// Actions that are about approval.
const WITH_APPROVALS: [Action; 2] = [Action::Request, Action::Approve];
/// Actions that may carry new evidence.
const WITH_REATTEST: [Action; 1] = [Action::Renew];
/// Actions that lead to a person's SSH certificate.
const WITH_PRINCIPALS: [Action; 1] = [Action::Login];

/// Reads the annotations of all rules.
pub(super) fn read(
    drafts: &[Draft<'_>],
    actions: &[(Action, EntityUid)],
    complaints: &mut Vec<Complaint>,
) -> BTreeMap<String, Rule> {
    let mut rules = BTreeMap::new();
    for draft in drafts {
        let place = draft.complain("");
        let place = Place { file: place.file, line: place.line };
        let mut rule =
            Rule { place, lifetime: None, approvals: None, reattest: None, principals: Principals::default() };
        let mut id = None;
        for (key, annotation) in draft.policy.as_ref().annotations() {
            let start = annotation.loc.as_ref().map_or(draft.start, |loc| loc.span.offset());
            let read = match key.as_ref() {
                "id" => read_id(&annotation.val, &rules).map(|good| id = Some(good)),
                "lifetime" => effective(draft, actions, "lifetime", &WITH_LIFETIME)
                    .and_then(|()| read_lifetime(&annotation.val))
                    .map(|good| rule.lifetime = Some(good)),
                "approvals" => effective(draft, actions, "approvals", &WITH_APPROVALS)
                    .and_then(|()| read_approvals(&annotation.val))
                    .map(|good| rule.approvals = Some(good)),
                "principals" => effective(draft, actions, "principals", &WITH_PRINCIPALS)
                    .and_then(|()| read_principals(&annotation.val))
                    .map(|good| rule.principals = good),
                "reattest" => effective(draft, actions, "reattest", &WITH_REATTEST)
                    .and_then(|()| read_reattest(&annotation.val))
                    .map(|good| rule.reattest = Some(good)),
                unknown => Err(Wrong {
                    message: format!("unknown annotation `@{unknown}`"),
                    hint: did_you_mean(unknown, KNOWN.into_iter()).unwrap_or_else(|| {
                        "a rule takes `@id`, `@lifetime`, `@approvals`, `@principals` and `@reattest`".to_owned()
                    }),
                }),
            };
            if let Err(Wrong { message, hint }) = read {
                let Draft { source, .. } = draft;
                let complaint = Complaint::at(source.name, source.text, start, message);
                complaints.push(complaint.hint(hint));
            }
        }
        if draft.policy.annotation("id").is_none() {
            let missing = draft.complain("the rule has no `@id`");
            complaints.push(missing.hint("write `@id(\"a-name\")` above it; logs name the rule"));
        }
        complaints.extend(without_principals(draft, actions));
        if let Some(id) = id {
            rules.insert(id, rule);
        }
    }
    rules
}

struct Wrong {
    message: String,
    hint: String,
}

fn read_id(id: &str, rules: &BTreeMap<String, Rule>) -> Result<String, Wrong> {
    let good = id.len() <= ID_MAX
        && id.starts_with(|first: char| first.is_ascii_alphanumeric())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !good {
        return Err(Wrong {
            message: format!("`{}` cannot be an `@id`", id.escape_debug()),
            hint: format!("use up to {ID_MAX} letters, digits, `-`, `_` and `.`"),
        });
    }
    match rules.get(id) {
        Some(first) => Err(Wrong {
            message: format!("the `@id` `{id}` is taken"),
            hint: format!("its first rule is at {}", first.place),
        }),
        None => Ok(id.to_owned()),
    }
}

fn read_lifetime(text: &str) -> Result<std::time::Duration, Wrong> {
    parse_lifetime(text)
        .map_err(|bad| Wrong { message: format!("`{}` is not a lifetime", text.escape_debug()), hint: bad.to_string() })
}

fn read_reattest(text: &str) -> Result<Reattest, Wrong> {
    parse_reattest(text).map_err(|bad| Wrong {
        message: format!("`{}` does not say how fresh evidence must be", text.escape_debug()),
        hint: bad.to_string(),
    })
}

fn read_approvals(text: &str) -> Result<u32, Wrong> {
    // One digit: `u32::from_str` also accepts `+1` and `01`.
    match text.parse::<u32>() {
        Ok(count) if (1..=APPROVALS_MAX).contains(&count) && text.len() == 1 => Ok(count),
        _ => Err(Wrong {
            message: format!("`{}` is not a number of approvals", text.escape_debug()),
            hint: format!("write a number from 1 to {APPROVALS_MAX}"),
        }),
    }
}

fn read_principals(text: &str) -> Result<Principals, Wrong> {
    Principals::parse(text).map_err(|bad| Wrong {
        message: format!("`{}` is not a list of login names", text.escape_debug()),
        hint: bad.to_string(),
    })
}

/// A complaint about a rule that names `login` and has no `@principals`. A rule about all actions may leave it out, and then gives
/// no login: [`crate::Why::NoPrincipals`].
fn without_principals(draft: &Draft<'_>, actions: &[(Action, EntityUid)]) -> Option<Complaint> {
    let login = actions.iter().any(|(action, uid)| *action == Action::Login && names_action(&draft.policy, uid));
    let silent = draft.policy.effect() == Effect::Permit && draft.policy.annotation("principals").is_none();
    (login && silent).then(|| {
        let missing = draft.complain("the rule permits `login` and has no `@principals`");
        missing.hint("write the login names it is for above it: `@principals(\"root, {name}\")`")
    })
}

/// An annotation without effect is a mistake: `@approvals` on `enroll` looks as if approval were needed, and it is not.
fn effective(draft: &Draft<'_>, actions: &[(Action, EntityUid)], name: &str, only: &[Action]) -> Result<(), Wrong> {
    if draft.policy.effect() == Effect::Forbid {
        return Err(Wrong {
            message: format!("`@{name}` has no effect on a `forbid`"),
            hint: "put it on the rules that permit".to_owned(),
        });
    }
    let applies = actions.iter().any(|(action, uid)| only.contains(action) && covers(&draft.policy, uid));
    if applies {
        return Ok(());
    }
    let list: Vec<String> = only.iter().map(|action| format!("`{action}`")).collect();
    Err(Wrong {
        message: format!("`@{name}` has no effect on a rule for other actions"),
        hint: format!("it is for {}", list.join(", ")),
    })
}
