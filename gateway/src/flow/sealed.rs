//! The leaf for a machine's sealed services.

use super::{
    admit::with_key,
    issue::{self, Issued},
    shell::{Actor, Retry, Shell},
};
use crate::core::{admission::Caller, keys, proven::ProvenKey, sealed};

/// Issues it to a machine that was admitted.
///
/// # Errors
/// Why not. A conflict is the caller's to retry, with a fresh admission.
pub async fn sealed(shell: &Shell, caller: &Caller, key: &ProvenKey, instance: &str) -> Result<Issued, Retry> {
    let key = key.key().clone();
    let known = match sealed::made_before(caller, &key) {
        Some(serial) => shell.get(keys::certificate(&serial)).await?,
        None => None,
    };
    let (ca, settings) = (shell.ca(), shell.settings.load());
    let (common, now, serial) = (shell.common(&ca, &settings), shell.now(), shell.entropy.bytes());
    let caller = with_key(shell, caller, &key.digest()).await?;
    match sealed::decide(&caller, key, known.as_ref(), common, now, serial)? {
        sealed::SealedVerdict::Known(certificate) => {
            Ok(issue::issued(shell, certificate.lineage.clone(), *certificate)?)
        }
        sealed::SealedVerdict::Issue(plan) => {
            let who = caller.identity.to_string();
            issue::issue(shell, *plan, &Actor { who: &who, instance }).await
        }
    }
}
