//! TLS inside a stream, between whoever uses a sealed service and the agent of its machine: the gateway carries ciphertext.
//! Each side checks the other by name, so the gateway cannot put somebody else there either.

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

use super::clock::{self, LocalClock};
use super::crypto::provider;
use super::first_bytes::FirstBytes;
use super::keystore::Credential;
use crate::core::key::PrivateKey;
use crate::core::offset::{Offset, Shared};
use crate::core::trust::anchors_of;

/// Who may call a sealed service.
const CALLERS: [Role; 2] = [Role::Person, Role::Machine];

/// The machine's side of sealed services: its certificate for them, and whom it believes.
pub struct Seal {
    config: Arc<ServerConfig>,
    domain: TrustDomain,
    anchors: Arc<TrustAnchors>,
    offset: Shared,
}

impl Seal {
    /// With a certificate for serving, its issuers and its key; `offset` is how far the gateway's clock is ahead.
    ///
    /// # Errors
    /// When the certificate, its key or the roots cannot be used.
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
            .with_single_cert(chain, key.to_der())
            .map_err(|e| e.to_string())?;
        // Stock programs name their own protocol here, or none: it is between them and the service.
        config.alpn_protocols = vec![];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config), domain, anchors, offset })
    }

    /// Goes by another time from now on: one of the two clocks was set.
    pub fn set_offset(&self, offset: Offset) {
        self.offset.set(offset);
    }

    /// Shakes hands on a stream. Whoever comes must be the one the gateway named.
    ///
    /// # Errors
    /// When they are not, or speak no TLS; whoever speaks HTTP is told so in HTTP.
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

/// What a caller of a sealed service is answered that speaks plain HTTP: the head and the body.
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

/// The roots, as good by the gateway's clock as it says: ours may stand before the day they were made.
fn anchors(credential: &Credential, offset: Offset) -> Result<TrustAnchors, String> {
    anchors_of(credential.domain(), &credential.roots, offset.gateway_time(clock::now()))
}

/// Lets in people and machines of our own trust domain.
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

/// Shakes hands with the agent of a machine, as the holder of `credential`. It must be that machine.
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
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let anchors = anchors(credential, offset).map_err(io::Error::other)?;
    let the_machine = TheMachine { anchors, machine: machine.clone(), offset };
    let chain = std::iter::once(&credential.leaf).chain(&credential.chain);
    let chain = chain.map(|der| CertificateDer::from(der.clone())).collect();
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(LocalClock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        // Ours checks more than the usual one: the role and the one machine that is meant.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PeerVerifier::new(the_machine, &provider())))
        .with_client_auth_cert(chain, credential.key.to_der())
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![SEALED_ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    let name = ServerName::try_from(machine.dns_name()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Believes one machine, with a certificate made for serving.
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
