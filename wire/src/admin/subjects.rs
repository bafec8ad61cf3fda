//! Machines and people, and what is changed of them.

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
    /// True when nobody has the owner's rights: the person who was named is gone, or was not there, and whoever has the name
    /// now is somebody else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owner_gone: bool,
    /// `none`, `software`, `hardware` or `measured`.
    pub assurance: String,
    /// The lineage that its certificates belong to.
    pub lineage: String,
    /// Serial in use, hex.
    #[serde(default)]
    pub serial: Option<String>,
    /// End of validity of the certificate in use.
    #[serde(default)]
    pub not_after: Option<u64>,
    /// Serial issued but not used yet, hex.
    #[serde(default)]
    pub pending_serial: Option<String>,
    /// When it was admitted.
    pub created: u64,
    /// Locks that stand against it.
    #[serde(default)]
    pub locks: Vec<LockView>,
    /// When it was last seen, for machines: now for one that holds a tunnel, else the end of its last tunnel, or its last renewal
    /// if that was later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<u64>,
    /// The name it takes when it next renews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renaming: Option<String>,
    /// Its tunnel, for machines that hold one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelView>,
    /// Verified claims.
    #[serde(default)]
    pub verified: BTreeMap<String, String>,
    /// Unverified attributes.
    #[serde(default)]
    pub claimed: BTreeMap<String, String>,
    /// The last run of a configuration tool, for machines, as it was reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convergence: Option<ConvergenceView>,
}

/// A machine's tunnel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TunnelView {
    /// Since when it is up.
    pub since: u64,
    /// Where it comes from.
    pub source: String,
    /// What the machine exposes, `name` or `name (sealed)`.
    pub services: Vec<String>,
}

/// What a person made that counts only while they do, and what they own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeView {
    /// Join tokens and invitations that could be redeemed, by id.
    #[serde(default)]
    pub tokens: Vec<String>,
    /// Requests that wait and that they approved.
    #[serde(default)]
    pub approvals: Vec<String>,
    /// Machines they own, by name.
    #[serde(default)]
    pub machines: Vec<String>,
    /// How many more there are that are not named.
    #[serde(default)]
    pub more: usize,
}

/// The answer to `DELETE /v1/machines/{name}`, `DELETE /v1/people/{name}` and `POST /v1/people/{name}/offboard`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedView {
    /// Correlation id of the change, to be found in the audit.
    #[serde(default)]
    pub instance: String,
    /// What ended with a person, and which machines have no owner now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<MadeView>,
    /// Machines that were handed to somebody else first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handed_over: Vec<String>,
}

/// `POST /v1/people/{name}/offboard`: hands their machines to somebody else, then removes them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffboardRequest {
    /// The person who gets the machines.
    pub to: String,
}

/// `PATCH /v1/machines/{name}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineChange {
    /// Labels to put on it, in the place of those with the same key.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Keys of labels to take away.
    #[serde(default)]
    pub no_labels: Vec<String>,
    /// The person who owns it from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Nobody owns it from now on.
    #[serde(default)]
    pub no_owner: bool,
    /// The name it takes when it next renews, for which it is asked at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `PATCH /v1/people/{name}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonChange {
    /// Groups to put them in.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Groups to take them out of.
    #[serde(default)]
    pub no_groups: Vec<String>,
}

/// The answer to a change of a machine or person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetReply {
    /// It, as it is now.
    #[serde(flatten)]
    pub subject: SubjectView,
    /// What whoever changed it should know.
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
    /// Why, for the audit.
    #[serde(default)]
    pub reason: String,
}

/// `POST /v1/machines/{name}/reports`: how a run of a configuration tool went on a machine. It takes the place of the report
/// before, so a report may be sent again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportRequest {
    /// The tool, such as `ansible`.
    pub tool: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What the tool calls this run. The same report again, under the same id, changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// What was run, such as a playbook's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub play: Option<String>,
    /// When it began, by the reporter's clock.
    pub started: u64,
    /// When it ended, by the reporter's clock.
    pub finished: u64,
    /// Steps that went well, those that changed something among them.
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

/// The last run of a configuration tool on a machine: what somebody reported, and who and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvergenceView {
    /// The tool.
    pub tool: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What the tool calls this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// What was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub play: Option<String>,
    /// When it began, by the reporter's clock.
    pub started: u64,
    /// When it ended, by the reporter's clock.
    pub finished: u64,
    /// Steps that went well.
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
