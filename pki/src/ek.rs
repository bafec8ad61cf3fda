//! Certificates of endorsement keys (EKs), by which makers of TPMs say that a key is in a TPM of theirs.
//!
//! Verifiers made for TLS do not fit: an EK certificate has a critical name without a host, its CAs have critical policies, and
//! makers write names, serial numbers and algorithm parameters as they like. So the path is walked here, with these tolerances and
//! few others, and each signature is checked over the bytes as they came. That the TPM holds the key is not established here: it
//! must open a credential made for it.

use std::cell::Cell;
use std::cmp::Reverse;
use std::time::Duration;

use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use crate::cert::CERT_MAX;
use crate::parsed::{authority_key_id, ca_limit, extended_key_usage, subject_key_id};
use crate::profile::BACKDATE;
use crate::shown::shown;
use crate::signature::{self, SignatureFault};
use crate::time::UnixTime;

mod anchors;
mod device;

pub use anchors::{EkAnchorError, EkAnchorFault, EkAnchorText, EkAnchors};
pub use device::EkDevice;

/// Most certificates read: a TPM holds up to four of EKs, and those with CAs on the die up to five of these.
pub const EK_CERTIFICATES_MAX: usize = 16;

/// Most CAs above an EK certificate, the anchor included: the longest chain of a maker has four (Intel's CAs on the die).
const DEPTH_MAX: usize = 5;

/// Most signatures checked for one request: the longest path has [`DEPTH_MAX`], and a CA that exists twice costs one more. A path in
/// the wild takes three, so a bad one costs less than three good ones.
const SIGNATURES_MAX: u32 = 8;

/// How far the clock of a maker may be ahead of ours: a cloud certifies the EK of a virtual TPM as the machine starts.
const CLOCKS: Duration = BACKDATE;

/// Extensions that are understood, and which may therefore be critical: key usage, alternative name, basic constraints, policies (any
/// is accepted) and extended key usage.
const UNDERSTOOD: [&str; 5] = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.32", "2.5.29.37"];

/// extKeyUsage (RFC 5280 4.2.1.12).
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";

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
    #[error("the certificate of this key is one of a CA, and an EK signs no certificates")]
    LeafIsCa,
    #[error("the certificate of `{subject}` is not valid before {from}")]
    NotYetValid { subject: String, from: UnixTime },
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

/// Finds the certificates of an EK among those that came with it, and walks from each to an anchor. Each is judged by itself: one that
/// does not hold takes nothing from one that does. Of those that lead to an anchor the one that ends last counts. In which order they
/// came makes no difference, and certificates of other EKs are not looked at. `is_ek` says whether a SubjectPublicKeyInfo is the EK's.
///
/// # Errors
/// A certificate cannot be read, none is of this EK, or none of those holds. That an issuer is missing is no error.
pub fn verify_ek(
    given: &[Vec<u8>],
    is_ek: &dyn Fn(&[u8]) -> bool,
    anchors: &EkAnchors,
    now: UnixTime,
) -> Result<EkCertificate, EkError> {
    if given.len() > EK_CERTIFICATES_MAX {
        return Err(EkError::TooMany { found: given.len() });
    }
    let mut given: Vec<X509Certificate<'_>> =
        given.iter().zip(1..).map(|(der, at)| read(der, at)).collect::<Result<_, _>>()?;
    given.sort_by(|one, other| one.as_raw().cmp(other.as_raw()));
    given.dedup_by(|one, other| one.as_raw() == other.as_raw());
    let mut leaves: Vec<&X509Certificate<'_>> = given.iter().filter(|cert| is_ek(cert.public_key().raw)).collect();
    leaves.sort_by_key(|leaf| Reverse(leaf.validity().not_after.timestamp()));
    let walk = Walk { given: &given, anchors, now, signatures: Cell::new(0) };
    let (mut unknown, mut fault) = (None, None);
    for leaf in leaves {
        match walk.leaf(leaf) {
            Ok(found) => match found.chain {
                EkChain::Verified { .. } => return Ok(found),
                EkChain::UnknownIssuer => unknown = unknown.or(Some(found)),
            },
            Err(error) => fault = fault.or(Some(error)),
        }
    }
    unknown.ok_or(fault.unwrap_or(EkError::OtherKey))
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

/// Whether a certificate says that it is one of a CA, which may sign certificates or not (RFC 5280 4.2.1.9).
fn is_ca(cert: &X509Certificate<'_>) -> bool {
    cert.extensions()
        .iter()
        .any(|extension| matches!(extension.parsed_extension(), ParsedExtension::BasicConstraints(basic) if basic.ca))
}

/// A maker's CA may also certify keys that are in no TPM. Older EK certificates have no purpose, but name the TPM. An empty list of
/// purposes, and one that cannot be read, are not the same as none.
fn is_of_ek(cert: &X509Certificate<'_>, device: &EkDevice) -> bool {
    let has_list = cert.extensions().iter().any(|extension| extension.oid.to_id_string() == EXTENDED_KEY_USAGE);
    match extended_key_usage(cert) {
        Some(usage) => usage.other.iter().any(|purpose| purpose.to_id_string() == EK_PURPOSE),
        None => !has_list && device.maker.is_some(),
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
    now: UnixTime,
    /// How many signatures were checked.
    signatures: Cell<u32>,
}

impl Walk<'_> {
    /// From a certificate of the EK.
    fn leaf(&self, leaf: &X509Certificate<'_>) -> Result<EkCertificate, EkError> {
        let device = EkDevice::of(leaf);
        if is_ca(leaf) {
            return Err(EkError::LeafIsCa);
        }
        if !is_of_ek(leaf, &device) {
            return Err(EkError::NotOfEk);
        }
        let EkPath { chain, not_after } = self.up(leaf, 0)?;
        Ok(EkCertificate { device, not_after, chain })
    }

    /// From a certificate with `below` CAs under it. Anchors are tried before other CAs of the same name.
    fn up(&self, cert: &X509Certificate<'_>, below: usize) -> Result<EkPath, EkError> {
        check_critical(cert)?;
        if signature::is_sha1(&cert.signature_algorithm) {
            return Err(EkError::Sha1 { subject: subject(cert) });
        }
        let from = UnixTime::from_signed(cert.validity().not_before.timestamp());
        if self.now.plus(CLOCKS) < from {
            return Err(EkError::NotYetValid { subject: subject(cert), from });
        }
        let own_end = UnixTime::from_signed(cert.validity().not_after.timestamp());
        let (mut fault, mut unknown) = (None, None);
        let anchors = self.anchors.iter();
        let anchors = anchors.filter(|anchor| is_issuer(cert, &anchor.subject, anchor.key_id.as_deref()));
        let anchors = anchors.filter_map(|anchor| anchor.parsed().zip(Some(anchor.key_id.as_deref())));
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
