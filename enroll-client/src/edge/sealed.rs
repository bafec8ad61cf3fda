//! TLS inside a stream, between whoever uses a sealed service and the agent of its machine: the gateway carries ciphertext.
//! Each side checks the other by name, so the gateway cannot put somebody else there either.

use std::io;
use std::sync::Arc;

use pki::{Identity, Role, TrustAnchors, TrustDomain, UnixTime};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use wire::tunnel::{Open, SEALED_ALPN};

use super::clock::{self, LocalClock};
use super::first_bytes::FirstBytes;
use super::keystore::Credential;
use super::net::provider;
use crate::core::key::PrivateKey;
use crate::core::offset::{Offset, Shared};
use crate::core::trust::anchors_of;

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
        let verifier = Arc::new(Callers {
            anchors: Arc::clone(&anchors),
            algorithms: provider().signature_verification_algorithms,
            offset: offset.clone(),
        });
        let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(LocalClock))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| e.to_string())?
            .with_client_cert_verifier(verifier)
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
        let peer = pki::verify_peer(leaf, &rest, &self.anchors, &[Role::Person, Role::Machine], now)
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
    algorithms: WebPkiSupportedAlgorithms,
    offset: Shared,
}

impl ClientCertVerifier for Callers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let rest: Vec<&[u8]> = intermediates.iter().map(AsRef::as_ref).collect();
        let now = self.offset.get().gateway_time(clock::now());
        pki::verify_peer(end_entity, &rest, &self.anchors, &[Role::Person, Role::Machine], now)
            .map(|_| ClientCertVerified::assertion())
            .map_err(|_| Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Shakes hands with the agent of a machine, as the holder of `credential`. It must be that machine.
///
/// # Errors
/// When it is not.
pub async fn open<IO>(
    stream: IO,
    credential: &Credential,
    machine: &Identity,
    offset: Offset,
) -> io::Result<client::TlsStream<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let verifier = Arc::new(TheMachine {
        anchors: anchors(credential, offset).map_err(io::Error::other)?,
        algorithms: provider().signature_verification_algorithms,
        machine: machine.clone(),
        offset,
    });
    let chain = std::iter::once(&credential.leaf).chain(&credential.chain);
    let chain = chain.map(|der| CertificateDer::from(der.clone())).collect();
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(LocalClock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        // Ours checks more than the usual one: the role and the one machine that is meant.
        .dangerous()
        .with_custom_certificate_verifier(verifier)
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
    algorithms: WebPkiSupportedAlgorithms,
    machine: Identity,
    offset: Offset,
}

impl ServerCertVerifier for TheMachine {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let rest: Vec<&[u8]> = intermediates.iter().map(AsRef::as_ref).collect();
        let now: UnixTime = self.offset.gateway_time(clock::now());
        let peer = pki::verify_sealed(end_entity, &rest, &self.anchors, &self.machine.name, now)
            .map_err(|_| Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))?;
        if peer.identity == self.machine {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
mod tests;
