//! Trust anchors: the roots that a peer's chain must end in, and the pin that identifies a root.

use rustls_pki_types::TrustAnchor;
use thiserror::Error;

use crate::cert::{CertFault, Certificate};
use crate::key::KeyDigest;
use crate::name::TrustDomain;
use crate::time::UnixTime;

/// Most roots in one set: a previous, a current and a next one, for two roots in parallel.
const ANCHORS_MAX: usize = 8;

/// Why a root is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum AnchorError {
    /// An empty set would refuse every peer, so it is an error at start.
    #[error("no root certificate is given; give at least one")]
    Empty,
    #[error("{found} root certificates are given and at most {ANCHORS_MAX} are used; remove retired ones")]
    TooMany { found: usize },
    #[error("root certificate {number} is refused: {fault}")]
    Certificate {
        /// Which one, counted from 1.
        number: usize,
        #[source]
        fault: CertFault,
    },
    #[error("root certificate {number} is not signed by its own key")]
    NotSelfSigned {
        /// Which one, counted from 1.
        number: usize,
    },
    #[error("root certificate {number} belongs to trust domain `{found}` and not to `{wanted}`")]
    ForeignDomain {
        /// Which one, counted from 1.
        number: usize,
        found: String,
        wanted: String,
    },
    #[error("the root certificate does not name its trust domain in exactly one `spiffe://` URI")]
    NoDomain,
}

/// One root.
#[derive(Debug)]
pub(crate) struct Anchor {
    pub(crate) der: Vec<u8>,
    pub(crate) for_path_builder: TrustAnchor<'static>,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) may_sign_lists: bool,
    pub(crate) pin: KeyDigest,
}

/// Roots that were checked, for [`crate::verify_chain`].
#[derive(Debug)]
pub struct AnchorSet {
    pub(crate) anchors: Vec<Anchor>,
    /// Issuing CAs below the roots, for peers that send only their leaf.
    pub(crate) issuers: Vec<KnownIssuer>,
}

/// An issuing CA below one of the roots. It is verified as if the peer had sent it.
#[derive(Debug)]
pub(crate) struct KnownIssuer {
    pub(crate) der: Vec<u8>,
    pub(crate) subject: Vec<u8>,
}

impl AnchorSet {
    /// Reads and checks every root; one bad root refuses the set. Path validation uses only name, key and name constraints of a
    /// root (RFC 5280 6.1.1), so the rest of its certificate is checked here.
    pub fn new(roots: &[&[u8]], now: UnixTime) -> Result<Self, AnchorError> {
        match roots.len() {
            0 => return Err(AnchorError::Empty),
            found if found > ANCHORS_MAX => return Err(AnchorError::TooMany { found }),
            _ => {}
        }
        let read = |(at, der): (usize, &&[u8])| {
            read_anchor(der, now).map_err(|fault| AnchorError::Certificate { number: at + 1, fault })
        };
        Ok(Self { anchors: roots.iter().enumerate().map(read).collect::<Result<_, _>>()?, issuers: Vec::new() })
    }

    /// The names of the roots and of the CAs below them that we know, DER, each once: what a server asks certificates of
    /// (RFC 8446 4.2.4).
    #[must_use]
    pub fn names(&self) -> Vec<Vec<u8>> {
        let roots =
            self.anchors.iter().filter_map(|anchor| Some(Certificate::read(&anchor.der).ok()?.subject().to_vec()));
        let mut names: Vec<Vec<u8>> = Vec::new();
        for name in roots.chain(self.issuers.iter().map(|issuer| issuer.subject.clone())) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

fn read_anchor(der: &[u8], now: UnixTime) -> Result<Anchor, CertFault> {
    let cert = Certificate::read(der)?;
    cert.check_anchor(now)?;
    let for_webpki = cert.for_path_builder();
    let anchor = webpki::anchor_from_trusted_cert(&for_webpki).map_err(|_| CertFault::Malformed)?;
    Ok(Anchor {
        der: der.to_vec(),
        for_path_builder: anchor.to_owned(),
        not_before: cert.not_before(),
        not_after: cert.not_after(),
        may_sign_lists: cert.may_sign_lists(),
        pin: cert.key().digest(),
    })
}

/// The roots of one trust domain.
#[derive(Debug)]
pub struct TrustAnchors {
    domain: TrustDomain,
    pub(crate) set: AnchorSet,
}

impl TrustAnchors {
    /// Reads and checks the roots. Beyond [`AnchorSet::new`]: each is signed by its own key, and if it names a trust
    /// domain, it is this one.
    pub fn new(domain: &TrustDomain, roots: &[&[u8]], now: UnixTime) -> Result<Self, AnchorError> {
        let set = AnchorSet::new(roots, now)?;
        for (at, der) in roots.iter().enumerate() {
            let number = at + 1;
            let cert = Certificate::read(der).map_err(|fault| AnchorError::Certificate { number, fault })?;
            if !cert.is_self_signed() {
                return Err(AnchorError::NotSelfSigned { number });
            }
            let foreign = |found: String| AnchorError::ForeignDomain { number, found, wanted: domain.to_string() };
            match cert.uris().as_slice() {
                [] => {}
                [_] => match cert.ca_domain() {
                    Some(found) if found == *domain => {}
                    Some(found) => return Err(foreign(found.to_string())),
                    None => return Err(AnchorError::NoDomain),
                },
                _ => return Err(AnchorError::NoDomain),
            }
        }
        Ok(Self { domain: domain.clone(), set })
    }

    /// Adds issuing CAs, so that a peer can be verified that sends only its leaf (RFC 5280 6.1 leaves open where intermediates
    /// come from). They are verified as if the peer had sent them.
    ///
    /// # Errors
    /// [`CertFault`] of the first that cannot be read.
    pub fn with_issuers(mut self, issuers: &[&[u8]]) -> Result<Self, CertFault> {
        for der in issuers {
            let subject = Certificate::read(der)?.subject().to_vec();
            self.set.issuers.push(KnownIssuer { der: der.to_vec(), subject });
        }
        Ok(self)
    }

    /// As [`AnchorSet::names`].
    #[must_use]
    pub fn names(&self) -> Vec<Vec<u8>> {
        self.set.names()
    }

    /// The trust domain.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The roots, as given.
    pub fn roots(&self) -> impl Iterator<Item = &[u8]> {
        self.set.anchors.iter().map(|anchor| anchor.der.as_slice())
    }

    /// The pins of the roots, in the same order.
    pub fn pins(&self) -> impl Iterator<Item = KeyDigest> {
        self.set.anchors.iter().map(|anchor| anchor.pin)
    }
}

/// Reads a root and checks that it is a self-signed CA. Its validity is not checked.
pub(crate) fn check_root(der: &[u8]) -> Result<Certificate<'_>, AnchorError> {
    let failed = |fault| AnchorError::Certificate { number: 1, fault };
    let cert = Certificate::read(der).map_err(failed)?;
    cert.check_anchor(cert.not_before()).map_err(failed)?;
    if cert.is_self_signed() { Ok(cert) } else { Err(AnchorError::NotSelfSigned { number: 1 }) }
}

/// The pin of a root: SHA-256 of its SubjectPublicKeyInfo. Refuses a certificate that is not a self-signed root.
pub fn root_pin(root: &[u8]) -> Result<KeyDigest, AnchorError> {
    check_root(root).map(|cert| cert.key().digest())
}

/// The trust domain of a root: a client that enrolls with a pin alone takes it from here.
pub fn root_domain(root: &[u8]) -> Result<TrustDomain, AnchorError> {
    check_root(root)?.ca_domain().ok_or(AnchorError::NoDomain)
}

/// The root with this pin among the certificates that a gateway sent. It must be self-signed: anybody can put the pinned
/// public key into a certificate with other contents.
#[must_use]
pub fn find_pinned_root<'a>(chain: &[&'a [u8]], pin: &KeyDigest) -> Option<&'a [u8]> {
    chain.iter().copied().find(|der| root_pin(der).is_ok_and(|found| found == *pin))
}

#[cfg(test)]
mod tests;
