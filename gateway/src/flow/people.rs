//! What approvers do with requests: list, show, approve, deny.

use super::{
    attest::InForce,
    devices,
    enroll::basis,
    owners, page, queue,
    shell::{Actor, Retry, Shell, readable, retrying},
    subjects::{find_subject, load_subject, texts},
    views::{ApprovalDetails, Page, RequestDetails, SameDevice, WaitingRequests},
};
use crate::core::{
    admission::Caller,
    approve::{self, ApprovalOutcome, Approve, Wish},
    device::LowerCount,
    enroll::NameRecords,
    facts::{permit, request_facts},
    given::Labels,
    keys,
    look::Look,
    records::{Approval, ApprovedContent, Enrollment, EnrollmentState, Lineage, LockKind, Seen},
    refusal::{Fault, Missing, Refusal},
};

/// Lists requests that the caller may read: the waiting ones, or all.
///
/// # Errors
/// When the store fails.
pub async fn list(
    shell: &Shell,
    caller: &Caller,
    all: bool,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<RequestDetails>, Refusal> {
    let prefix = if all { keys::ENROLLMENTS } else { keys::WAITING };
    let show = |look: &Look, id: &str, _: &Seen<serde_json::Value>| {
        let seen = readable(look.get::<Enrollment>(&keys::enrollment(id)))?.flatten();
        let listed = seen.filter(|seen| all || seen.record.state == EnrollmentState::Waiting);
        match listed.filter(|seen| may_see(shell, caller, &seen.record)) {
            Some(seen) => Ok(Some(details(shell, look, seen.record)?)),
            None => Ok(None),
        }
    };
    let mut page = page::page(shell, prefix, after, limit, show).await?;
    with_rivals(shell, &mut page.items).await?;
    Ok(page)
}

/// Most requests in a watch: the first of the waiting ones.
const WATCHED_MAX: usize = 1_000;

/// The waiting requests, as soon as they differ from those that the caller has seen, or when the wait is over.
///
/// # Errors
/// When the store fails.
pub async fn watch(
    shell: &Shell,
    caller: &Caller,
    seen: Option<&str>,
    wait: std::time::Duration,
) -> Result<WaitingRequests, Refusal> {
    // Registered before the first read, so that no change between the two is missed.
    let mut changes = shell.store.watch(vec![keys::WAITING.into()]);
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let items = list(shell, caller, false, None, WATCHED_MAX).await?.items;
        let now = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{items:?}").as_bytes()));
        let same = seen == Some(now.as_str());
        if !same || tokio::time::timeout_at(deadline, changes.next()).await.is_err() {
            return Ok(WaitingRequests { items, seen: now });
        }
    }
}

/// Shows one request.
///
/// # Errors
/// [`Refusal::NotFound`] also when the caller may not know of it.
pub async fn show(shell: &Shell, caller: &Caller, id: &str) -> Result<RequestDetails, Refusal> {
    let looked = |look: &Look| -> Result<_, Refusal> {
        let seen = visible(shell, look, caller, id)?;
        Ok(details(shell, look, seen.record)?)
    };
    let mut shown = [shell.look(looked).await?];
    with_rivals(shell, &mut shown).await?;
    let [shown] = shown;
    Ok(shown)
}

/// A request with what stands around it.
fn details(shell: &Shell, look: &Look, enrollment: Enrollment) -> Result<RequestDetails, Fault> {
    let taken = taken(shell, look, &enrollment)?;
    // a damaged index takes no request from the list
    let same_device = readable(same_device(shell, look, &enrollment))?.flatten();
    Ok(RequestDetails { taken, same_device, ..view(enrollment) })
}

/// The machine that the device of a waiting request is, or was.
fn same_device(shell: &Shell, look: &Look, enrollment: &Enrollment) -> Result<Option<SameDevice>, Fault> {
    if enrollment.state != EnrollmentState::Waiting {
        return Ok(None);
    }
    let settings = shell.settings.load();
    let claims = settings.attestors.devices();
    let known = devices::of(look, &enrollment.claims, claims)?;
    let Some(machine) = known.machine() else {
        let removed = |machine: &str| SameDevice {
            machine: machine.to_owned(),
            state: "removed",
            comes_back: false,
            counted_back: false,
        };
        return Ok(known.removed().map(removed));
    };
    let counted_back = LowerCount::of(&machine.subject.record.claims, &enrollment.claims, claims).is_some();
    let name = machine.subject.record.name.clone();
    let state = load_subject(look, machine.subject)?.state(shell.now());
    Ok(Some(SameDevice { machine: name, state, comes_back: enrollment.same_device, counted_back }))
}

/// The state of the machine or person that holds the requested name, if any: an approval under this name would be refused.
fn taken(shell: &Shell, look: &Look, enrollment: &Enrollment) -> Result<Option<String>, Fault> {
    let waits = enrollment.state == EnrollmentState::Waiting && !enrollment.rejoin;
    let Some(name) = enrollment.wanted_name.as_ref().filter(|_| waits) else { return Ok(None) };
    let taken = owners::of_name(look, enrollment.role, name)?.is_taken(shell.now());
    match find_subject(look, enrollment.role, name)? {
        Some(records) => Ok(Some(records.state(shell.now()).to_owned())),
        None => Ok(taken.then(|| "kept".to_owned())),
    }
}

/// Whether the caller may read a request.
///
/// # Errors
/// [`Refusal::Denied`].
fn may_read(shell: &Shell, caller: &Caller, enrollment: &Enrollment) -> Result<policy::Grant, Refusal> {
    let resource = policy::Resource::Request(request_facts(enrollment));
    permit(&shell.rules.load(), caller, policy::Action::Read, resource, shell.now())
}

/// Whether the caller may know of a request: those who may read it, and those who may decide it.
pub(super) fn may_see(shell: &Shell, caller: &Caller, enrollment: &Enrollment) -> bool {
    let decides = || {
        let resource = policy::Resource::Request(request_facts(enrollment));
        permit(&shell.rules.load(), caller, policy::Action::Approve, resource, shell.now()).is_ok()
    };
    may_read(shell, caller, enrollment).is_ok() || decides()
}

/// A request that the caller may know of.
///
/// # Errors
/// [`Refusal::NotFound`], also if it exists and the caller may not know of it.
pub(super) fn visible(shell: &Shell, look: &Look, caller: &Caller, id: &str) -> Result<Seen<Enrollment>, Refusal> {
    let seen: Option<Seen<Enrollment>> = look.get(&keys::enrollment(id))?;
    seen.filter(|seen| may_see(shell, caller, &seen.record)).ok_or(Refusal::NotFound(Missing::Request))
}

/// Approves.
///
/// # Errors
/// Why the approval has no effect.
pub async fn approve(
    shell: &Shell,
    caller: &Caller,
    id: &str,
    asked: &Approve,
    instance: &str,
) -> Result<RequestDetails, Refusal> {
    if let Wish::Own { labels: wanted, .. } = &asked.wish {
        Labels::parse(wanted)?;
    }
    let who = caller.identity.to_string();
    let actor = Actor { who: &who, instance };
    let enrollment = retrying(|| async {
        let in_force = InForce::of(shell);
        let records = shell.look(|look| records(shell, &in_force, look, caller, (id, asked))).await?;
        let outcome = approve::approve(caller, asked, records, &in_force.rules, shell.now(), &shell.entropy.bytes())?;
        match outcome {
            ApprovalOutcome::Done(enrollment, changes) => {
                shell.commit(changes, &actor).await?;
                Ok(*enrollment)
            }
            ApprovalOutcome::WrongCode(changes) => {
                shell.commit(changes, &actor).await?;
                Err(Retry::Refused(Refusal::WrongCode))
            }
        }
    })
    .await?;
    if enrollment.state == EnrollmentState::Approved {
        shell.metrics.enrollment("approved");
    }
    Ok(view(enrollment))
}

/// All records of one moment: otherwise the request's own machine, admitted meanwhile, could count as another holder of the name.
fn records(
    shell: &Shell,
    in_force: &InForce,
    look: &Look,
    caller: &Caller,
    (id, asked): (&str, &Approve),
) -> Result<approve::ApprovalRecords, Refusal> {
    let owner = match &asked.wish {
        Wish::Own { owner, .. } => owners::named(look, owner.as_deref())?,
        Wish::SameAs(_) => None,
    };
    let epoch = look.get(keys::EPOCH)?;
    let enrollment = visible(shell, look, caller, id)?;
    let record = &enrollment.record;
    // If the referenced approval is missing, the decision reports it, after a change of the request's state.
    let name = match approve::name_for(record, &asked.wish) {
        Ok(name) => owners::of_name(look, record.role, name.as_str())?,
        Err(_) => NameRecords::default(),
    };
    let approvers = record.approvals.iter().map(|approval| approver(look, approval));
    let approvers: Vec<approve::Approver> = approvers.collect::<Result<_, Fault>>()?;
    let (basis, locks) = basis(shell, in_force, look, record)?;
    Ok(approve::ApprovalRecords { enrollment, name, owner, locks, basis, approvers, epoch })
}

fn approver(look: &Look, approval: &Approval) -> Result<approve::Approver, Fault> {
    let subject = look.get(&keys::subject(pki::Role::Person, &approval.by))?;
    let lineage: Option<Seen<Lineage>> = look.get(&keys::lineage(&approval.lineage))?;
    let mut targets = vec![(LockKind::Person, approval.by.clone()), (LockKind::Lineage, approval.lineage.clone())];
    let certs = lineage.iter().flat_map(|seen| [&seen.record.current, &seen.record.pending]).flatten();
    targets.extend(certs.map(|cert| (LockKind::Key, cert.key.hex())));
    Ok(approve::Approver { subject, locks: look.locks(targets)? })
}

/// Denies.
///
/// # Errors
/// Why the denial has no effect.
pub async fn deny(shell: &Shell, caller: &Caller, id: &str, reason: &str, instance: &str) -> Result<(), Refusal> {
    let who = caller.identity.to_string();
    retrying(|| async {
        let seen = shell.look(|look| visible(shell, look, caller, id)).await?;
        let changes = approve::deny(caller, &seen, reason, &shell.rules.load(), shell.now())?;
        shell.commit(changes, &Actor { who: &who, instance }).await?;
        Ok(())
    })
    .await?;
    shell.metrics.enrollment("denied");
    Ok(())
}

/// Reopens a denied request.
///
/// # Errors
/// The reason why it cannot be reopened.
pub async fn reopen(shell: &Shell, caller: &Caller, id: &str, instance: &str) -> Result<RequestDetails, Refusal> {
    let who = caller.identity.to_string();
    let enrollment = retrying(|| async {
        let seen = shell.look(|look| visible(shell, look, caller, id)).await?;
        let numbers = queue::numbers(shell, &seen.record.source).await?;
        let (enrollment, changes) = approve::reopen(caller, &seen, numbers, &shell.rules.load(), shell.now())?;
        let committed = shell.commit(changes, &Actor { who: &who, instance }).await;
        if matches!(committed, Err(Retry::Conflict)) {
            queue::lost(shell, &enrollment.numbers).await?;
        }
        committed?;
        Ok(enrollment)
    })
    .await?;
    Ok(view(enrollment))
}

/// Adds the other waiting requests for the same name.
async fn with_rivals(shell: &Shell, requests: &mut [RequestDetails]) -> Result<(), Fault> {
    for request in requests {
        if let Some(name) = &request.wanted_name {
            request.rivals = queue::rivals(shell, name, &request.id).await?;
        }
    }
    Ok(())
}

fn view(enrollment: Enrollment) -> RequestDetails {
    let algorithm = pki::SubjectKey::from_spki_der(&enrollment.spki).map(|key| key.algorithm().to_string());
    RequestDetails {
        id: enrollment.id,
        state: enrollment.state.as_str(),
        role: enrollment.role,
        wanted_name: enrollment.wanted_name,
        name: enrollment.name,
        key: enrollment.key.hex(),
        algorithm: algorithm.unwrap_or_default(),
        verified: texts(&enrollment.claims),
        stated: enrollment.stated,
        claimed: enrollment.attributes,
        assurance: enrollment.assurance,
        source: enrollment.source,
        created: enrollment.created.0,
        expires: enrollment.expires.0,
        approvals: enrollment.approvals.into_iter().map(approval_view).collect(),
        approvals_wanted: enrollment.approvals_wanted,
        rivals: vec![],
        taken: None,
        same_device: None,
        rules: enrollment.rules,
        lifetime: enrollment.lifetime,
        reason: enrollment.reason,
    }
}

fn approval_view(approval: Approval) -> ApprovalDetails {
    let digest = approval.content.digest();
    let ApprovedContent { name, labels, owner, code_checked } = approval.content;
    let owner = owner.map(|owner| owner.name);
    ApprovalDetails {
        by: approval.by,
        at: approval.at.0,
        code_checked,
        name: Some(name),
        labels,
        owner,
        content: Some(digest),
    }
}
