//! Evidence of kind `x509`: a certificate of another CA, whose key signs for the key to be certified.

use serde::{Deserialize, Serialize};

/// Evidence kind of a signature by the key of another CA's certificate.
pub const X509: &str = "x509";

/// Body of the evidence of kind `x509`, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct X509Evidence {
    /// The certificate, and then those of the CAs above it, PEM. The anchor may be left out.
    pub certificates: String,
    /// base64 (standard alphabet, padded) of the signature over [`x509_message`] by the key of the first certificate: RSA PKCS#1 v1.5
    /// with SHA-256; ECDSA in ASN.1 with SHA-256 (P-256), SHA-384 (P-384) or SHA-512 (P-521); or Ed25519.
    pub signature: String,
}

/// What the key signs: four lines that bind it to the gateway, to this connection and to the key to be certified.
#[must_use]
pub fn x509_message(trust_domain: &str, exporter: &[u8; 32], new_key: &[u8; 32]) -> Vec<u8> {
    super::bound_lines(X509, trust_domain, exporter, new_key)
}
