//! A gateway of version 0.1.0, as machines see it: it replies in the format of that version and, as that version did, refuses requests
//! with unknown members. A refused request fails the test.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pki::{
    AdmittedBy, Assurance, GatewayName, Identity, IssuingCa, KeyAlgorithm, LeafRequest, Role, Root, Serial,
    SoftwareKey, SubjectKey, TrustDomain, UnixTime,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::compat::{FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use wire::tunnel::{ALPN, FRAME_HEAD, VERSION, body_len};

use super::{TYPES, members};

/// Its address and name.
const HOST: &str = "127.0.0.1";
const DOMAIN: &str = "test.example";
const DAY: Duration = Duration::from_secs(86_400);

/// The gateway, which is stopped when dropped.
pub struct Older {
    address: SocketAddr,
    server: Arc<Server>,
    // Its tasks end with it.
    _runtime: tokio::runtime::Runtime,
}

struct Server {
    root: Root,
    machines: IssuingCa,
    gateways: IssuingCa,
    port: u16,
    /// Lifetime of certificates requested with a token.
    lifetime: Duration,
    /// Keys of waiting requests, by request id.
    waiting: Mutex<BTreeMap<String, (SubjectKey, String)>>,
    seen: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
}

impl Older {
    /// Starts it. Certificates by token live for `lifetime`, all others for a day.
    pub fn start(lifetime: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((HOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let now = UnixTime::new(tests::wait::unix_now());
        let root = Root::create(&TrustDomain::parse(DOMAIN).unwrap(), software_key(), serial(), now, 10).unwrap();
        let ca = |role| root.issue_ca(role, software_key(), serial(), now).unwrap();
        let (machines, gateways) = (ca(Role::Machine), ca(Role::Gateway));
        let server = Arc::new(Server {
            root,
            machines,
            gateways,
            port: address.port(),
            lifetime,
            waiting: Mutex::default(),
            seen: Mutex::default(),
            refused: Mutex::default(),
        });
        let acceptor = TlsAcceptor::from(Arc::new(server.tls(now)));
        let serving = Arc::clone(&server);
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(acceptor.clone(), tcp));
            }
        });
        Self { address, server, _runtime: runtime }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The root's pin.
    pub fn pin(&self) -> String {
        pki::root_pin(self.server.root.cert_der()).unwrap().hex()
    }

    /// A join token. This gateway does not check its signature.
    pub fn token(&self) -> String {
        let now = tests::wait::unix_now();
        let claims = json!({
            "iss": format!("spiffe://{DOMAIN}"), "aud": "lychgate-join", "jti": "327a74f34ee245fb", "iat": now, "nbf": now,
            "exp": now + 3600, "gateway": self.address.to_string(), "pin": self.pin(), "role": "machine",
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(&json!({"typ": "JWT", "alg": "ES256"}));
        format!("{head}.{}.{}", part(&claims), URL_SAFE_NO_PAD.encode([1; 64]))
    }

    /// What was asked, `METHOD PATH` and frames by their type, since it was last looked at.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.server.seen.lock().unwrap())
    }

    /// Panics if it had to refuse a request.
    #[track_caller]
    pub fn assert_understood(&self) {
        let refused = self.server.refused.lock().unwrap();
        assert!(refused.is_empty(), "a gateway of 0.1.0 refuses: {refused:?}");
    }
}

fn serial() -> Serial {
    Serial::from_entropy(tests::device::random())
}

fn software_key() -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(KeyAlgorithm::P256).unwrap().0)
}

fn pem(der: &[u8]) -> String {
    pki::to_pem("CERTIFICATE", der)
}

fn leaf(key: SubjectKey, identity: &str, lifetime: Duration, names: &[&str]) -> LeafRequest {
    LeafRequest {
        key,
        identity: Identity::parse(identity).unwrap(),
        serial: serial(),
        lifetime,
        assurance: Assurance::SOFTWARE,
        admitted_by: AdmittedBy::Policy,
        gateway_names: names.iter().map(|name| GatewayName::parse(name).unwrap()).collect(),
    }
}

type Answer = (u16, Value);

impl Server {
    fn tls(&self, now: UnixTime) -> ServerConfig {
        let (key, pkcs8) = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        let subject = SubjectKey::from_raw(KeyAlgorithm::P256, key.subject_key().unwrap().raw_public_key()).unwrap();
        let request = leaf(subject, &format!("spiffe://{DOMAIN}/gateway/gw"), DAY, &[HOST]);
        let issued = pki::draft(request, now).lint().unwrap().issue(&self.gateways).unwrap();
        let chain = [&issued.der[..], self.gateways.cert_der(), self.root.cert_der()];
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.root.cert_der().to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients.allow_unauthenticated().build().unwrap())
            .with_single_cert(
                chain.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect(),
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec())),
            )
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec(), ALPN.to_vec()];
        config
    }

    async fn serve(self: Arc<Self>, acceptor: TlsAcceptor, tcp: TcpStream) {
        let Ok(tls) = acceptor.accept(tcp).await else { return };
        if tls.get_ref().1.alpn_protocol() == Some(ALPN) {
            let _ = self.tunnel(tls).await;
            return;
        }
        let caller = tls.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (server, caller) = (Arc::clone(&self), caller.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
                let (status, answer) = server.answer(&parts, &body, caller.as_deref());
                let bundle = answer.as_str().map(str::to_owned);
                let kind = match (status, &bundle) {
                    (_, Some(_)) => "application/pem-certificate-chain",
                    (400.., None) => "application/problem+json",
                    (_, None) => "application/json",
                };
                let reply = Response::builder().status(StatusCode::from_u16(status).unwrap());
                let text = bundle.unwrap_or_else(|| answer.to_string());
                reply.header("content-type", kind).body(Full::new(Bytes::from(text))).map_err(io::Error::other)
            }
        });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
    }

    fn answer(&self, parts: &http::request::Parts, body: &[u8], caller: Option<&[u8]>) -> Answer {
        let (method, path) = (parts.method.as_str(), parts.uri.path());
        self.seen.lock().unwrap().push(format!("{method} {path}"));
        let proven = parts.headers.contains_key("dpop");
        match (method, path, caller) {
            ("GET", "/v1/gateway", _) => (200, shaped("GatewayInfo", self.info())),
            ("GET", "/v1/bundle", _) => (200, Value::String(pem(self.root.cert_der()))),
            ("POST", "/v1/enrollments", _) if proven => self.enroll(body),
            ("GET", path, _) if proven && path.starts_with("/v1/enrollments/") => self.poll(path),
            ("GET", "/v1/self", Some(leaf)) => (200, shaped("SelfReply", self.myself(leaf))),
            ("POST", "/v1/renew", Some(leaf)) => match self.read("RenewRequest", body) {
                Ok(request) => (200, self.issue(subject(&request), &name_in(leaf), DAY)),
                Err(refusal) => refusal,
            },
            ("POST", "/v1/sealed", Some(_)) => match self.read("SealedRequest", body) {
                Ok(_) => problem(503, "unavailable", "this one seals nothing"),
                Err(refusal) => refusal,
            },
            ("POST", "/v1/leave", Some(_)) => (200, shaped("Done", json!({"instance": "97b3ae7bc0f54b3e"}))),
            _ => problem(404, "not-found", "no such endpoint"),
        }
    }

    fn enroll(&self, body: &[u8]) -> Answer {
        let request = match self.read("EnrollRequest", body) {
            Ok(request) => request,
            Err(refusal) => return refusal,
        };
        let name = request["wanted_name"].as_str().unwrap_or("nameless").to_owned();
        let evidence = request["evidence"].as_array().cloned().unwrap_or_default();
        for piece in &evidence {
            self.check("Evidence", piece);
            self.seen.lock().unwrap().push(format!("evidence {}", piece["kind"].as_str().unwrap()));
        }
        match evidence.first().map(|piece| (piece["kind"].as_str().unwrap(), piece["body"].as_str().unwrap())) {
            Some(("join-token", _)) => (201, self.issue(subject(&request), &name, self.lifetime)),
            Some(("prior-certificate", body)) => match self.read("PriorCertificate", body.as_bytes()) {
                Ok(_) => (201, self.issue(subject(&request), &name, DAY)),
                Err(refusal) => refusal,
            },
            Some((kind, _)) => {
                problem(400, "evidence-unknown", &format!("evidence of kind `{kind}` is not known here"))
            }
            None => {
                let id = "34c854d3752b".to_owned();
                self.waiting.lock().unwrap().insert(id.clone(), (subject(&request), name));
                let now = tests::wait::unix_now();
                let reply = json!({"id": id, "poll_after": 1, "nonce": "0f66f5ac3491dffacb60e7d28770c7ed",
                    "expires": now + 3600, "approvals_missing": 1, "time": now});
                (202, shaped("WaitingReply", reply))
            }
        }
    }

    fn poll(&self, path: &str) -> Answer {
        let id = path.rsplit('/').next().unwrap();
        match self.waiting.lock().unwrap().remove(id) {
            Some((key, name)) => (201, self.issue(key, &name, DAY)),
            None => problem(404, "not-found", "no such enrollment"),
        }
    }

    fn issue(&self, key: SubjectKey, name: &str, lifetime: Duration) -> Value {
        let now = UnixTime::new(tests::wait::unix_now());
        let identity = format!("spiffe://{DOMAIN}/machine/{name}");
        let request = leaf(key, &identity, lifetime, &[]);
        let issued = pki::draft(request, now).lint().unwrap().issue(&self.machines).unwrap();
        let times = pki::schedule(&issued.serial, issued.not_before, issued.not_after);
        let reply = json!({
            "id": "62f6ba225bbc1bb2", "identity": identity, "certificate": pem(&issued.der),
            "chain": pem(self.machines.cert_der()), "bundle": pem(self.root.cert_der()), "serial": issued.serial.hex(),
            "not_before": issued.not_before.secs(), "not_after": issued.not_after.secs(),
            "renew_after": times.renew_after.secs(), "renew_by": times.renew_by.secs(),
            "manage": format!("{HOST}:{}", self.port), "time": now.secs(),
        });
        shaped("IssuedReply", reply)
    }

    fn info(&self) -> Value {
        json!({"trust_domain": DOMAIN, "pin": pki::root_pin(self.root.cert_der()).unwrap().hex(),
            "time": tests::wait::unix_now(), "manage": format!("{HOST}:{}", self.port), "version": "0.1.0"})
    }

    fn myself(&self, leaf: &[u8]) -> Value {
        let now = tests::wait::unix_now();
        json!({"identity": format!("spiffe://{DOMAIN}/machine/{}", name_in(leaf)), "lineage": "62f6ba225bbc1bb2",
            "serial": serial_in(leaf), "not_after": now + 86_400, "renew_after": now + 43_200, "renew_now": false,
            "time": now, "labels": []})
    }

    /// Reads a request as 0.1.0 did.
    fn read(&self, kind: &str, body: &[u8]) -> Result<Value, Answer> {
        let request: Value = serde_json::from_slice(body).unwrap();
        if self.check(kind, &request) {
            return Ok(request);
        }
        Err(problem(400, "malformed", "the body is not the JSON wanted here: unknown field"))
    }

    /// Whether it has all members that 0.1.0 required, and no unknown ones where 0.1.0 refused those. Otherwise the test fails.
    fn check(&self, kind: &str, request: &Value) -> bool {
        let names: Vec<&String> = request.as_object().unwrap().keys().collect();
        let strict = TYPES[kind]["refuses_unknown"] == json!(true);
        let known = members(kind, "fields");
        let unknown = strict && names.iter().any(|name| !known.contains(name));
        let missing = members(kind, "required").iter().any(|name| !names.contains(&name));
        if unknown || missing {
            self.refused.lock().unwrap().push(format!("{kind} {names:?}"));
        }
        !unknown && !missing
    }

    /// Welcomes a machine, and answers its heartbeats.
    async fn tunnel(&self, tls: TlsStream<TcpStream>) -> io::Result<()> {
        let mut connection = yamux::Connection::new(tls.compat(), yamux::Config::default(), yamux::Mode::Server);
        let control = poll_fn(|cx| connection.poll_next_inbound(cx)).await;
        let Some(Ok(control)) = control else { return Ok(()) };
        let driver = poll_fn(|cx| connection.poll_next_inbound(cx));
        tokio::select! {
            _ = driver => Ok(()),
            end = self.talk(control) => end,
        }
    }

    async fn talk(&self, control: yamux::Stream) -> io::Result<()> {
        let mut control = control.compat();
        loop {
            let mut head = [0; FRAME_HEAD];
            control.read_exact(&mut head).await?;
            let mut body = vec![0; body_len(head).map_err(io::Error::other)?];
            control.read_exact(&mut body).await?;
            let frame: Value = serde_json::from_slice(&body)?;
            let kind = frame["type"].as_str().unwrap().to_owned();
            let now = tests::wait::unix_now();
            let answer = match kind.as_str() {
                "hello" => json!({"type": "welcome", "heartbeat_ms": 1000, "epoch": 0, "time": now,
                    "reconnect_within_ms": 1000}),
                "heartbeat" => json!({"type": "heartbeat", "number": frame["number"], "epoch": 0, "time": now,
                    "reconnect_within_ms": 1000}),
                // Whatever else there is was ignored.
                _ => Value::Null,
            };
            self.seen.lock().unwrap().push(format!("frame {kind}"));
            if !answer.is_null() {
                control.write_all(&frame_of(&answer)).await?;
                control.flush().await?;
            }
        }
    }
}

fn frame_of(value: &Value) -> Vec<u8> {
    let body = value.to_string().into_bytes();
    let [_, a, b, c] = u32::try_from(body.len()).unwrap().to_be_bytes();
    [vec![VERSION, a, b, c], body].concat()
}

/// The key of the request in a body.
fn subject(request: &Value) -> SubjectKey {
    let csr = STANDARD.decode(request["csr"].as_str().unwrap()).unwrap();
    pki::csr::verify(&csr).unwrap().into_key()
}

fn name_in(leaf: &[u8]) -> String {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).unwrap();
    leaf.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned()
}

fn serial_in(leaf: &[u8]) -> String {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).unwrap();
    hex::encode(leaf.raw_serial())
}

/// Checks that a reply has exactly the members of version 0.1.0.
fn shaped(kind: &str, reply: Value) -> Value {
    let names: Vec<String> = reply.as_object().unwrap().keys().cloned().collect();
    let known = members(kind, "fields");
    assert!(names.iter().all(|name| known.contains(name)), "{kind} had no {names:?}");
    assert!(members(kind, "required").iter().all(|name| names.contains(name)), "{kind} had more than {names:?}");
    reply
}

fn problem(status: u16, code: &str, detail: &str) -> Answer {
    let reply = json!({"type": format!("urn:lychgate:error:{code}"), "title": code.replace('-', " "), "status": status,
        "detail": detail, "instance": "43fbf22be10e531a"});
    (status, shaped("Problem", reply))
}
