//! Streams that may move to a connection of their own, by the tickets that were given for them: each counts once, and only for the
//! machine or person it was given to.

use std::{
    collections::HashMap,
    fmt::Debug,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use pki::Identity;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};

use crate::registry::sessions::Session;

/// What a connection can do.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + Debug {}
impl<IO: AsyncRead + AsyncWrite + Unpin + Send + Debug> Io for IO {}

/// Streams that may move, by their tickets.
#[derive(Debug, Default)]
pub struct DialBacks {
    table: Mutex<HashMap<String, PendingDialBack>>,
}

#[derive(Debug)]
struct PendingDialBack {
    whose: Identity,
    place: DialBackTarget,
}

/// Where a connection that shows a ticket goes.
#[derive(Debug)]
pub struct DialBackTarget {
    /// The session of the stream that moves.
    pub session: Arc<Session>,
    /// Takes the connection.
    pub to: oneshot::Sender<Box<dyn Io>>,
}

impl DialBacks {
    /// None yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, PendingDialBack>> {
        // Nothing under this lock can panic half-way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now until the stream has ended, whoever has the ticket may move it, once, if they are this machine or person.
    pub fn expect(self: &Arc<Self>, ticket: String, whose: Identity, session: &Arc<Session>) -> Awaited {
        let (to, from) = oneshot::channel();
        let waiting = PendingDialBack { whose, place: DialBackTarget { session: Arc::clone(session), to } };
        self.lock().insert(ticket.clone(), waiting);
        Awaited { table: Arc::clone(self), ticket, from }
    }

    /// Spends a ticket. Somebody else's stays good.
    #[must_use]
    pub fn take(&self, ticket: &str, who: &Identity) -> Option<DialBackTarget> {
        let mut table = self.lock();
        table.get(ticket).filter(|waiting| waiting.whose == *who)?;
        table.remove(ticket).map(|waiting| waiting.place)
    }
}

/// A place where a connection may arrive; given up when dropped.
#[derive(Debug)]
pub struct Awaited {
    table: Arc<DialBacks>,
    ticket: String,
    from: oneshot::Receiver<Box<dyn Io>>,
}

impl Awaited {
    /// What the other end needs to come here.
    #[must_use]
    pub fn ticket(&self) -> &str {
        &self.ticket
    }

    /// Ready with the connection, or with nothing once none can come any more.
    pub fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Option<Box<dyn Io>>> {
        Pin::new(&mut self.from).poll(cx).map(Result::ok)
    }

    /// Takes the ticket back. Whoever has shown it already is on the way, and comes or gives up.
    pub fn withdraw(&self) {
        self.table.lock().remove(&self.ticket);
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.withdraw();
    }
}
