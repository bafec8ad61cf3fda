//! What a client signs or carries to be believed, whatever protocol brings it: proofs of possession, join tokens, and the bodies of
//! evidence. The gateway's decisions read these texts as they are.

mod cloud;
mod jwt;
mod read_back;
mod ssh_host_key;
mod tpm;
mod x509;

use serde::{Deserialize, Serialize};

pub use self::cloud::*;
pub use self::jwt::*;
pub use self::read_back::*;
pub use self::ssh_host_key::*;
pub use self::tpm::*;
pub use self::x509::*;

/// Body of the evidence of kind `prior-certificate`, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorCertificate {
    /// The expired leaf, PEM; its issuing CA may follow.
    pub certificate: String,
    /// base64url signature by the old key over [`PRIOR_CERTIFICATE_CONTEXT`], the TLS exporter (32 bytes) and the new
    /// key's digest (32 bytes).
    pub signature: String,
}

/// Domain separation: prefix of the bytes that the old key signs.
pub const PRIOR_CERTIFICATE_CONTEXT: &[u8] = b"lychgate prior-certificate v1\0";

/// Evidence kind of a join token.
pub const JOIN_TOKEN: &str = "join-token";

/// Evidence kind of an expired certificate with its key.
pub const PRIOR_CERTIFICATE: &str = "prior-certificate";

/// The header that carries the proof of possession (RFC 9449 4.1).
pub const PROOF_HEADER: &str = "DPoP";

/// The `typ` of the proof (RFC 9449 4.2).
pub const PROOF_TYPE: &str = "dpop+jwt";

/// Label of the TLS exporter that binds a proof to its connection (RFC 9266 4).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// The claims of a proof (RFC 9449 4.2, with `exporter` in the place of a nonce).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProofClaims {
    /// Unique id of this proof.
    pub jti: String,
    /// When it was made, seconds since the Unix epoch, by the gateway's clock as the client knows it.
    pub iat: u64,
    /// The HTTP method.
    pub htm: String,
    /// The URL without query and fragment.
    pub htu: String,
    /// base64url of the connection's exporter value.
    pub exporter: String,
}

/// The claims of a join token. The client uses gateway and pin and cannot check the signature, which the gateway does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenClaims {
    /// The gateway's SPIFFE trust domain, as `spiffe://<td>`.
    pub iss: String,
    /// Always [`JOIN_TOKEN_AUDIENCE`].
    pub aud: String,
    /// The token record's id.
    pub jti: String,
    /// When it was made, seconds since the Unix epoch.
    pub iat: u64,
    /// Start of validity, seconds since the Unix epoch.
    pub nbf: u64,
    /// End of validity, seconds since the Unix epoch.
    pub exp: u64,
    /// `host:port` of the enroll face.
    pub gateway: String,
    /// The root's pin, hex.
    pub pin: String,
    /// `machine` or `person`.
    pub role: String,
}

/// The audience of every join token.
pub const JOIN_TOKEN_AUDIENCE: &str = "lychgate-join";

/// Four lines for a key to sign that is not the one to be certified.
fn bound_lines(kind: &str, trust_domain: &str, exporter: &[u8; 32], new_key: &[u8; 32]) -> Vec<u8> {
    let hex = |bytes: &[u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (exporter, key) = (hex(exporter), hex(new_key));
    format!("lychgate {kind} v1\ntrust-domain {trust_domain}\nconnection {exporter}\nkey {key}\n").into_bytes()
}
