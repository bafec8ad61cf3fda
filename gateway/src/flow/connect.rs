//! Connections to services: who may open one is decided here for every door, and each becomes a session.

use std::{net::IpAddr, sync::Arc};

use pki::{Identity, Peer, Role, SubjectKey};
use wire::tunnel::is_service_name;

use super::{
    admit::{admit, still_of},
    locate::{Located, locate},
    shell::{Actor, Shell, retrying},
    subjects::{Whole, identity, may_see, resource, whole_of},
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

/// Whoever opens a connection, on a connection of theirs that was admitted when it began.
#[derive(Clone, Debug)]
pub struct StreamOpener<'a> {
    /// The certificate they proved last on it.
    pub peer: Arc<Peer>,
    /// That connection.
    pub conn: &'a Conn,
    /// The lineage they were admitted with.
    pub lineage: &'a str,
    /// The tunnel that it is, when it is one.
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

/// A session that was allowed. It stands in the table, so that a lock finds it, and has no stream yet.
#[derive(Debug)]
pub struct Allowed {
    /// Its place in the table.
    pub seat: SessionGuard,
    /// The tunnel that leads to the machine.
    pub tunnel: Arc<Tunnel>,
    /// Who can read what is carried.
    pub mode: Mode,
    /// What the machine's owner may decide by: the groups of a person, the labels of a machine.
    pub labels: Vec<String>,
}

/// Lets a machine hold a tunnel: gives the lineage of its certificate. People's connections to the machine come through it, so a
/// certificate that was replaced is refused also within its grace.
///
/// # Errors
/// Why not; people are told to use the other faces.
pub async fn enter(shell: &Shell, peer: &Peer) -> Result<String, Refusal> {
    if peer.identity.role != Role::Machine {
        return Err(Refusal::WrongCaller(ForWhom::Tunnels));
    }
    let caller = admit(shell, peer, Use::Change, "tunnel").await?;
    Ok(caller.lineage.record.id.clone())
}

/// Allows a connection to a service, each by itself. Whoever carries it notes that it opened, and how it ended.
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
        let (admitted, machine, whole, rules) = authorise(shell, look, caller, wanted)?;
        let located = locate(shell, look, &machine)?;
        Ok((admitted, machine, whole, rules, located))
    };
    let (admitted, machine, whole, rules, located) = shell.look::<_, Refusal>(may).await?;
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
        machine_lineage: whole.subject.record.lineage.clone(),
        tunnel: tunnel.number(),
        service: wanted.service.clone(),
        mode,
        rules,
        door,
        started_ms: shell.clock.now_ms(),
    };
    // In the table before it is open: a lock that is set meanwhile must find it.
    let seat = shell.sessions.enter(hex::encode(shell.entropy.bytes::<8>()), about);
    // The enforcer walks the table once for each lock, removal and policy. One that came before this was in it is asked about here.
    if (!Arc::ptr_eq(&asked, &shell.rules.load()) || turns != shell.enforcer.turns())
        && let Err(denied) = shell.look(may).await
    {
        seat.session().cut(EndReason::Policy);
        end(shell, seat);
        return Err(denied);
    }
    Ok(Allowed { seat, tunnel, mode, labels: labels(&admitted) })
}

/// The caller as they stand, the machine meant, if they may go there, and the rules that say so.
fn authorise(
    shell: &Shell,
    look: &Look,
    opener: &StreamOpener<'_>,
    wanted: &WantedService,
) -> Result<(Box<admission::Caller>, Identity, Whole, Vec<String>), Refusal> {
    // Before it is known whether the caller may ask: so both are looked up together.
    let found = whole_of(look, Role::Machine, &wanted.machine);
    let caller = still_of(look, &opener.peer, opener.lineage, shell.now())?;
    if !is_service_name(&wanted.service) {
        return Err(Refusal::Malformed(Malformed::ServiceName(wanted.service.escape_debug().to_string())));
    }
    let absent = Refusal::NotFound(Missing::Machine);
    let whole = found?.ok_or_else(|| absent.clone())?;
    match may_connect(shell, &caller, &whole, &wanted.service) {
        Ok(rules) => Ok((caller, identity(shell, &whole.subject.record)?, whole, rules)),
        // One answer for what is not there and for what the caller may not know of.
        Err(denied) => Err(if may_see(shell, &caller, &whole) { denied } else { absent }),
    }
}

/// Asks the policy: `connect` of a person, `reach` of a machine.
///
/// # Errors
/// [`Refusal::Denied`].
pub(super) fn may_connect(
    shell: &Shell,
    caller: &admission::Caller,
    whole: &Whole,
    service: &str,
) -> Result<Vec<String>, Refusal> {
    let resource = service_of(shell, whole, service)?;
    let action = match caller.identity.role {
        Role::Person => policy::Action::Connect,
        Role::Machine | Role::Gateway => policy::Action::Reach,
    };
    let grant = permit(&shell.rules.load(), caller, action, resource, shell.now())?;
    Ok(grant.rules().to_vec())
}

/// A service in the policy's words.
///
/// # Errors
/// [`Refusal::NotFound`] when it is not a machine's.
pub(super) fn service_of(shell: &Shell, whole: &Whole, service: &str) -> Result<policy::Resource, Refusal> {
    match resource(shell, whole) {
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

/// Writes down that a session was opened. No byte moves before it is durable.
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

/// The session is over: it leaves the table at once, and the audit hears of it.
pub async fn finish(shell: &Shell, seat: SessionGuard) {
    let session = end(shell, seat);
    note_closed(shell, &session).await;
}

/// It leaves the table.
pub fn end(shell: &Shell, seat: SessionGuard) -> Arc<Session> {
    let session = Arc::clone(seat.session());
    seat.end(shell.clock.now_ms());
    session
}

/// Writes down how a session ended that has left the table.
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
    // The store says so by itself when it has stopped, and the gateway ends.
    let _ = commit(shell, changes, &Actor { who: "gateway", instance: session.id() }).await;
}

/// One line for a connection that did not come about.
pub fn log_refused(caller: &Identity, wanted: &WantedService, refusal: &Refusal, instance: &str) {
    let WantedService { service, machine } = wanted;
    match refusal {
        Refusal::Ours(fault) => tracing::error!(instance, %caller, service, machine, %fault, "connection failed"),
        other => tracing::info!(instance, %caller, service, machine, refusal = %other, "connection refused"),
    }
}

/// A certificate that was renewed while a connection was open, and the proof that its key is here.
#[derive(Clone, Debug)]
pub struct RenewedCertificate<'a> {
    /// The leaf, DER, and then its issuing CA.
    pub chain: Vec<Vec<u8>>,
    /// A proof by the leaf's key.
    pub proof: &'a str,
    /// The method that the proof must be for.
    pub method: &'a str,
    /// The path that the proof must be for.
    pub path: &'a str,
}

/// Checks the certificate that a machine or person renewed while their connection was open. Its first use makes it current, as
/// on any other connection.
///
/// # Errors
/// Why it does not count.
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
    // Its sessions are found by the lineage they began with.
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

/// A tunnel from this address took the place of another of the same machine. From elsewhere, while the other was alive, that may be
/// a copy.
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

/// Whoever holds an end of a session says that it is gone. `theirs` is what they may say that of, `reason` what it means for the
/// other end.
pub fn abandoned(shell: &Shell, session: &str, theirs: &SessionSelector, reason: EndReason) {
    for found in shell.sessions.find(&SessionSelector::Id(session.to_owned())) {
        if theirs.matches(&found) {
            found.cut(reason);
        }
    }
}

/// How exactly it is remembered when a machine was last seen: a tunnel that comes and goes writes no more often.
const LAST_SEEN_STEP: u64 = 60;

/// Remembers that a machine was here until now. When that fails it was last seen at its last renewal.
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

/// A tunnel ended, and with it every session that went through it.
pub fn tunnel_ended(shell: &Shell, tunnel: &Tunnel, reason: EndReason) {
    shell.sessions.cut(&SessionSelector::Tunnel(tunnel.number()), reason);
}
