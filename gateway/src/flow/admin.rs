//! What people do with machines, people, locks, tokens and the audit.

use pki::{KeyDigest, Role};

use super::{
    admit::locks,
    asked::LockWish,
    offboard, owners, page,
    people::texts,
    removal,
    shell::{Actor, Shell, readable, retrying},
    views::{Enforced, LockDetails, OfferedService, Page, Removal, SubjectDetails, TunnelDetails},
};
use crate::{
    core::{
        admission::{Caller, lock_kind},
        approve::{machine_facts, permit, person_facts},
        audit::{Access, Event},
        change::Changes,
        keys, lock, name,
        records::{CertRef, Convergence, Lineage, Lock, LockKind, Owner, Seen, Subject},
        refusal::{Conflict, Fault, Malformed, Missing, Refusal},
    },
    registry::{
        live::{Reason, Selector},
        sessions,
    },
};

/// Subject, lineage and locks of one machine or person.
pub(super) struct Whole {
    pub(super) subject: Seen<Subject>,
    pub(super) lineage: Option<Seen<Lineage>>,
    /// Who holds the name of its owner now.
    owner: Option<Seen<Subject>>,
    locks: lock::Locks,
}

impl Whole {
    /// Whether a lock stands against it.
    pub(super) const fn is_locked(&self) -> bool {
        self.locks.any()
    }

    /// Its newest certificate.
    fn newest(&self) -> Option<&CertRef> {
        self.lineage.as_ref().and_then(|seen| seen.record.current.as_ref().or(seen.record.pending.as_ref()))
    }

    /// How it stands, in a word.
    pub(super) fn state(&self, now: pki::UnixTime) -> &'static str {
        match self.newest() {
            _ if self.locks.any() => "locked",
            None => "reserved",
            Some(cert) if cert.not_after.0 < now.secs() => "expired",
            Some(_) => "active",
        }
    }

    /// It as one who asks, for a question that is asked on its behalf.
    pub(super) fn into_caller(self, identity: pki::Identity, key: KeyDigest) -> Option<Caller> {
        let lineage = self.lineage?;
        let cert = lineage.record.current.clone().or_else(|| lineage.record.pending.clone())?;
        Some(Caller {
            identity,
            serial: cert.serial,
            key,
            not_after: cert.not_after.into(),
            lineage,
            subject: self.subject,
            owner: self.owner,
            locks: self.locks,
        })
    }
}

/// One machine or person, if there is one of that name.
pub(super) async fn whole_of(shell: &Shell, role: Role, name: &str) -> Result<Option<Whole>, Fault> {
    match shell.get(keys::subject(role, name)).await? {
        Some(seen) => whole(shell, seen).await.map(Some),
        None => Ok(None),
    }
}

/// Whether the caller may know of it.
pub(super) fn may_see(shell: &Shell, caller: &Caller, whole: &Whole) -> bool {
    permit(&shell.rules.load(), caller, policy::Action::Read, resource(shell, whole), shell.now()).is_ok()
}

/// All of one machine or person.
///
/// # Errors
/// When the store fails.
pub(super) async fn whole(shell: &Shell, subject: Seen<Subject>) -> Result<Whole, Fault> {
    let lineage: Option<Seen<Lineage>> = shell.get(keys::lineage(&subject.record.lineage)).await?;
    let mut targets = vec![
        (lock_kind(subject.record.role), subject.record.name.clone()),
        (LockKind::Lineage, subject.record.lineage.clone()),
    ];
    if let Some(seen) = &lineage {
        let certs = [&seen.record.current, &seen.record.pending];
        targets.extend(certs.into_iter().flatten().map(|cert| (LockKind::Key, cert.key.hex())));
    }
    let locks = locks(shell, targets).await?;
    let owner = owners::person(shell, &subject.record).await?;
    Ok(Whole { subject, lineage, owner, locks })
}

/// It, in the policy's words.
pub(super) fn resource(shell: &Shell, whole: &Whole) -> policy::Resource {
    let subject = &whole.subject.record;
    match subject.role {
        Role::Person => {
            let mut facts = person_facts(subject);
            facts.locked = whole.locks.any();
            policy::Resource::Person(facts)
        }
        Role::Machine | Role::Gateway => {
            let lineage = whole.lineage.as_ref().map(|seen| &seen.record);
            let owner = whole.owner.as_ref().map(|seen| &seen.record);
            policy::Resource::Machine(machine_facts(subject, owner, lineage, whole.locks.any(), shell.now()))
        }
    }
}

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
    let mut rows = page::Rows::<Subject, SubjectDetails>::of(shell, &keys::subjects(role), after, limit)?;
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
    let mut rows = page::Rows::<Subject, SubjectDetails>::of(shell, &keys::subjects(Role::Machine), after, limit)?;
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

/// One machine or person that the caller may read.
///
/// # Errors
/// [`Refusal::NotFound`] also when the caller may not know of it.
pub(super) async fn visible(shell: &Shell, caller: &Caller, role: Role, name: &str) -> Result<Whole, Refusal> {
    let what = if role == Role::Person { Missing::Person } else { Missing::Machine };
    let whole = whole_of(shell, role, name).await?.ok_or(Refusal::NotFound(what))?;
    if may_see(shell, caller, &whole) { Ok(whole) } else { Err(Refusal::NotFound(what)) }
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
    let (identity, ended) = retrying(|| async {
        let whole = visible(shell, caller, role, name).await?;
        let action = policy::Action::Administer;
        let grant = permit(&shell.rules.load(), caller, action, resource(shell, &whole), shell.now())?;
        let identity = identity(shell, &whole.subject.record)?;
        // Before anything is read: it moves with every removal, so of two who remove each other one looks again.
        let epoch = shell.get(keys::EPOCH.to_owned()).await?;
        let ended = match role {
            Role::Person => {
                offboard::may_go(shell, caller, &whole.subject.record).await?;
                Some(offboard::made(shell, &whole.subject.record).await?)
            }
            Role::Machine | Role::Gateway => None,
        };
        let event = Event::SubjectRemoved { identity: identity.to_string(), rules: grant.rules().to_vec() };
        let changes = removal::end(shell, &whole, event, &epoch).await?;
        shell.commit(changes, &Actor { who: &who, instance }).await?;
        Ok((identity, ended))
    })
    .await?;
    shell.sessions.cut(&sessions::Selector::Identity(identity.clone()), wire::tunnel::Reason::Killed);
    shell.live.cut(&Selector::Identity(identity), Reason::Killed);
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
        offboard::not_the_last(shell, &whole.subject.record, None).await?;
    }
    let event = Event::SubjectLeft { identity: who.clone() };
    let changes = removal::end(shell, &whole, event, &epoch).await?;
    shell.commit(changes, &Actor { who: &who, instance }).await.map(drop).map_err(Refusal::from)
}

/// Its SPIFFE ID.
///
/// # Errors
/// When the record's name is none.
pub(super) fn identity(shell: &Shell, subject: &Subject) -> Result<pki::Identity, Refusal> {
    let name = name::known(&subject.name)?;
    Ok(pki::Identity { domain: shell.ca.domain().clone(), role: subject.role, name })
}

/// It, as callers are shown it.
///
/// # Errors
/// When the store fails.
pub(super) async fn view(shell: &Shell, whole: Whole) -> Result<SubjectDetails, Fault> {
    let state = whole.state(shell.now());
    let newest = whole.newest().cloned();
    let Whole { subject, lineage, owner, locks } = whole;
    let subject = subject.record;
    let is = |named: &Owner| owner.is_some_and(|person| named.is(&person.record));
    let owner_gone = subject.owner.as_ref().is_some_and(|named| !is(named));
    let convergence: Option<Seen<Convergence>> = match subject.role {
        Role::Machine => shell.get(keys::convergence(&subject.name)).await?,
        Role::Person | Role::Gateway => None,
    };
    let current = lineage.as_ref().and_then(|seen| seen.record.current.as_ref());
    let pending = lineage.as_ref().and_then(|seen| seen.record.pending.as_ref());
    let last_seen = last_seen(shell, &subject, lineage.as_ref().map(|seen| &seen.record));
    Ok(SubjectDetails {
        identity: format!("spiffe://{}/{}/{}", shell.ca.domain().as_str(), subject.role.as_str(), subject.name),
        role: subject.role,
        state,
        labels: subject.labels,
        groups: subject.groups,
        owner: subject.owner.map(|owner| owner.name),
        owner_gone,
        assurance: subject.assurance,
        lineage: subject.lineage,
        serial: current.map(|cert| cert.serial),
        not_after: newest.map(|cert| cert.not_after.0),
        pending_serial: pending.map(|cert| cert.serial),
        created: subject.created.0,
        last_seen,
        renaming: subject.renaming,
        tunnel: tunnel(shell, subject.role, &subject.name),
        locks: locks.into_found().map(lock_view).collect(),
        verified: texts(&subject.claims),
        claimed: subject.attributes,
        convergence: convergence.map(|seen| seen.record),
        name: subject.name,
    })
}

/// When a machine was last seen; nothing for one that has never come.
fn last_seen(shell: &Shell, subject: &Subject, lineage: Option<&Lineage>) -> Option<u64> {
    if subject.role != Role::Machine {
        return None;
    }
    if tunnel(shell, subject.role, &subject.name).is_some() {
        return Some(shell.now().secs());
    }
    let lineage = lineage?;
    Some(lineage.activated.0.max(lineage.last_seen.map_or(0, |at| at.0))).filter(|at| *at > 0)
}

fn tunnel(shell: &Shell, role: Role, name: &str) -> Option<TunnelDetails> {
    let name = pki::Name::parse(name).ok()?;
    let tunnel = shell.tunnels.get(&pki::Identity { domain: shell.ca.domain().clone(), role, name })?;
    let services = tunnel.services();
    Some(TunnelDetails {
        since: tunnel.since().secs(),
        source: tunnel.source(),
        services: services.iter().map(offered).collect(),
    })
}

fn offered(offer: &wire::tunnel::ServiceOffer) -> OfferedService {
    OfferedService { name: offer.name.clone(), sealed: offer.mode == wire::tunnel::Mode::Sealed }
}

fn lock_view(lock: Lock) -> LockDetails {
    LockDetails {
        kind: lock.kind,
        target: lock.target,
        reason: lock.reason,
        by: lock.by,
        at: lock.at.0,
        ended: None,
        hits: vec![],
        suspended: None,
    }
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

/// Sets a lock and cuts what it hits.
///
/// # Errors
/// Why not.
pub async fn lock(shell: &Shell, caller: &Caller, asked: &LockWish, instance: &str) -> Result<LockDetails, Refusal> {
    let kind = kind(&asked.kind)?;
    let who = caller.identity.to_string();
    let (record, lineages) = retrying(|| async {
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
        };
        let mut with = Vec::new();
        if kind == LockKind::Key {
            for lineage in &lineages {
                let key = keys::lock(LockKind::Lineage, &lineage.record.id);
                with.extend(shell.get::<Lock>(key).await?.is_none().then(|| record.with_key(&lineage.record.id)));
            }
        }
        let changes = lock::set(&record, &with, grant.rules(), &epoch);
        shell.commit(changes, &Actor { who: &who, instance }).await?;
        Ok((record, lineages))
    })
    .await?;
    let ended = enforce(shell, kind, &asked.target, &lineages, instance).await;
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
        Some(Seen { record, .. }) => Some(offboard::made(shell, &record).await?),
        None => None,
    };
    Ok(LockDetails { ended: Some(ended), suspended, hits, ..lock_view(record) })
}

/// Ends everything that a lock hits, and writes down how long that took, from the lock's commit to the end of the last
/// session. A session whose end does not come is not waited for, but counted: its connection was cut with it.
async fn enforce(shell: &Shell, kind: LockKind, target: &str, lineages: &[Seen<Lineage>], instance: &str) -> Enforced {
    let began = tokio::time::Instant::now();
    let cut = cut(shell, kind, target, lineages);
    let all = async {
        for session in &cut {
            session.ended().await;
        }
    };
    let _ = tokio::time::timeout(crate::limits::ENFORCE_TIME, all).await;
    let left = cut.iter().filter(|session| session.ended_ms().is_none()).count();
    if left > 0 {
        tracing::error!(instance, kind = kind.as_str(), target, left, "sessions that a lock hit have not ended");
    }
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut changes = Changes::new();
    changes.event(Event::Access(Access::LockEnforced {
        kind: kind.as_str(),
        target: target.to_owned(),
        sessions: cut.len(),
        millis,
        left,
    }));
    // The lock itself is durable; when this is not, the store has stopped and says so.
    let _ = shell.commit(changes, &Actor { who: "gateway", instance }).await;
    Enforced { sessions: cut.len(), millis, left }
}

fn cut(
    shell: &Shell,
    kind: LockKind,
    target: &str,
    lineages: &[Seen<Lineage>],
) -> Vec<std::sync::Arc<sessions::Session>> {
    let locked = wire::tunnel::Reason::Locked;
    let mut ended = Vec::new();
    let mut selectors = Vec::new();
    match kind {
        LockKind::Key => {
            if let Ok(key) = KeyDigest::parse_hex(target) {
                ended.extend(shell.sessions.cut(&sessions::Selector::Key(key), locked));
                // The machines whose tunnels show it.
                for conn in shell.live.find(&Selector::Key(key)) {
                    if let Some(tunnel) = conn.peer().and_then(|peer| shell.tunnels.get(&peer.identity)) {
                        let selector = sessions::Selector::Tunnel(tunnel.number());
                        ended.extend(shell.sessions.cut(&selector, locked));
                    }
                }
                selectors.push(Selector::Key(key));
            }
        }
        LockKind::Machine | LockKind::Person | LockKind::Lineage => {}
    }
    for seen in lineages {
        let Ok(name) = pki::Name::parse(&seen.record.name) else { continue };
        let identity = pki::Identity { domain: shell.ca.domain().clone(), role: seen.record.role, name };
        ended.extend(shell.sessions.cut(&sessions::Selector::Identity(identity.clone()), locked));
        selectors.push(Selector::Identity(identity));
    }
    for selector in selectors {
        shell.live.cut(&selector, Reason::Locked);
    }
    ended
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
