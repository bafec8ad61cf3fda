//! Attacks through the proxy face.

use std::time::{Duration, Instant};

use tests::gateway::Setup;
use tests::raw::Raw;
use tests::tls;

use super::peer::{Connect, request};
use super::{Site, assert_passes, echo};
use crate::audit;

const GOOD: &str = "CONNECT echo.alpha:1 HTTP/1.1\r\nHost: echo.alpha:1\r\n";

/// Refused requests, and their messages.
const REFUSED: &[(&str, &str)] = &[
    ("CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n", "is an address; CONNECT names a service"),
    ("CONNECT [::1]:22 HTTP/1.1\r\nHost: [::1]:22\r\n\r\n", "is an address"),
    ("CONNECT echo.alpha:0 HTTP/1.1\r\nHost: echo.alpha:0\r\n\r\n", "has no port"),
    ("CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\n", "names no service"),
    ("CONNECT echo.alpha.example:1 HTTP/1.1\r\nHost: echo.alpha.example:1\r\n\r\n", "names no service"),
    ("GET / HTTP/1.1\r\nHost: echo.alpha:1\r\n\r\n", "--proxytunnel"),
    (concat!("GET http://", "echo.alpha:1/ HTTP/1.1\r\nHost: echo.alpha:1\r\n\r\n"), "--proxytunnel"),
    ("CONNECT echo.alpha:1 HTTP/1.1\r\nHost: echo.alpha:1\r\nHost: echo.alpha:1\r\n\r\n", "malformed"),
    ("CONNECT echo.alpha:1 HTTP/1.1\r\nHost: echo.mallory:1\r\n\r\n", "malformed"),
    ("CONNECT echo.alpha:1 HTTP/1.1\r\n\r\n", "malformed"),
    ("CONNECT echo.alpha:1 HTTP/1.1\r\nHost: echo.alpha:1\r\nContent-Length: 5\r\n\r\nhello", "malformed"),
    (
        "CONNECT echo.alpha:1 HTTP/1.1\r\nHost: echo.alpha:1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "malformed",
    ),
    ("CONNECT echo.alpha:1 HTTP/1.1\r\nHost: echo.alpha:1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "malformed"),
    ("CONNECT echo.alpha:1 HTTP/1.1\nHost: echo.alpha:1\n\n", "malformed"),
    ("CONNECT echo.alpha:1 HTTP/1.1\r\nHost: echo.alpha:1\nX: y\r\n\r\n", "malformed"),
    ("CONNECT echo.alpha:1 HTTP/1.1\r\nHost: echo.alpha:1\r\nX: a\r\n b\r\n\r\n", "malformed"),
    ("CONNECT echo.alpha:1 HTTP/1.1\r\nHost: echo.alpha:1\r\nX: a\0b\r\n\r\n", "malformed"),
    ("CONNECT echo.alpha:1 HTTP/1.1\r\nHost : echo.alpha:1\r\n\r\n", "malformed"),
    ("CONNECT echo.alpha:1 HTTP/1.0\r\nHost: echo.alpha:1\r\n\r\n", "only HTTP/1.1"),
    ("CONNECT  echo.alpha:1 HTTP/1.1\r\nHost: echo.alpha:1\r\n\r\n", "malformed"),
    ("CONNECT echo.alpha:1@x HTTP/1.1\r\nHost: echo.alpha:1\r\n\r\n", "malformed"),
    ("\r\nCONNECT echo.alpha:1 HTTP/1.1\r\nHost: echo.alpha:1\r\n\r\n", "malformed"),
];

/// Each is refused, the bytes after it are not read as a request, and the connection ends.
#[test]
fn what_is_refused_ends_the_connection_and_what_follows_is_never_read() {
    let mut site = Site::open(Setup::default());
    site.run(&[("echo", echo())]);
    for (bad, words) in REFUSED {
        let mut connect = Connect::open(&site.gateway.proxy(), &site.person);
        connect.raw.send(format!("{bad}{}", request("echo.alpha:1")).as_bytes()).unwrap();
        let (status, code) = if bad.contains("HTTP/1.0") { (505, "http-version") } else { (400, "malformed") };
        connect.answer().assert_refused(status, code, "http_request_error", words);
        assert!(connect.ends(), "{bad:?}: the connection lives on");
    }
    assert_eq!(audit(&site.alice, "session.opened").len(), 0);
    site.assert_served();
}

#[test]
fn a_head_that_is_too_long_is_refused_and_never_served_by_half() {
    let mut site = Site::open(Setup::default());
    site.run(&[("echo", echo())]);
    for (length, end) in [(17_000, "\r\n\r\n"), (40_000, "\r\n\r\n"), (17_000, "")] {
        let mut connect = Connect::open(&site.gateway.proxy(), &site.person);
        let head = format!("{GOOD}X: {}{end}", "a".repeat(length));
        connect.raw.send(head.as_bytes()).unwrap();
        connect.answer().assert_refused(431, "head-too-large", "http_request_error", "larger than 16384 bytes");
        assert!(connect.ends());
    }
    assert_eq!(audit(&site.alice, "session.opened").len(), 0);
    // One that fits is served.
    let mut connect = Connect::open(&site.gateway.proxy(), &site.person);
    connect.raw.send(format!("{GOOD}X: {}\r\n\r\n", "a".repeat(12_000)).as_bytes()).unwrap();
    assert_eq!(connect.answer().status, 200);
    assert_passes(&mut connect);
}

#[test]
fn what_is_sent_before_the_answer_reaches_the_service_and_nobody_else() {
    let mut site = Site::open(Setup::default());
    site.run(&[("echo", echo())]);
    let second = request("echo.alpha:2");
    let mut connect = Connect::open(&site.gateway.proxy(), &site.person);
    connect.raw.send(format!("{}{second}", request("echo.alpha:1")).as_bytes()).unwrap();
    assert_eq!(connect.answer().status, 200);
    connect.hear(second.as_bytes());
    assert_passes(&mut connect);
    assert_eq!(audit(&site.alice, "session.opened").len(), 1);
    // Refused, it is thrown away.
    let mut connect = Connect::open(&site.gateway.proxy(), &site.person);
    connect.raw.send(format!("{}{second}", request("echo.mallory:1")).as_bytes()).unwrap();
    connect.answer().assert_refused(503, "offline", "destination_unavailable", "the machine `mallory` is offline");
    assert!(connect.ends());
    assert_eq!(audit(&site.alice, "session.opened").len(), 1);
}

#[test]
fn whoever_is_led_nowhere_hears_why() {
    let mut site = Site::open(Setup::default());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.run(&[("echo", echo()), ("shut", closed)]);
    for (target, status, code, error, says) in [
        ("echo.nobody:1", 404, "not-found", "destination_not_found", "no such machine"),
        ("web.alpha:1", 404, "not-exposed", "destination_not_found", "does not expose `web`"),
        ("echo.mallory:1", 503, "offline", "destination_unavailable", "`lychgate run` runs on it"),
        ("shut.alpha:1", 502, "target-closed", "connection_refused", "see that the service runs"),
    ] {
        let mut connect = site.asking(target);
        let answer = connect.answer();
        answer.assert_refused(status, code, error, says);
        assert_eq!(answer.header("Retry-After").is_some(), status == 503, "{answer:?}");
        assert!(answer.header("Lychgate-Instance").is_some_and(|id| answer.body.contains(id)), "{answer:?}");
        assert!(connect.ends());
    }
    site.assert_served();
}

#[test]
fn a_slow_head_is_cut() {
    let mut site = Site::open(Setup::default().config("limits.head_time", "2s"));
    site.run(&[("echo", echo())]);
    for begin in ["", GOOD] {
        let mut connect = Connect::open(&site.gateway.proxy(), &site.person);
        connect.raw.tcp().set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let began = Instant::now();
        let _ = connect.raw.send(begin.as_bytes());
        // The read is the pause between two bytes.
        while !connect.raw.closed() {
            assert!(began.elapsed() < Duration::from_secs(10), "still open, a byte at a time");
            if !begin.is_empty() && connect.raw.send(b"X").is_err() {
                break;
            }
        }
        assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
    }
    site.assert_served();
}

/// Raw bytes of a service, selected by server name, on a shared port.
#[test]
fn a_name_leads_people_to_a_service_and_nobody_else() {
    let mut site = Site::open(Setup::default().shared());
    site.run(&[("echo", echo())]);
    let at = site.gateway.proxy().address;
    let open = |name: &str, config| Raw::open(at, name, config).unwrap();
    let mut person = open("echo--alpha.proxy.localhost", &site.person);
    person.send(b"hello\n").unwrap();
    assert_eq!(person.receive().unwrap(), b"hello\n");
    // Nothing but an end: there is no place for words.
    for name in ["echo--alpha", "echo--mallory", "web--alpha", "echo---alpha", "a--b--c"] {
        let mut machine = open(&format!("{name}.proxy.localhost"), &site.mallory);
        assert!(machine.receive().unwrap_or_default().is_empty(), "{name}");
    }
    // Before SSH there is one (RFC 4253 4.2).
    let mut ssh = open("ssh--alpha.proxy.localhost", &site.mallory);
    let line = String::from_utf8(ssh.receive().unwrap()).unwrap();
    assert!(line.starts_with("lychgate: ") && line.contains("for people") && line.ends_with("\r\n"), "{line:?}");
    let anonymous = tls::trusting(&site.gateway.roots(), None);
    let error = Raw::open(at, "echo--alpha.proxy.localhost", &anonymous).and_then(|mut raw| raw.receive());
    assert!(error.unwrap_err().to_string().contains("CertificateRequired"));
    site.assert_healthy();
}
