//! The one way to a certificate: reserve durably, sign, record durably, and only then answer.

use pki::{Identity, Linted, schedule};
use wire::enroll::IssuedReply;

use super::{
    order,
    shell::{Actor, Retry, Shell},
};
use crate::core::{
    plan::{self, Plan},
    records::{Certificate, Enrollment},
    refusal::{Fault, Refusal},
};

/// A plan whose intent is durable. Only this can be signed; only [`reserve`] makes it.
#[must_use = "a reservation that is not signed and recorded issues nothing"]
pub struct Reserved {
    linted: Linted,
    certificate: Certificate,
    enrollment: Option<Enrollment>,
    identity: Identity,
    id: String,
}

/// A signed certificate that nobody has seen yet.
#[must_use = "a signed certificate must be recorded before anybody sees it"]
pub struct Signed {
    der: Vec<u8>,
    certificate: Certificate,
    enrollment: Option<Enrollment>,
    identity: Identity,
    id: String,
}

/// Makes serial, token, name and events durable.
///
/// # Errors
/// [`Retry::Conflict`] when somebody else was first.
pub async fn reserve(shell: &Shell, plan: Plan, actor: &Actor<'_>) -> Result<Reserved, Retry> {
    let Plan { linted, reserve, certificate, enrollment, id } = plan;
    shell.commit(reserve, actor).await?;
    let identity = linted.identity().clone();
    Ok(Reserved { linted, certificate, enrollment, identity, id })
}

/// The only use of an issuing key for a leaf.
///
/// # Errors
/// [`Fault::Issue`] when the key fails; the reservation then lapses by itself.
pub fn sign(shell: &Shell, reserved: Reserved) -> Result<Signed, Refusal> {
    let Reserved { linted, certificate, enrollment, identity, id } = reserved;
    let issued = linted.issue(shell.ca.issuing(certificate.role)).map_err(|error| Fault::Issue(error.to_string()))?;
    Ok(Signed { der: issued.der, certificate, enrollment, identity, id })
}

/// Makes the certificate durable, then shows it.
///
/// # Errors
/// When the store fails; the same key may ask again.
pub async fn record(shell: &Shell, signed: Signed, actor: &Actor<'_>) -> Result<IssuedReply, Retry> {
    let Signed { der, certificate, enrollment, identity, id } = signed;
    let (changes, certificate) = plan::record(certificate, der, enrollment, &identity);
    shell.commit(changes, actor).await?;
    Ok(reply(shell, &id, &certificate))
}

/// All three steps.
///
/// # Errors
/// As each of them.
pub async fn issue(shell: &Shell, plan: Plan, actor: &Actor<'_>) -> Result<IssuedReply, Retry> {
    let reserved = reserve(shell, plan, actor).await?;
    let signed = sign(shell, reserved)?;
    record(shell, signed, actor).await
}

/// The reply for a recorded certificate.
#[must_use]
pub fn reply(shell: &Shell, id: &str, certificate: &Certificate) -> IssuedReply {
    let settings = shell.settings.load();
    let schedule = schedule(&certificate.serial, certificate.not_before.into(), certificate.not_after.into());
    let identity =
        format!("spiffe://{}/{}/{}", shell.ca.domain().as_str(), certificate.role.as_str(), certificate.name);
    IssuedReply {
        id: id.to_owned(),
        identity,
        certificate: pki::to_pem("CERTIFICATE", &certificate.der),
        chain: shell.ca.chain_pem(certificate.role).to_owned(),
        bundle: shell.ca.bundle_pem().to_owned(),
        cross: String::new(),
        serial: certificate.serial.hex(),
        not_before: certificate.not_before.0,
        not_after: certificate.not_after.0,
        renew_after: schedule.renew_after.secs(),
        renew_by: schedule.renew_by.secs(),
        manage: settings.public_manage.clone(),
        order: order::now(shell).number(),
        time: shell.now().secs(),
    }
}
