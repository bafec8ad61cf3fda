//! Join tokens and invitations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `POST /v1/tokens` and `POST /v1/people/invite`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// `machine` (default) or `person`; for an invitation always `person`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Number of keys that may redeem it; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// Validity in seconds; 3600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// Names it may be redeemed for; any when empty. A `*` at the end of a name matches every suffix.
    #[serde(default)]
    pub names: Vec<String>,
    /// Labels the machine gets.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Groups the person gets.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Owner of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Digest of the one key that may redeem it, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A new token. The gateway does not store the string.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenReply {
    /// The token record's id.
    pub id: String,
    /// The token for `lychgate join`.
    pub token: String,
    /// When it expires.
    pub expires: u64,
    /// Warnings for the person who made it, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A token as it is listed, without its string.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenView {
    /// The token record's id.
    pub id: String,
    /// `machine` or `person`.
    pub role: String,
    /// `live`, `suspended` (the policy would not let its maker make it now), `spent`, `expired` or `revoked`.
    pub state: String,
    /// Number of keys that may redeem it.
    pub uses: u32,
    /// Digests of the keys that redeemed it, hex.
    pub redeemed: Vec<String>,
    /// Names it may be redeemed for; any when empty.
    pub names: Vec<String>,
    /// Labels it gives.
    pub labels: BTreeMap<String, String>,
    /// Groups it gives.
    pub groups: Vec<String>,
    /// Owner it gives.
    #[serde(default)]
    pub owner: Option<String>,
    /// Digest of the one key that may redeem it, hex; any key when absent.
    #[serde(default)]
    pub key: Option<String>,
    /// The identity that made it.
    pub by: String,
    /// When it was made.
    pub created: u64,
    /// When it expires.
    pub expires: u64,
}
