//! The kinds of evidence this client can send: one file per kind, listed in [`ALL`].

mod join_token;
mod jwt;
mod prior_certificate;
#[cfg(debug_assertions)]
mod reference;
mod ssh_host_key;
pub mod tpm;
mod x509;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use pki::{KeyDigest, TrustDomain, UnixTime};
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
    /// The gateway's trust domain, by its verified certificate.
    pub domain: &'a TrustDomain,
    /// The gateway's time, as far as known.
    pub now: UnixTime,
}

/// Why there is no evidence of a kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// A key fails: nothing can be proven with it.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// The machine cannot prove this about itself. It may still join by other means.
    #[error("{0}")]
    Machine(String),
}

/// The body of a piece of evidence, or why there is none.
pub type Proving<'a> = Pin<Box<dyn Future<Output = Result<String, EvidenceError>> + Send + 'a>>;

/// Makes one kind of evidence. It may be slow, for example with a TPM, and take several rounds.
pub trait Prover: Send + Sync {
    /// The kind, which is the name of the gateway's attestor.
    fn kind(&self) -> &'static str;

    /// Whether a renewal that is refused with this code goes on without this evidence: so that what was good for joining, and cannot be
    /// shown again, does not keep the machine from renewing. The gateway's policy decides whether that is enough.
    fn renews_without(&self, _code: &str) -> bool {
        false
    }

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
    (wire::evidence::JWT, Some(jwt::probe)),
    (wire::evidence::PRIOR_CERTIFICATE, None),
    #[cfg(debug_assertions)]
    ("reference", Some(reference::probe)),
    (wire::evidence::SSH_HOST_KEY, Some(ssh_host_key::probe)),
    (wire::evidence::TPM, Some(tpm::probe)),
    (wire::evidence::X509, Some(x509::probe)),
];

/// The provers that this machine has.
#[must_use]
pub fn of_this_machine(folder: &Path) -> Vec<Box<dyn Prover>> {
    ALL.iter().filter_map(|(_, probe)| probe.and_then(|probe| probe(folder))).collect()
}

/// The evidence of one request.
#[derive(Debug, Default)]
pub struct Gathered {
    /// What is sent.
    pub evidence: Vec<Evidence>,
    /// The kinds that the gateway accepts and the machine has, but could not prove now, each with the reason.
    pub missing: Vec<(&'static str, String)>,
}

impl Gathered {
    /// What a person is told about the evidence of the machine itself: what is offered, and what is not.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let probed = |kind: &str| ALL.iter().any(|(known, probe)| *known == kind && probe.is_some());
        let offered: Vec<&str> =
            self.evidence.iter().map(|piece| piece.kind.as_str()).filter(|kind| probed(kind)).collect();
        let missing = self.missing.iter().map(|(kind, why)| format!("going on without the evidence `{kind}`: {why}"));
        let offered =
            (!offered.is_empty()).then(|| format!("offering the evidence of this machine: {}", offered.join(", ")));
        offered.into_iter().chain(missing).collect()
    }
}

/// The evidence of one request: of the kinds that the gateway accepts, with the answers to its challenges.
pub async fn gather(
    provers: &[Box<dyn Prover>],
    taken: impl Fn(&str) -> bool,
    binding: Binding<'_>,
    asked: &[(String, String)],
) -> Result<Gathered, KeyFault> {
    let mut all = Gathered::default();
    for prover in provers.iter().filter(|prover| taken(prover.kind())) {
        let kind = prover.kind();
        let challenge = asked.iter().find(|(of, _)| of == kind).map(|(_, challenge)| challenge.as_str());
        match prover.body(binding, challenge).await {
            Ok(body) => all.evidence.push(Evidence { kind: kind.to_owned(), body }),
            Err(EvidenceError::Machine(why)) => all.missing.push((kind, why)),
            Err(EvidenceError::Key(fault)) => return Err(fault),
        }
    }
    Ok(all)
}
