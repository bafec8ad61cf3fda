//! Drives a machine's tunnel: feeds events to [`crate::core::tunnel::Tunnel`] and carries out its outputs. A task of its own, which
//! communicates with the renewal task by channels.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::Serial;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::client::TlsStream;
use transport::link::LinkEvent;
use transport::mux::Stream;
use transport::streams::StreamCount;
use wire::tunnel::{ALPN, FromMachine, REAUTH_METHOD, REAUTH_PATH, Reason, Reauthenticate, TUNNEL_STREAMS, ToMachine};

use super::clock;
use super::dial_back::Origin;
use super::entropy;
use super::keystore::Credential;
use super::link::{GatewayLink, link};
use super::live_credential::LiveCredential;
use super::net::{NetError, TlsClient, dial, explain};
use super::notices::SessionNotices;
use super::sealed::Seal;
use super::serve;
use super::verifier::GatewayVerifier;
use crate::core::offset::Offset;
use crate::core::proof::{self, Exporter};
use crate::core::services::Services;
use crate::core::target::Address;
use crate::core::tunnel::{Input, News, Output, Tunnel};
use crate::evidence::tpm::with_key;

/// Spread of the first attempt, for machines that start at the same time.
const FIRST_SPREAD: Duration = Duration::from_secs(1);

/// Free slots in the channel to the daemon that events about streams leave for others: a tunnel has few other events an hour.
const LEFT_TO_NEWS: usize = 16;

/// Events from the tunnel to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelEvent {
    /// The gateway asks for a renewal.
    RenewNow,
    /// The offset of the gateway's clock, checked for plausibility.
    Clock(Offset),
    /// For the log.
    News(News),
    /// A log line about a stream.
    Stream(String),
}

/// The identity after the last renewal.
#[derive(Clone)]
pub struct CurrentIdentity {
    /// The identity in use.
    pub credential: LiveCredential,
    /// The offset of the gateway's clock.
    pub offset: Offset,
    /// TLS server configuration of sealed services; `None` without a certificate for them.
    pub seal: Option<Arc<Seal>>,
}

/// The dependencies of a tunnel.
pub struct TunnelDeps {
    /// The exposed services.
    pub services: Arc<Services>,
    /// The current identity.
    pub current: watch::Receiver<CurrentIdentity>,
    /// To the daemon.
    pub tell: mpsc::Sender<TunnelEvent>,
    /// Requests for streams by listeners of `--reach`.
    pub wanted: mpsc::Receiver<oneshot::Sender<Stream>>,
    /// Ids of sessions of `--reach` that broke at this end.
    pub abandoned: mpsc::Receiver<String>,
    /// Notices about sessions of `--reach`.
    pub notices: Arc<SessionNotices>,
    /// Number of open streams of `--reach`: the heartbeat interval depends on it.
    pub reaching: StreamCount,
}

/// A new connection, with the certificates of both ends.
struct Connected {
    link: GatewayLink,
    exporter: Exporter,
    manners: TlsClient,
    address: Address,
    /// Of our certificate.
    serial: Serial,
}

type Dialed = Result<Connected, NetError>;
type Dialing = JoinHandle<Dialed>;

enum DriverEvent {
    Tick,
    Dialed(Box<Dialed>),
    Link(LinkEvent<ToMachine>),
    Wanted(oneshot::Sender<Stream>),
    Renewed,
    StreamEnded(String, String),
    Abandoned(String),
    DaemonGone,
}

struct TunnelDriver {
    deps: TunnelDeps,
    state: Tunnel,
    began: Instant,
    dialing: Option<Dialing>,
    connected: Option<Connected>,
    /// Open streams by session id, each with the channel that tells it why the gateway ended it.
    sessions: Arc<Mutex<HashMap<String, oneshot::Sender<Reason>>>>,
    /// Tasks that serve inbound streams; each returns the session id and a log line.
    serving: JoinSet<(String, String)>,
    /// Ids of sessions that broke at this end.
    gone: (mpsc::Sender<String>, mpsc::Receiver<String>),
    number: u64,
    /// Of the certificate last sent to the gateway, or to be sent with the next connection.
    serial: Serial,
}

/// Runs the tunnel until the daemon drops its end of the channels.
pub async fn hold(deps: TunnelDeps) {
    let began = Instant::now();
    let state = Tunnel::new(Duration::ZERO, FIRST_SPREAD, entropy::draw());
    let serial = deps.current.borrow().credential.newest().serial;
    let driver = TunnelDriver {
        deps,
        serial,
        state,
        began,
        dialing: None,
        connected: None,
        sessions: Arc::default(),
        serving: JoinSet::new(),
        gone: mpsc::channel(TUNNEL_STREAMS),
        number: 0,
    };
    driver.run().await;
}

impl TunnelDriver {
    async fn run(mut self) {
        loop {
            let event = self.event().await;
            let outputs = match event {
                DriverEvent::Tick => self.feed(Input::Tick),
                DriverEvent::Dialed(outcome) => match *outcome {
                    Ok(connected) => self.connected(connected),
                    Err(error) => {
                        self.dialing = None;
                        let outputs = self.feed(Input::NotConnected(None));
                        self.tell_down(error.to_string()).await;
                        outputs
                    }
                },
                DriverEvent::Link(LinkEvent::Frame(frame)) => self.feed(Input::Frame(frame)),
                DriverEvent::Link(LinkEvent::Inbound(stream)) => {
                    self.serve(stream);
                    vec![]
                }
                DriverEvent::Link(LinkEvent::ControlEnded(_)) => self.lost(None),
                DriverEvent::Link(LinkEvent::Ended(error)) => self.lost(error),
                DriverEvent::Wanted(to) => {
                    if let Some(connected) = self.connected.as_mut().filter(|_| self.state.is_up()) {
                        connected.link.open(to);
                    }
                    vec![]
                }
                DriverEvent::Renewed => {
                    self.serial = self.deps.current.borrow().credential.newest().serial;
                    self.feed(Input::Renewed)
                }
                DriverEvent::Abandoned(session) => {
                    self.send(&FromMachine::Abandoned { session });
                    vec![]
                }
                DriverEvent::StreamEnded(key, line) => {
                    self.guard().remove(&key);
                    // The daemon may be busy with a renewal or a hook. The tunnel must not wait for it, so a log line is dropped
                    // when the channel is nearly full.
                    if !line.is_empty() && self.deps.tell.capacity() > LEFT_TO_NEWS {
                        let _ = self.deps.tell.try_send(TunnelEvent::Stream(line));
                    }
                    vec![]
                }
                DriverEvent::DaemonGone => return,
            };
            let count = self.serving.len() + self.deps.reaching.open();
            let mut outputs = outputs;
            outputs.extend(self.feed(Input::Streams(count)));
            for output in outputs {
                self.act(output).await;
            }
        }
    }

    /// The connection has ended.
    fn lost(&mut self, error: Option<yamux::ConnectionError>) -> Vec<Output> {
        let why = match (&self.connected, error) {
            (Some(connected), Some(error)) => Some(explain(&connected.address, &connected.manners, &error)),
            (None, _) | (_, None) => None,
        };
        self.hang_up();
        let mut outputs = self.feed(Input::Lost);
        // A TLS alert is more specific than a broken connection, for example if our certificate has expired.
        if let (Some(why @ NetError::Rejected { .. }), Some(Output::Tell(News::Down(what, _)))) =
            (why, outputs.iter_mut().find(|output| matches!(output, Output::Tell(News::Down(..)))))
        {
            *what = why.to_string();
        }
        outputs
    }

    fn guard(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Reason>>> {
        // Poisoning is ignored: no code under this lock can panic in the middle of a change.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn feed(&mut self, input: Input) -> Vec<Output> {
        let (state, outputs) = self.state.clone().step(input, self.began.elapsed(), entropy::draw());
        self.state = state;
        outputs
    }

    async fn event(&mut self) -> DriverEvent {
        let deadline = self.state.deadline().map(|at| self.began + at);
        let Self { deps, dialing, connected, serving, serial, gone, .. } = self;
        let tick = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let dialed = async {
            match dialing {
                Some(dialing) => match dialing.await {
                    Ok(outcome) => outcome,
                    Err(error) => Err(NetError::Setup(error.to_string())),
                },
                None => std::future::pending().await,
            }
        };
        let moving = poll_fn(|cx| match connected {
            Some(connected) => connected.link.poll(cx),
            None => Poll::Pending,
        });
        tokio::select! {
            event = moving => DriverEvent::Link(event),
            outcome = dialed => DriverEvent::Dialed(Box::new(outcome)),
            wanted = deps.wanted.recv() => wanted.map_or(DriverEvent::DaemonGone, DriverEvent::Wanted),
            changed = deps.current.changed() => match changed {
                // Only a new certificate is reported to the gateway, not another change of the identity.
                Ok(()) if deps.current.borrow_and_update().credential.newest().serial != *serial => DriverEvent::Renewed,
                Ok(()) => DriverEvent::Tick,
                Err(_) => DriverEvent::DaemonGone,
            },
            Some(ended) = serving.join_next(), if !serving.is_empty() => {
                let (key, line) = ended.unwrap_or_default();
                DriverEvent::StreamEnded(key, line)
            }
            Some(session) = deps.abandoned.recv() => DriverEvent::Abandoned(session),
            Some(session) = gone.1.recv() => DriverEvent::Abandoned(session),
            () = tick => DriverEvent::Tick,
        }
    }

    async fn act(&mut self, output: Output) {
        match output {
            Output::Connect => {
                let current = self.deps.current.borrow().clone();
                self.dialing = Some(tokio::spawn(connect(current)));
            }
            Output::Hello => self.send(&FromMachine::Hello(self.deps.services.hello())),
            Output::Send(frame) => self.send(&frame),
            Output::Reauthenticate => self.reauthenticate().await,
            Output::HangUp => self.hang_up(),
            Output::RenewNow => {
                let _ = self.deps.tell.send(TunnelEvent::RenewNow).await;
            }
            Output::Ended(session, reason) => {
                if let Some(ended) = self.guard().remove(&session) {
                    let _ = ended.send(reason);
                }
            }
            Output::ReachEnded(session, reason) => self.deps.notices.ended(session, reason),
            Output::Tell(News::Time(time)) => {
                let shown = self.connected.as_ref().and_then(|connected| connected.manners.shown());
                // An implausible time is ignored here; the next query of the gateway reports it.
                if let Ok(offset) = Offset::heard(time, clock::now(), shown.as_ref()) {
                    let _ = self.deps.tell.send(TunnelEvent::Clock(offset)).await;
                }
            }
            Output::Tell(news) => {
                let _ = self.deps.tell.send(TunnelEvent::News(news)).await;
            }
        }
    }

    /// Reports a failed attempt, with the time of the next one from the state machine.
    async fn tell_down(&self, why: String) {
        let wait = self.state.deadline().unwrap_or_default().saturating_sub(self.began.elapsed());
        let _ = self.deps.tell.send(TunnelEvent::News(News::Down(why, wait))).await;
    }

    fn connected(&mut self, connected: Connected) -> Vec<Output> {
        (self.dialing, self.serial) = (None, connected.serial);
        self.deps.notices.update(|state| (state.speaks, state.gone) = (true, false));
        self.connected = Some(connected);
        self.feed(Input::Connected)
    }

    fn hang_up(&mut self) {
        if let Some(dialing) = self.dialing.take() {
            dialing.abort();
        }
        self.connected = None;
        self.deps.notices.update(|state| state.gone = true);
        // Ends the tasks of streams, which ended with the connection: a target that waits for input would keep them open for ever.
        for (_, ended) in self.guard().drain() {
            let _ = ended.send(Reason::Lost);
        }
    }

    fn send(&mut self, frame: &FromMachine) {
        if let Some(connected) = &mut self.connected {
            // A frame cannot be too long: the list of services was checked when it was read. A gateway that does not read the
            // control stream is detected by the heartbeat.
            let _ = connected.link.send(frame);
        }
    }

    async fn reauthenticate(&mut self) {
        let current = self.deps.current.borrow().clone();
        let Some(exporter) = self.connected.as_ref().map(|connected| connected.exporter) else { return };
        let (credential, offset) = (current.credential.newest(), current.offset);
        let key = credential.key.clone();
        // The key may be in a TPM.
        let made = with_key(&key, move |_| Ok(renewed(&credential, &credential.manage, offset, &exporter))).await;
        match made.unwrap_or_else(|fault| Err(fault.to_string())) {
            Ok(frame) => self.send(&FromMachine::Reauthenticate(frame)),
            Err(why) => {
                let _ = self.deps.tell.send(TunnelEvent::News(News::NotReauthenticated(why))).await;
            }
        }
    }

    fn serve(&mut self, mut stream: Stream) {
        self.number += 1;
        if self.serving.len() >= TUNNEL_STREAMS {
            // The gateway enforces the same limit, so a stream beyond it is dropped without an answer.
            return;
        }
        let (services, seal) = (Arc::clone(&self.deps.services), self.deps.current.borrow().seal.clone());
        let (origin, gone) = (origin(&self.deps.current), self.gone.0.clone());
        let (sessions, fallback) = (Arc::clone(&self.sessions), format!("#{}", self.number));
        self.serving.spawn(async move {
            let Ok(open) = serve::asked(&mut stream).await else { return (fallback, String::new()) };
            let (tell, ended) = oneshot::channel();
            sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(open.session.clone(), tell);
            let line = serve::serve(stream, &open, &services, seal, ended, (&origin, &gone)).await;
            (open.session, line)
        });
    }
}

/// The identity and address for moving a machine's streams.
pub fn origin(current: &watch::Receiver<CurrentIdentity>) -> Origin {
    let current = current.clone();
    Arc::new(move || {
        let credential = current.borrow().credential.newest();
        let address = credential.manage.clone();
        Some((credential, address))
    })
}

/// Connects with the current identity.
async fn connect(current: CurrentIdentity) -> Dialed {
    let credential = &current.credential.newest();
    let verifier = GatewayVerifier::new(credential.expected(), credential.manage.host());
    let manners = TlsClient::identified(verifier, credential)?.speaking(ALPN);
    let tls = dial(&credential.manage, &manners).await?;
    if tls.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(NetError::Nonsense {
            address: credential.manage.clone(),
            what: "it knows no tunnels; it may be older than this program".to_owned(),
        });
    }
    let exporter = exporter_of(&tls)?;
    let mut link = link(tls, TUNNEL_STREAMS);
    let broken = |error: yamux::ConnectionError| explain(&credential.manage, &manners, &error);
    link.open_control().await.map_err(broken)?;
    Ok(Connected { link, exporter, manners, address: credential.manage.clone(), serial: credential.serial })
}

/// The exporter value of a connection (RFC 9266).
pub fn exporter_of(tls: &TlsStream<TcpStream>) -> Result<Exporter, NetError> {
    let mut exporter = Exporter::default();
    tls.get_ref()
        .1
        .export_keying_material(&mut exporter, wire::evidence::EXPORTER_LABEL, None)
        .map_err(|e| NetError::Setup(e.to_string()))?;
    Ok(exporter)
}

/// The reauthentication frame, which a key in a TPM takes a while to sign: the renewed certificate, and the proof of its key for this
/// connection to `address`.
pub fn renewed(
    credential: &Credential,
    address: &Address,
    offset: Offset,
    exporter: &Exporter,
) -> Result<Reauthenticate, String> {
    let authority = address.authority();
    let subject = proof::Subject { method: REAUTH_METHOD, authority: &authority, path: REAUTH_PATH, exporter };
    let now = offset.gateway_time(clock::now());
    let unique = entropy::unique().map_err(|e| e.to_string())?;
    let proof = proof::draft(subject, &credential.key, now, unique).map_err(|e| e.to_string())?;
    let proof = proof.sign(&credential.key).map_err(|e| e.to_string())?;
    let chain = std::iter::once(&credential.leaf).chain(&credential.chain).map(|der| STANDARD.encode(der)).collect();
    Ok(Reauthenticate { chain, proof })
}
