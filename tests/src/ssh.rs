//! OpenSSH's sshd on loopback with a configuration made by the test, and its ssh without user or system configuration.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::port::Port;
use crate::program::{Ended, Program, run};
use crate::wait::{PATIENCE, eventually};

/// sshd requires an absolute path, because it executes itself again.
const SSHD: &str = "/usr/sbin/sshd";

/// Host key, certificate and CA of an sshd.
#[derive(Default)]
pub struct SshdSetup<'a> {
    /// The private host key.
    pub host_key: PathBuf,
    /// Its certificate.
    pub host_certificate: Option<PathBuf>,
    /// The text of `TrustedUserCAKeys`.
    pub user_ca: &'a str,
    /// Another program to run it under, such as one that shifts its clock.
    pub under: Vec<String>,
}

/// A running sshd; dropped, it is killed.
pub struct Sshd {
    program: Program,
    port: Port,
}

/// The account of this test process: an unprivileged sshd can accept no other.
#[must_use]
pub fn whoami() -> String {
    let ended = run(Command::new("id").arg("-un"), PATIENCE);
    ended.stdout.trim().to_owned()
}

/// Makes an Ed25519 key without passphrase.
#[track_caller]
pub fn make_key(path: &Path) {
    let ended =
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(path), PATIENCE);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

/// The lines of `ssh-keygen -L` for a certificate.
#[track_caller]
#[must_use]
pub fn listed(certificate: &Path) -> Vec<String> {
    let ended = run(Command::new("ssh-keygen").arg("-L").arg("-f").arg(certificate), PATIENCE);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    ended.stdout.lines().map(|line| line.trim().to_owned()).collect()
}

/// The value of a line of [`listed`], such as `Serial`.
#[track_caller]
#[must_use]
pub fn listed_value(certificate: &Path, name: &str) -> String {
    let lines = listed(certificate);
    let found = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no `{name}` in {lines:?}")).to_owned()
}

impl Sshd {
    /// Starts sshd with its files in `dir`, and waits until it listens.
    #[track_caller]
    #[must_use]
    pub fn start(dir: &Path, setup: &SshdSetup<'_>) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        // The privilege separation folder, which sshd as root requires and does not create.
        let _ = std::fs::create_dir_all("/run/sshd");
        let port = Port::take();
        let (ca, config) = (dir.join("user_ca"), dir.join("sshd_config"));
        std::fs::write(&ca, setup.user_ca).unwrap();
        let mut text = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nTrustedUserCAKeys {}\nPidFile {}\n\
             AuthorizedKeysFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             StrictModes no\nUsePAM no\nLogLevel VERBOSE\nSubsystem sftp internal-sftp\n",
            port.number(),
            setup.host_key.display(),
            ca.display(),
            dir.join("sshd.pid").display(),
        );
        if let Some(certificate) = &setup.host_certificate {
            text.push_str(&format!("HostCertificate {}\n", certificate.display()));
        }
        std::fs::write(&config, text).unwrap();
        let words: Vec<&str> = setup.under.iter().map(String::as_str).chain([SSHD]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["-D", "-e", "-f"]).arg(&config);
        let program = Program::start(&mut command, dir);
        let mut sshd = Self { program, port };
        sshd.program.expect_stderr("sshd listens", |log| log.contains("Server listening on").then_some(()));
        sshd
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.stderr()
    }

    /// Waits until its log contains a text.
    #[track_caller]
    pub fn wait_for_log(&self, says: &str) {
        eventually(&format!("`{says}` in sshd's log"), PATIENCE, || self.log().contains(says).then_some(()));
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.program.signal(Signal::TERM);
    }
}

/// Parameters of a login.
pub struct Login<'a> {
    /// The server.
    pub sshd: &'a Sshd,
    /// The machine's name in `known_hosts`.
    pub alias: &'a str,
    /// The text of `known_hosts`.
    pub known_hosts: &'a str,
    /// The private key; otherwise the agent's.
    pub key: Option<&'a Path>,
    /// The agent's socket.
    pub agent: Option<&'a Path>,
}

impl Login<'_> {
    /// Logs in as [`whoami`] without prompts and runs a command.
    #[track_caller]
    #[must_use]
    pub fn run(&self, command: &str) -> Ended {
        let dir = tempfile::tempdir().unwrap();
        let known_hosts = dir.path().join("known_hosts");
        std::fs::write(&known_hosts, self.known_hosts).unwrap();
        let mut ssh = Command::new("ssh");
        ssh.args(["-v", "-F", "none", "-p", &self.sshd.port().to_string()]).env_remove("SSH_AUTH_SOCK");
        let agent = self.agent.map_or_else(|| "none".to_owned(), |path| path.display().to_string());
        let options = [
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "GlobalKnownHostsFile=none".to_owned(),
            format!("UserKnownHostsFile={}", known_hosts.display()),
            format!("HostKeyAlias={}", self.alias),
            format!("IdentityAgent={agent}"),
        ];
        for option in &options {
            ssh.args(["-o", option]);
        }
        match self.key {
            Some(key) => ssh.args(["-o", "IdentitiesOnly=yes", "-i"]).arg(key),
            None => ssh.args(["-o", "IdentityFile=none"]),
        };
        run(ssh.arg(format!("{}@127.0.0.1", whoami())).arg(command), PATIENCE)
    }

    /// As [`Login::run`], which must succeed; returns the output of the command.
    #[track_caller]
    pub fn ok(&self, command: &str) -> String {
        let ended = self.run(command);
        assert_eq!(ended.code, 0, "ssh:\n{}\nsshd:\n{}", ended.stderr, self.sshd.log());
        ended.stdout
    }

    /// As [`Login::run`], which must fail; returns the standard error of ssh.
    #[track_caller]
    pub fn refused(&self) -> String {
        let ended = self.run("true");
        assert_eq!(ended.code, 255, "logged in\n{}", ended.stderr);
        ended.stderr
    }
}
