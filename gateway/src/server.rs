//! Puts the gateway together, runs it until it is told to stop, and takes it down in order.

pub mod authority;
pub mod noted;
mod upkeep;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use crate::{
    attest::Attestors,
    complaint::Complaint,
    config::{Config, reload},
    core::{
        audit::{Event, Upkeep},
        change::Changes,
        face::{Face, FaceNames},
        keys,
        records::Seen,
        refusal::Refusal,
        timekeeping,
    },
    edge::{
        http,
        listen::{Bound, Faces, ListenerDeps, Server},
        series::series,
        tls::TlsSwap,
    },
    flow::{
        clock, damaged, enforcer, lease, order, owners, renew_now,
        shell::{Actor, Settings, Shell},
        sweep, tunnel_records,
    },
    limits,
    ports::{
        clock::Clock,
        entropy::Entropy,
        files::{self, Existing, FileAccess},
        home, local,
        metrics::TaskOutcome,
        notify,
        rate::Rates,
    },
    registry::enforcer::Rechecked,
    rules,
    signer::{Authority, Passphrase, Signer},
    store,
};

/// Bytes in a MiB.
pub const MIB: u64 = 1024 * 1024;

/// What to start.
pub struct Start {
    /// The configuration.
    pub config: Config,
    /// Where it was read, to be read again on SIGHUP.
    pub path: PathBuf,
    /// Start although the store is older than the last one seen here.
    pub accept_rollback: bool,
}

/// Opens the store, loads the policy, and puts everything into one shell.
pub async fn shell(config: &Config, ca: Authority, clock: Clock, entropy: Entropy) -> Result<Arc<Shell>, Complaint> {
    let settings = settings(config)?;
    let rules = policy(config)?;
    let (engine, path, cache) = (config.store.engine, config.store.path.clone(), config.store.cache_bytes / MIB);
    let opened = tokio::task::spawn_blocking(move || store::open(engine, &path, cache)).await;
    let store = opened.map_err(Complaint::failed)?.map_err(Complaint::store)?;
    let shell = Shell::new(store, rules, ca, settings, config.name.clone(), (clock, entropy));
    shell.metrics.expect(&series());
    Ok(shell)
}

/// Reads the configuration, which nobody else may have written.
///
/// # Errors
/// What is wrong with it, or with its owner and mode.
pub fn configuration(path: &Path) -> Result<Config, Complaint> {
    home::believed_file(path).map_err(Complaint::wrong)?;
    Config::load(path).map_err(Complaint::wrong)
}

/// Looks at owner and mode of every folder of the gateway, before anything in it is believed.
pub fn believe_folders(config: &Config) -> Result<(), Complaint> {
    for folder in [&config.data_dir, &config.data_dir.join("ca"), &config.store.path] {
        home::believed(folder).map_err(Complaint::wrong)?;
    }
    Ok(())
}

/// Reads the policy, which nobody else may have written.
fn policy(config: &Config) -> Result<policy::Ruleset, Complaint> {
    for file in &config.policy_files {
        home::believed_file(file).map_err(Complaint::wrong)?;
    }
    rules::load(&config.policy_files).map_err(Complaint::wrong)
}

/// Builds the attestors.
///
/// # Errors
/// The section that makes none. Where a configuration was read, that was said then.
fn attestors(config: &Config) -> Result<Attestors, Complaint> {
    Attestors::from(&config.attest).map_err(|(kind, bad)| Complaint::wrong(format!("[attest.{kind}]: {bad}")))
}

fn settings(config: &Config) -> Result<Settings, Complaint> {
    Ok(Settings {
        public_enroll: config.public.enroll.to_string(),
        public_manage: config.public.manage.to_string(),
        public_proxy: config.public.proxy.as_ref().map(ToString::to_string),
        services_below: services_below(&config.names),
        tunnel_hosts: config.names.manage.iter().map(host).collect(),
        proxy_hosts: config.names.proxy.iter().map(host).collect(),
        public_crl: config.public.crl.clone(),
        hosts: config.names.enroll.iter().map(host).collect(),
        pending_ttl: config.enroll.pending_ttl,
        pending_max: config.enroll.pending_max,
        pending_max_per_prefix: config.enroll.pending_max_per_prefix,
        certificates_per_life: u32::try_from(config.limits.certificates_per_life).unwrap_or(u32::MAX),
        audit_retention: config.audit_retention,
        attestors: Arc::new(attestors(config)?),
    })
}

/// The name below which services are understood: one with more than one label, or OpenSSL takes no certificate for what is
/// below it.
fn services_below(names: &FaceNames) -> Option<String> {
    names.proxy.iter().find_map(|name| match name {
        pki::GatewayName::Dns(name) if name.contains('.') => Some(name.clone()),
        pki::GatewayName::Dns(_) | pki::GatewayName::Ip(_) => None,
    })
}

fn host(name: &pki::GatewayName) -> String {
    match name {
        pki::GatewayName::Dns(name) => name.clone(),
        pki::GatewayName::Ip(address) => address.to_string(),
    }
}

/// Runs a gateway until SIGTERM or SIGINT, or until its store stops. `up` is called once it listens.
///
/// # Errors
/// Why it did not start, or why it stopped by itself.
pub async fn serve(start: Start, up: impl FnOnce(&Arc<Shell>) + Send) -> Result<(), Complaint> {
    let Start { config, path, accept_rollback } = start;
    believe_folders(&config)?;
    let (clock, entropy) = (Clock::system(), Entropy::os());
    let passphrase = Passphrase::load(&config.passphrase_file).map_err(Complaint::failed)?;
    let ca = Authority::load(&config.data_dir, &config.trust_domain, &passphrase, &clock).map_err(Complaint::failed)?;
    drop(passphrase);
    let shell = notify::starting(shell(&config, ca, clock, entropy)).await?;
    check_epoch(&shell, &config, accept_rollback).await?;
    damaged::at_start(&shell).await.map_err(|fault| {
        Complaint::store(fault).hint(
            "quarantine it with `lychgate-gateway store quarantine KEY`, and set the lock again that it may have been",
        )
    })?;
    // Before anything is written: also what is written first has a time.
    clock::look(&shell).await.map_err(Complaint::store)?;
    order::advance(&shell).await.map_err(Complaint::store)?;
    owners::complete(&shell).await.map_err(Complaint::store)?;
    let (enforcing, renewing) = (enforcer::start(&shell), renew_now::start(&shell));
    policy_loaded(&shell, shell.rules.load().digest()).await?;
    let tls = TlsSwap::new(upkeep::table(&shell, &config.names).await?);
    let rates = Arc::new(Rates::new(&config.limits.rates, Arc::clone(&shell.metrics)));
    let faces = Faces {
        enroll: http::router(&shell, &rates, Face::Enroll),
        manage: http::router(&shell, &rates, Face::Manage),
        shell: Arc::clone(&shell),
        rates: Arc::clone(&rates),
    };
    let parts = ListenerDeps {
        tls: Arc::clone(&tls),
        live: Arc::clone(&shell.live),
        clock: shell.clock.clone(),
        limits: config.limits.clone(),
        metrics: Arc::clone(&shell.metrics),
        balancers: config.proxy_protocol_from.clone(),
    };
    let server = Server::bind(config.listen, parts).await.map_err(Complaint::failed)?;
    let bound = server.bound();
    tell_ports(&shell, bound);
    let running = server.start(faces);
    announce(&config, bound)?;
    up(&shell);
    notify::ready("serving");
    let mut tasks = background(&shell, &config, path, &tls, &rates);
    tasks.extend(enforcing);
    tasks.extend([lease::start(&shell), tunnel_records::start(&shell), renewing]);
    let stopped = until_told(&shell).await;
    notify::stopping();
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    lease::give_up(&shell).await;
    let drained = running.drain(config.limits.drain_time).await;
    tracing::info!(open = drained.open, cut = drained.cut, "drained");
    shell.store.close().await;
    let _ = local::remove(&config.data_dir.join("run").join("addresses.json"));
    tracing::info!("stopped");
    stopped
}

async fn until_told(shell: &Shell) -> Result<(), Complaint> {
    tokio::select! {
        what = stop_signal() => {
            tracing::info!(signal = what, "signal received: draining");
            Ok(())
        }
        () = shell.fatal.notified() => {
            tracing::error!("the store has stopped; the gateway exits, and reads what is on the disk when it starts again");
            Err(Complaint::store("the store has stopped: see the log for the cause; nothing acknowledged is lost")
                .hint("free space on the disk if it is full, then start the gateway again"))
        }
    }
}

/// Puts the ports that were chosen into what clients are told.
fn tell_ports(shell: &Shell, bound: Bound) {
    let mut settings = (**shell.settings.load()).clone();
    fill_port(&mut settings.public_enroll, bound.enroll);
    fill_port(&mut settings.public_manage, bound.manage);
    if let (Some(public), Some(at)) = (&mut settings.public_proxy, bound.proxy) {
        fill_port(public, at);
    }
    let proxy = bound.proxy.map(|at| at.to_string());
    tracing::info!(
        enroll = %bound.enroll, manage = %bound.manage, proxy, public = settings.public_enroll, pin = %shell.ca().pin(),
        "listening"
    );
    shell.settings.store(Arc::new(settings));
}

/// Says where the faces are in `run/addresses.json`, once they answer.
fn announce(config: &Config, bound: Bound) -> Result<(), Complaint> {
    let Bound { enroll, manage, proxy } = bound;
    let dir = config.data_dir.join("run");
    files::make_private_dir(&dir).map_err(Complaint::failed)?;
    let proxy = proxy.map_or_else(String::new, |proxy| format!(",\"proxy\":\"{proxy}\""));
    let text = format!("{{\"enroll\":\"{enroll}\",\"manage\":\"{manage}\"{proxy}}}\n");
    files::write_atomic(&dir.join("addresses.json"), text.as_bytes(), FileAccess::Public, Existing::Replace)
        .map_err(Complaint::failed)
}

/// A configured port 0 means "any free one": clients are told the one it became.
fn fill_port(public: &mut String, listening: SocketAddr) {
    if let Some(host) = public.strip_suffix(":0") {
        *public = format!("{host}:{}", listening.port());
    }
}

/// Refuses to start on a store that is older than the last one seen here, or of which nothing was ever seen here: its
/// newest locks would be forgotten.
async fn check_epoch(shell: &Shell, config: &Config, accept_rollback: bool) -> Result<(), Complaint> {
    let path = epoch_file(&config.data_dir);
    let stored = epoch(shell).await?;
    shell.epoch.store(stored, Ordering::Relaxed);
    let seen: Option<u64> = if files::exists(&path) {
        let text = files::read_text(&path).map_err(Complaint::failed)?;
        Some(text.trim().parse().map_err(|_| Complaint::failed(format!("`{}` is not a number", path.display())))?)
    } else {
        None
    };
    let older = match seen {
        Some(seen) if stored < seen => format!(
            "the store is older than the one last used here (lock epoch {stored}, last {seen}): locks set since then would be lost"
        ),
        Some(_) => return save_epoch(&path, stored),
        None => format!(
            "the store was restored or copied here (`{}` does not exist): locks set after that copy was made would be lost",
            path.display()
        ),
    };
    if accept_rollback {
        let mut changes = Changes::new();
        changes.event(Event::Upkeep(Upkeep::RollbackAccepted { why: older }));
        let actor = Actor { who: "gateway", instance: "start" };
        shell.commit(changes, &actor).await.map_err(|error| Complaint::store(format!("{error:?}")))?;
        return save_epoch(&path, stored);
    }
    Err(Complaint::store(older)
        .hint("restore a newer backup; or start once with --accept-rollback and set the lost locks again"))
}

/// Where the lock epoch is kept outside the store.
#[must_use]
pub fn epoch_file(data_dir: &Path) -> PathBuf {
    data_dir.join("epoch")
}

/// Begins to keep the lock epoch beside a store that was just made.
///
/// # Errors
/// When it cannot be written.
pub fn begin_epoch(config: &Config) -> Result<(), Complaint> {
    save_epoch(&epoch_file(&config.data_dir), 0)
}

async fn epoch(shell: &Shell) -> Result<u64, Complaint> {
    let seen: Option<Seen<u64>> = shell.get(keys::EPOCH.to_owned()).await.map_err(Complaint::store)?;
    Ok(seen.map_or(0, |seen| seen.record))
}

fn save_epoch(path: &Path, epoch: u64) -> Result<(), Complaint> {
    let text = format!("{epoch}\n");
    files::write_atomic(path, text.as_bytes(), FileAccess::Private, Existing::Replace).map_err(Complaint::failed)
}

async fn policy_loaded(shell: &Shell, digest: &str) -> Result<(), Complaint> {
    let mut changes = Changes::new();
    changes.put(keys::POLICY.to_owned(), &digest);
    changes.event(Event::PolicyLoaded { digest: digest.to_owned() });
    let actor = Actor { who: "gateway", instance: "policy" };
    shell.commit(changes, &actor).await.map(drop).map_err(|error| Complaint::store(format!("{error:?}")))
}

type Task = tokio::task::JoinHandle<()>;

/// Everything that goes on beside serving.
fn background(shell: &Arc<Shell>, config: &Config, path: PathBuf, tls: &Arc<TlsSwap>, rates: &Arc<Rates>) -> Vec<Task> {
    let mut tasks = vec![
        tokio::spawn(housekeeping(Arc::clone(shell), config.data_dir.clone())),
        tokio::spawn(follow_epoch(Arc::clone(shell), epoch_file(&config.data_dir))),
        tokio::spawn(reload_on_hangup(Arc::clone(shell), path.clone(), Arc::clone(tls), as_table(&path))),
        tokio::spawn(upkeep::own_leaf(Arc::clone(shell), Arc::clone(tls))),
        tokio::spawn(upkeep::ca_ends(Arc::clone(shell))),
    ];
    let timed = Arc::clone(shell);
    tasks.push(tokio::spawn(async move {
        loop {
            tokio::time::sleep(limits::LEASES_LOOK).await;
            // What fails here fails everybody else as well, and is said there; it is tried again.
            let _ = timed.store.lapse(timed.clock.uptime()).await;
        }
    }));
    let rates = Arc::clone(rates);
    tasks.push(tokio::spawn(async move {
        loop {
            tokio::time::sleep(limits::RATES_SWEEP).await;
            rates.sweep();
        }
    }));
    let watched = Arc::clone(shell);
    tasks.push(tokio::spawn(notify::watchdog(move || store_answers(Arc::clone(&watched)))));
    tasks
}

/// Whether the store answers a read in good time: what tells the watchdog a gateway that serves from one that hangs.
pub async fn store_answers(shell: Arc<Shell>) -> bool {
    match tokio::time::timeout(limits::WATCHDOG_READ, shell.get::<u64>(keys::EPOCH.to_owned())).await {
        Ok(Ok(_)) => true,
        Ok(Err(fault)) => {
            tracing::error!(%fault, "the store does not answer");
            false
        }
        Err(_) => {
            tracing::error!("the store has not answered a read for {} s", limits::WATCHDOG_READ.as_secs());
            false
        }
    }
}

async fn housekeeping(shell: Arc<Shell>, data_dir: PathBuf) {
    loop {
        let swept = round(&shell, &data_dir).await;
        shell.metrics.housekeeping(TaskOutcome::of(&swept));
        if let Err(refusal) = swept {
            tracing::error!(%refusal, "housekeeping failed; it is tried again in a minute");
        }
        tokio::time::sleep(limits::SWEEP).await;
    }
}

async fn round(shell: &Shell, data_dir: &Path) -> Result<(), Refusal> {
    if clock::doubt(shell).is_some() && operator_believes(shell, &clock_word(data_dir)) {
        clock::accept(shell).await?;
    }
    // Neither waits for the other to succeed.
    let swept = sweep::sweep(shell).await;
    let reported = authority::report(shell, data_dir).await;
    noted::take_up(shell, data_dir).await.and(swept).and(reported)
}

/// Where an operator's word that the clock is right is left for the gateway: a file with the time that is right.
#[must_use]
pub fn clock_word(data_dir: &Path) -> PathBuf {
    data_dir.join("run").join("clock-accepted")
}

/// Takes the word, if there is one. It counts for the time it was given, not for another jump later.
fn operator_believes(shell: &Shell, word: &Path) -> bool {
    let Ok(text) = files::read_text(word) else { return false };
    if let Err(error) = local::remove(word) {
        tracing::error!(%error, "the file of `clock accept` could not be removed");
    }
    let near = |at: u64| at.abs_diff(shell.now().secs()) < timekeeping::TOLERANCE;
    text.trim().parse().is_ok_and(near)
}

/// Keeps the lock epoch outside the store too, where a restored store cannot take it back.
async fn follow_epoch(shell: Arc<Shell>, path: PathBuf) {
    let mut watch = shell.store.watch(vec![keys::EPOCH.into()]);
    while watch.next().await.is_some() {
        let saved = match epoch(&shell).await {
            Ok(epoch) => {
                shell.epoch.store(epoch, Ordering::Relaxed);
                save_epoch(&path, epoch)
            }
            Err(complaint) => Err(complaint),
        };
        if let Err(complaint) = saved {
            tracing::error!(?complaint, "the lock epoch could not be written beside the store");
        }
    }
}

/// Reads policy and configuration again on SIGHUP. What is wrong is said, and what was in force stays.
async fn reload_on_hangup(shell: Arc<Shell>, path: PathBuf, tls: Arc<TlsSwap>, started_with: toml::Table) {
    while reload_wanted(&shell).await {
        let reloaded = reload(&shell, &path, &tls).await;
        shell.metrics.reload(TaskOutcome::of(&reloaded));
        match reloaded {
            Ok(rules) => {
                tracing::info!(rules, "policy and configuration reloaded");
                let waiting = reload::waiting_for_start(&started_with, &as_table(&path));
                if !waiting.is_empty() {
                    tracing::warn!(
                        keys = waiting.join(", "),
                        "these keys were changed and take effect at the next start"
                    );
                }
            }
            Err(complaint) => {
                tracing::error!("reload failed; the old configuration and policy stay in force");
                complaint.to_string().lines().for_each(|line| tracing::error!("{line}"));
            }
        }
    }
}

/// The configuration as it stands in its file. It was read a moment ago; should it have gone since, the next reload says so.
fn as_table(path: &Path) -> toml::Table {
    files::read_text(path).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

async fn reload(shell: &Shell, path: &Path, tls: &TlsSwap) -> Result<usize, Complaint> {
    let config = configuration(path)?;
    let mut fresh = settings(&config)?;
    let rules = policy(&config)?;
    let count = rules.rule_ids().count();
    let before = shell.settings.load_full();
    // What listens where is fixed at start, and so is a port that was chosen then.
    if fresh.public_enroll.ends_with(":0") {
        fresh.public_enroll.clone_from(&before.public_enroll);
    }
    if fresh.public_manage.ends_with(":0") {
        fresh.public_manage.clone_from(&before.public_manage);
    }
    if fresh.public_proxy.as_ref().is_some_and(|public| public.ends_with(":0")) {
        fresh.public_proxy.clone_from(&before.public_proxy);
    }
    let ca = authority::changed(shell, &config).await?;
    let table = match &ca {
        Some(ca) => upkeep::table_by(shell, &Signer::of(Arc::clone(ca)), ca, &config.names).await?,
        None => upkeep::table(shell, &config.names).await?,
    };
    order::advance(shell).await.map_err(Complaint::store)?;
    let changed = rules.digest() != shell.rules.load().digest();
    if changed {
        policy_loaded(shell, rules.digest()).await?;
    }
    // Nothing fails from here on: what is in force is all old or all new.
    if let Some(ca) = ca {
        tracing::info!(generation = ca.signing().generation, pin = %ca.pin(), "another authority is in force");
        shell.authority.store(ca);
    }
    shell.rules.store(Arc::new(rules));
    shell.settings.store(Arc::new(fresh));
    tls.swap(table);
    if changed {
        // Also what is open was allowed by a policy, and must be by this one.
        let Rechecked { ended, unasked, later } = shell.enforcer.policy_changed().await;
        tracing::info!(ended, later, "open connections checked against the new policy");
        if let Some((ended, fault)) = unasked {
            tracing::error!(ended, %fault, "ended open connections that could not be checked against the new policy");
        }
    }
    if let Err(refusal) = authority::report(shell, &config.data_dir).await {
        tracing::error!(%refusal, "who depends on which CA could not be written down; it is tried again in a minute");
    }
    Ok(count)
}

/// SIGHUP, or another gateway with another policy.
async fn reload_wanted(shell: &Shell) -> bool {
    tokio::select! {
        told = hangup() => told,
        () = shell.enforcer.policy_elsewhere.notified() => {
            tracing::info!("another gateway on this store has another policy in force: reading ours again");
            true
        }
    }
}

#[cfg(unix)]
async fn hangup() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::hangup()) {
        Ok(mut signal) => signal.recv().await.is_some(),
        Err(_) => false,
    }
}

#[cfg(not(unix))]
async fn hangup() -> bool {
    std::future::pending().await
}

#[cfg(unix)]
async fn stop_signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return "SIGINT";
    };
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = tokio::signal::ctrl_c() => "SIGINT",
    }
}

#[cfg(not(unix))]
async fn stop_signal() -> &'static str {
    let _ = tokio::signal::ctrl_c().await;
    "SIGINT"
}
