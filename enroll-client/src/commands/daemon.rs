//! `lychgate run`: keeps an identity alive. [`crate::core::renew::Keeper`] decides; this drives it, one line of output per event, and writes
//! what it hears into `state.json`, for whoever asks how things stand.

mod events;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use pki::UnixTime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::events::{AsEvents, Events, Level};
use crate::commands::join::{End, Notice, Pursuit, pursue, rejoin_pending};
use crate::commands::sshcert;
use crate::core::enrollment::{Manner, OnWait, Patience};
use crate::core::offset::Offset;
use crate::core::plan::{Wish, denied_before};
use crate::core::record::{Pending, RunState, Trouble, TunnelState};
use crate::core::renew::{Errand, Keeper, Worry, backoff};
use crate::core::services::Services;
use crate::core::trust::Expected;
use crate::core::tunnel::News;
use crate::edge::held::{self, Held};
use crate::edge::keystore::{Credential, Keystore};
use crate::edge::sealed::Seal;
use crate::edge::terminal::Format;
use crate::edge::tunnel::{self, Said, Standing};
use crate::edge::words::Words;
use crate::edge::{clock, entropy, reach};
use crate::flow::upkeep::{self, Failed};
use crate::platform::{self, StopSignal};
use crate::text;
use crate::text::report::{Complaint, Exit};

/// Longest sleep in one piece. After a suspend or a step of the clock we notice within this time that something is due.
const NAP: Duration = Duration::from_secs(60);

/// How often to look whether the folder has a newer certificate. Before each use it is looked at anyhow; this is for the tunnel, whose
/// connection goes on.
const FOLDER_EVERY: Duration = Duration::from_secs(10);

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// For how long.
    pub length: Length,
    /// Commands to run after there is a new certificate, before the files of `hooks.d`.
    pub hooks: Vec<String>,
    /// How events are written.
    pub format: Format,
    /// What others may reach here, and what is reached elsewhere.
    pub services: Services,
}

/// For how long to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Until a signal comes.
    ForEver,
    /// Until nothing is due.
    Once,
}

/// Why the daemon's work ended.
enum Ended {
    Signal(&'static str),
    NothingDue,
}

struct Daemon<'a> {
    store: &'a Keystore,
    options: &'a Options,
    events: Events,
    credential: Credential,
    offset: Offset,
    /// A moment, and what time it was by the gateway's clock. Should ours be set back, the time still goes on from here.
    seen: (tokio::time::Instant, UnixTime),
    keeper: Keeper,
    worry: Worry,
    in_trouble: bool,
    run: RunState,
    tunnel: Option<Tunnel>,
}

/// The tunnel, as the daemon holds it.
struct Tunnel {
    standing: watch::Sender<Standing>,
    said: mpsc::Receiver<Said>,
    /// Everything that works beside us, ended with us.
    _tasks: JoinSet<()>,
}

/// The command.
///
/// # Errors
/// When there is nothing to keep alive, the folder cannot be used, or with [`Length::Once`] when what was due failed.
pub async fn run(store: &Keystore, options: &Options) -> Result<(), Complaint> {
    let mut stop = StopSignal::new().map_err(|e| Complaint::new(Exit::Failure, "signals", e.to_string()))?;
    let events = Events { format: options.format };
    if let Some(every) = platform::watchdog_interval() {
        // A task of its own: it proves that the runtime turns, also while a request takes its time.
        tokio::spawn(async move {
            loop {
                platform::notify_alive();
                tokio::time::sleep(every).await;
            }
        });
    }
    if store.credential()?.is_none() && store.pending()?.is_none_or(|pending| pending.denied.is_some()) {
        return upkeep::load(store).map(drop);
    }
    // One for each folder: two would throw each other's tunnels out.
    let _running = match options.length {
        Length::ForEver => Some(store.running().await?),
        Length::Once => None,
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
    let state = store.state(&credential.facts);
    let what = format!("keeping `{}` alive; valid until {}", credential.facts.identity, credential.life.not_after);
    events.tell(Level::Info, "started", &what, &[("serial", credential.facts.serial.clone())]);
    platform::notify_ready();
    let offset = Offset::from_secs(state.clock_offset);
    let mut daemon = Daemon {
        store,
        options,
        events,
        offset,
        seen: (tokio::time::Instant::now(), offset.gateway_time(clock::now())),
        in_trouble: state.trouble.is_some(),
        credential,
        keeper: Keeper::new(),
        worry: Worry::None,
        run: RunState {
            pid: std::process::id(),
            since: clock::now().secs(),
            exposes: options.services.offers(),
            reaches: options.services.reaches().map(|(name, _)| name.to_owned()).collect(),
            tunnel: None,
        },
        tunnel: None,
    };
    daemon.tunnel = daemon.dig().await?;
    daemon.note_run();
    let ended = daemon.keep(&mut stop).await?;
    platform::notify_stopping();
    if let Ended::Signal(signal) = ended {
        events.tell(Level::Info, "stopped", &format!("stopped by {signal}"), &[]);
    }
    Ok(())
}

/// Least and most time before a refusal is asked about again: it stands until somebody changes the policy, the token or the locks.
const REFUSED_AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3_600));

/// Whether a person has decided it, for good.
fn is_final(complaint: &Complaint) -> bool {
    matches!(complaint.code.as_str(), "denied-by-person" | "removed")
}

/// Asks, with the key and what was asked that lie in the folder, until there is an identity. Nobody has to come by when a request has
/// lapsed or was refused: only what a person decided ends it. Nothing when a signal came first.
async fn ask_until_joined(
    store: &Keystore,
    options: &Options,
    stop: &mut StopSignal,
) -> Result<Option<Credential>, Complaint> {
    let events = Events { format: options.format };
    let mut failures = 0;
    loop {
        // Somebody at the keyboard may have joined, left, or asked for something else meanwhile.
        if let Some(credential) = store.credential()? {
            return Ok(Some(credential));
        }
        let Some(pending) = store.pending()?.filter(|pending| pending.denied.is_none()) else {
            return upkeep::load(store).map(Some);
        };
        let complaint = match go_on(store, options, pending, stop).await {
            Ok(joined) => return Ok(joined),
            Err(complaint) if options.length == Length::Once || is_final(&complaint) => return Err(complaint),
            Err(complaint) => complaint,
        };
        failures += 1;
        note_refusal(store, &complaint, failures);
        let (least, most) = REFUSED_AGAIN;
        let pause = backoff(failures, most, None, entropy::draw()).max(least);
        let what = format!("{complaint}; asking again in {}", text::span(pause));
        events.tell(Level::Error, "not-joined", &what, &[("code", complaint.code.clone())]);
        if !sleep_by_the_clock(pause, stop).await {
            return Ok(None);
        }
    }
}

/// Writes down why there is no identity yet. Best effort, as all trouble.
fn note_refusal(store: &Keystore, complaint: &Complaint, failures: u32) {
    let Ok(Some(pending)) = store.pending() else { return };
    let since = pending.trouble.as_ref().map_or_else(|| clock::now().secs(), |before| before.since);
    let (code, what) = (complaint.code.clone(), complaint.what.clone());
    let trouble = Some(Trouble { code, what, since, failures, locked: complaint.exit == Exit::Locked });
    let _ = store.save_pending(&Pending { trouble, ..pending });
}

/// Sleeps, by the clock of the day and that of this process, whichever is there first: one stands still in a suspend, the other can be set
/// back. False when a signal came.
async fn sleep_by_the_clock(pause: Duration, stop: &mut StopSignal) -> bool {
    let (began, until) = (tokio::time::Instant::now(), clock::now().plus(pause));
    while let Some(nap) = nap(began.elapsed(), pause, clock::now(), until) {
        tokio::select! {
            _ = stop.wait() => return false,
            () = tokio::time::sleep(nap) => {}
        }
    }
    true
}

/// The later of the two: the clock of the day may have been set back, and the other stands still in a suspend.
fn by_two_clocks(by_the_day: UnixTime, then: UnixTime, elapsed: Duration) -> UnixTime {
    by_the_day.max(then.plus(elapsed))
}

/// How long to sleep in one piece: nothing when either clock says that it is time.
fn nap(slept: Duration, pause: Duration, now: UnixTime, until: UnixTime) -> Option<Duration> {
    let left = until.since(now).min(pause.saturating_sub(slept));
    (!left.is_zero()).then_some(left.min(NAP))
}

/// Goes on with a request that `lychgate join` began. Nothing when a signal came first.
async fn go_on(
    store: &Keystore,
    options: &Options,
    pending: Pending,
    stop: &mut StopSignal,
) -> Result<Option<Credential>, Complaint> {
    let pin = pki::KeyDigest::parse_hex(&pending.pin)
        .map_err(|_| Complaint::new(Exit::Files, "files", "`pending.json` holds no pin"))?;
    let events = Events { format: options.format };
    events.tell(Level::Info, "joining", &format!("going on with the request at {}", pending.gateway), &[]);
    let _lock = store.lock(Duration::from_secs(10)).await?;
    let (expected, manner) = (Expected::Pin(pin), options.manner());
    let pursuit = Pursuit { store, pending, expected, face: None, prior: None, manner };
    let mut talk = AsEvents::new(events);
    match pursue(pursuit, &mut talk, stop).await? {
        End::Installed(credential, offset) => {
            upkeep::save_offset(store, &credential, offset)?;
            events.admitted(&credential.facts);
            for line in upkeep::run_hooks(store, &credential, &options.hooks, "joined").await {
                events.tell(Level::Warning, "hook-failed", &line, &[]);
            }
            Ok(Some(*credential))
        }
        End::Waiting(notice) => Err(waiting(&notice)),
        End::Stopped(_) => Ok(None),
    }
}

fn waiting(notice: &Notice) -> Complaint {
    Complaint::new(Exit::Waiting, "waiting", format!("the request {} waits for an approver", notice.id))
        .hint(format!("read them the code {}, and run this again", notice.code))
}

impl Options {
    fn manner(&self) -> Manner {
        match self.length {
            Length::ForEver => Manner { patience: Patience::Endless, on_wait: OnWait::Stay },
            Length::Once => Manner { patience: Patience::Once, on_wait: OnWait::Leave },
        }
    }
}

impl Daemon<'_> {
    fn now(&self) -> UnixTime {
        let (moment, then) = self.seen;
        by_two_clocks(self.offset.gateway_time(clock::now()), then, moment.elapsed())
    }

    /// What was learnt of the gateway's clock.
    fn set_offset(&mut self, offset: Offset) {
        self.offset = offset;
        self.seen = (tokio::time::Instant::now(), offset.gateway_time(clock::now()));
    }

    /// One of the two clocks was set: everything here goes by the gateway's time all the same.
    fn clock_was_set(&mut self, offset: Offset) {
        self.set_offset(offset);
        // What is written down is for the other commands; when it cannot be written, the next look tries again.
        let _ = upkeep::save_offset(self.store, &self.credential, offset);
        if let Some(tunnel) = &self.tunnel {
            tunnel.standing.send_modify(|standing| {
                standing.offset = offset;
                if let Some(seal) = &standing.seal {
                    seal.set_offset(offset);
                }
            });
        }
    }

    /// The gateway said what time it is.
    fn heard_time(&mut self, offset: Offset) {
        if !offset.is_about(self.offset) {
            self.clock_was_set(offset);
            let time = offset.gateway_time(clock::now());
            let what = format!("the clock here or at the gateway was set; it is {time} by the gateway's");
            self.events.tell(Level::Warning, "clock", &what, &[]);
        }
    }

    async fn keep(&mut self, stop: &mut StopSignal) -> Result<Ended, Complaint> {
        loop {
            self.follow().await;
            let now = self.now();
            self.voice_worry(now);
            let failure = match self.keeper.errand(&self.credential.life, now) {
                Errand::Sleep(_) if self.options.length == Length::Once => return Ok(Ended::NothingDue),
                Errand::Sleep(until) => {
                    let nap =
                        until.since(now).min(if self.options.length == Length::Once { NAP } else { FOLDER_EVERY });
                    let said = async {
                        match &mut self.tunnel {
                            Some(tunnel) => tunnel.said.recv().await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        signal = stop.wait() => return Ok(Ended::Signal(signal)),
                        () = tokio::time::sleep(nap) => continue,
                        said = said => match said {
                            // The gateway is asked: it knows whether our certificate is older than the wish.
                            Some(Said::RenewNow) => self.look().await,
                            Some(Said::Clock(offset)) => {
                                self.heard_time(offset);
                                continue;
                            }
                            Some(said) => {
                                // A machine that started before its network had nobody to ask for this.
                                let up = matches!(said, Said::News(News::Up));
                                self.hear(said);
                                if up && self.lacks_seal() {
                                    self.tell_tunnel().await;
                                }
                                // What stood in the way, such as a lock, is over.
                                if up && self.in_trouble { self.look().await } else { continue }
                            }
                            None => {
                                self.tunnel = None;
                                continue;
                            }
                        }
                    }
                }
                // A signal may cut these short anywhere: what is on the disk is whole at every moment.
                Errand::Look => tokio::select! {
                    signal = stop.wait() => return Ok(Ended::Signal(signal)),
                    outcome = self.look() => outcome,
                },
                Errand::Renew => tokio::select! {
                    signal = stop.wait() => return Ok(Ended::Signal(signal)),
                    outcome = self.renew() => outcome,
                },
                Errand::Rejoin => match self.rejoin(stop).await {
                    Ok(Some(ended)) => return Ok(ended),
                    Ok(None) => Ok(()),
                    Err(complaint) => Err(complaint),
                },
            };
            if let Err(complaint) = failure
                && (self.options.length == Length::Once || is_final(&complaint))
            {
                return Err(complaint);
            }
        }
    }

    /// Digs the tunnel, for a machine that runs for good.
    async fn dig(&self) -> Result<Option<Tunnel>, Complaint> {
        if self.options.length == Length::Once || self.credential.identity.role != pki::Role::Machine {
            return Ok(None);
        }
        let services = &self.options.services;
        let mut listeners = Vec::new();
        for (name, reach) in services.reaches() {
            listeners.push((reach::listen(name, reach).await?, reach.clone()));
        }
        let (standing, watching) = watch::channel(self.standing().await);
        let (tell, said) = mpsc::channel(64);
        let (wanted, requests) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        let reaching = Arc::new(AtomicUsize::new(0));
        let open = Arc::clone(&reaching);
        let (gone, abandoned) = mpsc::channel(16);
        let words = Arc::<Words>::default();
        let parts = reach::Parts {
            wanted,
            abandoned: gone,
            words: Arc::clone(&words),
            open,
            standing: watching.clone(),
            tell: tell.clone(),
        };
        for (listener, reach) in listeners {
            tasks.spawn(reach::offer(listener, reach, parts.clone()));
        }
        // The tunnel ends when nobody is left who could want a stream; with nothing to reach, that is us.
        let keep = parts.wanted;
        tasks.spawn(async move {
            keep.closed().await;
        });
        let services = Arc::new(services.clone());
        let parts = tunnel::Parts { services, standing: watching, tell, wanted: requests, abandoned, words, reaching };
        tasks.spawn(tunnel::hold(parts));
        let names: Vec<&str> = self.options.services.names().collect();
        let what = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        self.events.tell(Level::Info, "exposing", &format!("people may be let through to: {what}"), &[]);
        Ok(Some(Tunnel { standing, said, _tasks: tasks }))
    }

    /// Who we are now, for the tunnel.
    async fn standing(&self) -> Standing {
        let seal = if self.options.services.any_sealed() { self.seal().await } else { None };
        Standing { credential: Held::new(self.store, self.credential.clone()), offset: self.offset, seal }
    }

    /// Whether something is sealed and there is no certificate for it.
    fn lacks_seal(&self) -> bool {
        let has = self.tunnel.as_ref().is_some_and(|tunnel| tunnel.standing.borrow().seal.is_some());
        self.options.services.any_sealed() && !has
    }

    /// A certificate for sealed services. Without one they are refused, and everything else goes on.
    async fn seal(&self) -> Option<Arc<Seal>> {
        let credential = Held::new(self.store, self.credential.clone()).newest();
        match upkeep::seal(&credential, self.offset).await {
            Ok(seal) => Some(Arc::new(seal)),
            Err(why) => {
                let what = format!("no certificate for sealed services: {why}; they are refused until there is one");
                self.events.tell(Level::Warning, "seal-failed", &what, &[]);
                None
            }
        }
    }

    /// Writes down how things stand, for `lychgate status`.
    fn note_run(&self) {
        if self.options.length == Length::ForEver {
            upkeep::note_run(self.store, &self.credential, &self.run);
        }
    }

    /// What is known of the tunnel, by its own words.
    fn note_tunnel(&mut self, said: &Said) {
        let (up, why) = match said {
            Said::News(News::Up) => (true, None),
            Said::News(News::Down(why, _)) => (false, Some(why.clone())),
            Said::News(_) | Said::RenewNow | Said::Clock(_) | Said::Stream(_) => return,
        };
        // It is down since it was lost, however often it was tried since.
        let since = self.run.tunnel.as_ref().filter(|before| before.up == up).map(|before| before.since);
        let since = since.unwrap_or_else(|| clock::now().secs());
        self.run.tunnel = Some(TunnelState { up, since, why });
        self.note_run();
    }

    /// The tunnel has something for the log.
    fn hear(&mut self, said: Said) {
        self.note_tunnel(&said);
        match said {
            Said::RenewNow | Said::Clock(_) | Said::News(News::Time(_)) => {}
            Said::Stream(line) => self.events.tell(Level::Info, "session", &line, &[]),
            Said::News(News::Up) => self.events.tell(Level::Info, "tunnel-up", "people can be led here", &[]),
            Said::News(News::Down(why, pause)) => {
                let what = format!("{why}; trying again in {}", text::span(pause.max(Duration::from_secs(1))));
                self.events.tell(Level::Warning, "tunnel-down", &what, &[]);
            }
            Said::News(News::Draining(left)) => {
                let what =
                    format!("the gateway closes this connection; what is open may go on for {}", text::span(left));
                self.events.tell(Level::Info, "tunnel-draining", &what, &[]);
            }
            Said::News(News::Reauthenticated) => {
                self.events.tell(Level::Info, "tunnel-renewed", "the tunnel goes on with the renewed certificate", &[]);
            }
            Said::News(News::NotReauthenticated(why)) => {
                let what =
                    format!("the tunnel could not be renewed, and ends with the certificate it began with: {why}");
                self.events.tell(Level::Warning, "tunnel-not-renewed", &what, &[]);
            }
        }
    }

    /// Says once when it gets late, and once when it is too late.
    fn voice_worry(&mut self, now: UnixTime) {
        let worry = self.credential.life.worry(now);
        if worry > self.worry {
            let life = &self.credential.life;
            match worry {
                Worry::None => {}
                Worry::Late => {
                    let left = text::span(life.not_after.since(now));
                    let what = format!("still not renewed; {left} left of the certificate");
                    self.events.tell(Level::Error, "late", &what, &[("not_after", life.not_after.to_string())]);
                }
                Worry::Expired => {
                    let what = format!("the certificate expired at {}; rejoining with it as evidence", life.not_after);
                    self.events.tell(Level::Error, "expired", &what, &[("not_after", life.not_after.to_string())]);
                }
            }
        }
        self.worry = worry;
    }

    /// Goes on with the certificate that the folder has, if another hand renewed: the one in memory is over for the gateway, and its use
    /// would be taken for a thief's.
    async fn follow(&mut self) -> bool {
        let Some(newer) = held::newer(self.store, &self.credential) else { return false };
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
                self.keeper = self.keeper.looked(&self.credential.life, seen.renew_now, time, entropy::draw());
                if seen.renew_now {
                    let when = match self.keeper.errand(&self.credential.life, time) {
                        Errand::Sleep(until) => format!("due in {}", text::span(until.since(time))),
                        Errand::Look | Errand::Renew | Errand::Rejoin => "due now".to_owned(),
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
                // The first use of the new certificate; a failure is reported by itself and repeated by the keeper.
                let looked = self.look().await;
                self.tell_tunnel().await;
                self.run_hooks("renewed").await;
                looked
            }
            Err(failed) => Err(self.failed("renewal", failed)),
        }
    }

    /// The tunnel shows the new certificate too, while its streams go on.
    async fn tell_tunnel(&self) {
        if let Some(tunnel) = &self.tunnel {
            let standing = self.standing().await;
            // It may have ended; the next one begins with what we hold then.
            let _ = tunnel.standing.send(standing);
        }
    }

    /// A new certificate.
    fn take(&mut self, credential: Credential, event: &str) {
        self.credential = credential;
        self.set_offset(Offset::from_secs(self.store.state(&self.credential.facts).clock_offset));
        self.keeper = self.keeper.renewed(self.now());
        self.worry = Worry::None;
        let life = &self.credential.life;
        let what = format!("valid until {}, to be renewed from {}", life.not_after, life.renew_after);
        let fields = [
            ("serial", self.credential.facts.serial.clone()),
            ("not_after", life.not_after.to_string()),
            ("renew_after", life.renew_after.to_string()),
        ];
        self.events.tell(Level::Info, event, &what, &fields);
    }

    /// Renews the SSH certificates of host keys that are older than ours: after a renewal, or at the next look if that
    /// failed. They last until the certificate before ours would have ended, so there is time for several looks.
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

    /// Counts a failure, writes it down and says it, the louder the later it gets.
    fn failed(&mut self, what: &str, failed: Failed) -> Complaint {
        let (now, draw) = (self.now(), entropy::draw());
        let life = self.credential.life;
        let (locked, expired, retry_after) = (failed.is_lock(), failed.is_expiry(), failed.retry_after());
        let mut complaint = Complaint::from(failed);
        if complaint.code == "forked" && held::newer(self.store, &self.credential).is_some() {
            // It came to the folder while the older one was on its way.
            complaint.what =
                format!("{}: another lychgate renewed in this folder meanwhile, and no thief", complaint.what);
            complaint = complaint.hint("ask an administrator to unlock it; this goes on with the newer certificate");
        }
        self.in_trouble = true;
        upkeep::note_trouble(self.store, &self.credential, &complaint, locked);
        self.keeper = if locked {
            self.keeper.locked(&life, retry_after, now, draw)
        } else if expired {
            self.keeper.expired()
        } else {
            self.keeper.failed(&life, retry_after, now, draw)
        };
        let level = match life.worry(now) {
            Worry::None if complaint.exit == Exit::Untrusted || locked => Level::Error,
            Worry::None => Level::Warning,
            Worry::Late | Worry::Expired => Level::Error,
        };
        let event = if locked { "locked".to_owned() } else { format!("{what}-failed") };
        let next = match self.keeper.errand(&life, now) {
            Errand::Sleep(until) => format!("trying again in {}", text::span(until.since(now))),
            Errand::Look | Errand::Renew | Errand::Rejoin => "trying again now".to_owned(),
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

    /// Joins again with the expired certificate as evidence, and waits if a person must decide.
    async fn rejoin(&mut self, stop: &mut StopSignal) -> Result<Option<Ended>, Complaint> {
        if self.clock_was_wrong().await {
            return Ok(None);
        }
        match self.try_rejoin(stop).await {
            Ok(End::Installed(credential, offset)) => {
                // What was learnt in the conversation; when it cannot be written, the next look learns it again.
                let _ = upkeep::save_offset(self.store, &credential, offset);
                self.take(*credential, "rejoined");
                // As after a renewal: the keeper repeats it when it fails.
                let _ = self.look().await;
                self.tell_tunnel().await;
                self.run_hooks("rejoined").await;
                Ok(None)
            }
            Ok(End::Waiting(notice)) => Err(waiting(&notice)),
            Ok(End::Stopped(_)) => Ok(Some(Ended::Signal("a signal"))),
            Err(complaint) if is_final(&complaint) => Err(complaint),
            Err(complaint) => {
                let (now, draw) = (self.now(), entropy::draw());
                self.in_trouble = true;
                let locked = complaint.exit == Exit::Locked;
                upkeep::note_trouble(self.store, &self.credential, &complaint, locked);
                // What the gateway refused once it refuses again for a while; slowly, like a lock.
                self.keeper = self.keeper.locked(&self.credential.life, None, now, draw);
                let hint = complaint.hint.clone().unwrap_or_default();
                let fields = [("code", complaint.code.clone()), ("hint", hint)];
                self.events.tell(Level::Error, "rejoin-failed", &complaint.what, &fields);
                Err(complaint)
            }
        }
    }

    /// Whether the certificate only seemed to be over, because the clock was set since the last contact.
    async fn clock_was_wrong(&mut self) -> bool {
        let Ok(offset) = upkeep::ask_time(&self.credential).await else { return false };
        let wrong = !self.keeper.is_told_expired() && !self.credential.life.is_over(offset.gateway_time(clock::now()));
        if wrong {
            let what = "the clock was set since the last contact; the certificate is not over by the gateway's";
            self.events.tell(Level::Warning, "clock", what, &[]);
            self.clock_was_set(offset);
            self.worry = Worry::None;
        }
        wrong
    }

    async fn try_rejoin(&self, stop: &mut StopSignal) -> Result<End, Complaint> {
        let _lock = self.store.lock(Duration::from_secs(10)).await?;
        self.store.mend()?;
        if let Some(current) = self.store.credential()?.filter(|current| current.serial != self.credential.serial) {
            // Somebody else did it: `lychgate join` at the keyboard.
            return Ok(End::Installed(Box::new(current), self.offset));
        }
        let earlier = self.store.pending()?;
        if let Some(Pending { denied: Some(denied), gateway, .. }) = &earlier {
            return Err(denied_before(denied, gateway));
        }
        let pending = rejoin_pending(&self.credential, earlier, None, &Wish::default());
        let pursuit = Pursuit {
            store: self.store,
            pending,
            expected: upkeep::roots_of(&self.credential),
            face: None,
            prior: Some(&self.credential),
            manner: self.options.manner(),
        };
        let mut talk = AsEvents::new(self.events);
        pursue(pursuit, &mut talk, stop).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is due in days, such as a renewal, is due whatever became of one of the clocks meanwhile.
    #[test]
    fn what_is_due_in_days_by_two_clocks() {
        const DAY: u64 = 86_400;
        const NOW: u64 = 20_000 * DAY;
        for days in [8, 500] {
            let due = UnixTime::new(NOW + days * DAY);
            for (what, by_the_day, elapsed, want) in [
                ("at the start", NOW, 0, false),
                ("a second before", NOW + days * DAY - 1, days * DAY - 1, false),
                ("on time", NOW + days * DAY, days * DAY, true),
                ("after a suspend", NOW + days * DAY, 10, true),
                ("set back meanwhile", NOW - 500 * DAY, days * DAY, true),
                ("set back, and not yet", NOW - 500 * DAY, days * DAY - 1, false),
                ("set ahead: the gateway is asked before anything is believed over", NOW + 2 * days * DAY, 10, true),
            ] {
                let now = by_two_clocks(UnixTime::new(by_the_day), UnixTime::new(NOW), Duration::from_secs(elapsed));
                assert_eq!(now >= due, want, "{what}, {days} days");
            }
        }
    }

    /// A pause of days through suspends and clocks that are set: it is over by either clock, and never longer than asked for.
    #[test]
    fn pauses_by_two_clocks() {
        const DAY: u64 = 86_400;
        const NOW: u64 = 20_000 * DAY;
        for days in [8, 500] {
            let pause = Duration::from_secs(days * DAY);
            let until = UnixTime::new(NOW + days * DAY);
            for (what, slept, now, want) in [
                ("at the start", 0, NOW, true),
                ("half-way", days * DAY / 2, NOW + days * DAY / 2, true),
                ("after a suspend that was longer", 10, NOW + days * DAY, false),
                ("when the clock was set ahead", 10, NOW + 2 * days * DAY, false),
                ("when the clock was set back, before it is over", days * DAY - 1, NOW - 500 * DAY, true),
                ("when the clock was set back, and it is over", days * DAY, NOW - 500 * DAY, false),
            ] {
                let nap = nap(Duration::from_secs(slept), pause, UnixTime::new(now), until);
                assert_eq!(nap.is_some(), want, "{what}, {days} days");
                assert!(nap.is_none_or(|nap| nap <= NAP), "{what}, {days} days: looks at the clock within the minute");
            }
        }
    }
}
