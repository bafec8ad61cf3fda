//! HTTP/1.1 over one TLS connection, for many concurrent clients.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::de::DeserializeOwned;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use wire::problem::Problem;

/// Time limit of a connection or a request.
pub const LOST_AFTER: Duration = Duration::from_secs(20);

/// Address and name of a face of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Face {
    /// The socket.
    pub address: SocketAddr,
    /// The name in SNI, `Host` and proofs: an address or a DNS name, without a port.
    pub name: String,
    /// The local address, for tests of limits per source prefix.
    pub source: Option<IpAddr>,
}

impl Face {
    /// The same face with this name.
    #[must_use]
    pub fn named(address: SocketAddr, name: &str) -> Self {
        Self { address, name: name.to_owned(), source: None }
    }

    /// The same face, for clients with this local address.
    #[must_use]
    pub fn from(&self, source: impl Into<IpAddr>) -> Self {
        Self { source: Some(source.into()), ..self.clone() }
    }

    /// `host:port`.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.name, self.address.port())
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.authority())
    }
}

/// A kept-alive connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    /// The TLS exporter value that binds proofs to this connection (RFC 9266).
    pub exporter: [u8; 32],
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Connection {
    /// TCP connection, TLS handshake, and HTTP.
    pub async fn open(face: &Face, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let stream = handshake(face, config).await?;
        let mut exporter = [0; 32];
        let label = wire::evidence::EXPORTER_LABEL;
        stream.get_ref().1.export_keying_material(&mut exporter, label, None).map_err(io::Error::other)?;
        let (sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(driver);
        Ok(Self { sender, authority: face.authority(), exporter })
    }

    /// Sends one request and reads its response.
    pub async fn send(&mut self, method: &str, path: &str, proof: Option<&str>, body: Vec<u8>) -> io::Result<Reply> {
        let mut request = http::Request::builder().method(method).uri(path).header("host", &self.authority);
        if method != "GET" {
            request = request.header("content-type", "application/json");
        }
        if let Some(proof) = proof {
            request = request.header(wire::evidence::PROOF_HEADER, proof);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(io::Error::other)?;
        let exchange = async {
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            let (parts, body) = response.into_parts();
            Ok::<_, hyper::Error>((parts, body.collect().await?.to_bytes()))
        };
        let (parts, body) = timeout(LOST_AFTER, exchange).await?.map_err(io::Error::other)?;
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// A GET.
    pub async fn get(&mut self, path: &str) -> io::Result<Reply> {
        self.send("GET", path, None, Vec::new()).await
    }

    /// A POST of JSON.
    pub async fn post(&mut self, path: &str, body: &impl serde::Serialize) -> io::Result<Reply> {
        self.send("POST", path, None, serde_json::to_vec(body)?).await
    }
}

impl Reply {
    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> io::Result<T> {
        let read = serde_json::from_slice(&self.body);
        read.map_err(|e| io::Error::other(format!("{e} in a {} reply: {self}", self.status)))
    }

    /// Detail and hint of the problem document; empty if the body is not one.
    #[must_use]
    pub fn says(&self) -> String {
        let problem = serde_json::from_slice::<Problem>(&self.body);
        problem.map(|p| format!("{}; {}", p.detail, p.hint.unwrap_or_default())).unwrap_or_default()
    }

    /// The code of the problem document; empty if the body is not one.
    #[must_use]
    pub fn code(&self) -> String {
        serde_json::from_slice::<Problem>(&self.body).map(|p| p.code().to_owned()).unwrap_or_default()
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

/// TCP connection and TLS handshake, without HTTP.
pub async fn handshake(
    face: &Face,
    config: &Arc<ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = ServerName::try_from(face.name.clone()).map_err(io::Error::other)?;
    let work = async {
        let tcp = match face.source {
            Some(source) => {
                let socket = TcpSocket::new_v4()?;
                socket.bind((source, 0).into())?;
                socket.connect(face.address).await?
            }
            None => TcpStream::connect(face.address).await?,
        };
        tcp.set_nodelay(true)?;
        TlsConnector::from(Arc::clone(config)).connect(name, tcp).await
    };
    timeout(LOST_AFTER, work).await?
}
