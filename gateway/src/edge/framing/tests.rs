//! Rows of requests, the framer against a second reading of the same rules, and the guard with the library behind it.

use std::{
    io,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::Instant,
};

use super::*;
use crate::ports::metrics::Metrics;

/// Feeds everything in pieces of one size; how many requests ended, or what was refused and where in the whole.
fn feed(framer: &mut Framer, bytes: &[u8], piece: usize) -> Result<usize, (usize, BadFraming)> {
    let mut ended = 0;
    for (index, piece_bytes) in bytes.chunks(piece).enumerate() {
        match framer.feed(piece_bytes) {
            Ok(more) => ended += more,
            Err(Refused { at, why }) => return Err((index * piece + at, why)),
        }
    }
    Ok(ended)
}

/// One row: the same outcome whether the bytes come at once, one by one, or in sevens.
#[track_caller]
fn check_with(chunked: Chunked, request: &str, want: Result<usize, (usize, BadFraming)>) {
    for piece in [usize::MAX, 7, 1] {
        let mut framer = Framer::new(chunked);
        assert_eq!(feed(&mut framer, request.as_bytes(), piece), want, "{request:?} in pieces of {piece}");
    }
}

#[track_caller]
fn good(request: &str, ended: usize) {
    check_with(Chunked::Refused, request, Ok(ended));
}

/// Refused at the byte after `before`.
#[track_caller]
fn bad(before: &str, rest: &str, why: BadFraming) {
    check_with(Chunked::Refused, &format!("{before}{rest}"), Err((before.len(), why)));
}

/// Refused when the head is whole, at its last byte.
#[track_caller]
fn bad_head(head: &str, why: BadFraming) {
    check_with(Chunked::Refused, head, Err((head.len() - 1, why)));
}

#[test]
fn requests_that_are_taken() {
    good("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    good("GET /a?b=%20c&d HTTP/1.1\r\nhOsT:a.example:8443\r\nX: \t y\u{e9} \r\n\r\n", 1);
    good("\r\nGET / HTTP/1.1\r\nHost: [2001:db8::1]:1\r\n\r\n", 1);
    good("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 1);
    good("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab", 0);
    good("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 1);
    good("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2);
    good("GET https://a:1/x HTTP/1.1\r\nHost: A:1\r\n\r\n", 1);
    good("GET HTTP://a?x HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    good("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    good("GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2);
    good("", 0);
}

#[test]
fn bytes_that_end_it_at_once() {
    bad("GET / HTTP/1.1", "\nHost: a\n\n", BadFraming::BareLf);
    bad("GET / HTTP/1.1\r\nHost: a\r\n", "\n", BadFraming::BareLf);
    bad("", "\nGET / HTTP/1.1\r\n", BadFraming::BareLf);
    bad("\r\n", "\r\n", BadFraming::RequestLine);
    bad("\r", "GET", BadFraming::BareCr);
    bad("GET / HTTP/1.1\r", "Host: a", BadFraming::BareCr);
    bad("GET / HTTP/1.1\r\nHost: a\r", "\r\n", BadFraming::BareCr);
    bad("GET / HTTP/1.1\r\nHost: a", "\0", BadFraming::Control);
    bad("GET / HTTP/1.1\r\nHost: a", "\u{1}", BadFraming::Control);
    bad("GET / HTTP/1.1\r\nHost: a", "\u{7f}", BadFraming::Control);
    bad("GET / HTTP/1.1\r\nHost: a\r\n", " b\r\n\r\n", BadFraming::Folded);
    bad("GET / HTTP/1.1\r\n", "\tHost: a\r\n\r\n", BadFraming::Folded);
    bad("", "\u{16}\u{3}\u{1}", BadFraming::RequestLine);
    bad("", " GET / HTTP/1.1", BadFraming::RequestLine);
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(HEAD_MAX));
    let (before, rest) = long.split_at(HEAD_MAX);
    bad(before, rest, BadFraming::HeadTooLarge);
}

#[test]
fn heads_that_are_refused_when_whole() {
    let host = "Host: a\r\n\r\n";
    for line in ["GET /", "GET  / HTTP/1.1", "GET / HTTP/1.1 ", "GET /  HTTP/1.1", "GET / x HTTP/1.1", "G(T / HTTP/1.1"]
    {
        bad_head(&format!("{line}\r\n{host}"), BadFraming::RequestLine);
    }
    for version in ["HTTP/1.0", "HTTP/2.0", "http/1.1", "HTTP/1.10", "HTTP/0.9"] {
        bad_head(&format!("GET / {version}\r\n{host}"), BadFraming::Version);
    }
    for target in ["a", "*", "//\u{e9}", "/#x", "ftp://a/", "https://", "https://u@a/", "a:443", "https:/a"] {
        bad_head(&format!("GET {target} HTTP/1.1\r\n{host}"), BadFraming::Target);
    }
    bad_head(&format!("CONNECT a:443 HTTP/1.1\r\n{host}"), BadFraming::Target);
    bad_head(&format!("PRI * HTTP/2.0\r\n{host}"), BadFraming::Version);

    let with = |fields: &str| format!("POST /x HTTP/1.1\r\n{fields}\r\n\r\n");
    for field in ["Host : a", "Host\t: a", ": a", "Host", "Ho st: a", "H\u{f6}st: a", "X(y): a"] {
        bad_head(&with(field), BadFraming::FieldName);
    }
    bad_head("GET / HTTP/1.1\r\n\r\n", BadFraming::NoHost);
    bad_head(&with("X: Host: a"), BadFraming::NoHost);
    bad_head(&with("Host: a\r\nHost: a"), BadFraming::TwoHosts);
    bad_head(&with("Host: a\r\nhost: b"), BadFraming::TwoHosts);
    for host in ["", "a b", "a,b", "u@a", "a/b", "a%20b", "\u{e9}"] {
        bad_head(&with(&format!("Host: {host}")), BadFraming::BadHost);
    }
    bad_head("GET https://a/ HTTP/1.1\r\nHost: b\r\n\r\n", BadFraming::HostDiffers);
    bad_head("GET https://a:443/ HTTP/1.1\r\nHost: a\r\n\r\n", BadFraming::HostDiffers);

    for length in ["", "+1", "-1", "1,1", "1 1", "0x1", "1.0", "\u{0661}", "18446744073709551616"] {
        bad_head(&with(&format!("Host: a\r\nContent-Length: {length}")), BadFraming::ContentLength);
    }
    bad_head(&with("Host: a\r\nContent-Length: 1\r\ncontent-length: 1"), BadFraming::TwoContentLengths);
    bad_head(&with("Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked"), BadFraming::LengthAndEncoding);
    bad_head(&with("Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0"), BadFraming::LengthAndEncoding);
    bad_head(&with("Host: a\r\nTransfer-Encoding: chunked"), BadFraming::TransferEncoding);
    bad_head(&with("Host: a\r\nTransfer-Encoding: identity"), BadFraming::TransferEncoding);
}

#[test]
fn the_largest_head_fits() {
    let frame = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n";
    let fill = "x".repeat(HEAD_MAX - frame.len());
    good(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {fill}\r\n\r\n"), 1);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {fill}x\r\n\r\n");
    bad_head(&head, BadFraming::HeadTooLarge);
}

#[test]
fn chunks_where_they_are_taken() {
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n";
    let good = |body: &str, ended| check_with(Chunked::Allowed, &format!("{HEAD}{body}"), Ok(ended));
    good("0\r\n\r\n", 1);
    good("3\r\nabc\r\n0\r\n\r\n", 1);
    good("A\r\n0123456789\r\n00000001\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2);
    good("3\r\nab", 0);
    let bad = |before: &str, rest: &str| {
        let whole = format!("{HEAD}{before}{rest}");
        check_with(Chunked::Allowed, &whole, Err((HEAD.len() + before.len(), BadFraming::Chunk)));
    };
    bad("", "\r\n");
    bad("", "g\r\n");
    bad("3", "\nabc");
    bad("3", ";x=y\r\nabc");
    bad("3", " \r\nabc");
    bad("3\r\nabc", "d\r\n");
    bad("3\r\nabc\r", "x");
    bad("0\r\n", "X: trailer\r\n\r\n");
    bad("00000000", "1\r\n");
    for value in ["chunked, chunked", "gzip, chunked", "x", ""] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {value}\r\n\r\n");
        check_with(Chunked::Allowed, &head, Err((head.len() - 1, BadFraming::TransferEncoding)));
    }
    let twice = HEAD.replace("Host: a", "Host: a\r\nTransfer-Encoding: chunked");
    check_with(Chunked::Allowed, &twice, Err((twice.len() - 1, BadFraming::TransferEncoding)));
}

#[test]
fn an_idle_connection_holds_no_head() {
    let mut framer = Framer::new(Chunked::Refused);
    framer.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n").unwrap();
    assert_eq!((framer.place(), framer.head.capacity()), (Place::Body, 0));
    framer.feed(b"x").unwrap();
    assert_eq!(framer.place(), Place::Between);
}

#[test]
fn what_was_refused_stays_refused() {
    let mut framer = Framer::new(Chunked::Refused);
    framer.feed(b"\n").unwrap_err();
    assert_eq!(framer.feed(b"GET"), Err(Refused { at: 0, why: BadFraming::BareLf }));
}

/// Pieces that requests, good and bad, are made of.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"GET / HTTP/1.1\r\n",
        b"POST /x HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"hello",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"X: y\r\n",
        b" ",
        b"\0",
    ];
    prop_oneof![
        8 => proptest::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    /// However the bytes are cut into pieces, the outcome is the same, and there is no panic.
    #[test]
    fn cuts_do_not_matter(
        pieces in proptest::collection::vec(piece(), 0..24),
        size in 1_usize..40,
        chunked in prop_oneof![Just(Chunked::Refused), Just(Chunked::Allowed)],
    ) {
        let bytes = pieces.concat();
        let whole = feed(&mut Framer::new(chunked), &bytes, usize::MAX);
        let cut = feed(&mut Framer::new(chunked), &bytes, size);
        // The count of requests before a refusal is not told, so only the outcome is compared.
        prop_assert_eq!(whole, cut);
    }

    /// Whatever passes as a head is one by a second, plainer reading of the rules.
    #[test]
    fn what_passes_reads_the_same_elsewhere(fields in proptest::collection::vec(field(), 0..5)) {
        let head = format!("POST / HTTP/1.1\r\n{}\r\n", fields.concat());
        let mut framer = Framer::new(Chunked::Refused);
        let passed = framer.feed(head.as_bytes()).is_ok() && framer.head.is_empty();
        let text = head.to_ascii_lowercase();
        let count = |name: &str| text.matches(&format!("\r\n{name}:")).count();
        let lengths: Vec<Option<u64>> =
            text.split("\r\ncontent-length:").skip(1).map(|rest| rest.split("\r\n").next()?.trim().parse().ok()).collect();
        let plain = text.matches('\n').count() == text.matches("\r\n").count() && !text.contains(" :") && !text.contains("\r\n ");
        let right = plain && count("host") == 1 && count("transfer-encoding") == 0 && match lengths.as_slice() {
            [] => framer.state == State::Between,
            [Some(0)] => framer.state == State::Between,
            [Some(left)] => *left <= LENGTH_MAX && framer.state == State::Sized { left: *left },
            _ => false,
        };
        prop_assert_eq!(passed, right, "{:?}", head);
    }
}

/// Header lines, good and bad, that matter to framing.
fn field() -> impl Strategy<Value = String> {
    let fields = [
        "Host: a\r\n",
        "host:b:1 \r\n",
        "Host : a\r\n",
        "X: y\r\n",
        "X: y\n",
        " folded: z\r\n",
        "Transfer-Encoding: chunked\r\n",
        "X: Transfer-Encoding: chunked\r\n",
    ];
    prop_oneof![
        3 => Just("Host: a\r\n".to_owned()),
        3 => proptest::sample::select(fields.to_vec()).prop_map(str::to_owned),
        1 => any::<u64>().prop_map(|length| format!("Content-Length: {length}\r\n")),
        1 => (0_u8..3).prop_map(|length| format!("content-length:{length}\r\n")),
    ]
}

const TIMES: Times = Times {
    head: Duration::from_secs(10),
    body: Duration::from_secs(15),
    answer: Duration::from_secs(60),
    idle: Duration::from_secs(30),
    write: Duration::from_secs(20),
};

/// What the handler saw: the path and the body, or that the body broke off.
type Seen = Arc<Mutex<Vec<String>>>;

fn status_of(why: BadFraming) -> u16 {
    crate::edge::fronts::native::problem::problem(&why.into(), "i").status
}

/// A connection to the HTTP library behind the guard; the handler takes `think` to answer.
fn served(think: Duration, answer: &'static str) -> (DuplexStream, Seen, Arc<Metrics>) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let seen = Seen::default();
    let metrics = Arc::new(Metrics::new());
    let rules = Arc::new(Rules { times: TIMES, chunked: Chunked::Allowed, metrics: Arc::clone(&metrics) });
    let guarded = Guarded::new(server, rules);
    let log = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let log = Arc::clone(&log);
        async move {
            if let Some(why) = refused(request.method(), request.uri(), request.headers()) {
                let mut response = Response::new(Full::new(bytes::Bytes::new()));
                *response.status_mut() = http::StatusCode::from_u16(status_of(why)).unwrap();
                response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
                return Ok(response);
            }
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await;
            let body =
                body.map_or_else(|_| "broken".to_owned(), |body| String::from_utf8_lossy(&body.to_bytes()).into());
            log.lock().unwrap().push(format!("{path} {body}"));
            tokio::time::sleep(think).await;
            Ok::<_, io::Error>(Response::new(Full::new(bytes::Bytes::from_static(answer.as_bytes()))))
        }
    });
    tokio::spawn(async move {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.header_read_timeout(None).half_close(false).max_buf_size(HEAD_MAX);
        builder.serve_connection(TokioIo::new(guarded), service).await
    });
    (client, seen, metrics)
}

async fn rest(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // The guard may end the connection while we still send; what came before counts.
    let _ = client.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into()
}

async fn sent(client: &mut DuplexStream, bytes: &str) {
    // The guard may have closed already.
    let _ = client.write_all(bytes.as_bytes()).await;
}

const OK: &str = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";

/// Statuses answered to these bytes in pieces, and what the handler saw.
fn answers(pieces: &[&[u8]]) -> (Vec<String>, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (answers, seen) = runtime.block_on(async {
        let (mut client, seen, _) = served(Duration::ZERO, "done");
        for piece in pieces {
            // The guard may have closed already.
            let _ = client.write_all(piece).await;
            // Until everybody has done what can be done: time stands still otherwise.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let answers = rest(&mut client).await;
        (answers, seen.lock().unwrap().clone())
    });
    let statuses = answers.split("HTTP/1.").skip(1).filter_map(|answer| answer.get(2..5)).map(str::to_owned);
    (statuses.collect(), seen)
}

/// The same answers however the bytes are cut: whole, in two at each byte, byte by byte.
#[track_caller]
fn served_row(bytes: &str, statuses: &[&str], handled: &[&str]) {
    let want = (
        statuses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        handled.iter().map(ToString::to_string).collect::<Vec<_>>(),
    );
    let bytes = bytes.as_bytes();
    assert_eq!(answers(&[bytes]), want, "{:?}", bytes.escape_ascii().to_string());
    // Long ones are cut at fewer places; 251 has no divisor in common with any buffer.
    let step = if bytes.len() > 1_000 { 251 } else { 1 };
    for at in (1..bytes.len()).step_by(step) {
        let (first, second) = bytes.split_at(at);
        assert_eq!(answers(&[first, second]), want, "cut at {at}: {:?}", bytes.escape_ascii().to_string());
    }
    if step == 1 {
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(answers(&single), want, "byte by byte: {:?}", bytes.escape_ascii().to_string());
    }
}

/// Every rule broken once, by its own name: the answer, and nothing handled.
fn refused_rows() -> Vec<(BadFraming, u16, String)> {
    let with = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
    let row = |why, status, text: &str| (why, status, text.to_owned());
    vec![
        row(BadFraming::BareLf, 400, "GET / HTTP/1.1\nHost: a\n\n"),
        row(BadFraming::BareLf, 400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
        row(BadFraming::BareLf, 400, "\n"),
        row(BadFraming::BareCr, 400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\rz: b\r\n\r\n"),
        row(BadFraming::Control, 400, "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n"),
        row(BadFraming::Folded, 400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
        row(BadFraming::RequestLine, 400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        row(BadFraming::RequestLine, 400, "\u{16}\u{3}\u{1}"),
        row(BadFraming::Version, 505, "GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
        row(BadFraming::Version, 505, "GET / HTTP/1.0\r\n\r\n"),
        row(BadFraming::Version, 505, "PRI * HTTP/2.0\r\n\r\n"),
        row(BadFraming::Version, 505, "POST /healthz HTTP/1.0\r\n\r\n"),
        row(BadFraming::Version, 505, "GET /healthz HTTP/1.0\r\nContent-Length: 1\r\n\r\nx"),
        row(BadFraming::Target, 400, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
        row(BadFraming::Target, 400, "GET * HTTP/1.1\r\nHost: refused\r\nlychgate-refused: slow\r\n\r\n"),
        row(BadFraming::Target, 400, "GET /a`b HTTP/1.1\r\nHost: a\r\n\r\n"),
        row(BadFraming::Target, 400, "GET /a<b> HTTP/1.1\r\nHost: a\r\n\r\n"),
        row(BadFraming::FieldName, 400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        row(BadFraming::NoHost, 400, "GET / HTTP/1.1\r\nX: a\r\n\r\n"),
        row(BadFraming::TwoHosts, 400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        row(BadFraming::BadHost, 400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        row(BadFraming::HostDiffers, 400, "GET https://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (BadFraming::ContentLength, 400, with("Host: a\r\nContent-Length: +1") + "x"),
        (BadFraming::TwoContentLengths, 400, with("Host: a\r\nContent-Length: 1\r\nContent-Length: 1") + "x"),
        (BadFraming::LengthTooLarge, 413, with("Host: a\r\nContent-Length: 18446744073709551615")),
        (BadFraming::LengthTooLarge, 413, with("Host: a\r\nContent-Length: 4294967297")),
        (BadFraming::LengthAndEncoding, 400, with("Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked")),
        (BadFraming::TransferEncoding, 400, with("Host: a\r\nTransfer-Encoding: gzip, chunked")),
        (BadFraming::HeadTooLarge, 431, with(&format!("Host: a\r\nX: {}", "x".repeat(20_000)))),
        (BadFraming::TooManyFields, 431, with(&format!("Host: a{}", "\r\nX: y".repeat(FIELDS_MAX)))),
    ]
}

#[test]
fn a_malformed_head_gets_one_answer_however_it_is_cut() {
    for (why, status, request) in refused_rows() {
        let mut framer = Framer::new(Chunked::Allowed);
        assert_eq!(framer.feed(request.as_bytes()).map_err(|refused| refused.why), Err(why), "{request:?}");
        let status = status.to_string();
        served_row(&request, &[&status], &[]);
        // What came before is served; what comes after is not.
        served_row(&format!("{OK}{request}{OK}"), &["200", &status], &["/ok "]);
    }
}

/// Each rule is in the table above, but for what breaks a body and what comes too slowly.
#[test]
fn every_rule_about_heads_has_its_row() {
    let rows: Vec<BadFraming> = refused_rows().iter().map(|row| row.0).collect();
    for why in BadFraming::ALL {
        assert!(rows.contains(&why) || matches!(why, BadFraming::Chunk | BadFraming::Slow), "{why:?}");
        let request = String::from_utf8(stand_in(why)).unwrap();
        assert!(request.contains(why.code()), "{request}");
    }
}

#[test]
fn good_requests_are_served() {
    const CHUNKED: &str = "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    served_row(&format!("{OK}{OK}"), &["200", "200"], &["/ok ", "/ok "]);
    served_row("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", &["200"], &["/p hello"]);
    served_row(&format!("{CHUNKED}2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n{OK}"), &["200", "200"], &["/p hello", "/ok "]);
    // Whoever reads the body is told, and nothing after it is read.
    served_row(&format!("{CHUNKED}2;x=y\r\nhe\r\n0\r\n\r\n{OK}"), &["200"], &["/p broken"]);
    served_row(&format!("{CHUNKED}2\r\nhe\r\n0\r\nX: y\r\n\r\n{OK}"), &["200"], &["/p broken"]);
}

/// Balancers look with HTTP/1.0, without `Host`; whatever they send beside it reaches nobody.
#[test]
fn older_clients_may_look_whether_anybody_is_there() {
    served_row("GET /healthz HTTP/1.0\r\n\r\n", &["200"], &["/healthz "]);
    served_row("HEAD /readyz HTTP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n", &["200"], &["/readyz "]);
    served_row(
        &format!("GET /readyz HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n{OK}"),
        &["200"],
        &["/readyz "],
    );
}

/// Sends pieces a second apart; what came back and after how long the connection ended.
async fn slowly(client: &mut DuplexStream, pieces: impl IntoIterator<Item = &str>) -> (String, Duration) {
    let begun = Instant::now();
    for piece in pieces {
        if client.write_all(piece.as_bytes()).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    (rest(client).await, begun.elapsed())
}

fn letters(text: &str) -> impl Iterator<Item = &str> {
    text.split("").filter(|letter| !letter.is_empty())
}

#[tokio::test(start_paused = true)]
async fn a_head_of_one_byte_a_second_ends_after_its_time() {
    let (mut client, seen, metrics) = served(Duration::ZERO, "");
    let (answer, took) = slowly(&mut client, letters("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(seen.lock().unwrap().len(), 0);
    assert!((10..=12).contains(&took.as_secs()), "{took:?}");
    assert!(metrics.render().contains(r#"lychgate_timeouts_total{reason="head"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn a_body_of_one_byte_a_second_ends_after_its_time() {
    let (mut client, seen, metrics) = served(Duration::ZERO, "");
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n";
    let body = "x".repeat(100);
    let (_, took) = slowly(&mut client, [head].into_iter().chain(letters(&body))).await;
    assert_eq!(*seen.lock().unwrap(), ["/ broken"]);
    assert!((15..=17).contains(&took.as_secs()), "{took:?}");
    assert!(metrics.render().contains(r#"lychgate_timeouts_total{reason="body"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_ends_after_its_time() {
    let (mut client, _, metrics) = served(Duration::ZERO, "");
    let (answer, took) = slowly(&mut client, []).await;
    assert_eq!((answer.as_str(), took.as_secs()), ("", 30));
    assert!(metrics.render().contains(r#"lychgate_timeouts_total{reason="idle"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn the_idle_clock_starts_anew_with_each_answer() {
    let (mut client, seen, _) = served(Duration::ZERO, "");
    let begun = Instant::now();
    for _ in 0..3 {
        sent(&mut client, OK).await;
        tokio::time::sleep(Duration::from_secs(25)).await;
    }
    let answers = rest(&mut client).await;
    assert_eq!((answers.matches("200 OK").count(), seen.lock().unwrap().len()), (3, 3));
    assert_eq!(begun.elapsed().as_secs(), 80);
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_is_not_idle() {
    let (mut client, _, _) = served(Duration::from_secs(50), "late");
    let (answer, took) = slowly(&mut client, [OK]).await;
    assert!(answer.ends_with("late"), "{answer}");
    assert_eq!(took.as_secs(), 80);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_answers_is_given_up() {
    let (mut client, _, metrics) = served(Duration::from_secs(1_000), "late");
    let (answer, took) = slowly(&mut client, [OK]).await;
    assert_eq!((answer.as_str(), took.as_secs()), ("", 60));
    assert!(metrics.render().contains(r#"lychgate_timeouts_total{reason="answer"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_ends_after_its_time() {
    static LARGE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| "x".repeat(1024 * 1024));
    let (mut client, _, metrics) = served(Duration::ZERO, LARGE.as_str());
    sent(&mut client, OK).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(metrics.render().contains(r#"lychgate_timeouts_total{reason="write"} 1"#));
    assert!(rest(&mut client).await.len() < LARGE.len());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_but_reads_gets_everything() {
    static LARGE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| "x".repeat(1024 * 1024));
    let (mut client, _, _) = served(Duration::ZERO, LARGE.as_str());
    sent(&mut client, OK).await;
    let (mut buffer, mut got) = (vec![0; 32 * 1024], 0);
    loop {
        match client.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => got += count,
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(got > LARGE.len());
}

#[tokio::test(start_paused = true)]
async fn a_refused_peer_can_read_the_answer_while_it_still_sends() {
    let (client, server) = tokio::io::duplex(1024);
    let metrics = Arc::new(Metrics::new());
    let rules = Arc::new(Rules { times: TIMES, chunked: Chunked::Refused, metrics });
    let mut guarded = Guarded::new(server, rules);
    let (mut reading, mut writing) = tokio::io::split(client);
    let sender = tokio::spawn(async move { writing.write_all(&[b'\n'; 10_000]).await });
    let mut buffer = vec![0; 4096];
    let read = guarded.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..read], stand_in(BadFraming::BareLf), "the stand-in");
    guarded.write_all(b"400").await.unwrap();
    let mut closing = pin!(guarded.shutdown());
    tokio::select! {
        biased;
        sent = sender => sent.unwrap().unwrap(),
        closed = &mut closing => panic!("closed with {closed:?} while the peer was sending"),
    }
    let mut answer = [0; 3];
    reading.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"400");
    let begun = Instant::now();
    closing.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 1, "and not for ever");
}

#[track_caller]
fn proxy(head: &str, want: Result<ProxyHead, BadFraming>) {
    assert_eq!(proxy_head(head.as_bytes()), want, "{head:?}");
}

#[test]
fn heads_of_the_proxy_face() {
    let connect = |target: &str| Ok(ProxyHead::Connect(target.to_owned()));
    proxy("CONNECT ssh.edge-7:22 HTTP/1.1\r\nHost: ssh.edge-7:22\r\n\r\n", connect("ssh.edge-7:22"));
    proxy("CONNECT a.b:1 HTTP/1.1\r\nHost: A.B:1\r\nProxy-Connection: Keep-Alive\r\n\r\n", connect("a.b:1"));
    proxy("CONNECT a.b:1 HTTP/1.1\r\nHost: a.b:1\r\nContent-Length: 0\r\n\r\n", connect("a.b:1"));
    proxy("GET http://a.b/ HTTP/1.1\r\nHost: a.b\r\n\r\n", Ok(ProxyHead::Other));
    for (head, why) in [
        ("CONNECT a.b:1 HTTP/1.1\r\n\r\n", BadFraming::NoHost),
        ("CONNECT a.b:1 HTTP/1.1\r\nHost: c.d:1\r\n\r\n", BadFraming::HostDiffers),
        ("CONNECT a.b:1 HTTP/1.1\r\nHost: a.b:1\r\nHost: a.b:1\r\n\r\n", BadFraming::TwoHosts),
        ("CONNECT a.b:1 HTTP/1.1\r\nHost: a.b:1\r\nContent-Length: 5\r\n\r\n", BadFraming::ContentLength),
        ("CONNECT a.b:1 HTTP/1.1\r\nHost: a.b:1\r\nTransfer-Encoding: chunked\r\n\r\n", BadFraming::TransferEncoding),
        ("CONNECT a.b:1 HTTP/1.1\r\nHost: a.b:1\r\n x: y\r\n\r\n", BadFraming::Folded),
        ("CONNECT a.b:1 HTTP/1.1\nHost: a.b:1\n\n", BadFraming::BareLf),
        ("CONNECT a.b:1 HTTP/1.1\r\nHost: a.b:1\rX: y\r\n\r\n", BadFraming::BareCr),
        ("CONNECT a.b:1 HTTP/1.1\r\nHost: a.b:1\r\nX: \0\r\n\r\n", BadFraming::Control),
        ("CONNECT a.b:1 HTTP/1.1\r\nHost : a.b:1\r\n\r\n", BadFraming::FieldName),
        ("CONNECT a.b:1 HTTP/1.0\r\nHost: a.b:1\r\n\r\n", BadFraming::Version),
        ("CONNECT  a.b:1 HTTP/1.1\r\nHost: a.b:1\r\n\r\n", BadFraming::RequestLine),
        ("CONNECT u@a.b:1 HTTP/1.1\r\nHost: a.b:1\r\n\r\n", BadFraming::Target),
        ("CONNECT /a HTTP/1.1\r\nHost: a.b:1\r\n\r\n", BadFraming::Target),
    ] {
        proxy(head, Err(why));
    }
}
