//! What people do with machines, people, locks, tokens and the audit.

use pki::{KeyDigest, Role};

use super::{
    asked::LockWish,
    departure, page, removal,
    shell::{Actor, Shell, readable, retrying},
    subjects::{find_subject, identity, load_subject, lock_view, may_see, resource, view, visible},
    views::{LockDetails, Page, Removal, SubjectDetails},
};
use crate::core::{
    admission::Caller,
    audit::Event,
    facts::permit,
    keys, lock,
    look::Look,
    name,
    records::{Lineage, Lock, LockKind, Seen, Subject},
    refusal::{Conflict, Fault, Malformed, Missing, Refusal},
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
    let show = |look: &Look, _: &str, seen: &Seen<Subject>| Ok(shown(shell, look, caller, seen)?);
    page::page(shell, &keys::subjects(role), after, limit, show).await
}

/// One row of a listing, if the caller may know of it. An unreadable record is left out.
fn shown(shell: &Shell, look: &Look, caller: &Caller, seen: &Seen<Subject>) -> Result<Option<SubjectDetails>, Fault> {
    if seen.record.role == Role::Machine {
        look.expect([keys::convergence(&seen.record.name)]);
    }
    match readable(load_subject(look, seen.clone()))? {
        Some(records) if may_see(shell, caller, &records) => readable(view(shell, look, records)),
        Some(_) | None => Ok(None),
    }
}

/// A filter for machines.
#[derive(Clone, Debug, Default)]
pub struct MachineFilter {
    /// Only those in this state.
    pub state: Option<String>,
    /// Those with this label, `key=value`, or with any value of it, `key`.
    pub label: Option<String>,
    /// Only those of this owner.
    pub owner: Option<String>,
    /// Only those with a tunnel, or only those without.
    pub online: Option<bool>,
    /// Only those whose name matches one of these patterns, which are separated by commas; `*` stands for any text.
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

/// Lists the machines that match the filter and that the caller may read.
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
    let show = |look: &Look, _: &str, seen: &Seen<Subject>| {
        Ok(shown(shell, look, caller, seen)?.filter(|view| filter.wants(view)))
    };
    page::page(shell, &keys::subjects(Role::Machine), after, limit, show).await
}

/// Shows one machine or person.
///
/// # Errors
/// [`Refusal::NotFound`] also when the caller may not know of it.
pub async fn subject(shell: &Shell, caller: &Caller, role: Role, name: &str) -> Result<SubjectDetails, Refusal> {
    shell.look(|look| Ok(view(shell, look, visible(shell, look, caller, role, name)?)?)).await
}

/// Removes a machine or person: its lineage ends, its certificates are revoked, its name becomes free. What a person made ends with the
/// person. Nobody can remove themselves, or the last administrator.
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
        // The epoch changes with every removal: of two people who remove each other at once, one conflicts and is decided again.
        let looked = |look: &Look| -> Result<_, Refusal> {
            let epoch = look.get(keys::EPOCH)?;
            Ok((visible(shell, look, caller, role, name)?, epoch))
        };
        let (records, epoch) = shell.look(looked).await?;
        let action = policy::Action::Administer;
        let grant = permit(&shell.rules.load(), caller, action, resource(shell, &records), shell.now())?;
        let identity = identity(shell, &records.subject.record)?;
        let ended = match role {
            Role::Person => {
                departure::may_go(shell, caller, &records.subject.record).await?;
                Some(departure::made(shell, &records.subject.record).await?)
            }
            Role::Machine | Role::Gateway => None,
        };
        let event = Event::SubjectRemoved { identity: identity.to_string(), rules: grant.rules().to_vec() };
        let changes = removal::end(shell, &records, event, &epoch).await?;
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
    let looked = |look: &Look| -> Result<_, Refusal> {
        Ok((load_subject(look, caller.subject.clone())?, look.get(keys::EPOCH)?))
    };
    let (records, epoch) = shell.look(looked).await?;
    if records.subject.record.role == Role::Person {
        departure::not_the_last(shell, &records.subject.record, None).await?;
    }
    let event = Event::SubjectLeft { identity: who.clone() };
    let changes = removal::end(shell, &records, event, &epoch).await?;
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

/// Checks that the caller may read what concerns the gateway itself.
///
/// # Errors
/// [`Refusal::Denied`].
pub fn may_read_gateway(shell: &Shell, caller: &Caller) -> Result<(), Refusal> {
    permit(&shell.rules.load(), caller, policy::Action::Read, policy::Resource::Gateway, shell.now()).map(drop)
}

/// What a lock of this kind and target would affect: the policy resource and the lineages. For a lock on a key the caller has found the
/// lineages before (`of_key`).
fn target(
    shell: &Shell,
    look: &Look,
    (kind, name): (LockKind, &str),
    of_key: &[String],
) -> Result<(policy::Resource, Vec<Seen<Lineage>>), Refusal> {
    match kind {
        LockKind::Machine | LockKind::Person => {
            let role = if kind == LockKind::Person { Role::Person } else { Role::Machine };
            let records = find_subject(look, role, name)?.ok_or(Refusal::NotFound(Missing::locked(kind)))?;
            Ok((resource(shell, &records), records.lineage.into_iter().collect()))
        }
        LockKind::Lineage => {
            let seen: Option<Seen<Lineage>> = look.get(&keys::lineage(name))?;
            let lineage = seen.ok_or(Refusal::NotFound(Missing::Lineage))?;
            let resource = match find_subject(look, lineage.record.role, &lineage.record.name)? {
                Some(records) => resource(shell, &records),
                None => policy::Resource::Gateway,
            };
            Ok((resource, vec![lineage]))
        }
        LockKind::Key => {
            let found: Vec<Option<Seen<Lineage>>> =
                of_key.iter().map(|id| look.get(&keys::lineage(id))).collect::<Result<_, Fault>>()?;
            Ok((policy::Resource::Gateway, found.into_iter().flatten().filter(|seen| !seen.record.ended).collect()))
        }
    }
}

/// The lineages that depend on a key, for a lock on that key.
async fn of_key(shell: &Shell, kind: LockKind, name: &str) -> Result<Vec<String>, Refusal> {
    match kind {
        LockKind::Key => {
            let key = KeyDigest::parse_hex(name).map_err(|_| Refusal::Malformed(Malformed::LockKey))?;
            Ok(removal::lineages_of_key(shell, &key).await?)
        }
        LockKind::Machine | LockKind::Person | LockKind::Lineage => Ok(vec![]),
    }
}

fn kind(text: &str) -> Result<LockKind, Refusal> {
    LockKind::parse(text).ok_or_else(|| Refusal::Malformed(Malformed::LockKind(text.to_owned())))
}

/// The refusal for a caller who may not know of the target: as if it did not exist. The existence of a key is no secret.
fn hidden(shell: &Shell, caller: &Caller, resource: policy::Resource, kind: LockKind, refusal: Refusal) -> Refusal {
    let seen = kind == LockKind::Key
        || permit(&shell.rules.load(), caller, policy::Action::Read, resource, shell.now()).is_ok();
    if seen { refusal } else { Refusal::NotFound(Missing::locked(kind)) }
}

/// Sets a lock, and waits until everything it affects on this gateway has ended.
///
/// # Errors
/// Why not.
pub async fn lock(shell: &Shell, caller: &Caller, asked: &LockWish, instance: &str) -> Result<LockDetails, Refusal> {
    let kind = kind(&asked.kind)?;
    let who = caller.identity.to_string();
    let (record, lineages, version) = retrying(|| async {
        let of_key = of_key(shell, kind, &asked.target).await?;
        let looked = |look: &Look| -> Result<_, Refusal> {
            let (epoch, stands) = (look.get(keys::EPOCH)?, look.get::<Lock>(&keys::lock(kind, &asked.target))?);
            let (resource, lineages) = target(shell, look, (kind, &asked.target), &of_key)?;
            let locked = |seen: &Seen<Lineage>| look.get::<Lock>(&keys::lock(LockKind::Lineage, &seen.record.id));
            let locked =
                lineages.iter().map(|seen| Ok(locked(seen)?.is_some())).collect::<Result<Vec<bool>, Fault>>()?;
            Ok((epoch, stands, resource, lineages, locked))
        };
        let (epoch, stands, resource, lineages, locked) = shell.look(looked).await?;
        let grant = permit(&shell.rules.load(), caller, policy::Action::Lock, resource.clone(), shell.now());
        let grant = grant.map_err(|refusal| hidden(shell, caller, resource, kind, refusal))?;
        if let Some(Seen { record: Lock { by, reason, .. }, .. }) = stands {
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
        let with = lineages.iter().zip(locked).filter(|(_, locked)| kind == LockKind::Key && !*locked);
        let with: Vec<Lock> = with.map(|(seen, _)| record.with_key(&seen.record.id)).collect();
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
        let of_key = of_key(shell, kind, name).await?;
        let looked = |look: &Look| -> Result<_, Refusal> {
            let (seen, epoch) = (look.get::<Lock>(&keys::lock(kind, name))?, look.get(keys::EPOCH)?);
            let hit = match target(shell, look, (kind, name), &of_key) {
                // The subject may be gone; an administrator of the gateway must still be able to lift its lock.
                Err(Refusal::NotFound(_)) => (policy::Resource::Gateway, vec![]),
                other => other?,
            };
            Ok((seen, epoch, hit))
        };
        let (seen, epoch, (resource, lineages)) = shell.look(looked).await?;
        let grant = permit(&shell.rules.load(), caller, policy::Action::Administer, resource.clone(), shell.now());
        let grant = grant.map_err(|refusal| match hidden(shell, caller, resource, kind, refusal) {
            Refusal::NotFound(_) => Refusal::NotFound(Missing::Lock),
            told => told,
        })?;
        let seen = seen.ok_or(Refusal::NotFound(Missing::Lock))?;
        let with = removal::locks_with_key(shell, kind, name).await?;
        let changes = lock::lift(&seen, &with, grant.rules(), &lineages, &epoch);
        shell.commit(changes, &Actor { who: &who, instance }).await?;
        shell.metrics.lock("lifted");
        Ok(())
    })
    .await
}
