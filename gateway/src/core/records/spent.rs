//! What evidence was used up, and for which key.

use pki::KeyDigest;
use serde::{Deserialize, Serialize};

use super::{UnixSecs, text::digest};

/// The use of another issuer's token as evidence for one key: nobody can use it for another key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentJwt {
    /// When the token ends.
    pub until: UnixSecs,
    /// The key that it was used for.
    #[serde(with = "digest")]
    pub key: KeyDigest,
}

/// The admission of a cloud's instance by a document that says nothing of a key: nobody can use it for another key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentInstance {
    /// Until when such a document of the instance counts.
    pub until: UnixSecs,
    /// The key that it was used for.
    #[serde(with = "digest")]
    pub key: KeyDigest,
}
