//! The enroll face: what an unknown machine says and is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /v1/gateway`: who this gateway is. Nothing in it is secret, and nothing in it is to be trusted before the root
/// has been compared with a pin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GatewayInfo {
    /// The trust domain this gateway issues for.
    pub trust_domain: String,
    /// SHA-256 of the root's public key (SPKI), in hex: the pin.
    pub pin: String,
    /// Seconds since the Unix epoch by the gateway's clock.
    pub time: u64,
    /// `host:port` of the manage face.
    pub manage: String,
    /// Version of the gateway's software.
    pub version: String,
    /// The kinds of evidence that it takes.
    #[serde(default)]
    pub evidence: Vec<String>,
}

/// One piece of evidence. An unknown `kind` is a value, not a decoding error.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// The attestor that understands `body`.
    pub kind: String,
    /// Opaque to everything but that attestor.
    pub body: String,
}

/// `POST /v1/enrollments`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// PKCS#10 in DER, base64 (standard alphabet, padded).
    pub csr: String,
    /// The name the requester would like; the gateway decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_name: Option<String>,
    /// What to be believed by.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// The ticket of a [`ChallengeReply`], with the evidence that answers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// What the machine says about itself; shown to approvers as claimed, never as verified.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// The pin of the root by which the requester knows this gateway, hex, when it is another than [`GatewayInfo::pin`]: the
    /// waiting code is made with it. One that is none of the gateway's counts as absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
}

/// An attestor asks back (`401` of an enrollment or a renewal). The same request is sent again, with the answers in the places of the
/// evidence that was asked about, the other pieces as before, and the ticket; on this connection or another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChallengeReply {
    /// Who asks, and what: the kind of each, and what only its prover understands.
    pub challenges: Vec<Evidence>,
    /// What the attestors keep, sealed. It holds for this key, and once.
    pub ticket: String,
    /// The last second in which the ticket holds, seconds since the Unix epoch.
    pub expires: u64,
    /// The gateway's clock, seconds since the Unix epoch.
    pub time: u64,
}

/// A certificate and everything needed to use and renew it (`201` of an enrollment or its poll, `200` of a renewal).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IssuedReply {
    /// The enrollment, or for a renewal the lineage, this belongs to.
    pub id: String,
    /// The SPIFFE ID in the certificate.
    pub identity: String,
    /// The leaf, PEM.
    pub certificate: String,
    /// The issuing CA, PEM, to be sent along with the leaf.
    pub chain: String,
    /// The trusted roots, PEM.
    pub bundle: String,
    /// For a root in the bundle that its reader may not hold yet: a certificate for that root's key, made by an older root, PEM. A
    /// root that nobody vouches for is not taken.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cross: String,
    /// The leaf's serial number, hex.
    pub serial: String,
    /// Start of validity, seconds since the Unix epoch.
    pub not_before: u64,
    /// End of validity, seconds since the Unix epoch.
    pub not_after: u64,
    /// Earliest time to renew, seconds since the Unix epoch.
    pub renew_after: u64,
    /// Time by which renewal should have succeeded, seconds since the Unix epoch.
    pub renew_by: u64,
    /// `host:port` of the manage face.
    pub manage: String,
    /// The place of this among all that the gateway vouches for: whoever has heard a greater one takes nothing of it. Zero from a
    /// gateway that knows no order: then its holder goes on believing the roots and the address that it has.
    #[serde(default)]
    pub order: u64,
    /// The gateway's clock, seconds since the Unix epoch.
    pub time: u64,
}

/// The requester must wait for a person (`202`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WaitingReply {
    /// The enrollment's id; poll `GET /v1/enrollments/<id>`.
    pub id: String,
    /// Seconds to wait before polling, when the poll is not a long one.
    pub poll_after: u64,
    /// Hex of the 16 bytes from which, with its own key and the root's pin, the client works out the waiting code it
    /// shows (`pki::code`). The gateway draws them after the key is recorded.
    pub nonce: String,
    /// When the request lapses, seconds since the Unix epoch.
    pub expires: u64,
    /// Approvals still wanted, when more than one person must agree.
    #[serde(default)]
    pub approvals_missing: u32,
    /// The gateway's clock, seconds since the Unix epoch.
    pub time: u64,
}

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

/// What precedes the exporter in the bytes that the old key signs, so that the signature can mean nothing else.
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

/// What a client reads from a join token without being able to check it: where to go and whom to expect there. The
/// gateway checks the signature.
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
