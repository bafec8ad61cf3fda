//! The listeners: sockets, limits on connections, handshakes, and one task for each connection.
//!
//! An accept loop never waits for a peer: whatever takes time happens in the connection's own task, under a time limit,
//! and whoever is one too many is closed at once.
#![expect(clippy::disallowed_methods, reason = "this file is where sockets are bound")]

mod serve;
mod slices;
mod slots;
#[cfg(test)]
mod tests;

use std::{future::Future, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::Router;
use pki::Peer;
use rustls::server::Acceptor;
use thiserror::Error;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{error::Elapsed, timeout},
};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    serve::{Http, Service},
    slots::{Slot, Slots},
};
use super::{
    clock::Clock,
    live::{Live, NewConn, Reason, Seat, Selector},
    metrics::{HandshakeOutcome, Metrics},
    tls::{self, Face, TlsSwap},
};
use crate::{
    config::Listen,
    limits::{ACCEPT_PAUSE, ACCEPT_PAUSE_MAX, CUT_GRACE, EXPIRY_SWEEP, Limits},
};

/// Why the gateway cannot listen.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {source}; choose another under [listen], or stop what listens there")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// What the listeners need from the rest of the gateway.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Whom to let in, and with which certificate.
    pub tls: Arc<TlsSwap>,
    /// Open connections.
    pub live: Arc<Live>,
    /// The clock by which certificates end.
    pub clock: Clock,
    /// Limits.
    pub limits: Limits,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// What is served on each face.
#[derive(Clone, Debug)]
pub struct Faces {
    /// To everybody.
    pub enroll: Router,
    /// To holders of a certificate.
    pub manage: Router,
}

/// Where the faces are.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The enroll face.
    pub enroll: SocketAddr,
    /// The manage face; the same address when the port is shared.
    pub manage: SocketAddr,
}

/// Sockets that are bound and not served yet, so that nothing is promised before it can be kept.
#[derive(Debug)]
pub struct Server {
    doors: Vec<Door>,
    bound: Bound,
    parts: Parts,
}

#[derive(Debug)]
struct Door {
    listener: TcpListener,
    leads_to: LeadsTo,
}

/// What decides which face a connection meets.
#[derive(Copy, Clone, Debug)]
enum LeadsTo {
    /// The port.
    Face(Face),
    /// The name that the client asks for. Never the `Host` of a request, which anybody can write.
    Sni,
}

impl Server {
    /// Binds the sockets.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(listen: Listen, parts: Parts) -> Result<Self, BindError> {
        let (doors, bound) = match listen {
            Listen::Shared(address) => {
                let (door, at) = Door::open(address, LeadsTo::Sni).await?;
                (vec![door], Bound { enroll: at, manage: at })
            }
            Listen::Separate { enroll, manage } => {
                let (enroll_door, enroll) = Door::open(enroll, LeadsTo::Face(Face::Enroll)).await?;
                let (manage_door, manage) = Door::open(manage, LeadsTo::Face(Face::Manage)).await?;
                (vec![enroll_door, manage_door], Bound { enroll, manage })
            }
        };
        Ok(Self { doors, bound, parts })
    }

    /// Where the faces are, with the ports that the system chose.
    #[must_use]
    pub const fn bound(&self) -> Bound {
        self.bound
    }

    /// Starts serving.
    #[must_use]
    pub fn start(self, faces: Faces) -> Running {
        let Self { doors, bound, parts } = self;
        let Parts { tls, live, clock, limits, metrics } = parts;
        let context = Arc::new(Context {
            tls,
            slots: Slots::new(&limits),
            handshakes: Semaphore::new(limits.handshakes.min(Semaphore::MAX_PERMITS)),
            handshake_time: limits.handshake_time,
            enroll: Service::new(Face::Enroll, faces.enroll, &limits, &metrics),
            manage: Service::new(Face::Manage, faces.manage, &limits, &metrics),
            live,
            metrics,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        for door in doors {
            context.tasks.spawn(accept(Arc::clone(&context), door));
        }
        context.tasks.spawn(sweep(Arc::clone(&context), clock));
        Running { bound, context }
    }
}

impl Door {
    async fn open(address: SocketAddr, leads_to: LeadsTo) -> Result<(Self, SocketAddr), BindError> {
        let failed = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let at = listener.local_addr().map_err(failed)?;
        Ok((Self { listener, leads_to }, at))
    }
}

/// The listeners at work.
#[derive(Debug)]
pub struct Running {
    bound: Bound,
    context: Arc<Context>,
}

/// How a drain went.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were open when it began.
    pub open: usize,
    /// Connections that had to be cut.
    pub cut: usize,
}

impl Running {
    /// Where the faces are.
    #[must_use]
    pub const fn bound(&self) -> Bound {
        self.bound
    }

    /// Stops accepting, asks every connection to end, waits, and cuts those that are left.
    pub async fn drain(self, within: Duration) -> Drained {
        let Context { stop, tasks, live, .. } = &*self.context;
        stop.cancel();
        tasks.close();
        let open = live.cut(&Selector::All, Reason::Drained);
        let cut = match timeout(within, tasks.wait()).await {
            Ok(()) => 0,
            Err(_) => {
                let cut = live.cut(&Selector::All, Reason::Killed);
                // Whoever is left after this hangs in a handler; the end of the process will do.
                let _ = timeout(2 * CUT_GRACE, tasks.wait()).await;
                cut
            }
        };
        Drained { open, cut }
    }
}

/// What every connection's task shares.
#[derive(Debug)]
struct Context {
    tls: Arc<TlsSwap>,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    slots: Arc<Slots>,
    handshakes: Semaphore,
    handshake_time: Duration,
    enroll: Service,
    manage: Service,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Context {
    const fn service(&self, face: Face) -> &Service {
        match face {
            Face::Enroll => &self.enroll,
            Face::Manage => &self.manage,
        }
    }
}

/// Cuts connections whose certificates have ended.
async fn sweep(context: Arc<Context>, clock: Clock) {
    let mut ticks = tokio::time::interval(EXPIRY_SWEEP);
    while context.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        context.live.cut_expired(clock.now());
    }
}

/// The accept loop of one socket.
async fn accept(context: Arc<Context>, door: Door) {
    let mut pause = ACCEPT_PAUSE;
    while let Some(accepted) = context.stop.run_until_cancelled(door.listener.accept()).await {
        match accepted {
            Ok((tcp, from)) => {
                pause = ACCEPT_PAUSE;
                match context.slots.take(from.ip()) {
                    Ok(slot) => {
                        let handshake = handshake(Arc::clone(&context), tcp, door.leads_to, slot);
                        let handshake = Box::pin(timeout(context.handshake_time, handshake));
                        drop(context.tasks.spawn(connection(Arc::clone(&context), from, handshake)));
                    }
                    Err(why) => context.metrics.turned_away(why),
                }
            }
            // The peer went away between its packet and our call.
            Err(error) if is_peers_doing(&error) => {}
            Err(error) => {
                // Once for each run of failures: out of descriptors, this would fill the disk as well.
                if pause == ACCEPT_PAUSE {
                    tracing::error!(%error, "cannot accept connections; trying again");
                }
                let waiting = tokio::time::sleep(pause);
                if context.stop.run_until_cancelled(waiting).await.is_none() {
                    return;
                }
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

fn is_peers_doing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | WouldBlock)
}

type Handshaken = Result<Result<Box<Accepted>, HandshakeOutcome>, Elapsed>;

/// One connection, from its handshake to its end. The handshake comes boxed, and so does what follows it: each future
/// inside would add its size to every idle connection.
async fn connection(
    context: Arc<Context>,
    from: SocketAddr,
    handshake: Pin<Box<impl Future<Output = Handshaken> + Send>>,
) {
    let outcome = match context.stop.run_until_cancelled(handshake).await {
        None => return,
        Some(Ok(outcome)) => outcome,
        Some(Err(_)) => Err(HandshakeOutcome::TooSlow),
    };
    match outcome {
        Ok(accepted) => {
            context.metrics.handshake(HandshakeOutcome::Done);
            let (_slot, seat, http) = enter(&context, accepted, from);
            serve::serve(http, seat.conn()).await;
        }
        Err(outcome) => {
            context.metrics.handshake(outcome);
            tracing::debug!(%from, ?outcome, "handshake failed");
        }
    }
}

/// Enters a connection into the table and puts HTTP on it. Not a part of [`connection`], where what is left of
/// `Accepted` would stay until the connection ends.
fn enter(context: &Context, accepted: Box<Accepted>, from: SocketAddr) -> (Slot, Seat, Http<TlsStream<TcpStream>>) {
    let Accepted { stream, face, peer, exporter, mut slot } = *accepted;
    slot.handshake_over();
    let seat = context.live.enter(NewConn { face, peer, source: from.ip().to_canonical(), exporter });
    if context.stop.is_cancelled() {
        // It was not in the table yet when everybody there was told.
        context.live.cut(&Selector::Conn(seat.conn().id()), Reason::Drained);
    }
    let http = context.service(face).http(stream, seat.conn());
    (slot, seat, http)
}

/// A connection that was let in.
struct Accepted {
    stream: TlsStream<TcpStream>,
    face: Face,
    peer: Option<Peer>,
    exporter: [u8; 32],
    slot: Slot,
}

async fn handshake(
    context: Arc<Context>,
    tcp: TcpStream,
    leads_to: LeadsTo,
    mut slot: Slot,
) -> Result<Box<Accepted>, HandshakeOutcome> {
    // The semaphore is never closed.
    let _permit = context.handshakes.acquire().await.map_err(|_| HandshakeOutcome::Gone)?;
    // Answers are small and should not wait for the peer's acknowledgement. A socket that refuses the option works.
    let _ = tcp.set_nodelay(true);
    let start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await.map_err(|error| outcome(&error))?;
    let (face, config) = {
        let table = context.tls.load();
        let face = match leads_to {
            LeadsTo::Face(face) => Some(face),
            LeadsTo::Sni => start.client_hello().server_name().and_then(|name| table.names.face_of(name)),
        };
        (face, face.map(|face| Arc::clone(table.config(face))))
    };
    let (Some(face), Some(config)) = (face, config) else {
        unrecognised(start).await;
        return Err(HandshakeOutcome::UnknownName);
    };
    if let Err(why) = slot.enter(face) {
        context.metrics.turned_away(why);
        return Err(HandshakeOutcome::Gone);
    }
    let (stream, peer) = tls::admitting(start.into_stream(config)).await;
    let stream = stream.map_err(|error| outcome(&error))?;
    match (face, &peer) {
        (Face::Manage, None) => return Err(HandshakeOutcome::Certificate),
        (Face::Manage, Some(_)) | (Face::Enroll, _) => {}
    }
    let exporter = stream
        .get_ref()
        .1
        .export_keying_material([0; 32], wire::enroll::EXPORTER_LABEL, None)
        .map_err(|_| HandshakeOutcome::Refused)?;
    Ok(Box::new(Accepted { stream, face, peer, exporter, slot }))
}

/// RFC 6066 3: the fatal alert `unrecognized_name`, before any certificate is shown.
async fn unrecognised(mut start: StartHandshake<TcpStream>) {
    const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
    // The peer may be gone; then there is nobody to tell.
    let _ = start.io.write_all(&ALERT).await;
    let _ = start.io.shutdown().await;
}

/// Whose fault a failed handshake was.
fn outcome(error: &io::Error) -> HandshakeOutcome {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            HandshakeOutcome::Certificate
        }
        Some(_) => HandshakeOutcome::Refused,
        None => HandshakeOutcome::Gone,
    }
}
