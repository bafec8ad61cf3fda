//! Carries connections to services: opens the stream that a session was allowed, moves its bytes to the end, and says at both ends
//! how it ended. What is allowed is decided in [`crate::flow::connect`].

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};
use transport::{
    frame::{read_frame, write_frame},
    mux::Stream,
    streams::StreamGuard,
};
use wire::tunnel::{Open, OpenRefusal, Opened, Reach, Reached, TUNNEL_STREAMS, ToMachine};

use super::{
    carry::{Carried, carry},
    fronts::native::problem,
    movable::{Movable, finish, movable},
};
use crate::{
    core::{
        refusal::{Refusal, Unreached},
        replica::dial_back_ticket,
        session::{EndReason, Mode},
    },
    flow::{
        connect::{self, StreamOpener, WantedService, log_refused},
        shell::Shell,
    },
    limits::{CUT_GRACE, FATE_TIME, OPEN_TIME},
    registry::{
        dial_back::Awaited,
        live::Conn,
        sessions::{EntryPoint, Session, SessionGuard},
        tunnels::{Ended, Tunnel},
    },
};

/// Streams that the gateway leaves to the machine: control, and what its own programs reach.
const LEFT_TO_MACHINE: usize = 8;

/// Where a caller is told how their sessions end. Whoever has closed their own direction can tell the end of the data from its
/// loss by nothing else.
#[derive(Clone, Debug)]
pub enum EndsTo {
    /// The control stream of a person's helper.
    Helper(mpsc::Sender<ToMachine>),
    /// The control stream of the machine's own tunnel.
    Machine(Arc<Tunnel>),
    /// Nowhere: a stock program has no place for it.
    Nobody,
}

impl EndsTo {
    fn tell(&self, session: &str, reason: EndReason) {
        let session = session.to_owned();
        match self {
            // The queue is full: drop the notice; the client can query `GET /v1/sessions/<id>`.
            Self::Helper(control) => drop(control.try_send(ToMachine::Ended { session, reason: reason.into() })),
            Self::Machine(tunnel) => tunnel.reach_ended(Ended { session, reason }),
            Self::Nobody => {}
        }
    }

    const fn is_told(&self) -> bool {
        match self {
            Self::Helper(_) | Self::Machine(_) => true,
            Self::Nobody => false,
        }
    }
}

/// A connection that is open and not carried yet.
pub struct Ready {
    seat: SessionGuard,
    stream: Movable,
    stream_guard: StreamGuard,
    tunnel: Arc<Tunnel>,
    mode: Mode,
    ends_to: EndsTo,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").field("session", &self.id()).finish_non_exhaustive()
    }
}

/// Opens a connection to a service, if the caller may.
///
/// # Errors
/// As [`connect::allow`]; [`Refusal::Service`] when nobody answers there.
pub async fn open(
    shell: &Shell,
    caller: &StreamOpener<'_>,
    ends_to: EndsTo,
    door: EntryPoint,
    wanted: &WantedService,
    instance: &str,
) -> Result<Ready, Refusal> {
    let connect::Allowed { seat, tunnel, mode, labels } = connect::allow(shell, caller, door, wanted).await?;
    let session = seat.session();
    let awaited = expect(shell, tunnel.identity(), session);
    let head = Open {
        session: session.id().to_owned(),
        service: wanted.service.clone(),
        caller: session.about().caller.identity.to_string(),
        labels,
        dial_back: Some(awaited.ticket().to_owned()),
        dial_back_at: shell.settings.load().dial_back_at.clone(),
    };
    // Beside each other, since neither waits for the other's outcome; nothing is carried before both are there.
    let (opened, noted) = tokio::join!(open_stream(&tunnel, &head), connect::note_opened(shell, session, instance));
    noted?;
    match opened {
        Ok((stream, stream_guard)) if session.reason().is_none() => {
            Ok(Ready { seat, stream: movable(awaited, stream), stream_guard, tunnel, mode, ends_to })
        }
        Ok(_) => {
            connect::finish(shell, seat).await;
            Err(Refusal::Denied { rules: vec![], action: "connect" })
        }
        Err(unreached) => {
            connect::finish(shell, seat).await;
            Err(unreached.into())
        }
    }
}

/// Opens a stream to a service.
///
/// # Errors
/// [`Unreached`].
async fn open_stream(tunnel: &Tunnel, head: &Open) -> Result<(Stream, StreamGuard), Unreached> {
    let machine = || tunnel.identity().name.to_string();
    let most = TUNNEL_STREAMS - LEFT_TO_MACHINE;
    let place = tunnel.take_stream(most).ok_or_else(|| {
        Unreached::TooMany(format!("{most} streams are open to the machine `{}`, which is the most", machine()))
    })?;
    match timeout(OPEN_TIME, exchange(tunnel, head)).await {
        Ok(Some((stream, Opened::Ok))) => Ok((stream, place)),
        Ok(Some((_, Opened::Refused { why, detail }))) => Err(not_opened(tunnel, why, detail, &head.service)),
        Ok(None) => Err(Unreached::Offline { machine: machine() }),
        Err(_) => {
            if tunnel.silence() >= OPEN_TIME {
                // Not a word on any stream either: the connection is dead, and the next one should not wait as long.
                tunnel.end(EndReason::Peer, "it does not answer");
            }
            Err(Unreached::Silent { machine: machine(), seconds: OPEN_TIME.as_secs() })
        }
    }
}

/// Nothing when the tunnel ended meanwhile.
async fn exchange(tunnel: &Tunnel, head: &Open) -> Option<(Stream, Opened)> {
    let mut stream = tunnel.stream().await?;
    write_frame(&mut stream, head).await.ok()?;
    let answer = read_frame(&mut stream).await.ok()?;
    Some((stream, answer))
}

fn not_opened(tunnel: &Tunnel, why: OpenRefusal, detail: String, service: &str) -> Unreached {
    let machine = tunnel.identity().name.to_string();
    match why {
        OpenRefusal::NotExposed => tunnel.mode(service).err().unwrap_or(Unreached::ByMachine { machine, detail }),
        OpenRefusal::NotAllowed | OpenRefusal::Unknown => Unreached::ByMachine { machine, detail },
        OpenRefusal::TargetClosed => Unreached::TargetClosed { machine, detail },
        OpenRefusal::TargetSlow => Unreached::TargetSlow { machine, detail },
        OpenRefusal::Limit => Unreached::TooMany(detail),
    }
}

/// Lets one end of a session move to a connection of its own.
fn expect(shell: &Shell, whose: &pki::Identity, session: &Arc<Session>) -> Awaited {
    let ticket = dial_back_ticket(&shell.replica.name, shell.entropy.bytes());
    shell.dial_backs.expect(ticket, whose.clone(), session)
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
        let carried = self.carried(&session, conn, caller, early).await;
        let reason = reason(carried, &session, &self.tunnel).await;
        session.cut(reason);
        let reason = session.reason().unwrap_or(reason);
        let Self { seat, mut stream, stream_guard, tunnel, mode: _, ends_to } = self;
        connect::end(shell, seat);
        // Where a lock hits a thousand, all of them end before any of them is written down.
        tokio::task::yield_now().await;
        ends_to.tell(session.id(), reason);
        let ended_well = carried == Carried::Closed && reason == EndReason::Peer;
        if ended_well {
            let noted = async {
                let noted = connect::note_closed(shell, &session);
                let (_, ()) = tokio::join!(timeout(CUT_GRACE, caller.shutdown()), noted);
            };
            tokio::join!(finish(&mut stream), noted);
        } else {
            // No orderly end for the caller: nobody may take what is there for the whole.
            // A stream that was half closed already cannot say by itself that it is gone.
            tunnel.ended(Ended { session: session.id().to_owned(), reason });
            drop(stream);
            connect::note_closed(shell, &session).await;
        }
        drop(stream_guard);
        if ended_well { carried } else { Carried::Told(reason) }
    }

    async fn carried<IO>(&mut self, session: &Arc<Session>, conn: &Conn, caller: &mut IO, early: &[u8]) -> Carried
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let carried = async {
            if !early.is_empty() {
                session.to_machine().fetch_add(early.len() as u64, Ordering::Relaxed);
                if self.stream.write_all(early).await.is_err() {
                    return Carried::MachineBroke;
                }
            }
            carry(session, caller, &mut self.stream).await
        };
        // Boxed, so that its size is gone before the ends are told.
        let carried = Box::pin(carried);
        tokio::select! {
            biased;
            reason = conn.told_to_end_at_once() => Carried::Told(reason.into()),
            carried = carried => carried,
        }
    }

    /// It was opened, and nobody is there any more to use it.
    pub async fn abandon(self, shell: &Shell) {
        connect::finish(shell, self.seat).await;
    }
}

/// What the end of carrying means for the session.
async fn reason(carried: Carried, session: &Session, tunnel: &Tunnel) -> EndReason {
    match carried {
        Carried::Told(reason) => reason,
        // A stream ends alike with its data and with its tunnel, and whoever is handed a sealed one that ended early breaks it
        // off.
        _ if !tunnel.is_up().await => timeout(FATE_TIME, session.told()).await.unwrap_or(EndReason::Lost),
        Carried::Closed => EndReason::Peer,
        // One that moved has a connection of its own, which may be seen to break before the tunnel.
        Carried::MachineBroke => timeout(FATE_TIME, session.told()).await.unwrap_or(EndReason::Broken),
        Carried::CallerBroke => timeout(FATE_TIME, session.told()).await.unwrap_or(EndReason::Peer),
    }
}

/// Serves one stream that a helper or a machine opened: reads what it wants, and carries it.
pub async fn stream(shell: &Shell, caller: &StreamOpener<'_>, ends_to: EndsTo, door: EntryPoint, mut stream: Stream) {
    let instance = hex::encode(shell.entropy.bytes::<8>());
    let Ok(Ok(reach)) = timeout(OPEN_TIME, read_frame::<Reach, _>(&mut stream)).await else { return };
    let wanted = WantedService { service: reach.service, machine: reach.machine };
    let end_is_said = ends_to.is_told();
    match open(shell, caller, ends_to, door, &wanted, &instance).await {
        Ok(ready) => {
            let awaited = expect(shell, &caller.peer.identity, ready.seat.session());
            let dial_back = Some(awaited.ticket().to_owned());
            let session = ready.id().to_owned();
            let dial_back_at = shell.settings.load().dial_back_at.clone();
            let answer = Reached::Ok { session, mode: ready.mode().into(), dial_back, dial_back_at, end_is_said };
            if write_frame(&mut stream, &answer).await.is_ok() {
                let mut stream = movable(awaited, stream);
                // Whoever is cut is not waited for.
                if ready.run(shell, caller.conn, &mut stream, &[]).await == Carried::Closed {
                    finish(&mut stream).await;
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
    if let Ok(Ok(_)) = timeout(OPEN_TIME, read_frame::<Reach, _>(&mut stream)).await {
        refuse(refusal, instance, stream).await;
    }
}

async fn refuse(refusal: &Refusal, instance: &str, mut stream: Stream) {
    let problem = Box::new(problem::problem(refusal, instance));
    let _ = write_frame(&mut stream, &Reached::Refused { problem }).await;
    let _ = timeout(CUT_GRACE, stream.shutdown()).await;
}
