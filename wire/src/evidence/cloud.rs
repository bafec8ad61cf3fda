//! Evidence of kind `cloud`: a document by which a cloud says which of its instances a machine is. In two rounds: the machine says which
//! documents it can get, and the gateway which one it wants, with a nonce.

use serde::{Deserialize, Serialize};

/// Evidence kind of a document of a cloud.
pub const CLOUD: &str = "cloud";

/// A document by AWS's Nitro hypervisor: of an instance with a NitroTPM, or of an enclave.
pub const CLOUD_AWS_NITRO: &str = "aws-nitro";

/// The instance identity document of AWS, with its RSA-2048 signature.
pub const CLOUD_AWS_IDENTITY: &str = "aws-identity";

/// The attested document of Azure.
pub const CLOUD_AZURE_ATTESTED: &str = "azure-attested";

/// Length of the nonce, in bytes.
pub const CLOUD_NONCE_LEN: usize = 32;

/// Length of a nonce for Azure, in characters, which is the most that it takes.
pub const CLOUD_AZURE_NONCE_LEN: usize = 32;

/// Body of the evidence of kind `cloud`, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudEvidence {
    /// The documents that the machine can get, by the names above.
    pub has: Vec<String>,
    /// In the second round: the document that was asked for; base64, standard alphabet, padded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
}

/// The challenge, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudChallenge {
    /// Which of the documents is wanted.
    pub document: String,
    /// Random, [`CLOUD_NONCE_LEN`] bytes; base64, standard alphabet, padded.
    pub nonce: String,
}

/// Domain separation: prefix of [`cloud_azure_message`].
pub const CLOUD_CONTEXT: &[u8] = b"lychgate cloud v1\0";

/// The nonce for Azure is the beginning of the SHA-256 of this, in hex: so a document is of a challenge and for a key, although Azure
/// puts nothing else into it that the machine could choose.
#[must_use]
pub fn cloud_azure_message(nonce: &[u8], new_key: &[u8; 32]) -> Vec<u8> {
    [CLOUD_CONTEXT, nonce, new_key].concat()
}
