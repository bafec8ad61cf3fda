//! The task of one connection to the proxy face: feeds events to [`Helper`] and carries out its outputs.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use transport::link::LinkEvent;
use transport::mux::Stream;
use transport::streams::StreamCount;
use wire::tunnel::{FromMachine, ToMachine};

use super::IdentitySource;
use crate::core::helper::{Helper, HelperInput, HelperOutput};
use crate::core::offset::Offset;
use crate::core::proof::Exporter;
use crate::core::target::Address;
use crate::edge::clock;
use crate::edge::link::GatewayLink;
use crate::edge::net::{NetError, TlsClient, explain};
use crate::edge::notices::SessionNotices;
use crate::edge::terminal;
use crate::edge::tunnel::renewed;

/// Time limit for sending the last bytes before the connection is closed.
const CLOSE_TIME: Duration = Duration::from_secs(2);

pub(super) struct StreamsDriver {
    pub link: GatewayLink,
    pub state: Helper,
    pub began: Instant,
    pub requests: mpsc::Receiver<oneshot::Sender<Stream>>,
    /// Ids of sessions that broke at this end.
    pub abandoned: mpsc::Receiver<String>,
    pub notices: Arc<SessionNotices>,
    pub open: StreamCount,
    pub client: TlsClient,
    pub exporter: Exporter,
    pub address: Address,
    pub identity: IdentitySource,
}

enum Event {
    Link(LinkEvent<ToMachine>),
    Wanted(Option<oneshot::Sender<Stream>>),
    Abandoned(String),
    Idle,
    Tick,
}

impl StreamsDriver {
    /// Drives the connection until it ends or is no longer used.
    pub async fn drive(mut self) {
        let mut released = false;
        loop {
            let input = match self.event(released).await {
                Event::Wanted(Some(to)) => {
                    self.link.open(to);
                    None
                }
                Event::Wanted(None) => {
                    released = true;
                    Some(HelperInput::Released)
                }
                Event::Link(LinkEvent::Inbound(stream)) => self.inbound(stream),
                Event::Link(LinkEvent::Frame(frame)) => Some(HelperInput::Frame(frame)),
                Event::Link(LinkEvent::ControlEnded(_)) => Some(HelperInput::ControlEnded),
                Event::Link(LinkEvent::Ended(error)) => return self.ended(error),
                Event::Abandoned(session) => Some(HelperInput::Abandoned(session)),
                Event::Idle => None,
                Event::Tick => Some(HelperInput::Tick),
            };
            for input in [Some(HelperInput::Streams(self.open.open())), input].into_iter().flatten() {
                if self.step(input).is_break() {
                    return self.link.close(CLOSE_TIME).await;
                }
            }
        }
    }

    async fn event(&mut self, released: bool) -> Event {
        let tick = self.began + self.state.deadline();
        let Self { link, requests, abandoned, open, .. } = self;
        tokio::select! {
            event = poll_fn(|cx| link.poll(cx)) => Event::Link(event),
            wanted = requests.recv(), if !released => Event::Wanted(wanted),
            Some(session) = abandoned.recv() => Event::Abandoned(session),
            () = open.none(), if released => Event::Idle,
            () = sleep_until(tick) => Event::Tick,
        }
    }

    /// The first stream that the gateway opens is the control stream. Any other is unexpected and dropped.
    fn inbound(&mut self, stream: Stream) -> Option<HelperInput> {
        if !self.state.awaits_control() {
            return None;
        }
        self.link.control(stream);
        Some(HelperInput::ControlOpened)
    }

    /// Feeds the state machine and carries out its outputs.
    fn step(&mut self, input: HelperInput) -> ControlFlow<()> {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let (state, outputs) = self.state.clone().step(input, self.began.elapsed());
            self.state = state;
            for output in outputs {
                match output {
                    HelperOutput::Look => {
                        let found = (self.identity)();
                        inputs.extend(found.map(|(credential, _)| HelperInput::InUse(credential.serial)));
                    }
                    HelperOutput::Send(frame) => inputs.extend(self.send(&frame)),
                    HelperOutput::Reauthenticate => inputs.extend(self.reauthenticate()),
                    HelperOutput::Welcome(time) => {
                        let shown = self.client.shown();
                        let offset = Offset::heard(time, clock::now(), shown.as_ref()).ok();
                        self.notices.update(|notices| (notices.speaks, notices.offset) = (true, offset));
                    }
                    HelperOutput::Ended(session, reason) => self.notices.ended(session, reason),
                    HelperOutput::Draining(left) => {
                        self.notices.update(|notices| notices.drains = true);
                        let seconds = left.as_secs();
                        terminal::say(&format!(
                            "the gateway is about to stop; what is open is ended within {seconds} s"
                        ));
                    }
                    HelperOutput::Proven(serial) => self.notices.update(|notices| notices.proven = Some(serial)),
                    HelperOutput::Close => return ControlFlow::Break(()),
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn send(&mut self, frame: &FromMachine) -> Option<HelperInput> {
        self.link.send(frame).is_err().then_some(HelperInput::ControlEnded)
    }

    fn reauthenticate(&mut self) -> Option<HelperInput> {
        let (credential, offset) = (self.identity)()?;
        let renewed = renewed(&credential, &self.address, offset, &self.exporter).ok()?;
        self.send(&FromMachine::Reauthenticate(renewed))
    }

    fn ended(self, error: Option<yamux::ConnectionError>) {
        let why = match error {
            // The cause may be a TLS alert.
            Some(error) => explain(&self.address, &self.client, &error),
            None => NetError::Broken { address: self.address, cause: "the gateway closed it".to_owned() },
        };
        self.notices.update(|notices| (notices.end, notices.gone) = (Some(why), true));
    }
}
