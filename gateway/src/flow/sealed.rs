//! The leaf for a machine's sealed services.

use super::{
    issue::{self, Issued},
    shell::{Actor, Retry, Shell},
};
use crate::core::{admission::Caller, keys, look::Look, proven::ProvenKey, records::LockKind, refusal::Fault, sealed};

/// Issues it to a machine that was admitted.
///
/// # Errors
/// The reason for the refusal. After a conflict the caller tries again, with a new admission.
pub async fn sealed(shell: &Shell, caller: &Caller, key: &ProvenKey, instance: &str) -> Result<Issued, Retry> {
    let key = key.key().clone();
    let looked = |look: &Look| -> Result<_, Fault> {
        let known = match sealed::made_before(caller, &key) {
            Some(serial) => look.get(&keys::certificate(&serial))?,
            None => None,
        };
        Ok((known, look.locks([(LockKind::Key, key.digest().hex())])?))
    };
    let (known, locks) = shell.look(looked).await?;
    let caller = caller.clone().with_locks(locks);
    let (ca, settings) = (shell.ca(), shell.settings.load());
    let (common, now, serial) = (shell.common(&ca, &settings), shell.now(), shell.entropy.bytes());
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
