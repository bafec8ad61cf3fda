//! Carries the bytes of a session both ways, counts them, and stops when the session is told to end.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use wire::tunnel::Reason;

use crate::{edge::sessions::Session, limits::CARRY_BUFFER};

/// Counts what is read from a stream.
struct Counted<'a, IO> {
    io: &'a mut IO,
    count: &'a AtomicU64,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<'_, IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut *self.io).poll_read(cx, buf))?;
        let read = u64::try_from(buf.filled().len() - before).unwrap_or_default();
        self.count.fetch_add(read, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<'_, IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}

/// How carrying came to its end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Both ends closed it.
    Closed,
    /// One of them was lost.
    Broken,
    /// The session was told to end.
    Told(Reason),
}

/// Carries until both ends have closed, one breaks, or the session is told to end. When it returns no byte moves any more.
pub async fn carry<A, B>(session: &Arc<Session>, caller: &mut A, machine: &mut B) -> Carried
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut caller = Counted { io: caller, count: session.to_machine() };
    let mut machine = Counted { io: machine, count: session.from_machine() };
    // Boxed, so that its buffers and its own size are gone before the ends are told.
    let copying = Box::pin(copy_bidirectional_with_sizes(&mut caller, &mut machine, CARRY_BUFFER, CARRY_BUFFER));
    tokio::select! {
        biased;
        reason = session.told() => Carried::Told(reason),
        copied = copying => if copied.is_ok() { Carried::Closed } else { Carried::Broken },
    }
}
