//! A control stream: frames in and out, without ever waiting for either.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use wire::tunnel::{BadFrame, FRAME_MAX, Frames, encode};

use crate::mux::Stream;

/// What may wait to be sent, in bytes: a peer that does not read its own control stream is not there.
const UNSENT_MAX: usize = 4 * FRAME_MAX;

/// Why a control stream ended.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The peer closed it.
    #[error("the peer closed the control stream")]
    Closed,
    /// It broke.
    #[error("the control stream broke: {0}")]
    Broken(#[from] io::Error),
    /// The peer does not read.
    #[error("the peer does not read what it is told")]
    Unread,
    /// Something that is no frame.
    #[error("the peer sent {0}")]
    Frame(#[from] BadFrame),
}

/// A stream that carries frames and nothing else; `In` is what the peer sends.
pub struct Control<In> {
    stream: Stream,
    frames: Frames,
    unsent: Vec<u8>,
    reads: PhantomData<fn() -> In>,
}

impl<In> fmt::Debug for Control<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("unsent", &self.unsent.len()).finish_non_exhaustive()
    }
}

impl<In: DeserializeOwned> Control<In> {
    /// On a stream of which nothing was read.
    #[must_use]
    pub const fn new(stream: Stream) -> Self {
        Self { stream, frames: Frames::new(), unsent: Vec::new(), reads: PhantomData }
    }

    /// Puts a frame behind those that wait.
    ///
    /// # Errors
    /// [`ControlError::Unread`] when too much waits, [`ControlError::Frame`] when it is too long.
    pub fn send(&mut self, frame: &impl Serialize) -> Result<(), ControlError> {
        let bytes = encode(frame)?;
        if self.unsent.len() + bytes.len() > UNSENT_MAX {
            return Err(ControlError::Unread);
        }
        self.unsent.extend_from_slice(&bytes);
        Ok(())
    }

    /// Hands on what waits.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ControlError>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))?;
            self.unsent.drain(..written);
            if self.unsent.is_empty() {
                // A connection is idle most of its life, and should be small then.
                self.unsent = Vec::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next frame; what waits to be sent is handed on first.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<In, ControlError>> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                return Poll::Ready(Ok(frame));
            }
            let mut space = [0; 1024];
            let mut buf = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Err(ControlError::Closed));
            }
            self.frames.feed(buf.filled());
        }
    }
}
