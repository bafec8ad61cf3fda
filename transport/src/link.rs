//! A connection with its control stream, driven together: what every task that holds one waits for.

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

/// A connection, and the control stream in it once there is one.
pub struct Link<IO, In> {
    mux: Mux<IO>,
    control: Option<Control<In>>,
    /// Nothing more comes on the control stream; what we say may still arrive.
    unheard: bool,
    /// The connection has ended so; what the peer said before may still wait to be read.
    ended: Option<Option<yamux::ConnectionError>>,
}

/// What happens on a link.
#[derive(Debug)]
pub enum LinkEvent<In> {
    /// The peer opened a stream.
    Inbound(Stream),
    /// The peer said something on the control stream.
    Frame(In),
    /// Nothing more comes on the control stream, and the connection goes on without.
    ControlEnded(ControlError),
    /// The connection has ended, by an error if there is one. Every frame that came before was handed out.
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
    /// A connection without a control stream as yet.
    #[must_use]
    pub const fn new(mux: Mux<IO>) -> Self {
        Self { mux, control: None, unheard: false, ended: None }
    }

    /// When the peer was last heard.
    #[must_use]
    pub const fn heard(&self) -> &Arc<LastHeard> {
        self.mux.heard()
    }

    /// Opens a stream for whoever waits at the other end of `to`.
    pub fn open(&mut self, to: oneshot::Sender<Stream>) {
        self.mux.open(to);
    }

    /// From now on frames go over this stream.
    pub fn control(&mut self, stream: Stream) {
        (self.control, self.unheard) = (Some(Control::new(stream)), false);
    }

    /// Opens the control stream, before anything else happens.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn open_control(&mut self) -> Result<(), yamux::ConnectionError> {
        let stream = self.mux.opened().await?;
        self.control(stream);
        Ok(())
    }

    /// Whether there is a control stream.
    #[must_use]
    pub const fn has_control(&self) -> bool {
        self.control.is_some()
    }

    /// Puts a frame behind those that wait; without a control stream there is nobody to hear it.
    ///
    /// # Errors
    /// See [`Control::send`].
    pub fn send(&mut self, frame: &impl Serialize) -> Result<(), ControlError> {
        self.control.as_mut().map_or(Ok(()), |control| control.send(frame))
    }

    /// Moves everything, until something happens.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkEvent<In>> {
        if self.ended.is_none() {
            match self.mux.poll(cx) {
                Poll::Ready(MuxEvent::Inbound(stream)) => return Poll::Ready(LinkEvent::Inbound(stream)),
                Poll::Ready(MuxEvent::Ended(error)) => self.ended = Some(error),
                Poll::Pending => {}
            }
        }
        if let Some(control) = &mut self.control {
            if self.unheard {
                // It fails where it is of no use.
                let _ = control.poll_send(cx);
            } else {
                match control.poll(cx) {
                    Poll::Ready(Ok(frame)) => return Poll::Ready(LinkEvent::Frame(frame)),
                    Poll::Ready(Err(error)) => {
                        self.unheard = true;
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

    /// Lets what was written go out, and ends the connection, within `grace`.
    pub async fn close(&mut self, grace: Duration) {
        let _ = timeout(grace, self.mux.close()).await;
    }

    /// Lets the last frames out, and waits until the peer has hung up, `grace` at most, and as long again for the end of ours: a
    /// connection that is closed with something unread takes with it what the peer has not read yet.
    pub async fn goodbye(&mut self, grace: Duration) {
        if self.ended.is_some() {
            return;
        }
        let Self { mux, control, .. } = self;
        let hung_up = poll_fn(|cx| {
            if let Some(control) = control {
                // What it cannot take now it takes later, or never.
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
        if timeout(grace, hung_up).await.is_err() {
            let _ = timeout(grace, mux.close()).await;
        }
    }
}
