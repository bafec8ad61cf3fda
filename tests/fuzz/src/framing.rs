//! The guard over HTTP framing. However the bytes are cut, the outcome is the same; and whatever passes, the HTTP library
//! behind it reads as the same requests, ending where the guard says. Where the two differ, requests can be smuggled.

use std::{
    cell::RefCell,
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use gateway::ports::metrics::Metrics;
use gateway::{
    edge::framing::{Chunked, Framer, Guarded, Refused, Rules, Times, refused},
    limits::HEAD_MAX,
};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    Outcome,
    parts::{mode, with_mode},
};

/// Sent after a request: it must be read as a request of its own.
const MARKER: &[u8] = b"GET /marker HTTP/1.1\r\nHost: marker\r\n\r\n";

/// Rounds after which a connection that always wants to go on is a finding.
const ROUNDS_MAX: usize = 100_000;

/// Judges one input: the first byte says how large the pieces are, and whether chunks are taken.
pub fn check(data: &[u8]) -> Outcome {
    let Some((mode, bytes)) = mode(data) else { return Outcome::Refused };
    let chunked = if mode & 1 == 0 { Chunked::Refused } else { Chunked::Allowed };
    let piece = usize::from(mode >> 1).max(1);
    let whole = outcome(chunked, bytes, usize::MAX);
    assert_eq!(whole, outcome(chunked, bytes, piece), "in pieces of {piece}");
    let ends = ends(chunked, bytes);
    assert_eq!(whole.ended, ends.len());

    let mut from = 0;
    let mut all = Vec::new();
    for end in &ends {
        let request = &bytes[from..*end];
        from = *end;
        match alone(request) {
            Some(read) => all.push(read),
            // The library is stricter still; it ends the connection there.
            None => break,
        }
    }
    let guarded = guarded(chunked, bytes, piece);
    assert!(guarded.len() <= all.len(), "{} requests behind the guard, {} let through", guarded.len(), all.len());
    assert_eq!(guarded, all[..guarded.len()]);
    Outcome::any(&[!all.is_empty()])
}

/// What the guard said to the whole.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    ended: usize,
    refused: Option<usize>,
}

fn outcome(chunked: Chunked, bytes: &[u8], piece: usize) -> Said {
    let mut framer = Framer::new(chunked);
    let mut ended = 0;
    for (index, part) in bytes.chunks(piece).enumerate() {
        match framer.feed(part) {
            Ok(more) => ended += more,
            Err(Refused { at, why }) => {
                assert!(at < part.len());
                // Those that ended in the same piece were not told; the bytes before the refused one tell.
                let before = Framer::new(chunked).feed(&bytes[..index * piece + at]).expect("taken a moment ago");
                assert_eq!(framer.feed(b"G").map_err(|refused| refused.why), Err(why), "refused once and taken again");
                return Said { ended: before, refused: Some(index * piece + at) };
            }
        }
    }
    Said { ended, refused: None }
}

/// Where each request ends.
fn ends(chunked: Chunked, bytes: &[u8]) -> Vec<usize> {
    let mut framer = Framer::new(chunked);
    let mut ends = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        match framer.feed(&[*byte]) {
            Ok(0) => {}
            Ok(ended) => {
                assert_eq!(ended, 1);
                ends.push(at + 1);
            }
            Err(_) => break,
        }
    }
    ends
}

/// What the library read as one request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    method: String,
    target: String,
    body: Vec<u8>,
}

/// The library alone with one request that the guard lets through, and a marker after it. Nothing when it refuses.
fn alone(request: &[u8]) -> Option<Read> {
    let bytes = [request, MARKER].concat();
    let served = serve(Bytes::new(&bytes, usize::MAX));
    let (first, rest) = served.read.split_first().map_or((None, &[][..]), |(first, rest)| (Some(first.clone()), rest));
    let Some(first) = first else {
        assert_eq!(served.begun, 0, "the library waits for more body than the guard saw: {}", request.escape_ascii());
        assert!(served.over, "the library waits for more head than the guard saw: {}", request.escape_ascii());
        return None;
    };
    match rest {
        // `Connection: close`, or an upgrade that is not served.
        [] => assert!(served.over && served.begun == 1, "the marker was not read: {}", request.escape_ascii()),
        [marker] => assert_eq!(marker.target, "/marker", "{}", request.escape_ascii()),
        more => panic!("{} requests instead of one: {}", more.len(), request.escape_ascii()),
    }
    if let Some(body) = sized_body(request) {
        assert_eq!(first.body, body, "{}", request.escape_ascii());
    }
    Some(first)
}

/// The bytes after the head, unless they are chunks.
fn sized_body(request: &[u8]) -> Option<&[u8]> {
    let request = request.strip_prefix(b"\r\n").unwrap_or(request);
    let head = request.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let chunked = request[..head].to_ascii_lowercase().windows(18).any(|window| window == b"transfer-encoding:");
    (!chunked).then(|| &request[head..])
}

/// The library behind the guard, as the gateway has it.
fn guarded(chunked: Chunked, bytes: &[u8], piece: usize) -> Vec<Read> {
    // Nothing is ever late here; the guard only wants timers to exist.
    static RUNTIME: LazyLock<tokio::runtime::Runtime> =
        LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().expect("timers"));
    static METRICS: LazyLock<Arc<Metrics>> = LazyLock::new(|| Arc::new(Metrics::new()));
    let hour = Duration::from_secs(3600);
    let times = Times { head: hour, body: hour, answer: hour, idle: hour, write: hour };
    let _entered = RUNTIME.enter();
    let rules = Arc::new(Rules { times, chunked, metrics: Arc::clone(&METRICS) });
    serve(Guarded::new(Bytes::new(bytes, piece), rules)).read
}

/// What became of a connection.
struct Served {
    /// Requests read to their end.
    read: Vec<Read>,
    /// Requests of which the head was read.
    begun: usize,
    /// Whether the library closed it.
    over: bool,
}

/// Set when somebody wants to be polled again.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs the library over a stream until it waits for more.
fn serve(stream: impl AsyncRead + AsyncWrite + Unpin) -> Served {
    let (read, begun) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(0)));
    let service = service_fn(|request: Request<Incoming>| {
        *begun.borrow_mut() += 1;
        let read = Rc::clone(&read);
        async move {
            let (parts, body) = request.into_parts();
            if refused(&parts.method, &parts.uri, &parts.headers).is_some() {
                // The guard's own words, which end the connection.
                let mut response = Response::new(Empty::<hyper::body::Bytes>::new());
                response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
                return Ok(response);
            }
            let body = body.collect().await?.to_bytes().to_vec();
            read.borrow_mut().push(Read { method: parts.method.to_string(), target: parts.uri.to_string(), body });
            let mut response = Response::new(Empty::<hyper::body::Bytes>::new());
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            Ok::<_, hyper::Error>(response)
        }
    });
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut over = false;
    {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.header_read_timeout(None).half_close(false).writev(false).max_buf_size(HEAD_MAX);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "the connection turns for ever");
            if over || !woken.0.swap(false, Ordering::Relaxed) {
                break;
            }
            over = connection.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        }
    }
    Served { read: read.take(), begun: begun.take(), over }
}

/// A stream that gives these bytes in pieces, then nothing, and takes whatever is written.
struct Bytes<'a> {
    left: &'a [u8],
    piece: usize,
}

impl<'a> Bytes<'a> {
    const fn new(left: &'a [u8], piece: usize) -> Self {
        Self { left, piece }
    }
}

impl AsyncRead for Bytes<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            return Poll::Pending;
        }
        let (now, later) = self.left.split_at(self.piece.min(self.left.len()).min(buf.remaining()));
        buf.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bytes<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Requests of each form, good ones and those that another parser would take.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    const TEXTS: &[&str] = &[
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET /a?b=%20c HTTP/1.1\r\nhOsT:a.example:8443\r\nX: \t y \r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /v1/enrollments HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nDPoP: x\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET https://a:1/x HTTP/1.1\r\nHost: A:1\r\nConnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: [2001:db8::1]:1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        "CONNECT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nmore",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\nHost: b\r\n\r\n",
    ];
    // Pieces of the whole, of one byte and of seven, without and with chunks.
    let modes = [0xfe, 0x02, 0x0e, 0xff, 0x0f];
    TEXTS.iter().flat_map(|text| modes.map(|mode| with_mode(mode, text.as_bytes()))).collect()
}
