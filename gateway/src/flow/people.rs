//! What approvers do with requests: list, show, approve, deny.

use super::{
    enroll::ground,
    locks, owners, page, queue,
    shell::{Actor, Retry, Shell, retrying},
    subjects::{texts, whole_of},
    views::{ApprovalDetails, Page, RequestDetails, WaitingRequests},
};
use crate::core::{
    admission::Caller,
    approve::{self, ApprovalOutcome, Approve, Wish},
    enroll::NameRecords,
    facts::{permit, request_facts},
    given::Labels,
    keys,
    records::{Approval, ApprovedContent, Enrollment, EnrollmentState, Lineage, LockKind, Seen},
    refusal::{Fault, Missing, Refusal},
};

/// Lists requests the caller may read: those that wait, or all.
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
    let mut rows = page::PageBuilder::<serde_json::Value, RequestDetails>::of(shell, prefix, after, limit)?;
    while let Some((id, _)) = rows.next().await? {
        let seen: Option<Seen<Enrollment>> = shell.find_all(vec![keys::enrollment(&id)]).await?.pop();
        let listed = seen.filter(|seen| all || seen.record.state == EnrollmentState::Waiting);
        if let Some(seen) = listed.filter(|seen| may_see(shell, caller, &seen.record)) {
            let (rivals, taken) = (rivals(shell, &seen.record).await?, taken(shell, &seen.record).await?);
            if let Some(page) = rows.show(RequestDetails { taken, ..view(seen.record, rivals) })? {
                return Ok(page);
            }
        }
    }
    Ok(rows.end()?)
}

/// Most requests that are watched: the first of those that wait.
const WATCHED_MAX: usize = 1_000;

/// Who waits, once that is not what the caller saw, or the wait is over.
///
/// # Errors
/// When the store fails.
pub async fn watch(
    shell: &Shell,
    caller: &Caller,
    seen: Option<&str>,
    wait: std::time::Duration,
) -> Result<WaitingRequests, Refusal> {
    // Before the first look, so that nothing is missed between the two.
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
    let seen = visible(shell, caller, id).await?;
    let (rivals, taken) = (rivals(shell, &seen.record).await?, taken(shell, &seen.record).await?);
    Ok(RequestDetails { taken, ..view(seen.record, rivals) })
}

/// How whoever stands that has the name which a waiting request wants: approving it under that name would be refused.
async fn taken(shell: &Shell, enrollment: &Enrollment) -> Result<Option<String>, Refusal> {
    let waits = enrollment.state == EnrollmentState::Waiting && !enrollment.rejoin;
    let Some(name) = enrollment.wanted_name.as_ref().filter(|_| waits) else { return Ok(None) };
    if let Some(whole) = whole_of(shell, enrollment.role, name).await? {
        return Ok(Some(whole.state(shell.now()).to_owned()));
    }
    let taken = owners::of_name(shell, enrollment.role, name).await?.is_taken(shell.now());
    Ok(taken.then(|| "kept".to_owned()))
}

/// Whether the caller may read a request.
///
/// # Errors
/// [`Refusal::Denied`].
fn may_read(shell: &Shell, caller: &Caller, enrollment: &Enrollment) -> Result<policy::Grant, Refusal> {
    let resource = policy::Resource::Request(request_facts(enrollment));
    permit(&shell.rules.load(), caller, policy::Action::Read, resource, shell.now())
}

/// Whether the caller may know of a request: who may look at it, or decide it.
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
/// [`Refusal::NotFound`] also when it is there and not for the caller to know.
pub(super) async fn visible(shell: &Shell, caller: &Caller, id: &str) -> Result<Seen<Enrollment>, Refusal> {
    let seen: Option<Seen<Enrollment>> = shell.get(keys::enrollment(id)).await?;
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
        let records = records(shell, caller, id, asked).await?;
        let outcome =
            approve::approve(caller, asked, records, &shell.rules.load(), shell.now(), &shell.entropy.bytes())?;
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
    Ok(view(enrollment, vec![]))
}

async fn records(shell: &Shell, caller: &Caller, id: &str, asked: &Approve) -> Result<approve::ApprovalRecords, Retry> {
    let enrollment = visible(shell, caller, id).await?;
    let epoch = shell.get(keys::EPOCH.to_owned()).await?;
    let record = &enrollment.record;
    // When it refers to what is not there, the decision says so, and what became of the request comes before it.
    let name = match approve::name_for(record, &asked.wish) {
        Ok(name) => owners::of_name(shell, record.role, name.as_str()).await?,
        Err(_) => NameRecords::default(),
    };
    let owner = match &asked.wish {
        Wish::Own { owner, .. } => owners::named(shell, owner.as_deref()).await?,
        Wish::SameAs(_) => None,
    };
    let mut approvers = Vec::new();
    for approval in &record.approvals {
        approvers.push(approver(shell, approval).await?);
    }
    let (ground, locks) = ground(shell, &enrollment.record).await?;
    // All that was read is of one moment only if the request is still what it was: else its own machine, admitted meanwhile,
    // could be taken for another one that has the name.
    let again: Option<Seen<Enrollment>> = shell.get(keys::enrollment(id)).await?;
    if again.map(|seen| seen.version) != Some(enrollment.version) {
        return Err(Retry::Conflict);
    }
    Ok(approve::ApprovalRecords { enrollment, name, owner, locks, ground, approvers, epoch })
}

async fn approver(shell: &Shell, approval: &Approval) -> Result<approve::Approver, Fault> {
    let subject = shell.get(keys::subject(pki::Role::Person, &approval.by)).await?;
    let lineage: Option<Seen<Lineage>> = shell.get(keys::lineage(&approval.lineage)).await?;
    let mut targets = vec![(LockKind::Person, approval.by.clone()), (LockKind::Lineage, approval.lineage.clone())];
    let certs = lineage.iter().flat_map(|seen| [&seen.record.current, &seen.record.pending]).flatten();
    targets.extend(certs.map(|cert| (LockKind::Key, cert.key.hex())));
    Ok(approve::Approver { subject, locks: locks::on(shell, targets).await? })
}

/// Denies.
///
/// # Errors
/// Why the denial has no effect.
pub async fn deny(shell: &Shell, caller: &Caller, id: &str, reason: &str, instance: &str) -> Result<(), Refusal> {
    let who = caller.identity.to_string();
    retrying(|| async {
        let seen = visible(shell, caller, id).await?;
        let changes = approve::deny(caller, &seen, reason, &shell.rules.load(), shell.now())?;
        shell.commit(changes, &Actor { who: &who, instance }).await?;
        Ok(())
    })
    .await?;
    shell.metrics.enrollment("denied");
    Ok(())
}

/// Takes a denial back.
///
/// # Errors
/// Why that has no effect.
pub async fn reopen(shell: &Shell, caller: &Caller, id: &str, instance: &str) -> Result<RequestDetails, Refusal> {
    let who = caller.identity.to_string();
    let enrollment = retrying(|| async {
        let seen = visible(shell, caller, id).await?;
        let (enrollment, changes) = approve::reopen(caller, &seen, &shell.rules.load(), shell.now())?;
        shell.commit(changes, &Actor { who: &who, instance }).await?;
        Ok(enrollment)
    })
    .await?;
    Ok(view(enrollment, vec![]))
}

/// Others that wait and want the same name.
async fn rivals(shell: &Shell, enrollment: &Enrollment) -> Result<Vec<String>, Refusal> {
    match &enrollment.wanted_name {
        Some(name) => Ok(queue::rivals(shell, name, &enrollment.id).await?),
        None => Ok(vec![]),
    }
}

fn view(enrollment: Enrollment, rivals: Vec<String>) -> RequestDetails {
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
        claimed: enrollment.attributes,
        assurance: enrollment.assurance,
        source: enrollment.source,
        created: enrollment.created.0,
        expires: enrollment.expires.0,
        approvals: enrollment.approvals.into_iter().map(approval_view).collect(),
        approvals_wanted: enrollment.approvals_wanted,
        rivals,
        taken: None,
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
