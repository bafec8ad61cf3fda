//! The enroll face: requests of clients without a certificate, and the replies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /v1/gateway`. Nothing in it is secret; a client must not trust any of it before it has compared the root with a pin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GatewayInfo {
    /// The trust domain this gateway issues for.
    pub trust_domain: String,
    /// SHA-256 of the root's public key (SPKI), in hex: the pin.
    pub pin: String,
    /// The gateway's clock, seconds since the Unix epoch.
    pub time: u64,
    /// `host:port` of the manage face.
    pub manage: String,
    /// Version of the gateway's software.
    pub version: String,
    /// The kinds of evidence that it accepts.
    #[serde(default)]
    pub evidence: Vec<String>,
}

/// One piece of evidence. A message with an unknown `kind` still decodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The kind of the attestor that reads `body`.
    pub kind: String,
    /// Its form is defined by the attestor.
    pub body: String,
}

/// `POST /v1/enrollments`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// PKCS#10 in DER, base64 (standard alphabet, padded).
    pub csr: String,
    /// The name the requester asks for. The gateway may assign another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_name: Option<String>,
    /// At most [`crate::limits::EVIDENCE_MAX`] pieces.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// The ticket of a [`ChallengeReply`], with the evidence that answers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Attributes that the machine reports of itself; shown to approvers as claimed, never as verified.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// The pin of the root by which the requester identified this gateway, hex, when it differs from [`GatewayInfo::pin`]: the
    /// waiting code is computed from it. The gateway ignores a pin that belongs to none of its roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
}

/// What one attestor asks. A client ignores members it does not know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EvidenceChallenge {
    /// The attestor's kind.
    pub kind: String,
    /// Its form is defined by the attestor.
    pub body: String,
}

/// An attestor's challenge (`401` of an enrollment or a renewal). The client sends the request again with the ticket, on any
/// connection; each piece of evidence that was challenged is replaced by its answer, the other pieces are repeated.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChallengeReply {
    /// One for each attestor that challenges: its kind, and a body that the client's prover of that kind reads.
    pub challenges: Vec<EvidenceChallenge>,
    /// The attestors' state, encrypted by the gateway. Valid for this key, and for one use.
    pub ticket: String,
    /// The last second of the ticket's validity, seconds since the Unix epoch.
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
    /// Cross certificates, PEM: for the key of each root in the bundle that the client may not hold yet, a certificate issued by an
    /// older root. A client does not accept a new root without one.
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
    /// Grows with each statement of the gateway: a client that has accepted a greater number keeps its roots and address. So does a
    /// client that receives zero, which comes from a gateway that does not support it.
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
    /// Seconds to wait before polling, when the client does not use the long poll.
    pub poll_after: u64,
    /// 16 bytes in hex, from which the client computes the waiting code together with its own key and the root's pin
    /// (`pki::code`). The gateway draws them after it has recorded the key.
    pub nonce: String,
    /// When the request lapses, seconds since the Unix epoch.
    pub expires: u64,
    /// Number of approvals still missing, when the policy requires more than one.
    #[serde(default)]
    pub approvals_missing: u32,
    /// The gateway's clock, seconds since the Unix epoch.
    pub time: u64,
}
