//! SSH certificates: what the enroll face says of the SSH CAs, and what machines and people ask for on the manage face.
//!
//! Whoever asks proves to hold the SSH key with a signature as `ssh-keygen -Y sign` makes it (OpenSSH's PROTOCOL.sshsig),
//! in the namespace of what is asked for, over [`proof_message`]: so it cannot be moved to another connection, nor be
//! taken for a signature made for anything else.

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

/// What the CA for gateways signs of a [`SshCaReply`]: who may be believed is vouched for by a CA, and not by whoever holds the
/// gateway's key for TLS. Lines, so that nothing can move from one part to another.
#[must_use]
pub fn ca_statement(trust_domain: &str, user: &[String], host: &[String]) -> Vec<u8> {
    let lines = |kind: &str, keys: &[String]| -> String { keys.iter().map(|key| format!("{kind} {key}\n")).collect() };
    format!("lychgate ssh cas\n{trust_domain}\n{}{}", lines("user", user), lines("host", host)).into_bytes()
}

/// The same with its place in the order of all that the gateway vouches for, so that an older one cannot be shown again.
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
    /// Who signs certificates of people: for `TrustedUserCAKeys`.
    pub user: Vec<String>,
    /// Who signs certificates of machines: for `@cert-authority` in `known_hosts`.
    pub host: Vec<String>,
    /// The CA for gateways, PEM.
    #[serde(default)]
    pub ca: String,
    /// Its signature over [`ca_statement`], base64, for clients that know no order.
    #[serde(default)]
    pub signature: String,
    /// The place of this among all that the gateway vouches for: whoever has heard a greater one does not take it. Zero from a
    /// gateway that knows no order, which is taken only by whoever has heard none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub order: u64,
    /// The CA's signature over [`ordered_ca_statement`], base64, when there is an order. Without the signature that belongs to it
    /// nothing of this is believed.
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
    /// Its serial number, in decimal as OpenSSH writes it: text, since 64 bits are more than some readers of JSON keep.
    pub serial: String,
    /// Its key id, which sshd logs.
    pub key_id: String,
    /// The names it is good for.
    pub principals: Vec<String>,
    /// First second of validity, seconds since the Unix epoch.
    pub not_before: u64,
    /// First second after its validity.
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
