//! Enrolment, for all protocols.

use std::{borrow::Cow, time::Duration};

use pki::{KeyDigest, SubjectKey, UnixTime};

use super::{
    attest::{self, InForce, Judgement, OpenedEvidence, Question},
    devices,
    issue::{self, Issued},
    owners, queue, removal, requester,
    shell::{Actor, Retry, Shell, retrying},
    subjects,
};
use crate::core::{
    admission, approve, audit,
    change::Changes,
    enroll::{self, EnrollEntropy, EnrollRecords, EnrollVerdict, EnrollmentBasis, Frame, Inbound},
    evidence::{Challenge, Judged, Purpose, Rejected},
    keys,
    lock::Locks,
    look::Look,
    name, queue as in_queue,
    records::{Certificate, Enrollment, EnrollmentState, Lineage, LockKind, Seen, Subject, Waiting},
    refusal::{Fault, Missing, QueueFull, REMOVED, Refusal},
};

/// The result of a request. Each front has its own form for it.
#[derive(Debug)]
pub enum EnrollOutcome {
    /// A certificate.
    Issued(Box<Issued>),
    /// A person must decide.
    Waiting(Awaiting),
    /// An attestor challenges: the client repeats the request with the answers and the ticket.
    Challenge(Challenge),
}

/// A request that waits for a person.
#[derive(Clone, Debug)]
pub struct Awaiting {
    /// The enrollment's id.
    pub id: String,
    /// Input of the waiting code, together with the key and the root's pin.
    pub nonce: [u8; 16],
    /// When it lapses.
    pub expires: UnixTime,
    /// Number of approvals still missing.
    pub approvals_missing: u32,
}

/// Handles a request whose key is proven.
///
/// # Errors
/// The reason for the refusal.
pub async fn enroll(shell: &Shell, inbound: &Inbound, instance: &str) -> Result<EnrollOutcome, Refusal> {
    retrying(|| once(shell, inbound, instance)).await
}

async fn once(shell: &Shell, inbound: &Inbound, instance: &str) -> Result<EnrollOutcome, Retry> {
    let asked = attest::EvidenceSubmission {
        evidence: &inbound.evidence,
        purpose: Purpose::Join { wanted: inbound.wanted_name.as_deref() },
        ticket: inbound.ticket.as_deref(),
        key: &inbound.key,
        requester: &inbound.requester,
        source: &inbound.prefix,
        instance,
    };
    let in_force = InForce::of(shell);
    let opened = attest::open(shell, &asked, &in_force)?;
    let looked = match shell.look(|look| gather(shell, &in_force, look, inbound, &opened)).await {
        Ok(looked) => looked,
        Err(rejected) => return Err(attest::rejected(shell, rejected, instance).await),
    };
    let (judged, known) = match looked {
        Gathered::All(judged, known) => (*judged, *known),
        Gathered::Asks(questions) => {
            shell.metrics.enrollment("challenged");
            return Ok(EnrollOutcome::Challenge(opened.challenge(shell, questions)?));
        }
    };
    let inbound = &*as_called(inbound, &judged);
    let records = EnrollRecords { numbers: queue::numbers(shell, &inbound.prefix).await?, ..known };
    // Use the pin that the client verified if it is one of ours, otherwise that of the active root.
    let pin = inbound.pin.filter(|pin| in_force.ca.is_pin(pin)).unwrap_or_else(|| in_force.ca.pin());
    let frame = frame(shell, &in_force, pin);
    let decided = enroll::decide(inbound, judged, records, &in_force.rules, &frame, shell.now(), &entropy(shell));
    if matches!(decided, Err(Refusal::QueueFull(QueueFull::All))) && make_room(shell, &inbound.prefix).await? {
        return Err(Retry::Conflict);
    }
    carry_out(shell, decided?, inbound.key.key(), instance).await
}

/// Drops the wanted name if it is the new name of a renaming that never took effect, because the certificate with it was never used:
/// the machine rejoins under its current name. So does one that comes back by its device, whatever its host is called now.
fn as_called<'a>(inbound: &'a Inbound, judged: &Judged) -> Cow<'a, Inbound> {
    let prior = judged.claims.grants.as_ref().and_then(|grants| grants.continues.as_ref());
    let Some(prior) = prior else { return Cow::Borrowed(inbound) };
    let called = |wanted_name| Cow::Owned(Inbound { wanted_name, ..inbound.clone() });
    match &prior.subject.record.renaming {
        _ if judged.same_device => called(Some(prior.lineage.record.name.clone())),
        Some(becomes) if inbound.wanted_name.as_ref() == Some(becomes) => called(None),
        Some(_) | None => Cow::Borrowed(inbound),
    }
}

/// Drops the oldest waiting request of the network with the most, unless that is the newcomer's own. Returns whether one was dropped.
async fn make_room(shell: &Shell, prefix: &str) -> Result<bool, Retry> {
    let Some(goes) = queue::choose_eviction(shell, prefix).await? else { return Ok(false) };
    let looked = |look: &Look| match look.get::<Waiting>(&keys::waiting(goes.id()))? {
        Some(entry) => in_queue::lapse(look, goes.id(), &entry).map(Some),
        None => Ok(None),
    };
    match shell.look::<_, Fault>(looked).await? {
        Some(changes) => drop(shell.commit(changes, &Actor { who: "gateway", instance: "crowded-out" }).await?),
        // Another gateway has dropped it.
        None => queue::forget(shell).await,
    }
    Ok(true)
}

async fn carry_out(
    shell: &Shell,
    verdict: EnrollVerdict,
    key: &SubjectKey,
    instance: &str,
) -> Result<EnrollOutcome, Retry> {
    let who = format!("key:{}", key.digest());
    let actor = Actor { who: &who, instance };
    match verdict {
        EnrollVerdict::Issue(plan) => {
            let reply = issue::issue(shell, *plan, &actor).await?;
            shell.metrics.enrollment("issued");
            Ok(EnrollOutcome::Issued(Box::new(reply)))
        }
        EnrollVerdict::Known(known) => {
            let (enrollment, certificate) = *known;
            Ok(EnrollOutcome::Issued(Box::new(issue::issued(shell, enrollment.id, certificate)?)))
        }
        EnrollVerdict::Wait(enrollment, changes) => {
            if let Err(retry) = shell.commit(changes, &actor).await {
                if matches!(retry, Retry::Conflict) {
                    queue::lost(shell, &enrollment.numbers).await?;
                }
                return Err(retry);
            }
            shell.metrics.enrollment("waiting");
            Ok(EnrollOutcome::Waiting(waiting(&enrollment)))
        }
        EnrollVerdict::Waits(enrollment) => Ok(EnrollOutcome::Waiting(waiting(&enrollment))),
    }
}

/// The result of the look-ups for a request.
enum Gathered {
    /// Everything for the decision.
    All(Box<Judged>, Box<EnrollRecords>),
    /// An attestor challenges.
    Asks(Vec<Question>),
}

/// Everything for the decision, except the numbers in the queue.
fn gather(
    shell: &Shell,
    in_force: &InForce,
    look: &Look,
    inbound: &Inbound,
    opened: &OpenedEvidence<'_>,
) -> Result<Gathered, Rejected> {
    let digest = inbound.key.digest();
    let existing_index: Option<Seen<String>> = look.get(&keys::enrollment_of_key(&digest))?;
    let existing: Option<Seen<Enrollment>> = match &existing_index {
        Some(seen) => look.get(&keys::enrollment(&seen.record))?,
        None => None,
    };
    let (basis, of_basis) = match &existing {
        Some(seen) => basis(shell, in_force, look, &seen.record)?,
        None => Default::default(),
    };
    let issued = issued(look, basis.lineage.as_ref(), &digest)?;
    let ticket_spent = opened.ticket_spent(look)?;
    let locks = look.locks([(LockKind::Key, digest.hex())])?.and(of_basis);
    // Looked up early: whatever the evidence shows, the name is mostly the wanted one, of a machine or a person.
    for role in [pki::Role::Machine, pki::Role::Person] {
        if let Ok(name) = name::choose(inbound.wanted_name.as_deref(), &[], role, &digest) {
            look.expect(owners::keys_of_name(role, name.as_str()));
        }
    }
    let behind = requester::cleared(look, &inbound.requester)?;
    let mut judged = match opened.judge(look)? {
        Judgement::Holds(judged) => judged,
        Judgement::Asks(questions) => return Ok(Gathered::Asks(questions)),
    };
    judged.rest_on(behind);
    let devices = devices::of(look, &judged.claims.values, in_force.settings.attestors.devices())?;
    if let Some(machine) = devices.comes_back(&judged.claims) {
        let cleared = devices::cleared(look, &machine)?;
        judged.come_back(machine, cleared);
    }
    let claims = &judged.claims;
    let called = as_called(inbound, &judged);
    let role = claims.role.unwrap_or(pki::Role::Machine);
    let name = name::choose(called.wanted_name.as_deref(), &claims.names, role, &digest)?;
    let mut name_records = owners::of_name(look, role, name.as_str())?;
    let chosen_for_it = claims.names.iter().any(|given| given == name.as_str());
    if role == pki::Role::Person && name_records.holder.is_none() && !chosen_for_it {
        name_records.is_owners = owners::is_owners(look, name.as_str());
    }
    let records = EnrollRecords {
        existing,
        existing_index,
        basis,
        issued,
        name: name_records,
        devices,
        ticket_spent,
        locks: locks.and(look.locks(judged.rests_on().iter().cloned())?),
        numbers: Err(QueueFull::All),
    };
    Ok(Gathered::All(judged, Box::new(records)))
}

/// The current records that a request depends on, and the locks on them.
///
/// # Errors
/// [`Fault::Record`] when a record makes no sense.
pub(super) fn basis(
    shell: &Shell,
    in_force: &InForce,
    look: &Look,
    enrollment: &Enrollment,
) -> Result<(EnrollmentBasis, Locks), Fault> {
    let lineage: Option<Seen<Lineage>> = match &enrollment.lineage {
        Some(id) => look.get(&keys::lineage(id))?,
        None => None,
    };
    let mut targets = enrollment.behind.clone();
    targets.push((LockKind::Key, enrollment.key.hex()));
    let mut subject = None;
    if let Some(Seen { record, .. }) = &lineage {
        targets.push((LockKind::Lineage, record.id.clone()));
        targets.push((admission::lock_kind(record.role), record.name.clone()));
        subject = look.get(&keys::subject(record.role, &record.name))?;
    }
    let devices = devices::of(look, &enrollment.claims, in_force.settings.attestors.devices())?;
    let evidence = attest::recheck(shell, in_force, look, enrollment)?;
    Ok((EnrollmentBasis { lineage, subject, devices, evidence }, look.locks(targets)?))
}

/// The newest certificate of a lineage, if it is for this key.
fn issued(
    look: &Look,
    lineage: Option<&Seen<Lineage>>,
    key: &pki::KeyDigest,
) -> Result<Option<Seen<Certificate>>, Fault> {
    let newest = lineage.and_then(|seen| seen.record.pending.as_ref().or(seen.record.current.as_ref()));
    match newest.filter(|newest| newest.key == *key) {
        Some(newest) => look.get(&keys::certificate(&newest.serial)),
        None => Ok(None),
    }
}

/// Reads an enrollment for a poll; the caller checks the proof with the key in it.
///
/// # Errors
/// [`Refusal::NotFound`].
pub async fn find(shell: &Shell, id: &str) -> Result<Seen<Enrollment>, Refusal> {
    shell.get(keys::enrollment(id)).await?.ok_or_else(unknown)
}

/// The answer for a request that does not exist or belongs to another key.
#[must_use]
pub const fn unknown() -> Refusal {
    Refusal::NotFound(Missing::OwnRequest)
}

/// Answers a poll: at once if the request is decided, else when it changes or the wait is over.
///
/// # Errors
/// Why the enrollment was refused.
pub async fn poll(shell: &Shell, id: &str, wait: Duration, instance: &str) -> Result<EnrollOutcome, Refusal> {
    let mut watch = shell.store.watch(vec![keys::enrollment(id).into()]);
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let reply = retrying(|| poll_once(shell, id, instance)).await?;
        if matches!(reply, EnrollOutcome::Issued(_)) || tokio::time::timeout_at(deadline, watch.next()).await.is_err() {
            return Ok(reply);
        }
    }
}

/// Whether a machine or person was admitted by this enrollment.
fn own_of(enrollment: &Enrollment, subject: &Seen<Subject>) -> bool {
    enrollment.lineage.as_ref() == Some(&subject.record.lineage)
}

/// Withdraws a request for the holder of its key: nobody can decide it any more, and the name it was given becomes free. Repeating
/// this, or withdrawing a request that has ended, changes nothing.
///
/// # Errors
/// When a lock stands against it. When a certificate was issued for it: its holder leaves with that certificate instead.
pub async fn withdraw(shell: &Shell, id: &str, instance: &str) -> Result<(), Refusal> {
    retrying(|| async {
        let in_force = InForce::of(shell);
        let looked = |look: &Look| -> Result<_, Refusal> {
            let seen: Seen<Enrollment> = look.get(&keys::enrollment(id))?.ok_or_else(unknown)?;
            let (basis, locks) = basis(shell, &in_force, look, &seen.record)?;
            // The name may belong to somebody else by now.
            let own = |subject: &Seen<Subject>| own_of(&seen.record, subject);
            let records = match basis.subject.clone().filter(own) {
                Some(subject) if seen.record.state == EnrollmentState::Approved && !seen.record.rejoin => {
                    Some(subjects::load_subject(look, subject)?)
                }
                Some(_) | None => None,
            };
            Ok((seen, basis, locks, records, look.get(keys::EPOCH)?))
        };
        let (seen, basis, locks, records, epoch) = shell.look(looked).await?;
        locks.refuse_telling(&basis.own(&seen.record.key))?;
        let who = format!("key:{}", seen.record.key);
        let actor = Actor { who: &who, instance };
        let begun = enroll::withdraw(&seen)?;
        let Some(mut changes) = begun else { return Ok(()) };
        if let Some(records) = records {
            // It was admitted: the machine or person ends.
            let identity = subjects::identity(shell, &records.subject.record)?.to_string();
            changes = removal::end(shell, &records, audit::Event::SubjectLeft { identity }, &epoch).await?;
            changes
                .event(audit::Event::Standing(audit::StandingEvent::EnrollmentWithdrawn { enrollment: id.to_owned() }));
        }
        shell.commit(changes, &actor).await?;
        Ok(())
    })
    .await
}

async fn poll_once(shell: &Shell, id: &str, instance: &str) -> Result<EnrollOutcome, Retry> {
    let in_force = InForce::of(shell);
    let looked = |look: &Look| -> Result<_, Refusal> {
        let seen: Seen<Enrollment> = look.get(&keys::enrollment(id))?.ok_or_else(unknown)?;
        let (basis, locks) = basis(shell, &in_force, look, &seen.record)?;
        let issued = issued(look, basis.lineage.as_ref(), &seen.record.key)?;
        Ok((seen, basis, locks, issued))
    };
    let (seen, basis, locks, issued) = shell.look(looked).await?;
    let key = SubjectKey::from_spki_der(&seen.record.spki).map_err(|error| Fault::Record(error.to_string()))?;
    let now = shell.now();
    locks.refuse_telling(&basis.own(&seen.record.key))?;
    match seen.record.state {
        EnrollmentState::Waiting | EnrollmentState::Approved | EnrollmentState::Issued
            if basis.lineage.as_ref().is_some_and(|lineage| lineage.record.ended) =>
        {
            Err(Refusal::Retired { why: REMOVED }.into())
        }
        EnrollmentState::Waiting if now.secs() > seen.record.expires.0 => Err(Refusal::Lapsed.into()),
        EnrollmentState::Waiting => {
            // Nobody can approve it any more: the waiting client gets the reason.
            basis.require_evidence(&mut Changes::new())?;
            Ok(EnrollOutcome::Waiting(waiting(&seen.record)))
        }
        EnrollmentState::Denied => {
            Err(Refusal::DeniedByPerson { reason: seen.record.reason.unwrap_or_default() }.into())
        }
        EnrollmentState::Expired => Err(Refusal::Lapsed.into()),
        EnrollmentState::Withdrawn => Err(Refusal::Withdrawn.into()),
        EnrollmentState::Removed => Err(Refusal::Retired { why: REMOVED }.into()),
        EnrollmentState::Issued => match issued {
            Some(certificate) => {
                Ok(EnrollOutcome::Issued(Box::new(issue::issued(shell, seen.record.id, certificate.record)?)))
            }
            None => Err(Refusal::NotFound(Missing::ReplacedRequest).into()),
        },
        EnrollmentState::Approved => {
            let frame = frame(shell, &in_force, seen.record.pin);
            let verdict = enroll::collect(&seen, &basis, &locks, &key, &frame, now, &entropy(shell))?;
            carry_out(shell, verdict, &key, instance).await
        }
    }
}

fn frame<'a>(shell: &'a Shell, in_force: &'a InForce, pin: KeyDigest) -> Frame<'a> {
    let InForce { settings, ca, .. } = in_force;
    let (devices, again) = (settings.attestors.devices(), settings.attestors.again());
    Frame { common: shell.common(ca, settings), pin, pending_ttl: settings.pending_ttl, devices, again }
}

fn entropy(shell: &Shell) -> EnrollEntropy {
    EnrollEntropy {
        id: shell.entropy.bytes(),
        lineage: shell.entropy.bytes(),
        serial: shell.entropy.bytes(),
        nonce: shell.entropy.bytes(),
    }
}

fn waiting(enrollment: &Enrollment) -> Awaiting {
    // Only approvals of the same content are counted together; the largest group determines the number still missing.
    let contents = enrollment.approvals.iter().map(|approval| &approval.content);
    let missing = contents.map(|content| approve::missing(enrollment, content)).min();
    Awaiting {
        id: enrollment.id.clone(),
        nonce: enrollment.nonce,
        expires: enrollment.expires.into(),
        approvals_missing: missing.unwrap_or(enrollment.approvals_wanted),
    }
}
