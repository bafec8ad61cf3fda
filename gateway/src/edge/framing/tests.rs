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

mod served;

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
    assert_eq!((framer.place(), framer.head.capacity()), (StreamPosition::Body, 0));
    framer.feed(b"x").unwrap();
    assert_eq!(framer.place(), StreamPosition::Between);
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
