//! Audit events, and the question whether the policy allows an action.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One audit event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditView {
    /// Its position in the audit record, usable as `after`.
    pub id: String,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// A stable name such as `certificate.issued`.
    pub event: String,
    /// Who did it: an identity, `gateway`, or `key:<digest>` before there is an identity.
    pub actor: String,
    /// What it was done to: an identity, an enrollment, a token, a lock.
    pub subject: String,
    /// The policy rules that decided, by their `@id`.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Correlation id, the same in the log and in the reply.
    #[serde(default)]
    pub instance: String,
    /// The event's own fields.
    #[serde(default)]
    pub detail: BTreeMap<String, String>,
}

/// `POST /v1/can-i`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanIRequest {
    /// `approve`, `lock`, `read`, `report`, `administer` or `renew`.
    pub action: String,
    /// What it would be done to: a request's id, or for `approve` the name it asks for; a machine's name; `machine/NAME`
    /// or `person/NAME`; `token` for all join tokens; or empty for the gateway as a whole.
    #[serde(default)]
    pub resource: String,
}

/// The answer to `can-i`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CanIReply {
    /// Whether the policy allows it.
    pub allowed: bool,
    /// The rules that decided, by their `@id`.
    pub rules: Vec<String>,
    /// The decision as one sentence for people.
    pub explanation: String,
}
