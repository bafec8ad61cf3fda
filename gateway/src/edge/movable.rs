//! Streams that may move to a connection of their own while they are carried: the bytes above them do not notice.

use std::task::{Context, Poll, ready};

use tokio::time::timeout;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use transport::mux::Stream;
use wire::moving::{Arrival, Arrive, Moving};

use crate::{
    limits::FINISH_TIME,
    registry::dial_back::{Awaited, Io},
};

/// A connection that a stream has for itself.
pub type Own = Compat<Box<dyn Io>>;

/// A stream that may move.
pub type Movable = Compat<Moving<yamux::Stream, Arriving>>;

/// The place where a connection may arrive that a stream is to move to.
#[derive(Debug)]
pub struct Arriving(Awaited);

/// Lets a stream move to the connection that is awaited.
#[must_use]
pub fn movable(awaited: Awaited, stream: Stream) -> Movable {
    Moving::new(stream.into_inner(), yamux::Stream::is_closed, Arriving(awaited)).compat()
}

impl Arrive for Arriving {
    type Carrier = Own;

    fn poll_arrive(&mut self, _carried: u64, cx: &mut Context<'_>) -> Poll<Arrival<Own>> {
        let arrived = ready!(self.0.poll_arrival(cx));
        Poll::Ready(arrived.map_or(Arrival::Never, |io| Arrival::Here(io.compat())))
    }

    fn withdraw(&mut self) {
        self.0.withdraw();
    }
}

/// Lets a stream that ended well go, with the connection that may be on its way to it.
pub async fn finish(stream: &mut Movable) {
    let finished = std::future::poll_fn(|cx| stream.get_mut().poll_finish(cx));
    let _ = timeout(FINISH_TIME, finished).await;
}
