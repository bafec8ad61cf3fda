//! One HTTPS connection to a gateway: HTTP/1.1 over TLS 1.3, with time limits.

mod dial;
mod error;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::AlertDescription;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wire::enroll::{ChallengeReply, EvidenceChallenge};
use wire::problem::{PROBLEM_TYPE, Problem};

use self::dial::shake;
pub use self::dial::{CONNECT_LIMIT, TlsClient, dial, explain};
pub use self::error::{CallError, NetError};
use self::error::{alert, is_rejection};
use crate::core::enrollment::Challenge;
use crate::core::proof::Exporter;
use crate::core::target::Address;
use crate::text::report::Refusal;

/// Time limit of a request: a long poll of 25 s, and time for a slow network.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(40);

/// How long to wait for a TLS alert after a connection broke.
const REASON_LIMIT: Duration = Duration::from_secs(3);

/// An open connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<Option<hyper::Error>>,
    exporter: Exporter,
    address: Address,
    manners: TlsClient,
    requests: u32,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A complete reply.
#[derive(Debug)]
pub struct HttpReply {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
    is_problem: bool,
    retry_after: Option<Duration>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct HttpRequest<'a> {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// Path and query.
    pub path: &'a str,
    /// A proof of possession.
    pub proof: Option<String>,
    /// A JSON body.
    pub body: Option<Vec<u8>>,
}

impl Connection {
    /// Opens a connection.
    pub async fn open(address: &Address, manners: &TlsClient) -> Result<Self, NetError> {
        let tls = dial(address, manners).await?;
        let mut exporter = Exporter::default();
        tls.get_ref()
            .1
            .export_keying_material(&mut exporter, wire::evidence::EXPORTER_LABEL, Some(&[]))
            .map_err(|e| NetError::Setup(e.to_string()))?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|e| NetError::Broken { address: address.clone(), cause: e.to_string() })?;
        let driver = tokio::spawn(async move { connection.await.err() });
        Ok(Self { sender, driver, exporter, address: address.clone(), manners: manners.clone(), requests: 0 })
    }

    /// The exporter value, to which proofs are bound (RFC 9266).
    #[must_use]
    pub fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// Whether it has carried a reply before. If it breaks now, the gateway may have closed it because it was idle.
    #[must_use]
    pub fn was_used(&self) -> bool {
        self.requests > 0
    }

    /// Sends a request and reads its reply, within [`REQUEST_LIMIT`].
    pub async fn call(&mut self, ask: HttpRequest<'_>) -> Result<HttpReply, NetError> {
        let request = self.request(ask)?;
        let exchange = async {
            self.sender.ready().await.map_err(ExchangeError::Http)?;
            let response = self.sender.send_request(request).await.map_err(ExchangeError::Http)?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, wire::limits::REPLY_BODY_MAX).collect().await.map_err(ExchangeError::Body)?;
            Ok((parts, body.to_bytes()))
        };
        let outcome = timeout(REQUEST_LIMIT, exchange).await;
        match outcome {
            Ok(Ok((parts, body))) => {
                self.requests = self.requests.saturating_add(1);
                Ok(reply(&parts, body))
            }
            Ok(Err(failure)) => Err(self.explain(failure).await),
            Err(_) => {
                Err(NetError::Slow { address: self.address.clone(), what: "did not answer within 40 s", sent: true })
            }
        }
    }

    fn request(&self, ask: HttpRequest<'_>) -> Result<http::Request<Full<Bytes>>, NetError> {
        let mut request = http::Request::builder()
            .method(ask.method)
            .uri(ask.path)
            .header(http::header::HOST, self.address.authority())
            .header(http::header::USER_AGENT, concat!("lychgate/", env!("CARGO_PKG_VERSION")))
            .header(http::header::ACCEPT, "application/json");
        if let Some(proof) = ask.proof {
            request = request.header(wire::evidence::PROOF_HEADER, proof);
        }
        // Requests that change something must have a JSON content type, even without body: the gateway uses it against cross-site
        // requests of web pages.
        if ask.method != "GET" {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        request
            .body(Full::new(Bytes::from(ask.body.unwrap_or_default())))
            .map_err(|e| NetError::Setup(format!("cannot ask for `{}`: {e}", ask.path)))
    }

    /// Finds the cause of a failed request. The task that drives the connection may have it. If the gateway refused our certificate
    /// and closed at once, a TCP reset may have discarded the alert, so a second handshake gets it again.
    async fn explain(&mut self, failure: ExchangeError) -> NetError {
        let address = self.address.clone();
        if let ExchangeError::Body(error) = &failure
            && error.is::<http_body_util::LengthLimitError>()
        {
            return NetError::Nonsense { address, what: "the answer is far too long".into() };
        }
        let driver = match timeout(REASON_LIMIT, &mut self.driver).await {
            Ok(Ok(error)) => error,
            Ok(Err(_)) | Err(_) => None,
        };
        let heard = failure.alert().or_else(|| driver.as_ref().and_then(|error| alert(error)));
        let heard = match heard {
            None if self.manners.shows_certificate && self.requests == 0 => self.listen_for_alert().await,
            heard => heard,
        };
        match heard {
            Some(alert) if is_rejection(alert) => {
                NetError::Rejected { address, alert, showed_certificate: self.manners.shows_certificate }
            }
            _ if failure.is_parse_error() => NetError::Nonsense { address, what: failure.to_string() },
            _ => NetError::Broken { address, cause: failure.to_string() },
        }
    }

    /// Makes another handshake and reads: a gateway that refuses our certificate sends an alert.
    async fn listen_for_alert(&self) -> Option<AlertDescription> {
        let listen = async {
            let mut tls = shake(&self.address, &self.manners).await.ok()?;
            tls.read(&mut [0; 1]).await.err().and_then(|e| alert(&e))
        };
        timeout(REASON_LIMIT, listen).await.ok().flatten()
    }
}

/// What failed in an exchange.
enum ExchangeError {
    Http(hyper::Error),
    Body(Box<dyn std::error::Error + Send + Sync>),
}

impl ExchangeError {
    fn alert(&self) -> Option<AlertDescription> {
        match self {
            Self::Http(error) => alert(error),
            Self::Body(error) => alert(error.as_ref()),
        }
    }

    fn is_parse_error(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_parse())
    }
}

impl std::fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut error: &(dyn std::error::Error + 'static) = match self {
            Self::Http(error) => error,
            Self::Body(error) => error.as_ref(),
        };
        // The innermost cause is the most specific.
        while let Some(source) = error.source() {
            error = source;
        }
        write!(f, "{error}")
    }
}

fn reply(parts: &http::response::Parts, body: Bytes) -> HttpReply {
    let header = |name| parts.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    HttpReply {
        status: parts.status.as_u16(),
        is_problem: header(http::header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with(PROBLEM_TYPE)),
        retry_after: header(http::header::RETRY_AFTER)
            .and_then(|secs| secs.trim().parse().ok())
            .map(Duration::from_secs),
        body,
    }
}

impl HttpReply {
    /// Decodes the body of a success. A refusal is [`CallError::Refused`].
    pub fn decode<T: serde::de::DeserializeOwned>(&self, address: &Address) -> Result<T, CallError> {
        if !(200..300).contains(&self.status) {
            return Err(CallError::Refused(Box::new(self.refusal())));
        }
        // `204 No Content` and an empty `200` are read as an empty object.
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(body).map_err(|e| {
            CallError::Net(NetError::Nonsense { address: address.clone(), what: format!("HTTP {}, {e}", self.status) })
        })
    }

    /// The challenge in a `401`; `None` if it is a problem document.
    #[must_use]
    pub fn challenge(&self) -> Option<Challenge> {
        if self.status != 401 {
            return None;
        }
        let ChallengeReply { challenges, ticket, .. } = serde_json::from_slice(&self.body).ok()?;
        let asks = challenges.into_iter().map(|EvidenceChallenge { kind, body }| (kind, body)).collect();
        Some(Challenge { asks, ticket })
    }

    /// The problem document. A reply without one may come from a proxy in between.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let problem: Option<Problem> = self.is_problem.then(|| serde_json::from_slice(&self.body).ok()).flatten();
        match problem {
            Some(problem) => Refusal {
                status: self.status,
                code: problem.code().to_owned(),
                detail: if problem.detail.is_empty() { problem.title.clone() } else { problem.detail.clone() },
                hint: problem.hint.clone(),
                instance: problem.instance.clone(),
                retry_after: problem.retry_after.map(Duration::from_secs).or(self.retry_after),
                rules: problem.rules,
            },
            None => Refusal {
                status: self.status,
                code: format!("http-{}", self.status),
                detail: format!(
                    "the gateway, or something in front of it, answered HTTP {} without saying why",
                    self.status
                ),
                hint: None,
                instance: String::new(),
                retry_after: self.retry_after,
                rules: vec![],
            },
        }
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
