//! Store keys of all records. One function per kind, so that the layout is in one place.

use pki::{KeyDigest, Role, Serial};

use super::records::{CertificateEnd, LockKind, UnixSecs};

/// Prefix of enrollments, by id.
pub const ENROLLMENTS: &str = "enr/";
/// Prefix of the index of enrollments that wait for a person.
pub const WAITING: &str = "waiting/";
/// Prefix of the queue numbers of waiting requests.
pub const QUEUE_NUMBERS: &str = "queue/";
/// Prefix of tokens.
pub const TOKENS: &str = "token/";
/// Prefix of locks.
pub const LOCKS: &str = "lock/";
/// Prefix of audit events.
pub const AUDIT: &str = "audit/";
/// Prefix of certificates.
pub const CERTIFICATES: &str = "cert/";
/// Prefix of certificates by issuing CA and end.
pub const CERTIFICATE_ENDS: &str = "certend/";
/// Prefix of the index of enrollments by key.
pub const ENROLLMENT_KEYS: &str = "enrkey/";
/// Prefix of machines and people.
pub const SUBJECTS: &str = "subject/";
/// Prefix of the index of machines by their owner's name.
pub const OWNED: &str = "owned/";
/// Prefix of names that are reserved for a machine during a renaming.
pub const KEPT_NAMES: &str = "name/";
/// Prefix of the last reported runs of configuration tools, by machine.
pub const CONVERGENCES: &str = "convergence/";
/// Prefix of open tunnels, by machine.
pub const TUNNELS: &str = "tunnel/";
/// Prefix of lineages.
pub const LINEAGES: &str = "lineage/";
/// Prefix of the numbers of revocation lists.
pub const LAST_LISTS: &str = "meta/crl/";
/// The lock epoch: incremented with every change of a lock, never decremented.
pub const EPOCH: &str = "meta/epoch";
/// The digest of the policy that a gateway loaded last.
pub const POLICY: &str = "meta/policy";
/// The `order` in the signed gateway information: incremented with every start and reload.
pub const ORDER: &str = "meta/order";
/// The leader of a store and the start of its term, under its lease.
pub const LEAD: &str = "meta/lead";
/// When all machines were last asked to renew now: one record for all of them.
pub const RENEW_MACHINES: &str = "meta/renew-machines";
/// The clock record ([`super::timekeeping::ClockNote`]).
pub const CLOCK: &str = "meta/clock";

/// `enr/<id>`.
#[must_use]
pub fn enrollment(id: &str) -> String {
    format!("{ENROLLMENTS}{id}")
}

/// `enrkey/<key digest>`: the id of the key's enrollment.
#[must_use]
pub fn enrollment_of_key(key: &KeyDigest) -> String {
    format!("{ENROLLMENT_KEYS}{}", key.hex())
}

/// `waiting/<id>`.
#[must_use]
pub fn waiting(id: &str) -> String {
    format!("{WAITING}{id}")
}

/// A number in the queue, of the entire queue or of one network.
#[must_use]
pub fn queue_number(number: &str) -> String {
    format!("{QUEUE_NUMBERS}{number}")
}

/// Prefix of all machines or all people.
#[must_use]
pub fn subjects(role: Role) -> String {
    format!("{SUBJECTS}{}/", role.as_str())
}

/// A machine or person by name.
#[must_use]
pub fn subject(role: Role, name: &str) -> String {
    format!("{SUBJECTS}{}/{name}", role.as_str())
}

/// Inverse of [`subject`].
#[must_use]
pub fn subject_of(key: &str) -> Option<(Role, &str)> {
    let (role, name) = key.strip_prefix(SUBJECTS)?.split_once('/')?;
    Some((Role::parse(role).ok()?, name))
}

/// Prefix of the machines whose owner has this name.
#[must_use]
pub fn owned_by(owner: &str) -> String {
    format!("{OWNED}{owner}/")
}

/// A machine's entry in the index by owner.
#[must_use]
pub fn owned(owner: &str, machine: &str) -> String {
    format!("{}{machine}", owned_by(owner))
}

/// A name that is reserved for a machine during a renaming.
#[must_use]
pub fn kept_name(role: Role, name: &str) -> String {
    format!("{KEPT_NAMES}{}/{name}", role.as_str())
}

/// The last run of a configuration tool that was reported of a machine.
#[must_use]
pub fn convergence(machine: &str) -> String {
    format!("{CONVERGENCES}{machine}")
}

/// The open tunnel of a machine.
#[must_use]
pub fn tunnel(machine: &str) -> String {
    format!("{TUNNELS}{machine}")
}

/// Inverse of [`tunnel`]: the machine's name.
#[must_use]
pub fn tunnel_of(key: &str) -> Option<&str> {
    key.strip_prefix(TUNNELS)
}

/// A lineage by its id.
#[must_use]
pub fn lineage(id: &str) -> String {
    format!("{LINEAGES}{id}")
}

/// A certificate by its serial.
#[must_use]
pub fn certificate(serial: &Serial) -> String {
    format!("{CERTIFICATES}{}", serial.hex())
}

/// Prefix of records about the use of stale certificates as evidence, by lineage.
pub const STALE: &str = "stale/";

/// The last use of a stale certificate of this lineage as evidence.
#[must_use]
pub fn stale(lineage: &str) -> String {
    format!("{STALE}{lineage}")
}

/// Prefix of devices, by the claim that says which one it is.
pub const DEVICES: &str = "device/";

/// A device, by the claim that says which one it is and the SHA-256 of the claim's value, which may be any text.
#[must_use]
pub fn device(claim: &str, value: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, value.as_bytes());
    format!("{DEVICES}{claim}/{}", hex::encode(hash))
}

/// Prefix of notes that a device counted less than before, by lineage.
pub const COUNTED_BACK: &str = "counted-back/";

/// The last such note about a lineage.
#[must_use]
pub fn counted_back(lineage: &str) -> String {
    format!("{COUNTED_BACK}{lineage}")
}

/// Prefix of used tickets.
pub const TICKETS: &str = "ticket/";

/// Prefix of used tokens of other issuers.
pub const SPENT_JWTS: &str = "jwt/";

/// The record that a token of another issuer was used, by the digest of what is signed in it.
#[must_use]
pub fn spent_jwt(digest: &[u8; 32]) -> String {
    format!("{SPENT_JWTS}{}", hex::encode(digest))
}

/// Prefix of instances of clouds that were admitted by a document that says nothing of a key.
pub const SPENT_INSTANCES: &str = "instance/";

/// The record of that, by the SHA-256 of the claim that says which instance it is.
#[must_use]
pub fn spent_instance(device: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, device.as_bytes());
    format!("{SPENT_INSTANCES}{}", hex::encode(hash))
}

/// The record that a ticket was used, by its id.
#[must_use]
pub fn ticket(id: &[u8; 16]) -> String {
    format!("{TICKETS}{}", hex::encode(id))
}

/// A token by its id.
#[must_use]
pub fn token(id: &str) -> String {
    format!("{TOKENS}{id}")
}

/// A lock by kind and target.
#[must_use]
pub fn lock(kind: LockKind, target: &str) -> String {
    format!("{LOCKS}{}/{target}", kind.as_str())
}

/// Inverse of [`lock`].
#[must_use]
pub fn locked(key: &str) -> Option<(LockKind, String)> {
    let (kind, target) = key.strip_prefix(LOCKS)?.split_once('/')?;
    Some((LockKind::parse(kind)?, Some(target).filter(|target| !target.is_empty())?.to_owned()))
}

/// Inverse of [`certificate_end`]: issuing CA, `notAfter` and serial.
#[must_use]
pub fn certificate_ending(key: &str) -> Option<(KeyDigest, UnixSecs, Serial)> {
    let mut parts = key.strip_prefix(CERTIFICATE_ENDS)?.split('/');
    let issuer = KeyDigest::parse_hex(parts.next()?).ok()?;
    let end = u64::from_str_radix(parts.next()?, 16).ok()?;
    Some((issuer, UnixSecs(end), Serial::parse_hex(parts.next()?).ok()?))
}

/// Prefix of the certificates of one issuing CA by their end.
#[must_use]
pub fn certificate_ends(issuer: &KeyDigest) -> String {
    format!("{CERTIFICATE_ENDS}{}/", issuer.hex())
}

/// The key to start a scan at, for the certificates of one issuing CA that end at this time or later.
#[must_use]
pub fn ending_from(issuer: &KeyDigest, not_after: UnixSecs) -> String {
    format!("{}{:016x}/", certificate_ends(issuer), not_after.0)
}

/// A certificate in the index by issuing CA and end.
#[must_use]
pub fn certificate_end(cert: &CertificateEnd) -> String {
    format!("{}{}", ending_from(&cert.issuer, cert.not_after), cert.serial.hex())
}

/// The number and time of the newest revocation list of an issuing CA.
#[must_use]
pub fn last_list(issuer: &KeyDigest) -> String {
    format!("{LAST_LISTS}{}", issuer.hex())
}

/// An audit event: ordered by time, with random bytes so that events of the same millisecond have different keys.
#[must_use]
pub fn audit(at_ms: u64, tie: [u8; 6]) -> String {
    format!("{AUDIT}{at_ms:013x}{}", hex::encode(tie))
}
