//! Starts the gateway, runs it until a stop signal, and shuts it down in order.

pub mod authority;
pub mod noted;
pub mod upkeep;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use pki::{SshKey, SshKind, UnixTime};

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
        fetch, http,
        listen::{Bound, Drained, Faces, ListenerDeps, Server},
        series::series,
        tls::TlsSwap,
    },
    flow::{
        clock, damaged, enforcer, lead, lease, order, owners, queue, renew_now,
        shell::{Actor, Settings, Shell},
        sweep, tunnel_records,
    },
    limits,
    ports::{
        clock::Clock,
        documents,
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

/// 2^20 bytes.
pub const MIB: u64 = 1024 * 1024;

/// Options of `run`.
pub struct Start {
    /// Loaded from `path`.
    pub config: Config,
    /// The configuration file, read again on SIGHUP.
    pub path: PathBuf,
    /// Start although the store is older than the one last used here.
    pub accept_rollback: bool,
}

/// Opens the store, loads the policy, and makes the [`Shell`].
pub async fn shell(config: &Config, ca: Authority, clock: Clock, entropy: Entropy) -> Result<Arc<Shell>, Complaint> {
    let settings = settings(config, ca.ssh(SshKind::Host), clock.now())?;
    let rules = policy(config)?;
    let (engine, path, cache) = (config.store.engine, config.store.path.clone(), config.store.cache_bytes / MIB);
    let opened = tokio::task::spawn_blocking(move || store::open(engine, &path, cache)).await;
    let store = opened.map_err(Complaint::failed)?.map_err(Complaint::store)?;
    let shell = Shell::new(store, rules, ca, settings, config.name.clone(), (clock, entropy));
    shell.documents.fetch_with(fetch::fetcher());
    shell.metrics.expect(&series());
    Ok(shell)
}

/// Reads the configuration.
///
/// # Errors
/// Also if other users can write it.
pub fn configuration(path: &Path) -> Result<Config, Complaint> {
    home::check_file(path).map_err(Complaint::wrong)?;
    Config::load(path).map_err(Complaint::wrong)
}

/// Checks owner and mode of the gateway's folders. To be called before their files are used.
pub fn check_folders(config: &Config) -> Result<(), Complaint> {
    for folder in [&config.data_dir, &config.data_dir.join("ca"), &config.store.path] {
        home::check(folder).map_err(Complaint::wrong)?;
    }
    Ok(())
}

/// Reads the policy. Refuses files that other users can write.
fn policy(config: &Config) -> Result<policy::Ruleset, Complaint> {
    for file in &config.policy_files {
        home::check_file(file).map_err(Complaint::wrong)?;
    }
    rules::load(&config.policy_files).map_err(Complaint::wrong)
}

/// Builds the attestors. Does not fail for a loaded configuration, which has built them once.
fn attestors(config: &Config, own: &SshKey, now: UnixTime) -> Result<Attestors, Complaint> {
    let built = Attestors::from(&config.attest);
    let built = built.map_err(|(kind, bad)| Complaint::wrong(format!("[attest.{kind}]: {bad}")))?;
    for complaint in built.complaints(documents::read_now, Some(own), now) {
        tracing::warn!("{complaint}");
    }
    Ok(built)
}

fn settings(config: &Config, own: &SshKey, now: UnixTime) -> Result<Settings, Complaint> {
    Ok(Settings {
        public_enroll: config.public.enroll.to_string(),
        public_manage: config.public.manage.to_string(),
        public_proxy: config.public.proxy.as_ref().map(ToString::to_string),
        dial_back_at: config.public.dial_back.as_ref().map(ToString::to_string),
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
        attestors: Arc::new(attestors(config, own, now)?),
    })
}

/// The name of the proxy face below which services have their names. It has several labels: OpenSSL accepts no wildcard below a name
/// of one label.
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
/// The gateway could not start, or its store stopped.
pub async fn serve(start: Start, up: impl FnOnce(&Arc<Shell>) + Send) -> Result<(), Complaint> {
    let Start { config, path, accept_rollback } = start;
    check_folders(&config)?;
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
    // before anything is written, since records have a time
    clock::look(&shell).await.map_err(Complaint::store)?;
    order::advance(&shell).await.map_err(Complaint::store)?;
    owners::complete(&shell).await.map_err(Complaint::store)?;
    let (enforcing, renewing, following) = (enforcer::start(&shell), renew_now::start(&shell), queue::start(&shell));
    queue::begin(&shell).await.map_err(Complaint::store)?;
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
    fill_ports(&shell, bound);
    let running = server.start(faces);
    announce(&config, bound)?;
    up(&shell);
    notify::ready("serving");
    let mut tasks = background(&shell, &config, path, &tls, &rates);
    // Until the last connection has ended: a lock that is set during the drain takes effect as at any other time.
    let follow_epoch = tokio::spawn(follow_epoch(Arc::clone(&shell), epoch_file(&config.data_dir)));
    let to_the_end: Vec<Task> = enforcing.into_iter().chain([follow_epoch]).collect();
    tasks.extend([following, lease::start(&shell), tunnel_records::start(&shell), renewing]);
    let stopped = until_stopped(&shell).await;
    notify::stopping();
    tasks.iter().for_each(Task::abort);
    lease::give_up(&shell).await;
    lead::give_up(&shell).await;
    let Drained { open, cut } = running.drain(config.limits.drain_time).await;
    tracing::info!(open, cut, "drained");
    to_the_end.iter().for_each(Task::abort);
    shell.store.close().await;
    let _ = local::remove(&config.data_dir.join("run").join("addresses.json"));
    tracing::info!("stopped");
    stopped
}

async fn until_stopped(shell: &Shell) -> Result<(), Complaint> {
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

/// Replaces port 0 by the chosen ports in the addresses that clients are told.
fn fill_ports(shell: &Shell, bound: Bound) {
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

/// Writes the addresses of the faces to `run/addresses.json`, once they accept connections.
fn announce(config: &Config, bound: Bound) -> Result<(), Complaint> {
    let Bound { enroll, manage, proxy } = bound;
    let dir = config.data_dir.join("run");
    files::make_private_dir(&dir).map_err(Complaint::failed)?;
    let proxy = proxy.map_or_else(String::new, |proxy| format!(",\"proxy\":\"{proxy}\""));
    let text = format!("{{\"enroll\":\"{enroll}\",\"manage\":\"{manage}\"{proxy}}}\n");
    files::write_atomic(&dir.join("addresses.json"), text.as_bytes(), FileAccess::Public, Existing::Replace)
        .map_err(Complaint::failed)
}

/// Replaces port 0, which means any free port, by the chosen one.
fn fill_port(public: &mut String, listening: SocketAddr) {
    if let Some(host) = public.strip_suffix(":0") {
        *public = format!("{host}:{}", listening.port());
    }
}

/// Refuses to start on a store that is older than the one last used here, or was never used here: locks set after it was copied would
/// be lost.
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

/// The file with the lock epoch, outside the store.
#[must_use]
pub fn epoch_file(data_dir: &Path) -> PathBuf {
    data_dir.join("epoch")
}

/// Writes the lock epoch of a new store.
///
/// # Errors
/// The file cannot be written.
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

/// Starts the background tasks.
fn background(shell: &Arc<Shell>, config: &Config, path: PathBuf, tls: &Arc<TlsSwap>, rates: &Arc<Rates>) -> Vec<Task> {
    let mut tasks = vec![
        tokio::spawn(housekeeping(Arc::clone(shell), config.data_dir.clone())),
        tokio::spawn(reload_on_hangup(Arc::clone(shell), path.clone(), Arc::clone(tls), as_table(&path))),
        tokio::spawn(upkeep::own_leaf(Arc::clone(shell), Arc::clone(tls))),
        tokio::spawn(upkeep::ca_ends(Arc::clone(shell))),
    ];
    let timed = Arc::clone(shell);
    tasks.push(tokio::spawn(async move {
        loop {
            tokio::time::sleep(limits::LAPSE_INTERVAL).await;
            // an error here also fails requests, which log it; the next round tries again
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

/// Whether the store answers a read within [`limits::WATCHDOG_READ`]; the watchdog's check that the gateway does not hang.
pub async fn store_answers(shell: Arc<Shell>) -> bool {
    match tokio::time::timeout(limits::WATCHDOG_READ, shell.get::<u64>(keys::EPOCH.to_owned())).await {
        Ok(Ok(_)) => true,
        Ok(Err(fault)) => {
            tracing::error!(%fault, "the store cannot be read");
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
    if clock::doubt(shell).is_some() && operator_accepted(shell, &clock_accepted_file(data_dir)) {
        clock::accept(shell).await?;
    }
    // each runs even if another fails
    let swept = sweep::sweep(shell).await;
    let reported = authority::report(shell, data_dir).await;
    noted::record(shell, data_dir).await.and(swept).and(reported)
}

/// The file of `clock accept`: the time that the operator confirmed, in seconds since the Unix epoch.
#[must_use]
pub fn clock_accepted_file(data_dir: &Path) -> PathBuf {
    data_dir.join("run").join("clock-accepted")
}

/// Reads and removes the file of `clock accept`. It confirms only the time in it, not a later jump.
fn operator_accepted(shell: &Shell, file: &Path) -> bool {
    let Ok(text) = files::read_text(file) else { return false };
    if let Err(error) = local::remove(file) {
        tracing::error!(%error, "the file of `clock accept` could not be removed");
    }
    let near = |at: u64| at.abs_diff(shell.now().secs()) < timekeeping::TOLERANCE;
    text.trim().parse().is_ok_and(near)
}

/// Copies the lock epoch to a file outside the store, where restoring the store does not change it.
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

/// Reloads policy and configuration on SIGHUP. After an error, which is logged, the old ones stay in use.
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

/// The configuration file as TOML. Empty if it cannot be read; since it was just loaded, the next reload then reports the error.
fn as_table(path: &Path) -> toml::Table {
    files::read_text(path).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

async fn reload(shell: &Shell, path: &Path, tls: &TlsSwap) -> Result<usize, Complaint> {
    let config = configuration(path)?;
    let mut fresh = settings(&config, shell.ca().ssh(SshKind::Host), shell.now())?;
    let rules = policy(&config)?;
    let count = rules.rule_ids().count();
    let before = shell.settings.load_full();
    // listeners are fixed at start, and so are chosen ports
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
    // nothing fails from here on, so all parts are the old or all are the new ones
    if let Some(ca) = ca {
        tracing::info!(generation = ca.signing().generation, pin = %ca.pin(), "another authority is in force");
        shell.authority.store(ca);
    }
    shell.rules.store(Arc::new(rules));
    shell.settings.store(Arc::new(fresh));
    tls.swap(table);
    if changed {
        // open sessions must be permitted by the new policy as well
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

/// Waits for SIGHUP, or for another gateway to load another policy.
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
