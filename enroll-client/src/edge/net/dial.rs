//! TLS 1.3 connections to a gateway: verification, client certificate, and TCP to the first address that answers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{NetError, alert, is_rejection};
use crate::core::attestation::KeyPlace;
use crate::core::target::Address;
use crate::core::trust::GatewayCertificate;
use crate::edge::client_key::{client_certificate, handshake, key_fault};
use crate::edge::clock::LocalClock;
use crate::edge::crypto::provider;
use crate::edge::keystore::Credential;
use crate::edge::verifier::GatewayVerifier;

/// Time limit for name lookup, TCP connection and TLS handshake together.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Least time for one of several addresses of a name before the next is tried.
const ADDRESS_LEAST: Duration = Duration::from_secs(2);

/// TLS configuration: how the gateway is verified, and the client certificate.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    verifier: GatewayVerifier,
    pub(super) shows_certificate: bool,
    /// Where the key of the certificate is.
    key: KeyPlace,
}

impl TlsClient {
    /// Without a client certificate, for the enroll face.
    pub fn anonymous(verifier: GatewayVerifier) -> Result<Self, NetError> {
        let config = Self::builder(&verifier)?.with_no_client_auth();
        Ok(Self::finish(config, verifier, None))
    }

    /// With the certificate of this machine or person, for the manage face.
    pub fn identified(verifier: GatewayVerifier, credential: &Credential) -> Result<Self, NetError> {
        let certificate = client_certificate(credential).map_err(|e| NetError::Setup(e.to_string()))?;
        let config = Self::builder(&verifier)?.with_client_cert_resolver(certificate);
        Ok(Self::finish(config, verifier, Some(credential.key.place())))
    }

    fn builder(
        verifier: &GatewayVerifier,
    ) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, NetError> {
        Ok(ClientConfig::builder_with_details(provider(), Arc::new(LocalClock))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| NetError::Setup(e.to_string()))?
            // Our verifier also checks the pin, the role and the trust domain.
            .dangerous()
            .with_custom_certificate_verifier(verifier.verifier()))
    }

    /// With another ALPN protocol than HTTP (RFC 7301).
    #[must_use]
    pub fn speaking(self, protocol: &[u8]) -> Self {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Self { config: Arc::new(config), ..self }
    }

    /// The gateway's certificate in the last handshake.
    #[must_use]
    pub fn shown(&self) -> Option<GatewayCertificate> {
        self.verifier.shown()
    }

    fn finish(mut config: ClientConfig, verifier: GatewayVerifier, shows: Option<KeyPlace>) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session has no certificates to verify; connections are rare enough for full handshakes.
        config.resumption = rustls::client::Resumption::disabled();
        let (shows_certificate, key) = (shows.is_some(), shows.unwrap_or_default());
        Self { config: Arc::new(config), verifier, shows_certificate, key }
    }
}

/// Connects within [`CONNECT_LIMIT`], for another protocol than HTTP. The gateway must select it by ALPN.
pub async fn dial(address: &Address, manners: &TlsClient) -> Result<TlsStream<TcpStream>, NetError> {
    let slow =
        |_| NetError::Slow { address: address.clone(), what: "did not finish connecting within 10 s", sent: false };
    timeout(CONNECT_LIMIT, shake(address, manners)).await.map_err(slow)?
}

/// The cause of a failed first read on a connection of [`dial`]: in TLS 1.3 the client learns only then that its certificate was
/// refused.
#[must_use]
pub fn explain(address: &Address, manners: &TlsClient, error: &(dyn std::error::Error + 'static)) -> NetError {
    match alert(error) {
        Some(alert) if is_rejection(alert) => {
            NetError::Rejected { address: address.clone(), alert, showed_certificate: manners.shows_certificate }
        }
        _ => NetError::Broken { address: address.clone(), cause: error.to_string() },
    }
}

/// TCP connection and TLS handshake.
pub(super) async fn shake(address: &Address, manners: &TlsClient) -> Result<TlsStream<TcpStream>, NetError> {
    let name = ServerName::try_from(address.host().to_owned())
        .map_err(|_| NetError::Setup(format!("`{}` is no host name", address.host())))?;
    let tcp = reach(address).await?;
    // Without TCP_NODELAY requests are only slower.
    let _ = tcp.set_nodelay(true);
    let connecting = TlsConnector::from(Arc::clone(&manners.config)).connect(name, tcp);
    let failed = match handshake(manners.key, connecting).await {
        Ok(tls) => return Ok(tls),
        Err(failed) => failed,
    };
    if let Some(fault) = key_fault(&failed) {
        return Err(NetError::Key(fault));
    }
    let cause = failed.to_string();
    Err(match (manners.verifier.take(), alert(&failed)) {
        (Some(distrust), _) => NetError::Distrust(distrust.at(address)),
        (None, Some(alert)) if is_rejection(alert) => {
            NetError::Rejected { address: address.clone(), alert, showed_certificate: manners.shows_certificate }
        }
        (None, _) if is_cut(&failed) => NetError::Cut { address: address.clone(), cause },
        (None, _) => NetError::Tls { address: address.clone(), cause },
    })
}

/// Whether the peer closed the connection, as opposed to a protocol error.
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
