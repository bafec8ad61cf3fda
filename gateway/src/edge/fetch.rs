//! Fetches a document by https, such as an issuer's keys. The address is the configuration's, never a requester's, but for the name of a
//! machine that may stand in its path; the gateway calls nobody else. One request: no redirects, no proxy, within limits of size and
//! time, to public addresses unless the section says otherwise, and to a server whose certificate is by the CAs of the system, or by
//! those that the section names.
#![expect(clippy::disallowed_methods, reason = "the one place from which the gateway calls somebody")]

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    core::evidence::HttpsUrl,
    ports::{documents::Fetch, files},
};

#[cfg(test)]
mod tests;

/// Largest answer, in bytes. Key sets have up to 20 KiB, with certificates beside the keys.
const ANSWER_MAX: usize = 64 * 1024;

/// Most addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the name cannot be resolved: {0}")]
    Resolve(io::Error),
    #[error("it leads to {0}, a private address; `private_network = true` allows that")]
    Private(SocketAddr),
    #[error("the name has no address")]
    NoAddress,
    #[error("the CAs for its certificate cannot be read: {0}")]
    Cas(String),
    #[error("no connection to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("HTTP: {0}")]
    Http(String),
    #[error("the answer is {0}, and only 200 is taken; redirects are not followed")]
    Status(http::StatusCode),
    #[error("the answer is longer than {ANSWER_MAX} bytes")]
    TooLong,
}

/// How documents are fetched in this program. Who calls it limits the time.
#[must_use]
pub fn fetcher() -> Box<Fetch> {
    Box::new(|url| Box::pin(async move { fetch(&url).await.map_err(|error| error.to_string()) }))
}

async fn fetch(url: &HttpsUrl) -> Result<Vec<u8>, FetchError> {
    let ca = url.ca.clone();
    let tls = tokio::task::spawn_blocking(move || tls(ca.as_deref())).await;
    let tls = tls.map_err(|error| FetchError::Cas(error.to_string())).flatten()?;
    let stream = connect(url).await?;
    let name = ServerName::try_from(url.host.clone()).map_err(|error| FetchError::Tls(io::Error::other(error)))?;
    let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(FetchError::Tls)?;
    ask(url, stream).await
}

/// Connects to the first address that answers. The name is resolved once, and what was checked is what is connected to.
async fn connect(url: &HttpsUrl) -> Result<TcpStream, FetchError> {
    let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await.map_err(FetchError::Resolve)?;
    let (mut refused, mut tried) = (None, 0);
    for address in found {
        if !url.reach.admits(address.ip()) {
            refused.get_or_insert(FetchError::Private(address));
            continue;
        }
        if tried == ADDRESSES_MAX {
            break;
        }
        tried += 1;
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = Some(FetchError::Connect(address, error)),
        }
    }
    Err(refused.unwrap_or(FetchError::NoAddress))
}

/// One request, and its answer.
async fn ask(url: &HttpsUrl, stream: TlsStream<TcpStream>) -> Result<Vec<u8>, FetchError> {
    let broken = |error: hyper::Error| FetchError::Http(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = http::Request::get(&url.path)
        .header(http::header::HOST, url.authority())
        .header(http::header::ACCEPT, "application/json")
        .header(http::header::USER_AGENT, concat!("lychgate-gateway/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| FetchError::Http(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => broken(*error),
            Err(_) => FetchError::TooLong,
        })?;
        Ok(body.to_bytes().to_vec())
    };
    // the connection is driven here, so that it ends with the exchange, or with whoever gave up waiting for it
    tokio::pin!(exchange, connection);
    tokio::select! {
        outcome = &mut exchange => outcome,
        ended = &mut connection => match ended {
            // what has come already is read
            Ok(()) => exchange.await,
            Err(error) => Err(broken(error)),
        },
    }
}

/// Trusts the CAs in a file, or those of the system.
fn tls(ca: Option<&Path>) -> Result<Arc<ClientConfig>, FetchError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let pem = files::read_text(path).map_err(|error| FetchError::Cas(error.to_string()))?;
            for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let der = der.map_err(|error| FetchError::Cas(format!("{}: {error}", path.display())))?;
                roots.add(der).map_err(|error| FetchError::Cas(format!("{}: {error}", path.display())))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            // a system has some that are not read; whether one is missed is seen in the handshake
            let _ = roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        let place = ca.map_or_else(|| "the system has none".to_owned(), |path| format!("{} has none", path.display()));
        return Err(FetchError::Cas(place));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| FetchError::Cas(error.to_string()))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}
