//! Requests to join: who waits, and what was decided.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One enrollment as an approver sees it. The waiting code is deliberately absent: the approver types what the machine
/// shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequestView {
    /// Enrollment id.
    pub id: String,
    /// `waiting`, `approved`, `issued`, `denied` or `expired`.
    pub state: String,
    /// `machine` or `person`.
    pub role: String,
    /// What it would like to be called.
    #[serde(default)]
    pub wanted_name: Option<String>,
    /// The name it was given, once admitted.
    #[serde(default)]
    pub name: Option<String>,
    /// SHA-256 of its public key, hex.
    pub key: String,
    /// The key's algorithm, such as `P-256`.
    pub algorithm: String,
    /// What was verified: claims of attestors.
    pub verified: BTreeMap<String, String>,
    /// What the machine says of itself, unverified.
    pub claimed: BTreeMap<String, String>,
    /// `none`, `software`, `hardware` or `measured`.
    pub assurance: String,
    /// The network prefix it came from.
    pub source: String,
    /// When it asked.
    pub created: u64,
    /// When it lapses.
    pub expires: u64,
    /// People who approved so far.
    #[serde(default)]
    pub approvals: Vec<ApprovalView>,
    /// Approvals the policy wants.
    pub approvals_wanted: u32,
    /// Other waiting requests for the same name.
    #[serde(default)]
    pub rivals: Vec<String>,
    /// How the machine or person stands that has the wanted name already: `active`, `expired`, `locked` or `reserved`; `kept`
    /// for a name that a machine is being renamed to, or was renamed from a while ago. Only while the request waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<String>,
    /// The policy rules that let it wait, and so decide what it gets.
    #[serde(default)]
    pub rules: Vec<String>,
    /// How long its certificates will live, in seconds; as ever when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u64>,
    /// Why it was denied.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `GET /v1/request-events`: who waits, once that is not what was seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RequestEvents {
    /// The requests that wait.
    pub items: Vec<RequestView>,
    /// Give it as `seen` next time: the answer comes when something is different, or the wait is over.
    pub seen: String,
}

/// One person's approval.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApprovalView {
    /// Who approved: an identity.
    pub by: String,
    /// When they approved.
    pub at: u64,
    /// Whether the waiting code was typed, or the approver said that it was not checked.
    pub code_checked: bool,
    /// The name they give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The labels they give it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The owner they give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The digest of all that: approvals of one digest count together. Give it as `same_as` to approve the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// `POST /v1/requests/{id}/approve`. Exactly one of `code` and `unchecked` must be given; `same_as` stands alone, without
/// `name`, `labels` and `owner`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// The waiting code as the machine shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The approver says that the code was not checked.
    #[serde(default)]
    pub unchecked: bool,
    /// A name other than the wanted one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels to put on the machine, `key` to `value`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The person who owns the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The digest of what somebody approved before: name, labels and owner are to be those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<String>,
}

/// `POST /v1/requests/{id}/deny` and other acts that want a reason.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReasonRequest {
    /// Why, for the other side and for the audit.
    #[serde(default)]
    pub reason: String,
}
