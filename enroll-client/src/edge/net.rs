//! One HTTPS connection to a gateway: TLS 1.3 only, HTTP/1.1, every wait with a limit, every failure in words.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};
use rustls::{AlertDescription, ClientConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wire::problem::{PROBLEM_TYPE, Problem};

use super::clock::LocalClock;
use super::keystore::Credential;
use crate::core::proof::Exporter;
use crate::core::target::Address;
use crate::core::trust::{Distrust, Shown, Verdict};
use crate::text::report::{Complaint, Exit, Refusal};

/// Longest time to look up, connect and shake hands.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Least time given to one of several addresses of a name before the next is tried.
const ADDRESS_LEAST: Duration = Duration::from_secs(2);

/// Longest time for a request: a long poll of 25 s and a slow line.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(40);

/// How long to listen for the reason after a connection broke.
const REASON_LIMIT: Duration = Duration::from_secs(3);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The name is unknown.
    #[error("cannot find `{host}`: {cause}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver said.
        cause: io::Error,
    },
    /// Nobody listens there, or the way is blocked.
    #[error("cannot reach {address}: {cause}")]
    Connect {
        /// Where.
        address: Address,
        /// What the system said.
        cause: io::Error,
    },
    /// Something took too long.
    #[error("{address} {what}")]
    Slow {
        /// Where.
        address: Address,
        /// What did not happen.
        what: &'static str,
        /// Whether a request was on its way by then.
        sent: bool,
    },
    /// It is not the gateway we expect.
    #[error(transparent)]
    Distrust(Distrust),
    /// The TLS handshake failed for another reason.
    #[error("no TLS with {address}: {cause}")]
    Tls {
        /// Where.
        address: Address,
        /// What rustls said.
        cause: String,
    },
    /// The other side hung up in the middle of the handshake.
    #[error("{address} hung up before TLS was there: {cause}")]
    Cut {
        /// Where.
        address: Address,
        /// What the system said.
        cause: String,
    },
    /// The gateway did not take our certificate (or that we have none). Under TLS 1.3 this is heard at the first read only.
    #[error("{}", rejection(address, *alert, *showed_certificate))]
    Rejected {
        /// Where.
        address: Address,
        /// The reason the gateway gave.
        alert: AlertDescription,
        /// Whether we showed a certificate.
        showed_certificate: bool,
    },
    /// The connection broke.
    #[error("the connection to {address} broke: {cause}")]
    Broken {
        /// Where.
        address: Address,
        /// How.
        cause: String,
    },
    /// The answer is no answer of ours.
    #[error("{address} does not answer like a gateway: {what}")]
    Nonsense {
        /// Where.
        address: Address,
        /// What is wrong with it.
        what: String,
    },
    /// TLS could not be set up on our side.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

/// What a rejection means, in words.
fn rejection(address: &Address, alert: AlertDescription, showed_certificate: bool) -> String {
    if showed_certificate && alert == AlertDescription::CertificateExpired {
        format!("the gateway {address} says that our certificate has expired")
    } else if showed_certificate {
        let alert = format!("{alert:?}");
        format!("the gateway {address} rejected our certificate (expired, revoked or from another gateway; {alert})")
    } else {
        format!("{address} asks for a certificate: it is a gateway's manage or proxy face, not its enroll face")
    }
}

impl NetError {
    /// Whether a request may have arrived.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Nonsense { .. } => true,
            Self::Slow { sent, .. } => *sent,
            Self::Lookup { .. }
            | Self::Connect { .. }
            | Self::Distrust(_)
            | Self::Tls { .. }
            | Self::Cut { .. }
            | Self::Rejected { .. }
            | Self::Setup(_) => false,
        }
    }

    /// Whether it is what a crowd that comes at once is met with.
    #[must_use]
    pub fn is_load(&self) -> bool {
        matches!(self, Self::Cut { .. } | Self::Slow { .. } | Self::Broken { .. })
    }

    /// Whether trying again may help without anybody doing anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Lookup { .. }
            | Self::Connect { .. }
            | Self::Slow { .. }
            | Self::Broken { .. }
            | Self::Cut { .. }
            | Self::Tls { .. } => true,
            Self::Distrust(_) | Self::Rejected { .. } | Self::Nonsense { .. } | Self::Setup(_) => false,
        }
    }
}

impl From<NetError> for Complaint {
    fn from(error: NetError) -> Self {
        let what = error.to_string();
        let (exit, code, hint) = match error {
            NetError::Distrust(distrust) => return distrust.into(),
            NetError::Lookup { .. } => {
                (Exit::Unreachable, "unreachable", "check the gateway's name and this machine's DNS")
            }
            NetError::Connect { address, .. } if address.port() == 443 => (
                Exit::Unreachable,
                "unreachable",
                "check the address and port: without one it is 443, and a gateway listens on 8443 unless it is told otherwise",
            ),
            NetError::Connect { .. } | NetError::Slow { sent: false, .. } => {
                (Exit::Unreachable, "unreachable", "check the address and port, and that the gateway runs")
            }
            NetError::Slow { .. } | NetError::Broken { .. } => {
                (Exit::Unreachable, "unreachable", "try again; asking twice does no harm")
            }
            NetError::Cut { .. } => (
                Exit::Unreachable,
                "turned-away",
                "the gateway may be too busy, or have too many callers from here: try again in a minute; if it stays so, check that \
                 the port is a gateway's",
            ),
            NetError::Tls { .. } => {
                (Exit::Unreachable, "tls", "check that the port is a gateway's, and nothing in between takes TLS apart")
            }
            NetError::Rejected { alert, showed_certificate: true, .. } => {
                let exit = if alert == AlertDescription::CertificateExpired { Exit::Expired } else { Exit::Refused };
                (
                    exit,
                    "rejected",
                    "`lychgate status` shows the certificate; `lychgate join` rejoins when it has expired",
                )
            }
            NetError::Rejected { .. } => (Exit::Refused, "rejected", "use the address and port of the enroll face"),
            NetError::Nonsense { .. } => (Exit::Failure, "bad-reply", "check that the address is a gateway's"),
            NetError::Setup(_) => (Exit::Failure, "tls", "the identity's files may be damaged; see `lychgate status`"),
        };
        Self::new(exit, code, what).hint(hint)
    }
}

/// The algorithms of every connection: X25519MLKEM768 first, so that what is recorded today is not read tomorrow.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..rustls::crypto::aws_lc_rs::default_provider()
    })
}

/// How to shake hands: whom to believe, and who we are.
#[derive(Clone)]
pub struct Manners {
    config: Arc<ClientConfig>,
    verdict: Verdict,
    shows_certificate: bool,
}

impl Manners {
    /// Without a certificate, for the enroll face.
    ///
    /// # Errors
    /// When rustls does not like its configuration.
    pub fn anonymous(verdict: Verdict) -> Result<Self, NetError> {
        let config = Self::builder(&verdict)?.with_no_client_auth();
        Ok(Self::finish(config, verdict, false))
    }

    /// With the certificate of this machine or person, for the manage face.
    ///
    /// # Errors
    /// When rustls does not like the certificate or its key.
    pub fn identified(verdict: Verdict, credential: &Credential) -> Result<Self, NetError> {
        let chain = std::iter::once(&credential.leaf).chain(&credential.chain);
        let chain = chain.map(|der| CertificateDer::from(der.clone())).collect();
        let config = Self::builder(&verdict)?
            .with_client_auth_cert(chain, credential.key.to_der())
            .map_err(|e| NetError::Setup(e.to_string()))?;
        Ok(Self::finish(config, verdict, true))
    }

    fn builder(
        verdict: &Verdict,
    ) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, NetError> {
        Ok(ClientConfig::builder_with_details(provider(), Arc::new(LocalClock))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| NetError::Setup(e.to_string()))?
            // Ours checks more than the usual one: the pin, the role and the trust domain.
            .dangerous()
            .with_custom_certificate_verifier(verdict.verifier()))
    }

    /// The same, for another protocol than HTTP (RFC 7301).
    #[must_use]
    pub fn speaking(self, protocol: &[u8]) -> Self {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Self { config: Arc::new(config), ..self }
    }

    /// The certificate by which the gateway was believed in the last handshake.
    #[must_use]
    pub fn shown(&self) -> Option<Shown> {
        self.verdict.shown()
    }

    fn finish(mut config: ClientConfig, verdict: Verdict, shows_certificate: bool) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session would show no certificates; connections are rare enough to shake hands in full.
        config.resumption = rustls::client::Resumption::disabled();
        Self { config: Arc::new(config), verdict, shows_certificate }
    }
}

/// An open connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<Option<hyper::Error>>,
    exporter: Exporter,
    address: Address,
    manners: Manners,
    requests: u32,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
    is_problem: bool,
    retry_after: Option<Duration>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// Path and query.
    pub path: &'a str,
    /// A proof of possession.
    pub proof: Option<String>,
    /// A JSON body.
    pub body: Option<Vec<u8>>,
}

/// Connects and shakes hands, within [`CONNECT_LIMIT`]: a connection for something else than requests.
///
/// # Errors
/// When there is none, or it is not the gateway we expect, or it does not speak the protocol.
pub async fn dial(address: &Address, manners: &Manners) -> Result<TlsStream<TcpStream>, NetError> {
    let slow =
        |_| NetError::Slow { address: address.clone(), what: "did not finish connecting within 10 s", sent: false };
    timeout(CONNECT_LIMIT, shake(address, manners)).await.map_err(slow)?
}

/// Finds out why the first read on a connection of [`dial`] failed: under TLS 1.3 a certificate that is not taken is heard
/// of only then.
#[must_use]
pub fn explain(address: &Address, manners: &Manners, error: &(dyn std::error::Error + 'static)) -> NetError {
    match alert(error) {
        Some(alert) if is_rejection(alert) => {
            NetError::Rejected { address: address.clone(), alert, showed_certificate: manners.shows_certificate }
        }
        _ => NetError::Broken { address: address.clone(), cause: error.to_string() },
    }
}

/// Connects and shakes hands.
async fn shake(address: &Address, manners: &Manners) -> Result<TlsStream<TcpStream>, NetError> {
    let name = ServerName::try_from(address.host().to_owned())
        .map_err(|_| NetError::Setup(format!("`{}` is no host name", address.host())))?;
    let tcp = reach(address).await?;
    // Small requests must not wait for each other; without it they are merely slower.
    let _ = tcp.set_nodelay(true);
    match TlsConnector::from(Arc::clone(&manners.config)).connect(name, tcp).await {
        Ok(tls) => Ok(tls),
        Err(e) => Err(match (manners.verdict.take(), alert(&e)) {
            (Some(distrust), _) => NetError::Distrust(distrust.at(address)),
            (None, Some(alert)) if is_rejection(alert) => {
                NetError::Rejected { address: address.clone(), alert, showed_certificate: manners.shows_certificate }
            }
            (None, _) if is_cut(&e) => NetError::Cut { address: address.clone(), cause: e.to_string() },
            (None, _) => NetError::Tls { address: address.clone(), cause: e.to_string() },
        }),
    }
}

/// Whether the other side went away, rather than saying something that is no TLS.
fn is_cut(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// A TCP connection to the first address of the host that answers.
async fn reach(address: &Address) -> Result<TcpStream, NetError> {
    let host = address.host();
    let found: Vec<_> = tokio::net::lookup_host((host, address.port()))
        .await
        .map_err(|cause| NetError::Lookup { host: host.to_owned(), cause })?
        .collect();
    let share = u32::try_from(found.len().max(1)).unwrap_or(u32::MAX);
    let each = (CONNECT_LIMIT / share).max(ADDRESS_LEAST);
    let mut cause = io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
    for socket in found {
        match timeout(each, TcpStream::connect(socket)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => cause = e,
            Err(_) => cause = io::Error::new(io::ErrorKind::TimedOut, "no answer"),
        }
    }
    Err(NetError::Connect { address: address.clone(), cause })
}

impl Connection {
    /// Opens a connection.
    ///
    /// # Errors
    /// When there is none, or it is not the gateway we expect.
    pub async fn open(address: &Address, manners: &Manners) -> Result<Self, NetError> {
        let tls = dial(address, manners).await?;
        let mut exporter = Exporter::default();
        tls.get_ref()
            .1
            .export_keying_material(&mut exporter, wire::enroll::EXPORTER_LABEL, Some(&[]))
            .map_err(|e| NetError::Setup(e.to_string()))?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|e| NetError::Broken { address: address.clone(), cause: e.to_string() })?;
        let driver = tokio::spawn(async move { connection.await.err() });
        Ok(Self { sender, driver, exporter, address: address.clone(), manners: manners.clone(), requests: 0 })
    }

    /// The value that binds proofs to this connection.
    #[must_use]
    pub fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// Whether it has answered before: if it breaks now, it may just have been closed for idleness.
    #[must_use]
    pub fn was_used(&self) -> bool {
        self.requests > 0
    }

    /// One request and its answer, within [`REQUEST_LIMIT`].
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn call(&mut self, ask: Ask<'_>) -> Result<Reply, NetError> {
        let request = self.request(ask)?;
        let exchange = async {
            self.sender.ready().await.map_err(Failure::Http)?;
            let response = self.sender.send_request(request).await.map_err(Failure::Http)?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, wire::limits::REPLY_BODY_MAX).collect().await.map_err(Failure::Body)?;
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

    fn request(&self, ask: Ask<'_>) -> Result<http::Request<Full<Bytes>>, NetError> {
        let mut request = http::Request::builder()
            .method(ask.method)
            .uri(ask.path)
            .header(http::header::HOST, self.address.authority())
            .header(http::header::USER_AGENT, concat!("lychgate/", env!("CARGO_PKG_VERSION")))
            .header(http::header::ACCEPT, "application/json");
        if let Some(proof) = ask.proof {
            request = request.header(wire::enroll::PROOF_HEADER, proof);
        }
        // What changes something is declared as JSON, body or not: that is how the gateway tells us from a web page.
        if ask.method != "GET" {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        request
            .body(Full::new(Bytes::from(ask.body.unwrap_or_default())))
            .map_err(|e| NetError::Setup(format!("cannot ask for `{}`: {e}", ask.path)))
    }

    /// Finds out why a request failed. The reason may lie with the task that drives the connection; and when the gateway
    /// refused our certificate and closed at once, a reset may have swallowed the alert, so it is asked for once more.
    async fn explain(&mut self, failure: Failure) -> NetError {
        let address = self.address.clone();
        if let Failure::Body(error) = &failure
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

    /// Shakes hands again and only listens: a gateway that does not like our certificate says so.
    async fn listen_for_alert(&self) -> Option<AlertDescription> {
        let listen = async {
            let mut tls = shake(&self.address, &self.manners).await.ok()?;
            tls.read(&mut [0; 1]).await.err().and_then(|e| alert(&e))
        };
        timeout(REASON_LIMIT, listen).await.ok().flatten()
    }
}

/// What failed in an exchange.
enum Failure {
    Http(hyper::Error),
    Body(Box<dyn std::error::Error + Send + Sync>),
}

impl Failure {
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

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut error: &(dyn std::error::Error + 'static) = match self {
            Self::Http(error) => error,
            Self::Body(error) => error.as_ref(),
        };
        // The innermost cause says most.
        while let Some(source) = error.source() {
            error = source;
        }
        write!(f, "{error}")
    }
}

/// The TLS alert somewhere below an error, if that is the cause.
fn alert(error: &(dyn std::error::Error + 'static)) -> Option<AlertDescription> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(|io| io.get_ref());
        let tls = error
            .downcast_ref::<rustls::Error>()
            .or_else(|| inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()));
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            return Some(*alert);
        }
        next = error.source();
    }
    None
}

/// Whether an alert is about the certificate we showed or did not show (RFC 8446 6.2).
fn is_rejection(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            // What rustls says of a chain whose issuer has our CA's name and another key.
            | AlertDescription::DecryptError
    )
}

fn reply(parts: &http::response::Parts, body: Bytes) -> Reply {
    let header = |name| parts.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    Reply {
        status: parts.status.as_u16(),
        is_problem: header(http::header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with(PROBLEM_TYPE)),
        retry_after: header(http::header::RETRY_AFTER)
            .and_then(|secs| secs.trim().parse().ok())
            .map(Duration::from_secs),
        body,
    }
}

impl Reply {
    /// The body of a success, decoded; or the refusal.
    ///
    /// # Errors
    /// When the gateway refused, or the body is not what it should be.
    pub fn decode<T: serde::de::DeserializeOwned>(&self, address: &Address) -> Result<T, CallError> {
        if !(200..300).contains(&self.status) {
            return Err(CallError::Refused(Box::new(self.refusal())));
        }
        // `204 No Content` and an empty `200` mean "done".
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(body).map_err(|e| {
            CallError::Net(NetError::Nonsense { address: address.clone(), what: format!("HTTP {}, {e}", self.status) })
        })
    }

    /// The problem in it. Something in between, such as a proxy, may have answered without one.
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

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The gateway said no.
    #[error("{}", .0.detail)]
    Refused(Box<Refusal>),
}

impl From<CallError> for Complaint {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Net(error) => error.into(),
            CallError::Refused(refusal) => refusal.complaint(),
        }
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
