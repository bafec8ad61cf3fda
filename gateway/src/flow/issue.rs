//! The one way to a certificate: sign in memory, commit it with everything it spends, and only then answer.

use pki::schedule;
use wire::enroll::IssuedReply;

use super::{
    order,
    shell::{Actor, Retry, Shell},
};
use crate::core::{plan::Plan, records::Certificate, refusal::Fault};

/// Signs, commits, and shows what is durable. Whatever fails before leaves nothing behind: the same key may ask again.
///
/// # Errors
/// [`Retry::Conflict`] when somebody else was first; otherwise what the signer or the store refused.
pub async fn issue(shell: &Shell, plan: Plan, actor: &Actor<'_>) -> Result<IssuedReply, Retry> {
    let signed = shell.signer.sign(plan).await?;
    let (certificate, id) = signed.commit(|changes| shell.commit(changes, actor)).await?.release();
    Ok(reply(shell, &id, &certificate)?)
}

/// The reply for a recorded certificate, with the chain of the CA that signed it.
///
/// # Errors
/// [`Fault::Record`] when that CA is not here any more.
pub fn reply(shell: &Shell, id: &str, certificate: &Certificate) -> Result<IssuedReply, Fault> {
    let ca = shell.ca();
    let chain = ca.chain_pem(&certificate.issuer).ok_or_else(|| {
        Fault::Record(format!("certificate {} was signed by a CA that is not here", certificate.serial.hex()))
    })?;
    let settings = shell.settings.load();
    let schedule = schedule(&certificate.serial, certificate.not_before.into(), certificate.not_after.into());
    let identity = format!("spiffe://{}/{}/{}", shell.domain.as_str(), certificate.role.as_str(), certificate.name);
    Ok(IssuedReply {
        id: id.to_owned(),
        identity,
        certificate: pki::to_pem("CERTIFICATE", &certificate.der),
        chain: chain.to_owned(),
        bundle: ca.bundle_pem().to_owned(),
        cross: ca.cross_pem().to_owned(),
        serial: certificate.serial.hex(),
        not_before: certificate.not_before.0,
        not_after: certificate.not_after.0,
        renew_after: schedule.renew_after.secs(),
        renew_by: schedule.renew_by.secs(),
        manage: settings.public_manage.clone(),
        order: order::now(shell).number(),
        time: shell.now().secs(),
    })
}
