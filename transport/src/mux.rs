//! Many streams in one connection: yamux under one task, with a deadline on what the peer does not take.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use wire::tunnel::STREAM_WINDOW;

/// One stream, as tokio reads and writes it.
pub type Stream = Compat<yamux::Stream>;

/// Which end of a connection this is: yamux numbers the streams of the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It made the connection.
    Dialed,
    /// It accepted it.
    Accepted,
}

/// A byte stream that fails when the peer takes nothing for `stall`, and remembers when it last heard anything.
struct Watched<IO> {
    io: IO,
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    heard: Arc<LastHeard>,
}

/// When a connection was last heard, in milliseconds since it began.
#[derive(Debug)]
pub struct LastHeard {
    began: Instant,
    last: AtomicU64,
}

impl LastHeard {
    fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), last: AtomicU64::new(0) })
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
    }

    /// How long nothing was heard.
    #[must_use]
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.last.load(Ordering::Relaxed)))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.heard.last.store(self.heard.now(), Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: Unpin> Watched<IO> {
    fn watch<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let stall = self.stall;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing of what we write")))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(cx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(cx, outcome)
    }
}

/// What comes of a connection.
#[derive(Debug)]
pub enum MuxEvent {
    /// The peer opened a stream.
    Inbound(Stream),
    /// It ended, by an error if there is one.
    Ended(Option<yamux::ConnectionError>),
}

/// A connection with its streams. Streams move only while [`Mux::poll`] is called.
pub struct Mux<IO> {
    connection: yamux::Connection<Compat<Watched<IO>>>,
    wanted: VecDeque<oneshot::Sender<Stream>>,
    heard: Arc<LastHeard>,
}

impl<IO> fmt::Debug for Mux<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mux").field("wanted", &self.wanted.len()).field("heard", &self.heard).finish_non_exhaustive()
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Mux<IO> {
    /// One end of a connection, for at most `streams` at a time. The caller counts them: yamux has room for twice as many, because
    /// it learns of a stream's end later. A peer that takes nothing of what is written for `stall` is not there any more.
    #[must_use]
    pub fn new(io: IO, side: Side, streams: usize, stall: Duration) -> Self {
        let heard = LastHeard::new();
        let mut config = yamux::Config::default();
        // In this order: each call checks against what the one before has set.
        config.set_max_connection_receive_window(None);
        config.set_max_num_streams(2 * streams);
        config.set_max_connection_receive_window(Some(2 * streams * STREAM_WINDOW));
        let io = Watched { io, stall, stalled: None, heard: Arc::clone(&heard) };
        let mode = match side {
            Side::Dialed => yamux::Mode::Client,
            Side::Accepted => yamux::Mode::Server,
        };
        Self { connection: yamux::Connection::new(io.compat(), config, mode), wanted: VecDeque::new(), heard }
    }

    /// When it was last heard.
    #[must_use]
    pub const fn heard(&self) -> &Arc<LastHeard> {
        &self.heard
    }

    /// A stream of ours, before anything else happens.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn opened(&mut self) -> Result<Stream, yamux::ConnectionError> {
        poll_fn(|cx| self.connection.poll_new_outbound(cx)).await.map(yamux::Stream::compat)
    }

    /// Opens a stream for whoever waits at the other end of `to`.
    pub fn open(&mut self, to: oneshot::Sender<Stream>) {
        self.wanted.push_back(to);
    }

    /// Moves everything, until something happens.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<MuxEvent> {
        loop {
            // First what arrived and what ended, then what is new: a stream's place is given back before it is taken.
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => return Poll::Ready(MuxEvent::Inbound(stream.compat())),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(MuxEvent::Ended(Some(error))),
                Poll::Ready(None) => return Poll::Ready(MuxEvent::Ended(None)),
                Poll::Pending => {}
            }
            let Some(to) = self.wanted.pop_front() else { return Poll::Pending };
            match self.connection.poll_new_outbound(cx) {
                // Nobody waits any more: a stream that was never used says nothing when it is dropped. And once more
                // around: yamux listens to a new stream only from its next poll on.
                Poll::Ready(Ok(stream)) => drop(to.send(stream.compat())),
                Poll::Ready(Err(error)) => return Poll::Ready(MuxEvent::Ended(Some(error))),
                Poll::Pending => {
                    self.wanted.push_front(to);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Says goodbye.
    pub async fn close(&mut self) {
        let _ = poll_fn(|cx| self.connection.poll_close(cx)).await;
    }
}
