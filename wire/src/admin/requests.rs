//! Enrollment requests, and the approvals and denials of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One enrollment as an approver sees it. It does not contain the waiting code: the approver types the one that the machine
/// shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequestView {
    /// The enrollment's id.
    pub id: String,
    /// `waiting`, `approved`, `issued`, `denied` or `expired`.
    pub state: String,
    /// `machine` or `person`.
    pub role: String,
    /// The name it asks for.
    #[serde(default)]
    pub wanted_name: Option<String>,
    /// The name it was given; absent until it is admitted.
    #[serde(default)]
    pub name: Option<String>,
    /// SHA-256 of its public key, hex.
    pub key: String,
    /// The key's algorithm, such as `P-256`.
    pub algorithm: String,
    /// Claims that attestors verified.
    pub verified: BTreeMap<String, String>,
    /// What its evidence says and nobody vouches for, such as the maker in a certificate that leads to nobody who is trusted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stated: BTreeMap<String, String>,
    /// Attributes that the machine reports of itself, unverified.
    pub claimed: BTreeMap<String, String>,
    /// `none`, `software`, `hardware` or `measured`.
    pub assurance: String,
    /// What is in the hardware: `key`, or `host` if the key is beside it; absent without hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assurance_of: Option<String>,
    /// The network prefix it came from.
    pub source: String,
    /// When the request was recorded.
    pub created: u64,
    /// When it lapses.
    pub expires: u64,
    /// People who approved so far.
    #[serde(default)]
    pub approvals: Vec<ApprovalView>,
    /// Number of approvals that the policy requires.
    pub approvals_wanted: u32,
    /// Ids of other waiting requests for the same name.
    #[serde(default)]
    pub rivals: Vec<String>,
    /// State of the machine or person that already has the requested name: `active`, `expired`, `locked` or `reserved`; `kept`
    /// for a name that a machine is being renamed to, or was renamed from recently. Only while the request waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<String>,
    /// The machine whose device, such as a TPM, the evidence is of. Only while the request waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_device: Option<SameDeviceView>,
    /// The policy rules that permitted `request`; their terms apply to its certificates.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Lifetime of its certificates, in seconds; absent when no rule limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u64>,
    /// The reason that the denial gave.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A machine that a requester's device is, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SameDeviceView {
    /// Its name.
    pub machine: String,
    /// `active`, `expired`, `locked` or `reserved`; `removed` for one that is no more: then the requester would be a new machine.
    pub state: String,
    /// Whether approving the request lets the requester come back as that machine.
    pub comes_back: bool,
    /// Whether the device counts less than when that machine showed it last.
    pub counted_back: bool,
}

/// `GET /v1/request-events`, a long poll: the waiting requests, as soon as they differ from those of `seen`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RequestEvents {
    /// All waiting requests.
    pub items: Vec<RequestView>,
    /// A digest of `items`, to be sent as `seen` with the next poll. That is answered when the digest differs or its wait is over.
    pub seen: String,
}

/// One person's approval.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApprovalView {
    /// Who approved: an identity.
    pub by: String,
    /// Seconds since the Unix epoch.
    pub at: u64,
    /// True when the approver typed the waiting code, false when they declared it unchecked.
    pub code_checked: bool,
    /// The name of the machine or person, when the approver chose one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The labels that the machine gets.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The person who will own the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Digest of name, labels and owner: only approvals with equal digests are counted together. See
    /// [`ApproveRequest::same_as`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// `POST /v1/requests/{id}/approve`. Exactly one of `code` and `unchecked` must be given; `same_as` excludes `name`, `labels`
/// and `owner`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// The waiting code that the machine shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The approver declares that the code was not checked.
    #[serde(default)]
    pub unchecked: bool,
    /// A name other than the requested one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels of the machine, `key` to `value`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The person who owns the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// [`ApprovalView::content`] of an earlier approval, whose name, labels and owner this one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<String>,
}

/// `POST /v1/requests/{id}/deny` and other actions that take a reason.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReasonRequest {
    /// Shown to the requester and written to the audit record; at most [`crate::limits::REASON_MAX`] bytes.
    #[serde(default)]
    pub reason: String,
}
