//! SSH public keys (RFC 4253 6.6, RFC 5656, RFC 8709) and verification of their signatures, by the same crypto library as
//! certificates.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P521_SHA512_ASN1, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey, Signature, SshSig};
use thiserror::Error;

use super::{SshError, string};
use crate::der;
use crate::key::{BadSignature, CaKey, KeyAlgorithm, KeyError, KeyParts, SignError, SubjectKey, parts_of_ecdsa};

/// Why an SSH public key is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum SshKeyError {
    #[error("it is not an SSH public key: {0}")]
    Unreadable(String),
    #[error("`{found}` keys are not supported; use ssh-ed25519, ecdsa-sha2-nistp256, -nistp384, -nistp521 or ssh-rsa")]
    Unsupported { found: String },
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Why an SSH signature does not prove the key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum BadSshSignature {
    #[error("the proof is not an SSH signature: {0}")]
    Unreadable(String),
    #[error("the SSH signature is by another key than the one it is to prove")]
    OtherKey,
    #[error("the SSH signature is for the namespace `{found}`")]
    Namespace { found: String },
    /// RFC 8332 3.
    #[error("the SSH signature is made with `ssh-rsa`, which means SHA-1; sign with rsa-sha2-512 or rsa-sha2-256")]
    Sha1,
    #[error("the SSH signature does not fit: it is by another key, or was made for another connection")]
    Wrong,
}

/// The form of the key that verifies its signatures.
#[derive(Clone, PartialEq, Eq)]
enum Verifier {
    /// A kind of key that X.509 certificates of ours can have too.
    Subject(SubjectKey),
    /// The uncompressed point on P-521, which X.509 certificates of ours do not support.
    P521(Vec<u8>),
}

/// An SSH public key of a kind and size we certify.
#[derive(Clone, PartialEq, Eq)]
pub struct SshKey {
    /// RFC 4253 6.6: the algorithm's name, then its fields.
    blob: Vec<u8>,
    algorithm: &'static str,
    verifier: Verifier,
}

impl fmt::Debug for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshKey({} {})", self.algorithm, self.fingerprint())
    }
}

impl SshKey {
    /// Reads the line of a `.pub` file. The comment is dropped.
    pub fn parse(line: &str) -> Result<Self, SshKeyError> {
        let key = PublicKey::from_openssh(line.trim()).map_err(|error| SshKeyError::Unreadable(error.to_string()))?;
        Self::from_data(key)
    }

    /// Reads the bytes of a key (RFC 4253 6.6).
    pub fn from_blob(blob: &[u8]) -> Result<Self, SshKeyError> {
        let key = PublicKey::from_bytes(blob).map_err(|error| SshKeyError::Unreadable(error.to_string()))?;
        Self::from_data(key)
    }

    fn from_data(key: PublicKey) -> Result<Self, SshKeyError> {
        let unsupported = || SshKeyError::Unsupported { found: key.algorithm().as_str().to_owned() };
        let (algorithm, verifier) = match key.key_data() {
            KeyData::Ed25519(raw) => {
                ("ssh-ed25519", Verifier::Subject(SubjectKey::from_raw(KeyAlgorithm::Ed25519, raw.as_ref())?))
            }
            KeyData::Ecdsa(point) => {
                let raw = point.as_sec1_bytes();
                match point.curve() {
                    EcdsaCurve::NistP256 => {
                        ("ecdsa-sha2-nistp256", Verifier::Subject(SubjectKey::from_raw(KeyAlgorithm::P256, raw)?))
                    }
                    EcdsaCurve::NistP384 => {
                        ("ecdsa-sha2-nistp384", Verifier::Subject(SubjectKey::from_raw(KeyAlgorithm::P384, raw)?))
                    }
                    EcdsaCurve::NistP521 => {
                        ParsedPublicKey::new(&ECDSA_P521_SHA512_ASN1, raw).map_err(|_| KeyError::Point)?;
                        ("ecdsa-sha2-nistp521", Verifier::P521(raw.to_vec()))
                    }
                }
            }
            KeyData::Rsa(rsa) => {
                let (Some(n), Some(e)) = (rsa.n.as_positive_bytes(), rsa.e.as_positive_bytes()) else {
                    return Err(KeyError::Malformed.into());
                };
                let parts = KeyParts::Rsa { n: n.to_vec(), e: e.to_vec() };
                ("ssh-rsa", Verifier::Subject(SubjectKey::from_parts(&parts)?))
            }
            KeyData::Dsa(_) | KeyData::SkEcdsaSha2NistP256(_) | KeyData::SkEd25519(_) | KeyData::Other(_) => {
                return Err(unsupported());
            }
            // The enum of the `ssh-key` crate is non-exhaustive.
            _ => return Err(unsupported()),
        };
        let blob = key.to_bytes().map_err(|error| SshKeyError::Unreadable(error.to_string()))?;
        Ok(Self { blob, algorithm, verifier })
    }

    /// The public half of a CA key.
    pub(super) fn of_ca(key: &dyn CaKey) -> Result<Self, SshError> {
        let (algorithm, curve) = names(key.algorithm())?;
        let subject = SubjectKey::from_raw(key.algorithm(), key.public_key())?;
        let mut blob = Vec::new();
        string(&mut blob, algorithm.as_bytes());
        if let Some(curve) = curve {
            string(&mut blob, curve.as_bytes());
        }
        string(&mut blob, key.public_key());
        Ok(Self { blob, algorithm, verifier: Verifier::Subject(subject) })
    }

    /// Its algorithm, such as `ssh-ed25519`.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// The line of a `.pub` file, without comment and newline.
    #[must_use]
    pub fn line(&self) -> String {
        // Cannot fail: the bytes were parsed as a key, or encoded from one.
        PublicKey::from_bytes(&self.blob).and_then(|key| key.to_openssh()).unwrap_or_default()
    }

    /// Its SHA-256 as OpenSSH writes it, `SHA256:` and base64.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        PublicKey::from_bytes(&self.blob).map(|key| key.fingerprint(HashAlg::Sha256).to_string()).unwrap_or_default()
    }

    /// Its SHA-256, the value in [`Self::fingerprint`].
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.blob);
        digest.as_ref().try_into().unwrap_or_default()
    }

    /// Checks that `signature`, as `ssh-keygen -Y sign` writes it (OpenSSH's PROTOCOL.sshsig), was made by this key for
    /// this namespace over this message.
    pub fn verify(&self, namespace: &str, message: &[u8], signature: &str) -> Result<(), BadSshSignature> {
        let unreadable = |error: ssh_key::Error| BadSshSignature::Unreadable(error.to_string());
        let sig =
            SshSig::from_pem(signature.trim()).map_err(|error| match signature_algorithm(signature).as_deref() {
                Some(SHA1) => BadSshSignature::Sha1,
                Some(_) | None => unreadable(error),
            })?;
        let signer = PublicKey::from(sig.public_key().clone()).to_bytes().map_err(unreadable)?;
        if signer != self.blob {
            return Err(BadSshSignature::OtherKey);
        }
        if sig.namespace() != namespace {
            return Err(BadSshSignature::Namespace { found: sig.namespace().to_owned() });
        }
        if !sig.reserved().is_empty() {
            return Err(BadSshSignature::Wrong);
        }
        let signed = SshSig::signed_data(namespace, sig.hash_alg(), message).map_err(unreadable)?;
        self.verify_signature(&signed, sig.signature()).map_err(|_| BadSshSignature::Wrong)
    }

    /// Checks a signature blob in the form that certificates carry (RFC 4253 6.6).
    pub(super) fn verify_blob(&self, message: &[u8], blob: &[u8]) -> Result<(), BadSignature> {
        let signature = Signature::try_from(blob).map_err(|_| BadSignature)?;
        self.verify_signature(message, &signature)
    }

    fn verify_signature(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let bytes = signature.as_bytes();
        match (&self.verifier, signature.algorithm()) {
            (Verifier::Subject(key), Algorithm::Ed25519) if key.algorithm() == KeyAlgorithm::Ed25519 => {
                key.verify(message, bytes)
            }
            (Verifier::Subject(key), Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 })
                if key.algorithm() == KeyAlgorithm::P256 =>
            {
                key.verify(message, &in_asn1(bytes)?)
            }
            (Verifier::Subject(key), Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 })
                if key.algorithm() == KeyAlgorithm::P384 =>
            {
                key.verify(message, &in_asn1(bytes)?)
            }
            (Verifier::P521(point), Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 }) => {
                verify(&ECDSA_P521_SHA512_ASN1, point, message, &in_asn1(bytes)?)
            }
            // RFC 8332 3. The name `ssh-rsa`, without a hash, means SHA-1.
            (Verifier::Subject(key), Algorithm::Rsa { hash: Some(hash) }) if is_rsa(key) => match hash {
                HashAlg::Sha256 => key.verify(message, bytes),
                HashAlg::Sha512 => verify(&RSA_PKCS1_2048_8192_SHA512, key.raw_public_key(), message, bytes),
                _ => Err(BadSignature),
            },
            _ => Err(BadSignature),
        }
    }

    /// The algorithm's name and the fields after it (RFC 4253 6.6).
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The fields after the algorithm's name.
    pub(super) fn fields(&self) -> &[u8] {
        self.blob.get(4 + self.algorithm.len()..).unwrap_or_default()
    }
}

/// The name of RSA signatures with SHA-1.
pub(super) const SHA1: &str = "ssh-rsa";

/// The algorithm of a signature that the `ssh-key` crate does not read, such as RSA with SHA-1 (OpenSSH's PROTOCOL.sshsig).
fn signature_algorithm(armored: &str) -> Option<String> {
    let base64: String = armored.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let bytes = STANDARD.decode(base64).ok()?;
    let mut rest = bytes.strip_prefix(b"SSHSIG\0\0\0\x01")?;
    // Public key, namespace, reserved, hash.
    for _ in 0..4 {
        (_, rest) = read_string(rest)?;
    }
    let (signature, _) = read_string(rest)?;
    let (algorithm, _) = read_string(signature)?;
    String::from_utf8(algorithm.to_vec()).ok()
}

fn is_rsa(key: &SubjectKey) -> bool {
    matches!(key.algorithm(), KeyAlgorithm::Rsa { .. })
}

fn verify(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), BadSignature> {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature).map_err(|_| BadSignature)
}

/// The SSH algorithm name of a CA key, and the name of its curve.
fn names(algorithm: KeyAlgorithm) -> Result<(&'static str, Option<&'static str>), SshError> {
    match algorithm {
        KeyAlgorithm::Ed25519 => Ok(("ssh-ed25519", None)),
        KeyAlgorithm::P256 => Ok(("ecdsa-sha2-nistp256", Some("nistp256"))),
        KeyAlgorithm::P384 => Ok(("ecdsa-sha2-nistp384", Some("nistp384"))),
        // RSA CA keys are not supported: we make none, and `CaKey::sign` has no way to select rsa-sha2-256 (RFC 8332).
        KeyAlgorithm::Rsa { .. } => Err(SshError::CaAlgorithm { found: algorithm.to_string() }),
    }
}

/// Signs with a CA key. The result is a signature blob as in certificates: the algorithm's name, then its signature.
pub(super) fn sign(key: &dyn CaKey, message: &[u8]) -> Result<Vec<u8>, SshError> {
    let (algorithm, curve) = names(key.algorithm())?;
    let signature = key.sign(message)?;
    let inner = if curve.is_some() { from_asn1(&signature)? } else { signature };
    let mut blob = Vec::new();
    string(&mut blob, algorithm.as_bytes());
    string(&mut blob, &inner);
    Ok(blob)
}

/// Converts an ECDSA signature from two `mpint` (RFC 5656 3.1.2) to two INTEGER (RFC 3279 2.2.3). Both encode a number as
/// minimal big-endian two's complement; a number that is not minimal fails the verification.
fn in_asn1(ssh: &[u8]) -> Result<Vec<u8>, BadSignature> {
    let (r, rest) = read_string(ssh).ok_or(BadSignature)?;
    let (s, rest) = read_string(rest).ok_or(BadSignature)?;
    if !rest.is_empty() {
        return Err(BadSignature);
    }
    Ok(der::tlv(der::SEQUENCE, &[&der::tlv(der::INTEGER, &[r]), &der::tlv(der::INTEGER, &[s])]))
}

/// RFC 4251 5, `string`, and the bytes after it.
pub(super) fn read_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// The reverse of [`in_asn1`], for signatures of our CA keys.
fn from_asn1(signature: &[u8]) -> Result<Vec<u8>, SignError> {
    let (r, s) = parts_of_ecdsa(signature)?;
    let mut out = Vec::new();
    string(&mut out, &r);
    string(&mut out, &s);
    Ok(out)
}
