//! The four kinds of public key that are certified, and the signing keys.

use std::fmt;
use std::hash::{Hash, Hasher};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_ASN1_SIGNING,
    ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use thiserror::Error;
use x509_parser::asn1_rs::{Integer, Sequence, Tag};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use crate::der;
use crate::serial::{BadHex, read_hex, write_hex};

/// Shortest RSA modulus accepted, in bits (NIST SP 800-57 part 1, 5.6.1).
const RSA_MIN: usize = 2048;
/// Longest RSA modulus accepted, in bits: the cost of a verification quadruples with each doubling.
const RSA_MAX: usize = 4096;
/// Smallest RSA exponent accepted (FIPS 186-5 A.1.1).
const EXPONENT_MIN: u64 = 65_537;
/// Largest RSA exponent accepted: the crypto library supports 33 bits.
const EXPONENT_MAX: u64 = (1 << 33) - 1;

/// SubjectPublicKeyInfo of P-256 up to the 65 bytes of the uncompressed point (RFC 5480 2.1).
const P256_HEAD: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// SubjectPublicKeyInfo of P-384 up to the 97 bytes of the uncompressed point (RFC 5480 2.1).
const P384_HEAD: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x22, 0x03, 0x62, 0x00,
];
/// SubjectPublicKeyInfo of Ed25519 up to the 32 bytes of the key (RFC 8410 4).
const ED25519_HEAD: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// AlgorithmIdentifier of RSA keys: rsaEncryption with NULL (RFC 3279 2.3.1).
const RSA_ALGORITHM: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, der::NULL, 0x00];

/// Why a key is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum KeyError {
    #[error("{found} keys are not supported; use P-256, P-384, Ed25519 or RSA of 2048 to 4096 bits")]
    Unsupported {
        /// What it is, by name or object identifier.
        found: String,
    },
    #[error("an RSA key of {bits} bits is not accepted; use a multiple of 8 between {RSA_MIN} and {RSA_MAX}")]
    RsaSize { bits: usize },
    /// An even modulus is not a product of two large primes.
    #[error("the RSA modulus is even, so this is no real key; make a new one")]
    RsaModulus,
    #[error("the RSA exponent must be odd and lie between {EXPONENT_MIN} and {EXPONENT_MAX}; use {EXPONENT_MIN}")]
    RsaExponent,
    /// An elliptic curve point in a form TLS does not use, or not on the curve.
    #[error("the public key is not an uncompressed point on its curve")]
    Point,
    /// Only DER gives a key one encoding, and so one digest.
    #[error("the public key is not in its one DER form")]
    NotCanonical,
    #[error("the bytes are not a public key (SubjectPublicKeyInfo)")]
    Malformed,
    #[error("the private key is not PKCS#8 of P-256, P-384 or Ed25519")]
    Private,
    #[error("the crypto library could not generate a {0} key")]
    Generate(KeyAlgorithm),
}

/// The signature does not verify.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("the signature does not verify under this key")]
pub struct BadSignature;

/// Why a signing key did not sign. `reason` is the message of the key or its device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum SignError {
    /// Temporary: a removed device or a lost session.
    #[error("the signing key does not answer: {reason}")]
    Unavailable { reason: String },
    /// Permanent: the key does not sign this message.
    #[error("the signing key failed: {reason}")]
    Refused { reason: String },
}

/// The kinds of public key we certify.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum KeyAlgorithm {
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// Ed25519.
    Ed25519,
    /// RSA.
    Rsa {
        /// Length of the modulus.
        bits: usize,
    },
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256 => f.write_str("P-256"),
            Self::P384 => f.write_str("P-384"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Rsa { bits } => write!(f, "RSA-{bits}"),
        }
    }
}

impl KeyAlgorithm {
    /// The encoder's type for the algorithm. It also selects the signature algorithm of such a key.
    pub(crate) fn for_encoder(self) -> &'static rcgen::SignatureAlgorithm {
        match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
            Self::Rsa { .. } => &rcgen::PKCS_RSA_SHA256,
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1,
            Self::P384 => &ECDSA_P384_SHA384_ASN1,
            Self::Ed25519 => &ED25519,
            Self::Rsa { .. } => &RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

/// SHA-256 of a key's SubjectPublicKeyInfo in DER: the id of a key in records, and the pin of a root.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Hashes the DER of a SubjectPublicKeyInfo.
    #[must_use]
    pub fn from_spki_der(spki: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, spki);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// From a digest that was computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.to_string()
    }

    /// The reverse of [`KeyDigest::hex`].
    pub fn parse_hex(text: &str) -> Result<Self, BadHex> {
        read_hex(text).map(Self)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDigest({self})")
    }
}

/// The parameters of a public key in a JSON Web Key (RFC 7518 6, RFC 8037 2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named for what they hold")]
pub enum KeyParts {
    /// `kty` EC, `crv` P-256.
    P256 { x: [u8; 32], y: [u8; 32] },
    /// `kty` EC, `crv` P-384.
    P384 { x: [u8; 48], y: [u8; 48] },
    /// `kty` OKP, `crv` Ed25519.
    Ed25519 { x: [u8; 32] },
    /// `kty` RSA.
    Rsa {
        /// The modulus, without leading zeros.
        n: Vec<u8>,
        /// The exponent, without leading zeros.
        e: Vec<u8>,
    },
}

/// A public key of a supported kind, in DER.
#[derive(Clone)]
pub struct SubjectKey {
    algorithm: KeyAlgorithm,
    spki: Vec<u8>,
    /// Offset in `spki` of the content of the BIT STRING.
    raw_at: usize,
    digest: KeyDigest,
}

impl SubjectKey {
    /// Reads a SubjectPublicKeyInfo. Refuses unsupported kinds and sizes, encodings other than DER, and points off the curve.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, KeyError> {
        let key = Self::unchecked_point(spki)?;
        ParsedPublicKey::new(key.algorithm.verification(), key.raw_public_key()).map_err(|_| KeyError::Point)?;
        Ok(key)
    }

    /// As [`SubjectKey::from_spki_der`] without the check that the point is on the curve: for callers that verify a signature
    /// with the key afterwards, which includes that check.
    pub(crate) fn unchecked_point(spki: &[u8]) -> Result<Self, KeyError> {
        let (algorithm, raw_at) = match spki {
            s if is_key(s, P256_HEAD, 65) => (KeyAlgorithm::P256, P256_HEAD.len()),
            s if is_key(s, P384_HEAD, 97) => (KeyAlgorithm::P384, P384_HEAD.len()),
            s if is_key(s, ED25519_HEAD, 32) => (KeyAlgorithm::Ed25519, ED25519_HEAD.len()),
            s => read_other(s)?,
        };
        let point = matches!(algorithm, KeyAlgorithm::P256 | KeyAlgorithm::P384);
        if point && spki.get(raw_at) != Some(&4) {
            return Err(KeyError::Point);
        }
        Ok(Self { algorithm, spki: spki.to_vec(), raw_at, digest: KeyDigest::from_spki_der(spki) })
    }

    /// From the content of the BIT STRING: an uncompressed point, 32 bytes of Ed25519, or an RSAPublicKey.
    pub fn from_raw(algorithm: KeyAlgorithm, raw: &[u8]) -> Result<Self, KeyError> {
        let spki = match algorithm {
            KeyAlgorithm::P256 => [P256_HEAD, raw].concat(),
            KeyAlgorithm::P384 => [P384_HEAD, raw].concat(),
            KeyAlgorithm::Ed25519 => [ED25519_HEAD, raw].concat(),
            KeyAlgorithm::Rsa { .. } => {
                der::tlv(der::SEQUENCE, &[RSA_ALGORITHM, &der::tlv(der::BIT_STRING, &[&[0], raw])])
            }
        };
        let key = Self::from_spki_der(&spki)?;
        if key.algorithm == algorithm { Ok(key) } else { Err(KeyError::Malformed) }
    }

    /// From the parameters of a JSON Web Key.
    pub fn from_parts(parts: &KeyParts) -> Result<Self, KeyError> {
        let spki = match parts {
            KeyParts::P256 { x, y } => [P256_HEAD, &[4], x, y].concat(),
            KeyParts::P384 { x, y } => [P384_HEAD, &[4], x, y].concat(),
            KeyParts::Ed25519 { x } => [ED25519_HEAD, x].concat(),
            KeyParts::Rsa { n, e } => {
                let key = der::tlv(der::SEQUENCE, &[&der::unsigned(n), &der::unsigned(e)]);
                der::tlv(der::SEQUENCE, &[RSA_ALGORITHM, &der::tlv(der::BIT_STRING, &[&[0], &key])])
            }
        };
        Self::from_spki_der(&spki)
    }

    /// The parameters of the key in a JSON Web Key.
    #[must_use]
    pub fn parts(&self) -> KeyParts {
        let raw = self.raw_public_key();
        match self.algorithm {
            KeyAlgorithm::P256 => KeyParts::P256 { x: window(raw, 1), y: window(raw, 33) },
            KeyAlgorithm::P384 => KeyParts::P384 { x: window(raw, 1), y: window(raw, 49) },
            KeyAlgorithm::Ed25519 => KeyParts::Ed25519 { x: window(raw, 0) },
            KeyAlgorithm::Rsa { .. } => match RSAPublicKey::from_der(raw) {
                Ok((_, rsa)) => KeyParts::Rsa { n: significant(rsa.modulus), e: significant(rsa.exponent) },
                // Unreachable: the constructor used the same parser.
                Err(_) => KeyParts::Rsa { n: Vec::new(), e: Vec::new() },
            },
        }
    }

    /// The DER of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// Its kind.
    #[must_use]
    pub const fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Its digest.
    #[must_use]
    pub const fn digest(&self) -> KeyDigest {
        self.digest
    }

    /// The content of the BIT STRING.
    #[must_use]
    pub fn raw_public_key(&self) -> &[u8] {
        self.spki.get(self.raw_at..).unwrap_or_default()
    }

    /// Verifies an ECDSA signature in ASN.1 form (P-256 with SHA-256, P-384 with SHA-384), an Ed25519 signature, or an
    /// RSA PKCS#1 v1.5 signature with SHA-256.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        UnparsedPublicKey::new(self.algorithm.verification(), self.raw_public_key())
            .verify(message, signature)
            .map_err(|_| BadSignature)
    }
}

impl PartialEq for SubjectKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for SubjectKey {}

impl Hash for SubjectKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubjectKey({} {})", self.algorithm, self.digest)
    }
}

impl rcgen::PublicKeyData for SubjectKey {
    fn subject_public_key_info(&self) -> Vec<u8> {
        self.spki.clone()
    }

    fn der_bytes(&self) -> &[u8] {
        self.raw_public_key()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm.for_encoder()
    }
}

fn is_key(spki: &[u8], head: &[u8], raw: usize) -> bool {
    spki.len() == head.len() + raw && spki.starts_with(head)
}

/// `N` bytes from offset `at`. Missing bytes are zero, which does not happen for keys of this module.
fn window<const N: usize>(raw: &[u8], at: usize) -> [u8; N] {
    raw.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

fn significant(integer: &[u8]) -> Vec<u8> {
    integer.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// Reads RSA keys; for any other algorithm the error contains its name.
fn read_other(spki: &[u8]) -> Result<(KeyAlgorithm, usize), KeyError> {
    let (rest, parsed) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| KeyError::Malformed)?;
    if !rest.is_empty() {
        return Err(KeyError::Malformed);
    }
    let name = parsed.algorithm.algorithm.to_id_string();
    let curve = parsed.algorithm.parameters.as_ref().filter(|p| p.tag() == Tag::Oid);
    let curve = curve.and_then(|p| p.as_oid().ok()).map(|oid| oid.to_id_string());
    match (name.as_str(), curve.as_deref()) {
        ("1.2.840.113549.1.1.1", _) => {}
        // A supported curve, but the point is compressed or has the wrong length (RFC 5480 2.2).
        ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7" | "1.3.132.0.34")) => return Err(KeyError::Point),
        ("1.3.101.112", _) => return Err(KeyError::NotCanonical),
        _ => {
            return Err(KeyError::Unsupported { found: describe(&name, curve.as_deref()) });
        }
    }
    let raw: &[u8] = &parsed.subject_public_key.data;
    let bits = check_rsa(raw)?;
    // RFC 3279 2.3.1: the parameters are NULL, the lengths minimal; only then does one key have one digest.
    let canonical = der::tlv(der::SEQUENCE, &[RSA_ALGORITHM, &der::tlv(der::BIT_STRING, &[&[0], raw])]);
    if canonical != spki {
        return Err(KeyError::NotCanonical);
    }
    Ok((KeyAlgorithm::Rsa { bits }, spki.len() - raw.len()))
}

fn describe(algorithm: &str, curve: Option<&str>) -> String {
    match (algorithm, curve) {
        ("1.2.840.10045.2.1", Some("1.3.132.0.35")) => "P-521",
        ("1.2.840.10045.2.1", Some("1.3.132.0.10")) => "secp256k1",
        ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.1")) => "P-192",
        ("1.2.840.10045.2.1", Some(other)) => return format!("elliptic curve {other}"),
        ("1.2.840.10045.2.1", None) => "explicit elliptic curve",
        ("1.2.840.113549.1.1.10", _) => "RSA-PSS",
        ("1.2.840.10040.4.1", _) => "DSA",
        ("1.3.101.110", _) => "X25519",
        ("1.3.101.113", _) => "Ed448",
        (other, _) => other,
    }
    .to_owned()
}

/// Checks the RSAPublicKey inside the BIT STRING (RFC 8017 A.1.1), and returns the length of its modulus in bits.
fn check_rsa(raw: &[u8]) -> Result<usize, KeyError> {
    let (rest, rsa) = RSAPublicKey::from_der(raw).map_err(|_| KeyError::Malformed)?;
    if !rest.is_empty() {
        return Err(KeyError::Malformed);
    }
    let negative = |integer: &[u8]| integer.first().is_none_or(|byte| byte & 0x80 != 0);
    if negative(rsa.modulus) || negative(rsa.exponent) {
        return Err(KeyError::Malformed);
    }
    let modulus = significant(rsa.modulus);
    let exponent = significant(rsa.exponent);
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if !(RSA_MIN..=RSA_MAX).contains(&bits) || !bits.is_multiple_of(8) {
        return Err(KeyError::RsaSize { bits });
    }
    if modulus.last().is_some_and(|last| last.is_multiple_of(2)) {
        return Err(KeyError::RsaModulus);
    }
    if exponent.len() > 8 {
        return Err(KeyError::RsaExponent);
    }
    let value = exponent.iter().fold(0_u64, |acc, byte| (acc << 8) | u64::from(*byte));
    if !(EXPONENT_MIN..=EXPONENT_MAX).contains(&value) || value.is_multiple_of(2) {
        return Err(KeyError::RsaExponent);
    }
    let minimal = der::tlv(der::SEQUENCE, &[&der::unsigned(&modulus), &der::unsigned(&exponent)]);
    if minimal == raw { Ok(bits) } else { Err(KeyError::NotCanonical) }
}

/// Where a private key is, which says how long a signature may take.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// In the memory of this process: a signature takes microseconds.
    Memory,
    /// Behind a device or another process: a signature may take long, or not come.
    Device,
}

/// A key that signs certificates, revocation lists and requests, in a file or in a device.
pub trait CaKey: Send + Sync {
    /// Selects the signature algorithm: P-256 with SHA-256, P-384 with SHA-384, Ed25519, or RSA PKCS#1 v1.5 with SHA-256.
    fn algorithm(&self) -> KeyAlgorithm;

    /// The content of the BIT STRING of the SubjectPublicKeyInfo.
    fn public_key(&self) -> &[u8];

    /// Signs; ECDSA signatures in ASN.1 form.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;

    /// Where it is.
    fn place(&self) -> KeyPlace {
        KeyPlace::Device
    }
}

/// Converts an ECDSA signature on P-256 from the ASN.1 form of [`CaKey::sign`] to the form of JSON Web Signatures (RFC 7518
/// 3.4): R and S, 32 bytes each.
///
/// # Errors
/// [`SignError::Refused`] when it is not in ASN.1 form.
pub fn jws_of_p256(signature: &[u8]) -> Result<[u8; 64], SignError> {
    const HALF: usize = 32;
    let (r, s) = parts_of_ecdsa(signature)?;
    let mut out = [0; 2 * HALF];
    for (part, half) in [r, s].iter().zip(out.chunks_exact_mut(HALF)) {
        let digits =
            part.iter().position(|byte| *byte != 0).map_or(&[][..], |start| part.get(start..).unwrap_or_default());
        let into = HALF.checked_sub(digits.len()).and_then(|start| half.get_mut(start..)).ok_or_else(not_ecdsa)?;
        into.copy_from_slice(digits);
    }
    Ok(out)
}

fn not_ecdsa() -> SignError {
    SignError::Refused { reason: "the signature is not ECDSA in ASN.1 form".to_owned() }
}

/// R and S of the ASN.1 form (RFC 3279 2.2.3).
pub(crate) fn parts_of_ecdsa(signature: &[u8]) -> Result<(Vec<u8>, Vec<u8>), SignError> {
    let (after, sequence) = Sequence::from_der(signature).map_err(|_| not_ecdsa())?;
    let (rest, r) = Integer::from_der(sequence.content.as_ref()).map_err(|_| not_ecdsa())?;
    let (rest, s) = Integer::from_der(rest).map_err(|_| not_ecdsa())?;
    if !after.is_empty() || !rest.is_empty() {
        return Err(not_ecdsa());
    }
    Ok((r.as_ref().to_vec(), s.as_ref().to_vec()))
}

/// A private key held in this process.
pub struct SoftwareKey(Pair);

enum Pair {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SoftwareKey {
    /// Reads an unencrypted PKCS#8 private key (RFC 5958) of P-256, P-384 or Ed25519.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der) {
            return Ok(Self(Pair::P256(pair)));
        }
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, der) {
            return Ok(Self(Pair::P384(pair)));
        }
        // `maybe_unchecked`: version 1 of PKCS#8, which OpenSSL writes, contains no public key to check against.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
            .map(|pair| Self(Pair::Ed25519(pair)))
            .map_err(|_| KeyError::Private)
    }

    /// Generates a key and returns it with its PKCS#8 form. The crypto library draws the entropy itself.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<(Self, Zeroizing<Vec<u8>>), KeyError> {
        let rng = SystemRandom::new();
        let failed = |_| KeyError::Generate(algorithm);
        let document = match algorithm {
            KeyAlgorithm::P256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng).map_err(failed)?
            }
            KeyAlgorithm::P384 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &rng).map_err(failed)?
            }
            // Version 1: OpenSSL 3.0 cannot read version 2, which contains the public key.
            KeyAlgorithm::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&rng).map_err(failed)?,
            KeyAlgorithm::Rsa { .. } => return Err(KeyError::Generate(algorithm)),
        };
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        Ok((Self::from_pkcs8(&pkcs8)?, pkcs8))
    }

    /// Its public key.
    pub fn subject_key(&self) -> Result<SubjectKey, KeyError> {
        SubjectKey::from_raw(self.algorithm(), self.public_key())
    }
}

impl CaKey for SoftwareKey {
    fn algorithm(&self) -> KeyAlgorithm {
        match self.0 {
            Pair::P256(_) => KeyAlgorithm::P256,
            Pair::P384(_) => KeyAlgorithm::P384,
            Pair::Ed25519(_) => KeyAlgorithm::Ed25519,
        }
    }

    fn public_key(&self) -> &[u8] {
        match &self.0 {
            Pair::P256(pair) | Pair::P384(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.0 {
            Pair::P256(pair) | Pair::P384(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SignError::Refused { reason: "the crypto library could not sign".to_owned() }),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }

    fn place(&self) -> KeyPlace {
        KeyPlace::Memory
    }
}

impl fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoftwareKey({})", self.algorithm())
    }
}

#[cfg(test)]
mod tests;
