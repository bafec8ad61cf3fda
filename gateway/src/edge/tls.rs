//! TLS: which configuration a connection gets, and who may come in.
//!
//! TLS 1.3 only. The whole table is swapped at once, because a session or a ticket that outlived a change of anchors
//! would let somebody in who is no longer to be let in; for the same reason there are no sessions and no tickets. A
//! connection that is open already is not looked at again by TLS: see [`crate::registry::live`].

use std::{cell::Cell, future::Future, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use pki::{CertFault, ChainError, Peer, PeerError, Role, TrustAnchors};
use rustls::{
    CertificateError, DistinguishedName, Error, OtherError, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::NoServerSessionStorage,
    version::TLS13,
};
use rustls_pki_types::UnixTime;
use thiserror::Error;
use transport::verifier::{CheckPeer, PeerVerifier};
use wire::tunnel::DIAL_BACK_ALPN;

use crate::{
    core::{
        face::{Face, FaceNames},
        own_leaf::Validity,
    },
    ports::clock::Clock,
    signer::GatewayLeaf,
};

/// The protocol spoken on both faces (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

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

/// What a connection is accepted with.
#[derive(Debug)]
pub struct TlsTable {
    /// Asks for no certificate.
    pub enroll: Arc<ServerConfig>,
    /// Asks for a machine's or a person's. Speaks HTTP, and the tunnel of a machine.
    pub manage: Arc<ServerConfig>,
    /// The same. Speaks HTTP, and the many streams of a helper.
    pub proxy: Arc<ServerConfig>,
    /// The same, for bytes that are the service's own: whatever protocol the client names is between the two.
    pub raw: Arc<ServerConfig>,
    /// Which name leads where, on a port that both faces share.
    pub names: FaceNames,
    /// When the gateway's certificate in them is valid.
    pub leaf: Validity,
}

impl TlsTable {
    /// A table for one leaf of the gateway and one set of anchors.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn build(
        leaf: &GatewayLeaf,
        anchors: Arc<TrustAnchors>,
        names: FaceNames,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        // The roots, and every issuing CA. Without names a browser offers certificates of everybody else as well; with the roots
        // alone, one that lacks our issuing CA does not find its own (RFC 8446 4.2.4).
        let root_hints = anchors.names().into_iter().map(DistinguishedName::from).collect();
        let verifier = PeerVerifier::new(CallerCheck { anchors, clock }, &provider).with_root_hints(root_hints);
        let verifier = Arc::new(verifier);
        let builder = || {
            ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[&TLS13])
                .map_err(TlsError::Provider)
        };
        let enroll = builder()?.with_no_client_auth().with_single_cert(leaf.chain(), leaf.key());
        let manage = builder()?.with_client_cert_verifier(verifier).with_single_cert(leaf.chain(), leaf.key());
        let manage = manage.map_err(TlsError::Leaf)?;
        Ok(Self {
            enroll: Arc::new(finish(enroll.map_err(TlsError::Leaf)?, &[ALPN])),
            manage: Arc::new(finish(manage.clone(), &[ALPN, wire::tunnel::ALPN, DIAL_BACK_ALPN])),
            proxy: Arc::new(finish(manage.clone(), &[ALPN, wire::tunnel::STREAMS_ALPN, DIAL_BACK_ALPN])),
            raw: Arc::new(finish(manage, &[])),
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

fn finish(mut config: ServerConfig, protocols: &[&[u8]]) -> ServerConfig {
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // Our order counts: see `provider`.
    config.ignore_client_order = true;
    // A resumed session shows no certificate, and outlives locks and changes of anchors.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config
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
    /// Where the verifier leaves the peer it has let in. TLS keeps the certificate but not what we read in it, and
    /// reading and checking it again would cost a fifth of the handshake.
    static ADMITTED: Cell<Option<Peer>>;
}

/// Runs one handshake, and hands out the peer whose certificate was checked in it.
pub(super) async fn admitting<T>(handshake: impl Future<Output = T>) -> (T, Option<Peer>) {
    ADMITTED.scope(Cell::new(None), async { (handshake.await, ADMITTED.with(Cell::take)) }).await
}

/// Lets in machines and people of our own trust domain, by the rules of [`pki::verify_peer`]; the TLS library's own
/// verifier lets in much more.
#[derive(Debug)]
struct CallerCheck {
    anchors: Arc<TrustAnchors>,
    clock: Clock,
}

impl CheckPeer for CallerCheck {
    fn check(&self, leaf: &[u8], issuers: &[&[u8]], _: UnixTime) -> Result<(), CertificateError> {
        let roles = [Role::Machine, Role::Person];
        let peer = pki::verify_peer(leaf, issuers, &self.anchors, &roles, self.clock.now()).map_err(refuse)?;
        let _ = ADMITTED.try_with(|slot| slot.set(Some(peer)));
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
