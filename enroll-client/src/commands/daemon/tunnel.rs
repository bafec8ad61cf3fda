//! The tunnel of `lychgate run`: its tasks, identity and events.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use transport::streams::StreamCount;

use super::events::Level;
use super::{Daemon, RunLength};
use crate::core::record::TunnelState;
use crate::core::tunnel::News;
use crate::edge::live_credential::LiveCredential;
use crate::edge::notices::SessionNotices;
use crate::edge::sealed::Seal;
use crate::edge::tunnel::{self, CurrentIdentity, TunnelEvent};
use crate::edge::{clock, reach};
use crate::flow::upkeep;
use crate::text;
use crate::text::report::Complaint;

/// The daemon's end of the tunnel.
pub struct TunnelHandle {
    pub(super) current: watch::Sender<CurrentIdentity>,
    said: mpsc::Receiver<TunnelEvent>,
    /// The tunnel's tasks, which are aborted when this is dropped.
    _tasks: JoinSet<()>,
}

/// The next event of the tunnel. Never returns without a tunnel.
pub async fn next(tunnel: &mut Option<TunnelHandle>) -> Option<TunnelEvent> {
    match tunnel {
        Some(tunnel) => tunnel.said.recv().await,
        None => std::future::pending().await,
    }
}

impl Daemon<'_> {
    /// Opens the tunnel of a machine; not for `--once`.
    pub(super) async fn open_tunnel(&self) -> Result<Option<TunnelHandle>, Complaint> {
        if self.options.length == RunLength::Once || self.credential.identity.role != pki::Role::Machine {
            return Ok(None);
        }
        let services = &self.options.services;
        let mut listeners = Vec::new();
        for (name, reach) in services.reaches() {
            listeners.push((reach::listen(name, reach).await?, reach.clone()));
        }
        let (current, watching) = watch::channel(self.current_identity().await);
        let (tell, said) = mpsc::channel(64);
        let (wanted, requests) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        let reaching = StreamCount::default();
        let open = reaching.clone();
        let (gone, abandoned) = mpsc::channel(16);
        let notices = Arc::<SessionNotices>::default();
        let deps = reach::ListenerDeps {
            wanted,
            abandoned: gone,
            notices: Arc::clone(&notices),
            open,
            current: watching.clone(),
            tell: tell.clone(),
        };
        for (listener, reach) in listeners {
            tasks.spawn(reach::offer(listener, reach, deps.clone()));
        }
        // The tunnel ends when all senders of this channel are dropped. Without `--reach` this is the only one.
        let keep = deps.wanted;
        tasks.spawn(async move {
            keep.closed().await;
        });
        let services = Arc::new(services.clone());
        let deps =
            tunnel::TunnelDeps { services, current: watching, tell, wanted: requests, abandoned, notices, reaching };
        tasks.spawn(tunnel::hold(deps));
        let names: Vec<&str> = self.options.services.names().collect();
        let what = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        self.events.tell(Level::Info, "exposing", &format!("reachable for permitted callers: {what}"), &[]);
        Ok(Some(TunnelHandle { current, said, _tasks: tasks }))
    }

    /// The current identity, for the tunnel.
    pub(super) async fn current_identity(&self) -> CurrentIdentity {
        let seal = if self.options.services.any_sealed() { self.seal().await } else { None };
        CurrentIdentity {
            credential: LiveCredential::new(self.store, self.credential.clone()),
            offset: self.offset,
            seal,
        }
    }

    /// Whether there are sealed services and no certificate for them.
    pub(super) fn lacks_seal(&self) -> bool {
        let has = self.tunnel.as_ref().is_some_and(|tunnel| tunnel.current.borrow().seal.is_some());
        self.options.services.any_sealed() && !has
    }

    /// Gets a certificate for sealed services. Without one, only those are refused.
    pub(super) async fn seal(&self) -> Option<Arc<Seal>> {
        let credential = LiveCredential::new(self.store, self.credential.clone()).newest();
        match upkeep::seal(&credential, self.offset).await {
            Ok(seal) => Some(Arc::new(seal)),
            Err(why) => {
                let what = format!("no certificate for sealed services: {why}; they are refused until there is one");
                self.events.tell(Level::Warning, "seal-failed", &what, &[]);
                None
            }
        }
    }

    /// Handles an event of the tunnel, or its end.
    pub(super) async fn tunnel_said(&mut self, said: Option<TunnelEvent>) -> Result<(), Complaint> {
        match said {
            // The reply says whether our certificate is older than the request to renew.
            Some(TunnelEvent::RenewNow) => self.look().await,
            Some(TunnelEvent::Clock(offset)) => {
                self.heard_time(offset);
                Ok(())
            }
            Some(said) => {
                // Could not be requested if the machine started before its network.
                let up = matches!(said, TunnelEvent::News(News::Up));
                self.log_tunnel_event(said);
                if up && self.lacks_seal() {
                    self.tell_tunnel().await;
                }
                // The problem, such as a lock, is solved.
                if up && self.in_trouble { self.look().await } else { Ok(()) }
            }
            None => {
                self.tunnel = None;
                Ok(())
            }
        }
    }

    /// Updates the tunnel's state for `state.json` from its events.
    pub(super) fn note_tunnel(&mut self, said: &TunnelEvent) {
        let (up, why) = match said {
            TunnelEvent::News(News::Up) => (true, None),
            TunnelEvent::News(News::Down(why, _)) => (false, Some(why.clone())),
            TunnelEvent::News(_) | TunnelEvent::RenewNow | TunnelEvent::Clock(_) | TunnelEvent::Stream(_) => return,
        };
        // The time of the first failure is kept while attempts fail.
        let since = self.run.tunnel.as_ref().filter(|before| before.up == up).map(|before| before.since);
        let since = since.unwrap_or_else(|| clock::now().secs());
        self.run.tunnel = Some(TunnelState { up, since, why });
        self.note_run();
    }

    /// Prints an event of the tunnel.
    pub(super) fn log_tunnel_event(&mut self, said: TunnelEvent) {
        self.note_tunnel(&said);
        match said {
            TunnelEvent::RenewNow | TunnelEvent::Clock(_) | TunnelEvent::News(News::Time(_)) => {}
            TunnelEvent::Stream(line) => self.events.tell(Level::Info, "session", &line, &[]),
            TunnelEvent::News(News::Up) => {
                self.events.tell(Level::Info, "tunnel-up", "tunnel established; services are reachable", &[])
            }
            TunnelEvent::News(News::Down(why, pause)) => {
                let what = format!("{why}; trying again in {}", text::span(pause.max(Duration::from_secs(1))));
                self.events.tell(Level::Warning, "tunnel-down", &what, &[]);
            }
            TunnelEvent::News(News::Draining(left)) => {
                let what =
                    format!("the gateway closes this connection; what is open may go on for {}", text::span(left));
                self.events.tell(Level::Info, "tunnel-draining", &what, &[]);
            }
            TunnelEvent::News(News::Reauthenticated) => {
                self.events.tell(Level::Info, "tunnel-renewed", "the tunnel goes on with the renewed certificate", &[]);
            }
            TunnelEvent::News(News::NotReauthenticated(why)) => {
                let what =
                    format!("the tunnel could not be renewed, and ends with the certificate it began with: {why}");
                self.events.tell(Level::Warning, "tunnel-not-renewed", &what, &[]);
            }
        }
    }

    /// Passes a new certificate to the tunnel, whose streams stay open.
    pub(super) async fn tell_tunnel(&self) {
        if let Some(tunnel) = &self.tunnel {
            let current = self.current_identity().await;
            // An error means that the tunnel has ended; the next one starts with the current identity.
            let _ = tunnel.current.send(current);
        }
    }
}
