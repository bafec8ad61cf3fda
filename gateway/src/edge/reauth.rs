//! A certificate that was renewed while a connection is open: checked beside whatever goes on there.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{Identity, Peer};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use wire::tunnel::{REAUTH_METHOD, REAUTH_PATH, Reauthenticate};

use super::fronts::native::problem::problem;
use crate::{
    core::refusal::Refusal,
    flow::{
        connect::{self, RenewedCertificate},
        shell::Shell,
    },
};

/// What became of it: whoever holds the connection now, or a problem's code and a description for people.
pub type Verified = Result<Peer, (String, String)>;

/// Checks it in a task of its own. The outcome comes by [`outcome`].
pub fn spawn(
    tasks: &TaskTracker,
    shell: Arc<Shell>,
    identity: Identity,
    lineage: Arc<str>,
    exporter: [u8; 32],
    renewed: Reauthenticate,
) -> oneshot::Receiver<Verified> {
    let (to, verifying) = oneshot::channel();
    tasks.spawn(async move {
        let outcome = check(&shell, &identity, &lineage, &exporter, &renewed).await;
        let outcome = outcome.map_err(|refusal| {
            let problem = problem(&refusal, "");
            (problem.code().to_owned(), problem.detail)
        });
        // The connection may have ended meanwhile.
        let _ = to.send(outcome);
    });
    verifying
}

/// Ready when the certificate that is being checked, if any, was.
pub async fn outcome(verifying: &mut Option<oneshot::Receiver<Verified>>) -> Verified {
    match verifying {
        Some(verifying) => verifying.await.unwrap_or_else(|_| Err(("internal".to_owned(), String::new()))),
        None => std::future::pending().await,
    }
}

async fn check(
    shell: &Shell,
    identity: &Identity,
    lineage: &str,
    exporter: &[u8; 32],
    renewed: &Reauthenticate,
) -> Result<Peer, Refusal> {
    let chain = renewed.chain.iter().map(|text| STANDARD.decode(text)).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| connect::not_renewed("is not base64"))?;
    let renewed = RenewedCertificate { chain, proof: &renewed.proof, method: REAUTH_METHOD, path: REAUTH_PATH };
    connect::reauthenticate(shell, identity, lineage, exporter, &renewed).await
}
