//! TLS 1.3 to a gateway: whom to believe, who we are, and a connection to the first address that answers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{NetError, alert, is_rejection};
use crate::core::target::Address;
use crate::core::trust::GatewayCertificate;
use crate::edge::clock::LocalClock;
use crate::edge::crypto::provider;
use crate::edge::keystore::Credential;
use crate::edge::verifier::GatewayVerifier;

/// Longest time to look up, connect and shake hands.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Least time given to one of several addresses of a name before the next is tried.
const ADDRESS_LEAST: Duration = Duration::from_secs(2);

/// How to shake hands: whom to believe, and who we are.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    verifier: GatewayVerifier,
    pub(super) shows_certificate: bool,
}

impl TlsClient {
    /// Without a certificate, for the enroll face.
    ///
    /// # Errors
    /// When rustls does not like its configuration.
    pub fn anonymous(verifier: GatewayVerifier) -> Result<Self, NetError> {
        let config = Self::builder(&verifier)?.with_no_client_auth();
        Ok(Self::finish(config, verifier, false))
    }

    /// With the certificate of this machine or person, for the manage face.
    ///
    /// # Errors
    /// When rustls does not like the certificate or its key.
    pub fn identified(verifier: GatewayVerifier, credential: &Credential) -> Result<Self, NetError> {
        let chain = std::iter::once(&credential.leaf).chain(&credential.chain);
        let chain = chain.map(|der| CertificateDer::from(der.clone())).collect();
        let config = Self::builder(&verifier)?
            .with_client_auth_cert(chain, credential.key.to_der())
            .map_err(|e| NetError::Setup(e.to_string()))?;
        Ok(Self::finish(config, verifier, true))
    }

    fn builder(
        verifier: &GatewayVerifier,
    ) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, NetError> {
        Ok(ClientConfig::builder_with_details(provider(), Arc::new(LocalClock))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| NetError::Setup(e.to_string()))?
            // Ours checks more than the usual one: the pin, the role and the trust domain.
            .dangerous()
            .with_custom_certificate_verifier(verifier.verifier()))
    }

    /// The same, for another protocol than HTTP (RFC 7301).
    #[must_use]
    pub fn speaking(self, protocol: &[u8]) -> Self {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Self { config: Arc::new(config), ..self }
    }

    /// The certificate by which the gateway was believed in the last handshake.
    #[must_use]
    pub fn shown(&self) -> Option<GatewayCertificate> {
        self.verifier.shown()
    }

    fn finish(mut config: ClientConfig, verifier: GatewayVerifier, shows_certificate: bool) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session would show no certificates; connections are rare enough to shake hands in full.
        config.resumption = rustls::client::Resumption::disabled();
        Self { config: Arc::new(config), verifier, shows_certificate }
    }
}

/// Connects and shakes hands, within [`CONNECT_LIMIT`]: a connection for something else than requests.
///
/// # Errors
/// When there is none, or it is not the gateway we expect, or it does not speak the protocol.
pub async fn dial(address: &Address, manners: &TlsClient) -> Result<TlsStream<TcpStream>, NetError> {
    let slow =
        |_| NetError::Slow { address: address.clone(), what: "did not finish connecting within 10 s", sent: false };
    timeout(CONNECT_LIMIT, shake(address, manners)).await.map_err(slow)?
}

/// Finds out why the first read on a connection of [`dial`] failed: under TLS 1.3 a certificate that is not taken is heard
/// of only then.
#[must_use]
pub fn explain(address: &Address, manners: &TlsClient, error: &(dyn std::error::Error + 'static)) -> NetError {
    match alert(error) {
        Some(alert) if is_rejection(alert) => {
            NetError::Rejected { address: address.clone(), alert, showed_certificate: manners.shows_certificate }
        }
        _ => NetError::Broken { address: address.clone(), cause: error.to_string() },
    }
}

/// Connects and shakes hands.
pub(super) async fn shake(address: &Address, manners: &TlsClient) -> Result<TlsStream<TcpStream>, NetError> {
    let name = ServerName::try_from(address.host().to_owned())
        .map_err(|_| NetError::Setup(format!("`{}` is no host name", address.host())))?;
    let tcp = reach(address).await?;
    // Small requests must not wait for each other; without it they are merely slower.
    let _ = tcp.set_nodelay(true);
    match TlsConnector::from(Arc::clone(&manners.config)).connect(name, tcp).await {
        Ok(tls) => Ok(tls),
        Err(e) => Err(match (manners.verifier.take(), alert(&e)) {
            (Some(distrust), _) => NetError::Distrust(distrust.at(address)),
            (None, Some(alert)) if is_rejection(alert) => {
                NetError::Rejected { address: address.clone(), alert, showed_certificate: manners.shows_certificate }
            }
            (None, _) if is_cut(&e) => NetError::Cut { address: address.clone(), cause: e.to_string() },
            (None, _) => NetError::Tls { address: address.clone(), cause: e.to_string() },
        }),
    }
}

/// Whether the other side went away, rather than saying something that is no TLS.
fn is_cut(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// A TCP connection to the first address of the host that answers.
async fn reach(address: &Address) -> Result<TcpStream, NetError> {
    let host = address.host();
    let found: Vec<_> = tokio::net::lookup_host((host, address.port()))
        .await
        .map_err(|cause| NetError::Lookup { host: host.to_owned(), cause })?
        .collect();
    let share = u32::try_from(found.len().max(1)).unwrap_or(u32::MAX);
    let each = (CONNECT_LIMIT / share).max(ADDRESS_LEAST);
    let mut cause = io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
    for socket in found {
        match timeout(each, TcpStream::connect(socket)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => cause = e,
            Err(_) => cause = io::Error::new(io::ErrorKind::TimedOut, "no answer"),
        }
    }
    Err(NetError::Connect { address: address.clone(), cause })
}
