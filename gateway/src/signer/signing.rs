//! All signatures of the CA keys are made here. A key in memory signs at once, on the thread of its caller: that takes some tens of
//! microseconds, less than the way to another thread and back. A key in a device may take long or never answer, so its signatures are
//! limited in number and time, and made on threads that do not serve the network.

use std::{future::Future, sync::Arc};

use arc_swap::ArcSwap;
use pki::{IssueError, KeyDigest, KeyPlace, RevokedEntry, Role, SshDraft, SshError, SshIssued, UnixTime};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::Authority;
use crate::{
    core::{
        change::Changes,
        plan::Plan,
        records::Certificate,
        refusal::{Fault, Refusal},
    },
    limits::{SIGNATURES_AT_ONCE, SIGNING_TIME},
};

/// Why signing failed.
#[derive(Debug, Error)]
pub enum SignError {
    /// The key in a device did not answer within [`SIGNING_TIME`], waiting for a free thread included. Nothing was changed: try again.
    #[error("the signing key did not answer in time")]
    Unavailable,
    /// Another CA has become active since the certificate was planned. Nothing was changed: decide again.
    #[error("another CA has become active")]
    Superseded,
    /// The key or the certificate's content makes signing impossible; another attempt fails too.
    #[error("{0}")]
    Refused(String),
}

impl From<pki::SignError> for SignError {
    fn from(error: pki::SignError) -> Self {
        match error {
            pki::SignError::Unavailable { reason } => {
                tracing::error!(reason, "a signing key does not answer");
                Self::Unavailable
            }
            refused @ pki::SignError::Refused { .. } => Self::Refused(refused.to_string()),
        }
    }
}

impl From<IssueError> for SignError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Sign(error) => error.into(),
            error @ (IssueError::WrongIssuer { .. }
            | IssueError::ForeignDomain { .. }
            | IssueError::OutsideIssuer { .. }
            | IssueError::Date { .. }
            | IssueError::NextUpdate
            | IssueError::DuplicateEntry { .. }
            | IssueError::Encoding(_)
            | IssueError::Ca(_)) => Self::Refused(error.to_string()),
        }
    }
}

impl From<SshError> for SignError {
    fn from(error: SshError) -> Self {
        match error {
            SshError::Sign(error) => error.into(),
            other => Self::Refused(other.to_string()),
        }
    }
}

impl From<SignError> for Refusal {
    fn from(error: SignError) -> Self {
        match error {
            SignError::Unavailable => Self::SignerUnavailable,
            // a retry decides with the new CA
            SignError::Superseded => Fault::Contention.into(),
            SignError::Refused(why) => Fault::Issue(why).into(),
        }
    }
}

/// Signs with the authority's keys.
#[derive(Debug)]
pub struct Signer {
    authority: Arc<ArcSwap<Authority>>,
    free: Arc<Semaphore>,
}

/// A certificate that is signed and not committed. Its bytes cannot be read, and it is dropped with the process:
///
/// ```compile_fail,E0616
/// fn bytes(signed: gateway::signer::Signed) -> Vec<u8> {
///     signed.certificate.der
/// }
/// ```
///
/// ```compile_fail,E0599
/// fn early(signed: gateway::signer::Signed) {
///     signed.release();
/// }
/// ```
///
/// It can only be committed, together with the changes that must be durable at the same time:
///
/// ```
/// async fn bytes(signed: gateway::signer::Signed) -> Result<Vec<u8>, ()> {
///     let (certificate, _) = signed.commit(async |_changes| Ok::<_, ()>(1)).await?.release();
///     Ok(certificate.der)
/// }
/// ```
#[must_use = "a signed certificate must be committed before its release"]
pub struct Signed {
    changes: Changes,
    certificate: Certificate,
    id: String,
}

/// A certificate whose record is durable.
#[must_use = "a committed certificate is to be released"]
pub struct Committed {
    certificate: Certificate,
    id: String,
}

impl Signed {
    /// Passes the certificate's changes to `commit`, which must make them durable in one batch.
    ///
    /// # Errors
    /// The error of `commit`; the certificate is dropped.
    pub async fn commit<E, F>(self, commit: impl FnOnce(Changes) -> F) -> Result<Committed, E>
    where
        F: Future<Output = Result<u64, E>>,
    {
        let Self { changes, certificate, id } = self;
        commit(changes).await?;
        Ok(Committed { certificate, id })
    }
}

impl Committed {
    /// The certificate and its id, as the client sees it.
    #[must_use]
    pub fn release(self) -> (Certificate, String) {
        (self.certificate, self.id)
    }
}

impl Signer {
    /// Signs with whatever authority is loaded at the time of the call.
    #[must_use]
    pub fn new(authority: Arc<ArcSwap<Authority>>) -> Self {
        Self { authority, free: Arc::new(Semaphore::new(SIGNATURES_AT_ONCE)) }
    }

    /// Signs with this authority only, for use before it is published.
    #[must_use]
    pub fn of(authority: Arc<Authority>) -> Self {
        Self::new(Arc::new(ArcSwap::new(authority)))
    }

    /// Signs a planned certificate. Fails with [`SignError::Superseded`] if its issuer is not active any more.
    pub async fn sign(&self, plan: Plan) -> Result<Signed, SignError> {
        let sign = move |authority: &Authority| {
            let ca = authority.active(plan.role()).filter(|ca| ca.key_digest() == plan.issuer());
            Ok(plan.sign(ca.ok_or(SignError::Superseded)?)?)
        };
        let (changes, certificate, id) = self.run(sign).await?;
        Ok(Signed { changes, certificate, id })
    }

    /// Signs a CRL of the issuing CA with this key. Returns DER.
    pub async fn list(
        &self,
        issuer: KeyDigest,
        entries: Vec<RevokedEntry>,
        number: u64,
        (from, next): (UnixTime, UnixTime),
    ) -> Result<Vec<u8>, SignError> {
        // A long list takes long wherever the key is.
        self.run_apart(self.authority.load_full(), move |authority| {
            let ca = authority.issuing_ca(&issuer).ok_or(SignError::Unavailable)?;
            Ok(pki::crl(ca, &entries, number, from, next)?)
        })
        .await
    }

    /// Signs statements with the issuing CA for gateways. Returns that CA's certificate and the signatures, in the same order.
    pub async fn statements<const N: usize>(
        &self,
        statements: [Vec<u8>; N],
    ) -> Result<(Vec<u8>, [Vec<u8>; N]), SignError> {
        self.run(move |authority| {
            let ca = authority.active(Role::Gateway).ok_or(SignError::Unavailable)?;
            let mut signatures = statements;
            for statement in &mut signatures {
                *statement = ca.sign_statement(statement)?;
            }
            Ok((ca.cert_der().to_vec(), signatures))
        })
        .await
    }

    /// Signs an SSH certificate with the CA of its kind.
    pub async fn ssh(&self, draft: SshDraft, nonce: [u8; 32]) -> Result<SshIssued, SignError> {
        let kind = draft.kind();
        self.run(move |authority| Ok(draft.issue(authority.ssh_ca(kind), nonce)?)).await
    }

    /// Signs a join token. `text` is its JWS Signing Input (RFC 7515 5.1).
    pub async fn token(&self, text: String) -> Result<[u8; 64], SignError> {
        self.run(move |authority| Ok(pki::jws_of_p256(&authority.token().sign(text.as_bytes())?)?)).await
    }

    /// Runs `sign` here if the keys are in memory: another thread would cost more than the signature. Else as [`Signer::run_apart`].
    async fn run<T: Send + 'static>(
        &self,
        sign: impl FnOnce(&Authority) -> Result<T, SignError> + Send + 'static,
    ) -> Result<T, SignError> {
        let authority = self.authority.load_full();
        match authority.keys_in() {
            KeyPlace::Memory => sign(&authority),
            KeyPlace::Device => self.run_apart(authority, sign).await,
        }
    }

    /// Runs `sign` on a thread that may block. After the timeout it continues, its result is dropped, and its permit is
    /// released only when it ends.
    async fn run_apart<T: Send + 'static>(
        &self,
        authority: Arc<Authority>,
        sign: impl FnOnce(&Authority) -> Result<T, SignError> + Send + 'static,
    ) -> Result<T, SignError> {
        let free = Arc::clone(&self.free);
        let work = async {
            let permit = free.acquire_owned().await.map_err(|_| SignError::Unavailable)?;
            let signing = tokio::task::spawn_blocking(move || {
                let signed = sign(&authority);
                drop(permit);
                signed
            });
            signing.await.map_err(|error| SignError::Refused(error.to_string()))?
        };
        tokio::time::timeout(SIGNING_TIME, work).await.map_err(|_| SignError::Unavailable)?
    }
}
