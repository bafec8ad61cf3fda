//! The manage face as a machine or person uses it for itself.

use serde::{Deserialize, Serialize};

use crate::enroll::Evidence;

/// `POST /v1/renew`: a CSR by a new key. The reply is an [`crate::enroll::IssuedReply`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// PKCS#10 in DER, base64.
    pub csr: String,
    /// The name that [`SelfReply::renaming`] told, by whoever takes it from now on. Without it the certificate has the name of the
    /// one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What to be believed by now, of the kinds in [`SelfReply::evidence`]. Without it nothing but the new key is proven.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// The ticket of a [`crate::enroll::ChallengeReply`], with the evidence that answers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

/// `POST /v1/sealed`, for machines: a CSR by a key for the machine's sealed services. The reply is an
/// [`crate::enroll::IssuedReply`] with a leaf for servers, that ends with the machine's certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRequest {
    /// PKCS#10 in DER, base64.
    pub csr: String,
}

/// `GET /v1/self`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SelfReply {
    /// The caller's SPIFFE ID.
    pub identity: String,
    /// The lineage its certificate belongs to.
    pub lineage: String,
    /// The serial of the certificate in use, hex.
    pub serial: String,
    /// End of validity, seconds since the Unix epoch.
    pub not_after: u64,
    /// Earliest time to renew, seconds since the Unix epoch.
    pub renew_after: u64,
    /// True when the certificate in use is older than the last time somebody asked for a renewal.
    #[serde(default)]
    pub renew_now: bool,
    /// The gateway's clock, seconds since the Unix epoch.
    pub time: u64,
    /// `host:port` of the proxy face, by which people reach the services of machines; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The DNS name of the proxy face below which `<service>--<machine>` is understood (RFC 6066 3); absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services_below: Option<String>,
    /// Labels on the machine, `key=value`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The name that the machine is to take: to be said when it renews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renaming: Option<String>,
    /// The owner's name, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The kinds of evidence that a renewal may carry. An older gateway says nothing of it, and refuses renewals with any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// What the caller should know: forks and locks of machines it owns or may read. Each is one line of text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// A reply with nothing to say but that it was done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// Correlation id of the change, to be found in the audit.
    #[serde(default)]
    pub instance: String,
}
