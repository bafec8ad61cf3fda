//! TLS: which configuration a connection gets, and who may come in.
//!
//! TLS 1.3 only. The whole table is swapped at once, because a session or a ticket that outlived a change of anchors
//! would let somebody in who is no longer to be let in; for the same reason there are no sessions and no tickets. A
//! connection that is open already is not looked at again by TLS: see [`crate::registry::live`].

use std::{cell::Cell, future::Future, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use pki::{CertFault, ChainError, PeerError, Role, TrustAnchors};
use rustls::{
    CertificateError, DistinguishedName, Error, OtherError, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::NoServerSessionStorage,
    version::TLS13,
};
use rustls_pki_types::UnixTime;
use thiserror::Error;
use transport::verifier::{CheckPeer, PeerVerifier};

use crate::{
    core::{
        face::{Chains, ClientAuth, Face, FaceNames, FaceRow},
        own_leaf::Validity,
        requester::Requester,
    },
    ports::clock::Clock,
    signer::GatewayLeaf,
};

/// Why no TLS configuration came about.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The gateway's certificate and key do not make a server.
    #[error("the gateway's own certificate cannot be used for TLS: {0}")]
    Leaf(#[source] Error),
    /// The crypto library lacks what we ask of it.
    #[error("the crypto library does not offer TLS 1.3 as configured: {0}")]
    Provider(#[source] Error),
}

/// What a connection is accepted with: a configuration for each face, made by its row.
#[derive(Debug)]
pub struct TlsTable {
    /// Of the enroll face.
    pub enroll: Arc<ServerConfig>,
    /// Of the manage face.
    pub manage: Arc<ServerConfig>,
    /// Of the proxy face.
    pub proxy: Arc<ServerConfig>,
    /// The same, for bytes that are the service's own: whatever protocol the client names is between the two.
    pub raw: Arc<ServerConfig>,
    /// Which name leads where, on a port that the faces share.
    pub names: FaceNames,
    /// When the gateway's certificate in them is valid.
    pub leaf: Validity,
}

impl TlsTable {
    /// A table for one leaf of the gateway and one set of anchors. The row of the enroll face is given: whether it asks for
    /// certificates, and which chains it accepts, depends on the fronts that are switched on.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn build(
        leaf: &GatewayLeaf,
        anchors: &Arc<TrustAnchors>,
        names: FaceNames,
        enroll: &FaceRow,
        clock: &Clock,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let made = |row: &FaceRow| config(row, leaf, anchors, &provider, clock);
        let proxy = made(Face::Proxy.row())?;
        let mut raw = proxy.clone();
        raw.alpn_protocols = Vec::new();
        Ok(Self {
            enroll: Arc::new(made(enroll)?),
            manage: Arc::new(made(Face::Manage.row())?),
            proxy: Arc::new(proxy),
            raw: Arc::new(raw),
            names,
            leaf: leaf.validity(),
        })
    }

    /// The configuration of a face.
    #[must_use]
    pub const fn config(&self, face: Face) -> &Arc<ServerConfig> {
        match face {
            Face::Enroll => &self.enroll,
            Face::Manage | Face::Tunnel => &self.manage,
            Face::Proxy => &self.proxy,
        }
    }
}

/// The configuration of a face.
fn config(
    row: &FaceRow,
    leaf: &GatewayLeaf,
    anchors: &Arc<TrustAnchors>,
    provider: &Arc<CryptoProvider>,
    clock: &Clock,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Provider)?;
    let asking = |check: CallerCheck| {
        let root_hints = check.hints();
        PeerVerifier::new(check, provider).with_root_hints(root_hints)
    };
    let check = || CallerCheck {
        anchors: Arc::clone(anchors),
        chains: row.chains.clone(),
        roles: row.roles,
        clock: clock.clone(),
    };
    let builder = match row.client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Optional => builder.with_client_cert_verifier(Arc::new(asking(check()).optional())),
        ClientAuth::Required => builder.with_client_cert_verifier(Arc::new(asking(check()))),
    };
    let mut config = builder.with_single_cert(leaf.chain(), leaf.key()).map_err(TlsError::Leaf)?;
    config.alpn_protocols = row.protocols.iter().map(|spoken| spoken.alpn.to_vec()).collect();
    // Our order counts: see `provider`.
    config.ignore_client_order = true;
    // A resumed session shows no certificate, and outlives locks and changes of anchors.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

/// AES-128 first: a tenth more handshakes than with AES-256, whose SHA-384 has no help from hardware. X25519MLKEM768
/// first: what is recorded today must not be read by tomorrow's machines.
#[must_use]
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
            aws_lc_rs::kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    }
}

/// The table in force.
#[derive(Debug)]
pub struct TlsSwap(ArcSwap<TlsTable>);

impl TlsSwap {
    /// Starts with a table.
    #[must_use]
    pub fn new(table: TlsTable) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(table)))
    }

    /// The table in force.
    pub fn load(&self) -> Guard<Arc<TlsTable>> {
        self.0.load()
    }

    /// Puts another in its place, for handshakes that begin from now on.
    pub fn swap(&self, table: TlsTable) {
        self.0.store(Arc::new(table));
    }
}

tokio::task_local! {
    /// Where the verifier leaves whom it has let in. TLS keeps the certificate but not what we read in it, and reading and
    /// checking it again would cost a fifth of the handshake.
    static ADMITTED: Cell<Requester>;
}

/// Runs one handshake, and hands out whose certificate was checked in it.
pub(super) async fn admitting<T>(handshake: impl Future<Output = T>) -> (T, Requester) {
    ADMITTED.scope(Cell::default(), async { (handshake.await, ADMITTED.with(Cell::take)) }).await
}

/// Lets in machines and people of our own trust domain, by the rules of [`pki::verify_peer`], and whoever else a face accepts; the
/// TLS library's own verifier lets in much more.
#[derive(Debug)]
struct CallerCheck {
    anchors: Arc<TrustAnchors>,
    chains: Chains,
    roles: &'static [Role],
    clock: Clock,
}

impl CallerCheck {
    /// Whose certificates are asked for: the roots, and every issuing CA. Without names a browser offers certificates of
    /// everybody else as well; with the roots alone, one that lacks our issuing CA does not find its own (RFC 8446 4.2.4).
    fn hints(&self) -> Vec<DistinguishedName> {
        let mut names = self.anchors.names();
        match &self.chains {
            Chains::Ours => {}
            Chains::OursAnd(foreign) => names.extend(foreign.names()),
        }
        names.into_iter().map(DistinguishedName::from).collect()
    }

    fn verified(&self, leaf: &[u8], issuers: &[&[u8]]) -> Result<Requester, CertificateError> {
        let now = self.clock.now();
        let not_ours = match pki::verify_peer(leaf, issuers, &self.anchors, self.roles, now) {
            Ok(peer) => return Ok(peer.into()),
            Err(error) => error,
        };
        let Chains::OursAnd(foreign) = &self.chains else { return Err(refuse(not_ours)) };
        match pki::verify_foreign(leaf, issuers, foreign, now) {
            Ok(peer) => Ok(Requester::Foreign(Arc::new(peer))),
            Err(neither) => Err(refuse(more_telling(not_ours, neither))),
        }
    }
}

/// Which of two errors says more of a certificate that is neither ours nor of a chain that is accepted beside ours. What is
/// wrong with the certificate itself both say, but ours must state more than others.
fn more_telling(not_ours: PeerError, neither: ChainError) -> PeerError {
    match (not_ours, neither) {
        (PeerError::Chain(_), neither) => PeerError::Chain(neither),
        // It is by our CA, and breaks another rule of ours.
        (not_ours, _) => not_ours,
    }
}

impl CheckPeer for CallerCheck {
    fn check(&self, leaf: &[u8], issuers: &[&[u8]], _: UnixTime) -> Result<(), CertificateError> {
        let requester = self.verified(leaf, issuers)?;
        let _ = ADMITTED.try_with(|slot| slot.set(requester));
        Ok(())
    }
}

/// The alert that says most to an honest client (RFC 8446 6.2); the rest goes to the log only.
fn refuse(error: PeerError) -> CertificateError {
    tracing::debug!(%error, "refused a client certificate");
    match error {
        PeerError::Chain(ChainError::Leaf(CertFault::Expired { .. })) => CertificateError::Expired,
        PeerError::Chain(ChainError::Leaf(CertFault::NotYetValid { .. })) => CertificateError::NotValidYet,
        // `Path` too: after a change of CAs under the same names it is the signature that does not fit.
        PeerError::Chain(ChainError::UnknownIssuer | ChainError::NoValidAnchor { .. } | ChainError::Path { .. }) => {
            CertificateError::UnknownIssuer
        }
        PeerError::ForeignDomain { .. } | PeerError::WrongRole { .. } => {
            CertificateError::ApplicationVerificationFailure
        }
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_preference() {
        let provider = provider();
        assert_eq!(
            provider.cipher_suites.first().map(|suite| suite.suite()),
            Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256)
        );
        assert_eq!(provider.kx_groups.first().map(|group| group.name()), Some(rustls::NamedGroup::X25519MLKEM768));
    }

    #[test]
    fn no_error_of_ours_reads_as_let_in() {
        let error = PeerError::Chain(ChainError::Leaf(CertFault::Malformed));
        assert!(matches!(refuse(error), CertificateError::Other(_)));
        let error = PeerError::WrongRole { found: Role::Gateway };
        assert_eq!(refuse(error), CertificateError::ApplicationVerificationFailure);
    }
}
