//! The private key of this machine or person: its files' format, its public key, and signatures. [`crate::edge::entropy`] draws it.

use std::sync::Arc;

use pki::KeyDigest;
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SigningKey as _,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// Length of an uncompressed P-256 point: 0x04 and two coordinates (SEC 1 2.3.3).
const POINT_LEN: usize = 65;

/// A P-256 private key.
#[derive(Clone)]
pub struct PrivateKey {
    pair: Arc<KeyPair>,
    digest: KeyDigest,
}

/// Why a key cannot be read, made or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants mean")]
pub enum KeyFault {
    #[error("it is not a P-256 private key in PKCS#8 PEM")]
    NotAKey,
    #[error("the crypto library refused: {0}")]
    Library(String),
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({})", self.digest.hex())
    }
}

impl PrivateKey {
    /// From the text of a key file.
    ///
    /// # Errors
    /// When it is not what [`Self::to_pem`] writes.
    pub fn from_pem(text: &str) -> Result<Self, KeyFault> {
        let pair =
            KeyPair::from_pkcs8_pem_and_sign_algo(text, &PKCS_ECDSA_P256_SHA256).map_err(|_| KeyFault::NotAKey)?;
        Self::from_pair(pair)
    }

    /// From a key pair, which [`crate::edge::entropy`] draws.
    pub(crate) fn from_pair(pair: KeyPair) -> Result<Self, KeyFault> {
        if pair.der_bytes().len() != POINT_LEN {
            return Err(KeyFault::NotAKey);
        }
        let digest = KeyDigest::from_spki_der(&pair.subject_public_key_info());
        Ok(Self { pair: Arc::new(pair), digest })
    }

    /// PKCS#8 PEM, for the key file and nothing else.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.pair.serialize_pem())
    }

    /// For rustls, which keeps its own copy.
    #[must_use]
    pub fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pair.serialize_der()))
    }

    /// PKCS#8 DER, for the proof's signer.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        self.pair.serialized_der()
    }

    /// SHA-256 of the public key: how the gateway and approvers name this key.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        self.digest
    }

    /// The two coordinates of the public point, 32 bytes each.
    #[must_use]
    pub fn coordinates(&self) -> (&[u8], &[u8]) {
        // The length was checked when the key was made.
        let point = self.pair.der_bytes();
        let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
        (x, y)
    }

    /// ECDSA over SHA-256, ASN.1 form (RFC 3279 2.2.3).
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyFault> {
        self.pair.sign(message).map_err(|e| KeyFault::Library(e.to_string()))
    }

    /// A PKCS#10 request in DER (RFC 2986) that says nothing but "this key": the gateway takes nothing else from it.
    pub fn csr(&self) -> Result<Vec<u8>, KeyFault> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(self.pair.as_ref()).map_err(|e| KeyFault::Library(e.to_string()))?;
        Ok(csr.der().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_its_file() {
        let key = crate::testing::private_key();
        let again = PrivateKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.digest(), key.digest());
        assert_eq!(again.coordinates().0.len(), 32);
        assert_eq!(again.coordinates(), key.coordinates());
    }

    #[test]
    fn other_files_are_refused() {
        for text in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "key"] {
            assert_eq!(PrivateKey::from_pem(text).unwrap_err(), KeyFault::NotAKey);
        }
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        assert_eq!(PrivateKey::from_pem(&other).unwrap_err(), KeyFault::NotAKey);
    }

    #[test]
    fn csr_proves_the_key_and_says_nothing_else() {
        let key = crate::testing::private_key();
        let csr = pki::csr::verify(&key.csr().unwrap()).unwrap();
        assert_eq!(csr.key().digest(), key.digest());
    }

    #[test]
    fn signature_verifies_with_the_public_key() {
        let key = crate::testing::private_key();
        let public = pki::csr::verify(&key.csr().unwrap()).unwrap().into_key();
        let signature = key.sign(b"message").unwrap();
        assert!(public.verify(b"message", &signature).is_ok());
        assert!(public.verify(b"other", &signature).is_err());
    }

    #[test]
    fn debug_shows_the_digest_only() {
        let key = crate::testing::private_key();
        assert_eq!(format!("{key:?}"), format!("PrivateKey({})", key.digest().hex()));
    }
}
