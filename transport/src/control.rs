//! A control stream: frames in both directions, buffered so that neither blocks the other.

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

/// Most bytes buffered for sending. A peer that leaves so much unread on its control stream is treated as dead.
const UNSENT_MAX: usize = 4 * FRAME_MAX;

/// Why a control stream ended.
#[derive(Debug, Error)]
pub enum ControlError {
    /// End of file.
    #[error("the peer closed the control stream")]
    Closed,
    /// Reading or writing failed.
    #[error("the control stream broke: {0}")]
    Broken(#[from] io::Error),
    /// More than [`UNSENT_MAX`] bytes wait to be sent.
    #[error("the peer does not read its control stream")]
    Unread,
    /// A frame that cannot be decoded, or one of ours that is too long.
    #[error("the peer sent {0}")]
    Frame(#[from] BadFrame),
}

/// A stream that carries frames only; `In` is the type of those that the peer sends.
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
    /// `stream` must be unread: bytes that were read from it before are lost.
    #[must_use]
    pub const fn new(stream: Stream) -> Self {
        Self { stream, frames: Frames::new(), unsent: Vec::new(), reads: PhantomData }
    }

    /// Appends a frame to the send buffer.
    ///
    /// # Errors
    /// [`ControlError::Unread`] when the buffer is full, [`ControlError::Frame`] when the frame is too long.
    pub fn send(&mut self, frame: &impl Serialize) -> Result<(), ControlError> {
        let bytes = encode(frame)?;
        if self.unsent.len() + bytes.len() > UNSENT_MAX {
            return Err(ControlError::Unread);
        }
        self.unsent.extend_from_slice(&bytes);
        Ok(())
    }

    /// Writes the send buffer to the stream.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ControlError>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))?;
            self.unsent.drain(..written);
            if self.unsent.is_empty() {
                // Frees the capacity: a connection is idle most of its life.
                self.unsent = Vec::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next frame. Writes the send buffer first.
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
