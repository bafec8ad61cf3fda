//! Fetches from a server in this process, which answers well and badly.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::core::evidence::{DocumentSource, Freshness, Reach};
use crate::ports::documents::Documents;

/// An issuer's server, and the file with the CA of its certificate.
struct Server {
    address: SocketAddr,
    ca: PathBuf,
    _room: tempfile::TempDir,
}

/// What it does with a request.
#[derive(Clone)]
enum Answers {
    /// Sends this and closes.
    Text(String),
    /// Sends a head, and then a body that never ends.
    Endless,
    /// Says nothing.
    Silence,
}

fn ok(body: &str) -> Answers {
    Answers::Text(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

impl Server {
    async fn start(name: &str, answers: Answers) -> Self {
        let room = tempfile::tempdir().unwrap();
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        let path = room.path().join("ca.pem");
        std::fs::write(&path, ca_pem).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(acceptor.clone(), stream, answers.clone()));
            }
        });
        Self { address, ca: path, _room: room }
    }

    fn url(&self, host: &str, reach: Reach) -> HttpsUrl {
        let url = format!("https://{host}:{}/keys?v=1", self.address.port());
        HttpsUrl::parse(&url, Some(self.ca.clone()), reach).unwrap()
    }

    async fn fetched(&self, host: &str) -> Result<String, String> {
        let url = self.url(host, Reach::Any);
        let fetching = tokio::time::timeout(Duration::from_secs(20), fetch(&url)).await.expect("it ends by itself");
        fetching.map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|error| error.to_string())
    }
}

async fn answer(acceptor: TlsAcceptor, stream: TcpStream, answers: Answers) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut head = vec![0; 2048];
    let length = stream.read(&mut head).await.unwrap_or(0);
    let head = String::from_utf8_lossy(&head[..length]).into_owned();
    assert!(head.starts_with("GET /keys?v=1 HTTP/1.1\r\n"), "{head}");
    let _ = match answers {
        Answers::Text(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            stream.shutdown().await
        }
        Answers::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
            while stream.write_all(chunk.as_bytes()).await.is_ok() {}
            Ok(())
        }
        Answers::Silence => std::future::pending().await,
    };
}

#[tokio::test]
async fn a_document_is_fetched_from_who_it_should_be() {
    let server = Server::start("localhost", ok(r#"{"keys":[]}"#)).await;
    assert_eq!(server.fetched("localhost").await.as_deref(), Ok(r#"{"keys":[]}"#));
    let why = server.fetched("127.0.0.1").await.unwrap_err();
    assert!(why.starts_with("TLS: ") && why.contains("not valid for name"), "{why}");
    let url = server.url("localhost", Reach::Public);
    let why = fetch(&url).await.unwrap_err().to_string();
    assert!(why.contains(", a private address; `private_network = true` allows that"), "{why}");
    // by a CA that nobody named
    let other = Server::start("localhost", ok("")).await;
    let url = HttpsUrl { ca: Some(other.ca.clone()), ..server.url("localhost", Reach::Any) };
    let why = fetch(&url).await.unwrap_err().to_string();
    assert!(why.starts_with("TLS: invalid peer certificate"), "{why}");
    let url = HttpsUrl { ca: None, ..server.url("localhost", Reach::Any) };
    let why = fetch(&url).await.unwrap_err().to_string();
    assert!(why.starts_with("TLS: invalid peer certificate") || why.contains("the system has none"), "{why}");
}

#[tokio::test]
async fn answers_that_are_not_taken() {
    let big = |length: usize| ok(&"x".repeat(length));
    for (answers, says) in [
        (
            Answers::Text("HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".into()),
            "302",
        ),
        (Answers::Text("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into()), "the answer is 404 Not Found"),
        (Answers::Text("HTTP/1.1 204 No Content\r\n\r\n".into()), "204"),
        (big(ANSWER_MAX + 1), "the answer is longer than 65536 bytes"),
        (Answers::Endless, "the answer is longer than 65536 bytes"),
        (Answers::Text("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort".into()), "HTTP: "),
        (Answers::Text("SSH-2.0-OpenSSH\r\n".into()), "HTTP: "),
        (Answers::Text(String::new()), "HTTP: "),
    ] {
        let server = Server::start("localhost", answers).await;
        let why = server.fetched("localhost").await.unwrap_err();
        assert!(why.contains(says), "{why} instead of {says}");
    }
    let server = Server::start("localhost", big(ANSWER_MAX)).await;
    assert_eq!(server.fetched("localhost").await.map(|text| text.len()), Ok(ANSWER_MAX));
}

#[tokio::test]
async fn who_does_not_answer_is_given_up() {
    let server = Server::start("localhost", Answers::Silence).await;
    let documents = Documents::default();
    documents.fetch_with(fetcher());
    let begun = std::time::Instant::now();
    let source = DocumentSource::Url(server.url("localhost", Reach::Any));
    assert!(documents.get(&source, Freshness::Kept, |_| {}).await.is_none());
    assert!((4..15).contains(&begun.elapsed().as_secs()));
    // nobody there
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let url = HttpsUrl { port: free.port(), ..server.url("localhost", Reach::Any) };
    let why = fetch(&url).await.unwrap_err().to_string();
    assert!(why.starts_with("no connection to "), "{why}");
    let url = HttpsUrl { host: "nobody.invalid".to_owned(), ..server.url("localhost", Reach::Any) };
    let why = fetch(&url).await.unwrap_err().to_string();
    assert!(why.starts_with("the name cannot be resolved"), "{why}");
    let missing = HttpsUrl { ca: Some("/nowhere.pem".into()), ..server.url("localhost", Reach::Any) };
    assert!(fetch(&missing).await.unwrap_err().to_string().starts_with("the CAs for its certificate cannot be read"));
}
