//! Machines with sshd, reached by stock OpenSSH with the same options through the gateway and directly.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::stage::{is_up, joined};
use crate::cli::Lychgate;
use crate::gateway::{Gateway, Setup, TRUST_DOMAIN};
use crate::program::{Ended, Program, run};
use crate::ssh::{Sshd, SshdSetup, make_key, whoami};

/// Time limit of every command with SSH.
const LOST: Duration = Duration::from_secs(1_800);

/// See the module.
pub struct SshStage {
    // Fields are dropped in this order.
    running: Vec<Program>,
    servers: Vec<Sshd>,
    _helper: Program,
    /// The person.
    pub alice: Lychgate,
    /// A configuration of ssh for connections through the gateway.
    pub through: PathBuf,
    /// One for direct connections.
    pub direct: PathBuf,
    /// The gateway.
    pub gateway: Gateway,
}

/// A machine's name.
#[must_use]
pub fn name(number: usize) -> String {
    format!("web-{number}")
}

/// Its name for ssh.
#[must_use]
pub fn host(number: usize) -> String {
    format!("{}.machine.{TRUST_DOMAIN}", name(number))
}

impl SshStage {
    /// Starts `count` machines and waits for their tunnels.
    #[must_use]
    pub fn start(count: usize) -> Self {
        let rule = format!(
            "@id(\"bench-login\") @principals(\"{}\") permit(principal is Lychgate::Person in \
             Lychgate::Group::\"admins\", action == Lychgate::Action::\"login\", resource);",
            whoami()
        );
        let gateway = Setup::default().no_limits().cheap_keys().policy(&rule).start();
        let alice = gateway.first_person();
        let room = gateway.room().to_owned();
        let (mut running, mut servers) = (Vec::new(), Vec::new());
        for number in 0..count {
            let machine = joined(&gateway, &alice, &name(number));
            let dir = room.join(format!("sshd-{number}"));
            std::fs::create_dir_all(&dir).unwrap();
            let host_key = dir.join("host_key");
            make_key(&host_key);
            machine.ok(&["ssh-cert", "host", "--host-key", host_key.to_str().unwrap()]);
            let user_ca = machine.ok(&["ssh-cert", "trusted-user-ca"]);
            let setup = SshdSetup {
                host_certificate: Some(dir.join("host_key-cert.pub")),
                host_key,
                user_ca: &user_ca,
                under: vec![],
            };
            let server = Sshd::start(&dir, &setup);
            running.push(machine.start(&["run", "--expose", &format!("ssh=127.0.0.1:{},raw", server.port())]));
            servers.push(server);
        }
        for running in &mut running {
            running.expect_stdout("the tunnel is up", is_up);
        }
        alice.ok(&["ssh-config", "--write"]);
        // Otherwise the first ssh starts a helper that survives this process.
        let mut helper = alice.start(&["helper"]);
        helper.expect_stderr("the helper helps", |said| said.contains("helping at").then_some(()));
        let through = alice.file("ssh/config");
        let direct = straight(&room, &through, &servers);
        Self { running, servers, _helper: helper, alice, through, direct, gateway }
    }

    /// The number of machines.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The processes of the machines.
    #[must_use]
    pub fn ids(&self) -> Vec<u32> {
        self.running.iter().map(Program::id).collect()
    }

    /// The address of the first sshd.
    #[must_use]
    pub fn sshd(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.servers[0].port()).into()
    }

    /// A configuration with another `ProxyCommand`.
    #[must_use]
    pub fn by(&self, command: &str) -> PathBuf {
        let text = std::fs::read_to_string(&self.direct).unwrap();
        let path = self.gateway.room().join("by-command");
        std::fs::write(&path, format!("ProxyCommand {command}\n{text}")).unwrap();
        path
    }

    /// The time to copy a file from the first machine.
    #[must_use]
    pub fn copy(&self, config: &Path, file: &Path) -> Duration {
        let mut scp = Command::new("scp");
        scp.arg("-q").arg("-F").arg(config).args(["-o", "BatchMode=yes"]).env_remove("SSH_AUTH_SOCK");
        scp.arg(format!("{}:{}", host(0), file.display())).arg("/dev/null");
        let began = Instant::now();
        good(&mut scp);
        began.elapsed()
    }
}

/// The same configuration without the gateway.
fn straight(room: &Path, through: &Path, servers: &[Sshd]) -> PathBuf {
    let mut text = String::new();
    for (number, server) in servers.iter().enumerate() {
        let host = host(number);
        text.push_str(&format!(
            "Host {} {host}\n  HostName 127.0.0.1\n  Port {}\n  HostKeyAlias {host}\n",
            name(number),
            server.port()
        ));
    }
    text.push_str("Host *\n");
    let keep = ["IdentityFile ", "CertificateFile ", "UserKnownHostsFile ", "GlobalKnownHostsFile ", "StrictHostKey"];
    for line in std::fs::read_to_string(through).unwrap().lines() {
        if keep.iter().any(|word| line.trim_start().starts_with(word)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    let path = room.join("straight");
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs a command that must succeed.
pub fn good(command: &mut Command) -> Ended {
    let ended = run(command, LOST);
    assert_eq!(ended.code, 0, "{command:?}\nstdout:\n{}\nstderr:\n{}", ended.stdout, ended.stderr);
    ended
}
