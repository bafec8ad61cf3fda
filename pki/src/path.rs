//! Certification paths to anchors that are none of ours (RFC 5280 6): a manufacturer's, a company's or a cloud's certificate for a device.
//!
//! [`crate::chain`] is for our own certificates and does not fit: CAs of manufacturers have critical policies, keys on P-521 and longer
//! paths, and their certificates end in the year 9999 (IEEE 802.1AR). So the path is walked here. Where RFC 5280 leaves a choice, or
//! processing is not done here, the path is refused: policy mappings map nothing, `requireExplicitPolicy` and `inhibitAnyPolicy` count
//! for the whole path, and constraints on forms of names that are not understood refuse whoever has such a name. Signatures are checked
//! over the bytes as they came. That whoever sent the certificate holds its key is for [`UnprovenLeaf::signed`] to show, and whether
//! a certificate was revoked for [`CertificationPath::check_revocation`].

use std::cell::Cell;

use thiserror::Error;
use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use crate::cert::CERT_MAX;
use crate::key::BadSignature;
use crate::parsed::{authority_key_id, ca_limit, subject_key_id};
use crate::pem::{PemError, parse_pem};
use crate::shown::shown;
use crate::signature::{self, SignatureFault};
use crate::time::UnixTime;

mod constraints;
mod leaf;
mod policies;
mod revocation;

pub use leaf::PathLeaf;
pub use revocation::{RevocationError, RevocationList, RevocationListError};

/// Most certificates read from a peer, the leaf included.
pub const PATH_CERTIFICATES_MAX: usize = 8;

/// Most anchors of one issuer: a maker has a few roots, and a public collection some 150.
const ANCHORS_MAX: usize = 256;

/// Most CAs above a leaf, the anchor included.
const DEPTH_MAX: usize = 6;

/// Most signatures checked for one path: the longest has [`DEPTH_MAX`], and a CA with several certificates costs some more.
const SIGNATURES_MAX: u32 = 12;

/// Most extensions in one certificate: those of devices have up to fifteen.
const EXTENSIONS_MAX: usize = 32;

/// Extensions that are understood, and which may therefore be critical: key usage, alternative name, basic constraints, name
/// constraints, policies, policy mappings, policy constraints, extended key usage, inhibitAnyPolicy.
const UNDERSTOOD: [&str; 9] = [
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.30",
    "2.5.29.32",
    "2.5.29.33",
    "2.5.29.36",
    "2.5.29.37",
    "2.5.29.54",
];

/// What is wrong with a certificate or its path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum PathError {
    #[error("there is no certificate")]
    Empty,
    #[error("there are {found} certificates and at most {PATH_CERTIFICATES_MAX} are read")]
    TooMany { found: usize },
    #[error("certificate {at} has {len} bytes and at most {CERT_MAX} are read")]
    TooLong { at: usize, len: usize },
    #[error("certificate {at} is not an X.509 certificate of version 3 in DER")]
    Malformed { at: usize },
    #[error("{bytes} bytes follow certificate {at}")]
    TrailingBytes { at: usize, bytes: usize },
    #[error("certificate {at} has {found} extensions and at most {EXTENSIONS_MAX} are read")]
    Extensions { at: usize, found: usize },
    #[error("extension {oid} of certificate {at} is there twice or cannot be read")]
    BadExtension { at: usize, oid: String },
    #[error("the first certificate is of a CA and cannot speak for a device")]
    LeafIsCa,
    #[error("the key usage of the first certificate does not allow signatures")]
    LeafKeyUsage,
    #[error(
        "the key in the first certificate is not RSA of 2048 to 4096 bits, EC on P-256, P-384 or P-521, or Ed25519"
    )]
    LeafKey,
    #[error("the certificate of `{subject}` is not valid before {from}")]
    NotYetValid { subject: String, from: UnixTime },
    #[error("the certificate of `{subject}` expired at {at}")]
    Expired { subject: String, at: UnixTime },
    #[error("extension {oid} in the certificate of `{subject}` is critical and not understood")]
    UnknownCritical { subject: String, oid: String },
    #[error("the certificate of `{subject}` is signed with SHA-1")]
    Sha1 { subject: String },
    #[error("the certificate of `{subject}` is signed with an algorithm that is not accepted")]
    Algorithm { subject: String },
    #[error("the signature on the certificate of `{subject}` is not its issuer's")]
    Signature { subject: String },
    #[error("the key of `{subject}` is not RSA of 2048 to 4096 bits, EC on P-256, P-384 or P-521, or Ed25519")]
    IssuerKey { subject: String },
    #[error("`{subject}` is not a CA that may sign certificates")]
    NotCa { subject: String },
    #[error("`{subject}` may not have {below} CAs below it")]
    PathLength { subject: String, below: usize },
    #[error("there are more than {DEPTH_MAX} CAs above it")]
    TooDeep,
    #[error("finding a path takes more than {SIGNATURES_MAX} signatures")]
    TooMuch,
    #[error("`{by}` may not certify the name `{name}`")]
    Constrained { by: String, name: String },
    #[error("`{by}` limits names of a form that is not understood, and `{name}` is of that form")]
    ConstraintForm { by: String, name: String },
    #[error("the name constraints of `{by}` cannot be read")]
    Constraints { by: String },
    #[error("the path must have a certificate policy and has none")]
    NoPolicy,
    #[error("the certificate policy {oid} is not there in the whole path")]
    PolicyMissing { oid: String },
    #[error("the extended key usage {oid} is not in the first certificate")]
    UsageMissing { oid: String },
    #[error("`{subject}` may not certify for the extended key usage {oid}")]
    UsageBarred { subject: String, oid: String },
    #[error("no trusted CA has the name `{issuer}`")]
    UnknownIssuer { issuer: String },
}

/// CAs of others that are trusted. Any may be an intermediate one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathAnchors(Vec<PathAnchor>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct PathAnchor {
    der: Vec<u8>,
    subject: Vec<u8>,
}

/// Why a text gives no anchors.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum PathAnchorError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("there are {found} certificates and at most {ANCHORS_MAX} are read")]
    TooMany { found: usize },
    #[error("certificate {at} is not an X.509 certificate, or not of a CA that may sign certificates")]
    NotCa { at: usize },
}

impl PathAnchors {
    /// Anchors from PEM. Their own signatures are not checked: whoever wrote the file vouches for them.
    pub fn from_pem(text: &str) -> Result<Self, PathAnchorError> {
        let ders = parse_pem("CERTIFICATE", text)?;
        if ders.len() > ANCHORS_MAX {
            return Err(PathAnchorError::TooMany { found: ders.len() });
        }
        let mut anchors = Vec::new();
        for (der, at) in ders.into_iter().zip(1..) {
            let parsed = parsed(&der).filter(|ca| named_ca_limit(ca).is_some()).ok_or(PathAnchorError::NotCa { at })?;
            let subject = parsed.subject().as_raw().to_vec();
            anchors.push(PathAnchor { subject, der });
        }
        Ok(Self(anchors))
    }
}

fn parsed(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, parsed)| parsed)
}

/// A certificate before its path is known.
#[derive(Clone, Debug)]
pub struct UnprovenLeaf {
    spki: Vec<u8>,
}

impl UnprovenLeaf {
    /// The first of some certificates, as they came.
    pub fn first(given: &[Vec<u8>]) -> Result<Self, PathError> {
        let given = read_all(given)?;
        let leaf = given.first().ok_or(PathError::Empty)?;
        check_leaf(leaf)?;
        Ok(Self { spki: leaf.public_key().raw.to_vec() })
    }

    /// The DER of its public key (SubjectPublicKeyInfo).
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// Checks that its key signed a text: RSA PKCS#1 v1.5 with SHA-256; ECDSA in ASN.1 with SHA-256 (P-256), SHA-384 (P-384) or
    /// SHA-512 (P-521); or Ed25519.
    ///
    /// # Errors
    /// [`BadSignature`], also for a key of another kind or size, which [`UnprovenLeaf::first`] has refused before.
    pub fn signed(&self, text: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let spki = signature::key(&self.spki).ok_or(BadSignature)?;
        signature::verify_message(text, signature, &spki).map_err(|_| BadSignature)
    }
}

/// A path from a leaf to an anchor, all of it valid at the time it was asked for.
#[derive(Debug)]
pub struct CertificationPath<'a> {
    /// From the leaf upwards, the anchor last.
    certs: Vec<X509Certificate<'a>>,
    /// The policies that are valid for the whole path, as object identifiers.
    policies: Vec<String>,
}

/// Finds a path from the first of some certificates to an anchor. The others may be in any order, and the anchor among them.
///
/// # Errors
/// A certificate cannot be read, or no path holds. If several are tried, the fault of the first.
pub fn verify_path<'a>(
    given: &'a [Vec<u8>],
    anchors: &'a PathAnchors,
    now: UnixTime,
) -> Result<CertificationPath<'a>, PathError> {
    let given = read_all(given)?;
    let leaf = given.first().ok_or(PathError::Empty)?;
    check_leaf(leaf)?;
    let walk = PathWalk { given: &given, anchors, now, signatures: Cell::new(0) };
    walk.up(&[leaf])
}

fn read_all(given: &[Vec<u8>]) -> Result<Vec<X509Certificate<'_>>, PathError> {
    if given.len() > PATH_CERTIFICATES_MAX {
        return Err(PathError::TooMany { found: given.len() });
    }
    given.iter().zip(1..).map(|(der, at)| read(der, at)).collect()
}

fn read(der: &[u8], at: usize) -> Result<X509Certificate<'_>, PathError> {
    if der.len() > CERT_MAX {
        return Err(PathError::TooLong { at, len: der.len() });
    }
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| PathError::Malformed { at })?;
    if !rest.is_empty() {
        return Err(PathError::TrailingBytes { at, bytes: rest.len() });
    }
    if parsed.version() != X509Version::V3 || parsed.signature_algorithm != parsed.tbs_certificate.signature {
        return Err(PathError::Malformed { at });
    }
    let extensions = parsed.extensions();
    if extensions.len() > EXTENSIONS_MAX {
        return Err(PathError::Extensions { at, found: extensions.len() });
    }
    let bad = extensions.iter().enumerate().find(|(nth, extension)| {
        let twice = extensions.iter().take(*nth).any(|earlier| earlier.oid == extension.oid);
        twice
            || match extension.parsed_extension() {
                ParsedExtension::ParseError { .. } => true,
                // RFC 5280 4.2.1.12: not empty.
                ParsedExtension::ExtendedKeyUsage(_) => elements(extension.value).is_none_or(|count| count == 0),
                _ => false,
            }
    });
    match bad {
        Some((_, extension)) => Err(PathError::BadExtension { at, oid: extension.oid.to_id_string() }),
        None => Ok(parsed),
    }
}

/// What can be said of a leaf without its path.
fn check_leaf(leaf: &X509Certificate<'_>) -> Result<(), PathError> {
    let has = |wanted: fn(&ParsedExtension<'_>) -> bool| {
        leaf.extensions().iter().any(|extension| wanted(extension.parsed_extension()))
    };
    // RFC 5280 4.2.1.9, 4.2.1.10: name constraints and signatures on certificates are for CAs.
    if has(|extension| match extension {
        ParsedExtension::BasicConstraints(basic) => basic.ca,
        ParsedExtension::KeyUsage(usage) => usage.key_cert_sign(),
        ParsedExtension::NameConstraints(_) => true,
        _ => false,
    }) {
        return Err(PathError::LeafIsCa);
    }
    if has(|extension| matches!(extension, ParsedExtension::KeyUsage(usage) if !usage.digital_signature())) {
        return Err(PathError::LeafKeyUsage);
    }
    if signature::is_accepted(leaf.public_key()) { Ok(()) } else { Err(PathError::LeafKey) }
}

struct PathWalk<'w, 'a> {
    given: &'w [X509Certificate<'a>],
    anchors: &'a PathAnchors,
    now: UnixTime,
    /// How many signatures were checked.
    signatures: Cell<u32>,
}

impl<'a> PathWalk<'_, 'a> {
    /// From the last certificate of a path that begins with the leaf. Anchors are tried before other CAs of the same name.
    fn up(&self, path: &[&X509Certificate<'a>]) -> Result<CertificationPath<'a>, PathError> {
        let cert = path.last().ok_or(PathError::Empty)?;
        self.check(cert)?;
        let mut fault = None;
        for anchor in self.anchors.0.iter().filter(|anchor| anchor.subject == cert.issuer().as_raw()) {
            let Some(anchor) = parsed(&anchor.der).filter(|anchor| is_issuer(cert, anchor)) else { continue };
            match self.signed_by(path, &anchor).and_then(|()| self.complete(path, &anchor)) {
                Ok(found) => return Ok(found),
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        for issuer in self.given.iter().filter(|issuer| is_issuer(cert, issuer)) {
            if path.iter().any(|below| below.as_raw() == issuer.as_raw()) {
                continue;
            }
            let longer = [path, &[issuer]].concat();
            match self.signed_by(path, issuer).and_then(|()| self.up(&longer)) {
                Ok(found) => return Ok(found),
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        Err(fault.unwrap_or_else(|| PathError::UnknownIssuer { issuer: shown(&cert.issuer().to_string()) }))
    }

    /// What holds for every certificate of a path, the anchor included.
    fn check(&self, cert: &X509Certificate<'_>) -> Result<(), PathError> {
        let critical = cert.extensions().iter().filter(|extension| extension.critical);
        let unknown =
            critical.map(|extension| extension.oid.to_id_string()).find(|oid| !UNDERSTOOD.contains(&oid.as_str()));
        if let Some(oid) = unknown {
            return Err(PathError::UnknownCritical { subject: subject(cert), oid });
        }
        check_validity(cert, self.now)
    }

    /// Whether a CA may have signed the last certificate of a path, and did.
    fn signed_by(&self, path: &[&X509Certificate<'a>], ca: &X509Certificate<'_>) -> Result<(), PathError> {
        let cert = path.last().ok_or(PathError::Empty)?;
        if path.len() > DEPTH_MAX {
            return Err(PathError::TooDeep);
        }
        let most = named_ca_limit(ca).ok_or_else(|| PathError::NotCa { subject: subject(ca) })?;
        // RFC 5280 4.2.1.9: self-issued CAs do not count.
        let below = path.iter().skip(1).filter(|ca| ca.subject().as_raw() != ca.issuer().as_raw()).count();
        if below > most {
            return Err(PathError::PathLength { subject: subject(ca), below });
        }
        if signature::is_sha1(&cert.signature_algorithm) {
            return Err(PathError::Sha1 { subject: subject(cert) });
        }
        if self.signatures.get() >= SIGNATURES_MAX {
            return Err(PathError::TooMuch);
        }
        self.signatures.set(self.signatures.get() + 1);
        signature::verify(cert, ca.public_key()).map_err(|fault| match fault {
            SignatureFault::Key => PathError::IssuerKey { subject: subject(ca) },
            SignatureFault::Algorithm => PathError::Algorithm { subject: subject(cert) },
            SignatureFault::Wrong => PathError::Signature { subject: subject(cert) },
        })
    }

    /// What can be said of a path only when all of it is there.
    fn complete(
        &self,
        path: &[&X509Certificate<'a>],
        anchor: &X509Certificate<'a>,
    ) -> Result<CertificationPath<'a>, PathError> {
        self.check(anchor)?;
        let certs: Vec<X509Certificate<'a>> = path.iter().copied().chain([anchor]).cloned().collect();
        constraints::check(&certs)?;
        let policies = policies::valid(&certs)?;
        Ok(CertificationPath { certs, policies })
    }
}

impl CertificationPath<'_> {
    /// The leaf, in words.
    #[must_use]
    pub fn leaf(&self) -> PathLeaf {
        PathLeaf::of(self)
    }

    /// The certificates of the path without the anchor, the leaf first: enough to find it again.
    #[must_use]
    pub fn below_anchor(&self) -> Vec<Vec<u8>> {
        let path = self.certs.split_last().map_or(&[][..], |(_, path)| path);
        path.iter().map(|cert| cert.as_raw().to_vec()).collect()
    }

    /// Checks that all of it is valid at another time, too.
    ///
    /// # Errors
    /// [`PathError::NotYetValid`], [`PathError::Expired`].
    pub fn check_time(&self, at: UnixTime) -> Result<(), PathError> {
        self.certs.iter().try_for_each(|cert| check_validity(cert, at))
    }

    /// The digests of the keys of the CAs in the path, from the leaf's issuer upwards, the anchor last.
    #[must_use]
    pub fn issuer_keys(&self) -> Vec<crate::KeyDigest> {
        self.certs.iter().skip(1).map(|ca| crate::KeyDigest::from_spki_der(ca.public_key().raw)).collect()
    }

    /// Checks that the leaf states an extended key usage, and that no CA above it is limited to others. `anyExtendedKeyUsage` in the
    /// leaf states nothing.
    ///
    /// # Errors
    /// [`PathError::UsageMissing`], [`PathError::UsageBarred`].
    pub fn require_usage(&self, oid: &str) -> Result<(), PathError> {
        if !self.certs.first().is_some_and(|leaf| leaf::usages(leaf).iter().any(|usage| usage == oid)) {
            return Err(PathError::UsageMissing { oid: oid.to_owned() });
        }
        let bars = |ca: &&X509Certificate<'_>| {
            let usages = leaf::usages(ca);
            !usages.is_empty() && !usages.iter().any(|usage| usage == oid || usage == leaf::ANY_USAGE)
        };
        match self.certs.iter().skip(1).find(bars) {
            Some(ca) => Err(PathError::UsageBarred { subject: subject(ca), oid: oid.to_owned() }),
            None => Ok(()),
        }
    }

    /// Checks that a certificate policy is valid for the whole path.
    ///
    /// # Errors
    /// [`PathError::PolicyMissing`].
    pub fn require_policy(&self, oid: &str) -> Result<(), PathError> {
        if self.policies.iter().any(|policy| policy == oid) {
            return Ok(());
        }
        Err(PathError::PolicyMissing { oid: oid.to_owned() })
    }
}

fn check_validity(cert: &X509Certificate<'_>, now: UnixTime) -> Result<(), PathError> {
    let validity = cert.validity();
    let from = UnixTime::from_signed(validity.not_before.timestamp());
    let at = UnixTime::from_signed(validity.not_after.timestamp());
    if now < from {
        return Err(PathError::NotYetValid { subject: subject(cert), from });
    }
    if now > at {
        return Err(PathError::Expired { subject: subject(cert), at });
    }
    Ok(())
}

/// Whether a CA of this name and key may have issued a certificate (RFC 5280 4.2.1.1). Its signature decides. Names are compared as
/// they came.
fn is_issuer(cert: &X509Certificate<'_>, ca: &X509Certificate<'_>) -> bool {
    let another_key = authority_key_id(cert).zip(subject_key_id(ca)).is_some_and(|(named, own)| named != own);
    cert.issuer().as_raw() == ca.subject().as_raw() && !another_key
}

/// As [`ca_limit`], for a CA that has a name (RFC 5280 4.1.2.6).
fn named_ca_limit(cert: &X509Certificate<'_>) -> Option<usize> {
    ca_limit(cert).filter(|_| cert.subject().iter_rdn().next().is_some())
}

/// How many elements a SEQUENCE has; `None` if it is none, or if bytes follow it. The reader of certificates leaves out optional
/// members that it cannot read, and a limit that was left out would be none.
fn elements(sequence: &[u8]) -> Option<usize> {
    let (rest, outer) = Any::from_der(sequence).ok().filter(|(_, outer)| outer.tag() == Tag::Sequence)?;
    let (mut inside, mut count) = (outer.data, 0);
    while !inside.is_empty() {
        (inside, _) = Any::from_der(inside).ok()?;
        count += 1;
    }
    rest.is_empty().then_some(count)
}

/// Whose certificate it is, as texts show it.
fn subject(cert: &X509Certificate<'_>) -> String {
    let name = shown(&cert.subject().to_string());
    if name.is_empty() { "the device".to_owned() } else { name }
}

#[cfg(test)]
mod tests;
