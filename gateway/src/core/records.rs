//! The records of the gateway. Each is one value in the store, as JSON, so that an export can be read.

use std::collections::BTreeMap;

use pki::{Assurance, KeyDigest, Role, Serial, UnixTime};
use serde::{Deserialize, Serialize};

use self::text::{assurance, base64_bytes, digest, nonce, role, serial};
pub use self::{
    claim::Claim,
    device::{CountedBack, DeviceHolder},
    kept_name::KeptName,
    lock::{Lock, LockKind},
    run::{Convergence, Run},
    spent::{SpentInstance, SpentJwt},
    tunnel::{ServiceRecord, TunnelRecord},
};

mod claim;
mod device;
mod kept_name;
mod lock;
mod run;
mod spent;
pub(super) mod text;
mod tunnel;

/// A record as it was read, with its version for the condition of a change.
#[derive(Clone, Debug)]
pub struct Seen<T> {
    /// The record.
    pub record: T,
    /// The commit that last wrote it.
    pub version: u64,
}

/// State of an enrollment.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnrollmentState {
    /// A person must decide.
    Waiting,
    /// Admitted; the certificate is issued at the client's next poll.
    Approved,
    /// A certificate was issued.
    Issued,
    /// A person refused.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// The subject that it admitted or depended on was removed or has left: final for its key.
    Removed,
    /// The requester withdrew it. The same key may ask again.
    Withdrawn,
}

impl EnrollmentState {
    /// The word used in views and filters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Issued => "issued",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Removed => "removed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What a requester gets by an approval. An approval is for a specific content: approvals of different contents are not counted
/// together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovedContent {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its owner.
    pub owner: Option<Owner>,
    /// Whether the waiting code was typed. It is part of the content, so that an approval without the code does not complete one with
    /// it.
    pub code_checked: bool,
}

impl ApprovedContent {
    /// Reference to this content: the first half of a SHA-256, in hex. Equal contents have equal digests.
    #[must_use]
    pub fn digest(&self) -> String {
        // Fields are serialised in order and labels are sorted, so the same content gives the same text.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let hex = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes));
        hex.get(..CONTENT_DIGEST_CHARS).unwrap_or_default().to_owned()
    }
}

/// Characters of [`ApprovedContent::digest`]: 128 bits, too many to find a second content.
const CONTENT_DIGEST_CHARS: usize = 32;

/// One person's approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The person's name.
    pub by: String,
    /// The lineage of their certificates: a later holder of the name is a different person.
    #[serde(default)]
    pub lineage: String,
    /// When.
    pub at: UnixSecs,
    /// What was approved.
    #[serde(default)]
    pub content: ApprovedContent,
    /// Rules that allowed this person to approve.
    pub rules: Vec<String>,
}

/// Owner of a machine: a person by name *and* lineage, so that a later holder of the name has no rights. In the store it is one text,
/// `name/lineage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Owner {
    /// The person's name, as it was when the owner was named.
    pub name: String,
    /// The person's lineage; absent if there was no person of that name, and then nobody has the owner's rights.
    pub lineage: Option<String>,
}

impl Owner {
    /// The owner of that name; `holder` has the name now.
    #[must_use]
    pub fn named(name: &str, holder: Option<&Subject>) -> Self {
        let lineage = holder.filter(|person| person.role == Role::Person && person.name == name);
        Self { name: name.to_owned(), lineage: lineage.map(|person| person.lineage.clone()) }
    }

    /// Whether this person is the owner: by name and by lineage.
    #[must_use]
    pub fn is(&self, person: &Subject) -> bool {
        person.role == Role::Person && person.name == self.name && self.lineage.as_ref() == Some(&person.lineage)
    }
}

impl From<String> for Owner {
    fn from(text: String) -> Self {
        match text.split_once('/') {
            Some((name, lineage)) => Self { name: name.to_owned(), lineage: Some(lineage.to_owned()) },
            None => Self { name: text, lineage: None },
        }
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        match owner.lineage {
            Some(lineage) => format!("{}/{lineage}", owner.name),
            None => owner.name,
        }
    }
}

/// One request to join, bound to one public key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Enrollment {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: EnrollmentState,
    /// Machine or person.
    #[serde(with = "role")]
    pub role: Role,
    /// Digest of the key.
    #[serde(with = "digest")]
    pub key: KeyDigest,
    /// The key itself, SPKI in DER.
    #[serde(with = "base64_bytes")]
    pub spki: Vec<u8>,
    /// The requested name.
    pub wanted_name: Option<String>,
    /// The assigned name, once admitted.
    pub name: Option<String>,
    /// What attestors vouch for.
    pub claims: BTreeMap<String, Claim>,
    /// What its evidence says and nobody vouches for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stated: BTreeMap<String, String>,
    /// Unverified attributes.
    pub attributes: BTreeMap<String, String>,
    /// How well the key is protected, as proven.
    #[serde(with = "assurance")]
    pub assurance: Assurance,
    /// The network prefix it came from.
    pub source: String,
    /// The pin that its holder verified. It does not change when another root becomes active, so the waiting code stays the same.
    #[serde(with = "digest")]
    pub pin: KeyDigest,
    /// Random input of the waiting code, in addition to key and pin.
    #[serde(with = "nonce")]
    pub nonce: [u8; 16],
    /// When it asked.
    pub created: UnixSecs,
    /// When it lapses while it waits.
    pub expires: UnixSecs,
    /// The approvals; of each person the last.
    pub approvals: Vec<Approval>,
    /// Number of approvals required.
    pub approvals_wanted: u32,
    /// Lifetime of its certificates in seconds, by the rules that admitted it; absent for that of the profile.
    pub lifetime: Option<u64>,
    /// Rules that admitted it.
    pub rules: Vec<String>,
    /// Labels for the machine.
    pub labels: BTreeMap<String, String>,
    /// Groups for the person.
    pub groups: Vec<String>,
    /// Owner of the machine.
    pub owner: Option<Owner>,
    /// The lineage that began with it, or that it rejoins.
    pub lineage: Option<String>,
    /// True if it rejoins a lineage.
    pub rejoin: bool,
    /// True when it does so because its evidence is of that machine's device.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same_device: bool,
    /// Why it was denied.
    pub reason: Option<String>,
    /// The accepted evidence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Shown>,
    /// The numbers that it holds in the queue while it waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<String>,
    /// What its evidence depends on: a lock on any of these stops it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<(LockKind, String)>,
}

/// An accepted piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The kind of its attestor.
    pub kind: String,
    /// When it was last shown.
    pub at: UnixSecs,
    /// The attestor's reference to it, if it can become invalid: the id of a token, for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl Shown {
    /// Whether both are the same piece, apart from the time.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && self.reference == other.reference
    }
}

/// Entry in the index of waiting enrollments.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// The requested name.
    pub wanted_name: Option<String>,
    /// The network prefix it came from.
    pub source: String,
    /// When it lapses.
    pub expires: UnixSecs,
    /// The lineage it would rejoin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<String>,
    /// The numbers that it holds in the queue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<String>,
    /// The requester withdrew it: nobody can decide it, but it counts against its network until it would have lapsed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

impl From<&Enrollment> for Waiting {
    fn from(enrollment: &Enrollment) -> Self {
        let withdrawn = enrollment.state == EnrollmentState::Withdrawn;
        Self {
            wanted_name: enrollment.wanted_name.clone().filter(|_| !withdrawn),
            source: enrollment.source.clone(),
            expires: enrollment.expires,
            lineage: enrollment.lineage.clone().filter(|_| !withdrawn),
            numbers: enrollment.numbers.clone(),
            withdrawn,
        }
    }
}

/// Holder of a number in the queue: the id of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NumberHolder(pub String);

/// The use of a certificate as evidence that was replaced and had expired or was locked. It has no effect and is reported for a while,
/// since somebody may have an old disk or backup. One record for each lineage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stale {
    /// The lineage.
    pub lineage: String,
    /// The certificate.
    #[serde(with = "serial")]
    pub used: Serial,
    /// The network prefix it came from.
    pub source: String,
    /// When.
    pub at: UnixSecs,
}

/// How a subject was admitted.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdmittedBy {
    /// By policy alone.
    Policy,
    /// By a person.
    Person,
}

impl From<AdmittedBy> for pki::AdmittedBy {
    fn from(by: AdmittedBy) -> Self {
        match by {
            AdmittedBy::Policy => Self::Policy,
            AdmittedBy::Person => Self::Person,
        }
    }
}

/// A machine or a person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Machine or person.
    #[serde(with = "role")]
    pub role: Role,
    /// The lineage of its certificates.
    pub lineage: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Groups, for people.
    pub groups: Vec<String>,
    /// Owner, for machines.
    pub owner: Option<Owner>,
    /// When it was admitted.
    pub created: UnixSecs,
    /// What attestors vouched for when it was admitted.
    pub claims: BTreeMap<String, Claim>,
    /// What its evidence says and nobody vouches for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stated: BTreeMap<String, String>,
    /// What it said of itself.
    pub attributes: BTreeMap<String, String>,
    /// Assurance at the admission; decisions use that of the key in use ([`Lineage::assurance`]).
    #[serde(with = "assurance")]
    pub assurance: Assurance,
    /// How it was admitted.
    pub admitted_by: AdmittedBy,
    /// The people who approved, in order; empty if the policy admitted it.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// The enrollment it came from.
    pub enrollment: String,
    /// The evidence of its admission, with the time when each kind was last shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Shown>,
    /// The new name in a renaming, which takes effect with the first use of a certificate that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renaming: Option<String>,
}

/// Reference to a certificate in a lineage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertRef {
    /// Its serial.
    #[serde(with = "serial")]
    pub serial: Serial,
    /// Digest of its key.
    #[serde(with = "digest")]
    pub key: KeyDigest,
    /// Digest of the key of the CA that signed it.
    #[serde(with = "digest")]
    pub issuer: KeyDigest,
    /// The generation of the authority at issue, which determines the roots that its holder got with it.
    pub generation: u64,
    /// End of validity.
    pub not_after: UnixSecs,
    /// Assurance of this key, as proven at issue.
    #[serde(default = "text::of_a_key", with = "assurance")]
    pub assurance: Assurance,
}

/// The chain of certificates descended from one enrollment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lineage {
    /// Its id.
    pub id: String,
    /// Machine or person.
    #[serde(with = "role")]
    pub role: Role,
    /// The subject's name.
    pub name: String,
    /// The certificate in use: the newest that was used.
    pub current: Option<CertRef>,
    /// Issued, not used yet.
    pub pending: Option<CertRef>,
    /// For the machine's sealed services, newest last: not accepted from clients, and on the CRL if the lineage is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<CertRef>,
    /// When `current` was first used.
    pub activated: UnixSecs,
    /// The certificate that `current` replaced at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<CertRef>,
    /// True once a second holder of its key was noticed.
    pub forked: bool,
    /// True once the subject was removed or left: none of its certificates is valid any more.
    pub ended: bool,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<UnixSecs>,
    /// When it began.
    pub created: UnixSecs,
    /// When its budget of certificates is full again.
    #[serde(default)]
    pub paid_until: UnixSecs,
    /// The same for its sealed services.
    #[serde(default)]
    pub sealed_paid_until: UnixSecs,
    /// The same for SSH certificates, each of which leaves an event.
    #[serde(default)]
    pub ssh_paid_until: UnixSecs,
    /// When its last tunnel ended, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<UnixSecs>,
    /// When its holder was last asked to renew now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_asked: Option<UnixSecs>,
}

impl Lineage {
    /// Assurance of the key in use: that of the current certificate, or of the pending first one.
    #[must_use]
    pub fn assurance(&self) -> Option<Assurance> {
        self.current.as_ref().or(self.pending.as_ref()).map(|cert| cert.assurance)
    }
}

/// One certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// Its serial.
    #[serde(with = "serial")]
    pub serial: Serial,
    /// The lineage it belongs to.
    pub lineage: String,
    /// Role of subject and issuing CA.
    #[serde(with = "role")]
    pub role: Role,
    /// Digest of the key of the CA that signed it: a role may have had several.
    #[serde(with = "digest")]
    pub issuer: KeyDigest,
    /// The subject's name.
    pub name: String,
    /// Digest of its key.
    #[serde(with = "digest")]
    pub key: KeyDigest,
    /// Start of validity.
    pub not_before: UnixSecs,
    /// End of validity.
    pub not_after: UnixSecs,
    /// The certificate.
    #[serde(with = "base64_bytes")]
    pub der: Vec<u8>,
}

/// A join token, without its string.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: String,
    /// What it admits.
    #[serde(with = "role")]
    pub role: Role,
    /// Number of keys that may redeem it.
    pub uses: u32,
    /// The keys that redeemed it, hex digests.
    pub redeemed: Vec<String>,
    /// Names it is valid for.
    pub names: Vec<String>,
    /// Labels it gives.
    pub labels: BTreeMap<String, String>,
    /// Groups it gives.
    pub groups: Vec<String>,
    /// Owner it gives.
    pub owner: Option<Owner>,
    /// The only key that may redeem it, hex digest.
    pub key: Option<String>,
    /// Who made it: a person's name, or `gateway`.
    pub by: String,
    /// The lineage of its creator: the token assigns only what its creator could still assign.
    #[serde(default)]
    pub maker: Option<String>,
    /// When.
    pub created: UnixSecs,
    /// When it expires.
    pub expires: UnixSecs,
    /// True once revoked.
    pub revoked: bool,
}

/// The data of a certificate for the CRLs, indexed by issuing CA and expiry, so that unexpired ones can be read without all others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateEnd {
    /// Its serial.
    #[serde(with = "serial")]
    pub serial: Serial,
    /// The lineage it belongs to.
    pub lineage: String,
    /// Role of subject and issuing CA.
    #[serde(with = "role")]
    pub role: Role,
    /// Digest of the key of the CA that signed it: a role may have had several.
    #[serde(with = "digest")]
    pub issuer: KeyDigest,
    /// The subject's name.
    pub name: String,
    /// Digest of its key.
    #[serde(with = "digest")]
    pub key: KeyDigest,
    /// Start of validity.
    pub not_before: UnixSecs,
    /// End of validity.
    pub not_after: UnixSecs,
}

impl From<&Certificate> for CertificateEnd {
    fn from(cert: &Certificate) -> Self {
        Self {
            serial: cert.serial,
            lineage: cert.lineage.clone(),
            role: cert.role,
            issuer: cert.issuer,
            name: cert.name.clone(),
            key: cert.key,
            not_before: cert.not_before,
            not_after: cert.not_after,
        }
    }
}

/// The newest revocation list of one issuing CA.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastList {
    /// Its number.
    pub number: u64,
    /// When it was made.
    pub this_update: UnixSecs,
}

/// Seconds since the Unix epoch in a record.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSecs(pub u64);

impl From<UnixTime> for UnixSecs {
    fn from(time: UnixTime) -> Self {
        Self(time.secs())
    }
}

impl From<UnixSecs> for UnixTime {
    fn from(secs: UnixSecs) -> Self {
        Self::new(secs.0)
    }
}
