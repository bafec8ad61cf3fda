//! Verifies the gateway's certificate in a TLS handshake by [`crate::core::trust`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pki::{KeyDigest, UnixTime};
use rustls::CertificateError;
use rustls::client::danger::ServerCertVerifier;
use transport::verifier::{CheckPeer, PeerVerifier};

use super::crypto::provider;
use crate::core::trust::{Distrust, Expected, GatewayCertificate, verify_gateway};

/// Verifies the gateway in a handshake, and keeps the cause of a refusal, of which rustls reports little more than "bad certificate".
#[derive(Clone, Debug)]
pub struct GatewayVerifier(Arc<GatewayCheck>);

#[derive(Debug)]
struct GatewayCheck {
    expected: Expected,
    host: String,
    found: Mutex<HandshakeFacts>,
}

/// Results of the last handshake.
#[derive(Debug, Default)]
struct HandshakeFacts {
    distrust: Option<Distrust>,
    root: Option<KeyDigest>,
    shown: Option<GatewayCertificate>,
}

impl GatewayVerifier {
    /// For connections to `host`.
    #[must_use]
    pub fn new(expected: Expected, host: &str) -> Self {
        Self(Arc::new(GatewayCheck { expected, host: host.to_owned(), found: Mutex::default() }))
    }

    /// For rustls.
    #[must_use]
    pub fn verifier(&self) -> Arc<dyn ServerCertVerifier> {
        Arc::new(PeerVerifier::new(Arc::clone(&self.0), &provider()))
    }

    /// Takes the cause if this verifier refused the last handshake.
    #[must_use]
    pub fn take(&self) -> Option<Distrust> {
        self.0.found().distrust.take()
    }

    /// How the gateway is verified.
    #[must_use]
    pub fn expected(&self) -> &Expected {
        &self.0.expected
    }

    /// The gateway's certificate in the last handshake; `None` with [`Expected::Anybody`].
    #[must_use]
    pub fn shown(&self) -> Option<GatewayCertificate> {
        self.0.found().shown.clone()
    }

    /// The root presented in the last handshake.
    #[must_use]
    pub fn presented_root(&self) -> Option<KeyDigest> {
        self.0.found().root
    }
}

impl GatewayCheck {
    fn found(&self) -> MutexGuard<'_, HandshakeFacts> {
        // Poisoning is ignored: the data is only replaced as a unit.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CheckPeer for GatewayCheck {
    fn check(&self, leaf: &[u8], issuers: &[&[u8]], now: rustls_pki_types::UnixTime) -> Result<(), CertificateError> {
        let chain: Vec<&[u8]> = std::iter::once(leaf).chain(issuers.iter().copied()).collect();
        let outcome = verify_gateway(&self.expected, &chain, &self.host, UnixTime::new(now.as_secs()));
        let mut found = self.found();
        found.root = chain.iter().rev().find_map(|der| pki::root_pin(der).ok());
        match outcome {
            Ok(shown) => {
                (found.distrust, found.shown) = (None, shown);
                Ok(())
            }
            Err(distrust) => {
                (found.distrust, found.shown) = (Some(distrust), None);
                // The peer gets no further details.
                Err(CertificateError::ApplicationVerificationFailure)
            }
        }
    }
}
