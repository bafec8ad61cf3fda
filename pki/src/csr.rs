//! Certification requests (RFC 2986): bytes to a public key with proof of possession.
//!
//! Nothing else of a request is ever read into anything: its subject, its requested extensions and its challenge
//! password have no way into a certificate, because [`VerifiedCsr`] has no place to keep them.

use thiserror::Error;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::der;
use crate::key::{CaKey, KeyAlgorithm, KeyError, SignError, SubjectKey};

/// Longest request read. One with an RSA-4096 key and a dozen names has under 3 KiB.
pub const CSR_MAX: usize = 16 * 1024;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CsrError {
    /// Too many bytes.
    #[error("the request has {len} bytes and at most {CSR_MAX} are read; leave out what is not needed")]
    TooLong {
        /// Bytes given.
        len: usize,
    },
    /// Not a PKCS#10 request.
    #[error("the bytes are not a certification request (PKCS#10 in DER)")]
    Malformed,
    /// Something after the end.
    #[error("{0} bytes follow the request; send the request alone")]
    TrailingBytes(usize),
    /// A key we do not certify.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A signature algorithm that proves too little, or that does not fit the key.
    #[error("a request signed with {found} is not accepted; sign it with SHA-256 or SHA-384, or Ed25519")]
    SignatureAlgorithm {
        /// Its object identifier.
        found: String,
    },
    /// The requester does not hold the private key.
    #[error("the request's signature does not verify, so possession of the private key is not proven")]
    Signature,
}

/// A public key whose holder proved possession of the private one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCsr {
    key: SubjectKey,
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
}

/// Reads a request and checks its signature. Sizes and kinds are checked first, so that a hostile key costs nothing.
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
    // The signature does not cover what stands around the request info, and the parser lets some of it vary; so that a
    // request has one form, it must be what we would write ourselves.
    let signature = der::tlv(der::BIT_STRING, &[&[0], &csr.signature_value.data]);
    if der::tlv(der::SEQUENCE, &[info.raw, algorithm, &signature]) != der {
        return Err(CsrError::Malformed);
    }
    // RFC 2986 3: the signature over certificationRequestInfo. A point off its curve fails here too.
    csr.verify_signature().map_err(|_| CsrError::Signature)?;
    Ok(VerifiedCsr { key })
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

/// With which signature algorithms a key of each kind may sign its request: no SHA-1, no PSS.
const fn fitting(key: KeyAlgorithm) -> &'static [Signature] {
    match key {
        KeyAlgorithm::P256 | KeyAlgorithm::P384 => ECDSA,
        KeyAlgorithm::Ed25519 => ED25519,
        KeyAlgorithm::Rsa { .. } => RSA,
    }
}

/// A request for this key: an empty subject and no attributes, for nothing of them would be read (RFC 2986 4).
pub fn request(key: &dyn CaKey) -> Result<Vec<u8>, RequestError> {
    let subject_key = SubjectKey::from_raw(key.algorithm(), key.public_key())?;
    let version = der::unsigned(&[0]);
    let subject = der::tlv(der::SEQUENCE, &[]);
    let attributes = der::tlv(0xa0, &[]);
    let info = der::tlv(der::SEQUENCE, &[&version, &subject, subject_key.spki_der(), &attributes]);
    let signature = key.sign(&info)?;
    // As CaKey signs: SHA-256 but for P-384.
    let at = usize::from(key.algorithm() == KeyAlgorithm::P384);
    let algorithm = fitting(key.algorithm()).get(at).map_or(&[][..], |(_, identifier)| identifier);
    Ok(der::tlv(der::SEQUENCE, &[&info, algorithm, &der::tlv(der::BIT_STRING, &[&[0], &signature])]))
}

/// Why a request could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The key is of a kind we do not certify.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key could not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

#[cfg(test)]
mod tests;
