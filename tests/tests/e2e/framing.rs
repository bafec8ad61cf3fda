//! Requests that two parsers might read differently are refused, and nothing after them is read (RFC 9112).

use tests::gateway::{Gateway, Setup};
use tests::raw::Raw;
use tests::tls;

/// Each breaks one rule; `HOST` stands for the right host. After each the same connection would carry a good request.
const REFUSED: &[(&str, &str)] = &[
    ("bare line feeds", "GET /healthz HTTP/1.1\nHost: HOST\n\n"),
    ("one bare line feed", "GET /healthz HTTP/1.1\r\nHost: HOST\nX: y\r\n\r\n"),
    ("a bare carriage return", "GET /healthz HTTP/1.1\r\nHost: HOST\r\nX: a\rb\r\n\r\n"),
    ("no host", "GET /healthz HTTP/1.1\r\n\r\n"),
    ("two hosts", "GET /healthz HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n"),
    ("two different hosts", "GET /healthz HTTP/1.1\r\nHost: HOST\r\nHost: other.example\r\n\r\n"),
    ("a host with a blank", "GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n"),
    (
        "length and encoding",
        "POST /v1/enrollments HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "encoding and length",
        "POST /v1/enrollments HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "two equal lengths",
        "POST /v1/enrollments HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    ),
    (
        "two different lengths",
        "POST /v1/enrollments HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    ),
    ("a list of lengths", "POST /v1/enrollments HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2, 2\r\n\r\n{}"),
    ("a signed length", "POST /v1/enrollments HTTP/1.1\r\nHost: HOST\r\nContent-Length: +2\r\n\r\n{}"),
    ("a hexadecimal length", "POST /v1/enrollments HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0x2\r\n\r\n{}"),
    (
        "an encoding that is not chunked",
        "POST /v1/enrollments HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked and more",
        "POST /v1/enrollments HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    ("a blank before the colon", "POST /v1/enrollments HTTP/1.1\r\nHost: HOST\r\nContent-Length : 2\r\n\r\n{}"),
    ("a folded line", "GET /healthz HTTP/1.1\r\nHost: HOST\r\nX: a\r\n b\r\n\r\n"),
    ("a header without a name", "GET /healthz HTTP/1.1\r\nHost: HOST\r\n: x\r\n\r\n"),
    ("a NUL", "GET /healthz HTTP/1.1\r\nHost: HOST\r\nX: a\0b\r\n\r\n"),
    ("HTTP/1.0", "GET /healthz HTTP/1.0\r\nHost: HOST\r\n\r\n"),
    ("HTTP/0.9", "GET /healthz\r\n\r\n"),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("two blanks in the request line", "GET  /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a target of another host", "GET https://other.example/healthz HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a method that is no token", "GE(T /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("nothing like HTTP", "\u{16}\u{3}\u{1}\u{2}\r\n\r\n"),
];

const GOOD: &str = "GET /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n";

fn open(gateway: &Gateway) -> (Raw, String) {
    let face = gateway.enroll();
    let raw = Raw::open(face.address, &face.name, &tls::trusting_anybody(None)).unwrap();
    (raw, face.authority())
}

#[test]
fn good_requests_are_served_one_after_the_other() {
    let gateway = Setup::default().start();
    let (mut raw, host) = open(&gateway);
    for good in [
        GOOD,
        "GET /healthz HTTP/1.1\r\nhOST:HOST\r\nX: \r\n\r\n",
        "GET https://HOST/healthz HTTP/1.1\r\nHost: HOST\r\n\r\n",
    ] {
        raw.send(good.replace("HOST", &host).as_bytes()).unwrap();
        assert_eq!(raw.response().unwrap().0, 200, "{good:?}");
    }
    // In one write, as a client may that does not wait.
    raw.send(GOOD.repeat(3).replace("HOST", &host).as_bytes()).unwrap();
    for _ in 0..3 {
        assert_eq!(raw.response().unwrap().0, 200);
    }
}

#[test]
fn ambiguous_requests_are_refused_and_end_the_connection() {
    let gateway = Setup::default().start();
    for (what, bad) in REFUSED {
        let (mut raw, host) = open(&gateway);
        let bytes = format!("{bad}{GOOD}").replace("HOST", &host);
        raw.send(bytes.as_bytes()).unwrap();
        let (status, body) = raw.response().unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(status, 400, "{what}: {body}");
        assert!(raw.closed(), "{what}: the connection lives on, and the next request might be smuggled");
    }
}

#[test]
fn heads_and_bodies_over_the_limit_are_refused() {
    let gateway = Setup::default().start();
    let (mut raw, host) = open(&gateway);
    let long = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "a".repeat(20_000));
    // The answer may come, and the connection close, before all of it is written.
    let _ = raw.send(long.as_bytes());
    let (status, body) = raw.response().unwrap();
    assert!([400, 431].contains(&status), "{status} {body}");

    let (mut raw, host) = open(&gateway);
    // The announcement of a mebibyte is enough; of the body no more comes than the gateway throws away while it closes.
    let head = format!("POST /v1/enrollments HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n", 1 << 20);
    raw.send(format!("{head}{}", "a".repeat(70_000)).as_bytes()).unwrap();
    assert_eq!(raw.response().unwrap().0, 413);
}
