//! Misbehaving TLS servers, and the client's errors.

use std::future::Future;
use std::sync::Arc;
use tokio::net::TcpStream;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream as ServerStream;

use super::*;
use crate::core::trust::Expected;
use crate::edge::clock;
use crate::edge::crypto::provider;
use crate::edge::keystore::Keystore;
use crate::edge::verifier::GatewayVerifier;
use crate::testing::Authority;
use crate::text::report::{Complaint, Exit};

const HOST: &str = "127.0.0.1";

/// Which client certificates the server accepts.
enum Clients<'a> {
    Anybody,
    CertifiedBy(&'a Authority),
}

fn server_config(authority: &Authority, clients: &Clients<'_>) -> Arc<ServerConfig> {
    let shown = authority.server(HOST, clock::now());
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let builder = match clients {
        Clients::Anybody => builder.with_no_client_auth(),
        Clients::CertifiedBy(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(authority.root.cert_der().to_vec())).unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap(),
            )
        }
    };
    let mut config = builder.with_single_cert(shown.chain, shown.key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// Serves every connection with `behave`, which gets the stream if the handshake succeeds.
async fn serve<F, W>(config: Arc<ServerConfig>, behave: F) -> Address
where
    F: Fn(ServerStream<TcpStream>) -> W + Send + Sync + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(config);
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            if let Ok(tls) = acceptor.accept(tcp).await {
                behave(tls).await;
            }
        }
    });
    Address::parse(&format!("{HOST}:{port}"), 1).unwrap()
}

/// Reads the head of one request and answers with these bytes.
async fn answer(config: Arc<ServerConfig>, reply: String) -> Address {
    serve(config, move |mut tls| {
        let reply = reply.clone();
        async move {
            let _ = tls.read(&mut [0; 4096]).await;
            let _ = tls.write_all(reply.as_bytes()).await;
            let _ = tls.shutdown().await;
        }
    })
    .await
}

fn pinned(authority: &Authority) -> TlsClient {
    TlsClient::anonymous(GatewayVerifier::new(Expected::Pin(authority.root.pin()), HOST)).unwrap()
}

/// TLS configuration of a machine certified by `ours` that trusts `gateway`.
fn identified(ours: &Authority, gateway: &Authority) -> TlsClient {
    let dir = tempfile::tempdir().unwrap();
    let store = Keystore::at(dir.path().to_owned());
    let key = store.next_key().unwrap();
    let issued = ours.issued(&key, "edge-07", clock::now().secs());
    let credential = store.install(&issued, &key, &Address::parse("gw:1", 1).unwrap()).unwrap();
    TlsClient::identified(GatewayVerifier::new(Expected::Pin(gateway.root.pin()), HOST), &credential).unwrap()
}

async fn get(address: &Address, manners: &TlsClient) -> Result<HttpReply, NetError> {
    let mut connection = Connection::open(address, manners).await?;
    connection.call(HttpRequest { method: "GET", path: "/v1/gateway", proof: None, body: None }).await
}

/// The exit code and the first line, with the port replaced.
async fn complaint(address: &Address, manners: &TlsClient) -> (Exit, String) {
    let complaint = match get(address, manners).await {
        Ok(reply) => panic!("{reply:?}"),
        Err(error) => Complaint::from(error),
    };
    (complaint.exit, complaint.what.replace(&address.to_string(), "GATEWAY"))
}

fn now() -> Authority {
    Authority::from(clock::now())
}

#[tokio::test]
async fn a_good_answer_on_the_bound_connection() {
    let authority = now();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let address = serve(server_config(&authority, &Clients::Anybody), move |mut tls| {
        let sender = sender.clone();
        async move {
            let mut exporter = Exporter::default();
            tls.get_ref().1.export_keying_material(&mut exporter, b"EXPORTER-Channel-Binding", None).unwrap();
            let kx = tls.get_ref().1.negotiated_key_exchange_group().map(|group| group.name());
            sender.send((exporter, kx)).await.unwrap();
            let _ = tls.read(&mut [0; 4096]).await;
            tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}").await.unwrap();
        }
    })
    .await;
    let mut connection = Connection::open(&address, &pinned(&authority)).await.unwrap();
    let (exporter, kx) = receiver.recv().await.unwrap();
    assert_eq!(*connection.exporter(), exporter);
    assert_eq!(kx, Some(rustls::NamedGroup::X25519MLKEM768));
    let reply = connection.call(HttpRequest { method: "GET", path: "/", proof: None, body: None }).await.unwrap();
    let value: serde_json::Value = reply.decode(&address).unwrap();
    assert_eq!(value["a"], 1);
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let address = Address::parse(&listener.local_addr().unwrap().to_string(), 1).unwrap();
    drop(listener);
    let (exit, what) = complaint(&address, &pinned(&now())).await;
    assert_eq!(exit, Exit::Unreachable);
    assert!(what.starts_with("cannot reach GATEWAY: Connection refused"), "{what}");
}

#[tokio::test]
async fn another_gateway() {
    let (ours, other) = (now(), now());
    let address = answer(server_config(&other, &Clients::Anybody), String::new()).await;
    let (exit, what) = complaint(&address, &pinned(&ours)).await;
    assert_eq!(exit, Exit::Untrusted);
    let start = format!("the gateway at GATEWAY presents the root {}, and {}", other.root.pin(), ours.root.pin());
    assert!(what.starts_with(&start), "{what}");
}

#[tokio::test]
async fn something_that_is_no_tls() {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let address = Address::parse(&listener.local_addr().unwrap().to_string(), 1).unwrap();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let (exit, what) = complaint(&address, &pinned(&now())).await;
    assert_eq!(exit, Exit::Unreachable);
    assert!(what.starts_with("no TLS with GATEWAY"), "{what}");
}

#[tokio::test]
async fn a_rejected_certificate_is_not_called_a_reset() {
    let (ours, other) = (now(), now());
    let config = server_config(&ours, &Clients::CertifiedBy(&ours));
    let address = answer(config, String::new()).await;
    let (exit, what) = complaint(&address, &identified(&other, &ours)).await;
    assert_eq!(exit, Exit::Refused, "{what}");
    let start = "the gateway GATEWAY rejected our certificate (expired, revoked or from another gateway; ";
    assert!(what.starts_with(start), "{what}");
}

#[tokio::test]
async fn the_manage_face_is_named_when_no_certificate_is_shown() {
    let ours = now();
    let address = answer(server_config(&ours, &Clients::CertifiedBy(&ours)), String::new()).await;
    let (exit, what) = complaint(&address, &pinned(&ours)).await;
    assert_eq!(exit, Exit::Refused);
    assert_eq!(what, "GATEWAY asks for a certificate: it is a gateway's manage or proxy face, not its enroll face");
}

#[tokio::test]
async fn a_server_that_hangs_up() {
    let ours = now();
    let address = answer(server_config(&ours, &Clients::Anybody), String::new()).await;
    let error = get(&address, &pinned(&ours)).await.unwrap_err();
    assert!(error.may_have_arrived() && error.is_passing(), "{error:?}");
    assert_eq!(Complaint::from(error).exit, Exit::Unreachable);
}

#[tokio::test]
async fn answers_that_are_none() {
    let ours = now();
    let too_long = "x".repeat(wire::limits::REPLY_BODY_MAX + 1);
    for (reply, want) in [
        ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), "does not answer like a gateway"),
        (
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{too_long}", too_long.len()),
            "does not answer like a gateway: the answer is far too long",
        ),
    ] {
        let address = answer(server_config(&ours, &Clients::Anybody), reply).await;
        let (exit, what) = complaint(&address, &pinned(&ours)).await;
        assert_eq!(exit, Exit::Failure);
        assert!(what.contains(want), "{what}");
    }
}

#[tokio::test]
async fn problems_and_answers_of_something_in_front() {
    let ours = now();
    let problem = r#"{"type":"urn:lychgate:error:rate-limited","title":"rate limited","status":429,"detail":"too many","instance":"i-1"}"#;
    for (reply, code, retry) in [
        (
            format!(
                "HTTP/1.1 429 Slow\r\ncontent-type: application/problem+json\r\nretry-after: 7\r\ncontent-length: {}\r\n\r\n{problem}",
                problem.len()
            ),
            "rate-limited",
            Some(Duration::from_secs(7)),
        ),
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 5\r\n\r\n<html".to_owned(), "http-502", None),
    ] {
        let address = answer(server_config(&ours, &Clients::Anybody), reply).await;
        let refusal = get(&address, &pinned(&ours)).await.unwrap().refusal();
        assert_eq!((refusal.code.as_str(), refusal.retry_after), (code, retry));
        assert!(refusal.is_passing());
    }
}

#[tokio::test]
async fn nothing_but_the_presented_root_is_learnt_before_a_person_has_looked() {
    let ours = now();
    let address = answer(server_config(&ours, &Clients::Anybody), String::new()).await;
    let root = crate::edge::enroll::presented_root(&address).await.unwrap();
    assert_eq!(root, ours.root.pin());
}

#[test]
fn a_key_is_not_in_what_is_printed() {
    let key = crate::testing::private_key();
    let ask = HttpRequest { method: "POST", path: "/", proof: None, body: None };
    assert!(!format!("{ask:?} {key:?}").contains("PRIVATE"));
}
