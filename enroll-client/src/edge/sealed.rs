//! TLS inside a stream, between the caller of a sealed service and the machine's client: the gateway carries ciphertext. Each side
//! verifies the other's identity, so the gateway cannot impersonate either.

use std::io;
use std::sync::Arc;

use pki::{Identity, Role, TrustAnchors, TrustDomain, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::{CertificateError, ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use transport::verifier::{CheckPeer, PeerVerifier};
use wire::tunnel::{Open, SEALED_ALPN};

use super::client_key::{client_certificate, handshake};
use super::clock::{self, LocalClock};
use super::crypto::provider;
use super::first_bytes::FirstBytes;
use super::keystore::Credential;
use crate::core::key::PrivateKey;
use crate::core::offset::{Offset, Shared};
use crate::core::trust::anchors_of;

/// Roles of callers that are accepted.
const CALLERS: [Role; 2] = [Role::Person, Role::Machine];

/// The machine's side of sealed services: its server certificate, and the verifier of callers.
pub struct Seal {
    config: Arc<ServerConfig>,
    domain: TrustDomain,
    anchors: Arc<TrustAnchors>,
    offset: Shared,
}

impl Seal {
    /// With a server certificate, its issuers and its key; `offset` is that of the gateway's clock.
    pub fn new(chain: &[Vec<u8>], key: &PrivateKey, credential: &Credential, offset: Offset) -> Result<Self, String> {
        let domain = credential.domain().clone();
        let anchors = Arc::new(anchors(credential, offset)?);
        let offset = Shared::new(offset);
        let callers = Callers { anchors: Arc::clone(&anchors), offset: offset.clone() };
        let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(LocalClock))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| e.to_string())?
            .with_client_cert_verifier(Arc::new(PeerVerifier::new(callers, &provider())))
            .with_single_cert(chain, key.to_der().ok_or("its key is in a TPM")?)
            .map_err(|e| e.to_string())?;
        // No ALPN: stock programs offer the service's protocol or none.
        config.alpn_protocols = vec![];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config), domain, anchors, offset })
    }

    /// Sets the offset of the gateway's clock, after one of the clocks was set.
    pub fn set_offset(&self, offset: Offset) {
        self.offset.set(offset);
    }

    /// TLS handshake on a stream. The caller must be the one that the gateway named. A caller that speaks plain HTTP gets an HTTP
    /// error.
    pub async fn accept<IO>(&self, stream: IO, open: &Open) -> io::Result<server::TlsStream<FirstBytes<IO>>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = FirstBytes::look(stream).await?;
        if stream.are_http() {
            let (head, body) = plain_http(open);
            stream.write_all(format!("{head}{body}").as_bytes()).await?;
            stream.shutdown().await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP came for a sealed service"));
        }
        let tls = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await?;
        let certs = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let Some((leaf, rest)) = certs.split_first() else {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "no certificate was shown"));
        };
        let rest: Vec<&[u8]> = rest.iter().map(AsRef::as_ref).collect();
        let now = self.offset.get().gateway_time(clock::now());
        let peer = pki::verify_peer(leaf, &rest, &self.anchors, &CALLERS, now)
            .map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error.to_string()))?;
        if peer.identity.to_string() != open.caller || peer.identity.domain != self.domain {
            let what = format!("the gateway named {}, and {} is there", open.caller, peer.identity);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        Ok(tls)
    }
}

/// Head and body of the reply to a plain HTTP request.
fn plain_http(open: &Open) -> (String, String) {
    let service = &open.service;
    let body = format!(
        "the service `{service}` is sealed: TLS to this machine comes first\n\
         hint: use https:// to the machine's own name, `lychgate forward {service}@MACHINE`, or have its owner expose it as raw\n"
    );
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    (head, body)
}

/// The roots, checked by the gateway's clock: the local one may be before the start of their validity.
fn anchors(credential: &Credential, offset: Offset) -> Result<TrustAnchors, String> {
    anchors_of(credential.domain(), &credential.roots, offset.gateway_time(clock::now()))
}

/// Accepts people and machines of our trust domain.
#[derive(Debug)]
struct Callers {
    anchors: Arc<TrustAnchors>,
    offset: Shared,
}

impl CheckPeer for Callers {
    fn check(&self, leaf: &[u8], issuers: &[&[u8]], now: rustls_pki_types::UnixTime) -> Result<(), CertificateError> {
        let now = self.offset.get().gateway_time(UnixTime::new(now.as_secs()));
        match pki::verify_peer(leaf, issuers, &self.anchors, &CALLERS, now) {
            Ok(_) => Ok(()),
            Err(_) => Err(CertificateError::ApplicationVerificationFailure),
        }
    }
}

/// TLS handshake with a machine's client, with our certificate. The peer must be `machine`.
///
/// # Errors
/// When the handshake fails: another identity, a certificate not valid now, or no TLS at the other end.
pub async fn open<IO>(
    stream: IO,
    credential: &Credential,
    machine: &Identity,
    offset: Offset,
) -> io::Result<client::TlsStream<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let anchors = anchors(credential, offset).map_err(io::Error::other)?;
    let the_machine = TheMachine { anchors, machine: machine.clone(), offset };
    let certificate = client_certificate(credential).map_err(io::Error::other)?;
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(LocalClock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        // Our verifier also checks the role and the machine's name.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PeerVerifier::new(the_machine, &provider())))
        .with_client_cert_resolver(certificate);
    config.alpn_protocols = vec![SEALED_ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    let name = ServerName::try_from(machine.dns_name()).map_err(io::Error::other)?;
    handshake(credential.key.place(), TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// Accepts the server certificate of one machine.
#[derive(Debug)]
struct TheMachine {
    anchors: TrustAnchors,
    machine: Identity,
    offset: Offset,
}

impl CheckPeer for TheMachine {
    fn check(&self, leaf: &[u8], issuers: &[&[u8]], now: rustls_pki_types::UnixTime) -> Result<(), CertificateError> {
        let now = self.offset.gateway_time(UnixTime::new(now.as_secs()));
        match pki::verify_sealed(leaf, issuers, &self.anchors, &self.machine.name, now) {
            Ok(peer) if peer.identity == self.machine => Ok(()),
            Ok(_) => Err(CertificateError::NotValidForName),
            Err(_) => Err(CertificateError::ApplicationVerificationFailure),
        }
    }
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
mod tests;
