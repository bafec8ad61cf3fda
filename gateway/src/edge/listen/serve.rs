//! One connection after its handshake: HTTP/1.1 behind the framing guard, until it ends or is told to.

use std::{convert::Infallible, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::{HeaderValue, Request, Response, Uri, Version, header};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tower::ServiceExt as _;

use super::slices::Slices;
use crate::{
    core::face::Face,
    edge::{
        framing::{self, Chunked, Guarded, Rules, Times},
        http::Instead,
    },
    limits::{ANSWER_MARGIN, CUT_GRACE, HEAD_MAX, Limits, REQUEST_TIME},
    ports::metrics::Metrics,
    registry::live::{Conn, ConnGuard},
};

/// What is served on one face, and how.
pub(super) struct Service {
    router: Router,
    rules: Arc<Rules>,
    http: http1::Builder,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Service {
    pub fn new(face: Face, router: Router, limits: &Limits, metrics: &Arc<Metrics>) -> Self {
        let times = Times {
            head: limits.head_time,
            body: limits.body_time,
            answer: REQUEST_TIME + Duration::from_secs(wire::limits::WAIT_MAX_SECS) + ANSWER_MARGIN,
            idle: if face.row().is_open() { limits.idle_enroll } else { limits.idle_manage },
            write: limits.write_stall,
        };
        let rules = Rules { times, chunked: Chunked::Allowed, metrics: Arc::clone(metrics) };
        let mut http = http1::Builder::new();
        // The guard has the clock. One buffer for a whole reply: see `Slices`.
        http.header_read_timeout(None).half_close(false).writev(false).max_buf_size(HEAD_MAX);
        Self { router, rules: Arc::new(rules), http }
    }
}

/// A connection with HTTP on it. A value of its own, boxed as it is made: held inside an `async fn` it would take its
/// size twice.
pub(super) type Http<IO> = Pin<Box<http1::Connection<TokioIo<Guarded<IO>>, Requests>>>;

impl Service {
    /// Puts HTTP on a stream.
    pub fn http<IO>(&self, stream: IO, conn: &Arc<Conn>) -> Http<IO>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let io = TokioIo::new(Guarded::new(stream, Arc::clone(&self.rules)));
        let requests = Requests { router: self.router.clone(), conn: Arc::clone(conn) };
        Box::pin(self.http.serve_connection(io, requests))
    }
}

/// Serves a connection until its end.
pub(super) async fn serve<IO>(guard: ConnGuard, mut http: Http<IO>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let conn = guard.conn();
    let reason = tokio::select! {
        biased;
        ended = http.as_mut() => return log_end(conn, ended),
        reason = conn.told_to_end() => reason,
    };
    // At once when nothing is under way; the peer sees a proper end of the TLS stream.
    http.as_mut().graceful_shutdown();
    if reason.is_gentle() {
        tokio::select! {
            biased;
            ended = http.as_mut() => return log_end(conn, ended),
            _ = conn.told_to_end_at_once() => {}
        }
    }
    match timeout(CUT_GRACE, http).await {
        Ok(ended) => log_end(conn, ended),
        Err(_) => tracing::debug!(conn = %conn.id(), "ended with a request under way"),
    }
}

fn log_end(conn: &Conn, ended: hyper::Result<()>) {
    if let Err(error) = ended {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        tracing::debug!(conn = %conn.id(), source = %conn.source(), %error, cause = source, "connection failed");
    }
}

/// The requests of one connection.
pub(super) struct Requests {
    router: Router,
    conn: Arc<Conn>,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<Slices>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let (router, conn) = (self.router.clone(), Arc::clone(&self.conn));
        Box::pin(async move {
            let _serving = conn.serving();
            let instead = match conn.cut() {
                // It arrived while the connection was being cut.
                Some(reason) => Some(Instead::Ended(reason)),
                None => framing::refused(request.method(), request.uri(), request.headers()).map(Instead::Malformed),
            };
            if let Some(instead) = instead {
                // To no endpoint, so that it is answered and counted like whatever leads to none.
                *request.uri_mut() = Uri::from_static("*");
                request.extensions_mut().insert(instead);
            }
            // RFC 9112 9.3: an older client does not know that a connection may go on.
            let is_last = request.version() == Version::HTTP_10 || instead.is_some();
            request.extensions_mut().insert(Arc::clone(&conn));
            let mut response = router.oneshot(request.map(Body::new)).await?;
            if is_last || conn.closes_after_response() || conn.reason().is_some() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(Slices::new))
        })
    }
}
