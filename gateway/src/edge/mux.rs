//! Many streams in one connection: yamux under one task, with a deadline on what the peer does not take.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    time::{Sleep, sleep},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use wire::tunnel::STREAM_WINDOW;

use crate::{
    limits::TUNNEL_STALL,
    registry::tunnels::{Heard, Stream},
};

/// A byte stream that fails when the peer takes nothing for [`TUNNEL_STALL`], and remembers when it last heard anything.
pub struct Watched<IO> {
    io: IO,
    stalled: Option<Pin<Box<Sleep>>>,
    heard: Arc<Heard>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.heard.now();
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
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(TUNNEL_STALL)));
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
pub enum Happened {
    /// The peer opened a stream.
    Inbound(Stream),
    /// It ended, by an error if there is one.
    Over(Option<yamux::ConnectionError>),
}

/// A connection with its streams. Streams move only while [`Mux::poll`] is called.
pub struct Mux<IO> {
    connection: yamux::Connection<Compat<Watched<IO>>>,
    wanted: VecDeque<oneshot::Sender<Stream>>,
    heard: Arc<Heard>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Mux<IO> {
    /// The side that accepted a connection, for at most so many streams at a time. The caller counts them and ends the
    /// connection when there are more: yamux has room for twice as many, because it learns of a stream's end later.
    #[must_use]
    pub fn accepted(io: IO, streams: usize) -> Self {
        let heard = Heard::new();
        let mut config = yamux::Config::default();
        // In this order: each call checks against what the one before has set.
        config.set_max_connection_receive_window(None);
        config.set_max_num_streams(2 * streams);
        config.set_max_connection_receive_window(Some(2 * streams * STREAM_WINDOW));
        let io = Watched { io, stalled: None, heard: Arc::clone(&heard) };
        let connection = yamux::Connection::new(io.compat(), config, yamux::Mode::Server);
        Self { connection, wanted: VecDeque::new(), heard }
    }

    /// When it was last heard.
    #[must_use]
    pub const fn heard(&self) -> &Arc<Heard> {
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
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        loop {
            // First what arrived and what ended, then what is new: a stream's place is given back before it is taken.
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => return Poll::Ready(Happened::Inbound(stream.compat())),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Happened::Over(Some(error))),
                Poll::Ready(None) => return Poll::Ready(Happened::Over(None)),
                Poll::Pending => {}
            }
            let Some(to) = self.wanted.pop_front() else { return Poll::Pending };
            match self.connection.poll_new_outbound(cx) {
                // Nobody waits any more: a stream that was never used says nothing when it is dropped. And once more
                // around: yamux listens to a new stream only from its next poll on.
                Poll::Ready(Ok(stream)) => drop(to.send(stream.compat())),
                Poll::Ready(Err(error)) => return Poll::Ready(Happened::Over(Some(error))),
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
