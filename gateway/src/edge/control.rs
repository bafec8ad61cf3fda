//! The control stream: frames in and out, without ever waiting for either.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use serde::Serialize;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use wire::tunnel::{BadFrame, FRAME_MAX, Frames, FromMachine, encode};

use super::mux::{Happened, Mux};
use crate::{limits::CUT_GRACE, registry::tunnels::Stream};

/// What may wait to be sent, in bytes: a machine that does not read its own control stream is not there.
const UNSENT_MAX: usize = 4 * FRAME_MAX;

/// Why a control stream ended.
#[derive(Debug, Error)]
pub enum Ended {
    /// The peer closed it.
    #[error("the machine closed the control stream")]
    Closed,
    /// It broke.
    #[error("the control stream broke: {0}")]
    Broken(#[from] io::Error),
    /// The peer does not read.
    #[error("the machine does not read what it is told")]
    Unread,
    /// Something that is no frame.
    #[error("the machine sent {0}")]
    Frame(#[from] BadFrame),
}

/// Lets the last words out, and waits until the peer has hung up: a connection that is closed with something unread takes with it
/// what the peer has not read yet.
pub async fn goodbye<IO: AsyncRead + AsyncWrite + Unpin>(mux: &mut Mux<IO>, control: &mut Option<Control>) {
    let hung_up = poll_fn(|cx| {
        if let Some(control) = control {
            // What it cannot take now it takes later, or never.
            let _ = control.poll_send(cx);
        }
        match mux.poll(cx) {
            Poll::Ready(Happened::Over(_)) => Poll::Ready(()),
            Poll::Ready(Happened::Inbound(_)) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    });
    if timeout(CUT_GRACE, hung_up).await.is_err() {
        let _ = timeout(CUT_GRACE, mux.close()).await;
    }
}

/// See the module.
pub struct Control {
    stream: Stream,
    frames: Frames,
    unsent: Vec<u8>,
}

impl Control {
    /// On the first stream that the machine opened.
    #[must_use]
    pub const fn new(stream: Stream) -> Self {
        Self { stream, frames: Frames::new(), unsent: Vec::new() }
    }

    /// Puts a frame behind those that wait.
    ///
    /// # Errors
    /// [`Ended::Unread`] when too much waits, [`Ended::Frame`] when it is too long.
    pub fn send(&mut self, frame: &impl Serialize) -> Result<(), Ended> {
        let bytes = encode(frame)?;
        if self.unsent.len() + bytes.len() > UNSENT_MAX {
            return Err(Ended::Unread);
        }
        self.unsent.extend_from_slice(&bytes);
        Ok(())
    }

    /// Hands on what waits.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))?;
            self.unsent.drain(..written);
            if self.unsent.is_empty() {
                self.unsent = Vec::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next frame; what waits is handed on by the way.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<FromMachine, Ended>> {
        if let Poll::Ready(Err(ended)) = self.poll_send(cx) {
            return Poll::Ready(Err(ended));
        }
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                return Poll::Ready(Ok(frame));
            }
            let mut space = [0; 1024];
            let mut buf = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Err(Ended::Closed));
            }
            self.frames.feed(buf.filled());
        }
    }
}
