//! Machines and people, and changes of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::LockView;

/// A machine or a person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubjectView {
    /// Its name.
    pub name: String,
    /// Its SPIFFE ID.
    pub identity: String,
    /// `machine` or `person`.
    pub role: String,
    /// `reserved` (admitted, no certificate yet), `active`, `expired` or `locked`.
    pub state: String,
    /// Labels, for machines: `key` to `value`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Groups, for people.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The owner, for machines.
    #[serde(default)]
    pub owner: Option<String>,
    /// True when nobody has the owner's rights: the person named as owner was removed or never existed. A person who takes that
    /// name later does not become the owner.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owner_gone: bool,
    /// `none`, `software`, `hardware` or `measured`.
    pub assurance: String,
    /// What is in the hardware: `key`, or `host` if the key is beside it; absent without hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assurance_of: Option<String>,
    /// The lineage that its certificates belong to.
    pub lineage: String,
    /// Serial in use, hex.
    #[serde(default)]
    pub serial: Option<String>,
    /// End of validity of the certificate in use.
    #[serde(default)]
    pub not_after: Option<u64>,
    /// Serial of a certificate that was issued and has not been used yet, hex.
    #[serde(default)]
    pub pending_serial: Option<String>,
    /// When it was admitted.
    pub created: u64,
    /// Its locks.
    #[serde(default)]
    pub locks: Vec<LockView>,
    /// For machines: the current time while it has a tunnel, else the end of its last tunnel or its last renewal, whichever was
    /// later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<u64>,
    /// The name it gets at its next renewal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renaming: Option<String>,
    /// Absent for people, and for machines without a tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelView>,
    /// Verified claims.
    #[serde(default)]
    pub verified: BTreeMap<String, String>,
    /// What its evidence says and nobody vouches for, such as the maker in a certificate that leads to nobody who is trusted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stated: BTreeMap<String, String>,
    /// Unverified attributes.
    #[serde(default)]
    pub claimed: BTreeMap<String, String>,
    /// The last reported run of a configuration tool, for machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convergence: Option<ConvergenceView>,
}

/// A machine's tunnel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TunnelView {
    /// When it was established.
    pub since: u64,
    /// The address it comes from.
    pub source: String,
    /// The services that the machine exposes, each `name` or `name (sealed)`.
    pub services: Vec<String>,
}

/// What depends on a person: tokens and approvals that have no effect without them, and machines they own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeView {
    /// Ids of join tokens and invitations they made that can still be redeemed.
    #[serde(default)]
    pub tokens: Vec<String>,
    /// Ids of waiting requests they approved.
    #[serde(default)]
    pub approvals: Vec<String>,
    /// Names of the machines they own.
    #[serde(default)]
    pub machines: Vec<String>,
    /// Number of entries left out of the lists above.
    #[serde(default)]
    pub more: usize,
}

/// The answer to `DELETE /v1/machines/{name}`, `DELETE /v1/people/{name}` and `POST /v1/people/{name}/offboard`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedView {
    /// Correlation id of the change, as in the audit record.
    #[serde(default)]
    pub instance: String,
    /// For a person: what has no effect any longer, and the machines left without an owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<MadeView>,
    /// Names of the machines that got a new owner before the removal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handed_over: Vec<String>,
}

/// `POST /v1/people/{name}/offboard`: gives the person's machines to another person, then removes the person.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffboardRequest {
    /// Name of the new owner.
    pub to: String,
}

/// `PATCH /v1/machines/{name}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineChange {
    /// Labels to set. One with the same key is replaced.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Keys of labels to remove.
    #[serde(default)]
    pub no_labels: Vec<String>,
    /// The new owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Removes the owner; excludes `owner`.
    #[serde(default)]
    pub no_owner: bool,
    /// The name it gets at its next renewal. The gateway asks it to renew at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `PATCH /v1/people/{name}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonChange {
    /// Groups to add the person to.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Groups to remove the person from.
    #[serde(default)]
    pub no_groups: Vec<String>,
}

/// The answer to a change of a machine or person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetReply {
    /// The record after the change.
    #[serde(flatten)]
    pub subject: SubjectView,
    /// Warnings for the person who made the change, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `POST /v1/renewals`: asks machines to renew now. Exactly one of `machines` and `all` must be given.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewalsRequest {
    /// The names of the machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<String>,
    /// All machines.
    #[serde(default)]
    pub all: bool,
    /// Written to the audit record.
    #[serde(default)]
    pub reason: String,
}

/// `POST /v1/machines/{name}/reports`: the result of a run of a configuration tool on a machine. It replaces the machine's
/// previous report, so a report may be sent again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportRequest {
    /// The tool, such as `ansible`.
    pub tool: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The tool's id of this run. Sending the same report again under the same id changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// What was run, such as a playbook's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub play: Option<String>,
    /// When it began, by the reporter's clock.
    pub started: u64,
    /// When it ended, by the reporter's clock.
    pub finished: u64,
    /// Number of steps that succeeded, including those in `changed`.
    pub ok: u32,
    /// Steps that changed something.
    pub changed: u32,
    /// Steps that failed.
    pub failed: u32,
    /// How often the machine could not be reached.
    pub unreachable: u32,
    /// Steps left out.
    pub skipped: u32,
}

/// The last report of a run of a configuration tool on a machine, with its reporter and the time of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvergenceView {
    /// The tool.
    pub tool: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The tool's id of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// What was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub play: Option<String>,
    /// When it began, by the reporter's clock.
    pub started: u64,
    /// When it ended, by the reporter's clock.
    pub finished: u64,
    /// Number of steps that succeeded, including those in `changed`.
    pub ok: u32,
    /// Steps that changed something.
    pub changed: u32,
    /// Steps that failed.
    pub failed: u32,
    /// How often the machine could not be reached.
    pub unreachable: u32,
    /// Steps left out.
    pub skipped: u32,
    /// Who reported it: an identity.
    pub by: String,
    /// When it was reported, by the gateway's clock.
    pub at: u64,
}
