//! Certification requests (RFC 2986): bytes to a public key with proof of possession.
//!
//! The subject and the requested extensions of a request are ignored: [`VerifiedCsr`] has no fields for them, so they cannot get
//! into a certificate. Its challenge password can only be compared with a channel binding ([`VerifiedCsr::binding`]).

use thiserror::Error;
use x509_parser::asn1_rs::{Any, Class, Tag};
use x509_parser::certification_request::{X509CertificationRequest, X509CertificationRequestInfo};
use x509_parser::prelude::FromDer;

use crate::der;
use crate::key::{CaKey, KeyAlgorithm, KeyError, SignError, SubjectKey};

/// Longest request read, in bytes. One with an RSA-4096 key and a dozen names has under 3 KiB.
pub const CSR_MAX: usize = 16 * 1024;

/// Longest challenge password read: pkcs-9-ub-challengePassword (RFC 2985, appendix A).
pub const CHALLENGE_MAX: usize = 255;

/// pkcs-9-at-challengePassword, 1.2.840.113549.1.9.7 (RFC 2985 5.4.1).
const CHALLENGE_PASSWORD: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7];

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum CsrError {
    #[error("the request has {len} bytes and at most {CSR_MAX} are read; leave out what is not needed")]
    TooLong { len: usize },
    #[error("the bytes are not a certification request (PKCS#10 in DER)")]
    Malformed,
    #[error("{0} bytes follow the request; send the request alone")]
    TrailingBytes(usize),
    /// A key we do not certify.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The algorithm is too weak or does not match the key.
    #[error("a request signed with {found} is not accepted; sign it with SHA-256 or SHA-384, or Ed25519")]
    SignatureAlgorithm { found: String },
    #[error("the request's signature does not verify, so possession of the private key is not proven")]
    Signature,
}

/// A public key whose holder proved possession of the private one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCsr {
    key: SubjectKey,
    challenge: Challenge,
}

/// The challenge password of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Challenge {
    Absent,
    Text(Box<str>),
    Unreadable,
}

/// Whether a request says on which connection it was made (RFC 7030 3.5).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RequestBinding {
    /// It says nothing.
    Absent,
    /// On this one.
    Here,
    /// On another.
    Elsewhere,
    /// What it says is not one PrintableString or UTF8String of at most [`CHALLENGE_MAX`] bytes.
    Unreadable,
}

impl VerifiedCsr {
    /// The key.
    #[must_use]
    pub const fn key(&self) -> &SubjectKey {
        &self.key
    }

    /// The key, without the proof.
    #[must_use]
    pub fn into_key(self) -> SubjectKey {
        self.key
    }

    /// Whether it was made on the connection that RFC 7030 3.5 calls by this text: base64 of its channel binding.
    #[must_use]
    pub fn binding(&self, connection: &str) -> RequestBinding {
        match &self.challenge {
            Challenge::Absent => RequestBinding::Absent,
            Challenge::Text(text) if **text == *connection => RequestBinding::Here,
            Challenge::Text(_) => RequestBinding::Elsewhere,
            Challenge::Unreadable => RequestBinding::Unreadable,
        }
    }
}

/// Reads a request and checks its signature. The size and kind of the key are checked before, so that an oversized key costs no
/// computation.
pub fn verify(der: &[u8]) -> Result<VerifiedCsr, CsrError> {
    if der.len() > CSR_MAX {
        return Err(CsrError::TooLong { len: der.len() });
    }
    let (rest, csr) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::TrailingBytes(rest.len()));
    }
    let info = &csr.certification_request_info;
    let key = SubjectKey::unchecked_point(info.subject_pki.raw)?;
    let found = csr.signature_algorithm.algorithm.to_id_string();
    let Some((_, algorithm)) = fitting(key.algorithm()).iter().find(|(oid, _)| *oid == found) else {
        return Err(CsrError::SignatureAlgorithm { found });
    };
    // The signature does not cover the encoding around the request info, and the parser accepts variants of it. A request must
    // therefore equal our own encoding of it.
    let signature = der::tlv(der::BIT_STRING, &[&[0], &csr.signature_value.data]);
    if der::tlv(der::SEQUENCE, &[info.raw, algorithm, &signature]) != der {
        return Err(CsrError::Malformed);
    }
    // RFC 2986 3: the signature over certificationRequestInfo. This also refuses a point off its curve.
    csr.verify_signature().map_err(|_| CsrError::Signature)?;
    Ok(VerifiedCsr { key, challenge: challenge(info) })
}

/// RFC 2985 5.4.1: one attribute with one value. What is not so is no reason to refuse a request whose challenge password
/// nobody asks for.
fn challenge(info: &X509CertificationRequestInfo<'_>) -> Challenge {
    let mut found = info.iter_attributes().filter(|attribute| attribute.oid.as_bytes() == CHALLENGE_PASSWORD);
    match (found.next(), found.next()) {
        (None, _) => Challenge::Absent,
        (Some(only), None) => only_text(only.value).map_or(Challenge::Unreadable, |text| Challenge::Text(text.into())),
        (Some(_), Some(_)) => Challenge::Unreadable,
    }
}

/// The one text in a SET. Of a set with several the parser gives the first alone, which is then shorter than it says.
fn only_text(set: &[u8]) -> Option<&str> {
    let whole =
        |bytes| Any::from_der(bytes).ok().filter(|(rest, any)| rest.is_empty() && any.class() == Class::Universal);
    let (_, set) = whole(set)?;
    let (_, value) = whole(set.data).filter(|_| set.tag() == Tag::Set)?;
    let text = std::str::from_utf8(value.data).ok()?;
    let is_text = [Tag::Utf8String, Tag::PrintableString].contains(&value.tag());
    (is_text && (1..=CHALLENGE_MAX).contains(&text.len())).then_some(text)
}

/// A signature algorithm: its identifier in dots, and its AlgorithmIdentifier in DER.
type Signature = (&'static str, &'static [u8]);

/// ecdsa-with-SHA256 and -SHA384 (RFC 5758 3.2), for both curves: `openssl req` signs with SHA-256 whatever the curve.
const ECDSA: &[Signature] = &[
    ("1.2.840.10045.4.3.2", &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]),
    ("1.2.840.10045.4.3.3", &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]),
];
/// id-Ed25519 (RFC 8410 3).
const ED25519: &[Signature] = &[("1.3.101.112", &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70])];
/// sha256, sha384 and sha512WithRSAEncryption (RFC 8017 A.2.4), with NULL.
const RSA: &[Signature] = &[
    (
        "1.2.840.113549.1.1.11",
        &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00],
    ),
    (
        "1.2.840.113549.1.1.12",
        &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c, 0x05, 0x00],
    ),
    (
        "1.2.840.113549.1.1.13",
        &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d, 0x05, 0x00],
    ),
];

/// The signature algorithms accepted for each kind of key: no SHA-1, no PSS.
const fn fitting(key: KeyAlgorithm) -> &'static [Signature] {
    match key {
        KeyAlgorithm::P256 | KeyAlgorithm::P384 => ECDSA,
        KeyAlgorithm::Ed25519 => ED25519,
        KeyAlgorithm::Rsa { .. } => RSA,
    }
}

/// A request for this key (RFC 2986 4), with empty subject and no attributes, which [`verify`] would ignore.
pub fn request(key: &dyn CaKey) -> Result<Vec<u8>, RequestError> {
    signed(key, &[])
}

/// A request for this key that says on which connection it was made (RFC 7030 3.5): the text is base64 of its channel binding.
pub fn bound_request(key: &dyn CaKey, connection: &str) -> Result<Vec<u8>, RequestError> {
    let text = der::tlv(der::UTF8_STRING, &[connection.as_bytes()]);
    let oid = der::tlv(der::OID, &[&CHALLENGE_PASSWORD]);
    signed(key, &der::tlv(der::SEQUENCE, &[&oid, &der::tlv(der::SET, &[&text])]))
}

fn signed(key: &dyn CaKey, attributes: &[u8]) -> Result<Vec<u8>, RequestError> {
    let subject_key = SubjectKey::from_raw(key.algorithm(), key.public_key())?;
    let version = der::unsigned(&[0]);
    let subject = der::tlv(der::SEQUENCE, &[]);
    let attributes = der::tlv(0xa0, &[attributes]);
    let info = der::tlv(der::SEQUENCE, &[&version, &subject, subject_key.spki_der(), &attributes]);
    let signature = key.sign(&info)?;
    // `CaKey::sign` uses SHA-384 for P-384, else SHA-256.
    let at = usize::from(key.algorithm() == KeyAlgorithm::P384);
    let algorithm = fitting(key.algorithm()).get(at).map_or(&[][..], |(_, identifier)| identifier);
    Ok(der::tlv(der::SEQUENCE, &[&info, algorithm, &der::tlv(der::BIT_STRING, &[&[0], &signature])]))
}

/// Why a request could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum RequestError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Sign(#[from] SignError),
}

#[cfg(test)]
mod tests;
