//! Evidence: the values between the attestors in [`crate::attest`] and the sequence that calls them. These are the message, the look-ups
//! that an attestor needs, and the claims that result.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pki::{Assurance, KeyDigest, Role, SshKey, TrustAnchors, TrustDomain, UnixTime};
use policy::Ruleset;

pub use self::{
    file::{DocumentFile, unavailable},
    merge::merge,
    parsed::Parsed,
    section::{BadSection, Section, Sections},
    source::{Document, DocumentSource, Freshness, HttpsUrl, OF_NAME_AGE, Reach},
};
pub use super::reject::{
    Blame, CONFLICT, Reject, RejectionCode, SUSPENDED, TICKET_EXPIRED, TICKET_INVALID, TICKET_SPENT, TOO_LARGE,
    UNKNOWN, WANTED,
};
use super::{
    audit::{Event, StandingEvent},
    change::{Changes, Expectation},
    keys,
    lock::{Locks, Target},
    records::{Claim, Lineage, Owner, Seen, Shown, Subject},
    refusal::{Fault, Refusal},
    requester::Requester,
    stored::{ReadRecord, Stored},
    token::TokenKey,
};

mod file;
mod merge;
mod parsed;
mod section;
mod source;

/// Random bytes for one message: a nonce, a secret and a seed.
pub const ENTROPY_LEN: usize = 96;

/// One piece of evidence, and the key and connection that it is bound to.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The evidence's body, in the format of its attestor.
    pub body: &'a str,
    /// The attestor's state from the first round; `None` in the first.
    pub kept: Option<&'a [u8]>,
    /// Fresh for each message.
    pub entropy: [u8; ENTROPY_LEN],
    /// The key to be certified. Evidence bound to it cannot be used for another key.
    pub for_key: KeyDigest,
    /// The TLS exporter value (RFC 9266) of the connection on which it was sent.
    pub exporter: &'a [u8; 32],
    /// Who sent it, by the certificate of that connection.
    pub requester: &'a Requester,
    /// What it was sent for.
    pub purpose: Purpose<'a>,
}

/// Which way to a certificate evidence is shown on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// Joining, or coming back.
    Join {
        /// The name that is asked for.
        wanted: Option<&'a str>,
    },
    /// Renewing.
    Renewal {
        /// The name of the machine or person.
        name: &'a str,
        /// The claims that were recorded of it, with their prefixes.
        known: &'a BTreeMap<String, Claim>,
    },
}

/// The gateway's state for judging evidence.
pub struct Context<'a> {
    /// This gateway's.
    pub domain: &'a TrustDomain,
    /// The roots and all issuing CAs below them, so that a leaf without a chain can be verified.
    pub anchors: &'a TrustAnchors,
    /// Verifies join tokens.
    pub token_key: &'a TokenKey,
    /// This gateway's CA for the sshds of its machines.
    pub host_ca: Option<&'a SshKey>,
    /// The loaded policy: a token admits only what its creator could grant now.
    pub rules: &'a Ruleset,
    /// The same for all evidence of a request.
    pub now: UnixTime,
}

/// A look-up that an attestor needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A record, by its key in the store ([`super::keys`]).
    Record(String),
    /// A document that is maintained outside the gateway.
    Document(DocumentSource),
    /// The same, fetched anew: what is sought is not in the one that was found.
    Newest(DocumentSource),
    /// A document that is about one machine alone, whose name a requester gave. See [`Freshness::OfName`].
    OfName(DocumentSource),
}

/// Result of one look-up.
#[derive(Clone, Debug)]
pub enum Finding {
    /// `None` if there is no such record.
    Record(Option<Arc<ReadRecord>>),
    /// `None` if the document could not be read.
    Document(Option<Document>),
}

/// Results of the look-ups, in the order of the needs. Those of the second call of `needs` follow those of the first.
#[derive(Clone, Debug, Default)]
pub struct Found(Vec<Finding>);

impl Found {
    /// Number of look-ups done.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// No look-up was done yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the result of the next look-up.
    pub fn push(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// The record of the need at this index; `None` if it does not exist. A damaged record fails the request before.
    #[must_use]
    pub fn record<T: Stored + Clone + Send + Sync + 'static>(&self, at: usize) -> Option<Seen<T>> {
        match self.0.get(at)? {
            Finding::Record(Some(read)) => read.decoded().0,
            Finding::Record(None) | Finding::Document(_) => None,
        }
    }

    /// The document of the need at this index; `None` if it could not be read.
    #[must_use]
    pub fn document(&self, at: usize) -> Option<&Document> {
        match self.0.get(at)? {
            Finding::Document(document) => document.as_ref(),
            Finding::Record(_) => None,
        }
    }
}

/// What a piece of evidence depends on. A lock on any of these rejects the piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestsOn {
    /// All keys, lineages, machines and people behind it.
    pub targets: Vec<Target>,
    /// Those of `targets` that are the client itself. It is shown the reason of a lock on these; of other locks only that there is one.
    pub own: Vec<Target>,
}

impl RestsOn {
    /// Proves that there is no lock on any target.
    ///
    /// # Errors
    /// As [`Locks::refuse_telling`]; [`super::refusal::Fault::Record`] for a bug: not every target was looked up.
    pub fn clear(&self, locks: &Locks) -> Result<Cleared, Refusal> {
        locks.cover(&self.targets)?;
        locks.refuse_telling(&self.own)?;
        Ok(Cleared { targets: self.targets.iter().cloned().collect() })
    }
}

/// Proof that there is no lock on anything that a piece of evidence depends on. Only [`RestsOn::clear`] makes one.
#[derive(Debug)]
pub struct Cleared {
    targets: BTreeSet<Target>,
}

/// An attestor's answer to one message.
#[derive(Debug)]
pub enum Step {
    /// A challenge; nothing is proven yet.
    Ask {
        /// The challenge for the client.
        send: String,
        /// State for the second round. It goes into the ticket, which the client can neither read nor change.
        keep: Vec<u8>,
    },
    /// The evidence is valid.
    Done(Box<Vouched>),
}

/// The challenges of all attestors that have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Kind of evidence and its challenge.
    pub asks: Vec<(String, String)>,
    /// The attestors' state, encrypted; the client sends it back with its answers.
    pub ticket: String,
    /// The last second in which the ticket is valid.
    pub ends: UnixTime,
}

/// Result of one valid piece of evidence.
#[derive(Debug)]
pub struct Vouched {
    /// What the attestor vouches for.
    pub claims: Claims,
    /// What the evidence says and nobody vouches for, by name: for approvers. No rule can read it.
    pub stated: BTreeMap<String, String>,
    /// What it uses up, such as a use of a token; committed together with the decision.
    pub spends: Changes,
    /// If the evidence can become invalid while its sender waits: the attestor's reference to it for
    /// [`crate::attest::Attestor::recheck`].
    pub reference: Option<String>,
    /// If what it measured differs from what is allowed: the rejection, for a policy that wants that it does not. A claim whose name
    /// ends with [`DIFFERS`] says the same.
    pub differs: Option<Reject>,
}

/// How the name of a claim ends that says, for people, how what was measured differs from what is allowed.
pub const DIFFERS: &str = "_differs";

impl Vouched {
    /// Claims that use up nothing and do not become invalid.
    #[must_use]
    pub fn claims(claims: Claims) -> Self {
        Self { claims, stated: BTreeMap::new(), spends: Changes::new(), reference: None, differs: None }
    }
}

/// What an attestor vouches for.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Claims by name, for policy and approvers. The attestor uses short names; outside of it they have the attestor's prefix.
    pub values: BTreeMap<String, Claim>,
    /// How well the key is protected, as proven by this evidence.
    pub assurance: Assurance,
    /// The role that it admits; `None` means machine.
    pub role: Option<Role>,
    /// Names and patterns that it admits; any name if empty.
    pub names: Vec<String>,
    /// At most one piece of evidence in a request may have it.
    pub grants: Option<Grants>,
}

impl Claims {
    /// Whether they are of another device than `known` are, by one of the claims that say which (`devices`).
    #[must_use]
    pub fn other_device(&self, known: &BTreeMap<String, Claim>, devices: &[DeviceClaims]) -> bool {
        devices.iter().any(|claims| match (known.get(&claims.device), self.values.get(&claims.device)) {
            (Some(known), Some(shown)) => known != shown,
            (Some(_) | None, None) | (None, Some(_)) => false,
        })
    }

    /// The claims of a newcomer without evidence, whose key alone is proven.
    #[must_use]
    pub const fn of_a_key() -> Self {
        Self { values: BTreeMap::new(), assurance: Assurance::SOFTWARE, role: None, names: vec![], grants: None }
    }
}

/// The claims about devices of one kind, with their prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceClaims {
    /// The claim that says which device it is.
    pub device: String,
    /// What the device counts and never counts back, the count of most weight first: a later one begins anew when an earlier one grows.
    pub counts: Vec<String>,
}

/// What evidence grants beyond claims.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Labels of the machine.
    pub labels: BTreeMap<String, String>,
    /// Groups of the person.
    pub groups: Vec<String>,
    /// Owner of the machine.
    pub owner: Option<Owner>,
    /// The machine or person that rejoins.
    pub continues: Option<Continues>,
}

/// A machine or person that rejoins under its former lineage.
#[derive(Clone, Debug)]
pub struct Continues {
    /// The former lineage, which is continued.
    pub lineage: Seen<Lineage>,
    /// The machine or person of that lineage.
    pub subject: Seen<Subject>,
}

/// Result of all evidence of a request.
#[derive(Debug)]
pub struct Judged {
    /// Merged claims.
    pub claims: Claims,
    /// What the pieces say and nobody vouches for.
    pub stated: BTreeMap<String, String>,
    /// A record of each piece.
    pub shown: Vec<Shown>,
    /// Kinds of evidence that can be shown again at renewal, each with the prefix of its claims.
    pub again: Vec<(&'static str, &'static str)>,
    /// Whether it comes back as a machine because its evidence is of that machine's device.
    pub same_device: bool,
    /// The first difference of what was measured from what is allowed: [`Vouched::differs`].
    pub differs: Option<Reject>,
    spends: Changes,
    rests_on: BTreeSet<Target>,
}

impl Judged {
    /// The result for a request without evidence.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            claims: Claims::of_a_key(),
            stated: BTreeMap::new(),
            shown: vec![],
            again: vec![],
            same_device: false,
            differs: None,
            spends: Changes::new(),
            rests_on: BTreeSet::new(),
        }
    }

    /// Adds what a piece, or whoever sent it, depends on.
    pub fn rest_on(&mut self, cleared: Cleared) {
        self.rests_on.extend(cleared.targets);
    }

    /// Adds what a piece uses up.
    pub fn spend(&mut self, spends: Changes) {
        self.spends.extend(spends);
    }

    /// The evidence is of the device of a machine: so it comes back as that.
    pub fn come_back(&mut self, machine: Continues, cleared: Cleared) {
        self.rest_on(cleared);
        self.same_device = true;
        self.claims.names = vec![machine.lineage.record.name.clone()];
        let Subject { labels, owner, .. } = machine.subject.record.clone();
        self.claims.grants = Some(Grants { labels, groups: vec![], owner, continues: Some(machine) });
    }

    /// What all pieces depend on.
    #[must_use]
    pub const fn rests_on(&self) -> &BTreeSet<Target> {
        &self.rests_on
    }

    /// What is to be committed with every decision on this evidence: what it uses up, on the condition that nothing it depends on is
    /// locked meanwhile.
    pub fn changes(&self) -> Changes {
        let mut changes = self.spends.clone();
        let absent = |(kind, target): &Target| Expectation::Absent(keys::lock(*kind, target));
        changes.expect.extend(self.rests_on.iter().map(absent));
        changes
    }

    /// The same, with what the audit tells of a difference. `subject` is the request or machine whose evidence it is.
    pub fn changes_of(&self, subject: &str) -> Changes {
        let mut changes = self.changes();
        if let Some(Reject { text, .. }) = &self.differs {
            let (subject, difference) = (subject.to_owned(), text.clone());
            changes.event(Event::Standing(StandingEvent::EvidenceDiffers { subject, difference }));
        }
        changes
    }
}

/// The type of a claim's value.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ClaimKind {
    /// A Cedar `String`.
    Text,
    /// A Cedar `Long`.
    Number,
}

/// Rejected evidence, and a change that may follow from it.
#[derive(Debug)]
pub struct Rejected {
    /// The answer to the client.
    pub refusal: Refusal,
    /// Changes to commit before the answer is sent.
    pub follow_up: Option<Box<FollowUp>>,
}

/// Changes that follow from rejected evidence, such as a lock for a fork.
#[derive(Debug)]
pub struct FollowUp {
    /// Committed with the gateway as the actor.
    pub changes: Changes,
    /// Whether the changes lock a lineage with two holders.
    pub forks: bool,
}

impl From<Reject> for Rejected {
    fn from(reject: Reject) -> Self {
        Refusal::from(reject).into()
    }
}

impl From<Refusal> for Rejected {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, follow_up: None }
    }
}

impl From<Fault> for Rejected {
    fn from(fault: Fault) -> Self {
        Refusal::from(fault).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_device_is_known_by_its_claim_alone() {
        let devices = [DeviceClaims { device: "tpm_ek".to_owned(), counts: vec![] }];
        let claims = |of: &[(&str, &str)]| {
            of.iter().map(|(name, value)| ((*name).to_owned(), Claim::Text((*value).to_owned()))).collect()
        };
        for (known, shown, is_other) in [
            (&[("tpm_ek", "a")][..], &[("tpm_ek", "a")][..], false),
            (&[("tpm_ek", "a")], &[("tpm_ek", "b")], true),
            (&[], &[("tpm_ek", "b")], false),
            (&[("tpm_ek", "a")], &[], false),
            (&[("tpm_chain", "none")], &[("tpm_chain", "verified")], false),
        ] {
            let shown = Claims { values: claims(shown), ..Claims::of_a_key() };
            assert_eq!(shown.other_device(&claims(known), &devices), is_other, "{known:?} {shown:?}");
        }
    }
}
