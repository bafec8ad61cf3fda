//! What the gateway remembers. Each record is one value in the store, as JSON, so that an export can be read.

use std::collections::BTreeMap;

use pki::{AssuranceLevel, KeyDigest, Role, Serial, UnixTime};
use serde::{Deserialize, Serialize};

use self::text::{assurance, base64_bytes, digest, nonce, role, serial};
pub use self::{
    claim::Claim,
    lock::{Lock, LockKind},
    run::{Convergence, Run},
    tunnel::{ServiceRecord, TunnelRecord},
};

mod claim;
mod lock;
mod run;
pub(super) mod text;
mod tunnel;

/// A record as it was read, with the version that a change of it must expect.
#[derive(Clone, Debug)]
pub struct Seen<T> {
    /// The record.
    pub record: T,
    /// The commit that last wrote it.
    pub version: u64,
}

/// Where an enrollment stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnrollmentState {
    /// A person must decide.
    Waiting,
    /// Admitted; the certificate is made when the client next asks.
    Approved,
    /// A certificate was issued.
    Issued,
    /// A person refused.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// What it led to, or rested on, was removed or has left: final for its key.
    Removed,
    /// Whoever made it took it back. The same key may ask again.
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

/// What somebody who waits gets by being approved. An approval is of a content: two people who approve two different ones
/// have not approved the same thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovedContent {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its owner.
    pub owner: Option<Owner>,
    /// Whether the waiting code was typed. With it in the content, nobody's unchecked approval completes a checked one.
    pub code_checked: bool,
}

impl ApprovedContent {
    /// What stands for it where it is referred to: the first half of a SHA-256, in hex. Equal contents, equal digests.
    #[must_use]
    pub fn digest(&self) -> String {
        // The fields are serialised in their order, the labels sorted: this is the same for the same content.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let hex = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes));
        hex.get(..CONTENT_DIGEST_CHARS).unwrap_or_default().to_owned()
    }
}

/// Characters of [`ApprovedContent::digest`]: 128 bits, more than anybody can search for a second content of.
const CONTENT_DIGEST_CHARS: usize = 32;

/// One person's approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The person's name.
    pub by: String,
    /// The lineage of their certificates: whoever has the name later is somebody else.
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

/// Who owns a machine: a person by name *and* lineage, so that a name that is given again later carries no rights along.
/// In the store it is one text, `name/lineage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Owner {
    /// The person's name, as it was when the owner was named.
    pub name: String,
    /// The person's lineage; absent when there was no person of that name, and then nobody has the owner's rights.
    pub lineage: Option<String>,
}

impl Owner {
    /// The owner of that name, given who holds the name now.
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
    /// Where it stands.
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
    /// What it would like to be called.
    pub wanted_name: Option<String>,
    /// What it is called once admitted.
    pub name: Option<String>,
    /// What attestors vouch for.
    pub claims: BTreeMap<String, Claim>,
    /// What it says of itself.
    pub attributes: BTreeMap<String, String>,
    /// How far it is proven.
    #[serde(with = "assurance")]
    pub assurance: AssuranceLevel,
    /// The network prefix it came from.
    pub source: String,
    /// The root by which its holder knows the gateway. It stays what it was when another root takes over, so the waiting code
    /// does too.
    #[serde(with = "digest")]
    pub pin: KeyDigest,
    /// The bytes that, with the key and the root, make the waiting code.
    #[serde(with = "nonce")]
    pub nonce: [u8; 16],
    /// When it asked.
    pub created: UnixSecs,
    /// When it lapses while it waits.
    pub expires: UnixSecs,
    /// Who approved what; of one person, the last approval.
    pub approvals: Vec<Approval>,
    /// How many must approve.
    pub approvals_wanted: u32,
    /// Lifetime of certificates, in seconds, by the rules that admitted it; the profile's when absent.
    pub lifetime: Option<u64>,
    /// Rules that admitted it.
    pub rules: Vec<String>,
    /// Labels for the machine.
    pub labels: BTreeMap<String, String>,
    /// Groups for the person.
    pub groups: Vec<String>,
    /// Owner of the machine.
    pub owner: Option<Owner>,
    /// The lineage it leads to, or rejoins.
    pub lineage: Option<String>,
    /// True when it continues a lineage that exists.
    pub rejoin: bool,
    /// Why it was denied.
    pub reason: Option<String>,
    /// The evidence that was taken of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Shown>,
    /// The numbers that it holds in the queue while it waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<String>,
    /// What its evidence rests on: a lock on any of them stops it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<(LockKind, String)>,
}

/// A piece of evidence that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The kind of its attestor.
    pub kind: String,
    /// When it was last shown.
    pub at: UnixSecs,
    /// By what the attestor knows it again, if it may stop to hold: of a token its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl Shown {
    /// Whether it is that piece, whenever that was shown.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && self.reference == other.reference
    }
}

/// Entry in the index of waiting enrollments.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// The name it wants.
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
    /// Whoever made it took it back: it waits for nobody and wants nothing, and counts against its network until it would have lapsed.
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

/// Who holds a number in the queue: the id of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NumberHolder(pub String);

/// A certificate that was replaced, and had expired or was locked, was shown as evidence. It changes nothing and is told for
/// a while: an old disk or backup is in somebody's hands. One record a lineage.
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
    /// What it said of itself.
    pub attributes: BTreeMap<String, String>,
    /// How far it was proven when it was admitted; what counts is what is proven of the key in use ([`Lineage::assurance`]).
    #[serde(with = "assurance")]
    pub assurance: AssuranceLevel,
    /// Who let it in.
    pub admitted_by: AdmittedBy,
    /// The people who approved, the last one last; nobody when policy admitted it.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// The enrollment it came from.
    pub enrollment: String,
    /// The evidence by which it was let in, each kind with when it was last shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Shown>,
    /// The name it takes with the first use of a certificate that has it: from its next renewal on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renaming: Option<String>,
}

/// A name that nobody has and nobody gets: a machine is being renamed to it, or was renamed from it and certificates with it
/// have not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptName {
    /// The lineage of that machine.
    pub lineage: String,
    /// When the last certificate with this name ends; absent while it is being renamed to it.
    pub until: Option<UnixSecs>,
}

impl KeptName {
    /// Whether it is kept still.
    #[must_use]
    pub fn is_kept(&self, now: UnixTime) -> bool {
        self.until.is_none_or(|until| now.secs() <= until.0)
    }
}

/// A certificate as a lineage remembers it.
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
    /// The generation of the authority when it was made: which roots its holder was given with it.
    pub generation: u64,
    /// End of validity.
    pub not_after: UnixSecs,
    /// How far the key was proven when it was made: of this key, and of no other.
    #[serde(default = "text::of_a_key", with = "assurance")]
    pub assurance: AssuranceLevel,
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
    /// For the machine's sealed services, newest last: never presented to us, and on the list when the lineage is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<CertRef>,
    /// When `current` was first used.
    pub activated: UnixSecs,
    /// The certificate that `current` took the place of then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<CertRef>,
    /// True once two holders of its key were seen.
    pub forked: bool,
    /// True once the subject was removed or left: nothing of it is valid any more.
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
    /// When its tunnel was last seen to end, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<UnixSecs>,
    /// When somebody last asked its holder to renew now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_asked: Option<UnixSecs>,
}

impl Lineage {
    /// How far the key in use is proven: that of the certificate in use, or of the first, before it was used.
    #[must_use]
    pub fn assurance(&self) -> Option<AssuranceLevel> {
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
    /// How many keys may redeem it.
    pub uses: u32,
    /// The keys that did, hex digests.
    pub redeemed: Vec<String>,
    /// Names it is for.
    pub names: Vec<String>,
    /// Labels it gives.
    pub labels: BTreeMap<String, String>,
    /// Groups it gives.
    pub groups: Vec<String>,
    /// Owner it gives.
    pub owner: Option<Owner>,
    /// The one key that may redeem it, hex digest.
    pub key: Option<String>,
    /// Who made it: a person's name, or `gateway`.
    pub by: String,
    /// The lineage of the person who made it: it is worth what they could still give.
    #[serde(default)]
    pub maker: Option<String>,
    /// When.
    pub created: UnixSecs,
    /// When it expires.
    pub expires: UnixSecs,
    /// True once revoked.
    pub revoked: bool,
}

/// What the revocation lists need of a certificate, filed by its issuing CA and its end, so that those which have not
/// expired are read without all that ever were.
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
