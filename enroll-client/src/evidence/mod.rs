//! What this client can offer to be believed by: one file per kind, and the kinds are listed here.

mod join_token;
mod prior_certificate;

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

/// One kind of evidence.
pub trait Prover: Send + Sync {
    /// The kind, as the gateway's attestor of the same name knows it.
    fn kind(&self) -> &'static str;

    /// The body for one request.
    ///
    /// # Errors
    /// When something must be signed and the crypto library fails.
    fn body(&self, binding: Binding<'_>) -> Result<String, KeyFault>;
}

/// Every kind this client can produce, alphabetical.
pub const ALL: &[&str] = &[wire::enroll::JOIN_TOKEN, wire::enroll::PRIOR_CERTIFICATE];

/// The evidence of one request.
///
/// # Errors
/// When a prover fails.
pub fn gather(provers: &[Box<dyn Prover>], binding: Binding<'_>) -> Result<Vec<Evidence>, KeyFault> {
    provers.iter().map(|prover| Ok(Evidence { kind: prover.kind().to_owned(), body: prover.body(binding)? })).collect()
}
