//! SSH certificates.

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::SshKind;
use wire::ssh::{HOST_NAMESPACE, SshCaReply, SshReply, SshRequest, USER_NAMESPACE, ca_statement, ordered_ca_statement};

use crate::{
    core::{
        refusal::Refusal,
        ssh::{ProvenSshKey, prove},
    },
    edge::{
        fronts::native::{Boxed, boxed},
        http::{Call, HolderCall, json, typed},
    },
    flow::{
        self,
        admit::admit,
        order,
        shell::{Shell, retrying},
        ssh::SshIssued,
    },
};

/// `GET /v1/ssh/ca`.
pub fn cas(call: Call) -> Boxed {
    boxed(async move { json(StatusCode::OK, &ca_reply(&call.shell).await?) })
}

/// `GET /.well-known/ssh-known-hosts`: the SSH CAs of machines, for `known_hosts` (C2SP well-known-ssh-hosts).
pub fn known_hosts(call: Call) -> Boxed {
    boxed(async move {
        let domain = call.shell.domain.as_str();
        let line = |key: &String| format!("@cert-authority *.machine.{domain} {key}\n");
        let lines: String = flow::ssh::ca_lines(&call.shell, SshKind::Host).iter().map(line).collect();
        typed(StatusCode::OK, "text/plain; charset=utf-8", lines)
    })
}

/// `POST /v1/ssh/host`.
pub fn host(call: HolderCall) -> Boxed {
    boxed(async move {
        let issued = retrying(|| async {
            let caller = admit(&call.shell, &call.peer, call.intent, &call.instance).await?;
            let key = proven(&call, HOST_NAMESPACE)?;
            flow::ssh::host(&call.shell, &caller, key, &call.instance).await
        })
        .await?;
        json(StatusCode::OK, &reply(&call.shell, issued))
    })
}

/// `POST /v1/ssh/user`.
pub fn user(call: HolderCall) -> Boxed {
    boxed(async move {
        let issued = retrying(|| async {
            let caller = admit(&call.shell, &call.peer, call.intent, &call.instance).await?;
            let key = proven(&call, USER_NAMESPACE)?;
            flow::ssh::user(&call.shell, &caller, key, &call.instance).await
        })
        .await?;
        json(StatusCode::OK, &reply(&call.shell, issued))
    })
}

fn proven(call: &Call, namespace: &str) -> Result<ProvenSshKey, Refusal> {
    let request: SshRequest = call.json()?;
    prove(&request.public_key, &request.signature, namespace, call.conn.exporter())
}

/// An SSH certificate as this front says it.
#[must_use]
pub fn reply(shell: &Shell, issued: SshIssued) -> SshReply {
    SshReply {
        certificate: issued.certificate,
        serial: issued.serial.to_string(),
        key_id: issued.key_id,
        principals: issued.principals,
        not_before: issued.not_before.secs(),
        not_after: issued.not_after.secs(),
        ca: issued.ca,
        time: shell.now().secs(),
    }
}

/// The SSH CAs as this front says them, with their place in the order of what is vouched for.
///
/// # Errors
/// When the CA's key does not sign.
pub async fn ca_reply(shell: &Shell) -> Result<SshCaReply, Refusal> {
    let [user, host] = [SshKind::User, SshKind::Host].map(|kind| flow::ssh::ca_lines(shell, kind));
    let (domain, order) = (shell.domain.as_str(), order::now(shell).number());
    let statements = [ca_statement(domain, &user, &host), ordered_ca_statement(domain, order, &user, &host)];
    let (ca, signatures) = flow::ssh::vouch(shell, statements).await?;
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
