//! Locks, and what they ended.

use serde::{Deserialize, Serialize};

use super::MadeView;

/// A lock: a standing refusal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LockView {
    /// `machine`, `person`, `lineage` or `key`.
    pub kind: String,
    /// What is locked: a name, a lineage id or a key digest.
    pub target: String,
    /// The reason that was given for it.
    pub reason: String,
    /// Who locked: an identity, or `gateway`.
    pub by: String,
    /// When it was set.
    pub at: u64,
    /// What it ended, in the answer to the lock alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<EndedView>,
    /// For a key, in the answer to the lock alone: the machines and people in whose lineages it was found, as `role/name`.
    /// They are locked with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hits: Vec<String>,
    /// What the locked person made, and counts no more while the lock stands; in the answer to the lock alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<MadeView>,
}

/// `POST /v1/locks`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockRequest {
    /// `machine`, `person`, `lineage` or `key`.
    pub kind: String,
    /// A name, a lineage id or a key digest.
    pub target: String,
    /// The reason that was given for it.
    #[serde(default)]
    pub reason: String,
}

/// What a lock ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedView {
    /// How many sessions it ended.
    pub sessions: usize,
    /// Milliseconds from the lock's acceptance to the end of the last of them.
    pub millis: u64,
    /// How many had not ended when the gateway stopped waiting. Their connections were cut all the same.
    #[serde(default)]
    pub left: usize,
}
