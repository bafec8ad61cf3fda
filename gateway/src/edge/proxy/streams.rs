//! A helper's connection: each stream that it opens asks for one service. One stream more, which we open, says why sessions end
//! and takes the certificate that the person renewed meanwhile, so that what is open outlives the one it began with.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use pki::Peer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
    time::{Duration, Instant, sleep, timeout},
};
use wire::tunnel::{Closing, FromMachine, Reason, Reauthenticate, ToMachine, Welcome};

use super::Parts;
use crate::{
    core::{
        refusal::Refusal,
        session::EndReason,
        tunnel::{FRAMES_MAX, FRAMES_SPAN},
    },
    edge::{
        control::{Control, goodbye},
        mux::{Happened, Mux},
        reauth::{self, Verified},
        relay::{self, EndsTo},
    },
    flow::connect::{self, Caller},
    limits::{CUT_GRACE, HELPER_STREAMS},
    registry::{
        live::{self, Conn, Seat},
        sessions::{Door, Selector},
        tunnels::{Stream, StreamGuard},
    },
};

/// What the streams of a connection have to say at a time: an end each, and one more would be a stream too many.
const WORDS: usize = 2 * HELPER_STREAMS;

/// How often a connection that drains looks whether its last stream has ended.
const LOOK: Duration = Duration::from_millis(50);

enum Event {
    Mux(Happened),
    Frame(FromMachine),
    /// The helper has no use for our words; it is older than they are.
    Deaf,
    Word(ToMachine),
    Verified(Box<Verified>),
    Told(live::Reason),
    Tick,
}

/// What a wait heeds of what the connection is told.
#[derive(Copy, Clone)]
enum Heed {
    All,
    Cut,
    /// Nothing: it was told.
    Ended,
}

struct Helper<IO> {
    parts: Arc<Parts>,
    mux: Mux<IO>,
    control: Option<Control>,
    /// The connection as the table knows it, by the certificate that was proven on it last.
    seat: Seat,
    /// The same by the first one: what its sessions are found by, whenever they begin.
    first: Arc<Conn>,
    peer: Peer,
    lineage: Result<Arc<str>, Arc<Refusal>>,
    open: Arc<AtomicUsize>,
    words: (mpsc::Sender<ToMachine>, mpsc::Receiver<ToMachine>),
    verifying: Option<oneshot::Receiver<Verified>>,
    frames: VecDeque<Instant>,
    draining: bool,
}

/// Serves it until it ends.
pub async fn streams<IO>(parts: Arc<Parts>, io: IO, seat: Seat)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut mux = Mux::accepted(io, HELPER_STREAMS);
    let instance = parts.instance();
    let Some(peer) = seat.conn().peer().cloned() else { return };
    let lineage = parts.admit(&seat, &instance).await;
    let control = match lineage {
        Ok(_) => mux.opened().await.ok().map(|stream| welcomed(&parts, stream)),
        Err(_) => None,
    };
    let helper = Helper {
        mux,
        control,
        first: Arc::clone(seat.conn()),
        seat,
        peer,
        lineage: lineage.map(Arc::from).map_err(Arc::new),
        open: Arc::default(),
        words: mpsc::channel(WORDS),
        verifying: None,
        frames: VecDeque::new(),
        draining: false,
        parts,
    };
    Box::pin(helper.run()).await;
}

/// The stream for words, with the first of them. Nothing is asked of a helper but that it listens.
fn welcomed(parts: &Parts, stream: Stream) -> Control {
    let shell = &parts.shell;
    let welcome = Welcome {
        heartbeat_ms: 0,
        epoch: shell.epoch.load(Ordering::Relaxed),
        time: shell.now().secs(),
        reconnect_within_ms: 0,
    };
    let mut control = Control::new(stream);
    // The first frame of a stream is never too much for it.
    let _ = control.send(&ToMachine::Welcome(welcome));
    control
}

impl<IO> Helper<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn run(mut self) {
        let reason = loop {
            let heed = if self.draining { Heed::Cut } else { Heed::All };
            match self.event(heed).await {
                Event::Mux(Happened::Inbound(stream)) => {
                    let Some(place) = StreamGuard::take(&self.open, HELPER_STREAMS) else {
                        break EndReason::Limit;
                    };
                    self.serve(stream, place);
                }
                Event::Mux(Happened::Over(_)) => return,
                Event::Deaf => self.control = None,
                Event::Word(word) => self.say(&word),
                Event::Frame(FromMachine::Reauthenticate(renewed)) if self.verifying.is_none() && self.in_time() => {
                    self.verify(renewed);
                }
                Event::Frame(FromMachine::Abandoned { session }) if self.in_time() => {
                    connect::abandoned(&self.parts.shell, &session, &Selector::Conn(self.first.id()), EndReason::Peer);
                }
                Event::Frame(FromMachine::Unknown) if self.in_time() => {}
                // Too many, or nothing that a person's helper has to say.
                Event::Frame(_) => break EndReason::Limit,
                Event::Verified(outcome) => self.verified(*outcome),
                Event::Told(live::Reason::Drained) => {
                    self.draining = true;
                    let after_ms = self.parts.drain_time.as_millis().try_into().unwrap_or(u64::MAX);
                    self.say(&ToMachine::Drain { after_ms, reconnect_within_ms: 0 });
                }
                Event::Told(reason) => break reason.into(),
                Event::Tick => {}
            }
            if self.draining && self.open.load(Ordering::SeqCst) == 0 {
                break EndReason::Drained;
            }
        };
        self.over(reason).await;
    }

    async fn event(&mut self, heed: Heed) -> Event {
        let Self { mux, control, seat, words, verifying, .. } = self;
        let conn = Arc::clone(seat.conn());
        let told = async {
            match heed {
                Heed::All => conn.told_to_end().await,
                // Streams that are open may end by themselves; each is told on its own.
                Heed::Cut => conn.told_to_end_at_once().await,
                Heed::Ended => std::future::pending().await,
            }
        };
        let tick = async {
            match heed {
                // The last stream's end is no event.
                Heed::Cut => sleep(LOOK).await,
                Heed::All | Heed::Ended => std::future::pending().await,
            }
        };
        let moving = poll_fn(|cx| {
            if let Poll::Ready(happened) = mux.poll(cx) {
                return Poll::Ready(Event::Mux(happened));
            }
            match control {
                Some(control) => control.poll(cx).map(|said| said.map_or(Event::Deaf, Event::Frame)),
                None => Poll::Pending,
            }
        });
        tokio::select! {
            biased;
            reason = told => Event::Told(reason),
            Some(word) = words.1.recv() => Event::Word(word),
            event = moving => event,
            outcome = reauth::outcome(verifying) => Event::Verified(Box::new(outcome)),
            () = tick => Event::Tick,
        }
    }

    fn say(&mut self, word: &ToMachine) {
        if self.control.as_mut().is_some_and(|control| control.send(word).is_err()) {
            self.control = None;
        }
    }

    /// Whether no more frames came than a helper has reason for.
    fn in_time(&mut self) -> bool {
        let now = Instant::now();
        self.frames.retain(|at| now.duration_since(*at) < FRAMES_SPAN);
        self.frames.push_back(now);
        self.frames.len() <= usize::try_from(FRAMES_MAX).unwrap_or(usize::MAX)
    }

    fn serve(&self, stream: Stream, place: StreamGuard) {
        let (parts, conn, peer) = (Arc::clone(&self.parts), Arc::clone(&self.first), self.peer.clone());
        let limited = parts.limit(&self.seat).err().map(Arc::new);
        let (lineage, words) = (self.lineage.clone(), self.words.0.clone());
        let tasks = parts.tasks.clone();
        tasks.spawn(async move {
            match (lineage, limited) {
                (Ok(lineage), None) => {
                    let caller = Caller { peer, conn: &conn, lineage: &lineage, tunnel: None };
                    relay::stream(&parts.shell, &caller, EndsTo::Helper(words), Door::Helper, stream).await;
                }
                (Err(refusal), _) | (Ok(_), Some(refusal)) => {
                    relay::refuse_stream(&refusal, &parts.instance(), stream).await;
                }
            }
            drop(place);
        });
    }

    /// Checks a renewed certificate beside, so that streams go on meanwhile.
    fn verify(&mut self, renewed: Reauthenticate) {
        let Ok(lineage) = self.lineage.clone() else { return };
        let (shell, identity) = (Arc::clone(&self.parts.shell), self.peer.identity.clone());
        let exporter = *self.seat.conn().exporter();
        self.verifying = Some(reauth::spawn(&self.parts.tasks, shell, identity, lineage, exporter, renewed));
    }

    fn verified(&mut self, outcome: Verified) {
        self.verifying = None;
        let word = match outcome {
            Ok(peer) => {
                self.seat = self.parts.shell.live.renewed(&self.seat, peer.clone());
                let not_after = peer.not_after.secs();
                self.peer = peer;
                ToMachine::Reauthenticated { not_after }
            }
            Err((code, detail)) => ToMachine::ReauthenticationRefused { code, detail },
        };
        self.say(&word);
    }

    /// Ends what is open, whichever certificate it began with. What the streams have to say goes out first, and why at last.
    async fn over(mut self, reason: EndReason) {
        self.parts.shell.sessions.cut(&Selector::Conn(self.first.id()), reason);
        let _ = timeout(CUT_GRACE, async {
            while self.open.load(Ordering::SeqCst) > 0 || !self.words.1.is_empty() {
                // The last stream's end is no event.
                match timeout(LOOK, self.event(Heed::Ended)).await {
                    Ok(Event::Mux(Happened::Over(_))) => return,
                    Ok(Event::Word(word)) => self.say(&word),
                    Ok(Event::Deaf) => self.control = None,
                    Ok(
                        Event::Mux(Happened::Inbound(_))
                        | Event::Frame(_)
                        | Event::Verified(_)
                        | Event::Told(_)
                        | Event::Tick,
                    )
                    | Err(_) => {}
                }
            }
        })
        .await;
        let reason = Reason::from(reason);
        self.say(&ToMachine::Closing(Closing { reason, detail: reason.explain().to_owned(), retry_after_ms: 0 }));
        let Self { mux, control, .. } = &mut self;
        goodbye(mux, control).await;
    }
}
