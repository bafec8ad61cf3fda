//! The task of one connection to the proxy face: moves its streams, hears from the gateway why sessions end, and proves there
//! the certificate that was renewed meanwhile, so that what is open outlives the one it began with.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use pki::{Serial, UnixTime};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::client::TlsStream;
use wire::tunnel::{FromMachine, Reason, ToMachine};

use super::Standing;
use crate::edge::clock;
use crate::edge::control::Control;
use crate::edge::mux::{Happened, Mux, Stream};
use crate::edge::net::{Manners, NetError, explain};
use crate::edge::terminal;
use crate::edge::tunnel::renewed;
use crate::offset::Offset;
use crate::proof::Exporter;
use crate::target::Address;

/// How often to look whether the certificate was renewed while streams are open. A certificate that lives for a minute is
/// renewed half of that before its end.
const LOOK: Duration = Duration::from_secs(10);

/// Ended sessions that are remembered: those of whoever asks a moment later.
const ENDED_KEPT: usize = 1_024;

/// How long the gateway's word may be behind the end of the bytes.
const WORD_TIME: Duration = Duration::from_secs(2);

/// What the gateway says about the sessions on one connection.
#[derive(Default)]
pub struct Words {
    state: Mutex<Heard>,
    news: Notify,
}

#[derive(Default)]
struct Heard {
    speaks: bool,
    drains: bool,
    /// Why the connection ended, until somebody is told.
    end: Option<NetError>,
    gone: bool,
    ended: VecDeque<(String, Reason)>,
    proven: Option<Serial>,
    offset: Option<Offset>,
}

impl Words {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        // Nothing under this lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.lock());
        self.news.notify_waiters();
    }

    /// Why a session ended, if this gateway says so here.
    pub async fn why(&self, session: &str) -> Option<Reason> {
        let told = async {
            loop {
                let mut news = pin!(self.news.notified());
                // Listening begins before the look, so what is said in between is not missed.
                news.as_mut().enable();
                {
                    let heard = self.lock();
                    if let Some((_, reason)) = heard.ended.iter().rev().find(|(ended, _)| ended == session) {
                        return Some(*reason);
                    }
                    if !heard.speaks || heard.gone {
                        return None;
                    }
                }
                news.await;
            }
        };
        timeout(WORD_TIME, told).await.ok().flatten()
    }

    /// Why the connection ended, once.
    pub fn end(&self) -> Option<NetError> {
        self.lock().end.take()
    }

    /// Whether new streams may still be asked for.
    pub fn drains(&self) -> bool {
        self.lock().drains
    }

    /// How far the gateway's clock is ahead, if it said so here.
    pub fn offset(&self) -> Option<Offset> {
        self.lock().offset
    }

    /// The certificate that was proven here last, if another than the first.
    pub fn proven(&self) -> Option<Serial> {
        self.lock().proven
    }
}

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
            ToMachine::Ended { session, reason } => self.words.hear(|heard| {
                if heard.ended.len() == ENDED_KEPT {
                    heard.ended.pop_front();
                }
                heard.ended.push_back((session, reason));
            }),
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
            ToMachine::Closing(_) | ToMachine::Heartbeat { .. } | ToMachine::RenewNow | ToMachine::Unknown => {}
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
