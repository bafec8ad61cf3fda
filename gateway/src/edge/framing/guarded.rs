//! The guard as a stream: passes whole heads and their bodies on, puts a stand-in in place of a malformed head, and ends
//! what takes too long.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::{BadFraming, Chunked, Framer, StreamPosition, stand_in};
use crate::{
    limits::{LINGER_BYTES, LINGER_TIME},
    ports::metrics::Metrics,
};

/// How long each part of a conversation may take.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// First byte of a head to its last.
    pub head: Duration,
    /// Last byte of the head to the last of the body.
    pub body: Duration,
    /// Whole request to the first byte of the answer.
    pub answer: Duration,
    /// Nothing under way.
    pub idle: Duration,
    /// The peer takes nothing of what we write.
    pub write: Duration,
}

/// What holds for all connections of one face.
#[derive(Debug)]
pub struct Rules {
    /// The clock.
    pub times: Times,
    /// Whether bodies may come in chunks.
    pub chunked: Chunked,
    /// Where refusals and time-outs are counted.
    pub metrics: Arc<Metrics>,
}

/// What a connection is waiting for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum IoStage {
    /// The next request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// Our answer.
    Answer,
    /// The peer to take what we write.
    Write,
}

impl IoStage {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Idle, Self::Head, Self::Body, Self::Answer, Self::Write];

    /// A short name for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Head => "head",
            Self::Body => "body",
            Self::Answer => "answer",
            Self::Write => "write",
        }
    }
}

impl fmt::Display for IoStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A stream of which the reading side has passed the guard.
#[derive(Debug)]
pub struct Guarded<IO> {
    io: IO,
    rules: Arc<Rules>,
    framer: Framer,
    /// What the reader did not take yet.
    passed: Vec<u8>,
    stage: IoStage,
    /// When `stage` has lasted too long.
    deadline: Instant,
    /// When the peer has taken nothing for too long.
    stalled: Option<Instant>,
    closing: Closing,
    /// Whether a deadline has passed: it is counted once, however often the connection is polled after it.
    late: bool,
    /// One timer for all of the above, made when first needed. It may fire early and is then set anew, because moving a
    /// deadline on for every read costs less this way.
    timer: Option<Pin<Box<Sleep>>>,
}

/// How far the end of the connection has come.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Closing {
    Open,
    /// A head was refused; the reader is answering the stand-in, and hears nothing more.
    Answering,
    /// A body was refused; the reader sees a spoilt byte and the end of the stream after it.
    Refused,
    /// Our side is closed and what the peer still sends is thrown away, so that it can read our answer.
    Lingering {
        left: usize,
    },
    Done,
}

impl<IO> Guarded<IO> {
    /// Guards a fresh connection.
    #[must_use]
    pub fn new(io: IO, rules: Arc<Rules>) -> Self {
        let framer = Framer::new(rules.chunked);
        let deadline = Instant::now() + rules.times.idle;
        Self {
            io,
            rules,
            framer,
            passed: Vec::new(),
            stage: IoStage::Idle,
            deadline,
            stalled: None,
            closing: Closing::Open,
            late: false,
            timer: None,
        }
    }

    fn enter(&mut self, stage: IoStage) {
        let times = &self.rules.times;
        let limit = match stage {
            IoStage::Idle => times.idle,
            IoStage::Head => times.head,
            IoStage::Body => times.body,
            IoStage::Answer => times.answer,
            IoStage::Write => times.write,
        };
        self.stage = stage;
        self.deadline = Instant::now() + limit;
    }

    /// After bytes arrived, among which `ended` requests came to their end.
    fn arrived(&mut self, ended: usize) {
        let stage = match (self.framer.place(), ended) {
            (StreamPosition::Between, 0) => return,
            (StreamPosition::Between, _) => IoStage::Answer,
            (StreamPosition::Head, _) => IoStage::Head,
            (StreamPosition::Body, _) => IoStage::Body,
        };
        // A stage that goes on keeps its deadline; a new request starts a new one.
        if stage != self.stage || ended > 0 {
            self.enter(stage);
        }
    }

    /// After the peer, or its system, took some of what we wrote.
    fn wrote(&mut self) {
        self.stalled = None;
        match self.stage {
            IoStage::Answer | IoStage::Idle => self.enter(IoStage::Idle),
            // `100 Continue`, or an answer ahead of the end of the request.
            IoStage::Head | IoStage::Body | IoStage::Write => {}
        }
    }

    /// A head is refused: the reader gets the stand-in for it.
    fn refuse(&mut self, why: BadFraming) {
        tracing::debug!(%why, "refused a malformed request");
        self.passed.extend(stand_in(why));
        self.closing = Closing::Answering;
        self.enter(IoStage::Answer);
    }

    /// Looks at bytes that arrived; what may pass is in `passed` afterwards.
    fn judge(&mut self, bytes: &[u8]) {
        let fed = self.framer.feed(bytes);
        self.passed = self.framer.take_passed();
        match fed {
            Ok(ended) => self.arrived(ended),
            Err(refused) => {
                self.rules.metrics.framing_refused(refused.why.code());
                if refused.why == BadFraming::Chunk {
                    // NUL is legal nowhere between chunks, so whoever reads this body is told that it is broken.
                    self.passed.push(0);
                    self.closing = Closing::Refused;
                    self.enter(IoStage::Answer);
                } else {
                    self.refuse(refused.why);
                }
            }
        }
    }

    /// Gives the reader what may pass, as far as it has room; the rest stays for the next time.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let room = buf.remaining().min(self.passed.len());
        let rest = self.passed.split_off(room);
        buf.put_slice(&std::mem::replace(&mut self.passed, rest));
    }

    fn stall(&mut self) {
        if self.stalled.is_none() {
            self.stalled = Some(Instant::now() + self.rules.times.write);
        }
    }

    /// Ready when one of the deadlines has passed; otherwise the task is woken at the earliest.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let (stage, deadline) = match self.stalled {
                Some(stalled) if stalled < self.deadline => (IoStage::Write, stalled),
                Some(_) | None => (self.stage, self.deadline),
            };
            if deadline <= Instant::now() {
                if !std::mem::replace(&mut self.late, true) {
                    self.rules.metrics.timed_out(stage.as_str());
                }
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, TooSlow(stage)));
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if timer.deadline() > deadline || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }
}

/// The stage that took too long.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer was too slow ({0})")]
struct TooSlow(IoStage);

impl<IO: AsyncRead + AsyncWrite + Unpin> Guarded<IO> {
    /// A write, flush or shutdown that cannot go on: waits for the peer, but not for ever.
    fn hold<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match poll {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => {
                self.stall();
                self.poll_deadline(cx).map(Err)
            }
        }
    }

    /// Throws away what the peer still sends, until it closes, has sent enough, or the time is over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Closing::Lingering { mut left } = self.closing else { return Poll::Ready(()) };
        let mut scratch = [0; 1024];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && left > buf.filled().len() => {
                    left -= buf.filled().len();
                    self.closing = Closing::Lingering { left };
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.poll_deadline(cx).map(drop),
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.passed.is_empty() {
                this.give(buf);
                return Poll::Ready(Ok(()));
            }
            match this.closing {
                Closing::Open => {}
                Closing::Answering => return this.poll_deadline(cx).map(Err),
                Closing::Refused | Closing::Lingering { .. } | Closing::Done => return Poll::Ready(Ok(())),
            }
            // What arrives goes through the guard before it counts as read: the reader's room serves as a place to put it.
            let before = buf.filled().len();
            match Pin::new(&mut this.io).poll_read(cx, buf) {
                Poll::Pending => {
                    let error = ready!(this.poll_deadline(cx));
                    match this.stage {
                        // Nothing is lost when an idle connection ends, so it ends in good order.
                        IoStage::Idle => return Poll::Ready(Ok(())),
                        IoStage::Head => this.refuse(BadFraming::Slow),
                        IoStage::Body | IoStage::Answer | IoStage::Write => return Poll::Ready(Err(error)),
                    }
                    continue;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            let fresh = buf.filled().get(before..).unwrap_or_default().to_vec();
            buf.set_filled(before);
            if fresh.is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.judge(&fresh);
            // Bytes that dribble in just in time are late all the same.
            if matches!(this.stage, IoStage::Head | IoStage::Body) && this.deadline <= Instant::now() {
                let error = ready!(this.poll_deadline(cx));
                if this.stage == IoStage::Body {
                    return Poll::Ready(Err(error));
                }
                this.refuse(BadFraming::Slow);
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(1..)) = poll {
            this.wrote();
        }
        this.hold(cx, poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.io).poll_write_vectored(cx, bytes);
        if let Poll::Ready(Ok(1..)) = poll {
            this.wrote();
        }
        this.hold(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.io).poll_flush(cx);
        if let Poll::Ready(Ok(())) = poll {
            this.stalled = None;
        }
        this.hold(cx, poll)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Closing::Open | Closing::Answering | Closing::Refused = this.closing {
            let poll = Pin::new(&mut this.io).poll_shutdown(cx);
            if let Poll::Ready(Ok(())) = poll {
                let unread = this.closing != Closing::Open || this.framer.place() != StreamPosition::Between;
                this.closing = if unread { Closing::Lingering { left: LINGER_BYTES } } else { Closing::Done };
                this.stalled = None;
                this.deadline = Instant::now() + LINGER_TIME;
            } else {
                return this.hold(cx, poll);
            }
        }
        ready!(this.poll_linger(cx));
        this.closing = Closing::Done;
        Poll::Ready(Ok(()))
    }
}
