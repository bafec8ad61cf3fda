//! Evidence: what is sent to be believed, what is looked up to judge it, and what it comes to. The attestors that judge it stand in
//! [`crate::attest`]; these are the values that go between them and the sequence that asks them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use pki::{AssuranceLevel, KeyDigest, Role, TrustAnchors, TrustDomain, UnixTime};
use policy::Ruleset;

pub use self::{
    merge::merge,
    section::{BadSection, Section, Sections},
};
pub use super::reject::{
    Blame, CONFLICT, Reject, RejectionCode, SUSPENDED, TICKET_EXPIRED, TICKET_INVALID, TICKET_SPENT, TOO_LARGE,
    UNKNOWN, WANTED,
};
use super::{
    change::Changes,
    kinds::Stored,
    lock::{Locks, Target},
    records::{Claim, Lineage, Owner, Seen, Shown, Subject},
    refusal::Refusal,
    token::TokenKey,
};

mod merge;
mod section;

/// Bytes of randomness for one message: a nonce, a secret and a seed.
pub const ENTROPY_LEN: usize = 96;

/// What the client sent, and what it is bound to.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The evidence's body.
    pub body: &'a str,
    /// What its attestor kept of the round before; nothing in the first.
    pub kept: Option<&'a [u8]>,
    /// Random bytes, for this message alone.
    pub entropy: [u8; ENTROPY_LEN],
    /// The key to be certified: evidence may be bound to it so that it cannot be lent to another.
    pub for_key: KeyDigest,
    /// The exporter value of the connection it came on.
    pub exporter: &'a [u8; 32],
}

/// What is fixed for this gateway and moment.
pub struct Context<'a> {
    /// The trust domain.
    pub domain: &'a TrustDomain,
    /// Our roots, with every issuing CA below them: a client that kept only its leaf can still be verified.
    pub anchors: &'a TrustAnchors,
    /// The key of join tokens.
    pub token_key: &'a TokenKey,
    /// The policy in force: evidence by somebody's word is worth what they could give now.
    pub rules: &'a Ruleset,
    /// Now.
    pub now: UnixTime,
}

/// Something to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A record of ours, by its key in the store ([`super::keys`]).
    Record(String),
    /// A text that others keep up to date.
    Document(DocumentSource),
}

/// Where a document is kept. An attestor has it from its section of the configuration, and never from evidence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentSource {
    /// A file of the gateway's machine.
    File(PathBuf),
}

/// A text that others keep up to date.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it says.
    pub bytes: Arc<[u8]>,
    /// How long ago it was last written: whether it is too old is for its attestor to say.
    pub age: Duration,
}

/// What the look-up found for one need.
#[derive(Clone, Debug)]
pub enum Finding {
    /// The record's bytes, if there is one.
    Record(Option<Seen<Vec<u8>>>),
    /// The document, or nothing when it could not be had.
    Document(Option<Document>),
}

/// What was found, in the order in which it was asked for: the second round of needs goes on where the first ended.
#[derive(Clone, Debug, Default)]
pub struct Found(Vec<Finding>);

impl Found {
    /// How many needs were met.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was looked up yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the next finding.
    pub fn push(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// The record that was asked for at this place; nothing when it does not exist. (One that is damaged never gets here.)
    #[must_use]
    pub fn record<T: Stored>(&self, at: usize) -> Option<Seen<T>> {
        match self.0.get(at)? {
            Finding::Record(Some(seen)) => {
                let record = serde_json::from_slice(&seen.record).ok()?;
                Some(Seen { record, version: seen.version })
            }
            Finding::Record(None) | Finding::Document(_) => None,
        }
    }

    /// The document that was asked for at this place.
    #[must_use]
    pub fn document(&self, at: usize) -> Option<&Document> {
        match self.0.get(at)? {
            Finding::Document(document) => document.as_ref(),
            Finding::Record(_) => None,
        }
    }
}

/// What a piece of evidence rests on. A lock on any of it spoils the piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestsOn {
    /// Every key, lineage, machine and person without whom it would not hold.
    pub targets: Vec<Target>,
    /// Those of them that whoever offers it is: they hear why they are locked, and of others' locks that there are some.
    pub own: Vec<Target>,
}

impl RestsOn {
    /// The proof that no lock stands on anything the evidence rests on.
    ///
    /// # Errors
    /// [`Refusal::Locked`]; [`super::refusal::Fault::Record`] when not every lock was looked up.
    pub fn clear(&self, locks: &Locks) -> Result<Cleared, Refusal> {
        locks.cover(&self.targets)?;
        locks.refuse_telling(&self.own)?;
        Ok(Cleared(()))
    }
}

/// Proof that no lock stands on anything a piece of evidence rests on. Only [`RestsOn::clear`] makes one.
#[derive(Debug)]
pub struct Cleared(());

/// What an attestor makes of one message.
#[derive(Debug)]
pub enum Step {
    /// It asks, and believes nothing yet.
    Ask {
        /// What the client is sent.
        send: String,
        /// What is to be had in the next round. The client holds it, sealed: it can neither read nor change it.
        keep: Vec<u8>,
    },
    /// It has heard enough.
    Done(Box<Vouched>),
}

/// What the client is asked, by every attestor that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Kind and question of each.
    pub asks: Vec<(String, String)>,
    /// What they keep, sealed: to be sent along with the answers.
    pub ticket: String,
    /// The last second in which it holds.
    pub ends: UnixTime,
}

/// What one attestor makes of one piece of evidence, once it holds.
#[derive(Debug)]
pub struct Vouched {
    /// What it vouches for.
    pub claims: Claims,
    /// What it spends: committed with whatever it leads to, or not at all.
    pub spends: Changes,
    /// By what the attestor knows the evidence again, if it may stop to hold while its sender waits
    /// ([`crate::attest::Attestor::still`]).
    pub reference: Option<String>,
}

impl Vouched {
    /// Claims that spend nothing and go on holding.
    #[must_use]
    pub fn claims(claims: Claims) -> Self {
        Self { claims, spends: Changes::new(), reference: None }
    }
}

/// What an attestor vouches for.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Claims by name, for policy and approvers. An attestor gives them by their short names; what is beyond it they have its
    /// prefix.
    pub values: BTreeMap<String, Claim>,
    /// How far the newcomer is proven.
    pub assurance: AssuranceLevel,
    /// The role it is for; a machine when nothing says otherwise.
    pub role: Option<Role>,
    /// Names it is for; any when empty.
    pub names: Vec<String>,
    /// What the newcomer is to become. At most one piece of a newcomer's evidence has it.
    pub grants: Option<Grants>,
}

impl Claims {
    /// Those of a newcomer without evidence: a key, proven.
    #[must_use]
    pub const fn of_a_key() -> Self {
        Self { values: BTreeMap::new(), assurance: AssuranceLevel::Software, role: None, names: vec![], grants: None }
    }
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
    /// Whom it shows to be back.
    pub continues: Option<Continues>,
}

/// A machine or person that comes back.
#[derive(Clone, Debug)]
pub struct Continues {
    /// Its lineage.
    pub lineage: Seen<Lineage>,
    /// Its record.
    pub subject: Seen<Subject>,
}

/// All evidence of a request, judged.
#[derive(Debug)]
pub struct Judged {
    /// What it comes to.
    pub claims: Claims,
    /// What all of it spends.
    pub spends: Changes,
    /// Each piece.
    pub shown: Vec<Shown>,
    /// What all of it rests on.
    pub rests_on: BTreeSet<Target>,
    /// The kinds among them that can be shown again, each with what the names of its claims begin with.
    pub again: Vec<(&'static str, &'static str)>,
    /// Where it is recorded that the ticket was used, when it came with one.
    pub ticket: Option<String>,
}

impl Judged {
    /// Of a request without evidence.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            claims: Claims::of_a_key(),
            spends: Changes::new(),
            shown: vec![],
            rests_on: BTreeSet::new(),
            ticket: None,
            again: vec![],
        }
    }
}

/// The kind of a claim's value.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ClaimKind {
    /// Text.
    Text,
    /// A whole number.
    Number,
}

/// Evidence that does not hold, and perhaps is a sign of something that must be acted upon.
#[derive(Debug)]
pub struct Rejected {
    /// What whoever sent it is told.
    pub refusal: Refusal,
    /// What is to be done all the same, before they are told.
    pub then: Option<Box<Then>>,
}

/// What follows from evidence that must not be shown.
#[derive(Debug)]
pub struct Then {
    /// What becomes durable, in the gateway's own name.
    pub changes: Changes,
    /// Whether that locks a lineage which two holders use.
    pub forks: bool,
}

impl From<Reject> for Rejected {
    fn from(reject: Reject) -> Self {
        Self { refusal: reject.into(), then: None }
    }
}
