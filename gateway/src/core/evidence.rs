//! Evidence: what is sent to be believed, what is looked up to judge it, and what it comes to. The attestors that judge it stand in
//! [`crate::attest`]; these are the values that go between them and the sequence that asks them.

use std::collections::BTreeMap;

use pki::{AssuranceLevel, KeyDigest, Role, Serial, TrustAnchors, TrustDomain, UnixTime};

pub use self::{
    merge::{merge, none},
    reject::{Blame, CONFLICT, Code, Reject, SUSPENDED, UNKNOWN},
};
use super::{
    lock::{Locks, Target},
    records::{Certificate, Claim, Lineage, Owner, Seen, Subject, Token},
    refusal::Refusal,
    token::{Maker, TokenKey},
};

mod merge;
mod reject;

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
    /// [`Refusal::Locked`]; [`super::refusal::Fault::Record`] when not every lock was looked up.
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
