//! What people do with machines, people, locks, tokens and the audit.

use pki::{KeyDigest, Role};

use super::{
    asked::LockWish,
    departure, page, removal,
    shell::{Actor, Shell, readable, retrying},
    subjects::{identity, lock_view, may_see, resource, view, visible, whole},
    views::{LockDetails, Page, Removal, SubjectDetails},
};
use crate::core::{
    admission::Caller,
    audit::Event,
    facts::permit,
    keys, lock, name,
    records::{Lineage, Lock, LockKind, Seen, Subject},
    refusal::{Conflict, Malformed, Missing, Refusal},
};

/// Lists machines or people the caller may read.
///
/// # Errors
/// When the store fails, or `after` is from elsewhere.
pub async fn subjects(
    shell: &Shell,
    caller: &Caller,
    role: Role,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<SubjectDetails>, Refusal> {
    let mut rows = page::PageBuilder::<Subject, SubjectDetails>::of(shell, &keys::subjects(role), after, limit)?;
    while let Some((_, seen)) = rows.next().await? {
        let Some(whole) = readable(whole(shell, seen).await)? else { continue };
        if may_see(shell, caller, &whole)
            && let Some(view) = readable(view(shell, whole).await)?
            && let Some(page) = rows.show(view)?
        {
            return Ok(page);
        }
    }
    Ok(rows.end()?)
}

/// Which machines are wanted.
#[derive(Clone, Debug, Default)]
pub struct MachineFilter {
    /// Those that stand so.
    pub state: Option<String>,
    /// Those with this label, `key=value`, or with any value of it, `key`.
    pub label: Option<String>,
    /// Those of this owner.
    pub owner: Option<String>,
    /// Those that hold a tunnel, or do not.
    pub online: Option<bool>,
    /// Those whose name one of these patterns matches, with commas between them; `*` stands for anything.
    pub name: Option<String>,
}

impl MachineFilter {
    fn wants(&self, view: &SubjectDetails) -> bool {
        let label = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => view.labels.get(key).is_some_and(|found| found == value),
            None => view.labels.contains_key(wanted),
        };
        self.state.as_ref().is_none_or(|state| *state == view.state)
            && self.label.as_ref().is_none_or(label)
            && self.owner.as_ref().is_none_or(|owner| view.owner.as_ref() == Some(owner) && !view.owner_gone)
            && self.online.is_none_or(|online| online == view.tunnel.is_some())
            && self.name.as_ref().is_none_or(|names| names.split(',').any(|one| name::matches(one, &view.name)))
    }
}

/// Lists the machines the caller may read and wants.
///
/// # Errors
/// When the store fails, or `after` is from elsewhere.
pub async fn machines(
    shell: &Shell,
    caller: &Caller,
    filter: &MachineFilter,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<SubjectDetails>, Refusal> {
    let mut rows =
        page::PageBuilder::<Subject, SubjectDetails>::of(shell, &keys::subjects(Role::Machine), after, limit)?;
    while let Some((_, seen)) = rows.next().await? {
        let Some(whole) = readable(whole(shell, seen).await)? else { continue };
        if !may_see(shell, caller, &whole) {
            continue;
        }
        let Some(view) = readable(view(shell, whole).await)? else { continue };
        if filter.wants(&view)
            && let Some(page) = rows.show(view)?
        {
            return Ok(page);
        }
    }
    Ok(rows.end()?)
}

/// Shows one machine or person.
///
/// # Errors
/// [`Refusal::NotFound`] also when the caller may not know of it.
pub async fn subject(shell: &Shell, caller: &Caller, role: Role, name: &str) -> Result<SubjectDetails, Refusal> {
    let whole = visible(shell, caller, role, name).await?;
    Ok(view(shell, whole).await?)
}

/// Removes a machine or person: its lineage ends, its certificates are revoked, its name is free. With a person ends what
/// they made. Nobody removes themselves, or the last who may administer.
///
/// # Errors
/// Why not.
pub async fn remove(
    shell: &Shell,
    caller: &Caller,
    role: Role,
    name: &str,
    instance: &str,
) -> Result<Removal, Refusal> {
    let who = caller.identity.to_string();
    let (version, ended) = retrying(|| async {
        let whole = visible(shell, caller, role, name).await?;
        let action = policy::Action::Administer;
        let grant = permit(&shell.rules.load(), caller, action, resource(shell, &whole), shell.now())?;
        let identity = identity(shell, &whole.subject.record)?;
        // Before anything is read: it moves with every removal, so of two who remove each other one looks again.
        let epoch = shell.get(keys::EPOCH.to_owned()).await?;
        let ended = match role {
            Role::Person => {
                departure::may_go(shell, caller, &whole.subject.record).await?;
                Some(departure::made(shell, &whole.subject.record).await?)
            }
            Role::Machine | Role::Gateway => None,
        };
        let event = Event::SubjectRemoved { identity: identity.to_string(), rules: grant.rules().to_vec() };
        let changes = removal::end(shell, &whole, event, &epoch).await?;
        let version = shell.commit(changes, &Actor { who: &who, instance }).await?;
        Ok((version, ended))
    })
    .await?;
    shell.enforcer.passed(version).await;
    Ok(Removal { instance: instance.to_owned(), ended, handed_over: vec![] })
}

/// The caller leaves.
///
/// # Errors
/// When the store fails.
pub async fn leave(shell: &Shell, caller: &Caller, instance: &str) -> Result<(), Refusal> {
    let who = caller.identity.to_string();
    let seen = caller.subject.clone();
    let whole = whole(shell, seen).await?;
    let epoch = shell.get(keys::EPOCH.to_owned()).await?;
    if whole.subject.record.role == Role::Person {
        departure::not_the_last(shell, &whole.subject.record, None).await?;
    }
    let event = Event::SubjectLeft { identity: who.clone() };
    let changes = removal::end(shell, &whole, event, &epoch).await?;
    let version = shell.commit(changes, &Actor { who: &who, instance }).await.map_err(Refusal::from)?;
    shell.enforcer.passed(version).await;
    Ok(())
}

/// Lists locks, by kind and target.
///
/// # Errors
/// When the caller may not, or the store fails.
pub async fn list_locks(
    shell: &Shell,
    caller: &Caller,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<LockDetails>, Refusal> {
    may_read_gateway(shell, caller)?;
    let after = after.map(|place| format!("{}{place}", keys::LOCKS));
    let rows: Vec<(String, Seen<Lock>)> = shell.scan(keys::LOCKS, after.as_deref(), limit).await?;
    let last = if rows.len() == limit { rows.last() } else { None };
    let next = last.and_then(|(key, _)| key.strip_prefix(keys::LOCKS)).map(str::to_owned);
    Ok(Page { items: rows.into_iter().map(|(_, seen)| lock_view(seen.record)).collect(), next })
}

/// Whether the caller may read what concerns the gateway as a whole.
///
/// # Errors
/// [`Refusal::Denied`].
pub fn may_read_gateway(shell: &Shell, caller: &Caller) -> Result<(), Refusal> {
    permit(&shell.rules.load(), caller, policy::Action::Read, policy::Resource::Gateway, shell.now()).map(drop)
}

/// What a lock of this kind and target would hit: the resource for policy, and the lineages concerned.
async fn target(shell: &Shell, kind: LockKind, name: &str) -> Result<(policy::Resource, Vec<Seen<Lineage>>), Refusal> {
    match kind {
        LockKind::Machine | LockKind::Person => {
            let role = if kind == LockKind::Person { Role::Person } else { Role::Machine };
            let seen: Option<Seen<Subject>> = shell.get(keys::subject(role, name)).await?;
            let seen = seen.ok_or(Refusal::NotFound(Missing::locked(kind)))?;
            let whole = whole(shell, seen).await?;
            Ok((resource(shell, &whole), whole.lineage.into_iter().collect()))
        }
        LockKind::Lineage => {
            let seen: Option<Seen<Lineage>> = shell.get(keys::lineage(name)).await?;
            let lineage = seen.ok_or(Refusal::NotFound(Missing::Lineage))?;
            let key = keys::subject(lineage.record.role, &lineage.record.name);
            let subject: Option<Seen<Subject>> = shell.get(key).await?;
            let resource = match subject {
                Some(subject) => resource(shell, &whole(shell, subject).await?),
                None => policy::Resource::Gateway,
            };
            Ok((resource, vec![lineage]))
        }
        LockKind::Key => {
            let key = KeyDigest::parse_hex(name).map_err(|_| Refusal::Malformed(Malformed::LockKey))?;
            Ok((policy::Resource::Gateway, removal::lineages_of_key(shell, &key).await?))
        }
    }
}

fn kind(text: &str) -> Result<LockKind, Refusal> {
    LockKind::parse(text).ok_or_else(|| Refusal::Malformed(Malformed::LockKind(text.to_owned())))
}

/// The refusal, as whoever may not know of the thing hears it: as if it were not there. A bare key is nobody's secret.
fn hidden(shell: &Shell, caller: &Caller, resource: policy::Resource, kind: LockKind, refusal: Refusal) -> Refusal {
    let seen = kind == LockKind::Key
        || permit(&shell.rules.load(), caller, policy::Action::Read, resource, shell.now()).is_ok();
    if seen { refusal } else { Refusal::NotFound(Missing::locked(kind)) }
}

/// Sets a lock, and waits until what it hits here has ended.
///
/// # Errors
/// Why not.
pub async fn lock(shell: &Shell, caller: &Caller, asked: &LockWish, instance: &str) -> Result<LockDetails, Refusal> {
    let kind = kind(&asked.kind)?;
    let who = caller.identity.to_string();
    let (record, lineages, version) = retrying(|| async {
        let (resource, lineages) = target(shell, kind, &asked.target).await?;
        let grant = permit(&shell.rules.load(), caller, policy::Action::Lock, resource.clone(), shell.now());
        let grant = grant.map_err(|refusal| hidden(shell, caller, resource, kind, refusal))?;
        let epoch = shell.get(keys::EPOCH.to_owned()).await?;
        if let Some(seen) = shell.get::<Lock>(keys::lock(kind, &asked.target)).await? {
            let Lock { by, reason, .. } = seen.record;
            return Err(Refusal::Conflict(Conflict::Locked { by, reason }).into());
        }
        let record = Lock {
            kind,
            target: asked.target.clone(),
            reason: asked.reason.clone(),
            by: who.clone(),
            at: shell.now().into(),
            of_key: None,
            instance: instance.to_owned(),
        };
        let mut with = Vec::new();
        if kind == LockKind::Key {
            for lineage in &lineages {
                let key = keys::lock(LockKind::Lineage, &lineage.record.id);
                with.extend(shell.get::<Lock>(key).await?.is_none().then(|| record.with_key(&lineage.record.id)));
            }
        }
        let changes = lock::set(&record, &with, grant.rules(), &epoch);
        let version = shell.commit(changes, &Actor { who: &who, instance }).await?;
        Ok((record, lineages, version))
    })
    .await?;
    let ended = shell.enforcer.outcome(version).await;
    shell.metrics.lock("set");
    let hits = match kind {
        LockKind::Key => lineages.iter().map(|seen| format!("{}/{}", seen.record.role, seen.record.name)).collect(),
        LockKind::Machine | LockKind::Person | LockKind::Lineage => vec![],
    };
    let person = match kind {
        LockKind::Person => shell.get(keys::subject(Role::Person, &asked.target)).await?,
        LockKind::Machine | LockKind::Lineage | LockKind::Key => None,
    };
    let suspended = match person {
        Some(Seen { record, .. }) => Some(departure::made(shell, &record).await?),
        None => None,
    };
    Ok(LockDetails { ended, suspended, hits, ..lock_view(record) })
}

/// Lifts a lock.
///
/// # Errors
/// Why not.
pub async fn unlock(
    shell: &Shell,
    caller: &Caller,
    kind_name: &str,
    name: &str,
    instance: &str,
) -> Result<(), Refusal> {
    let kind = kind(kind_name)?;
    let who = caller.identity.to_string();
    retrying(|| async {
        let seen: Option<Seen<Lock>> = shell.get(keys::lock(kind, name)).await?;
        let resource = match target(shell, kind, name).await {
            Ok((resource, lineages)) => (resource, lineages),
            // The subject may be gone; its lock must still be liftable by whoever administers the gateway.
            Err(Refusal::NotFound(_)) => (policy::Resource::Gateway, vec![]),
            Err(refusal) => return Err(refusal.into()),
        };
        let (resource, lineages) = resource;
        let grant = permit(&shell.rules.load(), caller, policy::Action::Administer, resource.clone(), shell.now());
        let grant = grant.map_err(|refusal| match hidden(shell, caller, resource, kind, refusal) {
            Refusal::NotFound(_) => Refusal::NotFound(Missing::Lock),
            told => told,
        })?;
        let seen = seen.ok_or(Refusal::NotFound(Missing::Lock))?;
        let epoch = shell.get(keys::EPOCH.to_owned()).await?;
        let with = removal::locks_with_key(shell, kind, name).await?;
        let changes = lock::lift(&seen, &with, grant.rules(), &lineages, &epoch);
        shell.commit(changes, &Actor { who: &who, instance }).await?;
        shell.metrics.lock("lifted");
        Ok(())
    })
    .await
}
