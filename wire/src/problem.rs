//! Errors as `application/problem+json` (RFC 9457).

use serde::{Deserialize, Serialize};

/// The media type of [`Problem`].
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// The prefix of [`Problem::kind`]; the rest is a stable code such as `denied` or `token-expired`.
pub const PROBLEM_PREFIX: &str = "urn:lychgate:error:";

/// One error, for a program (`type`) and for a person (`detail`, `hint`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:lychgate:error:<code>`; codes are documented and stable.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code as a short English phrase.
    pub title: String,
    /// The HTTP status, repeated (RFC 9457 3.1.2).
    pub status: u16,
    /// What happened to this request.
    #[serde(default)]
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Correlation id, the same in the gateway's log and audit record.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// Seconds to wait before trying again, as in the `Retry-After` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The policy rules that decided, where the caller may know them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
}

impl Problem {
    /// The code without its prefix, or all of `type` when it lacks [`PROBLEM_PREFIX`].
    #[must_use]
    pub fn code(&self) -> &str {
        self.kind.strip_prefix(PROBLEM_PREFIX).unwrap_or(&self.kind)
    }
}
