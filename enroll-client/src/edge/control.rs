//! A control stream as we hold it, of a tunnel or of a helper's connection: frames in and out, without ever waiting for
//! either.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use wire::tunnel::{FRAME_MAX, Frames, FromMachine, ToMachine, encode};

use super::mux::Stream;

/// See the module.
pub struct Control {
    stream: Stream,
    frames: Frames,
    unsent: Vec<u8>,
}

impl Control {
    /// On a stream that is for nothing else.
    pub const fn new(stream: Stream) -> Self {
        Self { stream, frames: Frames::new(), unsent: Vec::new() }
    }

    /// Puts a frame behind those that wait.
    ///
    /// # Errors
    /// When it is too long, or too much waits.
    pub fn send(&mut self, frame: &FromMachine) -> io::Result<()> {
        let bytes = encode(frame).map_err(io::Error::other)?;
        if self.unsent.len() + bytes.len() > 4 * FRAME_MAX {
            return Err(io::Error::other("the gateway does not read what it is told"));
        }
        self.unsent.extend_from_slice(&bytes);
        Ok(())
    }

    /// The next frame; what waits is handed on by the way.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<ToMachine>> {
        let stream = &mut self.stream;
        while !self.unsent.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, &self.unsent) {
                Poll::Ready(written) => {
                    let written = written?;
                    self.unsent.drain(..written);
                }
                Poll::Pending => break,
            }
        }
        loop {
            if let Some(frame) = self.frames.next_frame().map_err(io::Error::other)? {
                return Poll::Ready(Ok(frame));
            }
            let mut space = [0; 1024];
            let mut buf = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the gateway closed it")));
            }
            self.frames.feed(buf.filled());
        }
    }
}
