//! SSH certificates: the public keys of the SSH CAs (enroll face), and the requests of machines and people for certificates
//! (manage face).
//!
//! A requester proves possession of its SSH key by a signature of the form that `ssh-keygen -Y sign` makes (OpenSSH's
//! PROTOCOL.sshsig) over [`proof_message`]. The message binds the signature to one connection, and the namespace to one
//! kind of certificate.

use serde::{Deserialize, Serialize};

/// The namespace of the proof for `POST /v1/ssh/host`.
pub const HOST_NAMESPACE: &str = "lychgate-host-key@v1";

/// The namespace of the proof for `POST /v1/ssh/user`.
pub const USER_NAMESPACE: &str = "lychgate-user-key@v1";

/// What the SSH key signs: `lychgate ssh key`, a zero byte, and the connection's exporter value in lower-case hex.
#[must_use]
pub fn proof_message(exporter: &[u8; 32]) -> Vec<u8> {
    let mut message = b"lychgate ssh key\0".to_vec();
    for byte in exporter {
        message.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    message
}

/// The part of a [`SshCaReply`] that the CA for gateways signs: possession of the gateway's TLS key is not enough to name the SSH
/// CAs. Each field is a line of its own, so that no text can move from one field to another.
#[must_use]
pub fn ca_statement(trust_domain: &str, user: &[String], host: &[String]) -> Vec<u8> {
    let lines = |kind: &str, keys: &[String]| -> String { keys.iter().map(|key| format!("{kind} {key}\n")).collect() };
    format!("lychgate ssh cas\n{trust_domain}\n{}{}", lines("user", user), lines("host", host)).into_bytes()
}

/// [`ca_statement`] followed by the [`SshCaReply::order`], so that an older statement cannot be replayed.
#[must_use]
pub fn ordered_ca_statement(trust_domain: &str, order: u64, user: &[String], host: &[String]) -> Vec<u8> {
    let mut statement = format!("lychgate ssh cas in order\n{order}\n").into_bytes();
    statement.extend(ca_statement(trust_domain, user, host));
    statement
}

/// `GET /v1/ssh/ca` on the enroll face: the public keys of the SSH CAs, each as a line of a `.pub` file. Several while one
/// replaces another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshCaReply {
    /// The trust domain.
    pub trust_domain: String,
    /// CAs that sign certificates of people: for `TrustedUserCAKeys`.
    pub user: Vec<String>,
    /// CAs that sign certificates of machines: for `@cert-authority` in `known_hosts`.
    pub host: Vec<String>,
    /// The CA for gateways, PEM.
    #[serde(default)]
    pub ca: String,
    /// The CA's signature over [`ca_statement`], base64, for clients that do not know `order`.
    #[serde(default)]
    pub signature: String,
    /// Grows with each statement of the gateway: a client that has accepted a greater number rejects this one. Zero comes from a
    /// gateway that does not support it, and is accepted only by a client that has never accepted another number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub order: u64,
    /// The CA's signature over [`ordered_ca_statement`], base64. Required when `order` is not zero; without it the client rejects
    /// the reply.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ordered_signature: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(order: &u64) -> bool {
    *order == 0
}

/// `POST /v1/ssh/host` by a machine, `POST /v1/ssh/user` by a person.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshRequest {
    /// The key to be certified, as a line of a `.pub` file.
    pub public_key: String,
    /// The proof, as `ssh-keygen -Y sign` writes it.
    pub signature: String,
}

/// An SSH certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshReply {
    /// The certificate, as a line of a `-cert.pub` file.
    pub certificate: String,
    /// The serial number in decimal, as OpenSSH writes it. A string, because some JSON readers do not keep 64 bits of a number.
    pub serial: String,
    /// The key id, which sshd logs.
    pub key_id: String,
    /// Login names of a user certificate, host names of a host certificate.
    pub principals: Vec<String>,
    /// First second of validity, seconds since the Unix epoch.
    pub not_before: u64,
    /// First second after its validity, seconds since the Unix epoch.
    pub not_after: u64,
    /// The public key of the CA that signed it, as a line of a `.pub` file.
    pub ca: String,
    /// The gateway's clock, seconds since the Unix epoch.
    pub time: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_connection() {
        let mut exporter = [0; 32];
        exporter[0] = 0xab;
        let want = format!("lychgate ssh key\0ab{}", "0".repeat(62));
        assert_eq!(proof_message(&exporter), want.as_bytes());
    }
}
