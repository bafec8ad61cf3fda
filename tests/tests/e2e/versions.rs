//! Versions one apart: clients of 0.1.0 with today's gateway, and today's client with a gateway of 0.1.0. The messages of that version
//! are in `wire/tests/recorded`.

mod older;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tests::cli::{Lychgate, waiting_code};
use tests::device::{Held, Key};
use tests::gateway::{Gateway, Setup};
use tests::http::{Connection, Face, Reply};
use tests::program::shifted_clock;
use tests::tls;
use tests::wait::{PATIENCE, eventually, unix_now};
use wire::evidence::PRIOR_CERTIFICATE_CONTEXT;

use crate::hostile::peer::{CONTROL, Peer};
use older::Older;

/// The members of each type of 0.1.0, the required ones, and whether unknown ones were refused.
static TYPES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../wire/tests/recorded/0.1.0/types.json")).unwrap());

fn members(kind: &str, what: &str) -> Vec<String> {
    serde_json::from_value(TYPES[kind][what].clone()).unwrap_or_else(|_| panic!("0.1.0 had no {kind}"))
}

/// A request as a client of 0.1.0 wrote it.
fn recorded(samples: &str) -> Value {
    let samples: Value = serde_json::from_str(samples).unwrap();
    samples[0].clone()
}

/// Checks that a client of 0.1.0 can read a reply: all required members are present.
#[track_caller]
fn read(kind: &str, status: u16, reply: &Reply) -> Value {
    assert_eq!(reply.status, status, "{reply}");
    let value: Value = reply.json().unwrap();
    for name in members(kind, "required") {
        assert!(!value[&name].is_null(), "a client of 0.1.0 wants `{name}` in {value}");
    }
    value
}

/// A machine with a client of 0.1.0.
struct OldMachine {
    enroll: Face,
    manage: Face,
    anonymous: Arc<rustls::ClientConfig>,
    key: Key,
}

impl OldMachine {
    fn new(gateway: &Gateway) -> Self {
        let anonymous = tls::trusting(&gateway.roots(), None);
        Self { enroll: gateway.enroll(), manage: gateway.manage(), anonymous, key: Key::generate() }
    }

    /// Its enrollment request, with this evidence.
    fn request(&self, name: &str, evidence: &Value) -> Value {
        let mut request = recorded(include_str!("../../../wire/tests/recorded/0.1.0/enroll-request.json"));
        request["csr"] = json!(self.key.csr);
        request["wanted_name"] = json!(name);
        request["evidence"] = evidence.clone();
        request
    }

    async fn ask(&self, connection: &mut Connection, method: &str, path: &str, body: &Value) -> Reply {
        let path_alone = path.split('?').next().unwrap();
        let proof = self.key.proof(method, &self.enroll.url(path_alone), &connection.exporter);
        let body = if body.is_null() { vec![] } else { body.to_string().into_bytes() };
        connection.send(method, path, Some(&proof), body).await.unwrap()
    }

    async fn enroll(&self, request: &Value) -> Reply {
        let mut connection = Connection::open(&self.enroll, &self.anonymous).await.unwrap();
        self.ask(&mut connection, "POST", "/v1/enrollments", request).await
    }

    fn held(&self, issued: &Value) -> Held {
        Held { reply: serde_json::from_value(issued.clone()).unwrap(), key: self.key.clone() }
    }

    async fn manage(&self, held: &Held) -> Connection {
        Connection::open(&self.manage, &held.config()).await.unwrap()
    }
}

fn token(alice: &Lychgate) -> Value {
    json!([{"kind": "join-token", "body": crate::token(alice, &[])}])
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn an_older_machine_joins_and_renews() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let mut machine = OldMachine::new(&gateway);
    let request = machine.request("edge-1", &token(&alice));
    runtime().block_on(async {
        let issued = read("IssuedReply", 201, &machine.enroll(&request).await);
        let first = machine.held(&issued);
        let mut connection = machine.manage(&first).await;
        let own = read("SelfReply", 200, &connection.get("/v1/self").await.unwrap());
        assert_eq!(own["identity"], "spiffe://test.example/machine/edge-1");
        let next = Key::generate();
        let renewed = connection.post("/v1/renew", &json!({"csr": next.csr})).await.unwrap();
        let renewed = read("IssuedReply", 200, &renewed);
        assert_eq!(renewed["identity"], issued["identity"]);
        machine.key = next;
        let mut connection = machine.manage(&machine.held(&renewed)).await;
        read("SelfReply", 200, &connection.get("/v1/self").await.unwrap());
        let sealed = connection.post("/v1/sealed", &json!({"csr": Key::generate().csr})).await.unwrap();
        read("IssuedReply", 200, &sealed);
        read("Done", 200, &connection.post("/v1/leave", &json!({})).await.unwrap());
    });
}

#[test]
fn an_older_machine_waits_for_a_person() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = OldMachine::new(&gateway);
    let request = machine.request("edge-2", &json!([]));
    let waiting = runtime().block_on(async {
        let waiting = read("WaitingReply", 202, &machine.enroll(&request).await);
        // A lost reply costs nothing: the same key has the same place.
        assert_eq!(read("WaitingReply", 202, &machine.enroll(&request).await)["id"], waiting["id"]);
        waiting
    });
    // The code as that version worked it out.
    let nonce: [u8; 16] = hex::decode(waiting["nonce"].as_str().unwrap()).unwrap().try_into().unwrap();
    let digest = |text: &str| pki::KeyDigest::parse_hex(text).unwrap();
    let code = pki::waiting_code(&digest(&machine.key.digest), &digest(&gateway.info().pin), &nonce);
    alice.ok(&["requests", "approve", &crate::request_id(&alice, "edge-2"), "--code", &code.to_string()]);
    runtime().block_on(async {
        let mut connection = Connection::open(&machine.enroll, &machine.anonymous).await.unwrap();
        let path = format!("/v1/enrollments/{}?wait=25", waiting["id"].as_str().unwrap());
        let issued = read("IssuedReply", 201, &machine.ask(&mut connection, "GET", &path, &Value::Null).await);
        assert_eq!(issued["identity"], "spiffe://test.example/machine/edge-2");
    });
}

#[test]
fn an_older_machine_rejoins_after_its_certificate_has_ended() {
    let mut gateway = Setup::default().machine_lifetime("60s").start();
    let alice = gateway.first_person();
    let mut machine = OldMachine::new(&gateway);
    let request = machine.request("edge-3", &token(&alice));
    let issued = runtime().block_on(async { read("IssuedReply", 201, &machine.enroll(&request).await) });
    // Two minutes later by the gateway's clock, which is as far as a proof by ours is believed.
    let _ = gateway.stop();
    gateway.run_under(&shifted_clock("+2m"));
    gateway.start();
    let old = std::mem::replace(&mut machine.key, Key::generate());
    runtime().block_on(async {
        let mut connection = Connection::open(&machine.enroll, &machine.anonymous).await.unwrap();
        let mut signed = PRIOR_CERTIFICATE_CONTEXT.to_vec();
        signed.extend(connection.exporter);
        signed.extend(hex::decode(&machine.key.digest).unwrap());
        let signing = &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let pair = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(signing, &old.pkcs8).unwrap();
        let signature = pair.sign(&aws_lc_rs::rand::SystemRandom::new(), &signed).unwrap();
        let body = json!({"certificate": issued["certificate"], "signature": URL_SAFE_NO_PAD.encode(signature)});
        let request = machine.request("edge-3", &json!([{"kind": "prior-certificate", "body": body.to_string()}]));
        let again = read("IssuedReply", 201, &machine.ask(&mut connection, "POST", "/v1/enrollments", &request).await);
        assert_eq!(again["identity"], issued["identity"]);
    });
}

#[test]
fn an_older_machine_holds_a_tunnel() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = OldMachine::new(&gateway);
    let request = machine.request("edge-4", &token(&alice));
    let issued = runtime().block_on(async { read("IssuedReply", 201, &machine.enroll(&request).await) });
    let mut peer = Peer::tunnel(&machine.manage, &machine.held(&issued).config());
    let said = |text: &str| {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[1], &length[1..], text.as_bytes()].concat()
    };
    let demands = |frame: &Value, kind: &str, wanted: &[&str]| {
        assert_eq!(frame["type"], kind, "{frame}");
        assert!(wanted.iter().all(|name| !frame[name].is_null()), "a machine of 0.1.0 wants {wanted:?} in {frame}");
    };
    peer.open_with(CONTROL, &said(r#"{"type":"hello","client":"0.1.0","services":[{"name":"ssh","mode":"raw"}]}"#));
    let welcome: Value = peer.frame(CONTROL).unwrap();
    demands(&welcome, "welcome", &["heartbeat_ms", "epoch", "time", "reconnect_within_ms"]);
    peer.data(CONTROL, &said(r#"{"type":"heartbeat","number":1}"#)).unwrap();
    let heartbeat: Value = peer.frame(CONTROL).unwrap();
    demands(&heartbeat, "heartbeat", &["number", "epoch", "time", "reconnect_within_ms"]);
}

/// Requests of 0.1.0 that are refused today on purpose.
#[test]
fn what_an_older_client_is_refused() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let held = tls::trusting(&gateway.roots(), Some(&alice.identity()));
    // A change without a body said nothing of JSON, so that a page of another site could send it with a person's
    // certificate from a browser.
    let rows = [
        ("DELETE", "/v1/locks/machine/edge-9", "not-json"),
        ("DELETE", "/v1/tokens/327a74f34ee245fb", "not-json"),
        ("DELETE", "/v1/machines/edge-9", "not-json"),
        ("DELETE", "/v1/people/bob", "not-json"),
        ("DELETE", "/v1/sessions/fda68c0def88b380", "not-json"),
    ];
    for (method, path, code) in rows {
        let mut raw = tests::raw::Raw::open(gateway.manage().address, &gateway.manage().name, &held).unwrap();
        let host = gateway.manage().authority();
        raw.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
        let (status, body) = raw.response().unwrap();
        assert_eq!(status, 415, "{method} {path}: {body}");
        assert!(body.contains(&format!("urn:lychgate:error:{code}")), "{method} {path}: {body}");
    }
}

#[test]
fn todays_machine_joins_an_older_gateway_and_renews_there() {
    let older = Older::start(Duration::from_secs(86_400));
    let room = tempfile::tempdir().unwrap();
    let machine = Lychgate::at(room.path().join("edge-1"));
    machine.ok(&["join", &older.token(), "--name", "edge-1"]);
    assert!(older.seen().iter().any(|seen| seen == "evidence join-token"));
    machine.ok(&["renew", "--force"]);
    assert!(older.seen().iter().any(|seen| seen == "POST /v1/renew"));
    // What it could show (debug builds have a prover for tests) is left out: an older gateway refuses the request for it.
    std::fs::write(machine.file("reference.secret"), "edge-1 sixteen bytes or more\n").unwrap();
    machine.ok(&["renew", "--force"]);
    assert!(!older.seen().iter().any(|seen| seen == "evidence reference"));
    assert_eq!(machine.json(&["status"])["identity"], "spiffe://test.example/machine/edge-1");
    machine.ok(&["leave"]);
    older.assert_understood();
}

#[test]
fn todays_machine_waits_at_an_older_gateway() {
    let older = Older::start(Duration::from_secs(86_400));
    let room = tempfile::tempdir().unwrap();
    let machine = Lychgate::at(room.path().join("edge-2"));
    let joined = machine.run(&["join", &older.url(), "--pin", &older.pin(), "--name", "edge-2"]);
    assert_eq!(joined.code, 0, "{}", joined.stderr);
    assert!(waiting_code(&joined.stderr).is_some(), "{}", joined.stderr);
    older.assert_understood();
}

#[test]
fn todays_machine_rejoins_an_older_gateway() {
    let older = Older::start(Duration::from_secs(5));
    let room = tempfile::tempdir().unwrap();
    let machine = Lychgate::at(room.path().join("edge-3"));
    machine.ok(&["join", &older.token(), "--name", "edge-3"]);
    let ends = unix_now() + 5;
    eventually("the certificate ends", PATIENCE, || (unix_now() > ends).then_some(()));
    machine.ok(&["run", "--once"]);
    assert!(older.seen().iter().any(|seen| seen == "evidence prior-certificate"));
    older.assert_understood();
}

#[test]
fn todays_machine_holds_a_tunnel_to_an_older_gateway() {
    let older = Older::start(Duration::from_secs(86_400));
    let room = tempfile::tempdir().unwrap();
    let machine = Lychgate::at(room.path().join("edge-4"));
    machine.ok(&["join", &older.token(), "--name", "edge-4"]);
    let mut run = machine.start(&["run", "--expose", "echo=127.0.0.1:9"]);
    run.expect_stdout("the tunnel is up", |out| out.contains("tunnel-up").then_some(()));
    let mut seen = Vec::new();
    eventually("its heartbeats", PATIENCE, || {
        seen.extend(older.seen());
        (seen.iter().filter(|frame| *frame == "frame heartbeat").count() > 2).then_some(())
    });
    assert!(seen.iter().any(|frame| frame == "frame hello"), "{seen:?}");
    older.assert_understood();
}
