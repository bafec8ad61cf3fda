//! Path validation: path building by webpki, and the rules of RFC 5280 that webpki leaves to its caller.

use std::cell::RefCell;
use std::fmt;

use rcgen::ExtendedKeyUsagePurpose;
use rustls_pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor};
use thiserror::Error;
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_parser::extensions::{ExtendedKeyUsage, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::anchor::{Anchor, AnchorSet};
use crate::cert::{CertFault, Certificate};
use crate::key::KeyDigest;
use crate::time::UnixTime;

/// Longest chain in certificates, leaf and root included: ours have three, and a root may be certified by another.
pub const CHAIN_MAX: usize = 4;
/// Most certificates read from a peer, the leaf included. During a change of roots a gateway sends its leaf, its CA, both roots and
/// the cross certificate between them.
pub const SENT_MAX: usize = 6;
/// Most intermediates considered: during a rollover a peer sends a few more than its chain contains.
const INTERMEDIATES_MAX: usize = 12;

/// Signature algorithms accepted in certificates: those of the accepted keys.
static SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::aws_lc_rs::ECDSA_P256_SHA256,
    webpki::aws_lc_rs::ECDSA_P256_SHA384,
    webpki::aws_lc_rs::ECDSA_P384_SHA256,
    webpki::aws_lc_rs::ECDSA_P384_SHA384,
    webpki::aws_lc_rs::ED25519,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA384,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA512,
];

/// What a leaf is used for in TLS.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Eku {
    /// `id-kp-clientAuth`.
    ClientAuth,
    /// `id-kp-serverAuth`.
    ServerAuth,
}

impl Eku {
    pub(crate) const fn for_encoder(self) -> ExtendedKeyUsagePurpose {
        match self {
            Self::ClientAuth => ExtendedKeyUsagePurpose::ClientAuth,
            Self::ServerAuth => ExtendedKeyUsagePurpose::ServerAuth,
        }
    }

    /// For the path builder, which requires the same usage of intermediates that have the extension.
    const fn for_path_builder(self) -> KeyUsage {
        match self {
            Self::ClientAuth => KeyUsage::client_auth(),
            Self::ServerAuth => KeyUsage::server_auth(),
        }
    }

    pub(crate) const fn is_in(self, usage: &ExtendedKeyUsage<'_>) -> bool {
        match self {
            Self::ClientAuth => usage.client_auth,
            Self::ServerAuth => usage.server_auth,
        }
    }
}

impl fmt::Display for Eku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientAuth => "clientAuth",
            Self::ServerAuth => "serverAuth",
        })
    }
}

/// Why a chain is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum ChainError {
    #[error("{found} intermediate certificates were sent and at most {INTERMEDIATES_MAX} are looked at")]
    TooManyIntermediates { found: usize },
    #[error("the certificate is refused: {0}")]
    Leaf(#[source] CertFault),
    #[error("a CA certificate in the chain is refused: {0}")]
    Issuer(#[source] CertFault),
    #[error("no root certificate is valid at {now}; fetch the current bundle")]
    NoValidAnchor { now: UnixTime },
    #[error("the chain to the root has more than {CHAIN_MAX} certificates")]
    TooLong,
    #[error("the certificate does not lead to a root of this trust domain")]
    UnknownIssuer,
    #[error("the certificate was revoked")]
    Revoked,
    #[error("a revocation list is refused: {reason}")]
    List { reason: &'static str },
    #[error("the chain does not verify: {reason}")]
    Path {
        /// The path builder's message.
        reason: String,
    },
}

/// A leaf whose chain leads to one of the anchors.
#[derive(Debug)]
pub struct VerifiedChain<'a> {
    pub(crate) leaf: Certificate<'a>,
    /// From the leaf's issuer upwards, the root left out.
    pub(crate) issuers: Vec<Certificate<'a>>,
    anchor: KeyDigest,
}

impl<'a> VerifiedChain<'a> {
    /// The leaf.
    #[must_use]
    pub const fn leaf_der(&self) -> &'a [u8] {
        self.leaf.der()
    }

    /// Certificates in the chain, leaf and root included.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a chain is never empty")]
    pub fn len(&self) -> usize {
        self.issuers.len() + 2
    }

    /// The pin of the root it leads to.
    #[must_use]
    pub const fn anchor(&self) -> KeyDigest {
        self.anchor
    }

    /// Whether the leaf carries this host name or address (RFC 9525 6): never by common name, a wildcard for one label.
    #[must_use]
    pub fn matches_host(&self, host: &str) -> bool {
        names_host(self.leaf.der(), host)
    }
}

/// [`VerifiedChain::matches_host`] for the DER of a leaf that was verified before.
#[must_use]
pub fn names_host(leaf: &[u8], host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let der = CertificateDer::from(leaf);
    match (ServerName::try_from(bare), EndEntityCert::try_from(&der)) {
        (Ok(name), Ok(leaf)) => leaf.verify_is_valid_for_subject_name(&name).is_ok(),
        _ => false,
    }
}

/// Verifies by RFC 5280 and the stricter rules of [`crate::cert`] that a leaf chains to one of the anchors and may be used for
/// `eku`. Identities are not checked. If revocation lists are given, a current one must cover the leaf. Intermediates outside
/// the chain are ignored, even unreadable ones. Known CAs ([`TrustAnchors::with_issuers`]) that may have issued the leaf are
/// treated as if the peer had sent them.
pub fn verify_chain<'a>(
    leaf: &'a [u8],
    intermediates: &[&'a [u8]],
    anchors: &'a AnchorSet,
    eku: Eku,
    crls: &[&[u8]],
    now: UnixTime,
) -> Result<VerifiedChain<'a>, ChainError> {
    verify_chain_of(leaf, intermediates, anchors, (eku, Unstated::Refused), crls, now)
}

/// What becomes of a leaf that states no extended key usage at all.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Unstated {
    /// It is refused: ours state it.
    Refused,
    /// It may be used for everything (RFC 5280 4.2.1.12).
    Taken,
}

/// The same, by how strict the leaf's issuer is about usages.
pub(crate) fn verify_chain_of<'a>(
    leaf: &'a [u8],
    intermediates: &[&'a [u8]],
    anchors: &'a AnchorSet,
    (eku, unstated): (Eku, Unstated),
    crls: &[&[u8]],
    now: UnixTime,
) -> Result<VerifiedChain<'a>, ChainError> {
    if intermediates.len() > INTERMEDIATES_MAX {
        return Err(ChainError::TooManyIntermediates { found: intermediates.len() });
    }
    let leaf = Certificate::read(leaf).map_err(ChainError::Leaf)?;
    leaf.check_time(now).map_err(ChainError::Leaf)?;
    leaf.check_leaf(eku, unstated).map_err(ChainError::Leaf)?;
    let usable: Vec<TrustAnchor<'_>> = anchors
        .anchors
        .iter()
        .filter(|anchor| (anchor.not_before..=anchor.not_after).contains(&now))
        .map(|anchor| anchor.for_path_builder.clone())
        .collect();
    if usable.is_empty() {
        return Err(ChainError::NoValidAnchor { now });
    }
    let lists = read_lists(crls, now)?;
    let mut candidates: Vec<_> = intermediates.iter().map(|der| PathCandidate::new(der)).collect();
    let known = anchors.issuers.iter().filter(|known| known.subject == leaf.issuer());
    let unsent = known.filter(|known| !intermediates.contains(&known.der.as_slice()));
    candidates.extend(unsent.map(|known| PathCandidate::new(&known.der)));
    let found = find_path(&leaf, &candidates, &usable, eku, &lists, now)?;

    let anchor = anchors.anchors.iter().find(|anchor| anchor.leads(&found)).ok_or(ChainError::UnknownIssuer)?;
    // RFC 5280 6.3.3 (f): the path builder checks this for intermediates, but does not have the key usage of an anchor.
    if !lists.is_empty() && found.issuers.is_empty() && !anchor.may_sign_lists {
        return Err(ChainError::List { reason: "its issuer may not sign lists" });
    }
    let mut issuers = Vec::with_capacity(found.issuers.len());
    for at in found.issuers {
        let cert = candidates.get_mut(at).and_then(PathCandidate::take).ok_or(ChainError::UnknownIssuer)?;
        issuers.push(cert);
    }
    Ok(VerifiedChain { leaf, issuers, anchor: anchor.pin })
}

/// An intermediate as sent. An unreadable one is an error only if the chain contains it.
struct PathCandidate<'a> {
    der: &'a [u8],
    read: Option<Result<Certificate<'a>, CertFault>>,
}

impl<'a> PathCandidate<'a> {
    fn new(der: &'a [u8]) -> Self {
        Self { der, read: Some(Certificate::read(der)) }
    }

    fn take(&mut self) -> Option<Certificate<'a>> {
        self.read.take()?.ok()
    }

    fn check(&self) -> Result<(), ChainError> {
        match &self.read {
            Some(Ok(cert)) => cert.check_issuer().map_err(ChainError::Issuer),
            Some(Err(fault)) => Err(ChainError::Issuer(fault.clone())),
            None => Err(ChainError::UnknownIssuer),
        }
    }
}

/// A path as indices, without the path builder's lifetimes.
struct Found {
    /// Indices of intermediates, from the leaf's issuer upwards.
    issuers: Vec<usize>,
    anchor_subject: Vec<u8>,
    anchor_key: Vec<u8>,
}

impl Anchor {
    fn leads(&self, found: &Found) -> bool {
        let own = &self.for_path_builder;
        own.subject.as_ref() == found.anchor_subject && own.subject_public_key_info.as_ref() == found.anchor_key
    }
}

fn find_path(
    leaf: &Certificate<'_>,
    candidates: &[PathCandidate<'_>],
    anchors: &[TrustAnchor<'_>],
    eku: Eku,
    lists: &[CertRevocationList<'_>],
    now: UnixTime,
) -> Result<Found, ChainError> {
    let leaf_der = leaf.for_path_builder();
    let leaf = EndEntityCert::try_from(&leaf_der).map_err(|error| explain(&error))?;
    let intermediates: Vec<CertificateDer<'_>> = candidates.iter().map(|c| CertificateDer::from(c.der)).collect();
    let lists: Vec<&CertRevocationList<'_>> = lists.iter().collect();
    let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
        options
            .with_depth(RevocationCheckDepth::EndEntity)
            .with_status_policy(UnknownStatusPolicy::Deny)
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build()
    });
    // Called for each path that verifies. One that breaks our rules is skipped, another may obey them.
    let refused: RefCell<Option<ChainError>> = RefCell::new(None);
    let check = |path: &VerifiedPath<'_>| match positions(path, candidates) {
        Ok(_) => Ok(()),
        Err(error) => {
            refused.borrow_mut().get_or_insert(error);
            Err(webpki::Error::UnknownIssuer)
        }
    };
    let time = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.secs()));
    let path = leaf
        .verify_for_usage(SIGNATURES, anchors, &intermediates, time, eku.for_path_builder(), revocation, Some(&check))
        .map_err(|error| refused.take().unwrap_or_else(|| explain(&error)))?;
    Ok(Found {
        issuers: positions(&path, candidates)?,
        anchor_subject: path.anchor().subject.as_ref().to_vec(),
        anchor_key: path.anchor().subject_public_key_info.as_ref().to_vec(),
    })
}

/// The indices of a path's CAs among the candidates, after checking each CA by our rules.
fn positions(path: &VerifiedPath<'_>, candidates: &[PathCandidate<'_>]) -> Result<Vec<usize>, ChainError> {
    let mut found = Vec::new();
    for cert in path.intermediate_certificates() {
        let der = cert.der();
        let at = candidates.iter().position(|c| c.der == der.as_ref()).ok_or(ChainError::UnknownIssuer)?;
        found.push(at);
    }
    if found.len() + 2 > CHAIN_MAX {
        return Err(ChainError::TooLong);
    }
    found.iter().filter_map(|at| candidates.get(*at)).try_for_each(PathCandidate::check)?;
    Ok(found)
}

/// Parses revocation lists for the path builder, and checks what it does not.
fn read_lists<'a>(crls: &[&'a [u8]], now: UnixTime) -> Result<Vec<CertRevocationList<'a>>, ChainError> {
    crls.iter()
        .map(|der| {
            check_list(der, now).map_err(|reason| ChainError::List { reason })?;
            BorrowedCertRevocationList::from_der(der)
                .map(CertRevocationList::from)
                .map_err(|_| ChainError::List { reason: "it cannot be read" })
        })
        .collect()
}

fn check_list(der: &[u8], now: UnixTime) -> Result<(), &'static str> {
    let (rest, list) = CertificateRevocationList::from_der(der).map_err(|_| "it cannot be read")?;
    if !rest.is_empty() {
        return Err("bytes follow it");
    }
    if UnixTime::from_signed(list.last_update().timestamp()) > now {
        return Err("it is from the future");
    }
    // RFC 5280 5.2.3: the CRL number is required and not critical.
    let number = list.extensions().iter().find(|e| matches!(e.parsed_extension(), ParsedExtension::CRLNumber(_)));
    match number {
        Some(number) if !number.critical => Ok(()),
        Some(_) => Err("its number is marked critical"),
        None => Err("it has no number"),
    }
}

/// Converts the path builder's errors.
fn explain(error: &webpki::Error) -> ChainError {
    match error {
        webpki::Error::UnknownIssuer => ChainError::UnknownIssuer,
        webpki::Error::CertRevoked => ChainError::Revoked,
        webpki::Error::UnknownRevocationStatus => ChainError::List { reason: "none of them covers the certificate" },
        webpki::Error::CrlExpired { .. } => ChainError::List { reason: "it is out of date" },
        webpki::Error::IssuerNotCrlSigner => ChainError::List { reason: "its issuer may not sign lists" },
        other => ChainError::Path { reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests;
