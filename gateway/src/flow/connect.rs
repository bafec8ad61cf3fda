//! Connections to services: whether the caller may open one is decided here for every way in, and each becomes a session.

use std::{net::IpAddr, sync::Arc};

use pki::{Identity, Peer, Role, SubjectKey};
use wire::tunnel::is_service_name;

use super::{
    admit::{admit, recheck_in},
    locate::{Located, locate},
    shell::{Actor, Shell, retrying},
    subjects::{SubjectRecords, find_subject, identity, may_see, resource},
};
use crate::{
    core::{
        admission::{self, Use},
        audit::{AccessEvent, Event},
        change::Changes,
        facts::permit,
        keys,
        look::Look,
        proof::{self, Expected},
        records::{Lineage, Seen},
        refusal::{ForWhom, Malformed, Missing, Refusal, Unreached},
        session::{EndReason, Mode},
    },
    limits::{SESSIONS_PER_CALLER, TUNNEL_TWICE},
    registry::{
        live::Conn,
        sessions::{EntryPoint, Party, Session, SessionGuard, SessionInfo, SessionSelector},
        tunnels::Tunnel,
    },
};

/// The caller who opens a session, on a connection that was admitted when it began.
#[derive(Clone, Debug)]
pub struct StreamOpener<'a> {
    /// The certificate that was proven last on it.
    pub peer: Arc<Peer>,
    /// The connection.
    pub conn: &'a Conn,
    /// The lineage of the admission.
    pub lineage: &'a str,
    /// The tunnel, if the connection is one.
    pub tunnel: Option<u64>,
}

/// A service on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedService {
    /// The service.
    pub service: String,
    /// The machine.
    pub machine: String,
}

/// A permitted session. It is in the table, so that locks apply to it, but has no stream yet.
#[derive(Debug)]
pub struct Allowed {
    /// Its place in the table.
    pub seat: SessionGuard,
    /// The tunnel of the machine.
    pub tunnel: Arc<Tunnel>,
    /// Who can read the traffic.
    pub mode: Mode,
    /// What the machine's own decision is based on: the groups of a person, the labels of a machine.
    pub labels: Vec<String>,
}

/// Admits a machine for a tunnel, and returns the lineage of its certificate. People reach the machine through it, so a replaced
/// certificate is refused even within its grace period.
///
/// # Errors
/// The reason for the refusal; people are referred to the other faces.
pub async fn enter(shell: &Shell, peer: &Peer) -> Result<String, Refusal> {
    if peer.identity.role != Role::Machine {
        return Err(Refusal::WrongCaller(ForWhom::Tunnels));
    }
    let caller = admit(shell, peer, Use::Change, "tunnel").await?;
    Ok(caller.lineage.record.id.clone())
}

/// Permits one connection to a service. The caller of this function records its opening and its end.
///
/// # Errors
/// [`Refusal::NotFound`] for what the caller may not know of; [`Refusal::Denied`] by policy; [`Refusal::Service`] when the
/// machine is not there or does not expose it.
pub async fn allow(
    shell: &Shell,
    caller: &StreamOpener<'_>,
    door: EntryPoint,
    wanted: &WantedService,
) -> Result<Allowed, Refusal> {
    let (asked, turns) = (shell.rules.load_full(), shell.enforcer.turns());
    let may = |look: &Look| {
        look.expect([keys::tunnel(&wanted.machine)]);
        let (admitted, machine, records, rules) = authorise(shell, look, caller, wanted)?;
        let located = locate(shell, look, &machine)?;
        Ok((admitted, machine, records, rules, located))
    };
    let (admitted, machine, records, rules, located) = shell.look::<_, Refusal>(may).await?;
    let tunnel = match located {
        Located::Local(tunnel) => tunnel,
        Located::Remote(gateway) => {
            return Err(Unreached::Elsewhere { machine: wanted.machine.clone(), gateway }.into());
        }
        Located::Nowhere => return Err(Unreached::Offline { machine: wanted.machine.clone() }.into()),
    };
    let mode = tunnel.mode(&wanted.service)?;
    if shell.sessions.count_by(&admitted.identity) >= SESSIONS_PER_CALLER {
        let many = format!("{SESSIONS_PER_CALLER} sessions of `{}` are open, which is the most", admitted.identity);
        return Err(Unreached::TooMany(many).into());
    }
    let about = SessionInfo {
        caller: Party {
            identity: admitted.identity.clone(),
            lineage: caller.lineage.to_owned(),
            key: caller.peer.key,
            conn: caller.conn.id(),
            tunnel: caller.tunnel,
            source: caller.conn.source(),
        },
        machine,
        machine_lineage: records.subject.record.lineage.clone(),
        tunnel: tunnel.number(),
        service: wanted.service.clone(),
        mode,
        rules,
        door,
        started_ms: shell.clock.now_ms(),
    };
    // In the table before it is open, so that a lock set meanwhile applies to it.
    let seat = shell.sessions.enter(hex::encode(shell.entropy.bytes::<8>()), about);
    // The enforcer walks the table once for each lock, removal and policy. Those before this session entered the table are checked
    // here.
    if (!Arc::ptr_eq(&asked, &shell.rules.load()) || turns != shell.enforcer.turns())
        && let Err(denied) = shell.look(may).await
    {
        seat.session().cut(EndReason::Policy);
        end(shell, seat);
        return Err(denied);
    }
    Ok(Allowed { seat, tunnel, mode, labels: labels(&admitted) })
}

/// The caller's current records, the machine, and the rules that permit the connection.
fn authorise(
    shell: &Shell,
    look: &Look,
    opener: &StreamOpener<'_>,
    wanted: &WantedService,
) -> Result<(Box<admission::Caller>, Identity, SubjectRecords, Vec<String>), Refusal> {
    // Looked up before the caller is checked, so that both are read together.
    let found = find_subject(look, Role::Machine, &wanted.machine);
    let caller = recheck_in(look, &opener.peer, opener.lineage, shell.now())?;
    if !is_service_name(&wanted.service) {
        return Err(Refusal::Malformed(Malformed::ServiceName(wanted.service.escape_debug().to_string())));
    }
    let absent = Refusal::NotFound(Missing::Machine);
    let records = found?.ok_or_else(|| absent.clone())?;
    match may_connect(shell, &caller, &records, &wanted.service) {
        Ok(rules) => Ok((caller, identity(shell, &records.subject.record)?, records, rules)),
        // The same answer for a missing machine and for one that the caller may not know of.
        Err(denied) => Err(if may_see(shell, &caller, &records) { denied } else { absent }),
    }
}

/// Asks the policy: `connect` of a person, `reach` of a machine.
///
/// # Errors
/// [`Refusal::Denied`].
pub(super) fn may_connect(
    shell: &Shell,
    caller: &admission::Caller,
    records: &SubjectRecords,
    service: &str,
) -> Result<Vec<String>, Refusal> {
    let resource = service_of(shell, records, service)?;
    let action = match caller.identity.role {
        Role::Person => policy::Action::Connect,
        Role::Machine | Role::Gateway => policy::Action::Reach,
    };
    let grant = permit(&shell.rules.load(), caller, action, resource, shell.now())?;
    Ok(grant.rules().to_vec())
}

/// A service as a policy resource.
///
/// # Errors
/// [`Refusal::NotFound`] when it is not a machine's.
pub(super) fn service_of(shell: &Shell, records: &SubjectRecords, service: &str) -> Result<policy::Resource, Refusal> {
    match resource(shell, records) {
        policy::Resource::Machine(machine) => {
            Ok(policy::Resource::Service(policy::Service { name: service.to_owned(), machine }))
        }
        policy::Resource::Gateway
        | policy::Resource::Request(_)
        | policy::Resource::Person(_)
        | policy::Resource::Service(_)
        | policy::Resource::Token(_) => Err(Refusal::NotFound(Missing::Machine)),
    }
}

/// See [`Allowed::labels`].
fn labels(caller: &admission::Caller) -> Vec<String> {
    let subject = &caller.subject.record;
    match subject.role {
        Role::Person => subject.groups.clone(),
        Role::Machine | Role::Gateway => subject.labels.iter().map(|(key, value)| format!("{key}={value}")).collect(),
    }
}

/// Records that a session was opened. No byte is carried before that is durable.
///
/// # Errors
/// When the store fails.
pub async fn note_opened(shell: &Shell, session: &Session, instance: &str) -> Result<(), Refusal> {
    let about = session.about();
    let mut changes = Changes::new();
    changes.event(Event::Access(AccessEvent::SessionOpened {
        session: session.id().to_owned(),
        machine: about.machine.to_string(),
        service: about.service.clone(),
        door: about.door.as_str(),
        source: about.caller.source.to_string(),
        rules: about.rules.clone(),
    }));
    let who = about.caller.identity.to_string();
    commit(shell, changes, &Actor { who: &who, instance }).await
}

async fn commit(shell: &Shell, changes: Changes, actor: &Actor<'_>) -> Result<(), Refusal> {
    shell.commit(changes, actor).await.map(drop).map_err(Refusal::from)
}

/// Ends a session: it leaves the table at once, and its end is recorded.
pub async fn finish(shell: &Shell, seat: SessionGuard) {
    let session = end(shell, seat);
    note_closed(shell, &session).await;
}

/// Ends a session: removes it from the table.
pub fn end(shell: &Shell, seat: SessionGuard) -> Arc<Session> {
    let session = Arc::clone(seat.session());
    seat.end(shell.clock.now_ms());
    session
}

/// Records the end of a session that has left the table.
pub async fn note_closed(shell: &Shell, session: &Session) {
    let about = session.about();
    let reason = session.reason().unwrap_or(EndReason::Peer);
    let (to_machine, from_machine) = session.bytes();
    shell.metrics.session_ended(reason.as_str());
    shell.metrics.sessions(shell.sessions.len());
    let mut changes = Changes::new();
    changes.event(Event::Access(AccessEvent::SessionClosed {
        session: session.id().to_owned(),
        caller: about.caller.identity.to_string(),
        machine: about.machine.to_string(),
        service: about.service.clone(),
        reason: reason.as_str(),
        to_machine,
        from_machine,
        millis: session.ended_ms().unwrap_or(about.started_ms).saturating_sub(about.started_ms),
    }));
    // If the store has stopped, the store itself reports it, and the gateway ends.
    let _ = commit(shell, changes, &Actor { who: "gateway", instance: session.id() }).await;
}

/// Logs a connection that was refused or failed.
pub fn log_refused(caller: &Identity, wanted: &WantedService, refusal: &Refusal, instance: &str) {
    let WantedService { service, machine } = wanted;
    match refusal {
        Refusal::Ours(fault) => tracing::error!(instance, %caller, service, machine, %fault, "connection failed"),
        other => tracing::info!(instance, %caller, service, machine, refusal = %other, "connection refused"),
    }
}

/// A certificate that was renewed while a connection was open, and the proof of its key.
#[derive(Clone, Debug)]
pub struct RenewedCertificate<'a> {
    /// The leaf, then its issuing CA, DER.
    pub chain: Vec<Vec<u8>>,
    /// A proof by the leaf's key.
    pub proof: &'a str,
    /// The method that the proof must be for.
    pub method: &'a str,
    /// The path that the proof must be for.
    pub path: &'a str,
}

/// Verifies a certificate that was renewed while the holder's connection was open. As on any other connection, its first use makes it
/// current.
///
/// # Errors
/// The reason why it is not accepted.
pub async fn reauthenticate(
    shell: &Shell,
    identity: &Identity,
    lineage: &str,
    exporter: &[u8; 32],
    renewed: &RenewedCertificate<'_>,
) -> Result<Peer, Refusal> {
    let Some((leaf, issuers)) = renewed.chain.split_first() else { return Err(not_renewed("is missing")) };
    let issuers: Vec<&[u8]> = issuers.iter().map(Vec::as_slice).collect();
    let peer = pki::verify_peer(leaf, &issuers, shell.ca().anchors(), &[identity.role], shell.now())
        .map_err(|error| not_renewed(&format!("is not good: {error}")))?;
    if peer.identity != *identity {
        return Err(not_renewed("names somebody else"));
    }
    let key = SubjectKey::from_spki_der(&peer.spki)
        .map_err(|error| not_renewed(&format!("has a key we do not take: {error}")))?;
    let settings = shell.settings.load();
    let hosts = match identity.role {
        Role::Person => &settings.proxy_hosts,
        Role::Machine | Role::Gateway => &settings.tunnel_hosts,
    };
    let expected = Expected { method: renewed.method, path: renewed.path, hosts, exporter };
    proof::check(renewed.proof, &key, &expected, shell.now())?;
    let caller = admit(shell, &peer, Use::Change, "renewed").await?;
    // Sessions are found by the lineage of their start.
    if caller.lineage.record.id != lineage {
        return Err(not_renewed("is of another lineage; connect anew"));
    }
    Ok(peer)
}

/// What is wrong with a renewed certificate.
#[must_use]
pub fn not_renewed(what: &str) -> Refusal {
    Refusal::Malformed(Malformed::Renewed(what.to_owned()))
}

/// Records that a tunnel from the address `now` replaced another tunnel of the same machine. If the old one was alive and came from a
/// different address, the certificate may have been copied.
pub async fn replaced(shell: &Shell, before: &Tunnel, now: IpAddr) {
    if before.source() == now || before.silence() > TUNNEL_TWICE {
        return;
    }
    let machine = before.identity().to_string();
    tracing::warn!(machine, before = %before.source(), %now, "a second tunnel of one machine, from another address");
    let mut changes = Changes::new();
    let (before, now) = (before.source().to_string(), now.to_string());
    changes.event(Event::Access(AccessEvent::TunnelTwice { machine, before, now }));
    let _ = commit(shell, changes, &Actor { who: "gateway", instance: "tunnel" }).await;
}

/// Ends a session because one of its ends reported that it is gone. `theirs` selects the sessions that the reporter takes part in,
/// `reason` is what the other end is told.
pub fn abandoned(shell: &Shell, session: &str, theirs: &SessionSelector, reason: EndReason) {
    for found in shell.sessions.find(&SessionSelector::Id(session.to_owned())) {
        if theirs.matches(&found) {
            found.cut(reason);
        }
    }
}

/// Precision of the time when a machine was last seen: limits the writes for a tunnel that comes and goes.
const LAST_SEEN_STEP: u64 = 60;

/// Records that the machine was here until now. If that fails, the time of its last renewal counts.
pub async fn last_seen(shell: &Shell, lineage: &str) {
    let _ = retrying(|| async {
        let seen: Option<Seen<Lineage>> = shell.get(keys::lineage(lineage)).await?;
        let now = shell.now();
        let Some(seen) = seen.filter(|seen| !seen.record.ended) else { return Ok(()) };
        if seen.record.last_seen.is_some_and(|at| at.0 <= now.secs() && now.secs() - at.0 < LAST_SEEN_STEP) {
            return Ok(());
        }
        let mut changes = Changes::new();
        let record = Lineage { last_seen: Some(now.into()), ..seen.record.clone() };
        changes.update(keys::lineage(lineage), &seen, &record);
        shell.commit(changes, &Actor { who: "gateway", instance: "tunnel" }).await?;
        Ok(())
    })
    .await;
}

/// Cuts all sessions of a tunnel that ended.
pub fn tunnel_ended(shell: &Shell, tunnel: &Tunnel, reason: EndReason) {
    shell.sessions.cut(&SessionSelector::Tunnel(tunnel.number()), reason);
}
