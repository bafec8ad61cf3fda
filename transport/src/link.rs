//! A multiplexed connection and its control stream, driven by one `poll`.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::control::{Control, ControlError};
use crate::mux::{LastHeard, Mux, MuxEvent, Stream};

/// A connection, with or without a control stream.
pub struct Link<IO, In> {
    mux: Mux<IO>,
    control: Option<Control<In>>,
    /// Reading from the control stream has ended; writing may still work.
    control_ended: bool,
    /// How the connection ended. Frames that arrived before may still be unread.
    ended: Option<Option<yamux::ConnectionError>>,
}

/// What [`Link::poll`] reports.
#[derive(Debug)]
pub enum LinkEvent<In> {
    /// The peer opened a stream.
    Inbound(Stream),
    /// A frame of the peer on the control stream.
    Frame(In),
    /// Reading from the control stream has ended; the connection continues.
    ControlEnded(ControlError),
    /// The connection ended; `None` when the peer closed it in order. Reported after every frame that arrived before.
    Ended(Option<yamux::ConnectionError>),
}

impl<IO, In> fmt::Debug for Link<IO, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("control", &self.control).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl<IO, In> Link<IO, In>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    In: DeserializeOwned,
{
    /// Starts without a control stream.
    #[must_use]
    pub const fn new(mux: Mux<IO>) -> Self {
        Self { mux, control: None, control_ended: false, ended: None }
    }

    /// See [`Mux::heard`].
    #[must_use]
    pub const fn heard(&self) -> &Arc<LastHeard> {
        self.mux.heard()
    }

    /// See [`Mux::open`].
    pub fn open(&mut self, to: oneshot::Sender<Stream>) {
        self.mux.open(to);
    }

    /// Makes an inbound stream the control stream.
    pub fn control(&mut self, stream: Stream) {
        (self.control, self.control_ended) = (Some(Control::new(stream)), false);
    }

    /// Opens the control stream, as the first stream of the connection.
    pub async fn open_control(&mut self) -> Result<(), yamux::ConnectionError> {
        let stream = self.mux.opened().await?;
        self.control(stream);
        Ok(())
    }

    /// False until [`Link::control`] or [`Link::open_control`].
    #[must_use]
    pub const fn has_control(&self) -> bool {
        self.control.is_some()
    }

    /// See [`Control::send`]. Without a control stream the frame is discarded.
    pub fn send(&mut self, frame: &impl Serialize) -> Result<(), ControlError> {
        self.control.as_mut().map_or(Ok(()), |control| control.send(frame))
    }

    /// Drives the connection, its streams and the control stream until there is an event.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkEvent<In>> {
        if self.ended.is_none() {
            match self.mux.poll(cx) {
                Poll::Ready(MuxEvent::Inbound(stream)) => return Poll::Ready(LinkEvent::Inbound(stream)),
                Poll::Ready(MuxEvent::Ended(error)) => self.ended = Some(error),
                Poll::Pending => {}
            }
        }
        if let Some(control) = &mut self.control {
            if self.control_ended {
                // An error of the control stream is reported when it is read.
                let _ = control.poll_send(cx);
            } else {
                match control.poll(cx) {
                    Poll::Ready(Ok(frame)) => return Poll::Ready(LinkEvent::Frame(frame)),
                    Poll::Ready(Err(error)) => {
                        self.control_ended = true;
                        if self.ended.is_none() {
                            return Poll::Ready(LinkEvent::ControlEnded(error));
                        }
                    }
                    Poll::Pending => {}
                }
            }
        }
        match &mut self.ended {
            Some(error) => Poll::Ready(LinkEvent::Ended(error.take())),
            None => Poll::Pending,
        }
    }

    /// Sends what was written and closes the connection, within `grace`.
    pub async fn close(&mut self, grace: Duration) {
        let _ = timeout(grace, self.mux.close()).await;
    }

    /// Sends the last frames and waits up to `grace` for the peer to close the connection; if it does not, closes it, within another
    /// `grace`. Closing a TCP connection with unread input sends a reset, which discards what the peer has not read yet.
    pub async fn goodbye(&mut self, grace: Duration) {
        if self.ended.is_some() {
            return;
        }
        let Self { mux, control, .. } = self;
        let peer_closed = poll_fn(|cx| {
            if let Some(control) = control {
                // Pending bytes are written by a later poll; an error does not matter, since the connection is ending.
                let _ = control.poll_send(cx);
            }
            match mux.poll(cx) {
                Poll::Ready(MuxEvent::Ended(_)) => Poll::Ready(()),
                Poll::Ready(MuxEvent::Inbound(_)) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Pending => Poll::Pending,
            }
        });
        if timeout(grace, peer_closed).await.is_err() {
            let _ = timeout(grace, mux.close()).await;
        }
    }
}
