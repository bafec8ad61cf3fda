//! Tunnels: the one outbound connection that each machine holds, and the streams in it. [`crate::core::tunnel`] decides
//! what is said; [`driver`] says it; this is the table of those that are up.

mod carry;
mod control;
mod driver;
mod mux;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use pki::{Identity, Peer, UnixTime};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
    time::timeout,
};
use wire::tunnel::{
    Closing, FRAME_HEAD, Mode, Open, OpenRefusal, Opened, Reason, ServiceOffer, TUNNEL_STREAMS, ToMachine, body_len,
    decode, encode,
};

use self::mux::Heard;
pub use self::{
    carry::{Carried, carry},
    control::{Control, Ended, goodbye},
    driver::{Parts, drive},
    mux::{Happened, Mux, Stream},
};
use crate::{core::refusal::Unreached, limits::OPEN_TIME};

/// Streams that the gateway leaves to the machine: control, and what its own programs reach.
const LEFT_TO_MACHINE: usize = 8;

/// What may wait to be done by a tunnel's task.
const COMMANDS: usize = 16;

/// What others want of a tunnel's task. Small: each tunnel has room for [`COMMANDS`].
#[derive(Debug)]
pub(super) enum Command {
    /// A new stream.
    Open(oneshot::Sender<Stream>),
    /// Answer, if the connection is still there.
    IsUp(oneshot::Sender<()>),
    /// Say this.
    Say(Box<ToMachine>),
    /// What became of a renewed certificate.
    Verified(Box<Result<Peer, (String, String)>>),
    /// End.
    End(Box<Closing>),
}

/// A tunnel that is up.
#[derive(Debug)]
pub struct Tunnel {
    number: u64,
    identity: Identity,
    lineage: String,
    source: IpAddr,
    since: UnixTime,
    peer: Mutex<Peer>,
    services: Mutex<Arc<[ServiceOffer]>>,
    commands: mpsc::Sender<Command>,
    streams: Arc<AtomicUsize>,
    heard: Arc<Heard>,
}

/// Counts a stream for as long as it is held.
#[derive(Debug)]
pub struct StreamSeat(Arc<AtomicUsize>);

impl StreamSeat {
    /// One more, unless that is too many.
    pub(super) fn take(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let taken = count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| (open < most).then_some(open + 1));
        taken.is_ok().then(|| Self(Arc::clone(count)))
    }
}

impl Drop for StreamSeat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tunnel {
    /// Its number; never used twice in one run of the gateway, and larger than those of connections made before.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Whose it is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The lineage of its certificate.
    #[must_use]
    pub fn lineage(&self) -> &str {
        &self.lineage
    }

    /// Where it comes from.
    #[must_use]
    pub const fn source(&self) -> IpAddr {
        self.source
    }

    /// Since when it is up.
    #[must_use]
    pub const fn since(&self) -> UnixTime {
        self.since
    }

    /// The certificate it last proved.
    #[must_use]
    pub fn peer(&self) -> Peer {
        guard(&self.peer).clone()
    }

    /// How long nothing was heard of it.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.heard.silence()
    }

    /// What it exposes.
    #[must_use]
    pub fn services(&self) -> Arc<[ServiceOffer]> {
        Arc::clone(&guard(&self.services))
    }

    /// How a service wants to be spoken to, if it is exposed.
    ///
    /// # Errors
    /// [`Unreached::NotExposed`].
    pub fn mode(&self, service: &str) -> Result<Mode, Unreached> {
        let services = self.services();
        services.iter().find(|offer| offer.name == service).map(|offer| offer.mode).ok_or_else(|| {
            Unreached::NotExposed {
                machine: self.identity.name.to_string(),
                service: service.to_owned(),
                exposed: services.iter().map(|offer| offer.name.clone()).collect(),
            }
        })
    }

    /// Says something to the machine, if it still listens.
    pub fn say(&self, frame: ToMachine) {
        self.command(Command::Say(Box::new(frame)));
    }

    /// Ends it.
    pub fn end(&self, reason: Reason, detail: &str) {
        let closing = Closing { reason, detail: detail.to_owned(), retry_after_ms: 0 };
        self.command(Command::End(Box::new(closing)));
    }

    /// Lets the tunnel's task do something, as soon as it has done what waits. One that has ended has no use for it.
    fn command(&self, command: Command) {
        if let Err(mpsc::error::TrySendError::Full(command)) = self.commands.try_send(command) {
            let commands = self.commands.clone();
            tokio::spawn(async move { commands.send(command).await });
        }
    }

    /// Opens a stream to a service.
    ///
    /// # Errors
    /// [`Unreached`].
    pub async fn open(&self, head: &Open) -> Result<(Stream, StreamSeat), Unreached> {
        let machine = || self.identity.name.to_string();
        let most = TUNNEL_STREAMS - LEFT_TO_MACHINE;
        let seat = StreamSeat::take(&self.streams, most).ok_or_else(|| {
            Unreached::TooMany(format!("{most} streams are open to the machine `{}`, which is the most", machine()))
        })?;
        match timeout(OPEN_TIME, self.exchange(head)).await {
            Ok(Some((stream, Opened::Ok))) => Ok((stream, seat)),
            Ok(Some((_, Opened::Refused { why, detail }))) => Err(self.refused(why, detail, &head.service)),
            Ok(None) => Err(Unreached::Offline { machine: machine() }),
            Err(_) => {
                if self.heard.silence() >= OPEN_TIME {
                    // Not a word on any stream either: the connection is dead, and the next one should not wait as long.
                    self.end(Reason::Peer, "it does not answer");
                }
                Err(Unreached::Silent { machine: machine(), seconds: OPEN_TIME.as_secs() })
            }
        }
    }

    /// Whether its connection is still there. Its task answers, which sees the end of a connection no later than any stream in it.
    pub async fn is_up(&self) -> bool {
        let (to, answered) = oneshot::channel();
        self.commands.send(Command::IsUp(to)).await.is_ok() && answered.await.is_ok()
    }

    /// Nothing when the tunnel ended meanwhile.
    async fn exchange(&self, head: &Open) -> Option<(Stream, Opened)> {
        let (to, stream) = oneshot::channel();
        self.commands.send(Command::Open(to)).await.ok()?;
        let mut stream = stream.await.ok()?;
        write_frame(&mut stream, head).await?;
        let answer = read_frame(&mut stream).await?;
        Some((stream, answer))
    }

    fn refused(&self, why: OpenRefusal, detail: String, service: &str) -> Unreached {
        let machine = self.identity.name.to_string();
        match why {
            OpenRefusal::NotExposed => self.mode(service).err().unwrap_or(Unreached::ByMachine { machine, detail }),
            OpenRefusal::NotAllowed | OpenRefusal::Unknown => Unreached::ByMachine { machine, detail },
            OpenRefusal::TargetClosed => Unreached::TargetClosed { machine, detail },
            OpenRefusal::TargetSlow => Unreached::TargetSlow { machine, detail },
            OpenRefusal::Limit => Unreached::TooMany(detail),
        }
    }
}

/// Writes one frame at the beginning of a stream; nothing when the stream broke.
pub async fn write_frame<IO: AsyncWrite + Unpin>(stream: &mut IO, frame: &impl Serialize) -> Option<()> {
    stream.write_all(&encode(frame).ok()?).await.ok()?;
    stream.flush().await.ok()
}

/// Reads exactly one frame from the beginning of a stream; nothing when it is none.
pub async fn read_frame<T: DeserializeOwned, IO: AsyncRead + Unpin>(stream: &mut IO) -> Option<T> {
    let mut head = [0; FRAME_HEAD];
    stream.read_exact(&mut head).await.ok()?;
    let mut body = vec![0; body_len(head).ok()?];
    stream.read_exact(&mut body).await.ok()?;
    decode(&body).ok()
}

/// All tunnels that are up, by machine.
#[derive(Debug, Default)]
pub struct Tunnels {
    table: Mutex<HashMap<Identity, Arc<Tunnel>>>,
    next: AtomicU64,
}

impl Tunnels {
    /// None yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The tunnel of a machine.
    #[must_use]
    pub fn get(&self, identity: &Identity) -> Option<Arc<Tunnel>> {
        guard(&self.table).get(identity).map(Arc::clone)
    }

    /// Enters one, unless a newer one stands there: a hello may be overtaken by that of a later connection. Whichever must
    /// go is returned, for the caller to tell.
    pub(super) fn enter(&self, tunnel: &Arc<Tunnel>) -> Option<Arc<Tunnel>> {
        let mut table = guard(&self.table);
        if table.get(&tunnel.identity).is_some_and(|standing| standing.number > tunnel.number) {
            return Some(Arc::clone(tunnel));
        }
        table.insert(tunnel.identity.clone(), Arc::clone(tunnel))
    }

    /// Takes one out, unless another has taken its place.
    pub(super) fn leave(&self, tunnel: &Arc<Tunnel>) {
        let mut table = guard(&self.table);
        if table.get(&tunnel.identity).is_some_and(|standing| Arc::ptr_eq(standing, tunnel)) {
            table.remove(&tunnel.identity);
            if table.capacity() > 4 * table.len() {
                table.shrink_to_fit();
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        guard(&self.table).len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Within which time all of them can come back when they are lost at once, so many in a second.
    #[must_use]
    pub fn reconnect_within(&self, per_second: usize) -> Duration {
        let seconds = self.len().div_ceil(per_second.max(1)).max(1);
        Duration::from_secs(seconds.try_into().unwrap_or(u64::MAX))
    }

    /// A number for a new one.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Says something to a machine, or to all.
    pub fn tell(&self, machine: Option<&Identity>, frame: &ToMachine) {
        let table = guard(&self.table);
        match machine {
            Some(machine) => table.get(machine).into_iter().for_each(|tunnel| tunnel.say(frame.clone())),
            None => table.values().for_each(|tunnel| tunnel.say(frame.clone())),
        }
    }
}
