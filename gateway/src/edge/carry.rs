//! Carries the bytes of a session both ways, counts them, and stops when the session is told to end.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use crate::{core::session::EndReason, limits::CARRY_BUFFER, registry::sessions::Session};

/// Counts what is read from a stream, and notices when it is this one that breaks.
struct CountedIo<'a, IO> {
    io: &'a mut IO,
    count: &'a AtomicU64,
    broke: &'a AtomicBool,
}

impl<IO> CountedIo<'_, IO> {
    fn note<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|_| self.broke.store(true, Ordering::Relaxed))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for CountedIo<'_, IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = ready!(Pin::new(&mut *self.io).poll_read(cx, buf));
        self.note(outcome)?;
        let read = u64::try_from(buf.filled().len() - before).unwrap_or_default();
        self.count.fetch_add(read, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for CountedIo<'_, IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(&mut *self.io).poll_write(cx, buf));
        Poll::Ready(self.note(outcome))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = ready!(Pin::new(&mut *self.io).poll_flush(cx));
        Poll::Ready(self.note(outcome))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = ready!(Pin::new(&mut *self.io).poll_shutdown(cx));
        Poll::Ready(self.note(outcome))
    }
}

/// How carrying came to its end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Both ends closed it.
    Closed,
    /// The caller's end was lost.
    CallerBroke,
    /// The machine's end was lost: what the caller has may not be all of it.
    MachineBroke,
    /// The session was told to end.
    Told(EndReason),
}

/// Carries until both ends have closed, one breaks, or the session is told to end. When it returns no byte moves any more.
pub async fn carry<A, B>(session: &Arc<Session>, caller: &mut A, machine: &mut B) -> Carried
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (caller_broke, machine_broke) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut caller = CountedIo { io: caller, count: session.to_machine(), broke: &caller_broke };
    let mut machine = CountedIo { io: machine, count: session.from_machine(), broke: &machine_broke };
    // Boxed, so that its buffers and its own size are gone before the ends are told.
    let copying = Box::pin(copy_bidirectional_with_sizes(&mut caller, &mut machine, CARRY_BUFFER, CARRY_BUFFER));
    tokio::select! {
        biased;
        reason = session.told() => Carried::Told(reason),
        copied = copying => match copied {
            Ok(_) => Carried::Closed,
            Err(_) if machine_broke.load(Ordering::Relaxed) => Carried::MachineBroke,
            Err(_) => Carried::CallerBroke,
        },
    }
}
