//! Gets a small document from a web server: over HTTPS, by the system's CAs, bounded in size, time and redirects.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, LOCATION, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::clock::LocalClock;
use super::crypto::provider;
use crate::core::target::Address;

/// Largest document, in bytes: a certificate has about 1500, with a chain in JSON a few times that.
const BODY_MAX: usize = 64 * 1024;

/// Time limit of all of it.
const LIMIT: Duration = Duration::from_secs(30);

/// Most redirects that are followed.
const REDIRECTS_MAX: usize = 3;

/// The port of https.
const HTTPS: u16 = 443;

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum WebError {
    #[error("`{0}` is no https URL")]
    Url(String),
    #[error("this system has no CAs by which a web server could be verified: {0}")]
    NoCas(String),
    #[error("cannot reach {host}: {cause}")]
    Reach { host: String, cause: io::Error },
    #[error("{host} does not answer as a web server: {cause}")]
    Broken { host: String, cause: String },
    #[error("no answer within {} s", LIMIT.as_secs())]
    Slow,
    #[error("the answer is longer than {} KiB", BODY_MAX / 1024)]
    Long,
    #[error("it was sent to `{0}`, which is no https URL")]
    Astray(String),
    #[error("it was sent elsewhere more than {REDIRECTS_MAX} times")]
    Redirects,
    #[error("the server answers {0}")]
    Status(StatusCode),
}

impl WebError {
    /// Whether the server has no such document.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Status(StatusCode::NOT_FOUND | StatusCode::GONE))
    }
}

/// Gets a document.
///
/// # Errors
/// When there is none, or it cannot be had within the limits.
pub async fn get(url: &str) -> Result<Bytes, WebError> {
    timeout(LIMIT, follow(url, &by_the_systems_cas()?)).await.map_err(|_| WebError::Slow)?
}

/// Gets a document that may be elsewhere.
async fn follow(url: &str, config: &Arc<ClientConfig>) -> Result<Bytes, WebError> {
    let mut place = HttpsUrl::parse(url)?;
    for _ in 0..=REDIRECTS_MAX {
        match ask(&place, config).await? {
            Answer::Document(document) => return Ok(document),
            Answer::Elsewhere(location) => place = place.moved(&location)?,
        }
    }
    Err(WebError::Redirects)
}

fn by_the_systems_cas() -> Result<Arc<ClientConfig>, WebError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good == 0 {
        let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(WebError::NoCas(if why.is_empty() { "it lists none".to_owned() } else { why.join("; ") }));
    }
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(LocalClock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| WebError::NoCas(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A URL with https.
#[derive(Debug, PartialEq, Eq)]
struct HttpsUrl {
    address: Address,
    path: String,
}

impl HttpsUrl {
    fn parse(url: &str) -> Result<Self, WebError> {
        let bad = || WebError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(bad)?;
        if uri.scheme_str() != Some("https") {
            return Err(bad());
        }
        let address = Address::parse(authority.as_str(), HTTPS).map_err(|_| bad())?;
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        Ok(Self { address, path })
    }

    /// Where a redirect leads (RFC 9110 10.2.2): to another https URL, or another path of the same server.
    fn moved(&self, location: &str) -> Result<Self, WebError> {
        let astray = || WebError::Astray(location.to_owned());
        match location.strip_prefix('/') {
            Some(rest) if !rest.starts_with('/') => {
                let path: http::uri::PathAndQuery = location.parse().map_err(|_| astray())?;
                Ok(Self { address: self.address.clone(), path: path.to_string() })
            }
            Some(_) | None => Self::parse(location).map_err(|_| astray()),
        }
    }
}

enum Answer {
    Document(Bytes),
    Elsewhere(String),
}

/// One request, on a connection of its own.
async fn ask(place: &HttpsUrl, config: &Arc<ClientConfig>) -> Result<Answer, WebError> {
    let host = place.address.host();
    let reach = |cause| WebError::Reach { host: host.to_owned(), cause };
    let broken = |cause: String| WebError::Broken { host: host.to_owned(), cause };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| broken(error.to_string()))?;
    let tcp = TcpStream::connect((host, place.address.port())).await.map_err(reach)?;
    let tls = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await.map_err(reach)?;
    let shake = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await;
    let (mut sender, connection) = shake.map_err(|error| broken(error.to_string()))?;
    let driver = tokio::spawn(connection);
    let request = Request::get(&place.path)
        .header(HOST, place.address.authority())
        .header(USER_AGENT, concat!("lychgate/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(error.to_string()))?;
    let reply = sender.send_request(request).await.map_err(|error| broken(error.to_string()))?;
    let answer = match reply.status() {
        StatusCode::OK => {
            let body = Limited::new(reply.into_body(), BODY_MAX).collect().await;
            Ok(Answer::Document(body.map_err(|error| unread(&*error, &broken))?.to_bytes()))
        }
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => {
            let location = reply.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            location.map(|location| Answer::Elsewhere(location.to_owned())).ok_or(WebError::Status(reply.status()))
        }
        status => Err(WebError::Status(status)),
    };
    driver.abort();
    answer
}

fn unread(error: &(dyn std::error::Error + Send + Sync + 'static), broken: &impl Fn(String) -> WebError) -> WebError {
    if error.is::<http_body_util::LengthLimitError>() { WebError::Long } else { broken(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let place = |url: &str| HttpsUrl::parse(url).map(|place| (place.address.to_string(), place.path));
        assert_eq!(place("https://a.example/x?y=1").unwrap(), ("a.example:443".to_owned(), "/x?y=1".to_owned()));
        assert_eq!(place("https://a.example:8443").unwrap(), ("a.example:8443".to_owned(), "/".to_owned()));
        for bad in
            ["http://a.example/", "a.example", "https://", "https://u:p@a.example/", "ftp://a.example/", "https://a b/"]
        {
            assert!(matches!(place(bad), Err(WebError::Url(_))), "{bad}");
        }
    }

    #[test]
    fn redirects_stay_with_https() {
        let here = HttpsUrl::parse("https://a.example/x").unwrap();
        let moved = |location: &str| here.moved(location).map(|place| format!("{}{}", place.address, place.path)).ok();
        assert_eq!(moved("/y").as_deref(), Some("a.example:443/y"));
        assert_eq!(moved("https://b.example/z").as_deref(), Some("b.example:443/z"));
        for bad in ["http://b.example/", "//b.example/", "y", "", "file:///etc/passwd", "/y z"] {
            assert_eq!(moved(bad), None, "{bad}");
        }
    }
}
