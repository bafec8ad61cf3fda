//! The kinds of evidence this client can send: one file per kind, listed in [`ALL`].

mod cloud;
mod join_token;
mod jwt;
mod prior_certificate;
mod program;
mod read_back;
#[cfg(debug_assertions)]
mod reference;
mod ssh_host_key;
pub mod tpm;
mod x509;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use ::tpm::KeyFile;
use pki::{KeyDigest, TrustDomain, UnixTime};
use wire::enroll::Evidence;

pub use join_token::JoinToken;
pub use prior_certificate::PriorCertificate;

use crate::core::attestation::{Attestation, KnownEk, Offer};
use crate::core::key::KeyFault;
use crate::core::proof::Exporter;
use crate::text::report::{Complaint, Exit};

/// What evidence may be bound to, so that it cannot be used with another key or on another connection.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The exporter value of the connection.
    pub exporter: &'a Exporter,
    /// The key that is to be certified.
    pub new_key: &'a KeyDigest,
    /// What the TPM can use of that key, if it is in one.
    pub inside: Option<&'a KeyFile>,
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

    /// What the machine's owner has to do before a challenge can be answered, if they have to.
    fn for_owner(&self, _challenge: &str) -> Option<ForOwner> {
        None
    }

    /// The body for one request; `challenge` is the attestor's challenge, from the second round on.
    ///
    /// # Errors
    /// When the crypto library or the device fails.
    fn body<'a>(&'a self, binding: Binding<'a>, challenge: Option<&'a str>) -> Proving<'a>;

    /// The endorsement key in the last body, which is to be shown from now on.
    fn shown(&self) -> Option<KnownEk> {
        None
    }
}

/// Something that the machine's owner has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForOwner {
    /// What: a line.
    pub what: String,
    /// How long to give them for it, before the challenge is answered.
    pub pause: Duration,
}

/// What a prover is made from.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The client's folder.
    pub folder: &'a Path,
    /// The record in it.
    pub attestation: &'a Attestation,
    /// The endorsement key that must be shown and no other, because the gateway knows the machine by it.
    pub ek: Option<&'a KnownEk>,
}

/// Gives the machine's prover of a kind, if it has one.
pub type Probe = fn(Known<'_>) -> Option<Box<dyn Prover>>;

/// A kind of evidence.
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Where it comes from.
    pub source: Source,
}

/// Where evidence comes from.
pub enum Source {
    /// A person gives it, or an earlier identity.
    Given,
    /// It is found on the machine.
    Machine {
        /// Finds it.
        probe: Probe,
        /// What is said of a machine without it.
        lacks: &'static str,
    },
    /// The machine's owner does something for it, so that it is offered only if it is named.
    Owner {
        /// Makes the prover.
        prover: fn() -> Box<dyn Prover>,
    },
}

/// Every kind this client supports, alphabetical.
pub const ALL: &[Kind] = &[
    Kind { name: wire::evidence::CLOUD, source: Source::Machine { probe: cloud::probe, lacks: cloud::LACKS } },
    Kind { name: wire::evidence::JOIN_TOKEN, source: Source::Given },
    Kind { name: wire::evidence::JWT, source: Source::Machine { probe: jwt::probe, lacks: jwt::LACKS } },
    Kind { name: wire::evidence::PRIOR_CERTIFICATE, source: Source::Given },
    Kind { name: wire::evidence::READ_BACK, source: Source::Owner { prover: read_back::prover } },
    #[cfg(debug_assertions)]
    Kind {
        name: "reference",
        source: Source::Machine { probe: reference::probe, lacks: "the folder holds no secret" },
    },
    Kind {
        name: wire::evidence::SSH_HOST_KEY,
        source: Source::Machine { probe: ssh_host_key::probe, lacks: ssh_host_key::LACKS },
    },
    Kind { name: wire::evidence::TPM, source: Source::Machine { probe: tpm::probe, lacks: tpm::NO_TPM } },
    Kind { name: wire::evidence::X509, source: Source::Machine { probe: x509::probe, lacks: x509::LACKS } },
];

/// The kinds that are of a machine: what is found on it, and what its owner does for it.
fn of_machines() -> impl Iterator<Item = &'static Kind> {
    ALL.iter().filter(|kind| match kind.source {
        Source::Machine { .. } | Source::Owner { .. } => true,
        Source::Given => false,
    })
}

/// The machine's prover of a kind, if it has one.
fn prover(kind: &Kind, known: Known<'_>) -> Option<Box<dyn Prover>> {
    match kind.source {
        Source::Machine { probe, .. } => probe(known),
        Source::Owner { prover } => Some(prover()),
        Source::Given => None,
    }
}

/// The provers that this machine has and its owner lets it use.
#[must_use]
pub fn of_this_machine(known: Known<'_>) -> Vec<Box<dyn Prover>> {
    let offer = &known.attestation.attest;
    let allowed = of_machines().filter(|kind| match kind.source {
        Source::Owner { .. } => offer.named().iter().any(|named| named == kind.name),
        Source::Machine { .. } | Source::Given => offer.allows(kind.name),
    });
    allowed.filter_map(|kind| prover(kind, known)).collect()
}

/// Refuses an offer that names what is no kind of evidence, or what this machine does not have.
///
/// # Errors
/// [`Exit::Usage`] for the one, and [`Exit::Failure`] for the other.
pub fn check_offer(offer: &Offer, known: Known<'_>) -> Result<(), Complaint> {
    for named in offer.named() {
        let Some(kind) = of_machines().find(|kind| kind.name == named) else {
            let kinds: Vec<&str> = of_machines().map(|kind| kind.name).collect();
            return Err(Complaint::new(Exit::Usage, "usage", format!("`{named}` is no evidence that a machine has"))
                .hint(format!("it is one or several of {}, or `auto`, or `none`", kinds.join(", "))));
        };
        if let Source::Machine { lacks, .. } = kind.source
            && prover(kind, known).is_none()
        {
            return Err(missing(named, lacks));
        }
    }
    Ok(())
}

/// Evidence was named and cannot be given.
fn missing(kind: &str, why: &str) -> Complaint {
    Complaint::new(Exit::Failure, "no-evidence", format!("the evidence `{kind}` was asked for: {why}"))
        .hint("`--attest auto` offers what there is, `--attest none` nothing")
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
    /// The kinds among it that were found on the machine.
    #[must_use]
    pub fn of_machine(&self) -> Vec<&str> {
        let found = |kind: &&str| of_machines().any(|known| known.name == *kind);
        self.evidence.iter().map(|piece| piece.kind.as_str()).filter(found).collect()
    }

    /// Refuses to go on without evidence that was named. `accepted` are the kinds that the gateway accepts.
    ///
    /// # Errors
    /// Which is not there, and why.
    pub fn demand(&self, offer: &Offer, accepted: &[String]) -> Result<(), Complaint> {
        for named in offer.named() {
            if self.of_machine().contains(&named.as_str()) {
                continue;
            }
            let why = match self.missing.iter().find(|(kind, _)| kind == named) {
                Some((_, why)) => why.clone(),
                None if accepted.contains(named) => "this machine does not have it any more".to_owned(),
                None if accepted.is_empty() => "the gateway accepts no evidence of machines".to_owned(),
                None => format!("the gateway does not accept it, but {}", accepted.join(", ")),
            };
            return Err(missing(named, &why));
        }
        Ok(())
    }

    /// What a person is told about the evidence of the machine itself: what is offered, and what is not.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let offered = self.of_machine();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(evidence: &[&str], missing: &[(&'static str, &str)]) -> Gathered {
        let piece = |kind: &&str| Evidence { kind: (*kind).to_owned(), body: String::new() };
        Gathered {
            evidence: evidence.iter().map(piece).collect(),
            missing: missing.iter().map(|(kind, why)| (*kind, (*why).to_owned())).collect(),
        }
    }

    #[test]
    fn what_was_named_is_demanded() {
        let without = "the evidence `tpm` was asked for: ";
        for (offer, got, accepted, want) in [
            ("auto", gathered(&[], &[("tpm", "it is silent")]), &["tpm"][..], None),
            ("none", gathered(&[], &[]), &["tpm"], None),
            ("tpm", gathered(&["join-token", "tpm"], &[]), &["tpm"], None),
            ("tpm", gathered(&[], &[("tpm", "it is silent")]), &["tpm"], Some("it is silent")),
            ("tpm", gathered(&["ssh-host-key"], &[]), &[], Some("the gateway accepts no evidence of machines")),
            (
                "ssh-host-key,tpm",
                gathered(&["ssh-host-key"], &[]),
                &["join-token", "ssh-host-key"],
                Some("the gateway does not accept it, but join-token, ssh-host-key"),
            ),
        ] {
            let accepted: Vec<String> = accepted.iter().map(|kind| (*kind).to_owned()).collect();
            let refused = got.demand(&Offer::parse(offer).unwrap(), &accepted).err();
            assert_eq!(refused.map(|refused| refused.what), want.map(|why| format!("{without}{why}")), "{offer}");
        }
    }

    #[test]
    fn an_offer_names_kinds_that_machines_have() {
        let (room, attestation) = (tempfile::tempdir().unwrap(), Attestation::default());
        let known = Known { folder: room.path(), attestation: &attestation, ek: None };
        let check = |text: &str| check_offer(&Offer::parse(text).unwrap(), known).map_err(|refused| refused.what);
        assert_eq!(check("auto"), Ok(()));
        assert_eq!(check("join-token").unwrap_err(), "`join-token` is no evidence that a machine has");
        assert_eq!(check("tarot").unwrap_err(), "`tarot` is no evidence that a machine has");
        let lacks = "the evidence `reference` was asked for: the folder holds no secret";
        assert_eq!(check("reference").unwrap_err(), lacks);
        std::fs::write(room.path().join("reference.secret"), "edge-a sixteen bytes or more\n").unwrap();
        assert_eq!(check("reference"), Ok(()));
        let provers = |offer: &str| {
            let attestation = Attestation { attest: Offer::parse(offer).unwrap(), ..Attestation::default() };
            of_this_machine(Known { attestation: &attestation, ..known }).len()
        };
        assert_eq!((provers("reference"), provers("none")), (1, 0));
        // What an owner has to do something for is offered only if it is named.
        let (auto, named) = (provers("auto"), provers("reference,read-back"));
        assert_eq!(named, 2);
        let kinds = of_this_machine(Known { attestation: &Attestation::default(), ..known });
        assert!(kinds.iter().all(|prover| prover.kind() != "read-back") && kinds.len() == auto);
    }
}
