//! Requests that two parsers might read differently are refused, and no byte after them is read (RFC 9112 11.2).

use std::fs;

use tests::gateway::{Gateway, Setup};
use tests::raw::Raw;
use tests::tls;
use wire::problem::Problem;

/// Each breaks one rule; `HOST` is replaced by the right host. After each a valid request follows on the same connection.
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
    ("HTTP/1.0", "GET /v1/gateway HTTP/1.0\r\nHost: HOST\r\n\r\n"),
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
        let (status, head, body) = raw.full_response().unwrap_or_else(|e| panic!("{what}: {e}"));
        let want = if bad.contains("HTTP/1.0") || bad.contains("HTTP/2.0") { 505 } else { 400 };
        assert_eq!(status, want, "{what}: {body}");
        problem(what, status, &head, &body);
        assert!(raw.closed(), "{what}: the connection lives on, and the next request might be smuggled");
    }
}

/// Every refusal is a problem document with the id in its header.
fn problem(what: &str, status: u16, head: &str, body: &str) {
    let problem: Problem = serde_json::from_str(body).unwrap_or_else(|e| panic!("{what}: {e}: {head} {body}"));
    assert_eq!(problem.status, status, "{what}: {body}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains(&format!("lychgate-instance: {}", problem.instance)), "{what}: {head}");
    assert!(head.contains("content-type: application/problem+json"), "{what}: {head}");
    assert!(head.contains("connection: close"), "{what}: {head}");
}

/// As the document on the protocol has it: chunks are taken, without extensions and trailers; what is over its limit, or
/// stalls, is refused with its own status, and before it is sent where that can be.
#[test]
fn bodies_are_taken_as_the_document_says() {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md")).unwrap();
    let document = document.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "`Content-Length` or `chunked` (without extensions and trailers) and never both",
        "413 (before `100 Continue`) for a `Content-Length` over the limit",
        "408 for a head or body that is not completed in time",
        "505 for another version of HTTP",
    ] {
        assert!(document.contains(words), "the document does not say: {words}");
    }
    let gateway = Setup::default().config("limits.body_time", "2s").config("limits.head_time", "2s").start();
    let post = "POST /v1/enrollments HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n";
    let rows = [
        (
            "in chunks",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n2\r\n{{\"\r\n8\r\ncsr\":\"\"}}\r\n0\r\n\r\n"),
            400,
            "bad-csr",
        ),
        (
            "a chunk's extension",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n2;x=y\r\n{{}}\r\n0\r\n\r\n"),
            400,
            "malformed",
        ),
        (
            "trailers",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nX: y\r\n\r\n"),
            400,
            "malformed",
        ),
        ("too long", format!("{post}Content-Length: 65537\r\nExpect: 100-continue\r\n\r\n"), 413, "too-large"),
        ("far too long", format!("{post}Content-Length: 18446744073709551615\r\n\r\n"), 413, "too-large"),
        ("a body that stalls", format!("{post}Content-Length: 10\r\n\r\n{{"), 408, "too-slow"),
        ("a head that stalls", post.to_owned(), 408, "too-slow"),
        ("a head that is large", format!("{post}X: {}\r\n\r\n", "x".repeat(17_000)), 431, "head-too-large"),
    ];
    for (what, request, status, code) in rows {
        let (mut raw, host) = open(&gateway);
        // The answer may come, and the connection close, before all of it is written.
        let _ = raw.send(request.replace("HOST", &host).as_bytes());
        let (got, head, body) = raw.full_response().unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(got, status, "{what}: {head} {body}");
        assert!(body.contains(&format!("urn:lychgate:error:{code}\"")), "{what}: {body}");
        if what != "in chunks" {
            assert!(raw.closed(), "{what}");
        }
    }
}

/// Health checks of balancers that send HTTP/1.0 without `Host`.
#[test]
fn health_is_told_to_older_clients() {
    let gateway = Setup::default().start();
    for (request, status) in [
        ("GET /healthz HTTP/1.0\r\n\r\n", 200),
        ("GET /readyz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
        ("GET /v1/gateway HTTP/1.0\r\n\r\n", 505),
        ("OPTIONS / HTTP/1.0\r\n\r\n", 505),
    ] {
        let (mut raw, _) = open(&gateway);
        raw.send(request.as_bytes()).unwrap();
        let (got, head, body) = raw.full_response().unwrap();
        assert_eq!(got, status, "{request}: {body}");
        assert!(head.to_ascii_lowercase().contains("connection: close"), "{head}");
        assert!(raw.closed(), "{request}");
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
    assert_eq!(status, 431, "{body}");

    let (mut raw, host) = open(&gateway);
    // The announcement of a mebibyte is enough; of the body no more comes than the gateway throws away while it closes.
    let head = format!(
        "POST /v1/enrollments HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        1 << 20
    );
    raw.send(format!("{head}{}", "a".repeat(70_000)).as_bytes()).unwrap();
    assert_eq!(raw.response().unwrap().0, 413);
}
