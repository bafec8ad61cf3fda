//! A server with a gateway's stolen certificate and key, and no CA key: it passes as the gateway, but cannot change the roots, addresses
//! and SSH CAs that a client trusts.

use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pki::{KeyAlgorithm, Order, Role, Serial, SoftwareKey, SshCa, SshKind};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use wire::enroll::IssuedReply;
use wire::ssh::SshCaReply;

use crate::commands::sshcert;
use crate::core::receive::Issued;
use crate::core::target::Address;
use crate::edge::clock;
use crate::edge::crypto::provider;
use crate::edge::keystore::{BUNDLE, Credential, Keystore};
use crate::edge::terminal::Format;
use crate::flow::upkeep;
use crate::testing::Authority;
use crate::text::report::{Complaint, Exit};

const HOST: &str = "127.0.0.1";

/// Makes the reply to a path, given the key of the request.
type Answer = dyn Fn(&str, Option<pki::SubjectKey>) -> Value + Send + Sync;

#[derive(Clone)]
struct Server(Arc<Mutex<Box<Answer>>>);

impl Server {
    /// Starts it with the gateway's certificate and key.
    async fn start(ours: &Authority) -> (Self, Address) {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let address = Address::parse(&listener.local_addr().unwrap().to_string(), 1).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(ours.root.cert_der().to_vec())).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let shown = ours.server(HOST, clock::now());
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients.allow_unauthenticated().build().unwrap())
            .with_single_cert(shown.chain, shown.key)
            .unwrap();
        let server = Self(Arc::new(Mutex::new(Box::new(|_, _| Value::Null))));
        let (acceptor, serving) = (TlsAcceptor::from(Arc::new(config)), server.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(acceptor.clone(), tcp));
            }
        });
        (server, address)
    }

    async fn serve(self, acceptor: TlsAcceptor, tcp: TcpStream) {
        let Ok(tls) = acceptor.accept(tcp).await else { return };
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let server = self.clone();
            async move {
                let path = request.uri().path().to_owned();
                let bytes = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
                let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                let csr = body["csr"].as_str().map(|csr| STANDARD.decode(csr).unwrap());
                let key = csr.map(|csr| pki::csr::verify(&csr).unwrap().into_key());
                let answer = server.0.lock().unwrap()(&path, key);
                let reply = Response::builder().status(200).header("content-type", "application/json");
                reply.body(Full::new(Bytes::from(answer.to_string()))).map_err(std::io::Error::other)
            }
        });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
    }

    fn answers(&self, answer: impl Fn(&str, Option<pki::SubjectKey>) -> Value + Send + Sync + 'static) {
        *self.0.lock().unwrap() = Box::new(answer);
    }
}

fn pem(der: &[u8]) -> String {
    pki::to_pem("CERTIFICATE", der)
}

fn line() -> String {
    SshCa::new(SshKind::User, Arc::new(SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap().0))
        .unwrap()
        .public()
        .line()
}

/// A client that has joined our gateway and has fetched its SSH CAs.
async fn joined(dir: &Path, ours: &Authority, server: &Server, address: &Address) -> (Keystore, Credential) {
    let store = Keystore::at(dir.to_owned());
    let key = store.next_key().unwrap();
    let issued = ours.issued(&key, "edge-07", clock::now().secs());
    let issued = Issued { manage: address.clone(), order: Order::new(7), ..issued };
    let credential = store.install(&issued, &key, address).unwrap();
    let known = ours.ssh_cas_in_order(9, &line());
    server.answers(told(serde_json::to_value(known).unwrap()));
    sshcert::print_known_hosts(&store, &[], Format::Json).await.unwrap();
    (store, credential)
}

/// Replies with the gateway's information, and with `what` to all other requests.
fn told(what: Value) -> impl Fn(&str, Option<pki::SubjectKey>) -> Value + Send + Sync {
    move |path, _| if path == "/v1/gateway" { info() } else { what.clone() }
}

fn info() -> Value {
    json!({ "trust_domain": "td.example", "pin": "0".repeat(64), "time": clock::now().secs(), "manage": "x:1", "version": "0" })
}

/// Everything that a client trusts.
fn believed(store: &Keystore) -> Vec<String> {
    let credential = store.credential().unwrap().unwrap();
    let ssh = |name: &str| std::fs::read_to_string(store.ssh_file(name)).unwrap();
    vec![
        credential.serial.hex(),
        credential.manage.to_string(),
        credential.order.number().to_string(),
        store.text(BUNDLE).unwrap().unwrap(),
        format!("{:?}", store.state(&credential.facts).proxy),
        ssh("ca.json"),
        ssh(crate::flow::sshcert::KNOWN_HOSTS),
    ]
}

/// A forged reply: the expected error, and the change of the reply.
type Row = (&'static str, Box<dyn Fn(&mut IssuedReply) + Send + Sync>);

/// Replies with a certificate that the thief made, because no CA certifies a new key for it, and with the client's own certificate.
fn replies(ours: &Authority, evil: &Authority, shown: &Credential) -> Vec<Row> {
    let (known, own) = (pem(ours.root.cert_der()), pem(evil.root.cert_der()));
    let both = format!("{known}{own}");
    let cross = pem(&evil.root.cross_certify(evil.root.cert_der(), Serial::from_entropy([9; 16])).unwrap());
    let bundle = |bundle: &str| {
        let bundle = bundle.to_owned();
        move |reply: &mut IssuedReply| reply.bundle.clone_from(&bundle)
    };
    let (with_ours, with_both, with_both_again) = (bundle(&known), bundle(&both), bundle(&both));
    let (certificate, chain, serial) = (pem(&shown.leaf), pem(&shown.chain[0]), shown.serial.hex());
    vec![
        ("its own root", Box::new(|_| ())),
        ("our root", Box::new(with_ours)),
        ("both roots", Box::new(with_both)),
        (
            "its own word for its root",
            Box::new(move |reply| {
                with_both_again(reply);
                reply.cross.clone_from(&cross);
            }),
        ),
        ("another address", Box::new(|reply| reply.manage = "elsewhere.example:443".into())),
        (
            "the certificate that it was shown",
            Box::new(move |reply| {
                reply.certificate.clone_from(&certificate);
                reply.chain.clone_from(&chain);
                reply.bundle.clone_from(&known);
                reply.serial.clone_from(&serial);
            }),
        ),
    ]
}

/// A client that has joined, the server that it reaches afterwards, and what it trusted before.
struct Stage {
    ours: Authority,
    evil: Arc<Authority>,
    server: Server,
    address: Address,
    store: Keystore,
    credential: Credential,
    before: Vec<String>,
    _dir: tempfile::TempDir,
}

impl Stage {
    async fn set() -> Self {
        let made = clock::now().minus(std::time::Duration::from_secs(3600));
        let (ours, evil) = (Authority::from(made), Arc::new(Authority::from(made)));
        let dir = tempfile::tempdir().unwrap();
        let (server, address) = Server::start(&ours).await;
        let (store, credential) = joined(dir.path(), &ours, &server, &address).await;
        let before = believed(&store);
        Self { ours, evil, server, address, store, credential, before, _dir: dir }
    }

    #[track_caller]
    fn nothing_was_taken(&self, what: &str) {
        assert_eq!(believed(&self.store), self.before, "{what}");
    }
}

#[tokio::test]
async fn whoever_has_stolen_the_gateways_leaf_replaces_no_root_and_no_address() {
    let stage = Stage::set().await;
    let now = clock::now().secs();
    for (what, spoil) in replies(&stage.ours, &stage.evil, &stage.credential) {
        let (evil, at) = (Arc::clone(&stage.evil), stage.address.to_string());
        stage.server.answers(move |_, key| {
            let mut reply = evil.certify(key.unwrap(), "edge-07", now);
            (reply.manage, reply.order) = (at.clone(), u64::MAX);
            spoil(&mut reply);
            serde_json::to_value(reply).unwrap()
        });
        let refused = Complaint::from(upkeep::renew(&stage.store, &stage.credential).await.unwrap_err());
        assert!(refused.what.starts_with("the gateway's reply cannot be used: "), "{what}: {refused}");
        stage.nothing_was_taken(what);
    }
    stage.server.answers(told(json!({
        "identity": "spiffe://td.example/machine/edge-07", "lineage": "l", "serial": "1", "not_after": 1,
        "renew_after": 1, "time": now, "proxy": "elsewhere.example:443",
    })));
    let refused = Complaint::from(upkeep::look(&stage.store, &stage.credential).await.unwrap_err());
    assert!(refused.what.contains("`proxy` leads to elsewhere.example"), "{refused}");
    stage.nothing_was_taken("another proxy face");
}

#[tokio::test]
async fn whoever_has_stolen_the_gateways_leaf_brings_back_no_ssh_ca() {
    let stage = Stage::set().await;
    let Stage { ours, evil, .. } = &stage;
    let older = ours.ssh_cas_in_order(8, &line());
    for (what, reply) in [
        ("SSH CAs of its own", evil.ssh_cas_in_order(10, &line())),
        ("others than were signed", SshCaReply { user: vec![line()], ..ours.ssh_cas_in_order(10, &line()) }),
        ("older ones", older.clone()),
        ("older ones with another number", SshCaReply { order: 10, ..older.clone() }),
        ("older ones without order", SshCaReply { order: 0, ordered_signature: String::new(), ..older }),
        ("ones signed by another CA of ours", ours.ssh_cas(&[&line()], &[&line()], Role::Machine)),
    ] {
        stage.server.answers(told(serde_json::to_value(reply).unwrap()));
        let refused = sshcert::print_known_hosts(&stage.store, &[], Format::Json).await.unwrap_err();
        assert_eq!(refused.exit, Exit::Untrusted, "{what}: {refused}");
        stage.nothing_was_taken(what);
    }
}
