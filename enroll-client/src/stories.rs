//! Complete enrollments and renewals against a gateway in this process that can misbehave: replies lost after issuing, denials, locks,
//! certificates that expired while the machine was off.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pki::KeyDigest;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use wire::evidence::ProofClaims;

use crate::commands::daemon::{self, RunLength};
use crate::commands::join::join;
use crate::commands::own::{self, LeaveNotice, RenewWhen};
use crate::core::enrollment::{OnWait, Patience, RetryPolicy};
use crate::core::plan::JoinRequest;
use crate::core::target::JoinTarget;
use crate::edge::clock;
use crate::edge::crypto::provider;
use crate::edge::keystore::{Credential, Keystore};
use crate::edge::terminal::Format;
use crate::testing::Authority;
use crate::text::report::{Complaint, Exit};

const HOST: &str = "127.0.0.1";
const DAY: u64 = 86_400;
const NONCE: [u8; 16] = [7; 16];

/// What the gateway does with the next request for a certificate.
#[derive(Clone, Copy, Debug)]
enum Do {
    Issue,
    Wait,
    /// Issues, and then the connection breaks.
    IssueAndDrop,
    Refuse(u16, &'static str),
}

/// A received request.
#[derive(Clone, Debug)]
struct Seen {
    what: String,
    body: Value,
    key: Option<KeyDigest>,
}

struct Inner {
    authority: Authority,
    address: String,
    script: VecDeque<Do>,
    seen: Vec<Seen>,
    /// Certificates are issued as if it were this many seconds earlier.
    issue_ago: u64,
    self_refusal: Option<&'static str>,
    key: Option<pki::SubjectKey>,
    /// When a waiting request expires: the same in every reply, as at a real gateway.
    lapses: u64,
}

#[derive(Clone)]
struct Gateway(Arc<Mutex<Inner>>);

type Reply = Result<Response<Full<Bytes>>, std::io::Error>;

fn answer(status: u16, kind: &str, body: &Value) -> Reply {
    let response = Response::builder().status(status).header("content-type", kind);
    response.body(Full::from(body.to_string())).map_err(std::io::Error::other)
}

fn refuse(status: u16, code: &str) -> Reply {
    let body = json!({ "type": format!("urn:lychgate:error:{code}"), "title": code, "status": status, "detail": format!("it is {code}") });
    answer(status, "application/problem+json", &body)
}

impl Gateway {
    async fn start() -> Self {
        let authority = Authority::from(clock::now().minus(std::time::Duration::from_secs(3 * DAY)));
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(authority.root.cert_der().to_vec())).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let shown = authority.server(HOST, clock::now());
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(shown.chain, shown.key)
            .unwrap();
        let gateway = Self(Arc::new(Mutex::new(Inner {
            authority,
            address,
            script: VecDeque::new(),
            seen: Vec::new(),
            issue_ago: 0,
            self_refusal: None,
            key: None,
            lapses: clock::now().secs() + DAY,
        })));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = gateway.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(acceptor.clone(), tcp));
            }
        });
        gateway
    }

    async fn serve(self, acceptor: TlsAcceptor, tcp: TcpStream) {
        let Ok(tls) = acceptor.accept(tcp).await else { return };
        let mut exporter = [0u8; 32];
        let connection = &tls.get_ref().1;
        connection.export_keying_material(&mut exporter, wire::evidence::EXPORTER_LABEL, None).unwrap();
        let certified = connection.peer_certificates().is_some();
        let service = hyper::service::service_fn(move |request| {
            let gateway = self.clone();
            async move { gateway.handle(request, exporter, certified).await }
        });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
    }

    async fn handle(self, request: Request<Incoming>, exporter: [u8; 32], certified: bool) -> Reply {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let what = format!("{} {path}", parts.method);
        let proof = parts.headers.get("DPoP").map(|value| value.to_str().unwrap().to_owned());
        let mut inner = self.0.lock().unwrap();
        let key = body["csr"].as_str().map(|csr| pki::csr::verify(&STANDARD.decode(csr).unwrap()).unwrap().into_key());
        inner.seen.push(Seen { what: what.clone(), body: body.clone(), key: key.as_ref().map(|key| key.digest()) });
        if what != "GET /v1/gateway" {
            assert_eq!(proof.is_some(), path.starts_with("/v1/enrollments"), "{what}");
            assert_eq!(certified, !path.starts_with("/v1/enrollments"), "{what}");
        }
        if let Some(proof) = proof {
            check_proof(&proof, parts.method.as_str(), &format!("https://{}{path}", inner.address), &exporter);
        }
        inner.key = key.or(inner.key.take());
        match what.as_str() {
            "GET /v1/gateway" => inner.info(),
            "GET /v1/self" => inner.myself(),
            "POST /v1/leave" => answer(200, "application/json", &json!({})),
            _ => inner.certificate(),
        }
    }

    fn tell(&self, script: &[Do]) {
        self.0.lock().unwrap().script.extend(script);
    }

    fn set(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.0.lock().unwrap());
    }

    /// The requests for certificates so far.
    fn asked(&self) -> Vec<Seen> {
        let wanted = |seen: &&Seen| seen.what.contains("enrollments") || seen.what.contains("renew");
        self.0.lock().unwrap().seen.iter().filter(wanted).cloned().collect()
    }

    fn names(&self) -> Vec<String> {
        self.asked().into_iter().map(|seen| seen.what).collect()
    }

    /// Installs the identity of a machine that joined `ago` seconds ago.
    fn admitted(&self, store: &Keystore, ago: u64) -> Credential {
        let inner = self.0.lock().unwrap();
        store.prepare().unwrap();
        let key = store.next_key().unwrap();
        let mut issued = inner.authority.issued(&key, "edge-07", clock::now().secs() - ago);
        issued.manage = crate::core::target::Address::parse(&inner.address, 1).unwrap();
        store.install(&issued, &key, &issued.manage).unwrap()
    }

    fn wish(&self) -> JoinRequest {
        let inner = self.0.lock().unwrap();
        let target = JoinTarget::parse(&format!("https://{}#{}", inner.address, inner.authority.root.pin())).unwrap();
        JoinRequest { target: Some(target), ..JoinRequest::default() }
    }
}

fn check_proof(proof: &str, method: &str, url: &str, exporter: &[u8; 32]) {
    let payload = URL_SAFE_NO_PAD.decode(proof.split('.').nth(1).unwrap()).unwrap();
    let claims: ProofClaims = serde_json::from_slice(&payload).unwrap();
    assert_eq!((claims.htm.as_str(), claims.htu.as_str()), (method, url));
    assert_eq!(URL_SAFE_NO_PAD.decode(claims.exporter).unwrap(), exporter);
    assert!(claims.iat.abs_diff(clock::now().secs()) < 60);
}

impl Inner {
    fn info(&self) -> Reply {
        let body = json!({
            "trust_domain": "td.example", "pin": self.authority.root.pin().hex(), "time": clock::now().secs(),
            "manage": self.address, "version": "0",
        });
        answer(200, "application/json", &body)
    }

    fn myself(&self) -> Reply {
        if let Some(code) = self.self_refusal {
            return refuse(403, code);
        }
        let body = json!({
            "identity": "spiffe://td.example/machine/edge-07", "lineage": "l", "serial": "1", "not_after": 1,
            "renew_after": 1, "time": clock::now().secs(),
        });
        answer(200, "application/json", &body)
    }

    fn certificate(&mut self) -> Reply {
        match self.script.pop_front().unwrap_or(Do::Issue) {
            Do::Refuse(status, code) => refuse(status, code),
            Do::Wait => {
                let body = json!({
                    "id": "e1", "poll_after": 1, "nonce": hex::encode(NONCE), "expires": self.lapses,
                    "approvals_missing": 1, "time": clock::now().secs(),
                });
                answer(202, "application/json", &body)
            }
            Do::IssueAndDrop => Err(std::io::Error::other("dropped on purpose")),
            Do::Issue => {
                let key = self.key.clone().unwrap();
                let mut reply = self.authority.certify(key, "edge-07", clock::now().secs() - self.issue_ago);
                reply.manage.clone_from(&self.address);
                answer(201, "application/json", &serde_json::to_value(reply).unwrap())
            }
        }
    }
}

fn store() -> (tempfile::TempDir, Keystore) {
    let dir = tempfile::tempdir().unwrap();
    let store = Keystore::at(dir.path().join("id"));
    (dir, store)
}

async fn try_join(store: &Keystore, wish: &JoinRequest, on_wait: OnWait) -> Result<Exit, Complaint> {
    join(store, wish, RetryPolicy { patience: Patience::Brief, on_wait }, Format::Json).await
}

#[track_caller]
fn joined(store: &Keystore) -> String {
    store.credential().unwrap().unwrap().serial.hex()
}

fn exists(store: &Keystore, name: &str) -> bool {
    Path::new(store.dir()).join(name).exists()
}

#[tokio::test]
async fn admitted_at_once() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Stay).await, Ok(Exit::Ok));
    assert_eq!(gateway.names(), ["POST /v1/enrollments"]);
    let body = &gateway.asked()[0].body;
    assert_eq!(body["attributes"]["os"], std::env::consts::OS);
    assert!(!exists(&store, "pending.json") && !exists(&store, "next-key.pem"));
    assert_eq!(own::status(&store, Format::Json), Ok(Exit::Ok));
    // Joining again changes nothing and sends nothing.
    let serial = joined(&store);
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Stay).await, Ok(Exit::Ok));
    assert_eq!((joined(&store), gateway.names().len()), (serial, 1));
}

#[tokio::test]
async fn waits_until_a_person_has_decided() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    gateway.tell(&[Do::Wait, Do::Wait, Do::Refuse(503, "unavailable"), Do::Issue]);
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Stay).await, Ok(Exit::Ok));
    let poll = "GET /v1/enrollments/e1";
    assert_eq!(gateway.names(), ["POST /v1/enrollments", poll, poll, poll]);
}

#[tokio::test]
async fn goes_on_later_with_the_same_request_and_code() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    gateway.tell(&[Do::Wait, Do::Wait, Do::Issue]);
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Leave).await, Ok(Exit::Waiting));
    let request = store.pending().unwrap().unwrap().request.unwrap();
    let pin = gateway.0.lock().unwrap().authority.root.pin();
    let key = KeyDigest::parse_hex(&request.key).unwrap();
    assert_eq!(request.code, pki::waiting_code(&key, &pin, &NONCE).to_string());
    assert_eq!(own::status(&store, Format::Json), Ok(Exit::Waiting));

    assert_eq!(try_join(&store, &JoinRequest::default(), OnWait::Leave).await, Ok(Exit::Waiting));
    assert_eq!(store.pending().unwrap().unwrap().request.unwrap(), request);
    assert_eq!(try_join(&store, &JoinRequest::default(), OnWait::Leave).await, Ok(Exit::Ok));
    let poll = "GET /v1/enrollments/e1";
    assert_eq!(gateway.names(), ["POST /v1/enrollments", poll, poll]);
    assert_eq!(store.credential().unwrap().unwrap().key.digest(), key);
}

#[tokio::test]
async fn a_reply_lost_after_issuing_is_asked_for_again_with_the_same_key() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    gateway.tell(&[Do::IssueAndDrop, Do::IssueAndDrop, Do::Issue]);
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Stay).await, Ok(Exit::Ok));
    let asked = gateway.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|seen| seen.key == asked[0].key));
}

#[tokio::test]
async fn a_denied_key_is_not_used_again() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    gateway.tell(&[Do::Wait, Do::Refuse(403, "denied-by-person"), Do::Issue]);
    let complaint = try_join(&store, &gateway.wish(), OnWait::Stay).await.unwrap_err();
    assert_eq!((complaint.exit, complaint.code.as_str()), (Exit::Refused, "denied-by-person"));
    assert_eq!(own::status(&store, Format::Json), Ok(Exit::Refused), "it is remembered");
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Stay).await, Ok(Exit::Ok));
    let asked = gateway.asked();
    assert_ne!(asked[0].key, asked[2].key);
}

/// The same gateway with another pin.
fn mistaken(wish: &JoinRequest) -> JoinRequest {
    let Some(JoinTarget::Url { gateway, .. }) = &wish.target else { panic!("{wish:?}") };
    let pin = Some(KeyDigest::parse_hex(&"0".repeat(64)).unwrap());
    JoinRequest { target: Some(JoinTarget::Url { gateway: gateway.clone(), pin }), ..JoinRequest::default() }
}

#[tokio::test]
async fn a_wrong_pin_leaves_nothing_behind() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    let complaint = try_join(&store, &mistaken(&gateway.wish()), OnWait::Stay).await.unwrap_err();
    assert_eq!((complaint.exit, complaint.code.as_str()), (Exit::Untrusted, "wrong-pin"));
    assert!(!exists(&store, "pending.json"));
    assert_eq!(own::status(&store, Format::Json).unwrap_err().exit, Exit::NotJoined);
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Stay).await, Ok(Exit::Ok));
}

#[tokio::test]
async fn a_wrong_pin_or_a_silent_gateway_cost_no_request_that_waits() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    gateway.tell(&[Do::Wait, Do::Issue]);
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Leave).await, Ok(Exit::Waiting));
    let waiting = store.pending().unwrap();
    let complaint = try_join(&store, &mistaken(&gateway.wish()), OnWait::Leave).await.unwrap_err();
    assert_eq!(complaint.exit, Exit::Untrusted);
    assert_eq!(store.pending().unwrap(), waiting);
    let nobody = TcpListener::bind((HOST, 0)).await.unwrap().local_addr().unwrap();
    let elsewhere = JoinRequest {
        target: Some(JoinTarget::parse(&format!("https://{nobody}")).unwrap()),
        ..JoinRequest::default()
    };
    let elsewhere = JoinRequest { pin: Some(KeyDigest::parse_hex(&"0".repeat(64)).unwrap()), ..elsewhere };
    assert_eq!(try_join(&store, &elsewhere, OnWait::Leave).await.unwrap_err().exit, Exit::Unreachable);
    assert_eq!(store.pending().unwrap(), waiting);
    assert_eq!(try_join(&store, &JoinRequest::default(), OnWait::Leave).await, Ok(Exit::Ok));
    let asked = gateway.asked();
    assert_eq!(asked.len(), 2, "the request that waited was gone on with: {asked:?}");
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_is_tried_again_by_the_next_join() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    let nobody = TcpListener::bind((HOST, 0)).await.unwrap().local_addr().unwrap();
    let pin = gateway.0.lock().unwrap().authority.root.pin();
    let wish = JoinRequest {
        target: Some(JoinTarget::parse(&format!("https://{nobody}#{pin}")).unwrap()),
        ..JoinRequest::default()
    };
    assert_eq!(try_join(&store, &wish, OnWait::Stay).await.unwrap_err().exit, Exit::Unreachable);
    assert_eq!(store.pending().unwrap().unwrap().gateway, nobody.to_string());
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Stay).await, Ok(Exit::Ok));
}

#[tokio::test]
async fn a_refused_token_is_forgotten_and_the_key_kept() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    gateway.tell(&[Do::Refuse(403, "token-expired")]);
    let complaint = try_join(&store, &gateway.wish(), OnWait::Stay).await.unwrap_err();
    assert_eq!(complaint.exit, Exit::Refused);
    assert!(!exists(&store, "pending.json") && exists(&store, "next-key.pem"));
    assert_eq!(own::status(&store, Format::Json).unwrap_err().exit, Exit::NotJoined);
}

#[tokio::test]
async fn renews_and_a_lost_reply_costs_nothing() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Stay).await, Ok(Exit::Ok));
    let first = joined(&store);
    // Not due, so nothing happens.
    assert_eq!(own::renew(&store, RenewWhen::Due, &[], Format::Json).await, Ok(()));
    assert_eq!(joined(&store), first);

    gateway.tell(&[Do::IssueAndDrop]);
    let lost = own::renew(&store, RenewWhen::Now, &[], Format::Json).await.unwrap_err();
    assert_eq!(lost.exit, Exit::Unreachable);
    assert_eq!(joined(&store), first);
    assert_eq!(own::status(&store, Format::Json), Ok(Exit::Ok));

    assert_eq!(own::renew(&store, RenewWhen::Now, &[], Format::Json).await, Ok(()));
    assert_ne!(joined(&store), first);
    let asked = gateway.asked();
    assert_eq!(asked[1].key, asked[2].key, "the key whose reply was lost is sent again");
    assert_ne!(asked[0].key, asked[1].key, "a renewal is by a new key");
    let last = gateway.0.lock().unwrap().seen.last().unwrap().what.clone();
    assert_eq!(last, "GET /v1/self", "the new certificate is used at once");
}

#[tokio::test]
async fn a_lock_is_said_and_shown() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Stay).await, Ok(Exit::Ok));
    gateway.tell(&[Do::Refuse(403, "locked")]);
    let complaint = own::renew(&store, RenewWhen::Now, &[], Format::Json).await.unwrap_err();
    assert_eq!((complaint.exit, complaint.what.as_str()), (Exit::Locked, "it is locked"));
    assert_eq!(own::status(&store, Format::Json), Ok(Exit::Locked));
    assert_eq!(own::renew(&store, RenewWhen::Now, &[], Format::Json).await, Ok(()));
    assert_eq!(own::status(&store, Format::Json), Ok(Exit::Ok));
}

fn once() -> daemon::Options {
    daemon::Options {
        length: RunLength::Once,
        hooks: vec![],
        format: Format::Json,
        services: crate::core::services::Services::none(),
    }
}

#[tokio::test]
async fn run_renews_what_is_due() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    gateway.set(|inner| inner.issue_ago = DAY * 7 / 10);
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Stay).await, Ok(Exit::Ok));
    let first = joined(&store);
    gateway.set(|inner| inner.issue_ago = 0);
    assert_eq!(daemon::run(&store, &once()).await, Ok(()));
    assert_ne!(joined(&store), first);
    assert_eq!(gateway.names(), ["POST /v1/enrollments", "POST /v1/renew"]);
}

#[tokio::test]
async fn run_rejoins_after_expiry_with_the_old_certificate() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    gateway.set(|inner| inner.self_refusal = Some("expired"));
    let old = gateway.admitted(&store, 2 * DAY);
    assert_eq!(own::status(&store, Format::Json), Ok(Exit::Expired));
    assert_eq!(own::renew(&store, RenewWhen::Now, &[], Format::Json).await.unwrap_err().exit, Exit::Expired);

    gateway.set(|inner| inner.self_refusal = None);
    assert_eq!(daemon::run(&store, &once()).await, Ok(()));
    let asked = gateway.asked();
    let evidence = &asked[0].body["evidence"][0];
    assert_eq!(evidence["kind"], "prior-certificate");
    let prior: wire::evidence::PriorCertificate = serde_json::from_str(evidence["body"].as_str().unwrap()).unwrap();
    let shown = pki::parse_pem("CERTIFICATE", &prior.certificate).unwrap();
    assert_eq!(shown, [vec![old.leaf], old.chain].concat());
    assert_eq!(asked[0].body["wanted_name"], "edge-07");
    assert_ne!(asked[0].key, Some(old.key.digest()));
    assert_eq!(own::status(&store, Format::Json), Ok(Exit::Ok));
}

#[tokio::test]
async fn run_goes_on_with_a_request_that_join_left_at_the_gate() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    gateway.tell(&[Do::Wait, Do::Issue]);
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Leave).await, Ok(Exit::Waiting));
    assert_eq!(daemon::run(&store, &once()).await, Ok(()));
    assert_eq!(own::status(&store, Format::Json), Ok(Exit::Ok));
}

#[tokio::test]
async fn leaving_removes_the_identity() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    assert_eq!(own::leave(&store, LeaveNotice::Gateway, Format::Json).await.unwrap_err().exit, Exit::NotJoined);
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Stay).await, Ok(Exit::Ok));
    assert_eq!(own::leave(&store, LeaveNotice::Gateway, Format::Json).await, Ok(()));
    assert!(!exists(&store, "key.pem") && !exists(&store, "generations"));
    assert_eq!(own::status(&store, Format::Json).unwrap_err().exit, Exit::NotJoined);
}

#[tokio::test]
async fn two_processes_do_not_renew_twice() {
    let (gateway, (_dir, store)) = (Gateway::start().await, store());
    assert_eq!(try_join(&store, &gateway.wish(), OnWait::Stay).await, Ok(Exit::Ok));
    let old = store.credential().unwrap().unwrap();
    let (one, other) = tokio::join!(crate::flow::upkeep::renew(&store, &old), crate::flow::upkeep::renew(&store, &old));
    assert_eq!(one.unwrap().serial, other.unwrap().serial);
    assert_eq!(gateway.names(), ["POST /v1/enrollments", "POST /v1/renew"]);
}
