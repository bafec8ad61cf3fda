//! A stream that moves from one carrier, a stream in a multiplexed connection, to another, a connection of its own. The
//! applications at its ends do not notice. A large transfer that has moved no longer delays the other streams of its connection.
//!
//! Once both ends have the new carrier, each first writes to it the number of bytes that it has written to the old one: eight
//! bytes, big endian. From then on it writes to the new carrier alone. The reader takes exactly that number of bytes from the old
//! carrier and continues with the new one. If the old carrier ends before, the stream fails; it is never continued with a gap.
//! The end of the data is the end of the new carrier, also when a direction had ended before the move.
//!
//! Sans-I/O: no clock, no socket, no task. It polls the carriers it is given.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

/// Length in bytes of the count at the beginning of the new carrier.
pub const COUNT: usize = 8;

/// The outcome of the attempt to get a new carrier.
#[derive(Debug)]
pub enum Arrival<New> {
    /// The new carrier, which the other end has as well.
    Here(New),
    /// There is none: the stream stays in the old carrier.
    Never,
    /// The other end may have moved and this one cannot: the stream fails.
    Broken(io::Error),
}

/// The source of the new carrier.
pub trait Arrive {
    /// What [`Arrival::Here`] contains.
    type Carrier;

    /// Polls for the outcome. `carried` is the number of bytes in both directions so far. Not called again after it was ready.
    fn poll_arrive(&mut self, carried: u64, cx: &mut Context<'_>) -> Poll<Arrival<Self::Carrier>>;

    /// The stream has ended: cancels the attempt, unless the carrier is being established already. [`Arrive::poll_arrive`] becomes
    /// ready soon after this.
    fn withdraw(&mut self);
}

/// A stream that can move once, see the module. Reading and writing must be polled by the same task.
#[derive(Debug)]
pub struct Moving<Old, A: Arrive> {
    old: Option<Old>,
    new: Option<A::Carrier>,
    is_cut: fn(&Old) -> bool,
    arrive: Option<A>,
    broken: Option<io::Error>,
    /// Bytes written to the old carrier, and read from it.
    sent: u64,
    received: u64,
    /// Number of bytes of our own count that were written.
    count_written: usize,
    flushed: bool,
    /// The count of the other end, and the number of its bytes that were read.
    until: [u8; COUNT],
    count_read: usize,
    closed: bool,
    new_closed: bool,
}

fn lost(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}

impl<Old, A: Arrive> Moving<Old, A> {
    /// Starts in the old carrier. `is_cut` says of a carrier whose reading has ended whether its writing has ended too. If so, and
    /// we had not ended our writing, the connection was lost and the end is not taken for the end of the data.
    #[must_use]
    pub const fn new(old: Old, is_cut: fn(&Old) -> bool, arrive: A) -> Self {
        Self {
            old: Some(old),
            new: None,
            is_cut,
            arrive: Some(arrive),
            broken: None,
            sent: 0,
            received: 0,
            count_written: 0,
            flushed: false,
            until: [0; COUNT],
            count_read: 0,
            closed: false,
            new_closed: false,
        }
    }

    /// Whether the new carrier is in use.
    #[must_use]
    pub const fn has_moved(&self) -> bool {
        self.new.is_some()
    }
}

impl<Old, A> Moving<Old, A>
where
    Old: AsyncRead + AsyncWrite + Unpin,
    A: Arrive<Carrier: AsyncRead + AsyncWrite + Unpin>,
{
    /// Polls for the new carrier and switches to it.
    fn poll_new_carrier(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(arrive) = &mut self.arrive
            && let Poll::Ready(arrival) = arrive.poll_arrive(self.sent.saturating_add(self.received), cx)
        {
            self.arrive = None;
            match arrival {
                Arrival::Here(new) => self.new = Some(new),
                Arrival::Never => {}
                Arrival::Broken(error) => {
                    self.old = None;
                    self.broken = Some(error);
                }
            }
        }
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Writes the count to the new carrier, and ends it if our writing had ended before the move.
    fn write_count(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(new) = &mut self.new else { return Poll::Ready(Ok(())) };
        let count = self.sent.to_be_bytes();
        while let Some(rest) = count.get(self.count_written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *new).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.count_written += written,
            }
        }
        if !self.flushed {
            // The other end waits for the count, also when we have no data to write.
            ready!(Pin::new(&mut *new).poll_flush(cx))?;
            self.flushed = true;
        }
        if self.closed && !self.new_closed {
            ready!(Pin::new(new).poll_close(cx))?;
            self.new_closed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// The number of bytes the other end has written to the old carrier, once its count was read.
    fn read_count(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let Some(new) = &mut self.new else { return Poll::Pending };
        while let Some(rest) = self.until.get_mut(self.count_read..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *new).poll_read(cx, rest))? {
                0 => return Poll::Ready(Err(lost("the new connection ended before it began"))),
                read => self.count_read += read,
            }
        }
        Poll::Ready(Ok(u64::from_be_bytes(self.until)))
    }

    /// To be called when both directions have ended, before this is dropped. If a move has begun, it completes the exchange of
    /// counts, so that the other end sees that no bytes are missing. Ready when the other end's count was read: closing the new
    /// carrier earlier could discard bytes that the other end has not read yet.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closed = true;
        if let Some(arrive) = &mut self.arrive {
            arrive.withdraw();
        }
        self.poll_new_carrier(cx)?;
        if self.arrive.is_some() {
            return Poll::Pending;
        }
        ready!(self.write_count(cx))?;
        if let Some(new) = &mut self.new {
            let mut rest = [0; 256];
            while ready!(Pin::new(&mut *new).poll_read(cx, &mut rest))? > 0 {}
        }
        Poll::Ready(Ok(()))
    }

    fn read_old(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(old) = &mut self.old else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let read = ready!(Pin::new(old).poll_read(cx, buf))?;
        self.received = self.received.saturating_add(read.try_into().unwrap_or(u64::MAX));
        Poll::Ready(Ok(read))
    }
}

impl<Old, A> AsyncRead for Moving<Old, A>
where
    Old: AsyncRead + AsyncWrite + Unpin,
    A: Arrive<Carrier: AsyncRead + AsyncWrite + Unpin> + Unpin,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.poll_new_carrier(cx)?;
        if this.new.is_none() {
            let read = ready!(this.read_old(cx, buf))?;
            if read == 0 && !this.closed && this.old.as_ref().is_some_and(this.is_cut) {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, "the connection was lost")));
            }
            return Poll::Ready(Ok(read));
        }
        if let Poll::Ready(Err(error)) = this.write_count(cx) {
            return Poll::Ready(Err(error));
        }
        match this.read_count(cx)? {
            // Bytes in the old carrier come first; its end is not yet known to be premature.
            Poll::Pending => match ready!(this.read_old(cx, buf))? {
                0 => Poll::Pending,
                read => Poll::Ready(Ok(read)),
            },
            Poll::Ready(until) => {
                let left = until.checked_sub(this.received).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidData, "more came by the old connection than was sent there")
                })?;
                if left > 0 {
                    let most = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
                    return match ready!(this.read_old(cx, &mut buf[..most]))? {
                        0 => Poll::Ready(Err(lost("the old connection ended before all of it had come"))),
                        read => Poll::Ready(Ok(read)),
                    };
                }
                // The old carrier is used up in both directions.
                this.old = None;
                this.new.as_mut().map_or(Poll::Ready(Ok(0)), |new| Pin::new(new).poll_read(cx, buf))
            }
        }
    }
}

impl<Old, A> AsyncWrite for Moving<Old, A>
where
    Old: AsyncRead + AsyncWrite + Unpin,
    A: Arrive<Carrier: AsyncRead + AsyncWrite + Unpin> + Unpin,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll_new_carrier(cx)?;
        ready!(this.write_count(cx))?;
        if let Some(new) = &mut this.new {
            return Pin::new(new).poll_write(cx, buf);
        }
        let Some(old) = &mut this.old else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let written = ready!(Pin::new(old).poll_write(cx, buf))?;
        this.sent = this.sent.saturating_add(written.try_into().unwrap_or(u64::MAX));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_new_carrier(cx)?;
        ready!(this.write_count(cx))?;
        match (&mut this.new, &mut this.old) {
            (Some(new), _) => Pin::new(new).poll_flush(cx),
            (None, Some(old)) => Pin::new(old).poll_flush(cx),
            (None, None) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_new_carrier(cx)?;
        this.closed = true;
        ready!(this.write_count(cx))?;
        match (&this.new, &mut this.old) {
            (None, Some(old)) => Pin::new(old).poll_close(cx),
            (Some(_), _) | (None, None) => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests;
