//! The client's own certificate and key in a TLS handshake. The key may be in a TPM.

use std::future::Future;
use std::io;
use std::sync::Arc;

use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{OtherError, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::CertificateDer;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::crypto::provider;
use super::keystore::Credential;
use crate::core::attestation::KeyPlace;
use crate::core::key::{KeyFault, PrivateKey};

/// The certificate of this machine or person, to be shown in a handshake.
pub fn client_certificate(credential: &Credential) -> Result<Arc<SingleCertAndKey>, rustls::Error> {
    let chain = std::iter::once(&credential.leaf).chain(&credential.chain);
    let chain = chain.map(|der| CertificateDer::from(der.clone())).collect();
    let key: Arc<dyn SigningKey> = match credential.key.to_der() {
        Some(der) => provider().key_provider.load_private_key(der)?,
        None => Arc::new(HeldSigningKey(credential.key.clone())),
    };
    Ok(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))))
}

/// A key in a TPM, for rustls. It blocks while it signs: see [`handshake`].
#[derive(Clone, Debug)]
struct HeldSigningKey(PrivateKey);

impl SigningKey for HeldSigningKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ECDSA_NISTP256_SHA256).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for HeldSigningKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.0.sign(message).map_err(|fault| rustls::Error::Other(OtherError(Arc::new(fault))))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

/// Why a key did not sign in a handshake, if that is what failed.
#[must_use]
pub fn key_fault(error: &io::Error) -> Option<KeyFault> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::Other(OtherError(fault)) => fault.downcast_ref::<KeyFault>().cloned(),
        _ => None,
    }
}

/// Completes a handshake with a key in this place. rustls signs within a poll, and a TPM may take a second for that: such a handshake is
/// polled in a thread of its own, and ends when the returned future is dropped.
pub async fn handshake<T: Send + 'static>(
    place: KeyPlace,
    work: impl Future<Output = io::Result<T>> + Send + 'static,
) -> io::Result<T> {
    if place == KeyPlace::File {
        return work.await;
    }
    let (wanted, gone) = oneshot::channel::<()>();
    let runtime = Handle::current();
    let both = async move {
        tokio::select! {
            biased;
            _ = gone => Err(io::ErrorKind::Interrupted.into()),
            done = work => done,
        }
    };
    let done = tokio::task::spawn_blocking(move || runtime.block_on(both)).await;
    drop(wanted);
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_handshake_with_a_tpm_leaves_the_runtime_free() {
        let here = std::thread::current().id();
        let slow = async {
            std::thread::sleep(Duration::from_millis(200));
            Ok(std::thread::current().id())
        };
        let mut slow = std::pin::pin!(handshake(KeyPlace::Tpm, slow));
        let mut ticks = 0;
        let there = loop {
            tokio::select! {
                done = &mut slow => break done.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(10)) => ticks += 1,
            }
        };
        assert_ne!(there, here);
        assert!(ticks > 3, "{ticks}");
        assert_eq!(handshake(KeyPlace::File, async { Ok(std::thread::current().id()) }).await.unwrap(), here);
    }

    #[tokio::test]
    async fn a_handshake_that_nobody_waits_for_ends() {
        struct Tells(Option<oneshot::Sender<()>>);
        impl Drop for Tells {
            fn drop(&mut self) {
                let _ = self.0.take().map(|tell| tell.send(()));
            }
        }
        let (tell, ended) = oneshot::channel();
        let tells = Tells(Some(tell));
        let hangs = async move {
            let _tells = tells;
            std::future::pending::<io::Result<()>>().await
        };
        let waited = tokio::time::timeout(Duration::from_millis(20), handshake(KeyPlace::Tpm, hangs)).await;
        assert!(waited.is_err());
        tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().unwrap();
    }

    #[test]
    fn a_key_that_fails_is_found_in_the_error_of_the_handshake() {
        let fault = KeyFault::Elsewhere("it has none".to_owned());
        let error = rustls::Error::Other(OtherError(Arc::new(fault.clone())));
        assert_eq!(key_fault(&io::Error::new(io::ErrorKind::InvalidData, error)), Some(fault));
        assert_eq!(key_fault(&io::Error::other(rustls::Error::DecryptError)), None);
        assert_eq!(key_fault(&io::ErrorKind::TimedOut.into()), None);
    }
}
