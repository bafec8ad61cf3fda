//! Which attributes rules read. Only these are converted for Cedar: no evaluation depends on the others, and conversion costs more than
//! evaluation.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use serde_json::Value;

use super::names::children;

/// The attributes that some rules read, of whatever entity or record.
#[derive(Debug)]
pub(crate) enum Reads {
    /// No others.
    Only(BTreeSet<String>),
    /// For comparison with the schema.
    #[cfg(test)]
    All,
}

impl Reads {
    /// Whether a rule reads an attribute of this name.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Only(names) => names.contains(name),
            #[cfg(test)]
            Self::All => true,
        }
    }
}

/// The names of all attributes in a rule, after a `.` and after a `has`; `None` if Cedar cannot show its syntax tree.
pub(super) fn of(policy: &Policy) -> Option<BTreeSet<String>> {
    let tree = policy.to_json().ok()?;
    let mut names = BTreeSet::new();
    let mut rest = vec![&tree];
    while let Some(value) = rest.pop() {
        match value.get("attr") {
            Some(Value::String(name)) => drop(names.insert(name.clone())),
            // `has claims.token_id`
            Some(Value::Array(path)) => names.extend(path.iter().filter_map(Value::as_str).map(str::to_owned)),
            _ => {}
        }
        rest.extend(children(value));
    }
    Some(names)
}
