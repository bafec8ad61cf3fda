//! SSH certificates: decide, make the event durable, sign, answer.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::SshKind;
use wire::ssh::{SshCaReply, SshReply, ca_statement, ordered_ca_statement};

use super::{
    order,
    shell::{Actor, Retry, Shell},
};
use crate::core::{
    admission::Caller,
    refusal::Refusal,
    ssh::{self, Plan, Proven},
};

/// The public keys of the SSH CAs, signed by the CA for gateways with their place in the order: whoever has stolen the key for
/// TLS can neither name others nor show an earlier list again.
///
/// # Errors
/// When the CA's key does not sign.
pub async fn cas(shell: &Shell) -> Result<SshCaReply, Refusal> {
    let line = |kind| vec![shell.ca().ssh(kind).line()];
    let (domain, user, host) = (shell.domain.as_str(), line(SshKind::User), line(SshKind::Host));
    let order = order::now(shell).number();
    let statements = [ca_statement(domain, &user, &host), ordered_ca_statement(domain, order, &user, &host)];
    let (ca, signatures) = shell.signer.statements(statements).await?;
    let [signature, ordered_signature] = signatures.map(|signature| STANDARD.encode(signature));
    Ok(SshCaReply {
        trust_domain: domain.to_owned(),
        ca: pki::to_pem("CERTIFICATE", &ca),
        signature,
        order,
        ordered_signature,
        user,
        host,
    })
}

/// A certificate for the sshd of the machine that calls.
///
/// # Errors
/// Why not. A conflict is the caller's to retry, with a fresh admission.
pub async fn host(shell: &Shell, caller: &Caller, key: Proven, instance: &str) -> Result<SshReply, Retry> {
    issue(shell, caller, ssh::host(caller, key, shell.entropy.bytes(), shell.now())?, instance).await
}

/// A certificate with which the person who calls logs in.
///
/// # Errors
/// Why not. A conflict is the caller's to retry, with a fresh admission.
pub async fn user(shell: &Shell, caller: &Caller, key: Proven, instance: &str) -> Result<SshReply, Retry> {
    let plan = ssh::user(caller, key, &shell.rules.load(), shell.entropy.bytes(), shell.now())?;
    issue(shell, caller, plan, instance).await
}

/// Signs in memory, makes the event durable, and only then answers.
async fn issue(shell: &Shell, caller: &Caller, plan: Plan, instance: &str) -> Result<SshReply, Retry> {
    let Plan { draft, changes } = plan;
    let who = caller.identity.to_string();
    let mut reply = SshReply {
        certificate: String::new(),
        serial: draft.serial().to_string(),
        key_id: draft.key_id().to_owned(),
        principals: draft.principals().to_vec(),
        not_before: draft.valid_after().secs(),
        not_after: draft.valid_before().secs(),
        ca: shell.ca().ssh(draft.kind()).line(),
        time: shell.now().secs(),
    };
    let issued = shell.signer.ssh(draft, shell.entropy.bytes()).await?;
    // Nobody sees it before its event is durable.
    shell.commit(changes, &Actor { who: &who, instance }).await?;
    reply.certificate = issued.line;
    Ok(reply)
}
