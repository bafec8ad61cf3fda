//! A helper's connection: each stream that it opens asks for one service. One stream more, which we open, says why sessions end
//! and takes the certificate that the person renewed meanwhile, so that what is open outlives the one it began with.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};
use transport::{
    link::{Link, LinkEvent},
    mux::{Mux, Side, Stream},
    streams::{StreamCount, StreamGuard},
};
use wire::tunnel::{Closing, FromMachine, Reason, Reauthenticate, ToMachine, Welcome};

use super::ProxyDeps;
use crate::{
    core::{
        helper::{Helper, HelperFrame, HelperInput, HelperOutput},
        refusal::Refusal,
        session::EndReason,
    },
    edge::{
        reauth::{self, Verified},
        relay::{self, EndsTo},
    },
    flow::connect::{self, StreamOpener},
    limits::{CUT_GRACE, HELPER_STREAMS, TUNNEL_STALL},
    registry::{
        live::{self, Conn, HolderGuard},
        sessions::{EntryPoint, SessionSelector},
    },
};

/// Room for what the streams of a connection have to say at a time: an end each, and one more would be a stream too many.
const NOTICES: usize = 2 * HELPER_STREAMS;

enum HelperEvent {
    Link(LinkEvent<FromMachine>),
    Notice(ToMachine),
    Verified(Box<Verified>),
    Told(live::CloseReason),
    /// The last stream has ended.
    Idle,
}

/// Which notices that the connection is to end are waited for.
#[derive(Copy, Clone)]
enum EndNotices {
    All,
    Cut,
    /// None: it is ending already.
    Ignored,
}

struct HelperDriver<IO> {
    parts: Arc<ProxyDeps>,
    link: Link<IO, FromMachine>,
    state: Helper,
    began: Instant,
    /// The connection as the table knows it, by the certificate that was proven on it last.
    seat: HolderGuard,
    /// The same by the first one: what its sessions are found by, whenever they begin.
    first: Arc<Conn>,
    lineage: Result<Arc<str>, Arc<Refusal>>,
    open: StreamCount,
    notices: (mpsc::Sender<ToMachine>, mpsc::Receiver<ToMachine>),
    verifying: Option<oneshot::Receiver<Verified>>,
}

/// Serves it until it ends.
pub async fn streams<IO>(parts: Arc<ProxyDeps>, io: IO, seat: HolderGuard)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut link = Link::new(Mux::new(io, Side::Accepted, HELPER_STREAMS, TUNNEL_STALL));
    let instance = parts.instance();
    let lineage = parts.admit(&seat, &instance).await;
    if lineage.is_ok() && link.open_control().await.is_ok() {
        // Nothing is asked of a helper but that it listens. The first frame of a stream is never too much for it.
        let _ = link.send(&ToMachine::Welcome(welcome(&parts)));
    }
    let driver = HelperDriver {
        link,
        state: Helper::new(Duration::ZERO),
        began: Instant::now(),
        first: Arc::clone(seat.conn()),
        seat,
        lineage: lineage.map(Arc::from).map_err(Arc::new),
        open: StreamCount::default(),
        notices: mpsc::channel(NOTICES),
        verifying: None,
        parts,
    };
    Box::pin(driver.run()).await;
}

fn welcome(parts: &ProxyDeps) -> Welcome {
    let shell = &parts.shell;
    Welcome {
        heartbeat_ms: 0,
        epoch: shell.epoch.load(Ordering::Relaxed),
        time: shell.now().secs(),
        reconnect_within_ms: 0,
    }
}

impl From<FromMachine> for HelperFrame<Reauthenticate> {
    fn from(frame: FromMachine) -> Self {
        match frame {
            FromMachine::Reauthenticate(renewed) => Self::Reauthenticate(renewed),
            FromMachine::Abandoned { session } => Self::Abandoned(session),
            FromMachine::Unknown => Self::Unknown,
            FromMachine::Hello(_) | FromMachine::Heartbeat { .. } | FromMachine::Services { .. } => Self::Foreign,
        }
    }
}

impl<IO> HelperDriver<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn run(mut self) {
        loop {
            let ends = if self.state.is_draining() { EndNotices::Cut } else { EndNotices::All };
            let input = match self.event(ends).await {
                HelperEvent::Link(LinkEvent::Inbound(stream)) => self.inbound(stream),
                HelperEvent::Link(LinkEvent::Frame(frame)) => Some(HelperInput::Frame(frame.into())),
                // The helper has no use for it: it is older than control streams are.
                HelperEvent::Link(LinkEvent::ControlEnded(_)) | HelperEvent::Idle => None,
                HelperEvent::Link(LinkEvent::Ended(_)) => return,
                HelperEvent::Notice(frame) => {
                    self.say(&frame);
                    None
                }
                HelperEvent::Verified(outcome) => Some(self.verified(*outcome)),
                HelperEvent::Told(live::CloseReason::Drained) => Some(HelperInput::Drain(self.parts.drain_time)),
                HelperEvent::Told(reason) => Some(HelperInput::End(reason.into())),
            };
            for input in [Some(HelperInput::Streams(self.open.open())), input].into_iter().flatten() {
                if let Some(reason) = self.step(input) {
                    return self.over(reason).await;
                }
            }
        }
    }

    async fn event(&mut self, ends: EndNotices) -> HelperEvent {
        let Self { link, seat, notices, verifying, open, .. } = self;
        let conn = Arc::clone(seat.conn());
        let told = async {
            match ends {
                EndNotices::All => conn.told_to_end().await,
                // Streams that are open may end by themselves; each is told on its own.
                EndNotices::Cut => conn.told_to_end_at_once().await,
                EndNotices::Ignored => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            reason = told => HelperEvent::Told(reason),
            Some(notice) = notices.1.recv() => HelperEvent::Notice(notice),
            event = poll_fn(|cx| link.poll(cx)) => HelperEvent::Link(event),
            outcome = reauth::outcome(verifying) => HelperEvent::Verified(Box::new(outcome)),
            () = open.none(), if !matches!(ends, EndNotices::All) => HelperEvent::Idle,
        }
    }

    fn inbound(&mut self, stream: Stream) -> Option<HelperInput<Reauthenticate>> {
        match self.open.take(HELPER_STREAMS) {
            Some(guard) => {
                self.serve(stream, guard);
                None
            }
            None => Some(HelperInput::End(EndReason::Limit)),
        }
    }

    /// Feeds the state machine and does what it says. Gives why it is to end, if that is what it said.
    fn step(&mut self, input: HelperInput<Reauthenticate>) -> Option<EndReason> {
        let (state, outputs) = self.state.clone().step(input, self.began.elapsed());
        self.state = state;
        for output in outputs {
            match output {
                HelperOutput::Reauthenticated(not_after) => self.say(&ToMachine::Reauthenticated { not_after }),
                HelperOutput::ReauthenticationRefused(code, detail) => {
                    self.say(&ToMachine::ReauthenticationRefused { code, detail });
                }
                HelperOutput::Drain(after) => {
                    let after_ms = after.as_millis().try_into().unwrap_or(u64::MAX);
                    self.say(&ToMachine::Drain { after_ms, reconnect_within_ms: 0 });
                }
                HelperOutput::Verify(renewed) => self.verify(renewed),
                HelperOutput::Abandoned(session) => {
                    let conn = SessionSelector::Conn(self.first.id());
                    connect::abandoned(&self.parts.shell, &session, &conn, EndReason::Peer);
                }
                HelperOutput::Close(reason) => return Some(reason),
            }
        }
        None
    }

    /// Says something on the control stream. A helper that does not read it has none from then on.
    fn say(&mut self, frame: &ToMachine) {
        let _ = self.link.send(frame);
    }

    fn serve(&self, stream: Stream, guard: StreamGuard) {
        let (parts, conn, peer) = (Arc::clone(&self.parts), Arc::clone(&self.first), Arc::clone(self.seat.peer()));
        let limited = parts.limit(&self.seat).err().map(Arc::new);
        let (lineage, notices) = (self.lineage.clone(), self.notices.0.clone());
        let tasks = parts.tasks.clone();
        tasks.spawn(async move {
            match (lineage, limited) {
                (Ok(lineage), None) => {
                    let caller = StreamOpener { peer, conn: &conn, lineage: &lineage, tunnel: None };
                    relay::stream(&parts.shell, &caller, EndsTo::Helper(notices), EntryPoint::Helper, stream).await;
                }
                (Err(refusal), _) | (Ok(_), Some(refusal)) => {
                    relay::refuse_stream(&refusal, &parts.instance(), stream).await;
                }
            }
            drop(guard);
        });
    }

    /// Checks a renewed certificate beside, so that streams go on meanwhile.
    fn verify(&mut self, renewed: Reauthenticate) {
        let Ok(lineage) = self.lineage.clone() else { return };
        let (shell, identity) = (Arc::clone(&self.parts.shell), self.seat.peer().identity.clone());
        let exporter = *self.seat.conn().exporter();
        self.verifying = Some(reauth::spawn(&self.parts.tasks, shell, identity, lineage, exporter, renewed));
    }

    fn verified(&mut self, outcome: Verified) -> HelperInput<Reauthenticate> {
        self.verifying = None;
        match outcome {
            Ok(peer) => {
                let not_after = peer.not_after.secs();
                self.seat = self.parts.shell.live.renewed(&self.seat, Arc::new(peer));
                HelperInput::Verified(not_after)
            }
            Err((code, detail)) => HelperInput::Unverified(code, detail),
        }
    }

    /// Ends what is open, whichever certificate it began with. What the streams have to say goes out first, and why at last.
    async fn over(mut self, reason: EndReason) {
        self.parts.shell.sessions.cut(&SessionSelector::Conn(self.first.id()), reason);
        let _ = timeout(CUT_GRACE, async {
            while self.open.open() > 0 || !self.notices.1.is_empty() {
                match self.event(EndNotices::Ignored).await {
                    HelperEvent::Link(LinkEvent::Ended(_)) => return,
                    HelperEvent::Notice(notice) => self.say(&notice),
                    HelperEvent::Link(LinkEvent::Inbound(_) | LinkEvent::Frame(_) | LinkEvent::ControlEnded(_))
                    | HelperEvent::Verified(_)
                    | HelperEvent::Told(_)
                    | HelperEvent::Idle => {}
                }
            }
        })
        .await;
        let reason = Reason::from(reason);
        self.say(&ToMachine::Closing(Closing { reason, detail: reason.explain().to_owned(), retry_after_ms: 0 }));
        self.link.goodbye(CUT_GRACE).await;
    }
}
