//! What approvers do with requests: list, show, approve, deny.

use wire::admin::{ApprovalView, Page, RequestView};

use super::{
    admit::locks,
    enroll::find,
    owners,
    shell::{Actor, Retry, Shell, retrying},
};
use crate::core::{
    admission::{self, Caller},
    approve::{self, Approve, Outcome, permit, request_facts},
    enroll::NameRecords,
    keys,
    records::{Claim, Enrollment, EnrollmentState, Lineage, LockKind, Seen, Waiting},
    refusal::Refusal,
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
) -> Result<Page<RequestView>, Refusal> {
    let prefix = if all { keys::ENROLLMENTS } else { keys::WAITING };
    let after = after.map(|id| format!("{prefix}{id}"));
    let rows: Vec<(String, Seen<serde_json::Value>)> = shell.scan(prefix, after.as_deref(), limit).await?;
    let next = (rows.len() == limit).then(|| rows.last().map(|(key, _)| key.trim_start_matches(prefix).to_owned()));
    let ids = rows.iter().map(|(key, _)| keys::enrollment(key.trim_start_matches(prefix))).collect();
    let found: Vec<Option<Seen<Enrollment>>> = shell.get_all(ids).await?;
    let waiting: Vec<(String, Seen<Waiting>)> = shell.scan(keys::WAITING, None, usize::MAX).await?;
    let mut items = Vec::new();
    for seen in found.into_iter().flatten() {
        if may_read(shell, caller, &seen.record).is_ok() {
            items.push(view(seen.record, &waiting));
        }
    }
    Ok(Page { items, next: next.flatten() })
}

/// Shows one request.
///
/// # Errors
/// [`Refusal::NotFound`] also when the caller may not know of it.
pub async fn show(shell: &Shell, caller: &Caller, id: &str) -> Result<RequestView, Refusal> {
    let seen = find(shell, id).await.map_err(|_| Refusal::NotFound("request"))?;
    may_read(shell, caller, &seen.record).map(drop).map_err(|_| Refusal::NotFound("request"))?;
    let waiting: Vec<(String, Seen<Waiting>)> = shell.scan(keys::WAITING, None, usize::MAX).await?;
    Ok(view(seen.record, &waiting))
}

/// Whether the caller may read a request.
///
/// # Errors
/// [`Refusal::Denied`].
pub(super) fn may_read(shell: &Shell, caller: &Caller, enrollment: &Enrollment) -> Result<policy::Grant, Refusal> {
    let resource = policy::Resource::Request(request_facts(enrollment));
    permit(&shell.rules.load(), caller, policy::Action::Read, resource, shell.now())
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
) -> Result<RequestView, Refusal> {
    labels(&asked.labels)?;
    let who = caller.identity.to_string();
    let actor = Actor { who: &who, instance };
    let enrollment = retrying(|| async {
        let records = records(shell, id, asked).await?;
        let outcome = approve::approve(
            caller,
            asked,
            records,
            &shell.rules.load(),
            &shell.pin,
            shell.now(),
            &shell.entropy.bytes(),
        )?;
        match outcome {
            Outcome::Done(enrollment, changes) => {
                shell.commit(changes, &actor).await?;
                Ok(*enrollment)
            }
            Outcome::WrongCode(changes) => {
                shell.commit(changes, &actor).await?;
                Err(Retry::Refused(Refusal::WrongCode))
            }
        }
    })
    .await?;
    if enrollment.state == EnrollmentState::Approved {
        shell.metrics.enrollment("approved");
    }
    Ok(view(enrollment, &[]))
}

async fn records(shell: &Shell, id: &str, asked: &Approve) -> Result<approve::Records, Retry> {
    let enrollment = find(shell, id).await.map_err(|_| Refusal::NotFound("request"))?;
    let role = enrollment.record.role;
    let name = match approve::name_for(&enrollment.record, asked.name.as_deref()) {
        Some(name) => owners::of_name(shell, role, &name).await?,
        None => NameRecords::default(),
    };
    let owner = owners::named(shell, asked.owner.as_deref()).await?;
    let mut targets = vec![(LockKind::Key, enrollment.record.key.hex())];
    let rejoins: Option<Seen<Lineage>> = match &enrollment.record.lineage {
        Some(lineage) => shell.get(keys::lineage(lineage)).await?,
        None => None,
    };
    if let Some(lineage) = &rejoins {
        targets.push((LockKind::Lineage, lineage.record.id.clone()));
        targets.push((admission::lock_kind(lineage.record.role), lineage.record.name.clone()));
    }
    let locks = locks(shell, targets).await?;
    Ok(approve::Records { enrollment, name, owner, locks, rejoins })
}

/// Denies.
///
/// # Errors
/// Why the denial has no effect.
pub async fn deny(shell: &Shell, caller: &Caller, id: &str, reason: &str, instance: &str) -> Result<(), Refusal> {
    let who = caller.identity.to_string();
    retrying(|| async {
        let seen = find(shell, id).await.map_err(|_| Refusal::NotFound("request"))?;
        let changes = approve::deny(caller, &seen, reason, &shell.rules.load(), shell.now())?;
        shell.commit(changes, &Actor { who: &who, instance }).await?;
        Ok(())
    })
    .await?;
    shell.metrics.enrollment("denied");
    Ok(())
}

fn view(enrollment: Enrollment, waiting: &[(String, Seen<Waiting>)]) -> RequestView {
    let rivals = waiting
        .iter()
        .filter(|(key, _)| *key != keys::waiting(&enrollment.id))
        .filter(|(_, seen)| seen.record.wanted_name.is_some() && seen.record.wanted_name == enrollment.wanted_name)
        .map(|(key, _)| key.trim_start_matches(keys::WAITING).to_owned())
        .collect();
    let algorithm = pki::SubjectKey::from_spki_der(&enrollment.spki).map(|key| key.algorithm().to_string());
    RequestView {
        id: enrollment.id,
        state: enrollment.state.as_str().to_owned(),
        role: enrollment.role.as_str().to_owned(),
        wanted_name: enrollment.wanted_name,
        name: enrollment.name,
        key: enrollment.key.hex(),
        algorithm: algorithm.unwrap_or_default(),
        verified: texts(&enrollment.claims),
        claimed: enrollment.attributes,
        assurance: enrollment.assurance.as_str().to_owned(),
        source: enrollment.source,
        created: enrollment.created.0,
        expires: enrollment.expires.0,
        approvals: enrollment
            .approvals
            .into_iter()
            .map(|approval| ApprovalView { by: approval.by, at: approval.at.0, code_checked: approval.code_checked })
            .collect(),
        approvals_wanted: enrollment.approvals_wanted,
        rivals,
        reason: enrollment.reason,
    }
}

/// Most labels on a machine, and most bytes in each of their halves: they go into every policy decision.
const LABELS_MAX: usize = 32;
const LABEL_BYTES_MAX: usize = 128;

/// Refuses labels that a policy could not tell apart or that are too large.
///
/// # Errors
/// [`Refusal::Malformed`].
pub fn labels(labels: &std::collections::BTreeMap<String, String>) -> Result<(), Refusal> {
    let bad = |(key, value): (&String, &String)| {
        key.is_empty() || key.contains('=') || key.len() > LABEL_BYTES_MAX || value.len() > LABEL_BYTES_MAX
    };
    if labels.len() > LABELS_MAX || labels.iter().any(bad) {
        return Err(Refusal::Malformed(format!(
            "labels: at most {LABELS_MAX}, each `key=value` with up to {LABEL_BYTES_MAX} bytes on either side"
        )));
    }
    Ok(())
}

/// Claims as text, for views.
#[must_use]
pub fn texts(claims: &std::collections::BTreeMap<String, Claim>) -> std::collections::BTreeMap<String, String> {
    claims.iter().map(|(name, claim)| (name.clone(), claim.text())).collect()
}
