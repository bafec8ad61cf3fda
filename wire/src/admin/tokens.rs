//! Join tokens and invitations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `POST /v1/tokens` and `POST /v1/people/invite`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// `machine` (default) or `person`; invites say `person` by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How many keys may redeem it; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// Seconds it lives; an hour when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// Names it may be redeemed for; any when empty. `*` at the end matches any rest.
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

/// A new token. The string is shown once and kept nowhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenReply {
    /// The token record's id.
    pub id: String,
    /// The whole string for `lychgate join`.
    pub token: String,
    /// When it expires.
    pub expires: u64,
    /// What whoever made it should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A token as it is listed, without its string.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenView {
    /// Its id.
    pub id: String,
    /// `machine` or `person`.
    pub role: String,
    /// `live`, `suspended` (its maker may not make it now), `spent`, `expired` or `revoked`.
    pub state: String,
    /// Keys that may redeem it.
    pub uses: u32,
    /// Keys that did, hex digests.
    pub redeemed: Vec<String>,
    /// Names it is for.
    pub names: Vec<String>,
    /// Labels it gives.
    pub labels: BTreeMap<String, String>,
    /// Groups it gives.
    pub groups: Vec<String>,
    /// Owner it gives.
    #[serde(default)]
    pub owner: Option<String>,
    /// The one key that may redeem it.
    #[serde(default)]
    pub key: Option<String>,
    /// Who made it.
    pub by: String,
    /// When it was made.
    pub created: u64,
    /// When it expires.
    pub expires: u64,
}
