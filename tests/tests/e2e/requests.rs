//! Invalid enrollment requests, and too many of them.

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
use wire::{enroll::EnrollRequest, evidence::ProofClaims};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::{assert_refused, assert_says, at_the_gate, items, joined, token};

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

/// A CSR made by openssl, with its key in PKCS#8.
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
        ("a broken signature", Key { csr: STANDARD.encode(&broken), ..good.clone() }, "signature does not verify"),
        ("a byte too many", Key { csr: STANDARD.encode(&longer), ..good.clone() }, "1 bytes follow the request"),
        ("no DER", Key { csr: STANDARD.encode("hello"), ..good.clone() }, "not a certification request"),
        ("no base64", Key { csr: "%%%".to_owned(), ..good.clone() }, "not standard base64"),
        ("nothing", Key { csr: String::new(), ..good.clone() }, "not a certification request"),
        ("too long", Key { csr: STANDARD.encode(vec![0x30; 20_000]), ..good.clone() }, "at most 16384 are read"),
        ("RSA of 1024 bits", openssl_key(room, &["-newkey", "rsa:1024"]), "an RSA key of 1024 bits is not accepted"),
        (
            "secp256k1",
            openssl_key(room, &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"]),
            "keys are not supported",
        ),
        ("P-521", openssl_key(room, &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"]), "P-521 keys are not"),
    ];
    for (what, key, says) in rows {
        let outcome = stranger.ask(&key, &device::request(&key, None, None)).await;
        assert_refused(&outcome, "bad-csr", says, what);
        // What would do is in the hint.
        assert_refused(&outcome, "bad-csr", "P-256, P-384, Ed25519 or RSA", what);
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
        assert_eq!((reply.status, reply.code().as_str()), (413, "too-large"), "{reply}");
        assert!(reply.says().contains("larger than 65536 bytes"), "{reply}");
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
    let (request, shape) = ("for another method or path", "not a JWT of type `dpop+jwt`");
    let (moved, not_by_it) = ("belongs to another connection", "not signed by the key it is for");
    let rows = [
        ("of another connection", key.proof("POST", &url, &elsewhere.exporter), moved),
        ("for another method", claims(&|c| c.htm = "GET".to_owned()), request),
        ("for another path", claims(&|c| c.htu = face.url("/v1/other")), request),
        (
            "for another host",
            claims(&|c| c.htu = "https://other.example/v1/enrollments".to_owned()),
            "for another gateway",
        ),
        ("without encryption", claims(&|c| c.htu = c.htu.replace("https", "http")), "not an https URL"),
        ("an hour old", claims(&|c| c.iat -= 3_600), "away from the gateway's clock"),
        ("from the next hour", claims(&|c| c.iat += 3_600), "away from the gateway's clock"),
        ("without an exporter", claims(&|c| c.exporter = String::new()), moved),
        ("by another key", other.proof("POST", &url, &connection.exporter), not_by_it),
        ("badly signed", bits.join("."), not_by_it),
        ("no proof", "hello".to_owned(), shape),
    ];
    for (what, proof, says) in rows {
        let reply = connection.send("POST", "/v1/enrollments", Some(&proof), body.clone()).await.unwrap();
        assert_eq!((reply.status, reply.code().as_str()), (401, "bad-proof"), "{what}: {reply}");
        assert!(reply.says().contains(says), "{what}: it does not say `{says}`: {reply}");
    }
    let reply = connection.send("POST", "/v1/enrollments", None, body.clone()).await.unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (401, "bad-proof"), "no header: {reply}");
    assert!(reply.says().contains("the `DPoP` header is missing"), "{reply}");
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
    assert_refused(&seen, "not-found", "it may have lapsed", "by another key");
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
    let (byte, edge) = ("use only a-z, 0-9 and hyphens", "hyphen");
    let illegal = [
        ("", "empty"),
        ("Edge", byte),
        ("edge_07", byte),
        ("-edge", edge),
        ("edge-", edge),
        ("a.b", byte),
        ("a b", byte),
        ("xn--80ak6aa92e", "drawn to look like another name"),
        ("\u{435}dge-07", "character 1, `\u{435}` (U+0435), is not allowed"),
        ("\u{fe}dge", byte),
        ("a/b", byte),
        (&long, "63"),
    ];
    for (name, says) in illegal {
        let key = Key::generate();
        let request = device::request(&key, Some(name), Some(&token(&alice, &[])));
        assert_refused(&stranger.ask(&key, &request).await, "name-illegal", says, name);
    }
    let key = Key::generate();
    let good = token(&alice, &[]);
    let taken = stranger.ask(&key, &device::request(&key, Some("edge-07"), Some(&good))).await;
    assert_refused(&taken, "name-taken", "the name `edge-07` is taken", "edge-07");
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
    let rows = [
        ("edge-07", "the name `edge-07` is taken"),
        ("Edge_08", "`Edge_08` cannot be a name"),
        ("\u{435}dge-08", "use only a-z, 0-9 and hyphens"),
        ("xn--dge-8cd", "drawn to look like another name"),
    ];
    for (name, says) in rows {
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
    assert_refused(
        &outcome,
        "queue-full",
        "too many requests from your network wait for approval already",
        "the third",
    );
    let Outcome::Refused(reply) = outcome else { panic!("not refused") };
    assert_eq!(reply.status, 429);
    assert!(reply.headers.contains_key("retry-after"));
    let (url, pin) = (stranger.gateway.enroll().url(""), stranger.gateway.info().pin);
    let told = stranger.gateway.client("late").refused(&["join", &url, "--pin", &pin, "--name", "late", "--no-wait"]);
    assert_says(&told, 5, "too many requests from your network wait for approval already");
    assert_says(&told, 5, "or use a join token");
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
    let mut waiting = at_the_gate(&gateway, "edge-07");
    // From the machine's screen: a slow listing might come when it has lapsed already.
    let id = waiting.join.expect_stderr("the request's id", |screen| {
        let line = screen.lines().find(|line| line.trim_start().starts_with("request"))?;
        line.split_whitespace().nth(1).map(str::to_owned)
    });
    assert_says(&waiting.join.end_within(PATIENCE), 3, "the request lapsed before anybody decided");
    let late = alice.refused(&["requests", "approve", &id, "--code", &waiting.code]);
    assert!(late.stderr.contains("lapsed"), "{}", late.stderr);
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
        assert_refused(&stranger.ask(&key, &request).await, "malformed", "attributes: at most 32", what);
    }
    let mut unknown = serde_json::to_value(device::request(&key, None, None)).unwrap();
    unknown["is_admin"] = true.into();
    let mut connection = stranger.connect().await;
    let proof = key.proof("POST", &stranger.gateway.enroll().url("/v1/enrollments"), &connection.exporter);
    let body = serde_json::to_vec(&unknown).unwrap();
    let reply = connection.send("POST", "/v1/enrollments", Some(&proof), body).await.unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (400, "malformed"), "{reply}");
    assert!(reply.says().contains("unknown field `is_admin`"), "{reply}");
}
