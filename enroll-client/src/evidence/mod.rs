//! What this client can offer to be believed by: one file per kind, and the kinds are listed here.

mod join_token;
mod prior_certificate;
#[cfg(debug_assertions)]
mod reference;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use pki::KeyDigest;
use wire::enroll::Evidence;

pub use join_token::JoinToken;
pub use prior_certificate::PriorCertificate;

use crate::core::key::KeyFault;
use crate::core::proof::Exporter;

/// What evidence may be bound to, so that it cannot be lent to another key or moved to another connection.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The connection.
    pub exporter: &'a Exporter,
    /// The key that is to be certified.
    pub new_key: &'a KeyDigest,
}

/// The body of a piece of evidence, or why there is none.
pub type Proving<'a> = Pin<Box<dyn Future<Output = Result<String, KeyFault>> + Send + 'a>>;

/// One kind of evidence. What makes it may be slow, such as a TPM, and it may take several rounds.
pub trait Prover: Send + Sync {
    /// The kind, as the gateway's attestor of the same name knows it.
    fn kind(&self) -> &'static str;

    /// The body for one request; `challenge` is what the gateway's attestor asked, from the second round on.
    ///
    /// # Errors
    /// When something must be signed and the crypto library, or the device, fails.
    fn body<'a>(&'a self, binding: Binding<'a>, challenge: Option<&'a str>) -> Proving<'a>;
}

/// Finds out whether this machine has something that proves by itself, given the client's folder.
pub type Probe = fn(&Path) -> Option<Box<dyn Prover>>;

/// Every kind this client can produce, alphabetical; those with a probe are of the machine, and the others of whoever holds them.
pub const ALL: &[(&str, Option<Probe>)] = &[
    (wire::enroll::JOIN_TOKEN, None),
    (wire::enroll::PRIOR_CERTIFICATE, None),
    #[cfg(debug_assertions)]
    ("reference", Some(reference::probe)),
];

/// What this machine has that proves by itself.
#[must_use]
pub fn of_this_machine(folder: &Path) -> Vec<Box<dyn Prover>> {
    ALL.iter().filter_map(|(_, probe)| probe.and_then(|probe| probe(folder))).collect()
}

/// The evidence of one request: of the kinds that the gateway takes, and in answer to what it asked.
///
/// # Errors
/// When a prover fails.
pub async fn gather(
    provers: &[Box<dyn Prover>],
    taken: impl Fn(&str) -> bool,
    binding: Binding<'_>,
    asked: &[(String, String)],
) -> Result<Vec<Evidence>, KeyFault> {
    let mut all = Vec::new();
    for prover in provers.iter().filter(|prover| taken(prover.kind())) {
        let kind = prover.kind();
        let challenge = asked.iter().find(|(of, _)| of == kind).map(|(_, challenge)| challenge.as_str());
        let body = prover.body(binding, challenge).await?;
        all.push(Evidence { kind: kind.to_owned(), body });
    }
    Ok(all)
}
