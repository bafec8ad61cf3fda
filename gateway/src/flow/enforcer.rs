//! The one task of a process that ends connections, sessions and tunnels because of changes in the store. It watches locks, machines,
//! people, tunnels and the digest of the policy, whether a request here or another gateway of the store commits them. A request only
//! commits, and waits until its changes have been enforced here.
//!
//! | what was committed | what ends |
//! |---|---|
//! | a lock | every session and connection that it applies to; `lock.enforced` records how long that took |
//! | a machine or person is gone | all of theirs; under its old name if it was renamed |
//! | labels, groups or owner of one | those of its sessions that the policy no longer permits |
//! | another policy | the same, for all sessions |
//! | a machine's tunnel is up at another gateway | the older one here |
//! | the watch missed commits | everything is checked again |
//!
//! While the store cannot be reached nothing ends for [`STORE_GRACE`]; after that everything does, because locks cannot be seen.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use pki::{Identity, KeyDigest, Role};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    page::All,
    sessions as policy_check,
    shell::{Actor, Shell, readable},
    tunnel_records,
};
use crate::{
    core::{
        audit::{AccessEvent, Event},
        change::Changes,
        keys,
        look::Look,
        records::{KeptName, Lineage, Lock, LockKind, Seen, Subject},
        refusal::Fault,
        session::EndReason,
    },
    limits::{ENFORCE_TIME, STORE_GRACE, STORE_LOOK, WATCHDOG_READ},
    registry::{
        enforcer::{Enforced, RecheckOrder},
        live,
        sessions::{Session, SessionSelector},
    },
    store::{Batch, Change, Commit, Key, Reported, Version, Watch},
};

/// Most machines and people, or commits, processed together.
const AT_ONCE: usize = 64;

/// How long two gateways may have different policies before one reads its files again.
const POLICY_SETTLES: Duration = Duration::from_secs(1);

/// Starts the task. Call it before anything is served: it sees the commits from now on.
pub fn start(shell: &Arc<Shell>) -> Option<JoinHandle<()>> {
    let orders = shell.enforcer.orders()?;
    let watched = [keys::LOCKS, keys::SUBJECTS, keys::POLICY, keys::TUNNELS].map(Key::from);
    let watch = shell.store.watch(watched.to_vec());
    Some(tokio::spawn(run(Arc::downgrade(shell), watch, orders)))
}

/// What wakes the task.
enum Woken {
    Changed(Option<Change>),
    Ordered(Option<RecheckOrder>),
    Looks,
}

async fn run(shell: Weak<Shell>, mut watch: Watch, mut orders: mpsc::Receiver<RecheckOrder>) {
    // What could not be enforced at once is found by checking everything.
    let mut behind = false;
    let mut reached = Instant::now();
    loop {
        let woken = tokio::select! {
            biased;
            change = watch.next() => Woken::Changed(change),
            order = orders.recv() => Woken::Ordered(order),
            () = sleep(STORE_LOOK) => Woken::Looks,
        };
        let Some(shell) = shell.upgrade() else { return };
        let mut all = behind;
        let done = match woken {
            Woken::Changed(None) | Woken::Ordered(None) => return,
            Woken::Changed(Some(first)) => {
                // Of two changes in one group the lock goes first, so that its reason counts.
                let Reported { commits, lagged } = watch.with_ready(first, AT_ONCE);
                all |= commits.is_empty();
                behind |= lagged;
                if all {
                    answered(everything(&shell)).await
                } else {
                    answered(written(&shell, &commits)).await.inspect_err(|_| behind = true)
                }
            }
            Woken::Ordered(Some(done)) => {
                shell.enforcer.turn();
                let rechecked = policy_check::recheck(&shell).await;
                behind |= rechecked.later > 0;
                // The request may have ended.
                let _ = done.send(rechecked);
                continue;
            }
            Woken::Looks if all => answered(everything(&shell)).await,
            Woken::Looks => answered(shell.get::<u64>(keys::EPOCH.to_owned())).await.map(drop),
        };
        match done {
            Ok(()) => {
                reached = Instant::now();
                behind &= !all;
            }
            Err(fault) => {
                tracing::error!(%fault, "the store does not say whose connections must end; it is asked again");
                if reached.elapsed() >= STORE_GRACE {
                    end_all(&shell);
                }
            }
        }
    }
}

/// Limited, in case the store hangs.
async fn answered<T>(asked: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let silent = || Fault::Read(format!("no answer for {} s", WATCHDOG_READ.as_secs()));
    timeout(WATCHDOG_READ, asked).await.map_err(|_| silent())?
}

/// Locks could not be seen for too long: everything ends, and whoever is still permitted connects again.
fn end_all(shell: &Shell) {
    shell.enforcer.turn();
    let ended = shell.sessions.cut(&SessionSelector::All, EndReason::Drained).len();
    let cut = shell.live.cut(&live::ConnSelector::All, live::CloseReason::Stopped);
    if ended + cut > 0 {
        tracing::error!(
            ended,
            cut,
            "the store could not be reached for {} s: all connections end",
            STORE_GRACE.as_secs()
        );
    }
}

/// The current records under the keys that a commit wrote.
#[derive(Default)]
struct Written {
    locks: Vec<Seen<Lock>>,
    lineages: Vec<Seen<Lineage>>,
    subjects: Vec<(Identity, SubjectState)>,
    policy: Option<String>,
}

/// State of a machine or person after a commit.
#[derive(Copy, Clone, PartialEq, Eq)]
enum SubjectState {
    Here,
    Renamed,
    Gone,
}

async fn look_up(shell: &Shell, commits: &[Commit]) -> Result<Written, Fault> {
    let texts: BTreeSet<String> = commits.iter().flat_map(|(_, keys)| keys).map(ToString::to_string).collect();
    let locks: Vec<&String> = texts.iter().filter(|text| text.starts_with(keys::LOCKS)).collect();
    let subjects = texts.iter().filter_map(|text| keys::subject_of(text));
    let subjects: Vec<Identity> = subjects.filter_map(|(role, name)| identity(shell, role, name)).collect();
    // Nothing can end for a subject without connections here, such as a new one. One that connects meanwhile is checked at that time.
    shell.enforcer.turn();
    let subjects: Vec<Identity> = subjects.into_iter().filter(|identity| is_here(shell, identity)).collect();
    let asks_for_policy = !locks.is_empty() || !subjects.is_empty() || texts.contains(keys::POLICY);
    let looked = |look: &Look| {
        let mut found = Written::default();
        for key in &locks {
            found.locks.extend(look.get::<Lock>(key)?);
        }
        for identity in &subjects {
            let (role, name) = (identity.role, identity.name.as_str());
            // An unreadable one exists; the policy cannot be asked about it, which counts as a denial.
            let subject = readable(look.get::<Subject>(&keys::subject(role, name)))?;
            let kept = readable(look.get::<KeptName>(&keys::kept_name(role, name)))?;
            let stands = match (subject, kept) {
                (Some(None), Some(None)) => SubjectState::Gone,
                (Some(None), _) => SubjectState::Renamed,
                (Some(Some(_)) | None, _) => SubjectState::Here,
            };
            found.subjects.push((identity.clone(), stands));
        }
        if asks_for_policy {
            found.policy = look.get::<String>(keys::POLICY)?.map(|seen| seen.record);
        }
        found.lineages = lineages(look, &found.locks)?;
        Ok(found)
    };
    shell.look(looked).await
}

/// Whether the subject has anything open here.
fn is_here(shell: &Shell, identity: &Identity) -> bool {
    !shell.live.find(&live::ConnSelector::Identity(identity.clone())).is_empty()
        || !shell.sessions.find(&SessionSelector::Identity(identity.clone())).is_empty()
}

/// The lineages with a lock.
fn lineages(look: &Look, locks: &[Seen<Lock>]) -> Result<Vec<Seen<Lineage>>, Fault> {
    let of_lineage = locks.iter().filter(|seen| seen.record.kind == LockKind::Lineage);
    let found = of_lineage.map(|seen| Ok(readable(look.get(&keys::lineage(&seen.record.target)))?.flatten()));
    Ok(found.collect::<Result<Vec<_>, Fault>>()?.into_iter().flatten().collect())
}

fn identity(shell: &Shell, role: Role, name: &str) -> Option<Identity> {
    let name = pki::Name::parse(name).ok()?;
    Some(Identity { domain: shell.domain.clone(), role, name })
}

/// Ends what must end because of these commits.
async fn written(shell: &Arc<Shell>, commits: &[Commit]) -> Result<(), Fault> {
    let began = Instant::now();
    let mut found = look_up(shell, commits).await?;
    shell.enforcer.turn();
    for (version, keys) in commits {
        let of_this = |seen: &mut Seen<Lock>| seen.version == *version;
        let locks: Vec<Seen<Lock>> = found.locks.extract_if(.., of_this).collect();
        let hit = cut(shell, &locks, &found.lineages);
        // A lock on a key comes with locks on its lineages, and is reported for them.
        match locks.into_iter().map(|seen| seen.record).min_by_key(|lock| lock.of_key.is_some()) {
            Some(lock) => drop(tokio::spawn(measured(Arc::clone(shell), *version, lock, hit, began))),
            // It was lifted or replaced meanwhile.
            None if keys.iter().any(|key| key.as_bytes().starts_with(keys::LOCKS.as_bytes())) => {
                shell.enforcer.ended(*version, Enforced { sessions: 0, millis: 0, left: 0 });
            }
            None => {}
        }
    }
    let mut later = 0;
    for (identity, stands) in &found.subjects {
        match stands {
            SubjectState::Gone => end_of(shell, identity, EndReason::Killed, live::CloseReason::Killed),
            // The machine reconnects under its new name, under which locks find all of it.
            SubjectState::Renamed => end_of(shell, identity, EndReason::Replaced, live::CloseReason::Drained),
            SubjectState::Here => {
                later += policy_check::recheck_of(shell, &SessionSelector::Identity(identity.clone())).await.later
            }
        }
    }
    tunnel_records::end_overtaken(shell, commits).await?;
    if later > 0 {
        return Err(Fault::Read(format!("{later} sessions could not be asked about")));
    }
    let newest = commits.iter().map(|(version, _)| *version).max().unwrap_or_default();
    passed(shell, newest);
    if found.policy.is_some_and(|digest| digest != shell.rules.load().digest()) {
        tokio::spawn(differs(Arc::clone(shell)));
    }
    Ok(())
}

fn end_of(shell: &Shell, identity: &Identity, reason: EndReason, of_connections: live::CloseReason) {
    shell.sessions.cut(&SessionSelector::Identity(identity.clone()), reason);
    shell.live.cut(&live::ConnSelector::Identity(identity.clone()), of_connections);
}

/// Cuts everything that the locks apply to: first sessions, then their connections. Returns the sessions.
fn cut(shell: &Shell, locks: &[Seen<Lock>], lineages: &[Seen<Lineage>]) -> Vec<Arc<Session>> {
    let (mut hit, mut connections) = (Vec::new(), Vec::new());
    let mut end = |selector: &SessionSelector| hit.extend(shell.sessions.cut(selector, EndReason::Locked));
    for lock in locks.iter().map(|seen| &seen.record) {
        let whose = match lock.kind {
            LockKind::Machine => identity(shell, Role::Machine, &lock.target),
            LockKind::Person => identity(shell, Role::Person, &lock.target),
            LockKind::Lineage => {
                end(&SessionSelector::Lineage(lock.target.clone()));
                let lineage = lineages.iter().find(|seen| seen.record.id == lock.target);
                lineage.and_then(|seen| identity(shell, seen.record.role, &seen.record.name))
            }
            LockKind::Key => {
                if let Ok(key) = KeyDigest::parse_hex(&lock.target) {
                    end(&SessionSelector::Key(key));
                    // Sessions through tunnels with the locked certificate.
                    for tunnel in shell.tunnels.by_key(&key) {
                        end(&SessionSelector::Tunnel(tunnel));
                    }
                    connections.push(live::ConnSelector::Key(key));
                }
                None
            }
        };
        if let Some(identity) = whose {
            end(&SessionSelector::Identity(identity.clone()));
            connections.push(live::ConnSelector::Identity(identity));
        }
    }
    for selector in &connections {
        shell.live.cut(selector, live::CloseReason::Locked);
    }
    hit
}

/// Waits until the last session under a lock has ended, and records how long that took since the lock was seen. A session that does not
/// end in time is counted; its connection was cut with it.
async fn measured(shell: Arc<Shell>, version: Version, lock: Lock, hit: Vec<Arc<Session>>, began: Instant) {
    let all = async {
        for session in &hit {
            session.ended().await;
        }
    };
    let _ = timeout(ENFORCE_TIME, all).await;
    let left = hit.iter().filter(|session| session.ended_ms().is_none()).count();
    let (kind, instance) = (lock.kind.as_str(), lock.instance.as_str());
    if left > 0 {
        tracing::error!(instance, kind, lock.target, left, "sessions that a lock should end are still open");
    }
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let sessions = hit.len();
    let mut changes = Changes::new();
    changes.event(Event::Access(AccessEvent::LockEnforced {
        kind,
        target: lock.target.clone(),
        sessions,
        millis,
        left,
    }));
    // The lock itself is durable and enforced; the log has this too.
    if let Err(error) = shell.commit(changes, &Actor { who: "gateway", instance }).await {
        tracing::error!(
            instance,
            kind,
            lock.target,
            sessions,
            millis,
            left,
            ?error,
            "a lock was enforced, and the audit lacks it"
        );
    }
    shell.enforcer.ended(version, Enforced { sessions, millis, left });
}

/// Another gateway has activated another policy. Each gateway records its policy before activating it, so the two may agree a moment
/// later.
async fn differs(shell: Arc<Shell>) {
    sleep(POLICY_SETTLES).await;
    if let Ok(Some(digest)) = shell.get::<String>(keys::POLICY.to_owned()).await
        && digest.record != shell.rules.load().digest()
    {
        shell.enforcer.policy_elsewhere.notify_one();
    }
}

/// Checks everything, because notifications were missed.
async fn everything(shell: &Arc<Shell>) -> Result<(), Fault> {
    let newest = shell.store.commit(Batch::default()).await.map_err(|error| Fault::Read(error.to_string()))?;
    shell.enforcer.turn();
    let mut all = All::<Lock>::of(shell, keys::LOCKS, None);
    let mut locks = Vec::new();
    while let Some((_, seen)) = all.next().await? {
        locks.push(seen);
    }
    let lineages = shell.look(|look| lineages(look, &locks)).await?;
    cut(shell, &locks, &lineages);
    let mut known: Vec<Identity> = shell
        .live
        .find(&live::ConnSelector::All)
        .iter()
        .filter_map(|conn| Some(conn.requester().ours()?.identity.clone()))
        .collect();
    known.sort();
    known.dedup();
    for some in known.chunks(AT_ONCE) {
        let gone = |look: &Look, one: &Identity| {
            let found = readable(look.get::<Subject>(&keys::subject(one.role, one.name.as_str())))?;
            Ok(found.is_some_and(|found| found.is_none()))
        };
        let gone = |look: &Look| some.iter().map(|one| gone(look, one)).collect();
        let gone: Vec<bool> = shell.look::<_, Fault>(gone).await?;
        for (identity, _) in some.iter().zip(gone).filter(|(_, gone)| *gone) {
            end_of(shell, identity, EndReason::Killed, live::CloseReason::Killed);
        }
    }
    tunnel_records::end_older(shell, &shell.tunnels.machines()).await?;
    let rechecked = policy_check::recheck(shell).await;
    if rechecked.later > 0 {
        return Err(Fault::Read(format!("{} sessions could not be asked about", rechecked.later)));
    }
    passed(shell, newest);
    Ok(())
}

/// Everything that must end because of commits up to this one was told to end.
fn passed(shell: &Shell, version: Version) {
    shell.tunnels.has_passed(version);
    shell.enforcer.has_passed(version);
}
