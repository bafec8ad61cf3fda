//! The manage face as machines and people use it for their own certificates.

use serde::{Deserialize, Serialize};

use crate::enroll::Evidence;

/// `POST /v1/renew`: a CSR of a new key. The reply is an [`crate::enroll::IssuedReply`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// PKCS#10 in DER, base64.
    pub csr: String,
    /// [`SelfReply::renaming`], when the machine takes the new name with this certificate. When absent, the name does not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Evidence of the kinds in [`SelfReply::evidence`]. Without any, only possession of the new key is proven.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// The ticket of a [`crate::enroll::ChallengeReply`], with the evidence that answers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

/// `POST /v1/sealed`, for machines: a CSR of a key for the machine's sealed services. The reply is an
/// [`crate::enroll::IssuedReply`] with a server certificate that expires with the machine's own.
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
    /// True when an operator asked for a renewal after the certificate in use was issued.
    #[serde(default)]
    pub renew_now: bool,
    /// The gateway's clock, seconds since the Unix epoch.
    pub time: u64,
    /// `host:port` of the proxy face, through which people reach services of machines; absent when it is not configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The DNS name of the proxy face below which it accepts `<service>--<machine>` as server name (RFC 6066 3); absent when none is
    /// configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services_below: Option<String>,
    /// Labels on the machine, `key=value`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The new name of the machine, to be sent as [`RenewRequest::name`] when it renews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renaming: Option<String>,
    /// The owner's name, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The kinds of evidence that a renewal may carry. Empty from an older gateway, which refuses renewals that carry any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Warnings about forks and locks of machines that the caller owns or may read, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// The reply to a change that returns no record.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// Correlation id of the change, as in the audit record.
    #[serde(default)]
    pub instance: String,
}
