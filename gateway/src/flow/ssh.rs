//! SSH certificates: decide, sign, make the event durable, answer.

use pki::{SshKind, UnixTime};

use super::shell::{Actor, Retry, Shell};
use crate::core::{
    admission::Caller,
    refusal::Refusal,
    ssh::{self, ProvenSshKey, SshPlan},
};

/// An SSH certificate that is durable.
#[derive(Clone, Debug)]
pub struct SshIssued {
    /// The certificate, as a line of a `-cert.pub` file.
    pub certificate: String,
    /// Its serial number.
    pub serial: u64,
    /// Its key id, which sshd logs.
    pub key_id: String,
    /// The names it is valid for.
    pub principals: Vec<String>,
    /// First second of validity.
    pub not_before: UnixTime,
    /// First second after its validity.
    pub not_after: UnixTime,
    /// The public key of the CA that signed it, as a line of a `.pub` file.
    pub ca: String,
}

/// The public keys of the SSH CAs of a kind, each as a line of a `.pub` file.
#[must_use]
pub fn ca_lines(shell: &Shell, kind: SshKind) -> Vec<String> {
    vec![shell.ca().ssh(kind).line()]
}

/// The gateway's statement of its SSH CAs, signed by the CA for gateways: a stolen TLS key is not enough to name other CAs or to replay
/// an earlier list. Returns the certificate of that CA, DER, first.
///
/// # Errors
/// When the CA's key does not sign.
pub async fn vouch(shell: &Shell, statements: [Vec<u8>; 2]) -> Result<(Vec<u8>, [Vec<u8>; 2]), Refusal> {
    Ok(shell.signer.statements(statements).await?)
}

/// A certificate for the sshd of the calling machine.
///
/// # Errors
/// The reason for the refusal. After a conflict the caller tries again, with a new admission.
pub async fn host(shell: &Shell, caller: &Caller, key: ProvenSshKey, instance: &str) -> Result<SshIssued, Retry> {
    issue(shell, caller, ssh::host(caller, key, shell.entropy.bytes(), shell.now())?, instance).await
}

/// A certificate for the logins of the calling person.
///
/// # Errors
/// The reason for the refusal. After a conflict the caller tries again, with a new admission.
pub async fn user(shell: &Shell, caller: &Caller, key: ProvenSshKey, instance: &str) -> Result<SshIssued, Retry> {
    let plan = ssh::user(caller, key, &shell.rules.load(), shell.entropy.bytes(), shell.now())?;
    issue(shell, caller, plan, instance).await
}

/// Signs in memory, makes the event durable, and then returns the certificate.
async fn issue(shell: &Shell, caller: &Caller, plan: SshPlan, instance: &str) -> Result<SshIssued, Retry> {
    let SshPlan { draft, changes } = plan;
    let who = caller.identity.to_string();
    let mut made = SshIssued {
        certificate: String::new(),
        serial: draft.serial(),
        key_id: draft.key_id().to_owned(),
        principals: draft.principals().to_vec(),
        not_before: draft.valid_after(),
        not_after: draft.valid_before(),
        ca: shell.ca().ssh(draft.kind()).line(),
    };
    let issued = shell.signer.ssh(draft, shell.entropy.bytes()).await?;
    // It is not sent before its event is durable.
    shell.commit(changes, &Actor { who: &who, instance }).await?;
    made.certificate = issued.line;
    Ok(made)
}
