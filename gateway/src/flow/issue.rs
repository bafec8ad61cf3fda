//! The one way to a certificate: sign in memory, commit it with everything it spends, and only then answer.

use pki::{Schedule, schedule};

use super::shell::{Actor, Retry, Shell};
use crate::core::{plan::Plan, records::Certificate, refusal::Fault};

/// A durable certificate, with what its holder needs in addition. The front decides on the form.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The enrollment, or for a renewal the lineage, that it belongs to.
    pub id: String,
    /// The SPIFFE ID in it.
    pub identity: String,
    /// Its record, with the leaf in DER.
    pub certificate: Certificate,
    /// The certificates of the CAs between the leaf and a root, DER, the leaf's issuer first.
    pub chain: Vec<Vec<u8>>,
    /// When to renew it.
    pub schedule: Schedule,
}

/// Signs and commits, and returns the durable certificate. A failure leaves nothing behind, so the same key may ask again.
///
/// # Errors
/// [`Retry::Conflict`] if another request was first; otherwise the refusal of the signer or the store.
pub async fn issue(shell: &Shell, plan: Plan, actor: &Actor<'_>) -> Result<Issued, Retry> {
    let signed = shell.signer.sign(plan).await?;
    let (certificate, id) = signed.commit(|changes| shell.commit(changes, actor)).await?.release();
    Ok(issued(shell, id, certificate)?)
}

/// A recorded certificate, with the chain of the CA that signed it.
///
/// # Errors
/// [`Fault::Record`] if that CA no longer exists.
pub fn issued(shell: &Shell, id: String, certificate: Certificate) -> Result<Issued, Fault> {
    let ca = shell.ca();
    let chain = ca.chain(&certificate.issuer).map(<[_]>::to_vec).ok_or_else(|| {
        Fault::Record(format!("certificate {} was signed by a CA that is not here", certificate.serial.hex()))
    })?;
    let schedule = schedule(&certificate.serial, certificate.not_before.into(), certificate.not_after.into());
    let identity = shell.domain.id_of(certificate.role, &certificate.name);
    Ok(Issued { id, identity, certificate, chain, schedule })
}
