//! Verifies a peer's certificates and gives a [`Peer`], whose identity comes from the chain alone.

use thiserror::Error;

use crate::anchor::TrustAnchors;
use crate::cert::Certificate;
use crate::chain::{ChainError, Eku, SENT_MAX, VerifiedChain, verify_chain};
use crate::key::KeyDigest;
use crate::name::{BadName, Identity, Name, Role};
use crate::profile::{Assurance, AssuranceLevel};
use crate::serial::Serial;
use crate::time::UnixTime;

/// A party whose certificate was verified. The TLS handshake proves possession of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub identity: Identity,
    /// The serial of its certificate.
    pub serial: Serial,
    /// The digest of its key.
    pub key: KeyDigest,
    /// Its key as SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// Start of the certificate's validity.
    pub not_before: UnixTime,
    /// End of the certificate's validity.
    pub not_after: UnixTime,
    /// The assurance in its certificate; [`Assurance::NONE`] when the certificate has none.
    pub assurance: Assurance,
}

/// Why a peer is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum PeerError {
    #[error("{found} certificates were sent and at most {SENT_MAX} are read")]
    TooManyCertificates {
        /// How many, the leaf included.
        found: usize,
    },
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// SPIFFE X509-SVID 4.1.
    #[error("the certificate carries {found} URIs instead of exactly one identity")]
    IdentityCount { found: usize },
    #[error("the certificate's URI is no identity: {0}")]
    BadIdentity(#[source] BadName),
    #[error("the identity `{identity}` does not lie in trust domain `{domain}`")]
    ForeignDomain { identity: String, domain: String },
    /// Signed by a root or CA that carries no role, or several, or that may have CAs of its own.
    #[error("the certificate was not issued by a CA for exactly one role")]
    NoIssuingRole,
    #[error("the identity `{identity}` was issued by the CA for {}", ca.plural())]
    WrongIssuer { identity: String, ca: Role },
    #[error("a {found} is not accepted here")]
    WrongRole { found: Role },
    /// SPIFFE X509-SVID 4.3, RFC 5280 4.2.1.3.
    #[error("the certificate's key usage is not there, not critical, or not for signing")]
    KeyUsage,
    #[error("the certificate's extended key usage is not {wanted} alone")]
    ExtendedKeyUsage { wanted: Eku },
    #[error("the certificate's serial number is longer than 16 bytes")]
    Serial,
    #[error("the certificate states {found} assurance levels")]
    Assurance { found: usize },
    #[error("the certificate does not say of one thing what its assurance is of")]
    AssuranceOf,
    #[error("the certificate is not for the machine `{wanted}`")]
    WrongMachine { wanted: String },
    #[error("the gateway's certificate is not for `{host}`")]
    WrongHost { host: String },
}

/// Verifies a machine or person that connects to us. `intermediates` is what it sent after the leaf, in any order, the
/// root included or not; the issuing CA may be missing when the anchors know it.
pub fn verify_peer(
    leaf: &[u8],
    intermediates: &[&[u8]],
    anchors: &TrustAnchors,
    roles: &[Role],
    now: UnixTime,
) -> Result<Peer, PeerError> {
    verify(leaf, intermediates, anchors, Eku::ClientAuth, roles, now).map(|(peer, _)| peer)
}

/// As [`verify_peer`], and returns the pin of the root as well.
pub fn verify_peer_to_root(
    leaf: &[u8],
    intermediates: &[&[u8]],
    anchors: &TrustAnchors,
    roles: &[Role],
    now: UnixTime,
) -> Result<(Peer, KeyDigest), PeerError> {
    verify(leaf, intermediates, anchors, Eku::ClientAuth, roles, now).map(|(peer, chain)| (peer, chain.anchor()))
}

/// Verifies a gateway that was reached as `host`, a name or an address.
pub fn verify_gateway(
    leaf: &[u8],
    intermediates: &[&[u8]],
    anchors: &TrustAnchors,
    host: &str,
    now: UnixTime,
) -> Result<Peer, PeerError> {
    let (peer, chain) = verify(leaf, intermediates, anchors, Eku::ServerAuth, &[Role::Gateway], now)?;
    if chain.matches_host(host) { Ok(peer) } else { Err(PeerError::WrongHost { host: host.to_owned() }) }
}

/// Verifies the sealed service of a machine that was reached by the machine's name. The machine's client certificate is refused
/// here, and the certificate of the sealed service everywhere else.
pub fn verify_sealed(
    leaf: &[u8],
    intermediates: &[&[u8]],
    anchors: &TrustAnchors,
    machine: &Name,
    now: UnixTime,
) -> Result<Peer, PeerError> {
    let (peer, _) = verify(leaf, intermediates, anchors, Eku::ServerAuth, &[Role::Machine], now)?;
    if peer.identity.name == *machine { Ok(peer) } else { Err(PeerError::WrongMachine { wanted: machine.to_string() }) }
}

fn verify<'a>(
    leaf: &'a [u8],
    intermediates: &[&'a [u8]],
    anchors: &'a TrustAnchors,
    eku: Eku,
    roles: &[Role],
    now: UnixTime,
) -> Result<(Peer, VerifiedChain<'a>), PeerError> {
    let found = intermediates.len() + 1;
    if found > SENT_MAX {
        return Err(PeerError::TooManyCertificates { found });
    }
    let chain = verify_chain(leaf, intermediates, &anchors.set, eku, &[], now)?;
    let identity = identity(&chain.leaf, anchors)?;
    let ca = issuing_role(&chain.issuers)?;
    if ca != identity.role {
        return Err(PeerError::WrongIssuer { identity: identity.to_string(), ca });
    }
    if !roles.contains(&identity.role) {
        return Err(PeerError::WrongRole { found: identity.role });
    }
    check_usages(&chain.leaf, eku)?;
    let peer = Peer {
        identity,
        serial: chain.leaf.serial().ok_or(PeerError::Serial)?,
        key: chain.leaf.key().digest(),
        spki: chain.leaf.key().spki_der().to_vec(),
        not_before: chain.leaf.not_before(),
        not_after: chain.leaf.not_after(),
        assurance: assurance(&chain.leaf)?,
    };
    Ok((peer, chain))
}

/// SPIFFE X509-SVID 4.1: exactly one URI, an identity in our trust domain.
fn identity(leaf: &Certificate<'_>, anchors: &TrustAnchors) -> Result<Identity, PeerError> {
    let uris = leaf.uris();
    let [uri] = uris.as_slice() else {
        return Err(PeerError::IdentityCount { found: uris.len() });
    };
    let identity = Identity::parse(uri).map_err(PeerError::BadIdentity)?;
    if identity.domain == *anchors.domain() {
        Ok(identity)
    } else {
        Err(PeerError::ForeignDomain { identity: identity.to_string(), domain: anchors.domain().to_string() })
    }
}

/// The role of the CA that signed the leaf. The CA must have path length 0 and no CA above it may carry a role: so the holder of
/// one issuing key cannot make a CA for another role.
fn issuing_role(issuers: &[Certificate<'_>]) -> Result<Role, PeerError> {
    let [issuing, above @ ..] = issuers else {
        return Err(PeerError::NoIssuingRole);
    };
    let clean_above = above.iter().all(|ca| ca.role_markers().is_empty());
    match issuing.role_markers().as_slice() {
        [role] if issuing.path_len() == Some(0) && clean_above => Ok(*role),
        _ => Err(PeerError::NoIssuingRole),
    }
}

/// SPIFFE X509-SVID 4.3: key usage present and critical; exactly one extended key usage, the one of the role.
fn check_usages(leaf: &Certificate<'_>, eku: Eku) -> Result<(), PeerError> {
    if !leaf.key_usage().is_some_and(|(critical, usage)| critical && usage.digital_signature()) {
        return Err(PeerError::KeyUsage);
    }
    let alone = leaf.extended_key_usage().is_some_and(|usage| {
        let count = [
            usage.any,
            usage.server_auth,
            usage.client_auth,
            usage.code_signing,
            usage.email_protection,
            usage.time_stamping,
            usage.ocsp_signing,
        ]
        .into_iter()
        .filter(|set| *set)
        .count();
        eku.is_in(&usage) && count == 1 && usage.other.is_empty()
    });
    if alone { Ok(()) } else { Err(PeerError::ExtendedKeyUsage { wanted: eku }) }
}

/// The assurance; the lowest when the leaf has none.
fn assurance(leaf: &Certificate<'_>) -> Result<Assurance, PeerError> {
    let level = match leaf.assurances().as_slice() {
        [] => AssuranceLevel::None,
        [level] => *level,
        more => return Err(PeerError::Assurance { found: more.len() }),
    };
    let of = match leaf.assurances_of().as_slice() {
        [] => None,
        [of] => Some(*of),
        [_, _, ..] => return Err(PeerError::AssuranceOf),
    };
    Assurance::from_parts(level, of).ok_or(PeerError::AssuranceOf)
}

#[cfg(test)]
mod tests;
