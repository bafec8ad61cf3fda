//! Enrolment: every protocol ends here.

use std::time::Duration;

use pki::{KeyDigest, SubjectKey, UnixTime};

use super::{
    attest::{self, Entrance, Judgement},
    issue::{self, Issued},
    locks, owners, queue, removal, requester,
    shell::{Actor, Retry, Settings, Shell, retrying},
    subjects,
};
use crate::core::{
    admission, approve, audit,
    change::Changes,
    enroll::{self, EnrollEntropy, EnrollRecords, EnrollVerdict, Frame, Ground, Inbound},
    evidence::{Challenge, Claims, Judged},
    keys,
    lock::{Locks, Target},
    name,
    records::{Certificate, Enrollment, EnrollmentState, Lineage, LockKind, Seen, UnixSecs, Waiting},
    refusal::{Fault, Missing, REMOVED, Refusal},
};
use crate::signer::Authority;

/// What became of a request. Each front says it in its own way.
#[derive(Debug)]
pub enum EnrollOutcome {
    /// Here is the certificate.
    Issued(Box<Issued>),
    /// A person must decide.
    Waiting(Awaiting),
    /// An attestor asks back: the same again, with the answers and the ticket.
    Challenge(Challenge),
}

/// A request that waits for a person.
#[derive(Clone, Debug)]
pub struct Awaiting {
    /// The enrollment's id.
    pub id: String,
    /// What, with its key and the root's pin, the waiting code is derived from.
    pub nonce: [u8; 16],
    /// When it lapses.
    pub expires: UnixTime,
    /// Approvals still wanted.
    pub approvals_missing: u32,
}

/// Handles a request whose key is proven.
///
/// # Errors
/// Why it is refused.
pub async fn enroll(shell: &Shell, inbound: &Inbound, instance: &str) -> Result<EnrollOutcome, Refusal> {
    retrying(|| once(shell, inbound, instance)).await
}

async fn once(shell: &Shell, inbound: &Inbound, instance: &str) -> Result<EnrollOutcome, Retry> {
    let behind = requester::cleared(shell, &inbound.requester).await?;
    let asked = attest::EvidenceSubmission {
        evidence: &inbound.evidence,
        entrance: Entrance::Join,
        ticket: inbound.ticket.as_deref(),
        key: &inbound.key,
        requester: &inbound.requester,
        source: &inbound.prefix,
        instance,
    };
    let mut judged = match attest::judge(shell, &asked).await? {
        Judgement::Holds(judged) => *judged,
        Judgement::Asks(challenge) => {
            shell.metrics.enrollment("challenged");
            return Ok(EnrollOutcome::Challenge(challenge));
        }
    };
    judged.rests_on.extend(behind);
    let inbound = &as_called(inbound, &judged.claims);
    let records = gather(shell, inbound, &judged).await?;
    let (ca, settings) = (shell.ca(), shell.settings.load_full());
    // A root of ours that it was told to expect; whatever else it says, it will not find what it expects.
    let pin = inbound.pin.filter(|pin| ca.is_pin(pin)).unwrap_or_else(|| ca.pin());
    let frame = frame(shell, &ca, &settings, pin);
    let rules = shell.rules.load_full();
    let has_room = records.waiting_from_prefix < settings.pending_max_per_prefix;
    let decided = enroll::decide(inbound, judged, records, &rules, &frame, shell.now(), &entropy(shell));
    if matches!(decided, Err(Refusal::QueueFull(_))) && has_room && make_room(shell, &inbound.prefix).await? {
        return Err(Retry::Conflict);
    }
    carry_out(shell, decided?, inbound.key.key(), instance).await
}

/// Whoever comes back by a certificate with a name that it was to take, and never took by using it, comes as it is called.
fn as_called(inbound: &Inbound, claims: &Claims) -> Inbound {
    let prior = claims.grants.as_ref().and_then(|grants| grants.continues.as_ref());
    let becomes = prior.and_then(|prior| prior.subject.record.renaming.as_ref());
    let wanted_name = inbound.wanted_name.clone().filter(|wanted| Some(wanted) != becomes);
    Inbound { wanted_name, ..inbound.clone() }
}

/// The queue is full: of the network from which most wait the oldest has to ask again, if that network is not the newcomer's
/// own. Whether one did.
async fn make_room(shell: &Shell, prefix: &str) -> Result<bool, Retry> {
    let Some(id) = queue::to_give_way(shell, prefix).await? else { return Ok(false) };
    let Some(entry) = shell.get::<Waiting>(keys::waiting(&id)).await? else { return Ok(true) };
    lapse(shell, &id, &entry, "crowded-out").await?;
    Ok(true)
}

/// Ends the waiting of an enrollment.
async fn lapse(shell: &Shell, id: &str, entry: &Seen<Waiting>, instance: &'static str) -> Result<(), Retry> {
    let mut changes = Changes::new();
    changes.remove(keys::waiting(id), entry);
    if !entry.record.withdrawn {
        let seen: Option<Seen<Enrollment>> = shell.get(keys::enrollment(id)).await?;
        if let Some(seen) = seen {
            let mut enrollment = seen.record.clone();
            enrollment.state = EnrollmentState::Expired;
            changes.update(keys::enrollment(id), &seen, &enrollment);
        }
        changes.event(audit::Event::EnrollmentExpired { enrollment: id.to_owned(), state: "waiting" });
    }
    shell.commit(changes, &Actor { who: "gateway", instance }).await?;
    Ok(())
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
            shell.commit(changes, &actor).await?;
            shell.metrics.enrollment("waiting");
            Ok(EnrollOutcome::Waiting(waiting(&enrollment)))
        }
        EnrollVerdict::Waits(enrollment) => Ok(EnrollOutcome::Waiting(waiting(&enrollment))),
    }
}

/// The one read: everything the decision needs.
async fn gather(shell: &Shell, inbound: &Inbound, judged: &Judged) -> Result<EnrollRecords, Retry> {
    let claims = &judged.claims;
    let digest = inbound.key.digest();
    let existing_index: Option<Seen<String>> = shell.get(keys::enrollment_of_key(&digest)).await?;
    let existing: Option<Seen<Enrollment>> = match &existing_index {
        Some(seen) => shell.get(keys::enrollment(&seen.record)).await?,
        None => None,
    };
    let mut targets: Vec<Target> = judged.rests_on.iter().cloned().collect();
    targets.push((LockKind::Key, digest.hex()));
    let mut found = locks::on(shell, targets).await?;
    let ground = match &existing {
        Some(seen) => {
            let (ground, more) = ground(shell, &seen.record).await?;
            found = found.and(more);
            ground
        }
        None => Ground::default(),
    };
    let role = claims.role.unwrap_or(pki::Role::Machine);
    let name = name::choose(inbound.wanted_name.as_deref(), &claims.names, role, &digest)?;
    let mut name_records = owners::of_name(shell, role, name.as_str()).await?;
    let chosen_for_it = claims.names.iter().any(|given| given == name.as_str());
    if role == pki::Role::Person && name_records.holder.is_none() && !chosen_for_it {
        name_records.is_owners = owners::is_owners(shell, name.as_str()).await?;
    }
    let issued = issued(shell, ground.lineage.as_ref(), &digest).await?;
    let ticket_spent = match &judged.ticket {
        Some(key) => shell.get::<UnixSecs>(key.clone()).await?.is_some(),
        None => false,
    };
    let queue = queue::fullness(shell, &inbound.prefix).await?;
    Ok(EnrollRecords {
        existing,
        existing_index,
        ground,
        issued,
        name: name_records,
        ticket_spent,
        locks: found,
        waiting: queue.all,
        waiting_from_prefix: queue.from_prefix,
    })
}

/// What a request rests on, as it is now, and the locks on it.
///
/// # Errors
/// When the store fails.
pub(super) async fn ground(shell: &Shell, enrollment: &Enrollment) -> Result<(Ground, Locks), Fault> {
    let lineage: Option<Seen<Lineage>> = match &enrollment.lineage {
        Some(id) => shell.get(keys::lineage(id)).await?,
        None => None,
    };
    let mut targets = enrollment.behind.clone();
    targets.push((LockKind::Key, enrollment.key.hex()));
    let mut subject = None;
    if let Some(Seen { record, .. }) = &lineage {
        targets.push((LockKind::Lineage, record.id.clone()));
        targets.push((admission::lock_kind(record.role), record.name.clone()));
        subject = shell.get(keys::subject(record.role, &record.name)).await?;
    }
    let evidence = attest::still(shell, enrollment).await?;
    Ok((Ground { lineage, subject, evidence }, locks::on(shell, targets).await?))
}

/// The newest certificate of a lineage, when it is for this key.
async fn issued(
    shell: &Shell,
    lineage: Option<&Seen<Lineage>>,
    key: &pki::KeyDigest,
) -> Result<Option<Seen<Certificate>>, Fault> {
    let newest = lineage.and_then(|seen| seen.record.pending.as_ref().or(seen.record.current.as_ref()));
    match newest.filter(|newest| newest.key == *key) {
        Some(newest) => shell.get(keys::certificate(&newest.serial)).await,
        None => Ok(None),
    }
}

/// Reads an enrollment for its poll; the proof is checked by the caller with the key in it.
///
/// # Errors
/// [`Refusal::NotFound`].
pub async fn find(shell: &Shell, id: &str) -> Result<Seen<Enrollment>, Refusal> {
    shell.get(keys::enrollment(id)).await?.ok_or_else(unknown)
}

/// What whoever asks for a request is told that is not there, or is another's.
#[must_use]
pub const fn unknown() -> Refusal {
    Refusal::NotFound(Missing::OwnRequest)
}

/// Answers a poll: at once when decided, else when something changes or the wait is over.
///
/// # Errors
/// Why the enrollment was refused.
pub async fn poll(shell: &Shell, id: &str, wait: Duration, instance: &str) -> Result<EnrollOutcome, Refusal> {
    let mut watch = shell.store.watch(vec![keys::enrollment(id).into()]);
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let reply = retrying(|| look(shell, id, instance)).await?;
        if matches!(reply, EnrollOutcome::Issued(_)) || tokio::time::timeout_at(deadline, watch.next()).await.is_err() {
            return Ok(reply);
        }
    }
}

/// Takes a request back, for whoever holds its key: nobody decides about it any more, and a name it was given is free. Again, or
/// when it is over anyhow, this changes nothing.
///
/// # Errors
/// When a lock stands on it, or a certificate was issued for it: whoever has that leaves by it.
pub async fn withdraw(shell: &Shell, id: &str, instance: &str) -> Result<(), Refusal> {
    retrying(|| async {
        let seen = find(shell, id).await?;
        let (ground, locks) = ground(shell, &seen.record).await?;
        locks.refuse_telling(&ground.own(&seen.record.key))?;
        let who = format!("key:{}", seen.record.key);
        let actor = Actor { who: &who, instance };
        let begun = enroll::withdraw(&seen)?;
        let Some(mut changes) = begun else { return Ok(()) };
        // The name may be somebody else's by now.
        let own = ground.subject.clone().filter(|own| seen.record.lineage.as_ref() == Some(&own.record.lineage));
        if let (EnrollmentState::Approved, false, Some(subject)) = (seen.record.state, seen.record.rejoin, own) {
            // It was let in: what that began ends.
            let identity = subjects::identity(shell, &subject.record)?.to_string();
            let whole = subjects::whole(shell, subject).await?;
            let epoch = shell.get(keys::EPOCH.to_owned()).await?;
            changes = removal::end(shell, &whole, audit::Event::SubjectLeft { identity }, &epoch).await?;
            changes
                .event(audit::Event::Standing(audit::StandingEvent::EnrollmentWithdrawn { enrollment: id.to_owned() }));
        }
        shell.commit(changes, &actor).await?;
        Ok(())
    })
    .await
}

async fn look(shell: &Shell, id: &str, instance: &str) -> Result<EnrollOutcome, Retry> {
    let seen = find(shell, id).await?;
    let key = SubjectKey::from_spki_der(&seen.record.spki).map_err(|error| Fault::Record(error.to_string()))?;
    let now = shell.now();
    let (ground, locks) = ground(shell, &seen.record).await?;
    locks.refuse_telling(&ground.own(&seen.record.key))?;
    match seen.record.state {
        EnrollmentState::Waiting | EnrollmentState::Approved | EnrollmentState::Issued
            if ground.lineage.as_ref().is_some_and(|lineage| lineage.record.ended) =>
        {
            Err(Refusal::Retired { why: REMOVED }.into())
        }
        EnrollmentState::Waiting if now.secs() > seen.record.expires.0 => Err(Refusal::Lapsed.into()),
        EnrollmentState::Waiting => {
            // Nobody can approve it any more: whoever waits is told.
            ground.still_holds(&mut Changes::new())?;
            Ok(EnrollOutcome::Waiting(waiting(&seen.record)))
        }
        EnrollmentState::Denied => {
            Err(Refusal::DeniedByPerson { reason: seen.record.reason.unwrap_or_default() }.into())
        }
        EnrollmentState::Expired => Err(Refusal::Lapsed.into()),
        EnrollmentState::Withdrawn => Err(Refusal::Withdrawn.into()),
        EnrollmentState::Removed => Err(Refusal::Retired { why: REMOVED }.into()),
        EnrollmentState::Issued => match issued(shell, ground.lineage.as_ref(), &seen.record.key).await? {
            Some(certificate) => {
                Ok(EnrollOutcome::Issued(Box::new(issue::issued(shell, seen.record.id, certificate.record)?)))
            }
            None => Err(Refusal::NotFound(Missing::ReplacedRequest).into()),
        },
        EnrollmentState::Approved => {
            let (ca, settings) = (shell.ca(), shell.settings.load());
            let frame = frame(shell, &ca, &settings, seen.record.pin);
            let verdict = enroll::collect(&seen, &ground, &locks, &key, &frame, now, &entropy(shell))?;
            carry_out(shell, verdict, &key, instance).await
        }
    }
}

/// Marks enrollments that nobody decided until `now`, in seconds since the Unix epoch. Returns how many.
///
/// # Errors
/// When the store fails.
pub async fn expire(shell: &Shell, now: u64) -> Result<usize, Refusal> {
    let waiting = queue::reread(shell).await?;
    shell.metrics.waiting(waiting.iter().filter(|(_, entry)| !entry.record.withdrawn).count());
    let mut expired = 0;
    for (key, entry) in waiting.into_iter().filter(|(_, entry)| now > entry.record.expires.0) {
        match lapse(shell, key.trim_start_matches(keys::WAITING), &entry, "sweep").await {
            Ok(()) => expired += 1,
            // Damaged: it is named, and stays.
            Err(Retry::Refused(Refusal::Ours(Fault::Record(_)))) => {}
            Err(Retry::Conflict) => {}
            Err(Retry::Refused(refusal)) => return Err(refusal),
        }
    }
    Ok(expired)
}

fn frame<'a>(shell: &'a Shell, ca: &'a Authority, settings: &'a Settings, pin: KeyDigest) -> Frame<'a> {
    Frame {
        common: shell.common(ca, settings),
        pin,
        pending_ttl: settings.pending_ttl,
        pending_max: settings.pending_max,
        pending_max_per_prefix: settings.pending_max_per_prefix,
    }
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
    // Approvals of one content count together; the nearest to enough says how many are missing.
    let contents = enrollment.approvals.iter().map(|approval| &approval.content);
    let missing = contents.map(|content| approve::missing(enrollment, content)).min();
    Awaiting {
        id: enrollment.id.clone(),
        nonce: enrollment.nonce,
        expires: enrollment.expires.into(),
        approvals_missing: missing.unwrap_or(enrollment.approvals_wanted),
    }
}
