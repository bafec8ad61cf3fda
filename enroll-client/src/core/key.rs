//! The private key of this machine or person: its files' format, its public key, and signatures. [`crate::edge::entropy`] draws it, or
//! a TPM makes it and keeps it.

use std::cell::Cell;
use std::sync::Arc;

use pki::KeyDigest;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tpm::KeyFile;
use zeroize::Zeroizing;

use super::attestation::KeyPlace;
use crate::text::report::{Complaint, Exit};

/// Length of an uncompressed P-256 point: 0x04 and two coordinates (SEC 1 2.3.3).
const POINT_LEN: usize = 65;

/// Bytes of a coordinate of a point on P-256.
const COORDINATE_LEN: usize = 32;

/// A P-256 private key.
#[derive(Clone)]
pub struct PrivateKey {
    held: Held,
    digest: KeyDigest,
}

/// Where it is.
#[derive(Clone)]
enum Held {
    Here(Arc<KeyPair>),
    InTpm(Arc<dyn HeldKey>),
}

/// A key in a TPM, and the way to it.
pub trait HeldKey: Send + Sync {
    /// What this TPM alone can use.
    fn file(&self) -> &KeyFile;

    /// As [`PrivateKey::sign`].
    ///
    /// # Errors
    /// When the TPM is not there, is another one, or fails.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyFault>;
}

/// Why a key cannot be read, made or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants mean")]
pub enum KeyFault {
    #[error("it is not a P-256 private key in PKCS#8 PEM")]
    NotAKey,
    #[error("the crypto library refused: {0}")]
    Library(String),
    /// Only a person can change that.
    #[error("the private key is in a TPM, and not in one of this machine: {0}")]
    Elsewhere(String),
    #[error("the TPM with the private key fails: {0}")]
    Tpm(String),
    #[error("the TPM makes none: {0}")]
    NotMade(String),
}

impl KeyFault {
    /// Whether the same may succeed later without any change by a person.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Tpm(_) => true,
            Self::NotAKey | Self::Library(_) | Self::Elsewhere(_) | Self::NotMade(_) => false,
        }
    }
}

impl From<KeyFault> for Complaint {
    fn from(fault: KeyFault) -> Self {
        let what = fault.to_string();
        match fault {
            KeyFault::NotAKey | KeyFault::Library(_) => Self::new(Exit::Failure, "key", what),
            KeyFault::Elsewhere(_) => Self::new(Exit::Failure, "key-elsewhere", what).hint(
                "if the folder is a copy, only the machine that it is of can use it; if that machine's TPM was cleared or replaced, the \
                 key is gone: `lychgate leave --local`, then join again",
            ),
            KeyFault::Tpm(_) => Self::new(Exit::Failure, "tpm", what)
                .hint("try again; `lychgate tpm info` says whether the TPM answers"),
            KeyFault::NotMade(_) => {
                Self::new(Exit::Failure, "tpm", what).hint("join with `--key file`: the TPM can still prove the machine")
            }
        }
    }
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
    /// When it is not what [`Self::to_pem`] writes of a key that is in no TPM.
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
        Ok(Self { held: Held::Here(Arc::new(pair)), digest })
    }

    /// A key that a TPM holds.
    #[must_use]
    pub fn in_tpm(key: Arc<dyn HeldKey>) -> Self {
        let spki = PublicPoint(key.file().point()).subject_public_key_info();
        Self { digest: KeyDigest::from_spki_der(&spki), held: Held::InTpm(key) }
    }

    /// Where it is. One in a TPM takes as long as that to sign, a second perhaps, and its caller must be a thread that may block.
    #[must_use]
    pub const fn place(&self) -> KeyPlace {
        match self.held {
            Held::Here(_) => KeyPlace::File,
            Held::InTpm(_) => KeyPlace::Tpm,
        }
    }

    /// What its TPM can use, if it is in one.
    #[must_use]
    pub fn file(&self) -> Option<&KeyFile> {
        match &self.held {
            Held::Here(_) => None,
            Held::InTpm(key) => Some(key.file()),
        }
    }

    /// For the key file and nothing else: PKCS#8 in PEM, or a TPM's key (`TSS2 PRIVATE KEY`).
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(match &self.held {
            Held::Here(pair) => pair.serialize_pem(),
            Held::InTpm(key) => pki::to_pem(tpm::keyfile::LABEL, &key.file().der()),
        })
    }

    /// PKCS#8 for rustls, which keeps its own copy; `None` of a key in a TPM.
    #[must_use]
    pub fn to_der(&self) -> Option<PrivateKeyDer<'static>> {
        match &self.held {
            Held::Here(pair) => Some(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()))),
            Held::InTpm(_) => None,
        }
    }

    /// SHA-256 of the public key: how the gateway and approvers name this key.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        self.digest
    }

    fn point(&self) -> &[u8] {
        match &self.held {
            Held::Here(pair) => pair.der_bytes(),
            Held::InTpm(key) => key.file().point(),
        }
    }

    /// The two coordinates of the public point, 32 bytes each.
    #[must_use]
    pub fn coordinates(&self) -> (&[u8], &[u8]) {
        // The length was checked when the key was made.
        let (x, y) = self.point().get(1..).unwrap_or_default().split_at_checked(COORDINATE_LEN).unwrap_or_default();
        (x, y)
    }

    /// ECDSA over SHA-256, ASN.1 form (RFC 3279 2.2.3).
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyFault> {
        match &self.held {
            Held::Here(pair) => pair.sign(message).map_err(|e| KeyFault::Library(e.to_string())),
            Held::InTpm(key) => key.sign(message),
        }
    }

    /// ECDSA over SHA-256, the form of JWS: two numbers of 32 bytes (RFC 7518 3.4).
    pub fn sign_for_jws(&self, message: &[u8]) -> Result<Vec<u8>, KeyFault> {
        let signature = pki::jws_of_p256(&self.sign(message)?).map_err(|e| KeyFault::Library(e.to_string()))?;
        Ok(signature.to_vec())
    }

    /// A PKCS#10 request in DER (RFC 2986) that says nothing but "this key": the gateway takes nothing else from it.
    pub fn csr(&self) -> Result<Vec<u8>, KeyFault> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let signer = CsrSigner { key: self, fault: Cell::default() };
        params.serialize_request(&signer).map(|csr| csr.der().to_vec()).map_err(|error| {
            let fault = signer.fault.take();
            fault.unwrap_or_else(|| KeyFault::Library(error.to_string()))
        })
    }
}

/// A public key for rcgen.
struct PublicPoint<'a>(&'a [u8]);

impl PublicKeyData for PublicPoint<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Signs a request, and keeps why it did not.
struct CsrSigner<'a> {
    key: &'a PrivateKey,
    fault: Cell<Option<KeyFault>>,
}

impl PublicKeyData for CsrSigner<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.point()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for CsrSigner<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key.sign(message).map_err(|fault| {
            self.fault.set(Some(fault));
            rcgen::Error::RemoteKeyError
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

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
    fn signatures_for_jws_have_one_length() {
        let key = crate::testing::private_key();
        let (x, y) = key.coordinates();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4], x, y].concat());
        // One in 128 has a number with a zero in front.
        for count in 0..300_u32 {
            let message = count.to_be_bytes();
            let form = key.sign_for_jws(&message).unwrap();
            assert_eq!(form.len(), 64, "{count}");
            assert!(public.verify(&message, &form).is_ok(), "{count}");
        }
    }

    /// A key that a TPM holds, which a pair in memory stands for.
    struct Stand(KeyFile, KeyPair, Option<KeyFault>);

    impl HeldKey for Stand {
        fn file(&self) -> &KeyFile {
            &self.0
        }

        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyFault> {
            self.2.clone().map_or_else(|| Ok(SigningKey::sign(&self.1, message).unwrap()), Err)
        }
    }

    fn stand(fault: Option<KeyFault>) -> (PrivateKey, KeyDigest) {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let template = tpm::template::identity_key().unwrap();
        let (x, y) = pair.der_bytes()[1..].split_at(32);
        let public = [&template[..template.len() - 4], &[0, 32], x, &[0, 32], y].concat();
        let file = KeyFile::new(tpm::command::Created { public, private: vec![5; 126] }).unwrap();
        let digest = KeyDigest::from_spki_der(&pair.subject_public_key_info());
        (PrivateKey::in_tpm(Arc::new(Stand(file, pair, fault))), digest)
    }

    #[test]
    fn a_key_in_a_tpm_is_a_key_like_any_other() {
        let (key, digest) = stand(None);
        assert_eq!((key.digest(), key.place(), key.to_der()), (digest, KeyPlace::Tpm, None));
        let csr = pki::csr::verify(&key.csr().unwrap()).unwrap();
        assert_eq!(csr.key().digest(), digest);
        let pem = key.to_pem();
        assert!(pem.starts_with("-----BEGIN TSS2 PRIVATE KEY-----"), "{}", &*pem);
        assert_eq!(PrivateKey::from_pem(&pem).unwrap_err(), KeyFault::NotAKey);
    }

    #[test]
    fn why_a_tpm_does_not_sign_is_not_lost() {
        let fault = KeyFault::Elsewhere("it has none".into());
        assert_eq!(stand(Some(fault.clone())).0.csr().unwrap_err(), fault);
        let complaint = Complaint::from(fault);
        assert_eq!(complaint.code, "key-elsewhere");
        assert!(complaint.hint.unwrap().contains("lychgate leave --local"));
    }

    #[test]
    fn debug_shows_the_digest_only() {
        let key = crate::testing::private_key();
        assert_eq!(format!("{key:?}"), format!("PrivateKey({})", key.digest().hex()));
    }
}
