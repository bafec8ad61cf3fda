//! Many streams in one connection: yamux driven by one task, with a deadline for a peer that stops reading.

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

/// One stream, with tokio's `AsyncRead` and `AsyncWrite`.
pub type Stream = Compat<yamux::Stream>;

/// Which end of a connection this is. In yamux the end that dialed uses odd stream ids, the other even ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// yamux client.
    Dialed,
    /// yamux server.
    Accepted,
}

/// A byte stream that fails when a write has been pending for `stall`, and records when it last received a byte.
struct Watched<IO> {
    io: IO,
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    heard: Arc<LastHeard>,
}

/// When a connection last received a byte, in milliseconds since it began.
#[derive(Debug)]
pub struct LastHeard {
    began: Instant,
    last: AtomicU64,
}

impl LastHeard {
    /// Heard now for the first time.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), last: AtomicU64::new(0) })
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
    }

    /// Time since the last byte was received.
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
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
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

/// What [`Mux::poll`] reports.
#[derive(Debug)]
pub enum MuxEvent {
    /// The peer opened a stream.
    Inbound(Stream),
    /// The connection ended; `None` when the peer closed it in order.
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
    /// One end of a connection, for at most `streams` at a time. The caller enforces that limit; yamux gets twice the limit, because
    /// it notices the end of a stream later. The connection fails when a write has been pending for `stall`.
    #[must_use]
    pub fn new(io: IO, side: Side, streams: usize, stall: Duration) -> Self {
        let heard = LastHeard::new();
        let mut config = yamux::Config::default();
        // In this order: each setter checks its value against those set before.
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

    /// Shared with the connection's reader, so it stays current while the mux is driven elsewhere.
    #[must_use]
    pub const fn heard(&self) -> &Arc<LastHeard> {
        &self.heard
    }

    /// Opens a stream. Inbound streams are not reported meanwhile: for the first stream of a connection.
    pub async fn opened(&mut self) -> Result<Stream, yamux::ConnectionError> {
        poll_fn(|cx| self.connection.poll_new_outbound(cx)).await.map(yamux::Stream::compat)
    }

    /// Queues the opening of a stream, which is sent to `to`.
    pub fn open(&mut self, to: oneshot::Sender<Stream>) {
        self.wanted.push_back(to);
    }

    /// Drives the connection and all its streams until there is an event.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<MuxEvent> {
        loop {
            // Inbound first: the slot of a stream that has ended is free before the next stream is opened.
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => return Poll::Ready(MuxEvent::Inbound(stream.compat())),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(MuxEvent::Ended(Some(error))),
                Poll::Ready(None) => return Poll::Ready(MuxEvent::Ended(None)),
                Poll::Pending => {}
            }
            let Some(to) = self.wanted.pop_front() else { return Poll::Pending };
            match self.connection.poll_new_outbound(cx) {
                // When the receiver is gone, the unused stream is dropped, which sends nothing. Loop again: yamux drives a
                // new stream only from its next poll on.
                Poll::Ready(Ok(stream)) => drop(to.send(stream.compat())),
                Poll::Ready(Err(error)) => return Poll::Ready(MuxEvent::Ended(Some(error))),
                Poll::Pending => {
                    self.wanted.push_front(to);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Sends yamux's GoAway frame and closes the connection.
    pub async fn close(&mut self) {
        let _ = poll_fn(|cx| self.connection.poll_close(cx)).await;
    }
}
