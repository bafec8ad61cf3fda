//! Warnings of `policy check` about rules that are valid and probably a mistake. They do not prevent loading.

use cedar_policy::{ActionConstraint, Effect, EntityUid, PrincipalConstraint, ResourceConstraint};
use serde_json::Value;

use super::{Draft, names_action, reads};
use crate::complaint::Complaint;

/// Attributes of a newcomer that the gateway or an attestor has verified. A rule may admit because of any of them.
const CHECKED: [&str; 6] = ["assurance", "assurance_of", "claims", "key", "known", "source"];

/// Checks each rule by itself.
pub(super) fn give(drafts: &[Draft<'_>], enroll: Option<&EntityUid>) -> Vec<Complaint> {
    drafts.iter().filter_map(|draft| everything(draft).or_else(|| by_its_own_word(draft, enroll?))).collect()
}

/// A warning about a rule that permits every action to everybody.
fn everything(draft: &Draft<'_>) -> Option<Complaint> {
    let policy = &draft.policy;
    let open = policy.effect() == Effect::Permit
        && matches!(policy.principal_constraint(), PrincipalConstraint::Any)
        && matches!(policy.action_constraint(), ActionConstraint::Any)
        && matches!(policy.resource_constraint(), ResourceConstraint::Any)
        && policy.to_json().is_ok_and(|tree| no_condition(&tree));
    open.then(|| {
        let hint = "name who may do what, such as `principal is Lychgate::Person in Lychgate::Group::\"admins\"`";
        draft.complain("the rule permits everybody everything").hint(hint)
    })
}

fn no_condition(tree: &Value) -> bool {
    tree.get("conditions").and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// A warning about a rule that admits newcomers without reading a verified attribute.
fn by_its_own_word(draft: &Draft<'_>, enroll: &EntityUid) -> Option<Complaint> {
    if draft.policy.effect() != Effect::Permit || !names_action(&draft.policy, enroll) {
        return None;
    }
    let read = reads::of(&draft.policy)?;
    if CHECKED.iter().any(|fact| read.contains(*fact)) {
        return None;
    }
    let what = if read.contains("self_reported") {
        "the rule admits newcomers by what they say of themselves"
    } else {
        "the rule admits newcomers by nothing that was checked"
    };
    let hint =
        "anybody can say anything: let it be `request`, or ask for a claim such as `principal.claims has token_id`";
    Some(draft.complain(what).hint(hint))
}
