//! Decides a renewal: a new key for a lineage, by the current policy and the evidence of this request.

use pki::{Assurance, Serial, SubjectKey, UnixTime};
use policy::{Denial, Reattest, Ruleset, Without};

use super::{
    admission::Caller,
    audit::{Event, StandingEvent},
    change::Changes,
    device::{KnownDevices, LowerCount},
    evidence::{Claims, DeviceClaims, Judged, Reject, Rejected},
    facts::{assurance_of, policy_claims, principal},
    keys, name,
    plan::{self, Common, LeafKind, LeafSpec, Plan, Terms},
    records::{Certificate, Seen, Shown, Subject},
    refusal::{Malformed, Refusal},
    subjects,
};

mod differs;

/// Input of a renewal.
#[derive(Debug)]
pub struct RenewalInput<'a> {
    /// The key to be certified.
    pub key: &'a SubjectKey,
    /// The new name that the client accepts, if it knows of its renaming.
    pub takes: Option<&'a str>,
    /// The verified evidence.
    pub judged: Judged,
    /// Whether its ticket was used before.
    pub ticket_spent: bool,
    /// Kinds of evidence that cannot be shown at a renewal.
    pub only_admit: &'a [&'a str],
    /// The prefix of the claims of each kind.
    pub prefixes: &'a [(&'a str, &'a str)],
    /// The claims about devices.
    pub devices: &'a [DeviceClaims],
    /// The devices that the evidence is of.
    pub known_devices: &'a KnownDevices,
}

/// The decision.
#[derive(Debug)]
pub enum RenewVerdict {
    /// Issue a certificate.
    Issue(Box<Plan>),
    /// Send the certificate issued before for this key again; the reply was lost.
    Known(Box<Certificate>),
}

/// Decides. The caller is admitted, and the locks on the new key are among those looked up for it; `pending` is the record of the
/// lineage's pending certificate.
///
/// # Errors
/// The reason for the refusal.
pub fn decide(
    caller: &Caller,
    asked: RenewalInput<'_>,
    pending: Option<&Seen<Certificate>>,
    rules: &Ruleset,
    common: Common<'_>,
    now: UnixTime,
    serial: [u8; 16],
) -> Result<RenewVerdict, Rejected> {
    let (lineage, key) = (&caller.lineage.record, asked.key);
    if key.digest() == caller.key {
        return Err(Refusal::Malformed(Malformed::SameKey).into());
    }
    if let (Some(reference), Some(known)) = (&lineage.pending, pending)
        && reference.key == key.digest()
        && known.record.not_after.0 > now.secs()
    {
        return Ok(RenewVerdict::Known(Box::new(known.record.clone())));
    }
    if asked.ticket_spent {
        return Err(Reject::spent_ticket().into());
    }
    of_the_caller(caller, &asked.judged.claims, asked.devices)?;
    let mut subject = caller.subject.record.clone();
    let Judged { claims, stated, shown, again, .. } = &asked.judged;
    subjects::remember(&mut subject, &claims.values, stated, shown, again);
    let lower = LowerCount::of(&caller.subject.record.claims, &asked.judged.claims.values, asked.devices);
    let grant = match policy::decide(rules, &ask(caller, &subject, asked.judged.claims.assurance, now)) {
        policy::Decision::Allowed(grant) => grant,
        policy::Decision::Denied(Denial { rules, .. }) => {
            let denied = Refusal::Denied { rules, action: "renew" };
            return Err(differs::refused(caller, &subject, &asked.judged, denied.into()));
        }
    };
    let reattest = grant.reattest();
    let differs = differs::unwanted(&subject, &asked, reattest, now);
    if let (Some(reject), Some(Reattest { without: Without::Refuse, .. })) = (&differs, reattest) {
        return Err(differs::refused(caller, &subject, &asked.judged, reject.clone().into()));
    }
    let lapsed = lapsed(&subject, reattest, asked.only_admit, now)?;
    let proven = lapsed.is_empty() && differs.is_none();
    let assurance = if proven { asked.judged.claims.assurance } else { Assurance::SOFTWARE };
    // A renaming takes effect with the first use of this certificate.
    let takes = subject.renaming.as_deref().filter(|name| asked.takes == Some(name));
    let name = name::known(takes.unwrap_or(&subject.name))?;
    let (role, admitted_by) = (subject.role, subject.admitted_by);
    let wanted = LeafSpec { common, role, name, key: key.clone(), assurance, admitted_by };
    let draft = plan::draft(Terms::granted(grant)?, wanted, LeafKind::Own, Serial::from_entropy(serial), now)?;
    let stands = plan::stands(&caller.lineage, Some(&subject), &[caller.key, key.digest()], &caller.locks)?;
    let mut renewed = lineage.clone();
    let (charged, reference) = draft.charge(common, &mut renewed, now)?;
    renewed.pending = Some(reference);
    let mut changes = Changes::new();
    changes.update(keys::lineage(&renewed.id), &caller.lineage, &renewed);
    asked.known_devices.belong(&mut changes, &renewed.id);
    if let Some(lower) = lower {
        lower.tell(&mut changes, &renewed.id, caller.identity.to_string(), now);
    }
    attested(&mut changes, caller, (subject, lapsed), asked.judged, (asked.prefixes, asked.devices), assurance);
    Ok(RenewVerdict::Issue(Box::new(charged.plan(changes, stands, renewed.id))))
}

/// Evidence at a renewal must be of the caller itself: it grants nothing.
fn of_the_caller(caller: &Caller, claims: &Claims, devices: &[DeviceClaims]) -> Result<(), Reject> {
    let subject = &caller.subject.record;
    let continues = claims.grants.as_ref().and_then(|grants| grants.continues.as_ref());
    let named = claims.names.is_empty() || claims.names.iter().any(|pattern| name::matches(pattern, &subject.name));
    let same = claims.role.is_none_or(|role| role == subject.role)
        && continues.is_none_or(|other| other.lineage.record.id == caller.lineage.record.id)
        && !claims.other_device(&subject.claims, devices);
    if named && same { Ok(()) } else { Err(Reject::together("it is another's than this certificate")) }
}

/// The kinds of evidence that are older than the rules allow, if a renewal without them has a lower assurance.
fn lapsed(
    subject: &Subject,
    reattest: Option<Reattest>,
    only_admit: &[&str],
    now: UnixTime,
) -> Result<Vec<Shown>, Reject> {
    let Some(Reattest { within, without, .. }) = reattest else { return Ok(vec![]) };
    let old = |shown: &&Shown| now.since(shown.at.into()) > within && !only_admit.contains(&shown.kind.as_str());
    let old: Vec<Shown> = subject.evidence.iter().filter(old).cloned().collect();
    match without {
        Without::Refuse if !old.is_empty() => {
            let kinds: Vec<&str> = old.iter().map(|shown| shown.kind.as_str()).collect();
            let ago = old.iter().map(|shown| now.since(shown.at.into()).as_secs()).max().unwrap_or_default();
            Err(Reject::wanted(&kinds, ago))
        }
        Without::Refuse | Without::Lower => Ok(old),
    }
}

/// Records the evidence: what it uses up, and what is known of the subject from it now.
fn attested(
    changes: &mut Changes,
    caller: &Caller,
    (mut subject, lapsed): (Subject, Vec<Shown>),
    judged: Judged,
    (prefixes, devices): (&[(&str, &str)], &[DeviceClaims]),
    assurance: Assurance,
) {
    let kinds = |shown: &[Shown]| shown.iter().map(|shown| shown.kind.as_str()).collect::<Vec<_>>().join(",");
    let identity = caller.identity.to_string();
    if !lapsed.is_empty() {
        subject.evidence.retain(|shown| !lapsed.contains(shown));
        let gone = |kind: &str| lapsed.iter().any(|shown| shown.kind == kind);
        // The identity of the device is kept: otherwise another device could be shown after that is dropped.
        let lapses = |name: &String| prefixes.iter().any(|(kind, prefix)| gone(kind) && subjects::is_of(name, prefix));
        let is_device = |name: &String| devices.iter().any(|claims| claims.device == *name);
        subject.claims.retain(|name, _| is_device(name) || !lapses(name));
        subject.stated.retain(|name, _| !lapses(name));
        let event = StandingEvent::EvidenceLapsed { identity: identity.clone(), kinds: kinds(&lapsed) };
        changes.event(Event::Standing(event));
    }
    if !judged.shown.is_empty() {
        let (identity, kinds) = (identity.clone(), kinds(&judged.shown));
        changes.event(Event::Standing(StandingEvent::EvidenceTaken { identity, kinds, assurance }));
    }
    if !(judged.shown.is_empty() && lapsed.is_empty()) {
        changes.update(keys::subject(subject.role, &subject.name), &caller.subject, &subject);
    }
    changes.extend(judged.changes_of(&identity));
}

/// The question for the policy: about the machine, by what is proven now and known of it.
fn ask(caller: &Caller, subject: &Subject, assurance: Assurance, now: UnixTime) -> policy::Ask {
    let principal = match principal(caller, now) {
        policy::Principal::Machine(machine) => policy::Principal::Machine(policy::Machine {
            assurance: assurance.level() as u8,
            assurance_of: assurance_of(assurance),
            claims: policy_claims(&subject.claims),
            ..machine
        }),
        other @ (policy::Principal::Person(_) | policy::Principal::Newcomer(_)) => other,
    };
    policy::Ask { action: policy::Action::Renew, principal, resource: policy::Resource::Gateway, now: now.secs() }
}
