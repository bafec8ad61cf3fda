//! The faces on separate ports, and on one port selected by SNI.

use std::process::Command;

use tests::device::{self, Key, Outcome};
use tests::gateway::{Gateway, Setup};
use tests::http::{Connection, Face};
use tests::program::run;
use tests::raw;
use tests::tls;
use tests::wait::PATIENCE;

use crate::{joined, token};

/// A machine of this process that has joined by a token.
async fn device(gateway: &Gateway, token: &str) -> device::Held {
    let config = tls::trusting(&gateway.roots(), None);
    let key = Key::generate();
    let request = device::request(&key, None, Some(token));
    match device::enroll(&gateway.enroll(), &config, &key, &request).await.unwrap() {
        Outcome::Issued(reply) => device::Held { reply: *reply, key },
        other => panic!("not admitted: {other:?}"),
    }
}

fn status(face: &Face, config: &std::sync::Arc<rustls::ClientConfig>, path: &str) -> Option<u16> {
    raw::get(face.address, &face.name, config, path).map(|(status, _)| status)
}

#[tokio::test]
async fn each_face_serves_its_own_endpoints() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let shown = tls::trusting(&gateway.roots(), Some(&machine.identity()));
    let anonymous = tls::trusting(&gateway.roots(), None);
    assert_eq!(status(&gateway.enroll(), &anonymous, "/v1/gateway"), Some(200));
    assert_eq!(status(&gateway.enroll(), &anonymous, "/v1/self"), Some(404));
    assert_eq!(status(&gateway.enroll(), &shown, "/v1/self"), Some(404));
    assert_eq!(status(&gateway.manage(), &shown, "/v1/self"), Some(200));
    assert_eq!(status(&gateway.manage(), &shown, "/v1/enrollments"), Some(404));
    assert_eq!(status(&gateway.manage(), &anonymous, "/v1/self"), None);
    // A machine may not list requests.
    assert_eq!(status(&gateway.manage(), &shown, "/v1/requests"), Some(403));
}

#[tokio::test]
async fn one_port_is_split_by_sni() {
    let gateway = Setup::default().shared().start();
    let (enroll, manage) = (gateway.enroll(), gateway.manage());
    assert_eq!(enroll.address, manage.address);
    assert_ne!(enroll.name, manage.name);
    let alice = gateway.first_person();
    let held = device(&gateway, &token(&alice, &[])).await;
    let anonymous = tls::trusting(&gateway.roots(), None);
    let shown = held.config();
    assert_eq!(status(&enroll, &anonymous, "/v1/gateway"), Some(200));
    assert_eq!(status(&manage, &shown, "/v1/self"), Some(200));
    // Without a certificate the handshake for the manage face's name fails.
    assert_eq!(status(&manage, &anonymous, "/v1/self"), None);
    // The name in the handshake decides, not the one in the request.
    let mut crossed = Connection::open(&Face { name: enroll.name.clone(), ..manage.clone() }, &shown).await.unwrap();
    assert_ne!(crossed.get("/v1/self").await.unwrap().status, 200);
    let mut raw = raw::Raw::open(enroll.address, &enroll.name, &anonymous).unwrap();
    raw.send(format!("GET /v1/self HTTP/1.1\r\nHost: {}\r\n\r\n", manage.authority()).as_bytes()).unwrap();
    let (status, body) = raw.response().unwrap();
    assert!([400, 404, 421].contains(&status), "{status} {body}");
    // An unknown name is refused in the handshake.
    assert!(raw::Raw::open(enroll.address, "other.example", &tls::trusting_anybody(None)).is_err());
}

#[test]
fn curl_finds_both_faces_on_one_port() {
    let gateway = Setup::default().shared().start();
    let alice = gateway.first_person();
    let curl = |face: &Face, path: &str, with: bool| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "20", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert"])
            .arg(alice.file("bundle.pem"))
            .args(["--resolve", &format!("{}:{}", face.authority(), face.address.ip())])
            .arg(face.url(path));
        if with {
            curl.arg("--cert").arg(alice.file("cert.pem")).arg("--key").arg(alice.file("key.pem"));
        }
        run(&mut curl, PATIENCE).stdout
    };
    assert_eq!(curl(&gateway.enroll(), "/healthz", false), "200");
    assert_eq!(curl(&gateway.manage(), "/v1/self", true), "200");
    assert_eq!(curl(&gateway.manage(), "/v1/self", false), "000");
}

/// A client that sends plain HTTP gets an HTTP error and not a TLS alert.
#[test]
fn plain_http_is_told_that_it_is_https() {
    for gateway in [Setup::default().start(), Setup::default().shared().start()] {
        for face in [gateway.enroll(), gateway.manage(), gateway.proxy()] {
            for (method, more) in [("GET", ""), ("CONNECT", ""), ("POST", "Content-Length: 2\r\n\r\n{}")] {
                let mut tcp = std::net::TcpStream::connect(face.address).unwrap();
                tcp.set_read_timeout(Some(PATIENCE)).unwrap();
                let end = if more.is_empty() { "\r\n" } else { "" };
                let request = format!("{method} / HTTP/1.1\r\nHost: {}\r\n{more}{end}", face.authority());
                std::io::Write::write_all(&mut tcp, request.as_bytes()).unwrap();
                let mut answer = String::new();
                std::io::Read::read_to_string(&mut tcp, &mut answer).unwrap();
                assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{method}: {answer}");
            }
        }
    }
}
