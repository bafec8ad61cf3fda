//! Many streams in one connection to the gateway: yamux under one task, with a deadline on what the gateway does not take.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};
use tokio_rustls::client::TlsStream;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use wire::tunnel::{FRAME_HEAD, STREAM_WINDOW, body_len, decode, encode};

/// A gateway that takes nothing of what we write for this long is not there any more.
const STALL: Duration = Duration::from_secs(30);

/// What the socket takes in beyond what is on its way: what waits there cannot be overtaken by a key that somebody types.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 32 * 1024;

/// What TLS holds beside that, encrypted already: one record.
const UNSENT_TLS: usize = 17 * 1024;

/// Many streams share a connection: what one of them has waiting stays where another can go first.
pub fn keep_short(stream: &mut TlsStream<TcpStream>) {
    let (tcp, tls) = stream.get_mut();
    tls.set_buffer_limit(Some(UNSENT_TLS));
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&*tcp).set_tcp_notsent_lowat(UNSENT);
    #[cfg(not(target_os = "linux"))]
    let _ = tcp;
}

/// One stream, as tokio reads and writes it.
pub type Stream = Compat<yamux::Stream>;

/// A byte stream that fails when the other side takes nothing for [`STALL`].
struct Watched<IO> {
    io: IO,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: Unpin> Watched<IO> {
    fn watch<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the gateway takes nothing of what we write")))
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
pub enum Happened {
    /// The gateway opened a stream.
    Inbound(Stream),
    /// It ended, by an error if there is one.
    Over(Option<yamux::ConnectionError>),
}

/// A connection with its streams. Streams move only while it is polled.
pub struct Mux<IO> {
    connection: yamux::Connection<Compat<Watched<IO>>>,
    wanted: VecDeque<oneshot::Sender<Stream>>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Mux<IO> {
    /// On a connection that we made, for at most so many streams at a time.
    pub fn new(io: IO, streams: usize) -> Self {
        let mut config = yamux::Config::default();
        // In this order: each call checks against what the one before has set. Room for twice as many, because yamux learns
        // of a stream's end later than whoever counts them.
        config.set_max_connection_receive_window(None);
        config.set_max_num_streams(2 * streams);
        config.set_max_connection_receive_window(Some(2 * streams * STREAM_WINDOW));
        let io = Watched { io, stalled: None };
        Self { connection: yamux::Connection::new(io.compat(), config, yamux::Mode::Client), wanted: VecDeque::new() }
    }

    /// Opens a stream for whoever waits at the other end of `to`.
    pub fn open(&mut self, to: oneshot::Sender<Stream>) {
        self.wanted.push_back(to);
    }

    /// A stream of ours, before anything else happens.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn opened(&mut self) -> Result<Stream, yamux::ConnectionError> {
        poll_fn(|cx| self.connection.poll_new_outbound(cx)).await.map(yamux::Stream::compat)
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
}

/// Writes one frame at the beginning of a stream.
///
/// # Errors
/// When the stream broke.
pub async fn write_frame<IO: AsyncWrite + Unpin>(stream: &mut IO, frame: &impl Serialize) -> io::Result<()> {
    let bytes = encode(frame).map_err(io::Error::other)?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Reads exactly one frame from the beginning of a stream.
///
/// # Errors
/// When the stream broke, or it is no frame.
pub async fn read_frame<T: DeserializeOwned, IO: AsyncRead + Unpin>(stream: &mut IO) -> io::Result<T> {
    let mut head = [0; FRAME_HEAD];
    stream.read_exact(&mut head).await?;
    let mut body = vec![0; body_len(head).map_err(io::Error::other)?];
    stream.read_exact(&mut body).await?;
    decode(&body).map_err(io::Error::other)
}
