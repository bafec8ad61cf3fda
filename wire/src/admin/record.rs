//! What happened, and what one may do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One audit event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditView {
    /// Where it stands in the record; give it as `after` to go on from here.
    pub id: String,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What: a stable name such as `certificate.issued`.
    pub event: String,
    /// Who did it: an identity, `gateway`, or `key:<digest>` before there is an identity.
    pub actor: String,
    /// To whom: an identity, an enrollment, a token, a lock.
    pub subject: String,
    /// Why: the policy rules that decided.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Correlation id, shared with the log and the reply.
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
    /// Whether the policy says yes.
    pub allowed: bool,
    /// The rules that decided, by their `@id`.
    pub rules: Vec<String>,
    /// The decision, for people.
    pub explanation: String,
}
