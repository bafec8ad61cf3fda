//! Certificates of endorsement keys (EKs), by which makers of TPMs say that a key is in a TPM of theirs.
//!
//! Verifiers made for TLS do not fit: an EK certificate has a critical name without a host, its CAs have critical policies, and
//! makers write names, serial numbers and algorithm parameters as they like. So the path is walked here, with these tolerances and
//! few others, and each signature is checked over the bytes as they came. That the TPM holds the key is not established here: it
//! must open a credential made for it.

use std::cell::Cell;

use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use crate::cert::CERT_MAX;
use crate::parsed::{authority_key_id, ca_limit, extended_key_usage, subject_key_id};
use crate::pem::{PemError, parse_pem};
use crate::shown::shown;
use crate::signature::{self, SignatureFault};
use crate::time::UnixTime;

mod device;

pub use device::EkDevice;

/// Most certificates read: a TPM holds up to four of EKs, and those with CAs on the die up to five of these.
pub const EK_CERTIFICATES_MAX: usize = 16;

/// Most anchors: three times the roots and intermediate CAs of all makers.
const ANCHORS_MAX: usize = 512;

/// Most CAs above an EK certificate, the anchor included: the longest chain of a maker has four (Intel's CAs on the die).
const DEPTH_MAX: usize = 5;

/// Most signatures checked for one request: the longest path has [`DEPTH_MAX`], and a CA that exists twice costs one more. A path in
/// the wild takes three, so a bad one costs less than three good ones.
const SIGNATURES_MAX: u32 = 8;

/// Extensions that are understood, and which may therefore be critical: key usage, alternative name, basic constraints, policies (any
/// is accepted) and extended key usage.
const UNDERSTOOD: [&str; 5] = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.32", "2.5.29.37"];

/// tcg-kp-EKCertificate (TCG EK Credential Profile 3.2.16).
const EK_PURPOSE: &str = "2.23.133.8.1";

/// What the certificate of an EK says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkCertificate {
    /// The TPM, in the words of whoever signed the certificate.
    pub device: EkDevice,
    /// When the first certificate of the path ends, or has ended. It is told and not refused: TPMs outlive their certificates.
    pub not_after: UnixTime,
    /// Who vouches for it.
    pub chain: EkChain,
}

/// How far the path of an EK certificate leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EkChain {
    /// To an anchor.
    Verified {
        /// Its name.
        anchor: String,
    },
    /// To an issuer that is neither among the certificates nor an anchor. Anybody can make such a certificate.
    UnknownIssuer,
}

/// What is wrong with certificates that came with an EK.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum EkError {
    #[error("there are {found} certificates and at most {EK_CERTIFICATES_MAX} are read")]
    TooMany { found: usize },
    #[error("certificate {at} has {len} bytes and at most {CERT_MAX} are read")]
    TooLong { at: usize, len: usize },
    #[error("certificate {at} is not an X.509 certificate of version 3 in DER")]
    Malformed { at: usize },
    #[error("{bytes} bytes follow certificate {at}")]
    TrailingBytes { at: usize, bytes: usize },
    #[error("none of the certificates is of this EK")]
    OtherKey,
    #[error("the certificate of this key is not one of an EK")]
    NotOfEk,
    #[error("the certificate of `{subject}` is signed with SHA-1")]
    Sha1 { subject: String },
    #[error("the certificate of `{subject}` is signed with an algorithm that is not accepted")]
    Algorithm { subject: String },
    #[error("the signature on the certificate of `{subject}` is not its issuer's")]
    Signature { subject: String },
    #[error("extension {oid} in the certificate of `{subject}` is critical and not understood")]
    UnknownCritical { subject: String, oid: String },
    #[error("`{subject}` is not a CA that may sign certificates here")]
    NotCa { subject: String },
    #[error("the key of `{subject}` is not RSA of 2048 to 4096 bits or EC on P-256, P-384 or P-521")]
    IssuerKey { subject: String },
    #[error("there are more than {DEPTH_MAX} CAs above it")]
    TooDeep,
    #[error("finding a path takes more than {SIGNATURES_MAX} signatures")]
    TooMuch,
}

/// CAs of makers that are trusted. Any may be an intermediate one: some makers publish no root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EkAnchors(Vec<EkAnchor>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct EkAnchor {
    der: Vec<u8>,
    subject: Vec<u8>,
    key_id: Option<Vec<u8>>,
}

/// Why a text gives no anchors.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum EkAnchorError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("there are {found} certificates and at most {ANCHORS_MAX} are read")]
    TooMany { found: usize },
    #[error("certificate {at} is not an X.509 certificate, or not of a CA")]
    NotCa { at: usize },
}

impl EkAnchors {
    /// Anchors from PEM, such as the collections that makers and others publish. Their own signatures are not checked: whoever wrote
    /// the file vouches for them.
    pub fn from_pem(text: &str) -> Result<Self, EkAnchorError> {
        let ders = parse_pem("CERTIFICATE", text)?;
        if ders.len() > ANCHORS_MAX {
            return Err(EkAnchorError::TooMany { found: ders.len() });
        }
        let anchor = |(at, der): (usize, Vec<u8>)| EkAnchor::read(der).ok_or(EkAnchorError::NotCa { at: at + 1 });
        ders.into_iter().enumerate().map(anchor).collect::<Result<_, _>>().map(Self)
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl EkAnchor {
    fn read(der: Vec<u8>) -> Option<Self> {
        let parsed = Self::parse(&der)?;
        ca_limit(&parsed)?;
        let subject = parsed.subject().as_raw().to_vec();
        let key_id = subject_key_id(&parsed).map(<[u8]>::to_vec);
        Some(Self { subject, key_id, der })
    }

    fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
        X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, parsed)| parsed)
    }
}

/// Finds the certificate of an EK among those that came with it, in whatever order, and walks from it to an anchor. `is_ek` says
/// whether a SubjectPublicKeyInfo is the EK's.
///
/// # Errors
/// A certificate cannot be read, none is of this EK, or the path is broken. That an issuer is missing is no error.
pub fn verify_ek(
    given: &[Vec<u8>],
    is_ek: &dyn Fn(&[u8]) -> bool,
    anchors: &EkAnchors,
) -> Result<EkCertificate, EkError> {
    if given.len() > EK_CERTIFICATES_MAX {
        return Err(EkError::TooMany { found: given.len() });
    }
    let given: Vec<X509Certificate<'_>> =
        given.iter().zip(1..).map(|(der, at)| read(der, at)).collect::<Result<_, _>>()?;
    let leaf = given.iter().find(|cert| is_ek(cert.public_key().raw)).ok_or(EkError::OtherKey)?;
    let device = EkDevice::of(leaf);
    if !is_of_ek(leaf, &device) {
        return Err(EkError::NotOfEk);
    }
    let walk = Walk { given: &given, anchors, signatures: Cell::new(0) };
    let EkPath { chain, not_after } = walk.up(leaf, 0)?;
    Ok(EkCertificate { device, not_after, chain })
}

fn read(der: &[u8], at: usize) -> Result<X509Certificate<'_>, EkError> {
    if der.len() > CERT_MAX {
        return Err(EkError::TooLong { at, len: der.len() });
    }
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| EkError::Malformed { at })?;
    if !rest.is_empty() {
        return Err(EkError::TrailingBytes { at, bytes: rest.len() });
    }
    if parsed.version() != X509Version::V3 || parsed.signature_algorithm != parsed.tbs_certificate.signature {
        return Err(EkError::Malformed { at });
    }
    Ok(parsed)
}

/// A maker's CA may also certify keys that are in no TPM. Older EK certificates have no purpose, but name the TPM.
fn is_of_ek(cert: &X509Certificate<'_>, device: &EkDevice) -> bool {
    match extended_key_usage(cert) {
        Some(usage) => usage.other.iter().any(|purpose| purpose.to_id_string() == EK_PURPOSE),
        None => device.maker.is_some(),
    }
}

/// A path so far.
struct EkPath {
    chain: EkChain,
    not_after: UnixTime,
}

struct Walk<'a> {
    given: &'a [X509Certificate<'a>],
    anchors: &'a EkAnchors,
    /// How many signatures were checked.
    signatures: Cell<u32>,
}

impl Walk<'_> {
    /// From a certificate with `below` CAs under it. Anchors are tried before other CAs of the same name.
    fn up(&self, cert: &X509Certificate<'_>, below: usize) -> Result<EkPath, EkError> {
        check_critical(cert)?;
        if signature::is_sha1(&cert.signature_algorithm) {
            return Err(EkError::Sha1 { subject: subject(cert) });
        }
        let own_end = UnixTime::from_signed(cert.validity().not_after.timestamp());
        let (mut fault, mut unknown) = (None, None);
        let anchors = self.anchors.0.iter();
        let anchors = anchors.filter(|anchor| is_issuer(cert, &anchor.subject, anchor.key_id.as_deref()));
        let anchors = anchors.filter_map(|anchor| EkAnchor::parse(&anchor.der).zip(Some(anchor.key_id.as_deref())));
        for (anchor, anchor_key_id) in anchors {
            match self.signed_by(cert, &anchor, below) {
                Ok(()) => {
                    let not_after = own_end.min(UnixTime::from_signed(anchor.validity().not_after.timestamp()));
                    return Ok(EkPath { chain: EkChain::Verified { anchor: subject(&anchor) }, not_after });
                }
                Err(_) if is_of_another_key(cert, anchor_key_id) => {}
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        let issuers = self.given.iter().filter(|issuer| {
            is_issuer(cert, issuer.subject().as_raw(), subject_key_id(issuer)) && issuer.as_raw() != cert.as_raw()
        });
        for issuer in issuers {
            match self.signed_by(cert, issuer, below).and_then(|()| self.up(issuer, below + 1)) {
                Ok(found) => {
                    let found = EkPath { not_after: own_end.min(found.not_after), ..found };
                    match found.chain {
                        EkChain::Verified { .. } => return Ok(found),
                        EkChain::UnknownIssuer => unknown = unknown.or(Some(found)),
                    }
                }
                Err(_) if is_of_another_key(cert, subject_key_id(issuer)) => {}
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        match (unknown, fault) {
            (Some(found), _) => Ok(found),
            (None, Some(fault)) => Err(fault),
            (None, None) => Ok(EkPath { chain: EkChain::UnknownIssuer, not_after: own_end }),
        }
    }

    fn signed_by(&self, cert: &X509Certificate<'_>, ca: &X509Certificate<'_>, below: usize) -> Result<(), EkError> {
        if below >= DEPTH_MAX {
            return Err(EkError::TooDeep);
        }
        if ca_limit(ca).is_none_or(|most| below > most) {
            return Err(EkError::NotCa { subject: subject(ca) });
        }
        if self.signatures.get() >= SIGNATURES_MAX {
            return Err(EkError::TooMuch);
        }
        self.signatures.set(self.signatures.get() + 1);
        signature::verify(cert, ca.public_key()).map_err(|fault| match fault {
            SignatureFault::Key => EkError::IssuerKey { subject: subject(ca) },
            SignatureFault::Algorithm => EkError::Algorithm { subject: subject(cert) },
            SignatureFault::Wrong => EkError::Signature { subject: subject(cert) },
        })
    }
}

/// Whether a CA of this name or key may have issued a certificate. Its signature decides. Names are compared as they came.
fn is_issuer(cert: &X509Certificate<'_>, subject: &[u8], key_id: Option<&[u8]>) -> bool {
    cert.issuer().as_raw() == subject || key_id.is_some() && authority_key_id(cert) == key_id
}

/// Whether a certificate says that a CA with another key of the same name issued it: makers change keys and keep names.
fn is_of_another_key(cert: &X509Certificate<'_>, key_id: Option<&[u8]>) -> bool {
    key_id.zip(authority_key_id(cert)).is_some_and(|(ca, issuer)| ca != issuer)
}

fn check_critical(cert: &X509Certificate<'_>) -> Result<(), EkError> {
    let understood = |oid: &str| UNDERSTOOD.contains(&oid);
    let unknown = cert.extensions().iter().filter(|extension| extension.critical).find(|extension| {
        let unread = matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. });
        unread || !understood(&extension.oid.to_id_string())
    });
    match unknown {
        Some(extension) => Err(EkError::UnknownCritical { subject: subject(cert), oid: extension.oid.to_id_string() }),
        None => Ok(()),
    }
}

/// Whose certificate it is, as texts show it. Those of EKs often have no subject.
fn subject(cert: &X509Certificate<'_>) -> String {
    let name = shown(&cert.subject().to_string());
    if name.is_empty() { "the EK".to_owned() } else { name }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
