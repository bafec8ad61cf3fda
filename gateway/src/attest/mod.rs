//! Attestors: what makes a newcomer believable. One file each, one line in [`ALL`].
//!
//! An attestor is pure: it says what it needs looked up, then who stands behind the message, then judges it with what was
//! found. Between the last two the locks on whoever stands behind it are looked up. Adding one means a file here with its
//! evidence format, its needs, its step, its claims, its rejections and its tests, and its line below.

use crate::core::evidence::{Behind, ClaimKind, Claims, Cleared, Context, Found, Message, Need, Reject};

mod join_token;
mod prior_certificate;

pub use self::prior_certificate::replaced;

/// Every attestor the gateway accepts, alphabetical.
pub static ALL: &[&dyn Attestor] = &[&join_token::JoinToken, &prior_certificate::PriorCertificate];

/// A way to be believed.
pub trait Attestor: Sync {
    /// The `kind` of its evidence.
    fn kind(&self) -> &'static str;

    /// Every rejection it has, one of each, as whoever is rejected reads it.
    fn rejections(&self) -> Vec<Reject>;

    /// Every claim it may make. A policy rule that names a claim nobody declares fails at load.
    fn claims(&self) -> &'static [(&'static str, ClaimKind)];

    /// What must be looked up to judge this message.
    ///
    /// # Errors
    /// When the message is not even evidence of this kind.
    fn needs(&self, message: &Message<'_>, context: &Context<'_>) -> Result<Vec<Need>, Reject>;

    /// Who stands behind the message: every key, lineage, machine and person without whom it would not hold.
    ///
    /// # Errors
    /// When what was found cannot hold.
    fn behind(&self, message: &Message<'_>, found: &Found, context: &Context<'_>) -> Result<Behind, Reject>;

    /// Judges the message, once no lock stands on whoever stands behind it.
    ///
    /// # Errors
    /// Why the evidence does not hold.
    fn step(
        &self,
        message: &Message<'_>,
        found: &Found,
        context: &Context<'_>,
        cleared: &Cleared,
    ) -> Result<Claims, Reject>;
}

/// The attestor for a kind of evidence.
///
/// # Errors
/// [`crate::core::evidence::UNKNOWN`].
pub fn by_kind(kind: &str) -> Result<&'static dyn Attestor, Reject> {
    ALL.iter().copied().find(|attestor| attestor.kind() == kind).ok_or_else(|| Reject::unknown(kind))
}
