//! TLS configurations of clients, independent of the product's.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

/// A certificate chain, leaf first, and its key.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The leaf and the issuing CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key, PKCS#8.
    pub key: Vec<u8>,
}

impl ClientIdentity {
    /// Reads `cert.pem`, `chain.pem` and `key.pem` of a client's directory.
    #[must_use]
    pub fn in_dir(dir: &std::path::Path) -> Self {
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
        let mut chain = certificates(&read("cert.pem"));
        for more in certificates(&read("chain.pem")) {
            if !chain.contains(&more) {
                chain.push(more);
            }
        }
        let key = match PrivateKeyDer::from_pem_slice(&read("key.pem")).unwrap() {
            PrivateKeyDer::Pkcs8(key) => key.secret_pkcs8_der().to_vec(),
            other => panic!("key.pem is not PKCS#8 but {other:?}"),
        };
        Self { chain, key }
    }
}

/// The certificates in a PEM text.
#[must_use]
pub fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).map(Result::unwrap).collect()
}

/// A client that trusts `roots` and has the certificate `identity`.
#[must_use]
pub fn trusting(roots: &[CertificateDer<'static>], identity: Option<&ClientIdentity>) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(store);
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), private(identity)).unwrap(),
        None => builder.with_no_client_auth(),
    };
    finish(&mut config);
    Arc::new(config)
}

/// The same client with another ALPN protocol.
#[must_use]
pub fn speaking(config: &ClientConfig, alpn: &[u8]) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

/// A client that accepts every server, for tests that only inspect the server.
#[must_use]
pub fn trusting_anybody(identity: Option<&ClientIdentity>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider())));
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), private(identity)).unwrap(),
        None => builder.with_no_client_auth(),
    };
    finish(&mut config);
    Arc::new(config)
}

fn finish(config: &mut ClientConfig) {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // No resumption: full handshakes are tested and measured.
    config.resumption = rustls::client::Resumption::disabled();
}

fn private(identity: &ClientIdentity) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.clone()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
