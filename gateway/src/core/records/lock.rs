//! Records of locks.

use serde::{Deserialize, Serialize};

use super::UnixSecs;

/// The kind of a lock's target.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockKind {
    /// A machine by name.
    Machine,
    /// A person by name.
    Person,
    /// A lineage by id.
    Lineage,
    /// A key by digest.
    Key,
}

impl LockKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Machine, Self::Person, Self::Lineage, Self::Key];

    /// The word used in paths and views.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Person => "person",
            Self::Lineage => "lineage",
            Self::Key => "key",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A lock: its target is refused everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lock {
    /// The kind of the target.
    pub kind: LockKind,
    /// The target.
    pub target: String,
    /// Why.
    pub reason: String,
    /// Who set it: an identity, or `gateway`.
    pub by: String,
    /// When.
    pub at: UnixSecs,
    /// For a lineage: the key whose lock set this one, and whose unlock lifts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_key: Option<String>,
    /// The correlation id of the request that set it, for the events of its enforcement.
    pub instance: String,
}

impl Lock {
    /// The lock on a lineage that comes with this one on a key.
    #[must_use]
    pub fn with_key(&self, lineage: &str) -> Self {
        Self {
            kind: LockKind::Lineage,
            target: lineage.to_owned(),
            reason: format!("a key of it is locked: {}", self.reason),
            by: self.by.clone(),
            at: self.at,
            of_key: Some(self.target.clone()),
            instance: self.instance.clone(),
        }
    }
}
