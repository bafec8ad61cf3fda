//! Renewal: one request, a new key, the same lineage.

use pki::{SubjectKey, VerifiedCsr};

use super::{
    admit::with_key,
    issue::{self, Issued},
    shell::{Actor, Retry, Shell},
};
use crate::core::{
    admission::Caller,
    keys,
    refusal::{BadCsr, Refusal},
    renew,
};

/// Renews for a caller that was admitted with [`crate::core::admission::Use::Renewal`].
///
/// # Errors
/// Why not. A conflict is the caller's to retry, with a fresh admission.
pub async fn renew(
    shell: &Shell,
    caller: &Caller,
    csr: VerifiedCsr,
    takes: Option<&str>,
    instance: &str,
) -> Result<Issued, Retry> {
    let key: SubjectKey = csr.into_key();
    let pending = match &caller.lineage.record.pending {
        Some(reference) if reference.key == key.digest() => shell.get(keys::certificate(&reference.serial)).await?,
        _ => None,
    };
    let (rules, settings) = (shell.rules.load(), shell.settings.load());
    let ca = shell.ca();
    let (common, now, serial) = (shell.common(&ca, &settings), shell.now(), shell.entropy.bytes());
    let caller = with_key(shell, caller, &key.digest()).await?;
    let verdict =
        renew::decide(&caller, &renew::Asked { key: &key, takes }, pending.as_ref(), &rules, common, now, serial)?;
    match verdict {
        renew::Verdict::Known(certificate) => Ok(issue::issued(shell, certificate.lineage.clone(), *certificate)?),
        renew::Verdict::Issue(plan) => {
            let who = caller.identity.to_string();
            let reply = issue::issue(shell, *plan, &Actor { who: &who, instance }).await?;
            shell.metrics.renewal("issued");
            Ok(reply)
        }
    }
}

/// Verifies a CSR in base64.
///
/// # Errors
/// [`Refusal::BadCsr`].
pub fn csr(base64: &str) -> Result<VerifiedCsr, Refusal> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let der = STANDARD.decode(base64).map_err(|_| Refusal::BadCsr(BadCsr::Encoding))?;
    pki::csr::verify(&der).map_err(|error| Refusal::BadCsr(error.into()))
}
