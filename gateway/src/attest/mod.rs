//! Attestors: what makes a newcomer believable. One file each, one line in [`ALL`].
//!
//! An attestor is pure: it says what it needs looked up, then who stands behind the message, then judges it with what was
//! found. Between the last two the locks on whoever stands behind it are looked up. Adding one means a file here with its
//! evidence format, its needs, its step, its claims, its rejections and its tests, and its line below.

use std::collections::BTreeMap;

use pki::{AssuranceLevel, KeyDigest, Role, Serial, TrustAnchors, TrustDomain, UnixTime};

use crate::core::{
    lock::{Locks, Target},
    records::{Certificate, Claim, Lineage, Owner, Seen, Subject, Token},
    refusal::Refusal,
    token::{Maker, TokenError, TokenKey},
};

mod join_token;
mod prior_certificate;

pub use self::prior_certificate::REPLACED;

/// Every attestor the gateway accepts, alphabetical.
pub static ALL: &[&dyn Attestor] = &[&join_token::JoinToken, &prior_certificate::PriorCertificate];

/// What the client sent, and what it is bound to.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The evidence's body.
    pub body: &'a str,
    /// The key to be certified: evidence may be bound to it so that it cannot be lent to another.
    pub for_key: KeyDigest,
    /// The exporter value of the connection it came on.
    pub exporter: &'a [u8; 32],
}

/// What is fixed for this gateway and moment.
pub struct Context<'a> {
    /// The trust domain.
    pub domain: &'a TrustDomain,
    /// Our roots.
    pub anchors: &'a TrustAnchors,
    /// Our issuing CAs: a client that kept only its leaf can still be verified.
    pub issuing: [&'a [u8]; 2],
    /// The key of join tokens.
    pub token_key: &'a TokenKey,
    /// Now.
    pub now: UnixTime,
}

/// Something to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A token by id.
    Token(String),
    /// A certificate by serial, with its lineage and subject.
    Prior(Serial),
}

/// What the lookup found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The token.
    pub token: Option<Seen<Token>>,
    /// How whoever made it stands now.
    pub maker: Maker,
    /// The certificate with its lineage and subject.
    pub prior: Option<Prior>,
}

/// A certificate of ours with what it belongs to.
#[derive(Clone, Debug)]
pub struct Prior {
    /// The certificate.
    pub certificate: Seen<Certificate>,
    /// Its lineage.
    pub lineage: Seen<Lineage>,
    /// Its subject, unless removed.
    pub subject: Option<Seen<Subject>>,
}

/// Who stands behind a piece of evidence. A lock on any of them spoils it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Every key, lineage, machine and person that the evidence rests on.
    pub targets: Vec<Target>,
    /// Those of them that whoever offers it is: they hear why they are locked, and of others' locks that there are some.
    pub own: Vec<Target>,
    /// A certificate that was replaced by a newer one: not evidence any more, and perhaps the sign of a second holder.
    pub replaced: Option<Replaced>,
}

impl Behind {
    /// The proof that no lock stands on whoever stands behind the evidence.
    ///
    /// # Errors
    /// [`Refusal::Locked`]; [`crate::core::refusal::Fault::Record`] when not every lock was looked up.
    pub fn clear(&self, locks: &Locks) -> Result<Cleared, Refusal> {
        locks.cover(&self.targets)?;
        locks.refuse_telling(&self.own)?;
        Ok(Cleared(()))
    }
}

/// Proof that no lock stands on whoever stands behind a piece of evidence. Only [`Behind::clear`] makes one.
#[derive(Debug)]
pub struct Cleared(());

/// What an attestor vouches for.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Claims by name, for policy and approvers.
    pub values: BTreeMap<String, Claim>,
    /// How far the newcomer is proven.
    pub assurance: AssuranceLevel,
    /// The role it is for; a machine when nothing says otherwise.
    pub role: Option<Role>,
    /// Names it is for; any when empty.
    pub names: Vec<String>,
    /// The tokens to redeem for the key.
    pub redeem: Vec<Seen<Token>>,
    /// What the newcomer is to become. At most one piece of a newcomer's evidence has it.
    pub grants: Option<Grants>,
}

/// What evidence gives beyond claims.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Owner.
    pub owner: Option<Owner>,
    /// The lineage to continue.
    pub rejoin: Option<Prior>,
}

/// The kind of a claim's value.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ClaimKind {
    /// Text.
    Text,
    /// A whole number.
    Number,
}

/// A way to be believed.
pub trait Attestor: Sync {
    /// The `kind` of its evidence.
    fn kind(&self) -> &'static str;

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
/// [`Reject::UnknownKind`].
pub fn by_kind(kind: &str) -> Result<&'static dyn Attestor, Reject> {
    ALL.iter()
        .copied()
        .find(|attestor| attestor.kind() == kind)
        .ok_or_else(|| Reject::UnknownKind(kind.chars().take(32).collect()))
}

/// Why evidence does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// No attestor of that kind.
    #[error("evidence of kind `{0}` is not accepted here")]
    UnknownKind(String),
    /// A join token does not hold.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// A prior certificate does not hold.
    #[error("the prior certificate does not hold: {0}")]
    Prior(&'static str),
    /// Pieces that each hold, and together would give more than any of them.
    #[error("these pieces of evidence cannot stand beside each other: {0}")]
    Together(&'static str),
}

/// A certificate that was replaced by a newer one and shown again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Its serial.
    pub used: Serial,
    /// Its lineage.
    pub lineage: String,
    /// End of its validity.
    pub not_after: UnixTime,
}
