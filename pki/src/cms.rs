//! Signed messages of others (CMS SignedData, RFC 5652 5; PKCS #7, RFC 2315 9), such as the documents by which a cloud says which
//! instance a machine is.
//!
//! They come in BER: lengths may be indefinite and the content in pieces. What is signed is taken as it came and never encoded anew. A
//! message has exactly one signer, whose certificate is sought by issuer and serial number. Nothing here says whose certificate that
//! is: for that there is [`crate::verify_path`], or a list of certificates that are trusted as they are ([`PinnedCertificates`]).

use aws_lc_rs::digest;
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::oid::Oid;
use x509_parser::oid_registry::{
    OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::AlgorithmIdentifier;

use self::ber::{BerValue, BerValues, INTEGER, NotBer, OCTET_STRING, OID, SEQUENCE, SET, context};
use crate::cert::CERT_MAX;
use crate::key::KeyDigest;
use crate::pem::{PemError, parse_pem};
use crate::signature::{self, SignatureFault};

mod ber;

/// Longest message, in bytes: a document of a cloud has one to eight thousand.
pub const SIGNED_MESSAGE_MAX: usize = 16 * 1024;

/// Most certificates in a message: a signer and the CAs above it.
const CERTIFICATES_MAX: usize = 8;

/// Most certificates of one list of pinned ones: a region of a cloud has one, and a second one while it is replaced.
const PINNED_MAX: usize = 16;

/// id-signedData and id-data (RFC 5652 5.1, 4); id-contentType and id-messageDigest (11.1, 11.2); as the contents of their OIDs.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];

/// What is wrong with a signed message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum CmsError {
    #[error("it has {len} bytes and at most {SIGNED_MESSAGE_MAX} are read")]
    TooLong { len: usize },
    #[error("it is no signed message (PKCS #7 SignedData) with its content inside")]
    Malformed,
    #[error("it has {found} signers and must have one")]
    Signers { found: usize },
    #[error("it has more than {CERTIFICATES_MAX} certificates")]
    TooMany,
    #[error("its signer is not named by issuer and serial number")]
    SignerName,
    #[error("its digest is not SHA-256, SHA-384 or SHA-512")]
    Digest,
    #[error("its signature is of a kind that is not accepted")]
    Algorithm,
    #[error("what is signed is not its content")]
    Content,
    #[error("the certificate of its signer is not there")]
    NoSigner,
    #[error("there are {found} certificates of its signer")]
    Ambiguous { found: usize },
    #[error("the signature is not by the key of its signer")]
    Signature,
}

impl From<NotBer> for CmsError {
    fn from(_: NotBer) -> Self {
        Self::Malformed
    }
}

/// The hashes that are accepted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum SignatureHash {
    Sha256,
    Sha384,
    Sha512,
}

impl SignatureHash {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// Their object identifiers (RFC 5754 2), and those of signatures with RSA and ECDSA over them. Some signers name the former by the
    /// second.
    const fn oids(self) -> (&'static str, Oid<'static>, Oid<'static>) {
        match self {
            Self::Sha256 => ("2.16.840.1.101.3.4.2.1", OID_PKCS1_SHA256WITHRSA, OID_SIG_ECDSA_WITH_SHA256),
            Self::Sha384 => ("2.16.840.1.101.3.4.2.2", OID_PKCS1_SHA384WITHRSA, OID_SIG_ECDSA_WITH_SHA384),
            Self::Sha512 => ("2.16.840.1.101.3.4.2.3", OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA512),
        }
    }

    fn named(oid: &Oid<'_>) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| {
            let (digest, rsa, ecdsa) = hash.oids();
            oid.to_id_string() == digest || *oid == rsa || *oid == ecdsa
        })
    }

    fn of(self, bytes: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes)
    }
}

/// A signed message that was read. Who signed it, and whether that is so, is not known yet.
#[derive(Clone, Debug)]
pub struct SignedMessage {
    content: Vec<u8>,
    certificates: Vec<Vec<u8>>,
    /// Issuer and serial number of the signer's certificate, as they came.
    signer: (Vec<u8>, Vec<u8>),
    hash: SignatureHash,
    /// The algorithm of the signature, as the content of its OID.
    algorithm: Vec<u8>,
    /// The attributes that are signed in place of the content, with the tag of a SET; nothing if the content itself is.
    attributes: Option<Vec<u8>>,
    signature: Vec<u8>,
}

impl SignedMessage {
    /// Reads a message. Nothing may follow it.
    pub fn read(bytes: &[u8]) -> Result<Self, CmsError> {
        if bytes.len() > SIGNED_MESSAGE_MAX {
            return Err(CmsError::TooLong { len: bytes.len() });
        }
        let mut outer = BerValues::of(bytes);
        let message = outer.expect(SEQUENCE)?;
        outer.end()?;
        let mut message = message.inside();
        if message.expect(OID)?.content != SIGNED_DATA {
            return Err(CmsError::Malformed);
        }
        let mut wrapped = message.expect(context(0))?.inside();
        message.end()?;
        let mut data = wrapped.expect(SEQUENCE)?.inside();
        wrapped.end()?;
        data.expect(INTEGER)?;
        // Not needed: the signer's own digest is the one that counts.
        data.expect(SET)?;
        let content = content(&data.expect(SEQUENCE)?)?;
        let certificates = data.optional(context(0))?.map_or(Ok(vec![]), |all| certificates(&all))?;
        data.optional(context(1))?;
        let signers = data.expect(SET)?;
        data.end()?;
        Self { content, certificates, ..signer(&signers)? }.checked()
    }

    /// The attributes that are signed must name this content (RFC 5652 5.4).
    fn checked(self) -> Result<Self, CmsError> {
        let Some(attributes) = &self.attributes else { return Ok(self) };
        let (mut kind, mut digest) = (None, None);
        let mut all = BerValues::of(attributes).expect(SET)?.inside();
        while let Some(attribute) = all.next()? {
            let mut parts = attribute.inside();
            let name = parts.expect(OID)?.content;
            let mut values = parts.expect(SET)?.inside();
            parts.end()?;
            let slot = if name == CONTENT_TYPE {
                &mut kind
            } else if name == MESSAGE_DIGEST {
                &mut digest
            } else {
                continue;
            };
            let value = values.next()?.ok_or(CmsError::Malformed)?;
            values.end()?;
            if slot.replace((value.tag, value.content)).is_some() {
                return Err(CmsError::Malformed);
            }
        }
        let hashed = self.hash.of(&self.content);
        let is_own = kind == Some((OID, DATA)) && digest == Some((OCTET_STRING, hashed.as_ref()));
        if is_own { Ok(self) } else { Err(CmsError::Content) }
    }

    /// The content, of which it is not known yet who signed it: to find out by whom it should be.
    #[must_use]
    pub fn unverified_content(&self) -> &[u8] {
        &self.content
    }

    /// The certificates in the message, the signer's first and then the others.
    ///
    /// # Errors
    /// The signer's is not among them, or not once.
    pub fn certificates_of_signer(&self) -> Result<Vec<Vec<u8>>, CmsError> {
        let (signer, others): (Vec<_>, Vec<_>) = self.certificates.iter().cloned().partition(|der| self.names(der));
        match signer.len() {
            0 => Err(CmsError::NoSigner),
            1 => Ok(signer.into_iter().chain(others).collect()),
            found => Err(CmsError::Ambiguous { found }),
        }
    }

    /// Whether the message says that it is signed by this certificate's key.
    fn names(&self, der: &[u8]) -> bool {
        read_certificate(der).is_some_and(|certificate| {
            (certificate.issuer().as_raw(), certificate.raw_serial()) == (&self.signer.0[..], &self.signer.1[..])
        })
    }

    /// The content, if the key of this certificate signed it.
    ///
    /// # Errors
    /// [`CmsError::NoSigner`] for a certificate that the message does not name; [`CmsError::Algorithm`], [`CmsError::Signature`].
    pub fn content_signed_by(&self, der: &[u8]) -> Result<&[u8], CmsError> {
        let certificate = read_certificate(der).filter(|_| self.names(der)).ok_or(CmsError::NoSigner)?;
        let key = certificate.public_key();
        let is_rsa = key.algorithm.algorithm == OID_PKCS1_RSAENCRYPTION;
        let (_, with_rsa, with_ecdsa) = self.hash.oids();
        let wanted = if is_rsa { with_rsa } else { with_ecdsa };
        let named = Oid::new(self.algorithm.clone().into());
        // RSA keys are named as such, or with the hash; and so it is with keys of EC (RFC 5754 3).
        let plain = if is_rsa { OID_PKCS1_RSAENCRYPTION } else { OID_KEY_TYPE_EC_PUBLIC_KEY };
        if named != wanted && named != plain {
            return Err(CmsError::Algorithm);
        }
        let signed = self.attributes.as_deref().unwrap_or(&self.content);
        let wanted = AlgorithmIdentifier::new(wanted, None);
        match signature::verify_signed(&wanted, signed, &self.signature, key) {
            Ok(()) => Ok(&self.content),
            Err(SignatureFault::Key | SignatureFault::Algorithm) => Err(CmsError::Algorithm),
            Err(SignatureFault::Wrong) => Err(CmsError::Signature),
        }
    }
}

/// The content of the message, which must be plain data.
fn content(encapsulated: &BerValue<'_>) -> Result<Vec<u8>, CmsError> {
    let mut parts = encapsulated.inside();
    if parts.expect(OID)?.content != DATA {
        return Err(CmsError::Malformed);
    }
    let mut wrapped = parts.expect(context(0))?.inside();
    parts.end()?;
    let octets = wrapped.next()?.ok_or(CmsError::Malformed)?.octets()?;
    wrapped.end()?;
    Ok(octets)
}

/// Certificates, each of which is DER.
fn certificates(all: &BerValue<'_>) -> Result<Vec<Vec<u8>>, CmsError> {
    let (mut found, mut values) = (Vec::new(), all.inside());
    while let Some(certificate) = values.next()? {
        if found.len() == CERTIFICATES_MAX {
            return Err(CmsError::TooMany);
        }
        if certificate.tag != SEQUENCE || !certificate.is_definite {
            return Err(CmsError::Malformed);
        }
        found.push(certificate.encoded.to_vec());
    }
    Ok(found)
}

/// The one signer, with what it says of itself. Content and certificates are not filled in.
fn signer(signers: &BerValue<'_>) -> Result<SignedMessage, CmsError> {
    let (mut found, mut values) = (Vec::new(), signers.inside());
    while let Some(signer) = values.next()? {
        found.push(signer);
    }
    let [signer] = &found[..] else { return Err(CmsError::Signers { found: found.len() }) };
    if signer.tag != SEQUENCE {
        return Err(CmsError::Malformed);
    }
    let mut parts = signer.inside();
    parts.expect(INTEGER)?;
    let mut name = parts.optional(SEQUENCE)?.ok_or(CmsError::SignerName)?.inside();
    let issuer = Some(name.expect(SEQUENCE)?).filter(|issuer| issuer.is_definite).ok_or(CmsError::Malformed)?;
    let serial = name.expect(INTEGER)?;
    name.end()?;
    let digest = algorithm(&parts.expect(SEQUENCE)?)?;
    let hash = SignatureHash::named(&Oid::new(digest.into())).ok_or(CmsError::Digest)?;
    let attributes = parts.optional(context(0))?.map(attributes).transpose()?;
    let algorithm = algorithm(&parts.expect(SEQUENCE)?)?;
    let signature = parts.next()?.ok_or(CmsError::Malformed)?.octets()?;
    parts.optional(context(1))?;
    parts.end()?;
    let signer = (issuer.encoded.to_vec(), serial.content.to_vec());
    Ok(SignedMessage { content: vec![], certificates: vec![], signer, hash, algorithm, attributes, signature })
}

/// What is signed of the attributes: them in DER with the tag of a SET (RFC 5652 5.4). They are taken as they came.
fn attributes(all: BerValue<'_>) -> Result<Vec<u8>, CmsError> {
    if !all.is_definite {
        return Err(CmsError::Malformed);
    }
    let mut bytes = all.encoded.to_vec();
    if let Some(tag) = bytes.first_mut() {
        *tag = SET;
    }
    Ok(bytes)
}

/// The object identifier of an algorithm. Of its parameters only NULL has a meaning, which is none.
fn algorithm(value: &BerValue<'_>) -> Result<Vec<u8>, CmsError> {
    Ok(value.inside().expect(OID)?.content.to_vec())
}

fn read_certificate(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, certificate) = X509Certificate::from_der(der).ok().filter(|_| der.len() <= CERT_MAX)?;
    rest.is_empty().then_some(certificate)
}

/// Certificates that are trusted as they are: their keys, without any path or time. Whoever wrote the file vouches for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinnedCertificates(Vec<Vec<u8>>);

/// Why a text gives no pinned certificates.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum PinnedError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("there are {found} certificates and at most {PINNED_MAX} are read")]
    TooMany { found: usize },
    #[error("certificate {at} is not an X.509 certificate")]
    Malformed { at: usize },
    #[error("the key of certificate {at} is not RSA of 2048 to 4096 bits, EC on P-256, P-384 or P-521, or Ed25519")]
    Key { at: usize },
}

impl PinnedCertificates {
    /// Certificates from PEM.
    pub fn from_pem(text: &str) -> Result<Self, PinnedError> {
        let ders = parse_pem("CERTIFICATE", text)?;
        if ders.len() > PINNED_MAX {
            return Err(PinnedError::TooMany { found: ders.len() });
        }
        for (der, at) in ders.iter().zip(1..) {
            let certificate = read_certificate(der).ok_or(PinnedError::Malformed { at })?;
            if !signature::is_accepted(certificate.public_key()) {
                return Err(PinnedError::Key { at });
            }
        }
        Ok(Self(ders))
    }

    /// The content of a message that one of them signed, and the digest of that one's key.
    ///
    /// # Errors
    /// [`CmsError::NoSigner`] if the message names none of them; else as [`SignedMessage::content_signed_by`].
    pub fn content<'m>(&self, message: &'m SignedMessage) -> Result<(&'m [u8], KeyDigest), CmsError> {
        let der = self.0.iter().find(|der| message.names(der)).ok_or(CmsError::NoSigner)?;
        let content = message.content_signed_by(der)?;
        let certificate = read_certificate(der).ok_or(CmsError::NoSigner)?;
        Ok((content, KeyDigest::from_spki_der(certificate.public_key().raw)))
    }
}

#[cfg(test)]
mod tests;
