//! Connections to services: who may open one is decided here for every door, and each becomes a session.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{Identity, Peer, Role, SubjectKey};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};
use wire::tunnel::{
    Mode, Open, REAUTH_METHOD, REAUTH_PATH, Reach, Reached, Reason, Reauthenticate, ToMachine, is_service_name,
};

use super::{
    admin::{Whole, identity, may_see, resource, whole_of},
    admit::{admit, still},
    shell::{Actor, Shell, retrying},
};
use crate::{
    core::{
        admission::{self, Use},
        approve::permit,
        audit::{Access, Event},
        change::Changes,
        keys,
        proof::{self, Expected},
        records::{Lineage, Seen},
        refusal::{ForWhom, Malformed, Missing, Refusal, Unreached},
    },
    edge::{
        dial_back::{self, Awaited, Movable},
        fronts::native::problem,
        tunnel::{Carried, Stream, StreamSeat, Tunnel, carry, read_frame, write_frame},
    },
    limits::{CUT_GRACE, FATE_TIME, OPEN_TIME, SESSIONS_PER_CALLER, TUNNEL_TWICE},
    registry::{
        live::Conn,
        sessions::{About, Door, Party, Seat, Selector, Session},
    },
};

/// Whoever opens a connection, on a connection of theirs that was admitted when it began.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    /// The certificate they proved last on it.
    pub peer: Peer,
    /// That connection.
    pub conn: &'a Conn,
    /// The lineage they were admitted with.
    pub lineage: &'a str,
    /// The tunnel that it is, when it is one.
    pub tunnel: Option<u64>,
    /// Where they hear why a session ended, if they do.
    pub words: Option<Words>,
}

/// Where a caller hears how their sessions end. Whoever has closed their own direction can tell the end of the data from its loss
/// by nothing else.
#[derive(Clone, Debug)]
pub enum Words {
    /// The stream of words of a person's helper.
    Helper(mpsc::Sender<ToMachine>),
    /// The control stream of the machine's own tunnel.
    Machine(Arc<Tunnel>),
}

impl Words {
    fn ended(&self, session: &str, reason: Reason) {
        let session = session.to_owned();
        match self {
            // Whoever is so far behind asks by another way.
            Self::Helper(words) => drop(words.try_send(ToMachine::Ended { session, reason })),
            Self::Machine(tunnel) => tunnel.say(ToMachine::ReachEnded { session, reason }),
        }
    }
}

/// A service on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The service.
    pub service: String,
    /// The machine.
    pub machine: String,
}

/// A connection that is open and not carried yet.
pub struct Ready {
    seat: Seat,
    stream: Movable,
    stream_seat: StreamSeat,
    tunnel: Arc<Tunnel>,
    mode: Mode,
    words: Option<Words>,
}

/// Lets a machine hold a tunnel: gives the lineage of its certificate.
///
/// # Errors
/// Why not; people are told to use the other faces.
pub async fn enter(shell: &Shell, peer: &Peer) -> Result<String, Refusal> {
    if peer.identity.role != Role::Machine {
        return Err(Refusal::WrongCaller(ForWhom::Tunnels));
    }
    let caller = admit(shell, peer, Use::Read, "tunnel").await?;
    Ok(caller.lineage.record.id.clone())
}

/// Opens a connection to a service, authorised by itself and audited.
///
/// # Errors
/// [`Refusal::NotFound`] for what the caller may not know of; [`Refusal::Denied`] by policy; [`Refusal::Service`] when
/// nobody answers there.
pub async fn open(
    shell: &Shell,
    caller: &Caller<'_>,
    door: Door,
    wanted: &Wanted,
    instance: &str,
) -> Result<Ready, Refusal> {
    let asked = shell.rules.load_full();
    let admitted = still(shell, &caller.peer, caller.lineage).await?;
    let (machine, whole, rules) = authorise(shell, &admitted, wanted).await?;
    let offline = || Unreached::Offline { machine: wanted.machine.clone() };
    let tunnel = shell.tunnels.get(&machine).ok_or_else(offline)?;
    let mode = tunnel.mode(&wanted.service)?;
    if shell.sessions.count_by(&admitted.identity) >= SESSIONS_PER_CALLER {
        let many = format!("{SESSIONS_PER_CALLER} sessions of `{}` are open, which is the most", admitted.identity);
        return Err(Unreached::TooMany(many).into());
    }
    let id = hex::encode(shell.entropy.bytes::<8>());
    let about = About {
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
    let seat = shell.sessions.enter(id.clone(), about);
    // A new policy walks the table once. One that came before this was in it is asked here.
    if !Arc::ptr_eq(&asked, &shell.rules.load())
        && let Err(denied) = may_connect(shell, &admitted, &whole, &wanted.service)
    {
        seat.session().cut(Reason::Policy);
        end(shell, seat);
        return Err(denied);
    }
    let awaited = expect(shell, tunnel.identity(), seat.session());
    let head = Open {
        session: id,
        service: wanted.service.clone(),
        caller: admitted.identity.to_string(),
        labels: labels(&admitted),
        dial_back: Some(awaited.ticket().to_owned()),
    };
    // Beside each other, since neither waits for the other's outcome; nothing is carried before both are there.
    let (opened, noted) = tokio::join!(tunnel.open(&head), note_opened(shell, &seat, instance));
    noted?;
    match opened {
        Ok((stream, stream_seat)) if seat.session().reason().is_none() => {
            let words = caller.words.clone();
            Ok(Ready { seat, stream: awaited.carrying(stream), stream_seat, tunnel, mode, words })
        }
        Ok(_) => {
            finish(shell, seat).await;
            Err(Refusal::Denied { rules: vec![], action: "connect" })
        }
        Err(unreached) => {
            finish(shell, seat).await;
            Err(unreached.into())
        }
    }
}

/// Lets one end of a session move to a connection of its own.
fn expect(shell: &Shell, whose: &Identity, session: &Arc<Session>) -> Awaited {
    shell.dial_backs.expect(hex::encode(shell.entropy.bytes::<16>()), whose.clone(), session)
}

/// The machine meant, if the caller may go there, and the rules that say so.
async fn authorise(
    shell: &Shell,
    caller: &admission::Caller,
    wanted: &Wanted,
) -> Result<(Identity, Whole, Vec<String>), Refusal> {
    if !is_service_name(&wanted.service) {
        return Err(Refusal::Malformed(Malformed::ServiceName(wanted.service.escape_debug().to_string())));
    }
    let absent = Refusal::NotFound(Missing::Machine);
    let whole = whole_of(shell, Role::Machine, &wanted.machine).await?.ok_or_else(|| absent.clone())?;
    match may_connect(shell, caller, &whole, &wanted.service) {
        Ok(rules) => Ok((identity(shell, &whole.subject.record)?, whole, rules)),
        // One answer for what is not there and for what the caller may not know of.
        Err(denied) => Err(if may_see(shell, caller, &whole) { denied } else { absent }),
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
        _ => Err(Refusal::NotFound(Missing::Machine)),
    }
}

/// What the machine's owner may decide by: the groups of a person, the labels of a machine.
fn labels(caller: &admission::Caller) -> Vec<String> {
    let subject = &caller.subject.record;
    match subject.role {
        Role::Person => subject.groups.clone(),
        Role::Machine | Role::Gateway => subject.labels.iter().map(|(key, value)| format!("{key}={value}")).collect(),
    }
}

async fn note_opened(shell: &Shell, seat: &Seat, instance: &str) -> Result<(), Refusal> {
    let about = seat.session().about();
    let mut changes = Changes::new();
    changes.event(Event::Access(Access::SessionOpened {
        session: seat.session().id().to_owned(),
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
async fn finish(shell: &Shell, seat: Seat) {
    let session = end(shell, seat);
    note_closed(shell, &session).await;
}

/// It leaves the table.
fn end(shell: &Shell, seat: Seat) -> Arc<Session> {
    let session = Arc::clone(seat.session());
    seat.end(shell.clock.now_ms());
    session
}

async fn note_closed(shell: &Shell, session: &Session) {
    let about = session.about();
    let reason = session.reason().unwrap_or(Reason::Peer);
    let (to_machine, from_machine) = session.bytes();
    shell.metrics.session_ended(reason.as_str());
    shell.metrics.sessions(shell.sessions.len());
    let mut changes = Changes::new();
    changes.event(Event::Access(Access::SessionClosed {
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

impl Ready {
    /// The session's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.seat.session().id()
    }

    /// Whether TLS with the machine's agent comes first.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Carries it to its end. `early` is what the caller sent before it was told that it may.
    pub async fn run<IO>(mut self, shell: &Shell, conn: &Conn, caller: &mut IO, early: &[u8]) -> Carried
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let session = Arc::clone(self.seat.session());
        shell.metrics.sessions(shell.sessions.len());
        let carried = async {
            if !early.is_empty() {
                session.to_machine().fetch_add(early.len() as u64, std::sync::atomic::Ordering::Relaxed);
                if self.stream.write_all(early).await.is_err() {
                    return Carried::MachineBroke;
                }
            }
            carry(&session, caller, &mut self.stream).await
        };
        let carried = Box::pin(carried);
        let carried = tokio::select! {
            biased;
            reason = conn.told_to_end_at_once() => Carried::Told(reason.into()),
            carried = carried => carried,
        };
        let reason = match carried {
            Carried::Told(reason) => reason,
            // A stream ends alike with its data and with its tunnel, and whoever is handed a sealed one that ended early breaks
            // it off.
            _ if !self.tunnel.is_up().await => timeout(FATE_TIME, session.told()).await.unwrap_or(Reason::Lost),
            Carried::Closed => Reason::Peer,
            // One that moved has a connection of its own, which may be seen to break before the tunnel.
            Carried::MachineBroke => timeout(FATE_TIME, session.told()).await.unwrap_or(Reason::Broken),
            Carried::CallerBroke => timeout(FATE_TIME, session.told()).await.unwrap_or(Reason::Peer),
        };
        session.cut(reason);
        let reason = session.reason().unwrap_or(reason);
        let Self { seat, mut stream, stream_seat, tunnel, mode: _, words } = self;
        end(shell, seat);
        // Where a lock hits a thousand, all of them end before any of them is written down.
        tokio::task::yield_now().await;
        if let Some(words) = words {
            words.ended(session.id(), reason);
        }
        let ended_well = carried == Carried::Closed && reason == Reason::Peer;
        if ended_well {
            let noted = async {
                let (_, ()) = tokio::join!(timeout(CUT_GRACE, caller.shutdown()), note_closed(shell, &session));
            };
            tokio::join!(dial_back::finish(&mut stream), noted);
        } else {
            // No orderly end for the caller: nobody may take what is there for the whole.
            // A stream that was half closed already cannot say by itself that it is gone.
            tunnel.say(ToMachine::Ended { session: session.id().to_owned(), reason });
            drop(stream);
            note_closed(shell, &session).await;
        }
        drop(stream_seat);
        if ended_well { carried } else { Carried::Told(reason) }
    }

    /// It was opened, and nobody is there any more to use it.
    pub async fn abandon(self, shell: &Shell) {
        finish(shell, self.seat).await;
    }
}

/// Serves one stream that a helper or a machine opened: reads what it wants, and carries it.
pub async fn stream(shell: &Shell, caller: &Caller<'_>, door: Door, mut stream: Stream) {
    let instance = hex::encode(shell.entropy.bytes::<8>());
    let Ok(Some(reach)) = timeout(OPEN_TIME, read_frame::<Reach, _>(&mut stream)).await else { return };
    let wanted = Wanted { service: reach.service, machine: reach.machine };
    match open(shell, caller, door, &wanted, &instance).await {
        Ok(ready) => {
            let awaited = expect(shell, &caller.peer.identity, ready.seat.session());
            let dial_back = Some(awaited.ticket().to_owned());
            let end_is_said = caller.words.is_some();
            let answer = Reached::Ok { session: ready.id().to_owned(), mode: ready.mode(), dial_back, end_is_said };
            if write_frame(&mut stream, &answer).await.is_some() {
                let mut stream = awaited.carrying(stream);
                // Whoever is cut is not waited for.
                if ready.run(shell, caller.conn, &mut stream, &[]).await == Carried::Closed {
                    dial_back::finish(&mut stream).await;
                }
            } else {
                ready.abandon(shell).await;
            }
        }
        Err(refusal) => {
            log_refused(&caller.peer.identity, &wanted, &refusal, &instance);
            refuse(&refusal, &instance, stream).await;
        }
    }
}

/// Refuses a stream whatever it wants.
pub async fn refuse_stream(refusal: &Refusal, instance: &str, mut stream: Stream) {
    // What it wants is read, so that the answer is not lost to a reset.
    if let Ok(Some(_)) = timeout(OPEN_TIME, read_frame::<Reach, _>(&mut stream)).await {
        refuse(refusal, instance, stream).await;
    }
}

async fn refuse(refusal: &Refusal, instance: &str, mut stream: Stream) {
    let problem = Box::new(problem::problem(refusal, instance));
    let _ = write_frame(&mut stream, &Reached::Refused { problem }).await;
    let _ = timeout(CUT_GRACE, stream.shutdown()).await;
}

/// One line for a connection that did not come about.
pub fn log_refused(caller: &Identity, wanted: &Wanted, refusal: &Refusal, instance: &str) {
    let Wanted { service, machine } = wanted;
    match refusal {
        Refusal::Ours(fault) => tracing::error!(instance, %caller, service, machine, %fault, "connection failed"),
        other => tracing::info!(instance, %caller, service, machine, refusal = %other, "connection refused"),
    }
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
    renewed: &Reauthenticate,
) -> Result<Peer, Refusal> {
    let malformed = |what: &str| Refusal::Malformed(Malformed::Renewed(what.to_owned()));
    let chain = renewed.chain.iter().map(|text| STANDARD.decode(text)).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| malformed("is not base64"))?;
    let Some((leaf, issuers)) = chain.split_first() else { return Err(malformed("is missing")) };
    let issuers: Vec<&[u8]> = issuers.iter().map(Vec::as_slice).collect();
    let peer = pki::verify_peer(leaf, &issuers, shell.ca.anchors(), &[identity.role], shell.now())
        .map_err(|error| malformed(&format!("is not good: {error}")))?;
    if peer.identity != *identity {
        return Err(malformed("names somebody else"));
    }
    let key = SubjectKey::from_spki_der(&peer.spki)
        .map_err(|error| malformed(&format!("has a key we do not take: {error}")))?;
    let settings = shell.settings.load();
    let hosts = match identity.role {
        Role::Person => &settings.proxy_hosts,
        Role::Machine | Role::Gateway => &settings.tunnel_hosts,
    };
    let expected = Expected { method: REAUTH_METHOD, path: REAUTH_PATH, hosts, exporter };
    proof::check(&renewed.proof, &key, &expected, shell.now())?;
    let caller = admit(shell, &peer, Use::Read, "renewed").await?;
    // Its sessions are found by the lineage they began with.
    if caller.lineage.record.id != lineage {
        return Err(malformed("is of another lineage; connect anew"));
    }
    Ok(peer)
}

/// A tunnel took the place of another of the same machine. From elsewhere, while the other was alive, that may be a copy.
pub async fn replaced(shell: &Shell, before: &Tunnel, now: &Tunnel) {
    if before.source() == now.source() || before.silence() > TUNNEL_TWICE {
        return;
    }
    tracing::warn!(machine = %now.identity(), before = %before.source(), now = %now.source(), "a second tunnel of one machine, from elsewhere");
    let mut changes = Changes::new();
    changes.event(Event::Access(Access::TunnelTwice {
        machine: now.identity().to_string(),
        before: before.source().to_string(),
        now: now.source().to_string(),
    }));
    let _ = commit(shell, changes, &Actor { who: "gateway", instance: "tunnel" }).await;
}

/// Whoever holds an end of a session says that it is gone. `theirs` is what they may say that of, `reason` what it means for the
/// other end.
pub fn abandoned(shell: &Shell, session: &str, theirs: &Selector, reason: Reason) {
    for found in shell.sessions.find(&Selector::Id(session.to_owned())) {
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
pub fn tunnel_ended(shell: &Shell, tunnel: &Tunnel, reason: Reason) {
    // Whichever end the tunnel came to, neither end of the session wanted it.
    let reason = if reason == Reason::Peer { Reason::Lost } else { reason };
    shell.sessions.cut(&Selector::Tunnel(tunnel.number()), reason);
}
