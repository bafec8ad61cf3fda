//! `lychgate run`: drives [`crate::core::renew::RenewalScheduler`], prints one line per event, and updates `state.json` for other
//! programs.

mod events;
mod joining;
mod rejoin;
mod tunnel;
mod two_clocks;

use std::time::Duration;

use pki::UnixTime;

use self::events::{Events, Level};
use self::joining::{ask_until_joined, is_final};
use self::tunnel::TunnelHandle;
use self::two_clocks::by_two_clocks;
use crate::core::enrollment::{OnWait, Patience, RetryPolicy};
use crate::core::offset::Offset;
use crate::core::record::RunState;
use crate::core::renew::{ExpiryState, NextAction, RenewalScheduler};
use crate::core::services::Services;
use crate::edge::keystore::{Credential, Keystore};
use crate::edge::live_credential;
use crate::edge::terminal::Format;
use crate::edge::{clock, entropy};
use crate::flow::sshcert;
use crate::flow::upkeep::{self, UpkeepError};
use crate::platform::{self, StopSignal};
use crate::text;
use crate::text::report::{Complaint, Exit};

/// Interval of checks for a newer certificate in the folder. Each use checks anyway; this is for the tunnel, whose connection stays
/// open.
const FOLDER_EVERY: Duration = Duration::from_secs(10);

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// When to stop.
    pub length: RunLength,
    /// Commands to run after a new certificate was installed, before the files of `hooks.d`.
    pub hooks: Vec<String>,
    /// Format of events.
    pub format: Format,
    /// The exposed services, and the remote ones.
    pub services: Services,
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunLength {
    /// At a signal.
    ForEver,
    /// When nothing is due.
    Once,
}

/// Why the daemon's work ended.
enum StopCause {
    Signal(&'static str),
    NothingDue,
}

struct Daemon<'a> {
    store: &'a Keystore,
    options: &'a Options,
    events: Events,
    credential: Credential,
    offset: Offset,
    /// An instant, and the gateway's time at it: from these the time advances even if the local clock is set back.
    seen: (tokio::time::Instant, UnixTime),
    scheduler: RenewalScheduler,
    expiry: ExpiryState,
    in_trouble: bool,
    run: RunState,
    tunnel: Option<TunnelHandle>,
}

/// `lychgate run`.
///
/// # Errors
/// When there is no identity and no request, the folder cannot be used, or with [`RunLength::Once`] when what was due failed.
pub async fn run(store: &Keystore, options: &Options) -> Result<(), Complaint> {
    let mut stop = StopSignal::new().map_err(|e| Complaint::new(Exit::Failure, "signals", e.to_string()))?;
    let events = Events { format: options.format };
    feed_the_watchdog();
    if store.credential()?.is_none() && store.pending()?.is_none_or(|pending| pending.denied.is_some()) {
        return upkeep::load(store).map(drop);
    }
    // One process for each folder: the tunnels of two would replace each other.
    let _running = match options.length {
        RunLength::ForEver => Some(store.running().await?),
        RunLength::Once => None,
    };
    let credential = match store.credential()? {
        Some(credential) => credential,
        None => {
            platform::notify_ready();
            match ask_until_joined(store, options, &mut stop).await? {
                Some(credential) => credential,
                None => return Ok(()),
            }
        }
    };
    if credential.identity.role == pki::Role::Person && !options.services.is_empty() {
        let what = format!("`{}` is a person: machines expose and reach services", credential.identity);
        return Err(Complaint::new(Exit::Usage, "usage", what).hint("run this with the --dir of a machine"));
    }
    let what = format!("keeping `{}` alive; valid until {}", credential.facts.identity, credential.life.not_after);
    events.tell(Level::Info, "started", &what, &[("serial", credential.facts.serial.clone())]);
    platform::notify_ready();
    let mut daemon = Daemon::new(store, options, credential);
    daemon.tunnel = daemon.open_tunnel().await?;
    daemon.note_run();
    let ended = daemon.keep(&mut stop).await?;
    platform::notify_stopping();
    if let StopCause::Signal(signal) = ended {
        events.tell(Level::Info, "stopped", &format!("stopped by {signal}"), &[]);
    }
    Ok(())
}

/// Resets the service manager's watchdog. A task of its own, which shows that the runtime works, also during a long request.
fn feed_the_watchdog() {
    let Some(every) = platform::watchdog_interval() else { return };
    tokio::spawn(async move {
        loop {
            platform::notify_alive();
            tokio::time::sleep(every).await;
        }
    });
}

impl Options {
    fn policy(&self) -> RetryPolicy {
        match self.length {
            RunLength::ForEver => RetryPolicy { patience: Patience::Endless, on_wait: OnWait::Stay },
            RunLength::Once => RetryPolicy { patience: Patience::Once, on_wait: OnWait::Leave },
        }
    }
}

impl<'a> Daemon<'a> {
    /// Starts with an identity and without tunnel.
    fn new(store: &'a Keystore, options: &'a Options, credential: Credential) -> Self {
        let state = store.state(&credential.facts);
        let offset = Offset::from_secs(state.clock_offset);
        Self {
            store,
            options,
            events: Events { format: options.format },
            offset,
            seen: (tokio::time::Instant::now(), offset.gateway_time(clock::now())),
            in_trouble: state.trouble.is_some(),
            credential,
            scheduler: RenewalScheduler::new(),
            expiry: ExpiryState::InTime,
            run: RunState {
                pid: std::process::id(),
                since: clock::now().secs(),
                exposes: options.services.offers(),
                reaches: options.services.reaches().map(|(name, _)| name.to_owned()).collect(),
                tunnel: None,
            },
            tunnel: None,
        }
    }

    fn now(&self) -> UnixTime {
        let (moment, then) = self.seen;
        by_two_clocks(self.offset.gateway_time(clock::now()), then, moment.elapsed())
    }

    /// Sets the offset of the gateway's clock.
    fn set_offset(&mut self, offset: Offset) {
        self.offset = offset;
        self.seen = (tokio::time::Instant::now(), offset.gateway_time(clock::now()));
    }

    /// Handles a change of one of the two clocks. Schedules use the gateway's time.
    fn clock_was_set(&mut self, offset: Offset) {
        self.set_offset(offset);
        // The stored offset is for other commands; after an error the next query writes it.
        let _ = upkeep::save_offset(self.store, &self.credential, offset);
        if let Some(tunnel) = &self.tunnel {
            tunnel.current.send_modify(|current| {
                current.offset = offset;
                if let Some(seal) = &current.seal {
                    seal.set_offset(offset);
                }
            });
        }
    }

    /// Handles a new offset of the gateway's clock.
    fn heard_time(&mut self, offset: Offset) {
        if !offset.is_about(self.offset) {
            self.clock_was_set(offset);
            let time = offset.gateway_time(clock::now());
            let what = format!("the clock here or at the gateway was set; it is {time} by the gateway's");
            self.events.tell(Level::Warning, "clock", &what, &[]);
        }
    }

    async fn keep(&mut self, stop: &mut StopSignal) -> Result<StopCause, Complaint> {
        loop {
            self.follow().await;
            let now = self.now();
            self.log_expiry_warning(now);
            let failure = match self.scheduler.next_action(&self.credential.life, now) {
                NextAction::Sleep(_) if self.options.length == RunLength::Once => return Ok(StopCause::NothingDue),
                NextAction::Sleep(until) => {
                    let sleep = tokio::time::sleep(until.since(now).min(FOLDER_EVERY));
                    tokio::select! {
                        signal = stop.wait() => return Ok(StopCause::Signal(signal)),
                        () = sleep => Ok(()),
                        said = tunnel::next(&mut self.tunnel) => self.tunnel_said(said).await,
                    }
                }
                // A signal may interrupt these at any point: the files are consistent at every moment.
                NextAction::Look => tokio::select! {
                    signal = stop.wait() => return Ok(StopCause::Signal(signal)),
                    outcome = self.look() => outcome,
                },
                NextAction::Renew => tokio::select! {
                    signal = stop.wait() => return Ok(StopCause::Signal(signal)),
                    outcome = self.renew() => outcome,
                },
                NextAction::Rejoin => match self.rejoin(stop).await {
                    Ok(Some(ended)) => return Ok(ended),
                    Ok(None) => Ok(()),
                    Err(complaint) => Err(complaint),
                },
            };
            if let Err(complaint) = failure
                && (self.options.length == RunLength::Once || is_final(&complaint))
            {
                return Err(complaint);
            }
        }
    }

    /// Updates `state.json` for `lychgate status`.
    fn note_run(&self) {
        if self.options.length == RunLength::ForEver {
            upkeep::note_run(self.store, &self.credential, &self.run);
        }
    }

    /// Warns once when renewal is late, and once when the certificate has expired.
    fn log_expiry_warning(&mut self, now: UnixTime) {
        let expiry = self.credential.life.expiry_state(now);
        if expiry > self.expiry {
            let life = &self.credential.life;
            match expiry {
                ExpiryState::InTime => {}
                ExpiryState::Late => {
                    let left = text::span(life.not_after.since(now));
                    let what = format!("still not renewed; {left} left of the certificate");
                    self.events.tell(Level::Error, "late", &what, &[("not_after", life.not_after.to_string())]);
                }
                ExpiryState::Expired => {
                    let what = format!("the certificate expired at {}; rejoining with it as evidence", life.not_after);
                    self.events.tell(Level::Error, "expired", &what, &[("not_after", life.not_after.to_string())]);
                }
            }
        }
        self.expiry = expiry;
    }

    /// Switches to the certificate in the folder if another process has renewed: the gateway treats use of the old one as theft.
    async fn follow(&mut self) -> bool {
        let Some(newer) = live_credential::newer(self.store, &self.credential) else { return false };
        self.take(newer, "taken-over");
        self.tell_tunnel().await;
        true
    }

    async fn look(&mut self) -> Result<(), Complaint> {
        self.follow().await;
        match upkeep::look(self.store, &self.credential).await {
            Ok((seen, offset)) => {
                self.set_offset(offset);
                let time = offset.gateway_time(clock::now());
                self.recovered();
                self.host_certificates().await;
                self.scheduler = self.scheduler.looked(&self.credential.life, seen.renew_now, time, entropy::draw());
                if seen.renew_now {
                    let when = match self.scheduler.next_action(&self.credential.life, time) {
                        NextAction::Sleep(until) => format!("due in {}", text::span(until.since(time))),
                        NextAction::Look | NextAction::Renew | NextAction::Rejoin => "due now".to_owned(),
                    };
                    let what = format!("the gateway asks for a renewal, {when}");
                    self.events.tell(Level::Info, "renewal-asked", &what, &[]);
                }
                Ok(())
            }
            Err(failed) => Err(self.failed("look", failed)),
        }
    }

    async fn renew(&mut self) -> Result<(), Complaint> {
        match upkeep::renew(self.store, &self.credential).await {
            Ok(credential) => {
                self.take(credential, "renewed");
                // The first use of the new certificate. A failure is reported there and repeated by the scheduler.
                let looked = self.look().await;
                self.tell_tunnel().await;
                self.run_hooks("renewed").await;
                looked
            }
            Err(failed) => Err(self.failed("renewal", failed)),
        }
    }

    /// Switches to a new certificate.
    fn take(&mut self, credential: Credential, event: &str) {
        self.credential = credential;
        self.set_offset(Offset::from_secs(self.store.state(&self.credential.facts).clock_offset));
        self.scheduler = self.scheduler.renewed(self.now());
        self.expiry = ExpiryState::InTime;
        let life = &self.credential.life;
        let what = format!("valid until {}, to be renewed from {}", life.not_after, life.renew_after);
        let fields = [
            ("serial", self.credential.facts.serial.clone()),
            ("not_after", life.not_after.to_string()),
            ("renew_after", life.renew_after.to_string()),
        ];
        self.events.tell(Level::Info, event, &what, &fields);
    }

    /// Renews the SSH certificates of host keys that were requested with an earlier certificate: after a renewal, and after each query
    /// until it succeeds. They are valid until the end of that earlier certificate, which leaves time for several queries.
    async fn host_certificates(&self) {
        for host in sshcert::host::renew_due(self.store, &self.credential).await {
            let key = ("key", host.key.display().to_string());
            match &host.outcome {
                Ok(until) => {
                    let what = format!("the SSH certificate of `{}` is good until {until}", host.key.display());
                    self.events.tell(Level::Info, "ssh-host-certificate", &what, &[key]);
                }
                Err(complaint) => {
                    let what = format!("no new SSH certificate for `{}`: {complaint}", host.key.display());
                    let fields = [key, ("code", complaint.code.clone())];
                    self.events.tell(Level::Warning, "ssh-host-certificate-failed", &what, &fields);
                }
            }
            if let Some(trouble) = &host.reload_trouble {
                self.events.tell(Level::Warning, "hook-failed", trouble, &[]);
            }
        }
    }

    async fn run_hooks(&self, event: &str) {
        for line in upkeep::run_hooks(self.store, &self.credential, &self.options.hooks, event).await {
            self.events.tell(Level::Warning, "hook-failed", &line, &[]);
        }
    }

    fn recovered(&mut self) {
        if self.in_trouble {
            self.in_trouble = false;
            self.events.tell(Level::Info, "recovered", "all is well with the gateway again", &[]);
        }
    }

    /// Counts, records and reports a failure, with a level that depends on the time left.
    fn failed(&mut self, what: &str, failed: UpkeepError) -> Complaint {
        let (now, draw) = (self.now(), entropy::draw());
        let life = self.credential.life;
        let (locked, expired, retry_after) = (failed.is_lock(), failed.is_expiry(), failed.retry_after());
        let mut complaint = Complaint::from(failed);
        if complaint.code == "forked" && live_credential::newer(self.store, &self.credential).is_some() {
            // Another process has installed a newer certificate during the request.
            complaint.what =
                format!("{}: another lychgate renewed in this folder meanwhile, and no thief", complaint.what);
            complaint = complaint.hint("ask an administrator to unlock it; this goes on with the newer certificate");
        }
        self.in_trouble = true;
        upkeep::note_trouble(self.store, &self.credential, &complaint, locked);
        self.scheduler = if locked {
            self.scheduler.locked(&life, retry_after, now, draw)
        } else if expired {
            self.scheduler.expired()
        } else {
            self.scheduler.failed(&life, retry_after, now, draw)
        };
        let level = match life.expiry_state(now) {
            ExpiryState::InTime if complaint.exit == Exit::Untrusted || locked => Level::Error,
            ExpiryState::InTime => Level::Warning,
            ExpiryState::Late | ExpiryState::Expired => Level::Error,
        };
        let event = if locked { "locked".to_owned() } else { format!("{what}-failed") };
        let next = match self.scheduler.next_action(&life, now) {
            NextAction::Sleep(until) => format!("trying again in {}", text::span(until.since(now))),
            NextAction::Look | NextAction::Renew | NextAction::Rejoin => "trying again now".to_owned(),
        };
        let left = if life.is_over(now) {
            "expired".to_owned()
        } else {
            format!("{} left", text::span(life.not_after.since(now)))
        };
        let line = format!("{complaint}; {left}; {next}");
        let fields = [
            ("code", complaint.code.clone()),
            ("hint", complaint.hint.clone().unwrap_or_default()),
            ("instance", complaint.instance.clone().unwrap_or_default()),
        ];
        self.events.tell(level, &event, &line, &fields);
        complaint
    }
}
