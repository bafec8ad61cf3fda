//! Results of the sequences of [`super`], which each front converts into its own form.

use std::{collections::BTreeMap, net::IpAddr};

use pki::{Assurance, Role, Serial};

use crate::core::records::{Convergence, LockKind};

/// A page of a listing.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page starts; nothing on the last.
    pub next: Option<String>,
}

/// A service that a machine exposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedService {
    /// Its name.
    pub name: String,
    /// Whether it is sealed from the gateway.
    pub sealed: bool,
}

/// A machine or person as it stands.
#[derive(Clone, Debug)]
pub struct SubjectDetails {
    /// Its name.
    pub name: String,
    /// Its SPIFFE ID.
    pub identity: String,
    /// What it is.
    pub role: Role,
    /// Its state: `active`, `expired`, `locked` or `reserved`.
    pub state: &'static str,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its groups.
    pub groups: Vec<String>,
    /// The name of its owner.
    pub owner: Option<String>,
    /// Whether the person named as owner was removed or never existed.
    pub owner_gone: bool,
    /// How far it is proven.
    pub assurance: Assurance,
    /// Its lineage.
    pub lineage: String,
    /// Serial of the certificate in use.
    pub serial: Option<Serial>,
    /// End of its newest certificate, in seconds since the Unix epoch.
    pub not_after: Option<u64>,
    /// Serial of a certificate that was issued and not used yet.
    pub pending_serial: Option<Serial>,
    /// When it was admitted, in seconds since the Unix epoch.
    pub created: u64,
    /// The locks that stand against it.
    pub locks: Vec<LockDetails>,
    /// When it was last here, in seconds since the Unix epoch.
    pub last_seen: Option<u64>,
    /// The name it gets at its next renewal.
    pub renaming: Option<String>,
    /// Its tunnel, while it holds one.
    pub tunnel: Option<TunnelDetails>,
    /// What was verified about it.
    pub verified: BTreeMap<String, String>,
    /// What its evidence says and nobody vouches for.
    pub stated: BTreeMap<String, String>,
    /// What it claimed.
    pub claimed: BTreeMap<String, String>,
    /// The last run of a configuration tool on it.
    pub convergence: Option<Convergence>,
}

/// A machine's tunnel.
#[derive(Clone, Debug)]
pub struct TunnelDetails {
    /// When it came, in seconds since the Unix epoch.
    pub since: u64,
    /// Where it comes from.
    pub source: IpAddr,
    /// What the machine exposes.
    pub services: Vec<OfferedService>,
}

/// A lock, and what setting it did.
#[derive(Clone, Debug)]
pub struct LockDetails {
    /// What it is against.
    pub kind: LockKind,
    /// Which one.
    pub target: String,
    /// Why.
    pub reason: String,
    /// Who set it.
    pub by: String,
    /// When, in seconds since the Unix epoch.
    pub at: u64,
    /// What it ended, for whoever set it.
    pub ended: Option<crate::registry::enforcer::Enforced>,
    /// Whom a lock on a key affects.
    pub hits: Vec<String>,
    /// What the locked person made, which has no effect while the lock exists.
    pub suspended: Option<MadeBy>,
}

/// What has no effect without this person, and what they own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MadeBy {
    /// Live join tokens, by id.
    pub tokens: Vec<String>,
    /// Requests that they approved and that still wait, by id.
    pub approvals: Vec<String>,
    /// Machines that they own.
    pub machines: Vec<String>,
    /// Number of entries left out.
    pub more: usize,
}

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Correlation id in the audit.
    pub instance: String,
    /// What has no effect without the removed person.
    pub ended: Option<MadeBy>,
    /// Machines with a new owner.
    pub handed_over: Vec<String>,
}

/// A machine or person after a change.
#[derive(Clone, Debug)]
pub struct Correction {
    /// As it stands now.
    pub subject: SubjectDetails,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// A join token.
#[derive(Clone, Debug)]
pub struct TokenDetails {
    /// Its id.
    pub id: String,
    /// What it admits.
    pub role: Role,
    /// Its state: `live`, `spent`, `expired`, `revoked` or `suspended`.
    pub state: &'static str,
    /// How many keys may redeem it.
    pub uses: u32,
    /// Digests of the keys that redeemed it.
    pub redeemed: Vec<String>,
    /// Names and patterns that it is valid for.
    pub names: Vec<String>,
    /// Labels that it gives.
    pub labels: BTreeMap<String, String>,
    /// Groups that it gives.
    pub groups: Vec<String>,
    /// The owner that it gives.
    pub owner: Option<String>,
    /// Digest of the only key that may redeem it.
    pub key: Option<String>,
    /// Who made it.
    pub by: String,
    /// When, in seconds since the Unix epoch.
    pub created: u64,
    /// Until when it can be redeemed, in seconds since the Unix epoch.
    pub expires: u64,
}

/// A join token that was just made. Its string is shown once.
#[derive(Clone, Debug)]
pub struct MadeToken {
    /// Its id.
    pub id: String,
    /// The string that a client is given.
    pub token: String,
    /// Until when it can be redeemed, in seconds since the Unix epoch.
    pub expires: u64,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// A request to join.
#[derive(Clone, Debug)]
pub struct RequestDetails {
    /// Its id.
    pub id: String,
    /// How it stands.
    pub state: &'static str,
    /// What it would be.
    pub role: Role,
    /// The name that it asks for.
    pub wanted_name: Option<String>,
    /// The name that it was given.
    pub name: Option<String>,
    /// Digest of its key.
    pub key: String,
    /// Algorithm of its key.
    pub algorithm: String,
    /// What was verified about it.
    pub verified: BTreeMap<String, String>,
    /// What its evidence says and nobody vouches for.
    pub stated: BTreeMap<String, String>,
    /// What it claims.
    pub claimed: BTreeMap<String, String>,
    /// How far it is proven.
    pub assurance: Assurance,
    /// Where it came from.
    pub source: String,
    /// When, in seconds since the Unix epoch.
    pub created: u64,
    /// When it lapses, in seconds since the Unix epoch.
    pub expires: u64,
    /// The approvals that it has.
    pub approvals: Vec<ApprovalDetails>,
    /// How many it needs.
    pub approvals_wanted: u32,
    /// Other waiting requests for the same name.
    pub rivals: Vec<String>,
    /// State of the holder of the requested name.
    pub taken: Option<String>,
    /// The machine that its device is, or was.
    pub same_device: Option<SameDevice>,
    /// The rules that let it wait.
    pub rules: Vec<String>,
    /// The lifetime that it was given, in seconds.
    pub lifetime: Option<u64>,
    /// Why it was denied.
    pub reason: Option<String>,
}

/// The machine that the device of somebody who waits is, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SameDevice {
    /// Its name.
    pub machine: String,
    /// How it stands; `removed` for one that is no more.
    pub state: &'static str,
    /// Whether whoever waits would come back as it.
    pub comes_back: bool,
    /// Whether the device counts less than when it was last shown.
    pub counted_back: bool,
}

/// One approval of a request.
#[derive(Clone, Debug)]
pub struct ApprovalDetails {
    /// Who gave it.
    pub by: String,
    /// When, in seconds since the Unix epoch.
    pub at: u64,
    /// Whether they typed the code.
    pub code_checked: bool,
    /// The name that they gave.
    pub name: Option<String>,
    /// The labels that they gave.
    pub labels: BTreeMap<String, String>,
    /// The owner that they gave.
    pub owner: Option<String>,
    /// Digest of what they approved.
    pub content: Option<String>,
}

/// Who waits.
#[derive(Clone, Debug, Default)]
pub struct WaitingRequests {
    /// The requests.
    pub items: Vec<RequestDetails>,
    /// A digest of the requests.
    pub seen: String,
}

/// A session.
#[derive(Clone, Debug)]
pub struct SessionDetails {
    /// Its id.
    pub id: String,
    /// SPIFFE ID of whoever opened it.
    pub caller: String,
    /// Where they came from.
    pub source: String,
    /// The machine.
    pub machine: String,
    /// The service.
    pub service: String,
    /// Whether the gateway can read its traffic.
    pub mode: &'static str,
    /// How it was opened.
    pub door: &'static str,
    /// The rules that allow it.
    pub rules: Vec<String>,
    /// When it began, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// When it ended, in milliseconds since the Unix epoch.
    pub ended_ms: Option<u64>,
    /// Why it ended.
    pub reason: Option<&'static str>,
    /// Bytes to the machine.
    pub to_machine: u64,
    /// Bytes from the machine.
    pub from_machine: u64,
    /// Number of its ends that moved to a connection of their own.
    pub dial_backs: u32,
}

/// A session event.
#[derive(Clone, Debug)]
pub struct SessionEvent {
    /// Its position, as a bare number.
    pub number: u64,
    /// Its position.
    pub cursor: String,
    /// `opened` or `closed`.
    pub event: &'static str,
    /// The session.
    pub session: SessionDetails,
}

/// The session events after a position.
#[derive(Clone, Debug)]
pub struct SessionNews {
    /// The events.
    pub items: Vec<SessionEvent>,
    /// The next position, as a bare number.
    pub next: u64,
    /// The next position.
    pub cursor: String,
    /// Whether events before these are missing.
    pub gap: bool,
}

/// The answer of the policy to a question.
#[derive(Clone, Debug)]
pub struct PolicyAnswer {
    /// Whether it allows it.
    pub allowed: bool,
    /// The rules that decide.
    pub rules: Vec<String>,
    /// Why, in words.
    pub explanation: String,
}

/// An event of the audit.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// Its id.
    pub id: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What happened.
    pub event: String,
    /// Who did it.
    pub actor: String,
    /// Whom it is about.
    pub subject: String,
    /// The rules that decided.
    pub rules: Vec<String>,
    /// The id of the request.
    pub instance: String,
    /// Further members.
    pub detail: BTreeMap<String, String>,
}
