//! The manage face as people use it for others. Times are seconds since the Unix epoch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A page of a listing. `next` is given back as `after` to go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page starts; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

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
    /// Those who wait.
    pub items: Vec<RequestView>,
    /// Give it as `seen` next time: the answer comes when something is different, or the wait is over.
    pub seen: String,
}

/// One person's approval.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApprovalView {
    /// Who.
    pub by: String,
    /// When.
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
    /// Labels.
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
    /// The lineage.
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

/// A lock: a standing refusal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LockView {
    /// `machine`, `person`, `lineage` or `key`.
    pub kind: String,
    /// What is locked: a name, a lineage id or a key digest.
    pub target: String,
    /// Why.
    pub reason: String,
    /// Who locked: an identity, or `gateway`.
    pub by: String,
    /// When.
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
    /// So many more that are not named.
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

/// What a lock ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedView {
    /// So many sessions.
    pub sessions: usize,
    /// Milliseconds from the lock's acceptance to the end of the last of them.
    pub millis: u64,
    /// So many of them had not ended when that was no longer waited for. Their connections were cut all the same.
    #[serde(default)]
    pub left: usize,
}

/// One connection to a service on a machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id.
    pub id: String,
    /// Who opened it: a SPIFFE ID.
    pub caller: String,
    /// Where from.
    pub source: String,
    /// The machine it leads to, by name.
    pub machine: String,
    /// The service.
    pub service: String,
    /// `raw` or `sealed`.
    pub mode: String,
    /// `connect`, `raw`, `helper` or `tunnel`.
    pub door: String,
    /// The rules that allowed it.
    pub rules: Vec<String>,
    /// When it began, milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// Why it ended: `peer`, `drained`, `expired`, `locked`, `policy`, `killed`, `limit`, `replaced`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes to the machine.
    pub to_machine: u64,
    /// Bytes from the machine.
    pub from_machine: u64,
    /// At how many of its ends (0 to 2) it has a connection of its own, because it carries much.
    #[serde(default)]
    pub dial_backs: u32,
}

/// Something that happened to a session, as `GET /v1/session-events` tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionEventView {
    /// Give it as `after` to go on from here. It says nothing of how many there are, nor which came first.
    pub number: u64,
    /// `opened` or `closed`.
    pub event: String,
    /// The session, as it stands now.
    pub session: SessionView,
}

/// `GET /v1/session-events`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionEvents {
    /// What happened, oldest first.
    pub items: Vec<SessionEventView>,
    /// Give it as `after` next time.
    pub next: u64,
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

/// `POST /v1/locks`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockRequest {
    /// `machine`, `person`, `lineage` or `key`.
    pub kind: String,
    /// A name, a lineage id or a key digest.
    pub target: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// `POST /v1/tokens` and `POST /v1/people/invite`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// `machine` (default) or `person`; invites say `person` by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How many keys may redeem it; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// Seconds it lives; an hour when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// Names it may be redeemed for; any when empty. `*` at the end matches any rest.
    #[serde(default)]
    pub names: Vec<String>,
    /// Labels the machine gets.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Groups the person gets.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Owner of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Digest of the one key that may redeem it, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A new token. The string is shown once and kept nowhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenReply {
    /// The token record's id.
    pub id: String,
    /// The whole string for `lychgate join`.
    pub token: String,
    /// When it expires.
    pub expires: u64,
    /// What whoever made it should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A token as it is listed, without its string.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenView {
    /// Its id.
    pub id: String,
    /// `machine` or `person`.
    pub role: String,
    /// `live`, `suspended` (its maker may not make it now), `spent`, `expired` or `revoked`.
    pub state: String,
    /// Keys that may redeem it.
    pub uses: u32,
    /// Keys that did, hex digests.
    pub redeemed: Vec<String>,
    /// Names it is for.
    pub names: Vec<String>,
    /// Labels it gives.
    pub labels: BTreeMap<String, String>,
    /// Groups it gives.
    pub groups: Vec<String>,
    /// Owner it gives.
    #[serde(default)]
    pub owner: Option<String>,
    /// The one key that may redeem it.
    #[serde(default)]
    pub key: Option<String>,
    /// Who made it.
    pub by: String,
    /// When.
    pub created: u64,
    /// When it expires.
    pub expires: u64,
}

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
    /// In words.
    pub explanation: String,
}
