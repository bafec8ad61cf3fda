//! Runs the gateway program in a temporary directory, and restarts it on the same ports.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::Lychgate;
use crate::http::Face;
use crate::port::Port;
use crate::program::{Ended, Program, built, run};
use crate::wait::PATIENCE;
use crate::{raw, tls};

/// The trust domain of every gateway in the tests.
pub const TRUST_DOMAIN: &str = "test.example";

/// Changes of the configuration that `init` makes.
#[derive(Default)]
pub struct Setup {
    config: Vec<(String, toml::Value)>,
    policy: String,
    machine_lifetime: Option<String>,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    data_dir: Option<PathBuf>,
    shared: bool,
    engine: Option<String>,
    cheap_keys: bool,
}

impl Setup {
    /// Sets a key of the configuration, `section.key`.
    #[must_use]
    pub fn config(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        self.config.push((key.to_owned(), value.into()));
        self
    }

    /// Adds rules to the default policy.
    #[must_use]
    pub fn policy(mut self, rules: &str) -> Self {
        self.policy.push_str(rules);
        self
    }

    /// Sets the lifetime that the default policy gives to machines, such as `60s`.
    #[must_use]
    pub fn machine_lifetime(mut self, lifetime: &str) -> Self {
        self.machine_lifetime = Some(lifetime.to_owned());
        self
    }

    /// Sets an environment variable of the gateway.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs the gateway under another program, such as `faketime`.
    #[must_use]
    pub fn under(mut self, wrapper: &[impl AsRef<str>]) -> Self {
        self.wrapper = wrapper.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Puts the gateway's files into this directory, which must be empty, instead of a temporary one.
    #[must_use]
    pub fn data_dir(mut self, dir: &Path) -> Self {
        self.data_dir = Some(dir.to_owned());
        self
    }

    /// Serves both faces on one port, split by SNI.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Uses another storage engine than the default.
    #[must_use]
    pub fn engine(mut self, engine: &str) -> Self {
        self.engine = Some(engine.to_owned());
        self
    }

    /// Raises all rate and count limits, for load.
    #[must_use]
    pub fn no_limits(self) -> Self {
        let counts = COUNTS.iter().fold(self, |setup, key| setup.config(&format!("limits.{key}"), MANY));
        CLASSES.iter().fold(counts, |setup, class| {
            ["per_prefix", "total"]
                .iter()
                .fold(setup, |setup, kind| setup.config(&format!("limits.{class}_{kind}"), ANY_RATE))
        })
    }

    /// Lowers the cost of decrypting the CA keys, which is most of the start time, for a gateway that is started very often.
    #[must_use]
    pub fn cheap_keys(mut self) -> Self {
        self.cheap_keys = true;
        self
    }

    /// Creates the gateway's files without starting it.
    #[must_use]
    pub fn init(self) -> Gateway {
        Gateway::init(self)
    }

    /// Creates and starts it.
    #[must_use]
    pub fn start(self) -> Gateway {
        let mut gateway = self.init();
        gateway.start();
        gateway
    }
}

/// Counts that no load in the tests reaches.
const MANY: i64 = 100_000;

/// A rate that no load in the tests reaches.
const ANY_RATE: &str = "1000000/s burst 1000000";

/// The keys of `[limits]` that are counts.
const COUNTS: [&str; 7] = [
    "connections",
    "connections_per_prefix",
    "connections_enroll",
    "connections_enroll_per_prefix",
    "handshakes",
    "handshakes_per_prefix",
    "certificates_per_life",
];

/// The classes of requests that have a rate in `[limits]`.
const CLASSES: [&str; 6] = ["anonymous", "poll", "machine", "person", "connect", "health"];

/// Names that split a shared port.
const SHARED_NAMES: [&str; 3] = ["enroll.localhost", "manage.localhost", "proxy.localhost"];

/// A gateway. When dropped, it is killed and its files are removed.
pub struct Gateway {
    room: TempDir,
    dir: PathBuf,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    ports: [Port; 3],
    shared: bool,
    program: Option<Program>,
}

impl Gateway {
    fn init(setup: Setup) -> Self {
        let room = tempfile::Builder::new().prefix("lychgate-test-").tempdir().unwrap();
        let dir = setup.data_dir.unwrap_or_else(|| room.path().join("gateway"));
        let ports = [Port::take(), Port::take(), Port::take()];
        let mut init = Command::new(built("lychgate-gateway"));
        let [enroll, manage, proxy] = [0, 1, 2].map(|at| format!("127.0.0.1:{}", ports[at].number()));
        init.args(["init", "--trust-domain", TRUST_DOMAIN, "--listen", &enroll, "--listen-manage", &manage]);
        init.args(["--listen-proxy", &proxy]);
        init.arg("--dir").arg(&dir);
        if setup.shared {
            init.args(["--name", SHARED_NAMES[0]]);
        }
        let ended = run(&mut init, PATIENCE);
        assert_eq!(ended.code, 0, "init failed\n{}\n{}", ended.stdout, ended.stderr);
        if setup.cheap_keys {
            lower_the_cost_of_keys(&dir);
        }
        let gateway = Self {
            room,
            dir,
            environment: setup.environment,
            wrapper: setup.wrapper,
            ports,
            shared: setup.shared,
            program: None,
        };
        gateway.edit_config(|config| {
            if setup.shared {
                let port = gateway.ports[0].number();
                let names = |name: &str| toml::Value::Array(vec![name.into()]);
                config.insert("listen".to_owned(), toml::Table::new().into());
                set(config, "listen.shared", format!("127.0.0.1:{port}").into());
                for (face, name) in
                    [("enroll", SHARED_NAMES[0]), ("manage", SHARED_NAMES[1]), ("proxy", SHARED_NAMES[2])]
                {
                    set(config, &format!("names.{face}"), names(name));
                    set(config, &format!("public.{face}"), format!("{name}:{port}").into());
                }
            }
            for (key, value) in setup.config {
                set(config, &key, value);
            }
        });
        gateway.edit_policy(|text| {
            let text = match &setup.machine_lifetime {
                Some(lifetime) => text.replace("@lifetime(\"24h\")", &format!("@lifetime(\"{lifetime}\")")),
                None => text,
            };
            format!("{text}\n{}", setup.policy)
        });
        if let Some(engine) = setup.engine {
            gateway.change_engine(&engine);
        }
        if setup.shared {
            // The token that `init` made contains the previous address.
            let ended = gateway.command(&["invite"]);
            assert_eq!(ended.code, 0, "invite failed\n{}", ended.stderr);
            std::fs::write(gateway.first_token(), ended.stdout).unwrap();
        }
        gateway
    }

    /// Changes the configuration file.
    pub fn edit_config(&self, edit: impl FnOnce(&mut toml::Table)) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        let mut config: toml::Table = toml::from_str(&text).unwrap();
        edit(&mut config);
        std::fs::write(self.config(), toml::to_string(&config).unwrap()).unwrap();
    }

    /// Changes the policy file.
    pub fn edit_policy(&self, edit: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.policy()).unwrap();
        std::fs::write(self.policy(), edit(text)).unwrap();
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("gateway.toml")
    }

    /// The policy file.
    #[must_use]
    pub fn policy(&self) -> PathBuf {
        self.dir.join("policy").join("default.cedar")
    }

    fn first_token(&self) -> PathBuf {
        self.dir.join("first-person.token")
    }

    /// The directory with all files of this gateway.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A directory for files of the test, removed with the gateway.
    #[must_use]
    pub fn room(&self) -> &Path {
        self.room.path()
    }

    /// From the next start on, runs it under another program.
    pub fn run_under(&mut self, wrapper: &[impl AsRef<str>]) {
        self.wrapper = wrapper.iter().map(|word| word.as_ref().to_owned()).collect();
    }

    /// Starts it and waits until it is healthy.
    #[track_caller]
    pub fn start(&mut self) {
        self.launch();
        self.wait_healthy();
    }

    /// Starts it and returns at once.
    pub fn launch(&mut self) {
        assert!(self.program.is_none(), "started already");
        let _ = std::fs::remove_file(self.announced());
        let mut words = self.wrapper.clone();
        words.push(built("lychgate-gateway").to_str().unwrap().to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("run").arg("--config").arg(self.config());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.program = Some(Program::start(&mut command, self.room.path()));
    }

    /// Waits until the gateway has printed its addresses and answers there.
    #[track_caller]
    pub fn wait_healthy(&mut self) {
        let began = std::time::Instant::now();
        let config = tls::trusting_anybody(None);
        loop {
            let running = self.program.as_mut().is_some_and(Program::runs);
            assert!(running, "the gateway ended by itself\n{}", self.log());
            assert!(began.elapsed() < PATIENCE, "the gateway is not healthy after {PATIENCE:?}\n{}", self.log());
            if self.announced().exists() {
                let face = self.enroll();
                if let Some((200, _)) = raw::get(face.address, &face.name, &config, "/healthz") {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it with SIGTERM and waits until it has exited.
    #[track_caller]
    pub fn stop(&mut self) -> Ended {
        self.program.take().expect("not running").stop()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn ended(&mut self) -> Ended {
        self.program.take().expect("not running").end_within(PATIENCE)
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.program.take().expect("not running").kill();
    }

    /// Asks it to read its policy and configuration again.
    pub fn reload(&self) {
        self.running().signal(Signal::HUP);
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.running().id()
    }

    /// Whether the process is running.
    pub fn runs(&mut self) -> bool {
        self.program.as_mut().is_some_and(Program::runs)
    }

    /// Its log since the last start.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.as_ref().map(|program| program.stderr() + &program.stdout()).unwrap_or_default()
    }

    fn running(&self) -> &Program {
        self.program.as_ref().expect("not running")
    }

    fn announced(&self) -> PathBuf {
        self.dir.join("run").join("addresses.json")
    }

    fn face(&self, which: &str, shared_name: &str) -> Face {
        let announced: Value = serde_json::from_slice(&std::fs::read(self.announced()).unwrap()).unwrap();
        let address: SocketAddr = announced[which].as_str().unwrap().parse().unwrap();
        let name = if self.shared { shared_name.to_owned() } else { address.ip().to_string() };
        Face::named((Ipv4Addr::LOCALHOST, address.port()).into(), &name)
    }

    /// The enroll face.
    #[must_use]
    pub fn enroll(&self) -> Face {
        self.face("enroll", SHARED_NAMES[0])
    }

    /// The manage face.
    #[must_use]
    pub fn manage(&self) -> Face {
        self.face("manage", SHARED_NAMES[1])
    }

    /// The proxy face.
    #[must_use]
    pub fn proxy(&self) -> Face {
        self.face("proxy", SHARED_NAMES[2])
    }

    /// The reply to `GET /v1/gateway`.
    #[must_use]
    pub fn info(&self) -> wire::enroll::GatewayInfo {
        let face = self.enroll();
        let answer = raw::get(face.address, &face.name, &tls::trusting_anybody(None), "/v1/gateway");
        let (status, body) = answer.expect("no answer from the enroll face");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The roots it publishes.
    #[must_use]
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        let face = self.enroll();
        let answer = raw::get(face.address, &face.name, &tls::trusting_anybody(None), "/v1/bundle");
        tls::certificates(answer.expect("no answer from the enroll face").1.as_bytes())
    }

    /// A client directory that does not exist yet.
    #[must_use]
    pub fn client(&self, name: &str) -> Lychgate {
        let client = Lychgate::at(self.room.path().join(name));
        if !self.shared {
            return client;
        }
        // The names of the faces are not in DNS: the client runs with its own /etc/hosts.
        let hosts = self.room.path().join("hosts");
        let names = SHARED_NAMES.map(|name| format!("127.0.0.1 {name}\n"));
        std::fs::write(&hosts, format!("127.0.0.1 localhost\n{}", names.concat())).unwrap();
        let script = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
        let words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"];
        client.under(&[&words[..], &[hosts.to_str().unwrap()]].concat())
    }

    /// The first person, a member of `admins`, who joins with the token that `init` made.
    #[track_caller]
    #[must_use]
    pub fn first_person(&self) -> Lychgate {
        let token = std::fs::read_to_string(self.first_token()).unwrap();
        let alice = self.client("alice");
        alice.ok(&["join", token.trim(), "--name", "alice"]);
        alice
    }

    /// Runs a subcommand of the gateway program with this gateway's configuration.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Ended {
        let mut command = Command::new(built("lychgate-gateway"));
        command.args(args).arg("--config").arg(self.config());
        run(&mut command, Duration::from_secs(120))
    }

    /// The records of the store from `export`, by key. The gateway must not be running.
    #[track_caller]
    #[must_use]
    pub fn export(&self) -> BTreeMap<String, Value> {
        assert!(self.program.is_none(), "stop the gateway first: it owns the store");
        let ended = self.command(&["export"]);
        assert_eq!(ended.code, 0, "export failed\n{}", ended.stderr);
        parse_export(&ended.stdout)
    }

    /// Moves the store to another engine by export and import, and changes the configuration.
    #[track_caller]
    pub fn change_engine(&self, engine: &str) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dump = self.room.path().join(format!("export-{number}.jsonl"));
        let dump = dump.to_str().unwrap();
        let ended = self.command(&["export", "--out", dump]);
        assert_eq!(ended.code, 0, "export failed\n{}", ended.stderr);
        self.edit_config(|config| {
            set(config, "store.engine", engine.into());
            set(config, "store.path", format!("{engine}-{number}").into());
        });
        let ended = self.command(&["import", "--in", dump]);
        assert_eq!(ended.code, 0, "import into {engine} failed\n{}", ended.stderr);
    }

    /// The ports of the enroll and the manage face, when they are separate.
    #[must_use]
    pub fn ports(&self) -> [u16; 2] {
        [0, 1].map(|at| self.ports[at].number())
    }
}

/// The records of an export, by key.
#[must_use]
pub fn parse_export(text: &str) -> BTreeMap<String, Value> {
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let records = lines.filter_map(|line| {
        let (key, value) = (line["key"].as_str()?.to_owned(), line["value"].as_str().unwrap_or_default());
        Some((key, serde_json::from_str(value).unwrap_or_else(|_| value.into())))
    });
    records.collect()
}

/// Encrypts the keys again in the same format and with the same passphrase, but with the cheapest key derivation.
fn lower_the_cost_of_keys(dir: &Path) {
    let passphrase = std::fs::read_to_string(dir.join("ca-passphrase")).unwrap();
    for key in [
        "ca/machine.key",
        "ca/person.key",
        "ca/gateway.key",
        "ca/ssh-user.key",
        "ca/ssh-host.key",
        "token.key",
        "ticket.key",
    ] {
        let key = dir.join(key);
        let mut openssl = Command::new("openssl");
        openssl.args(["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-scrypt", "-scrypt_N", "16"]);
        openssl.args(["-passin", "env:PASSPHRASE", "-passout", "env:PASSPHRASE"]).env("PASSPHRASE", passphrase.trim());
        let ended = run(openssl.arg("-in").arg(&key), PATIENCE);
        assert_eq!(ended.code, 0, "openssl\n{}", ended.stderr);
        // Overwrites the file, so that its mode, which the gateway checks, is kept.
        std::fs::write(&key, ended.stdout).unwrap();
    }
}

/// Sets `a.b.c` in a TOML table, making the tables on the way.
fn set(table: &mut toml::Table, key: &str, value: toml::Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((head, rest)) => {
            let inner = table.entry(head.to_owned()).or_insert_with(|| toml::Table::new().into());
            set(inner.as_table_mut().unwrap(), rest, value);
        }
    }
}
