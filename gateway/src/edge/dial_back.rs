//! Dial-backs: a stream that carries much moves to a connection of its own, so that what is typed on its neighbours does not
//! wait behind it. Whoever is at the other end of a tunnel or of a helper's connection sees the same bytes as we do, and
//! decides; here stands which streams may move, and the connections they move to come in.

use std::{
    collections::HashMap,
    fmt::Debug,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use pki::{Identity, Role};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::oneshot,
    time::timeout,
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use wire::{
    moving::{Arrival, Arrive, Moving},
    tunnel::{DialBack, DialedBack},
};

use super::{
    proxy::Parts,
    tunnel::{Stream, read_frame, write_frame},
};
use crate::{
    core::{
        admission::Use,
        refusal::{ForWhom, Missing, Refusal},
    },
    edge::fronts::native::problem,
    flow::admit::admit,
    limits::{CUT_GRACE, FINISH_TIME},
    ports::rate::Class,
    registry::{
        live::{Conn, Seat},
        sessions::Session,
    },
};

/// What a connection can do.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + Debug {}
impl<IO: AsyncRead + AsyncWrite + Unpin + Send + Debug> Io for IO {}

/// A connection that a stream has for itself.
pub type Own = Compat<Box<dyn Io>>;

/// A stream that may move.
pub type Movable = Compat<Moving<yamux::Stream, Awaited>>;

/// Streams that may move, by their tickets.
#[derive(Debug, Default)]
pub struct DialBacks {
    table: Mutex<HashMap<String, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    whose: Identity,
    session: Arc<Session>,
    to: oneshot::Sender<Own>,
}

impl DialBacks {
    /// None yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        // Nothing under this lock can panic half-way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now until the stream has ended, whoever has the ticket may move it, once, if they are this machine or person.
    pub fn expect(self: &Arc<Self>, ticket: String, whose: Identity, session: &Arc<Session>) -> Awaited {
        let (to, from) = oneshot::channel();
        let waiting = Waiting { whose, session: Arc::clone(session), to };
        self.lock().insert(ticket.clone(), waiting);
        Awaited { table: Arc::clone(self), ticket, from }
    }

    /// Spends a ticket. Somebody else's stays good.
    fn take(&self, ticket: &str, who: &Identity) -> Option<Waiting> {
        let mut table = self.lock();
        table.get(ticket).filter(|waiting| waiting.whose == *who)?;
        table.remove(ticket)
    }
}

/// A place where a connection may arrive; given up when dropped.
#[derive(Debug)]
pub struct Awaited {
    table: Arc<DialBacks>,
    ticket: String,
    from: oneshot::Receiver<Own>,
}

impl Awaited {
    /// What the other end needs to come here.
    #[must_use]
    pub fn ticket(&self) -> &str {
        &self.ticket
    }

    /// Lets a stream move here.
    #[must_use]
    pub fn carrying(self, stream: Stream) -> Movable {
        Moving::new(stream.into_inner(), yamux::Stream::is_closed, self).compat()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.table.lock().remove(&self.ticket);
    }
}

impl Arrive for Awaited {
    type Carrier = Own;

    fn poll_arrive(&mut self, _carried: u64, cx: &mut Context<'_>) -> Poll<Arrival<Own>> {
        Poll::Ready(ready!(Pin::new(&mut self.from).poll(cx)).map_or(Arrival::Never, Arrival::Here))
    }

    fn withdraw(&mut self) {
        // Whoever has taken it already is on the way, and comes or gives up.
        self.table.lock().remove(&self.ticket);
    }
}

/// Lets a stream that ended well go, with the connection that may be on its way to it.
pub async fn finish(stream: &mut Movable) {
    let finished = std::future::poll_fn(|cx| stream.get_mut().poll_finish(cx));
    let _ = timeout(FINISH_TIME, finished).await;
}

/// Serves a connection that a stream is to move to: finds the stream, and holds the connection's place until its session ends.
///
/// Its certificate is judged when it comes and not again: what ends the session ends this too, and a machine may renew
/// meanwhile.
pub async fn serve<IO>(parts: Arc<Parts>, mut io: IO, seat: Seat)
where
    IO: Io + 'static,
{
    let conn = Arc::clone(seat.conn());
    let asked = tokio::select! {
        biased;
        _ = conn.told_to_end() => return,
        asked = timeout(parts.head_time, read_frame::<DialBack, _>(&mut io)) => asked,
    };
    let Ok(Some(DialBack { ticket })) = asked else { return };
    let instance = parts.instance();
    match found(&parts, &conn, &ticket, &instance).await {
        Ok(Waiting { session, to, .. }) => {
            if write_frame(&mut io, &DialedBack::Ok).await.is_none() {
                return;
            }
            let own: Box<dyn Io> = Box::new(io);
            if to.send(own.compat()).is_ok() {
                session.dialed_back();
                parts.shell.metrics.dial_back("done");
                session.ended().await;
            }
        }
        Err(refusal) => {
            parts.shell.metrics.dial_back("refused");
            tracing::info!(instance, source = %conn.source(), %refusal, "dial-back refused");
            let problem = Box::new(problem::problem(&refusal, &instance));
            let _ = write_frame(&mut io, &DialedBack::Refused { problem }).await;
            let _ = timeout(CUT_GRACE, io.shutdown()).await;
        }
    }
}

async fn found(parts: &Parts, conn: &Conn, ticket: &str, instance: &str) -> Result<Waiting, Refusal> {
    let peer = conn.peer().ok_or(Refusal::WrongCaller(ForWhom::Holders))?;
    let class = match peer.identity.role {
        Role::Person => Class::Connect,
        Role::Machine | Role::Gateway => Class::Machine,
    };
    parts.rates.check(class, conn.source())?;
    admit(&parts.shell, peer, Use::Read, instance).await?;
    // One answer for what never was, what is spent, and what is somebody else's.
    parts.shell.dial_backs.take(ticket, &peer.identity).ok_or(Refusal::NotFound(Missing::Stream))
}
