//! The one way to a signature: bounded in number and in time, off the threads that serve the network.

use std::{future::Future, sync::Arc};

use pki::{IssueError, RevokedEntry, Role, SshDraft, SshIssued, UnixTime};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::CaSet;
use crate::{
    core::{
        change::Changes,
        plan::Plan,
        records::Certificate,
        refusal::{Fault, Refusal},
    },
    limits::{SIGNATURES_AT_ONCE, SIGNING_TIME},
};

/// Why there is no signature.
#[derive(Debug, Error)]
pub enum SignError {
    /// The key does not answer in time, or too many wait for it. Nothing was changed: ask again.
    #[error("the signing key did not answer in time")]
    Unavailable,
    /// It does not sign this.
    #[error("{0}")]
    Refused(String),
}

impl From<SignError> for Refusal {
    fn from(error: SignError) -> Self {
        match error {
            SignError::Unavailable => Self::SignerUnavailable,
            SignError::Refused(why) => Fault::Issue(why).into(),
        }
    }
}

/// The one way to a signature of the authority's keys.
#[derive(Debug)]
pub struct Signer {
    set: Arc<CaSet>,
    free: Arc<Semaphore>,
}

/// A certificate that is signed and not committed. Nobody can see it, and it ends with the process:
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
/// The one thing to do with it is to commit it, with everything that is to be durable at the same time:
///
/// ```
/// async fn bytes(signed: gateway::signer::Signed) -> Result<Vec<u8>, ()> {
///     let (certificate, _) = signed.commit(async |_changes| Ok::<_, ()>(1)).await?.release();
///     Ok(certificate.der)
/// }
/// ```
#[must_use = "a signed certificate must be committed before anybody sees it"]
pub struct Signed {
    changes: Changes,
    certificate: Certificate,
    id: String,
}

/// A certificate that is durable.
#[must_use = "a committed certificate is to be released"]
pub struct Committed {
    certificate: Certificate,
    id: String,
}

impl Signed {
    /// Has everything made durable at once.
    ///
    /// # Errors
    /// What `commit` said; the certificate is gone then.
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
    /// The certificate, and the id given to the client.
    #[must_use]
    pub fn release(self) -> (Certificate, String) {
        (self.certificate, self.id)
    }
}

impl Signer {
    /// For the keys of an authority.
    #[must_use]
    pub fn new(set: Arc<CaSet>) -> Self {
        Self { set, free: Arc::new(Semaphore::new(SIGNATURES_AT_ONCE)) }
    }

    /// Signs a certificate.
    ///
    /// # Errors
    /// [`SignError`].
    pub async fn sign(&self, plan: Plan) -> Result<Signed, SignError> {
        let role = plan.role();
        let sign = move |set: &CaSet| plan.sign(set.issuing(role)).map_err(|error: IssueError| error.to_string());
        let (changes, certificate, id) = self.run(sign).await?;
        Ok(Signed { changes, certificate, id })
    }

    /// Signs a revocation list of the CA of a role.
    ///
    /// # Errors
    /// [`SignError`].
    pub async fn list(
        &self,
        role: Role,
        entries: Vec<RevokedEntry>,
        number: u64,
        (from, next): (UnixTime, UnixTime),
    ) -> Result<Vec<u8>, SignError> {
        let sign = move |set: &CaSet| pki::crl(set.issuing(role), &entries, number, from, next);
        self.run(move |set| sign(set).map_err(|error| error.to_string())).await
    }

    /// Signs statements of the gateway with the CA for gateways.
    ///
    /// # Errors
    /// [`SignError`].
    pub async fn statements<const N: usize>(&self, statements: [Vec<u8>; N]) -> Result<[Vec<u8>; N], SignError> {
        self.run(move |set| {
            let ca = set.issuing(Role::Gateway);
            let mut signatures = statements;
            for statement in &mut signatures {
                *statement = ca.sign_statement(statement).map_err(|error| error.to_string())?;
            }
            Ok(signatures)
        })
        .await
    }

    /// Signs an SSH certificate.
    ///
    /// # Errors
    /// [`SignError`].
    pub async fn ssh(&self, draft: SshDraft, nonce: [u8; 32]) -> Result<SshIssued, SignError> {
        let kind = draft.kind();
        self.run(move |set| draft.issue(set.ssh_ca(kind), nonce).map_err(|error| error.to_string())).await
    }

    /// Runs what signs where it may block. What is late goes on by itself, holds its place until it ends, and nobody sees
    /// what becomes of it.
    async fn run<T: Send + 'static>(
        &self,
        sign: impl FnOnce(&CaSet) -> Result<T, String> + Send + 'static,
    ) -> Result<T, SignError> {
        let (set, free) = (Arc::clone(&self.set), Arc::clone(&self.free));
        let work = async {
            let place = free.acquire_owned().await.map_err(|_| SignError::Unavailable)?;
            let signing = tokio::task::spawn_blocking(move || {
                let signed = sign(&set);
                drop(place);
                signed
            });
            signing.await.map_err(|error| SignError::Refused(error.to_string()))?.map_err(SignError::Refused)
        };
        tokio::time::timeout(SIGNING_TIME, work).await.map_err(|_| SignError::Unavailable)?
    }
}
