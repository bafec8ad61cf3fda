//! The task of one connection to the proxy face: moves its streams, hears from the gateway why sessions end, and proves there
//! the certificate that was renewed meanwhile, so that what is open outlives the one it began with.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use pki::{Serial, UnixTime};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::client::TlsStream;
use wire::tunnel::{FromMachine, ToMachine};

use super::Standing;
use crate::core::offset::Offset;
use crate::core::proof::Exporter;
use crate::core::target::Address;
use crate::edge::clock;
use crate::edge::control::Control;
use crate::edge::mux::{Happened, Mux, Stream};
use crate::edge::net::{Manners, NetError, explain};
use crate::edge::terminal;
use crate::edge::tunnel::renewed;
use crate::edge::words::Words;

/// How often to look whether the certificate was renewed while streams are open. A certificate that lives for a minute is
/// renewed half of that before its end.
const LOOK: Duration = Duration::from_secs(10);

pub(super) struct Driver {
    pub mux: Mux<TlsStream<TcpStream>>,
    pub requests: mpsc::Receiver<oneshot::Sender<Stream>>,
    /// Sessions whose end here is gone.
    pub abandoned: mpsc::Receiver<String>,
    pub words: Arc<Words>,
    pub open: Arc<AtomicUsize>,
    pub manners: Manners,
    pub exporter: Exporter,
    pub address: Address,
    pub standing: Standing,
    /// Of the certificate that the gateway was last shown.
    pub serial: Serial,
}

enum Event {
    Mux(Happened),
    Wanted(Option<oneshot::Sender<Stream>>),
    Frame(ToMachine),
    Deaf,
    Abandoned(String),
    Look,
}

impl Driver {
    /// Moves the streams until the connection ends, or nobody wants it any more.
    pub async fn drive(mut self) {
        let mut control: Option<Control> = None;
        let mut listening = true;
        let mut look = Instant::now() + LOOK;
        loop {
            let Self { mux, requests, abandoned, .. } = &mut self;
            let moving = poll_fn(|cx| {
                if let Poll::Ready(happened) = mux.poll(cx) {
                    return Poll::Ready(Event::Mux(happened));
                }
                match &mut control {
                    Some(control) => control.poll(cx).map(|said| said.map_or(Event::Deaf, Event::Frame)),
                    None => Poll::Pending,
                }
            });
            let event = tokio::select! {
                event = moving => event,
                wanted = requests.recv(), if listening => Event::Wanted(wanted),
                Some(session) = abandoned.recv() => Event::Abandoned(session),
                () = sleep_until(look) => Event::Look,
            };
            match event {
                Event::Wanted(Some(to)) => self.mux.open(to),
                Event::Wanted(None) if self.open.load(Ordering::SeqCst) == 0 => return,
                Event::Wanted(None) => listening = false,
                // The first one is for words. The gateway opens no other; whatever it is, it is dropped.
                Event::Mux(Happened::Inbound(stream)) if control.is_none() => control = Some(Control::new(stream)),
                Event::Mux(Happened::Inbound(_)) => {}
                Event::Mux(Happened::Over(error)) => {
                    // Its last words may still wait to be read.
                    if let Some(control) = &mut control {
                        while let Poll::Ready(Ok(frame)) = poll_fn(|cx| Poll::Ready(control.poll(cx))).await {
                            self.heard(frame);
                        }
                    }
                    return self.over(error);
                }
                Event::Frame(frame) => self.heard(frame),
                Event::Deaf => control = None,
                Event::Abandoned(session) => {
                    if let Some(control) = &mut control {
                        let _ = control.send(&FromMachine::Abandoned { session });
                    }
                }
                Event::Look => {
                    look = Instant::now() + LOOK;
                    if let Some(control) = &mut control {
                        self.reauthenticate(control);
                    }
                }
            }
        }
    }

    fn heard(&self, frame: ToMachine) {
        match frame {
            ToMachine::Welcome(welcome) => self.words.hear(|heard| {
                heard.speaks = true;
                let shown = self.manners.shown();
                heard.offset = Offset::heard(UnixTime::new(welcome.time), clock::now(), shown.as_ref()).ok();
            }),
            ToMachine::Ended { session, reason } => self.words.ended(session, reason),
            ToMachine::Drain { after_ms, .. } => {
                self.words.hear(|heard| heard.drains = true);
                let seconds = after_ms / 1_000;
                terminal::say(&format!("the gateway is about to stop; what is open is ended within {seconds} s"));
            }
            ToMachine::Reauthenticated { .. } => {
                let serial = self.serial;
                self.words.hear(|heard| heard.proven = Some(serial));
            }
            // Then the streams end with the certificate before, as they would have.
            ToMachine::ReauthenticationRefused { .. } => {}
            // What a machine is told, or somebody of a later version.
            ToMachine::Closing(_)
            | ToMachine::Heartbeat { .. }
            | ToMachine::RenewNow
            | ToMachine::ReachEnded { .. }
            | ToMachine::Unknown => {}
        }
    }

    /// Proves the certificate that was renewed, if it was.
    fn reauthenticate(&mut self, control: &mut Control) {
        if self.open.load(Ordering::SeqCst) == 0 {
            return;
        }
        let Some((credential, offset)) = (self.standing)() else { return };
        if credential.serial == self.serial {
            return;
        }
        // Once for each certificate, whatever comes of it.
        self.serial = credential.serial;
        if let Ok(renewed) = renewed(&credential, &self.address, offset, &self.exporter) {
            let _ = control.send(&FromMachine::Reauthenticate(renewed));
        }
    }

    fn over(self, error: Option<yamux::ConnectionError>) {
        let why = match error {
            // An alert lies somewhere below.
            Some(error) => explain(&self.address, &self.manners, &error),
            None => NetError::Broken { address: self.address, cause: "the gateway closed it".to_owned() },
        };
        self.words.hear(|heard| {
            heard.end = Some(why);
            heard.gone = true;
        });
    }
}
