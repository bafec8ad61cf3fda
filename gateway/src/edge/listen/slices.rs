//! A response body in small pieces. The HTTP library gathers a reply in one buffer, which saves an idle connection the
//! list of pieces it would hold otherwise; but the buffer keeps the size of the largest piece it ever held.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// Largest piece, in bytes: as many as one TLS record carries (RFC 8446 5.1).
const SLICE_MAX: usize = 16 * 1024;

/// A body that hands out [`SLICE_MAX`] bytes at a time.
#[derive(Debug)]
pub(super) struct Slices {
    body: Body,
    /// What is left of the piece that the body handed out last.
    rest: Bytes,
}

impl Slices {
    pub fn new(body: Body) -> Self {
        Self { body, rest: Bytes::new() }
    }
}

impl hyper::body::Body for Slices {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = self.rest.len().min(SLICE_MAX);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, more) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        // The upper end first: the lower may not pass it.
        if let Some(upper) = more.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(more.lower().saturating_add(rest));
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use hyper::body::Body as _;

    use super::*;

    /// The sizes of the pieces, while what is left is known exactly throughout.
    #[track_caller]
    fn check(length: usize, want: &[usize]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut slices = Slices::new(Body::from(vec![7; length]));
        let (mut sizes, mut left) = (Vec::new(), length);
        loop {
            assert_eq!(slices.size_hint().exact(), Some(left as u64));
            assert_eq!(slices.is_end_stream(), left == 0);
            let Some(frame) = runtime.block_on(slices.frame()) else { break };
            let data = frame.unwrap().into_data().unwrap();
            left -= data.len();
            sizes.push(data.len());
        }
        assert_eq!((sizes.as_slice(), left), (want, 0));
    }

    #[test]
    fn pieces() {
        check(0, &[]);
        check(1, &[1]);
        check(SLICE_MAX, &[SLICE_MAX]);
        check(2 * SLICE_MAX + 1, &[SLICE_MAX, SLICE_MAX, 1]);
    }
}
