//! Locks, and what they ended.

use serde::{Deserialize, Serialize};

use super::MadeView;

/// A lock: while it exists, its target is refused everything.
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
    /// The sessions it ended; only in the reply to `POST /v1/locks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<EndedView>,
    /// For a key: the machines and people whose lineages contain it, as `role/name`. Their lineages are locked too. Only in the
    /// reply to `POST /v1/locks`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hits: Vec<String>,
    /// What the locked person made or approved, which has no effect while the lock exists; only in the reply to `POST /v1/locks`.
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

/// The sessions a lock ended, and how long that took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedView {
    /// Number of sessions, those still open at the end of the wait included.
    pub sessions: usize,
    /// Milliseconds from the acceptance of the lock to the end of the last session.
    pub millis: u64,
    /// Number of sessions that had not ended when the gateway stopped waiting. Their connections were closed as well.
    #[serde(default)]
    pub left: usize,
}
