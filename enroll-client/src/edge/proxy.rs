//! Connections to the proxy face: each carries many streams, each to a service on a machine.

mod drive;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pki::{Identity, Name, Role};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use transport::frame::{read_frame, write_frame};
use transport::mux::Stream;
use transport::streams::{StreamCount, StreamGuard};
use wire::problem::Problem;
use wire::tunnel::{Mode, Reach, Reached, STREAMS_ALPN};

use self::drive::StreamsDriver;
use super::dial_back::{DialBackTicket, Movable, Origin, finish, movable};
use super::keystore::Credential;
use super::link::link;
use super::net::{CallError, NetError, TlsClient, dial};
use super::notices::SessionNotices;
use super::sealed;
use super::tunnel::exporter_of;
use super::verifier::GatewayVerifier;
use crate::core::helper::Helper;
use crate::core::offset::Offset;
use crate::core::services::Sealing;
use crate::core::target::Address;
use crate::text::report::Refusal;

/// Most streams on one connection, which is the gateway's limit.
pub const STREAMS_MOST: usize = 250;

/// Time limit for the gateway's reply to a request for a stream: it waits for the machine, and the machine for its service.
const REACH_TIME: Duration = Duration::from_secs(30);

/// Gives the current identity and the offset of the gateway's clock; `None` when the folder cannot be read.
pub type IdentitySource = Arc<dyn Fn() -> Option<(Arc<Credential>, Offset)> + Send + Sync>;

/// A connection to the proxy face.
pub struct Streams {
    wanted: mpsc::Sender<oneshot::Sender<Stream>>,
    driver: JoinHandle<()>,
    notices: Arc<SessionNotices>,
    open: StreamCount,
    address: Address,
    credential: Arc<Credential>,
    offset: Offset,
    origin: Origin,
    carries: Carries,
    abandoned: mpsc::Sender<String>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// One stream, which never moves to another connection.
    One,
    /// Many streams; one that carries much data moves to a connection of its own.
    Many,
}

/// An open stream to a service.
pub struct ServiceStream {
    /// The id of the session.
    pub session: String,
    /// Whether the gateway carries ciphertext only.
    pub mode: Mode,
    /// The gateway's notices about the sessions of the connection.
    pub notices: Arc<SessionNotices>,
    io: Io,
    abandoned: mpsc::Sender<String>,
    _guard: StreamGuard,
}

enum Io {
    Raw(Box<Movable>),
    Sealed(Box<TlsStream<Movable>>),
}

impl ServiceStream {
    /// To be called when the stream or the program's connection broke: reports it to the gateway.
    pub async fn abandon(&self) {
        let _ = self.abandoned.send(self.session.clone()).await;
    }

    /// To be called when both directions have ended without error.
    pub async fn finish(&mut self) {
        match &mut self.io {
            Io::Raw(stream) => finish(stream).await,
            Io::Sealed(tls) => finish(tls.get_mut().0).await,
        }
    }
}

impl AsyncRead for ServiceStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Raw(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
            Io::Sealed(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ServiceStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Raw(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
            Io::Sealed(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Raw(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Io::Sealed(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Raw(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Io::Sealed(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

impl Streams {
    /// Connects with the certificate of `credential`.
    pub async fn dial(
        credential: Arc<Credential>,
        address: Address,
        offset: Offset,
        identity: IdentitySource,
        carries: Carries,
    ) -> Result<Self, NetError> {
        let verifier = GatewayVerifier::new(credential.expected(), address.host());
        let manners = TlsClient::identified(verifier, &credential)?.speaking(STREAMS_ALPN);
        let tls = dial(&address, &manners).await?;
        if tls.get_ref().1.alpn_protocol() != Some(STREAMS_ALPN) {
            let what = "it is not a gateway's proxy face".to_owned();
            return Err(NetError::Nonsense { address, what });
        }
        let (wanted, requests) = mpsc::channel(1);
        let (abandoned, gone) = mpsc::channel(STREAMS_MOST);
        let (notices, open) = (Arc::<SessionNotices>::default(), StreamCount::default());
        let exporter = exporter_of(&tls)?;
        let driver = StreamsDriver {
            // Six more for the control stream and for ended streams whose end the gateway has not processed yet.
            link: link(tls, STREAMS_MOST + 6),
            state: Helper::new(credential.serial, Duration::ZERO),
            began: Instant::now(),
            requests,
            abandoned: gone,
            notices: Arc::clone(&notices),
            open: open.clone(),
            client: manners,
            exporter,
            address: address.clone(),
            identity: Arc::clone(&identity),
        };
        let driver = tokio::spawn(driver.drive());
        let to = address.clone();
        let origin: Origin = Arc::new(move || identity().map(|(credential, _)| (credential, to.clone())));
        Ok(Self { wanted, driver, notices, open, address, credential, offset, origin, carries, abandoned })
    }

    /// The serial of the certificate last proven on this connection.
    #[must_use]
    pub fn serial(&self) -> pki::Serial {
        self.notices.proven().unwrap_or_else(|| self.credential.serial)
    }

    /// Whether another stream can be opened.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.driver.is_finished() && !self.notices.drains() && self.open.open() < STREAMS_MOST
    }

    /// The number of open streams.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.open()
    }

    /// Opens a stream to a service.
    pub async fn reach(&self, service: &str, machine: &Name, sealing: Sealing) -> Result<ServiceStream, CallError> {
        let slow = |_| {
            let what = "did not answer within 30 s";
            CallError::Net(NetError::Slow { address: self.address.clone(), what, sent: true })
        };
        let guard = self.open.take(STREAMS_MOST).ok_or_else(|| self.why(&io::Error::other("it has no room")))?;
        let (stream, reached) = timeout(REACH_TIME, self.ask(service, machine)).await.map_err(slow)??;
        let (session, mode, ticket) = match reached {
            Reached::Refused { problem } => return Err(CallError::Refused(Box::new(refusal(*problem)))),
            Reached::Ok { session, mode, dial_back, dial_back_at, end_is_said: _ } => {
                (session, mode, DialBackTicket::new(dial_back.as_deref(), dial_back_at.as_deref()))
            }
        };
        if let Err(refusal) = sealing.check(service, machine, mode) {
            let _ = self.abandoned.send(session).await;
            return Err(CallError::Refused(refusal));
        }
        let stream = movable(stream, ticket.filter(|_| self.carries == Carries::Many), &self.origin);
        let io = match mode {
            Mode::Raw => Io::Raw(Box::new(stream)),
            Mode::Sealed => {
                let credential = (self.origin)().map_or_else(|| Arc::clone(&self.credential), |(newest, _)| newest);
                let machine =
                    Identity { domain: credential.domain().clone(), role: Role::Machine, name: machine.clone() };
                let offset = self.notices.offset().unwrap_or(self.offset);
                let tls = timeout(REACH_TIME, sealed::open(stream, &credential, &machine, offset))
                    .await
                    .map_err(slow)?
                    .map_err(|error| {
                        CallError::Net(NetError::Broken {
                            address: self.address.clone(),
                            cause: format!("the machine's agent is not {machine}, or will not have us: {error}"),
                        })
                    })?;
                Io::Sealed(Box::new(tls))
            }
        };
        let (notices, abandoned) = (Arc::clone(&self.notices), self.abandoned.clone());
        Ok(ServiceStream { session, mode, notices, io, abandoned, _guard: guard })
    }

    async fn ask(&self, service: &str, machine: &Name) -> Result<(Stream, Reached), CallError> {
        let reach = Reach { service: service.to_owned(), machine: machine.to_string() };
        let (to, stream) = oneshot::channel();
        let asked = async {
            self.wanted.send(to).await.map_err(io::Error::other)?;
            let mut stream = stream.await.map_err(io::Error::other)?;
            write_frame(&mut stream, &reach).await?;
            let reached = read_frame(&mut stream).await?;
            Ok::<_, io::Error>((stream, reached))
        };
        asked.await.map_err(|error| CallError::Net(self.why(&error)))
    }

    /// Why the connection ended, if it did.
    fn why(&self, error: &io::Error) -> NetError {
        self.notices
            .end()
            .unwrap_or_else(|| NetError::Broken { address: self.address.clone(), cause: error.to_string() })
    }
}

fn refusal(problem: Problem) -> Refusal {
    Refusal {
        status: problem.status,
        code: problem.code().to_owned(),
        detail: if problem.detail.is_empty() { problem.title.clone() } else { problem.detail.clone() },
        hint: problem.hint.clone(),
        instance: problem.instance.clone(),
        retry_after: problem.retry_after.map(Duration::from_secs),
        rules: problem.rules,
    }
}
