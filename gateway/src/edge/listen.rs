//! The listeners: sockets, limits on connections, handshakes, and one task for each connection.
//!
//! An accept loop never waits for a peer: whatever takes time happens in the connection's own task, under a time limit,
//! and whoever is one too many is closed at once.
#![expect(clippy::disallowed_methods, reason = "this file is where sockets are bound")]

mod handshake;
mod plain;
mod seldom;
mod serve;
mod slices;
mod slots;
mod socket;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use futures::FutureExt as _;
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{error::Elapsed, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    handshake::{Accepted, Entrant, LeadsTo, Served, Socket, handshake},
    seldom::{Recurring, Seldom},
    serve::Service,
    slots::{ConnSlots, Slot},
};
use super::{dial_back, proxy, tls::TlsSwap, tunnel};
use crate::{
    config::Listen,
    core::{
        face::{Face, Protocol},
        network::Network,
    },
    flow::shell::Shell,
    limits::{ACCEPT_PAUSE, ACCEPT_PAUSE_MAX, CUT_GRACE, EXPIRY_SWEEP, Limits, TUNNEL_HANDSHAKES},
    ports::{
        clock::Clock,
        metrics::{HandshakeOutcome, Metrics, TurnedAway},
        rate::{Prefix, Rates},
    },
    registry::live::{CloseReason, Conn, ConnSelector, Live, NewConn},
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
pub struct ListenerDeps {
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
    /// From where connections begin with a header of the PROXY protocol.
    pub balancers: Vec<Network>,
}

/// What is served on each face.
#[derive(Clone)]
pub struct Faces {
    /// To everybody.
    pub enroll: Router,
    /// To holders of a certificate.
    pub manage: Router,
    /// What tunnels and connections through them work on.
    pub shell: Arc<Shell>,
    /// How often connections may be asked for.
    pub rates: Arc<Rates>,
}

impl fmt::Debug for Faces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faces").finish_non_exhaustive()
    }
}

/// Where the faces are.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The enroll face.
    pub enroll: SocketAddr,
    /// The manage face; the same address when the port is shared.
    pub manage: SocketAddr,
    /// The proxy face, if there is one; the same address when the port is shared.
    pub proxy: Option<SocketAddr>,
}

/// Sockets that are bound and not served yet, so that nothing is promised before it can be kept.
#[derive(Debug)]
pub struct Server {
    doors: Vec<BoundSocket>,
    bound: Bound,
    parts: ListenerDeps,
}

#[derive(Debug)]
struct BoundSocket {
    listener: TcpListener,
    leads_to: LeadsTo,
}

impl Server {
    /// Binds the sockets.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(listen: Listen, parts: ListenerDeps) -> Result<Self, BindError> {
        let (doors, bound) = match listen {
            Listen::Shared(address) => {
                let (door, at) = BoundSocket::open(address, LeadsTo::Sni).await?;
                (vec![door], Bound { enroll: at, manage: at, proxy: Some(at) })
            }
            Listen::Separate { enroll, manage, proxy } => {
                let (enroll_door, enroll) = BoundSocket::open(enroll, LeadsTo::Face(Face::Enroll)).await?;
                let (manage_door, manage) = BoundSocket::open(manage, LeadsTo::Face(Face::Manage)).await?;
                let mut doors = vec![enroll_door, manage_door];
                let proxy = match proxy {
                    Some(address) => {
                        let (door, at) = BoundSocket::open(address, LeadsTo::Face(Face::Proxy)).await?;
                        doors.push(door);
                        Some(at)
                    }
                    None => None,
                };
                (doors, Bound { enroll, manage, proxy })
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
        let ListenerDeps { tls, live, clock, limits, metrics, balancers } = parts;
        let tasks = TaskTracker::new();
        let tunnels = Arc::new(tunnel::TunnelDeps {
            shell: Arc::clone(&faces.shell),
            rates: Arc::clone(&faces.rates),
            drain_time: limits.drain_time,
            tunnels_per_second: limits.tunnels_per_second,
            tasks: tasks.clone(),
        });
        let proxy = Arc::new(proxy::ProxyDeps {
            shell: faces.shell,
            rates: faces.rates,
            head_time: limits.head_time,
            drain_time: limits.drain_time,
            tasks: tasks.clone(),
        });
        let context = Arc::new(ListenerContext {
            tls,
            slots: ConnSlots::new(&limits),
            handshakes: Semaphore::new(limits.handshakes.min(Semaphore::MAX_PERMITS)),
            tunnel_handshakes: Semaphore::new(TUNNEL_HANDSHAKES),
            handshake_time: limits.handshake_time,
            enroll: Service::new(Face::Enroll, faces.enroll, &limits, &metrics),
            manage: Service::new(Face::Manage, faces.manage, &limits, &metrics),
            live,
            metrics,
            stop: CancellationToken::new(),
            tunnels,
            proxy,
            balancers,
            seldom: Seldom::default(),
            tasks,
        });
        for door in doors {
            context.tasks.spawn(accept(Arc::clone(&context), door));
        }
        context.tasks.spawn(sweep(Arc::clone(&context), clock));
        Running { bound, context }
    }
}

impl BoundSocket {
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
    context: Arc<ListenerContext>,
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
        let ListenerContext { stop, tasks, live, .. } = &*self.context;
        stop.cancel();
        tasks.close();
        let open = live.cut(&ConnSelector::All, CloseReason::Drained);
        let cut = match timeout(within, tasks.wait()).await {
            Ok(()) => 0,
            Err(_) => {
                let cut = live.cut(&ConnSelector::All, CloseReason::Stopped);
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
struct ListenerContext {
    tls: Arc<TlsSwap>,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    slots: Arc<ConnSlots>,
    handshakes: Semaphore,
    tunnel_handshakes: Semaphore,
    handshake_time: Duration,
    enroll: Service,
    manage: Service,
    tunnels: Arc<tunnel::TunnelDeps>,
    proxy: Arc<proxy::ProxyDeps>,
    balancers: Vec<Network>,
    seldom: Seldom,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl ListenerContext {
    /// Counts a connection that finds no room, and says so now and then.
    fn turned_away(&self, why: TurnedAway, from: IpAddr) {
        self.metrics.turned_away(why);
        if let Some(count) = self.seldom.count(Recurring::TurnedAway(why)) {
            let (prefix, limit) = (Prefix::of(from), why.key());
            tracing::info!(count, %prefix, limit, "connections turned away");
        }
    }
}

/// Cuts connections whose certificates have ended.
async fn sweep(context: Arc<ListenerContext>, clock: Clock) {
    let mut ticks = tokio::time::interval(EXPIRY_SWEEP);
    while context.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        context.live.cut_expired(clock.now());
    }
}

/// The accept loop of one socket.
async fn accept(context: Arc<ListenerContext>, door: BoundSocket) {
    let mut pause = ACCEPT_PAUSE;
    while let Some(accepted) = context.stop.run_until_cancelled(door.listener.accept()).await {
        match accepted {
            Ok((tcp, from)) => {
                pause = ACCEPT_PAUSE;
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                let by_balancer = context.balancers.iter().any(|network| network.contains(from.ip()));
                let slot = if by_balancer { context.slots.take_for_balancer() } else { context.slots.take(from.ip()) };
                match slot {
                    Ok(slot) => {
                        let socket = Socket { tcp, from, by_balancer };
                        let handshake = handshake(Arc::clone(&context), socket, door.leads_to, slot);
                        let handshake = Box::pin(timeout(context.handshake_time, handshake));
                        drop(context.tasks.spawn(connection(Arc::clone(&context), from, handshake)));
                    }
                    Err(why) => context.turned_away(why, from.ip()),
                }
            }
            // The peer went away between its packet and our call.
            Err(error) if is_peers_doing(&error) => {}
            Err(error) => {
                context.metrics.accept_failed();
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
    context: Arc<ListenerContext>,
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
            serve_one(&context, accepted).await;
        }
        Err(outcome) => {
            context.metrics.handshake(outcome);
            tracing::debug!(%from, ?outcome, "handshake failed");
        }
    }
}

/// Serves a connection. Boxed for each protocol apart: an idle one is as large as what it speaks, not as the largest there is.
/// What is left of [`Accepted`] ends here, and not with the connection.
fn serve_one(context: &ListenerContext, accepted: Box<Accepted>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let Accepted { stream, face, entrant, exporter, mut slot, source } = *accepted;
    let (peer, served) = match entrant {
        Entrant::Anyone(requester) => {
            let guard = context.live.enter(NewConn { face, requester, source, exporter });
            seated(context, &mut slot, guard.conn());
            let http = context.enroll.http(stream, guard.conn());
            return Box::pin(serve::serve(guard, http).map(move |()| drop(slot)));
        }
        Entrant::Holder(peer, served) => (peer, served),
    };
    let guard = context.live.enter_holder(peer, face, source, exporter);
    seated(context, &mut slot, guard.conn());
    let proxy = Arc::clone(&context.proxy);
    // The slot is given back at the very end.
    let end = move |()| drop(slot);
    match served {
        Served::Protocol(Protocol::Http) => {
            let http = context.manage.http(stream, guard.conn());
            Box::pin(serve::serve(guard.into(), http).map(end))
        }
        Served::Protocol(Protocol::Tunnel) => {
            Box::pin(tunnel::drive(Arc::clone(&context.tunnels), stream, guard).map(end))
        }
        Served::Protocol(Protocol::Connect) => Box::pin(proxy::connect(proxy, stream, guard).map(end)),
        Served::Protocol(Protocol::Streams) => Box::pin(proxy::streams(proxy, stream, guard).map(end)),
        Served::Protocol(Protocol::DialBack) => Box::pin(dial_back::serve(proxy, stream, guard).map(end)),
        Served::Service(name) => Box::pin(proxy::raw(proxy, stream, guard, name).map(end)),
    }
}

/// A connection has entered the table.
fn seated(context: &ListenerContext, slot: &mut Slot, conn: &Arc<Conn>) {
    slot.seated(conn);
    if context.stop.is_cancelled() {
        // It was not in the table yet when everybody there was told.
        context.live.cut(&ConnSelector::Conn(conn.id()), CloseReason::Drained);
    }
}
