//! The verifier of TLS peers that rustls calls, shared by the gateway, machines with sealed services, and the clients of both. TLS
//! 1.3 only.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Decides whether the certificate of a TLS peer is accepted.
pub trait CheckPeer: fmt::Debug + Send + Sync {
    /// `leaf` and `issuers` are the certificates that the peer sent; `now` comes from the time provider of the rustls configuration.
    ///
    /// # Errors
    /// Decides the alert that the peer gets (RFC 8446 6.2).
    fn check(&self, leaf: &[u8], issuers: &[&[u8]], now: UnixTime) -> Result<(), CertificateError>;
}

impl<C: CheckPeer> CheckPeer for Arc<C> {
    fn check(&self, leaf: &[u8], issuers: &[&[u8]], now: UnixTime) -> Result<(), CertificateError> {
        C::check(self, leaf, issuers, now)
    }
}

/// Implements rustls's verifiers of servers and of clients by a [`CheckPeer`].
#[derive(Debug)]
pub struct PeerVerifier<C> {
    check: C,
    algorithms: WebPkiSupportedAlgorithms,
    root_hints: Vec<DistinguishedName>,
    clients: Clients,
}

/// What becomes of a client that shows no certificate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Clients {
    Refused,
    LetIn,
}

impl<C: CheckPeer> PeerVerifier<C> {
    /// Accepts the signature schemes of `provider`.
    #[must_use]
    pub fn new(check: C, provider: &CryptoProvider) -> Self {
        let (algorithms, root_hints) = (provider.signature_verification_algorithms, Vec::new());
        Self { check, algorithms, root_hints, clients: Clients::Refused }
    }

    /// Lets in clients that show no certificate, too (RFC 8446 4.4.2.4).
    #[must_use]
    pub fn optional(self) -> Self {
        Self { clients: Clients::LetIn, ..self }
    }

    /// Sends these issuers in the certificate request, for clients that choose among several certificates (RFC 8446 4.2.4).
    #[must_use]
    pub fn with_root_hints(self, root_hints: Vec<DistinguishedName>) -> Self {
        Self { root_hints, ..self }
    }

    fn ask(&self, leaf: &CertificateDer<'_>, issuers: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let issuers: Vec<&[u8]> = issuers.iter().map(AsRef::as_ref).collect();
        self.check.check(leaf, &issuers, now).map_err(Error::InvalidCertificate)
    }
}

/// Not reached, because TLS 1.2 is not offered. It refuses in case it ever is.
fn not_offered() -> Error {
    Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered)
}

impl<C: CheckPeer> ServerCertVerifier for PeerVerifier<C> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.ask(leaf, issuers, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(not_offered())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl<C: CheckPeer> ClientCertVerifier for PeerVerifier<C> {
    fn client_auth_mandatory(&self) -> bool {
        self.clients == Clients::Refused
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.root_hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.ask(leaf, issuers, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(not_offered())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
