//! Enrollment requests that a correct client does not send, and those that come too often.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};
use rustls::ClientConfig;
use tests::device::{self, Key, Outcome};
use tests::gateway::{Gateway, Setup};
use tests::http::Connection;
use tests::program::run;
use tests::tls;
use tests::wait::{PATIENCE, unix_now};
use wire::enroll::{EnrollRequest, ProofClaims};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::{at_the_gate, items, joined, request_id, token};

struct Stranger {
    gateway: Gateway,
    config: Arc<ClientConfig>,
}

impl Stranger {
    fn before(gateway: Gateway) -> Self {
        let config = tls::trusting(&gateway.roots(), None);
        Self { gateway, config }
    }

    async fn connect(&self) -> Connection {
        Connection::open(&self.gateway.enroll(), &self.config).await.unwrap()
    }

    async fn ask(&self, key: &Key, request: &EnrollRequest) -> Outcome {
        device::enroll(&self.gateway.enroll(), &self.config, key, request).await.unwrap()
    }
}

#[track_caller]
fn assert_code(outcome: &Outcome, code: &str, what: &str) {
    assert_eq!(outcome.code().as_deref(), Some(code), "{what}: {outcome:?}");
}

/// A CSR by openssl, with its key in PKCS#8; nothing when openssl refuses to make one.
fn openssl_key(room: &std::path::Path, new_key: &[&str]) -> Key {
    let (key, csr) = (room.join("weak.key"), room.join("weak.csr"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-new", "-nodes", "-subj", "/CN=x", "-outform", "DER"]).args(new_key);
    openssl.arg("-keyout").arg(&key).arg("-out").arg(&csr);
    let ended = run(&mut openssl, PATIENCE);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    // The proof is signed by another key: the CSR must be refused before anybody looks at that.
    Key { csr: STANDARD.encode(std::fs::read(csr).unwrap()), ..Key::generate() }
}

#[tokio::test]
async fn bad_certificate_requests() {
    let stranger = Stranger::before(Setup::default().start());
    let good = Key::generate();
    let mut broken = STANDARD.decode(&good.csr).unwrap();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let mut longer = STANDARD.decode(&good.csr).unwrap();
    longer.push(0);
    let room = stranger.gateway.room();
    let rows = [
        ("a broken signature", Key { csr: STANDARD.encode(&broken), ..good.clone() }),
        ("a byte too many", Key { csr: STANDARD.encode(&longer), ..good.clone() }),
        ("no DER", Key { csr: STANDARD.encode("hello"), ..good.clone() }),
        ("no base64", Key { csr: "%%%".to_owned(), ..good.clone() }),
        ("nothing", Key { csr: String::new(), ..good.clone() }),
        ("RSA of 1024 bits", openssl_key(room, &["-newkey", "rsa:1024"])),
        ("secp256k1", openssl_key(room, &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"])),
        ("P-521", openssl_key(room, &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"])),
    ];
    for (what, key) in rows {
        let outcome = stranger.ask(&key, &device::request(&key, None, None)).await;
        assert_code(&outcome, "bad-csr", what);
    }
}

#[tokio::test]
async fn a_mebibyte_of_junk() {
    let stranger = Stranger::before(Setup::default().start());
    let key = Key::generate();
    let mut connection = stranger.connect().await;
    let proof = key.proof("POST", &stranger.gateway.enroll().url("/v1/enrollments"), &connection.exporter);
    let reply = connection.send("POST", "/v1/enrollments", Some(&proof), vec![b'x'; 1 << 20]).await;
    // The answer comes before everything was sent; a client that does not read meanwhile sees the close.
    if let Ok(reply) = reply {
        assert_eq!(reply.status, 413, "{reply}");
        assert_eq!(reply.code(), "too-large");
    }
    let mut connection = stranger.connect().await;
    let reply = connection.send("POST", "/v1/enrollments", Some(&proof), vec![b'x'; 1 << 10]).await.unwrap();
    assert!([400, 401].contains(&reply.status), "{reply}");
}

#[tokio::test]
async fn names_and_rights_in_a_request_are_ignored() {
    let stranger = Stranger::before(Setup::default().start());
    let alice = stranger.gateway.first_person();
    let pair = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["gateway.test.example".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI("spiffe://test.example/person/alice".try_into().unwrap()));
    // basicConstraints CA:TRUE and keyUsage keyCertSign, critical.
    let mut ca = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0x03, 0x01, 0x01, 0xff]);
    ca.set_criticality(true);
    let usage = CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![0x03, 0x02, 0x02, 0x04]);
    params.custom_extensions = vec![ca, usage];
    let csr = STANDARD.encode(params.serialize_request(&pair).unwrap().der());
    let key = Key { pkcs8: pair.serialize_der(), csr, digest: String::new() };
    let request = device::request(&key, Some("edge-07"), Some(&token(&alice, &[])));
    let reply = stranger.ask(&key, &request).await.issued().unwrap();

    let der = tls::certificates(reply.certificate.as_bytes()).remove(0);
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    assert!(!leaf.is_ca());
    let names: Vec<String> = leaf
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::URI(uri) => (*uri).to_owned(),
            GeneralName::DNSName(dns) => (*dns).to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["spiffe://test.example/machine/edge-07", "edge-07.machine.test.example"]);
    let signs = leaf.extensions().iter().any(
        |extension| matches!(extension.parsed_extension(), ParsedExtension::KeyUsage(usage) if usage.key_cert_sign()),
    );
    assert!(!signs);
}

#[tokio::test]
async fn proofs_that_prove_nothing_here_and_now() {
    let stranger = Stranger::before(Setup::default().start());
    let face = stranger.gateway.enroll();
    let url = face.url("/v1/enrollments");
    let (key, other) = (Key::generate(), Key::generate());
    let body = serde_json::to_vec(&device::request(&key, None, None)).unwrap();
    let mut connection = stranger.connect().await;
    let elsewhere = stranger.connect().await;
    let claims = |change: &dyn Fn(&mut ProofClaims)| {
        let mut claims = ProofClaims {
            jti: hex::encode(device::random()),
            iat: unix_now(),
            htm: "POST".to_owned(),
            htu: url.clone(),
            exporter: URL_SAFE_NO_PAD.encode(connection.exporter),
        };
        change(&mut claims);
        key.sign_proof(&claims)
    };
    let good = key.proof("POST", &url, &connection.exporter);
    let mut bits: Vec<String> = good.split('.').map(str::to_owned).collect();
    bits[2] = URL_SAFE_NO_PAD.encode([1; 64]);
    let rows = [
        ("of another connection", key.proof("POST", &url, &elsewhere.exporter)),
        ("for another method", claims(&|c| c.htm = "GET".to_owned())),
        ("for another path", claims(&|c| c.htu = face.url("/v1/other"))),
        ("for another host", claims(&|c| c.htu = "https://other.example/v1/enrollments".to_owned())),
        ("without encryption", claims(&|c| c.htu = c.htu.replace("https", "http"))),
        ("an hour old", claims(&|c| c.iat -= 3_600)),
        ("from the next hour", claims(&|c| c.iat += 3_600)),
        ("without an exporter", claims(&|c| c.exporter = String::new())),
        ("by another key", other.proof("POST", &url, &connection.exporter)),
        ("badly signed", bits.join(".")),
        ("no proof", "hello".to_owned()),
    ];
    for (what, proof) in rows {
        let reply = connection.send("POST", "/v1/enrollments", Some(&proof), body.clone()).await.unwrap();
        assert!([400, 401].contains(&reply.status), "{what}: {reply}");
        assert!(["bad-proof", "malformed"].contains(&reply.code().as_str()), "{what}: {reply}");
    }
    let reply = connection.send("POST", "/v1/enrollments", None, body.clone()).await.unwrap();
    assert!([400, 401].contains(&reply.status), "no header: {reply}");
    // Nothing of that was remembered; the good one is taken.
    let reply = connection.send("POST", "/v1/enrollments", Some(&good), body).await.unwrap();
    assert_eq!(reply.status, 202, "{reply}");
}

#[tokio::test]
async fn a_strangers_request_is_not_for_others_to_see() {
    let stranger = Stranger::before(Setup::default().start());
    let (key, other) = (Key::generate(), Key::generate());
    let Outcome::Waiting(waiting) = stranger.ask(&key, &device::request(&key, Some("edge-07"), None)).await else {
        panic!("not waiting");
    };
    let face = stranger.gateway.enroll();
    let mut connection = stranger.connect().await;
    let seen = device::poll(&mut connection, &face, &other, &waiting.id, 0).await.unwrap();
    assert!(matches!(seen, Outcome::Refused(_)), "{seen:?}");
    // Asking again with the same key is the same request.
    let Outcome::Waiting(again) = stranger.ask(&key, &device::request(&key, Some("edge-07"), None)).await else {
        panic!("not waiting");
    };
    assert_eq!((again.id, again.nonce), (waiting.id, waiting.nonce));
}

#[tokio::test]
async fn names_that_cannot_be_given() {
    let stranger = Stranger::before(Setup::default().start());
    let alice = stranger.gateway.first_person();
    let _machine = joined(&stranger.gateway, &alice, "edge-07");
    let long = "a".repeat(64);
    let illegal = [
        "",
        "Edge",
        "edge_07",
        "-edge",
        "edge-",
        "a.b",
        "a b",
        "xn--80ak6aa92e",
        "\u{435}dge-07",
        "\u{fe}dge",
        "a/b",
        &long,
    ];
    for name in illegal {
        let key = Key::generate();
        let request = device::request(&key, Some(name), Some(&token(&alice, &[])));
        let outcome = stranger.ask(&key, &request).await;
        assert_code(&outcome, "name-illegal", name);
    }
    let key = Key::generate();
    let good = token(&alice, &[]);
    let taken = stranger.ask(&key, &device::request(&key, Some("edge-07"), Some(&good))).await;
    assert_code(&taken, "name-taken", "edge-07");
    // The token is still good for a free name.
    assert!(stranger.ask(&key, &device::request(&key, Some("edge-08"), Some(&good))).await.issued().is_some());
}

/// The same at the keyboard: each refusal names the name and what to do.
#[test]
fn the_client_says_what_is_wrong_with_a_name() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _machine = joined(&gateway, &alice, "edge-07");
    let good = token(&alice, &[]);
    for (name, says) in
        [("edge-07", "taken"), ("Edge_08", "Edge_08"), ("\u{435}dge-08", "hint:"), ("xn--dge-8cd", "xn--")]
    {
        let machine = gateway.client("late");
        let refused = machine.refused(&["join", &good, "--name", name]);
        let text = &refused.stderr;
        assert!([2, 3].contains(&refused.code), "{name}: {} {text}", refused.code);
        assert!(text.contains("error:") && text.contains("hint:") && text.contains(says), "{name}: {text}");
        assert!(!machine.file("cert.pem").exists());
    }
    // None of that spent the token.
    gateway.client("late").ok(&["join", &good, "--name", "edge-08"]);
}

#[tokio::test]
async fn the_queue_is_bounded_and_says_so() {
    let gateway = Setup::default().config("enroll.pending_max_per_prefix", 2).start();
    let stranger = Stranger::before(gateway);
    for _ in 0..2 {
        let key = Key::generate();
        let outcome = stranger.ask(&key, &device::request(&key, None, None)).await;
        assert!(matches!(outcome, Outcome::Waiting(_)), "{outcome:?}");
    }
    let key = Key::generate();
    let outcome = stranger.ask(&key, &device::request(&key, None, None)).await;
    assert_code(&outcome, "queue-full", "the third");
    let Outcome::Refused(reply) = outcome else { panic!("not refused") };
    assert_eq!(reply.status, 429);
    assert!(reply.headers.contains_key("retry-after"));
    let (url, pin) = (stranger.gateway.enroll().url(""), stranger.gateway.info().pin);
    let told = stranger.gateway.client("late").refused(&["join", &url, "--pin", &pin, "--name", "late", "--no-wait"]);
    assert_eq!(told.code, 5, "{}", told.stderr);
    assert!(told.stderr.contains("wait") && told.stderr.contains("join token"), "{}", told.stderr);
    // From another prefix there is room, and a token needs no place in the queue.
    let key = Key::generate();
    let elsewhere = stranger.gateway.enroll().from([127, 0, 9, 1]);
    let request = device::request(&key, None, None);
    let outcome = device::enroll(&elsewhere, &stranger.config, &key, &request).await.unwrap();
    assert!(matches!(outcome, Outcome::Waiting(_)), "{outcome:?}");
    let alice = stranger.gateway.first_person();
    let _machine = joined(&stranger.gateway, &alice, "edge-07");
}

#[test]
fn a_request_lapses_while_it_waits() {
    let gateway = Setup::default().config("enroll.pending_ttl", "3s").start();
    let alice = gateway.first_person();
    let waiting = at_the_gate(&gateway, "edge-07");
    let id = request_id(&alice, "edge-07");
    let ended = waiting.join.end_within(PATIENCE);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("lapsed") || ended.stderr.contains("expired"), "{}", ended.stderr);
    alice.refused(&["requests", "approve", &id, "--code", &waiting.code]);
    assert!(items(&alice.json(&["machines", "list"])).is_empty());
}

#[tokio::test]
async fn too_many_and_too_long_attributes_and_unknown_fields() {
    let stranger = Stranger::before(Setup::default().start());
    let key = Key::generate();
    let with = |attributes: BTreeMap<String, String>| EnrollRequest { attributes, ..device::request(&key, None, None) };
    let many = (0..=wire::limits::ATTRIBUTES_MAX).map(|i| (format!("a{i}"), String::new())).collect();
    let long = BTreeMap::from([("a".to_owned(), "x".repeat(wire::limits::ATTRIBUTE_VALUE_MAX + 1))]);
    for (what, request) in [("many", with(many)), ("long", with(long))] {
        assert_code(&stranger.ask(&key, &request).await, "malformed", what);
    }
    let mut unknown = serde_json::to_value(device::request(&key, None, None)).unwrap();
    unknown["is_admin"] = true.into();
    let mut connection = stranger.connect().await;
    let proof = key.proof("POST", &stranger.gateway.enroll().url("/v1/enrollments"), &connection.exporter);
    let body = serde_json::to_vec(&unknown).unwrap();
    let reply = connection.send("POST", "/v1/enrollments", Some(&proof), body).await.unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (400, "malformed"), "{reply}");
}
