//! The kinds of evidence this client can send: one file per kind, listed in [`ALL`].

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

/// What evidence may be bound to, so that it cannot be used with another key or on another connection.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The exporter value of the connection.
    pub exporter: &'a Exporter,
    /// The key that is to be certified.
    pub new_key: &'a KeyDigest,
}

/// The body of a piece of evidence, or why there is none.
pub type Proving<'a> = Pin<Box<dyn Future<Output = Result<String, KeyFault>> + Send + 'a>>;

/// Makes one kind of evidence. It may be slow, for example with a TPM, and take several rounds.
pub trait Prover: Send + Sync {
    /// The kind, which is the name of the gateway's attestor.
    fn kind(&self) -> &'static str;

    /// The body for one request; `challenge` is the attestor's challenge, from the second round on.
    ///
    /// # Errors
    /// When the crypto library or the device fails.
    fn body<'a>(&'a self, binding: Binding<'a>, challenge: Option<&'a str>) -> Proving<'a>;
}

/// Gives the machine's prover of a kind, if it has one; the argument is the client's folder.
pub type Probe = fn(&Path) -> Option<Box<dyn Prover>>;

/// Every kind this client supports, alphabetical. Kinds with a probe are found on the machine; the others are given by a person or an
/// earlier identity.
pub const ALL: &[(&str, Option<Probe>)] = &[
    (wire::evidence::JOIN_TOKEN, None),
    (wire::evidence::PRIOR_CERTIFICATE, None),
    #[cfg(debug_assertions)]
    ("reference", Some(reference::probe)),
];

/// The provers that this machine has.
#[must_use]
pub fn of_this_machine(folder: &Path) -> Vec<Box<dyn Prover>> {
    ALL.iter().filter_map(|(_, probe)| probe.and_then(|probe| probe(folder))).collect()
}

/// The evidence of one request: of the kinds that the gateway accepts, with the answers to its challenges.
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
