//! Refuses `has` with a name that is not in the schema.
//!
//! Cedar's validator treats `principal.claims has misspelt` as false and accepts the rule if the rest can be true:
//! `forbid ... unless { principal.claims has misspelt }` would load and forbid everything.

use std::collections::BTreeSet;

use cedar_policy::SchemaFragment;
use serde_json::Value;

use super::{Draft, bounds};
use crate::complaint::{Complaint, did_you_mean};
use crate::facts::ClaimDecl;

/// Complains about every `has` whose name is not a declared claim or attribute.
pub(super) fn check(drafts: &[Draft<'_>], schema: &str, claims: &[ClaimDecl], complaints: &mut Vec<Complaint>) {
    let attributes = attributes(schema);
    let claims: BTreeSet<&str> = claims.iter().map(|claim| &*claim.name).collect();
    for draft in drafts {
        let tree = match draft.policy.to_json() {
            Ok(tree) => tree,
            Err(error) => {
                complaints.push(draft.complain(error.to_string()));
                continue;
            }
        };
        for (name, of_claims) in tested(&tree) {
            let (good, what) = if of_claims {
                (claims.contains(name), "claim")
            } else {
                (attributes.contains(name) || claims.contains(name), "attribute")
            };
            if good {
                continue;
            }
            let shown = name.escape_debug();
            let message = if of_claims {
                format!("no attestor declares the claim `{shown}`")
            } else {
                format!("nothing has the attribute `{shown}`")
            };
            let guess = if of_claims {
                did_you_mean(name, claims.iter().copied())
            } else {
                did_you_mean(name, attributes.iter().map(String::as_str))
            };
            let hint = guess.unwrap_or_else(|| format!("the schema lists every {what}"));
            let text = draft.source.text;
            let complaint = Complaint::at(draft.source.name, text, find(draft, name), message);
            complaints.push(complaint.hint(hint));
        }
    }
}

/// Every attribute name in the schema, of whatever type.
fn attributes(schema: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let tree =
        SchemaFragment::from_cedarschema_str(schema).ok().and_then(|(fragment, _)| fragment.to_json_value().ok());
    let mut rest: Vec<&Value> = tree.iter().collect();
    while let Some(value) = rest.pop() {
        if let Some(Value::Object(map)) = value.get("attributes") {
            names.extend(map.keys().cloned());
        }
        rest.extend(children(value));
    }
    names
}

/// Each name after a `has`, and whether it is tested on `claims`.
fn tested(tree: &Value) -> BTreeSet<(&str, bool)> {
    let mut names = BTreeSet::new();
    let mut rest = vec![tree];
    while let Some(value) = rest.pop() {
        if let Some(has) = value.get("has") {
            let mut of = has.pointer("/left/./attr").and_then(Value::as_str);
            // A list for `has claims.token_id`: each name is tested on the one before it.
            let path = match has.get("attr") {
                Some(Value::Array(path)) => path.iter().collect(),
                other => Vec::from_iter(other),
            };
            for name in path.into_iter().filter_map(Value::as_str) {
                names.insert((name, of == Some("claims")));
                of = Some(name);
            }
        }
        rest.extend(children(value));
    }
    names
}

/// The values inside a value.
pub(super) fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Offset of `name` in the rule: its first occurrence as a word after `has`, outside strings and comments, else (`has "a name"`)
/// the start of the rule. The syntax tree in JSON form has no offsets.
fn find(draft: &Draft<'_>, name: &str) -> usize {
    let text = draft.source.text;
    let code: Vec<(usize, u8)> = bounds::code_bytes(text).skip_while(|(offset, _)| *offset < draft.start).collect();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut after_has = false;
    let words = code.chunk_by(|left, right| word(left.1) && word(right.1) && left.0 + 1 == right.0);
    for chunk in words {
        let Some(&(start, first)) = chunk.first() else { continue };
        let Some(found) = text.get(start..start + chunk.len()) else {
            continue;
        };
        if after_has && found == name {
            return start;
        }
        // `has a.b` tests `a`, then `b` on it.
        let path = word(first) || first == b'.' || first.is_ascii_whitespace();
        after_has = found == "has" || (after_has && path);
        if first == b';' {
            break;
        }
    }
    draft.start
}
