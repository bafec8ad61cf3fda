//! Evidence of kind `read-back`: the machine's owner writes a text of the gateway where the gateway can read it.

use serde::{Deserialize, Serialize};

/// Evidence kind of a text that the gateway reads back.
pub const READ_BACK: &str = "read-back";

/// Body of the evidence of kind `read-back`, as JSON, in each round: there is nothing in it. The request has the name that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadBackEvidence {}

/// Its challenge, as JSON. The same again means that the text was not there yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBackChallenge {
    /// What the owner writes: letters, digits, `-` and `_`.
    pub text: String,
    /// Where: one of these places. For people.
    pub places: Vec<String>,
    /// The gateway reads a place again after this many seconds.
    pub seconds: u64,
}
