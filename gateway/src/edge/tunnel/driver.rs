//! One tunnel's task: feeds what happens to the state machine of [`super::conversation`] and does what that says.

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use pki::Peer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::task::TaskTracker;
use transport::{
    link::{Link, LinkEvent},
    mux::{Mux, Side, Stream},
    streams::StreamCount,
};
use wire::tunnel::{Closing, FromMachine, Reason, Reauthenticate, ServiceOffer, TUNNEL_STREAMS, ToMachine};

use super::conversation::{self, GatewayState, Input, Output};
use crate::{
    core::{
        refusal::{Refusal, RefusalClass},
        session::EndReason,
    },
    edge::{
        reauth::{self, Verified},
        relay::{self, EndsTo},
    },
    flow::{connect, shell::Shell},
    limits::{CUT_GRACE, TUNNEL_STALL},
    ports::rate::{Class, Rates},
    registry::{
        live::{self, HolderGuard},
        sessions::{EntryPoint, SessionSelector},
        tunnel_table::TunnelReplacement,
        tunnels::{COMMANDS, NewTunnel, Tunnel, TunnelCommand},
    },
};

/// What a tunnel's task needs.
pub struct TunnelDeps {
    /// Everything.
    pub shell: Arc<Shell>,
    /// How often machines may come.
    pub rates: Arc<Rates>,
    /// How long streams may go on when the gateway stops.
    pub drain_time: Duration,
    /// How many machines may come back in a second.
    pub tunnels_per_second: usize,
    /// Tasks that a drain waits for.
    pub tasks: TaskTracker,
}

impl fmt::Debug for TunnelDeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// What the task wakes up for.
enum TunnelEvent {
    Command(TunnelCommand),
    Link(LinkEvent<FromMachine>),
    Verified(Box<Verified>),
    Told(live::CloseReason),
    /// The last stream has ended.
    Idle,
    Tick,
}

struct TunnelDriver<IO> {
    parts: Arc<TunnelDeps>,
    number: u64,
    link: Box<Link<IO, FromMachine>>,
    state: conversation::TunnelConversation,
    seat: HolderGuard,
    lineage: String,
    up: Option<Arc<Tunnel>>,
    to_self: mpsc::Sender<TunnelCommand>,
    commands: mpsc::Receiver<TunnelCommand>,
    verifying: Option<oneshot::Receiver<Verified>>,
    streams: StreamCount,
    began: Instant,
    draining: bool,
}

/// Serves a machine's connection until it ends. A holder that gets no tunnel is told why.
///
/// Whatever is awaited only at the beginning or the end is boxed, and so is the driver: an idle tunnel is as large as its wait
/// for the next event.
pub fn drive<IO>(parts: Arc<TunnelDeps>, io: IO, seat: HolderGuard) -> impl Future<Output = ()> + Send
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let link = Box::new(Link::new(Mux::new(io, Side::Accepted, TUNNEL_STREAMS, TUNNEL_STALL)));
    async move {
        let mut driver = Box::pin(admitted(parts, link, seat)).await;
        let end = driver.run().await;
        Box::pin(driver.over(end)).await;
    }
}

async fn admitted<IO>(
    parts: Arc<TunnelDeps>,
    link: Box<Link<IO, FromMachine>>,
    seat: HolderGuard,
) -> Box<TunnelDriver<IO>> {
    let began = Instant::now();
    let number = parts.shell.tunnels.number();
    let entered = match parts.rates.check(Class::Machine, seat.conn().source()) {
        Ok(()) => connect::enter(&parts.shell, seat.peer()).await,
        Err(limited) => Err(limited.into()),
    };
    let (lineage, turned_away) = match entered {
        Ok(lineage) => (lineage, None),
        Err(refusal) => (String::new(), Some(turned_away(&refusal))),
    };
    let (to_self, commands) = mpsc::channel(COMMANDS);
    Box::new(TunnelDriver {
        link,
        parts,
        number,
        state: conversation::TunnelConversation::new(Duration::ZERO, turned_away),
        seat,
        lineage,
        up: None,
        to_self,
        commands,
        verifying: None,
        streams: StreamCount::default(),
        began,
        draining: false,
    })
}

/// What whoever gets no tunnel is told: how to go on is decided by the reason.
fn turned_away(refusal: &Refusal) -> Closing {
    let (reason, retry_after) = match refusal.class() {
        RefusalClass::Locked => (Reason::Locked, 60),
        // The machine has a newer one: it comes back with that.
        RefusalClass::Ended => (Reason::Expired, 0),
        RefusalClass::TooFast { retry_after } => (Reason::Limit, retry_after.as_secs()),
        RefusalClass::Ours => (Reason::Drained, 5),
        RefusalClass::NotFound | RefusalClass::Unreadable | RefusalClass::Unreached(_) | RefusalClass::Denied => {
            (Reason::Policy, 60)
        }
    };
    Closing { reason, detail: refusal.to_string(), retry_after_ms: retry_after * 1000 }
}

impl<IO> TunnelDriver<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Until it is to end; gives the last word.
    async fn run(&mut self) -> Closing {
        loop {
            let event = self.event().await;
            let streams = self.streams.open();
            // What changed since is told first: the deadline hangs on it.
            if let Some(end) = self.step(Input::Streams(streams)) {
                return end;
            }
            let ended = match event {
                TunnelEvent::Command(command) => self.command(command),
                TunnelEvent::Link(LinkEvent::Frame(frame)) => self.step(Input::Frame(frame)),
                TunnelEvent::Link(LinkEvent::ControlEnded(error)) => Some(closing(Reason::Peer, error.to_string())),
                TunnelEvent::Link(LinkEvent::Inbound(stream)) => self.inbound(stream),
                TunnelEvent::Link(LinkEvent::Ended(error)) => {
                    let why = error.map_or_else(|| "it closed the connection".to_owned(), |error| error.to_string());
                    Some(closing(Reason::Peer, why))
                }
                TunnelEvent::Told(live::CloseReason::Drained) => self.drain(),
                TunnelEvent::Told(reason) => {
                    let reason = if self.draining { EndReason::Drained } else { reason.into() };
                    let reason = Reason::from(reason);
                    self.step(Input::End(closing(reason, reason.explain().to_owned())))
                }
                TunnelEvent::Verified(outcome) => self.verified(*outcome),
                TunnelEvent::Idle => None,
                TunnelEvent::Tick => self.step(Input::Tick),
            };
            if let Some(end) = ended {
                return end;
            }
            if self.draining && streams == 0 {
                return closing(Reason::Drained, Reason::Drained.explain().to_owned());
            }
        }
    }

    async fn event(&mut self) -> TunnelEvent {
        let deadline = self.state.deadline().map(|at| self.began + at);
        let Self { link, commands, seat, draining, verifying, streams, .. } = self;
        let conn = Arc::clone(seat.conn());
        let told = async { if *draining { conn.told_to_end_at_once().await } else { conn.told_to_end().await } };
        let tick = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            reason = told => TunnelEvent::Told(reason),
            event = poll_fn(|cx| link.poll(cx)) => TunnelEvent::Link(event),
            Some(command) = commands.recv() => TunnelEvent::Command(command),
            outcome = reauth::outcome(verifying) => TunnelEvent::Verified(Box::new(outcome)),
            () = streams.none(), if *draining => TunnelEvent::Idle,
            () = tick => TunnelEvent::Tick,
        }
    }

    fn about(&self) -> GatewayState {
        let shell = &self.parts.shell;
        GatewayState {
            epoch: shell.epoch.load(Ordering::Relaxed),
            time: shell.now().secs(),
            reconnect_within: shell.tunnels.reconnect_within(self.parts.tunnels_per_second),
        }
    }

    /// Feeds the state machine and does what it says. Gives the last word, if that is what it said.
    fn step(&mut self, input: Input) -> Option<Closing> {
        let about = self.about();
        let state = std::mem::replace(&mut self.state, conversation::TunnelConversation::Closed);
        let (state, outputs) = state.step(input, &about, self.began.elapsed());
        self.state = state;
        for output in outputs {
            match output {
                Output::Send(frame) => {
                    if let Some(end) = self.say(&frame) {
                        return Some(end);
                    }
                }
                Output::Up(services) => self.come_up(services),
                Output::Services(services) => {
                    if let Some(up) = &self.up {
                        let services = services.into_iter().map(Into::into).collect();
                        self.parts.shell.tunnels.exposes(up, services);
                    }
                }
                Output::Abandoned(session) => {
                    connect::abandoned(
                        &self.parts.shell,
                        &session,
                        &SessionSelector::Tunnel(self.number),
                        EndReason::Broken,
                    );
                }
                Output::Verify(renewed) => self.verify(*renewed),
                Output::Close(closing) => return Some(closing),
            }
        }
        None
    }

    fn say(&mut self, frame: &ToMachine) -> Option<Closing> {
        self.link.send(frame).err().map(|error| closing(Reason::Limit, error.to_string()))
    }

    fn command(&mut self, command: TunnelCommand) -> Option<Closing> {
        match command {
            // Dropped, whoever waits is told that the tunnel is gone.
            TunnelCommand::Open(_) if self.draining => None,
            TunnelCommand::Open(to) => {
                self.link.open(to);
                None
            }
            TunnelCommand::IsUp(to) => {
                // Whoever asked may be gone.
                let _ = to.send(());
                None
            }
            TunnelCommand::RenewNow => self.step(Input::RenewNow),
            TunnelCommand::Ended(ended) => self.step(Input::Ended(ended.session, ended.reason.into())),
            TunnelCommand::ReachEnded(ended) => {
                self.say(&ToMachine::ReachEnded { session: ended.session, reason: ended.reason.into() })
            }
            TunnelCommand::End(end) => self.step(Input::End(closing(end.reason.into(), end.detail))),
        }
    }

    /// The first stream is control; each other is one that a program on the machine wants to somewhere else.
    fn inbound(&mut self, stream: Stream) -> Option<Closing> {
        if !self.link.has_control() {
            self.link.control(stream);
            return None;
        }
        let Some(up) = self.up.as_ref().map(Arc::clone) else {
            return Some(closing(Reason::Peer, "a stream before the hello was answered".to_owned()));
        };
        let Some(place) = self.streams.take(TUNNEL_STREAMS - 1) else {
            return Some(closing(Reason::Limit, format!("more than {TUNNEL_STREAMS} streams")));
        };
        let (parts, conn) = (Arc::clone(&self.parts), Arc::clone(self.seat.conn()));
        self.parts.tasks.spawn(async move {
            let caller = connect::StreamOpener {
                peer: up.peer(),
                conn: &conn,
                lineage: up.lineage(),
                tunnel: Some(up.number()),
            };
            relay::stream(&parts.shell, &caller, EndsTo::Machine(Arc::clone(&up)), EntryPoint::Tunnel, stream).await;
            drop(place);
        });
        // Nothing else may happen for long, and it is busy from now on.
        self.step(Input::Streams(self.streams.open()))
    }

    fn come_up(&mut self, services: Vec<ServiceOffer>) {
        let shell = &self.parts.shell;
        let up = Tunnel::new(NewTunnel {
            number: self.number,
            lineage: self.lineage.clone(),
            source: self.seat.conn().source(),
            since: shell.now(),
            peer: Arc::clone(self.seat.peer()),
            services: services.into_iter().map(Into::into).collect(),
            commands: self.to_self.clone(),
            streams: self.streams.clone(),
            heard: Arc::clone(self.link.heard()),
        });
        if let Some(TunnelReplacement { older, newer }) = shell.tunnels.enter(&up) {
            older.end(EndReason::Replaced, Reason::Replaced.explain());
            let shell = Arc::clone(shell);
            self.parts.tasks.spawn(async move { connect::replaced(&shell, &older, newer.source()).await });
        }
        tracing::debug!(machine = %up.identity(), source = %up.source(), services = up.services().len(), "tunnel up");
        shell.metrics.tunnels(shell.tunnels.len());
        self.up = Some(up);
    }

    /// Checks a renewed certificate beside, so that streams go on meanwhile.
    fn verify(&mut self, renewed: Reauthenticate) {
        let (shell, tasks) = (Arc::clone(&self.parts.shell), &self.parts.tasks);
        let (identity, lineage) = (self.seat.peer().identity.clone(), self.lineage.clone());
        let exporter = *self.seat.conn().exporter();
        self.verifying = Some(reauth::spawn(tasks, shell, identity, lineage.into(), exporter, renewed));
    }

    fn verified(&mut self, outcome: Verified) -> Option<Closing> {
        self.verifying = None;
        match outcome {
            Ok(peer) => {
                let not_after = peer.not_after.secs();
                self.reseat(peer);
                self.step(Input::Verified(not_after))
            }
            Err((code, detail)) => self.step(Input::Unverified(code, detail)),
        }
    }

    /// From now on the connection is the renewed certificate's: it ends with that one, and is found by its key.
    fn reseat(&mut self, peer: Peer) {
        let peer = Arc::new(peer);
        self.seat = self.parts.shell.live.renewed(&self.seat, Arc::clone(&peer));
        if let Some(up) = &self.up {
            up.renewed(peer);
        }
    }

    fn drain(&mut self) -> Option<Closing> {
        self.draining = true;
        if let Some(up) = &self.up {
            // Nobody is sent here any more.
            self.parts.shell.tunnels.leave(up);
        }
        self.step(Input::Drain(self.parts.drain_time))
    }

    /// The last word, then the end of everything in it.
    async fn over(mut self: Box<Self>, mut closing: Closing) {
        let shell = Arc::clone(&self.parts.shell);
        if let Some(up) = &self.up {
            shell.tunnels.leave(up);
            shell.metrics.tunnels(shell.tunnels.len());
            connect::tunnel_ended(&shell, up, ended(closing.reason));
            // When the gateway goes all come again, and writing it down for each would keep it.
            if closing.reason != Reason::Drained {
                let (shell, lineage) = (Arc::clone(&shell), up.lineage().to_owned());
                self.parts.tasks.spawn(async move { connect::last_seen(&shell, &lineage).await });
            }
        }
        let machine = &self.seat.peer().identity;
        tracing::debug!(%machine, reason = closing.reason.as_str(), detail = closing.detail, "tunnel down");
        if closing.reason == Reason::Peer && !self.link.has_control() {
            return;
        }
        if closing.retry_after_ms == 0 && closing.reason == Reason::Drained {
            closing.retry_after_ms = 1_000;
        }
        let _ = self.say(&ToMachine::Closing(closing));
        self.link.goodbye(CUT_GRACE).await;
    }
}

const fn closing(reason: Reason, detail: String) -> Closing {
    Closing { reason, detail, retry_after_ms: 0 }
}

/// What the end of a tunnel means for the sessions in it.
const fn ended(reason: Reason) -> EndReason {
    match reason {
        // Whichever end the tunnel came to, neither end of the session wanted it.
        Reason::Peer | Reason::Lost | Reason::Unknown => EndReason::Lost,
        Reason::Drained => EndReason::Drained,
        Reason::Expired => EndReason::Expired,
        Reason::Locked => EndReason::Locked,
        Reason::Policy => EndReason::Policy,
        Reason::Killed => EndReason::Killed,
        Reason::Limit => EndReason::Limit,
        Reason::Replaced => EndReason::Replaced,
        Reason::Broken => EndReason::Broken,
    }
}
