//! Setup for Ansible: a gateway with a person for the controller, machines with sshd, and the controller's folder.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup, TRUST_DOMAIN};
use tests::port::Port;
use tests::program::{Ended, Program, built, run};
use tests::wait::eventually;

use crate::token;

/// Time limit of a playbook on a slow machine under load.
pub(super) const ANSIBLE_TIME: Duration = Duration::from_secs(180);

/// How long `ssh` keeps a connection for the next task, as the user's own `ssh_args` say: what is generated must leave that
/// alone. Ansible's default of a minute runs out between two plays on a busy machine, and a second login is then no fault.
pub(super) const KEPT_FOR: &str = "ControlPersist=3600s";

/// The controller's rights: read machines, and report results.
pub(super) const ROBOT: &str = r#"
@id("robot")
permit (
  principal is Lychgate::Person in Lychgate::Group::"robots",
  action in [Lychgate::Action::"read", Lychgate::Action::"report"],
  resource is Lychgate::Machine
);
@id("robot-connects")
permit (
  principal is Lychgate::Person in Lychgate::Group::"robots",
  action == Lychgate::Action::"connect",
  resource
) when { resource.name == "ssh" };
"#;

/// The two inventories.
pub(super) const INVENTORIES: [&str; 2] = ["inventory.sh", "site.lychgate.yml"];

/// A gateway, the controller's identity, and a folder for Ansible.
pub(super) struct Room {
    pub(super) gateway: Gateway,
    pub(super) alice: Lychgate,
    pub(super) robot: Lychgate,
    pub(super) dir: PathBuf,
}

impl Room {
    pub(super) fn new() -> Self {
        Self::with("")
    }

    /// With more rules.
    pub(super) fn with(rules: &str) -> Self {
        let gateway = Setup::default().policy(&format!("{ROBOT}{rules}")).start();
        let alice = gateway.first_person();
        let robot = person(&gateway, &alice, "robot", &["--group", "robots"]);
        let dir = gateway.room().join("ansible");
        fs::create_dir(&dir).unwrap();
        let room = Self { gateway, alice, robot, dir };
        room.prepare();
        room
    }

    pub(super) fn prepare(&self) {
        let collection = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging/ansible");
        let collections = self.file("collections");
        let mut install = self.command("ansible-galaxy");
        install.args(["collection", "install", "--offline", "-p"]).arg(&collections).arg(collection);
        ended(&mut install, 0);
        // The machines are all this one, so its Python is theirs.
        let python = ended(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]), 0);
        self.write(
            "ansible.cfg",
            &format!(
                "[defaults]\ncollections_path = {}\ncallbacks_enabled = lychgate.gateway.report\n\
                 remote_tmp = {}\nlocal_tmp = {}\ninterpreter_python = {}\nnocows = true\n\
                 [ssh_connection]\npipelining = true\nssh_args = -C -o ControlMaster=auto -o {KEPT_FOR}\n\
                 control_path_dir = {}\n\
                 [callback_lychgate_report]\ndir = {}\n",
                collections.display(),
                self.file("remote-tmp").display(),
                self.file("local-tmp").display(),
                python.stdout.trim(),
                self.file("cp").display(),
                self.robot.dir().display(),
            ),
        );
        let lychgate = built("lychgate");
        let script =
            format!("#!/bin/sh\nexec {} --dir {} inventory \"$@\"\n", lychgate.display(), self.robot.dir().display());
        self.write("inventory.sh", &script);
        fs::set_permissions(self.file("inventory.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        let source = json!({
            "plugin": "lychgate.gateway.machines",
            "lychgate": lychgate,
            "dir": self.robot.dir(),
            "keyed_groups": [{ "prefix": "place", "key": "lychgate_labels.site" }],
            "groups": { "never_configured": "lychgate_convergence is none" },
            "compose": { "site": "lychgate_labels.site | default('nowhere') | upper" },
        });
        // JSON is YAML.
        self.write("site.lychgate.yml", &source.to_string());
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.file(name), text).unwrap();
        self.file(name)
    }

    /// A program of Ansible, without the user's configuration.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let settings = std::env::vars_os().map(|(name, _)| name);
        for name in settings.filter(|name| name.to_string_lossy().starts_with("ANSIBLE_")) {
            command.env_remove(name);
        }
        command.env_remove("LYCHGATE_DIR").env("LC_ALL", "C.UTF-8").env("ANSIBLE_NOCOLOR", "1");
        command.env("ANSIBLE_CONFIG", self.file("ansible.cfg")).env("ANSIBLE_HOME", self.file("home"));
        command.current_dir(&self.dir);
        command
    }

    #[track_caller]
    pub(super) fn ansible(&self, program: &str, inventory: &str, args: &[&str], code: i32) -> Ended {
        ended(self.command(program).arg("-i").arg(self.file(inventory)).args(args), code)
    }

    #[track_caller]
    pub(super) fn inventory(&self, inventory: &str, args: &[&str]) -> Value {
        let ended = self.ansible("ansible-inventory", inventory, args, 0);
        assert!(!ended.stderr.contains("WARNING"), "{}", ended.stderr);
        plain(serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e} in\n{}", ended.stdout)))
    }

    /// Runs a playbook on some machines.
    #[track_caller]
    pub(super) fn play(&self, inventory: &str, playbook: &Path, more: &[&str], code: i32) -> Ended {
        let mut args = vec![playbook.to_str().unwrap()];
        args.extend(more);
        self.ansible("ansible-playbook", inventory, &args, code)
    }

    #[track_caller]
    pub(super) fn convergence(&self, machine: &str) -> Value {
        self.alice.json(&["machines", "show", machine])["convergence"].take()
    }
}

/// A value without Ansible's markers of unsafe text.
pub(super) fn plain(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(mut fields) if fields.len() == 1 && fields.contains_key("__ansible_unsafe") => {
            fields["__ansible_unsafe"].take()
        }
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(name, value)| (name, plain(value))).collect()),
        other => other,
    }
}

/// Panics unless a program exited with this code.
#[track_caller]
pub(super) fn ended(command: &mut Command, code: i32) -> Ended {
    let ended = run(command, ANSIBLE_TIME);
    assert_eq!(ended.code, code, "{command:?}\nstdout:\n{}\nstderr:\n{}", ended.stdout, ended.stderr);
    ended
}

/// A person who has joined by an invitation.
pub(super) fn person(gateway: &Gateway, alice: &Lychgate, name: &str, more: &[&str]) -> Lychgate {
    let mut invite = vec!["people", "invite", "--name", name];
    invite.extend(more);
    let token = alice.json(&invite)["token"].as_str().unwrap().to_owned();
    let person = gateway.client(name);
    person.ok(&["join", &token, "--name", name]);
    person
}

/// A machine that has joined, with the labels of its token.
pub(super) fn machine(room: &Room, name: &str, token_args: &[&str], join_args: &[&str]) {
    let mut join = vec!["join".to_owned(), token(&room.alice, token_args), "--name".to_owned(), name.to_owned()];
    join.extend(join_args.iter().map(|&arg| arg.to_owned()));
    let join: Vec<&str> = join.iter().map(String::as_str).collect();
    room.gateway.client(name).ok(&join);
}

/// An SSH server on a port of its own.
pub(super) struct Sshd {
    pub(super) port: Port,
    pub(super) program: Program,
}

impl Sshd {
    pub(super) fn start(room: &Room, name: &str) -> Self {
        let (dir, port) = (room.file(name), Port::take());
        fs::create_dir(&dir).unwrap();
        // The server insists on it, though it has nothing to separate here.
        fs::create_dir_all("/run/sshd").unwrap();
        let key = dir.join("host_key");
        ssh_key(&key);
        let config = dir.join("sshd_config");
        let text = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile {}\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n",
            port.number(),
            key.display(),
            room.file("client_key.pub").display(),
            dir.join("pid").display(),
        );
        fs::write(&config, text).unwrap();
        let mut program = Program::start(Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f"]).arg(&config), &dir);
        let answers = || TcpStream::connect((Ipv4Addr::LOCALHOST, port.number())).ok();
        eventually("sshd listens", ANSIBLE_TIME, || {
            assert!(program.runs(), "sshd ended\n{}", program.stderr());
            answers()
        });
        Self { port, program }
    }

    /// The number of connections with a login.
    pub(super) fn logins(&self) -> usize {
        self.program.stderr().matches("Accepted publickey").count()
    }
}

pub(super) fn ssh_key(path: &Path) {
    let mut keygen = Command::new("ssh-keygen");
    ended(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path), 0);
}

/// The machines' name for `ssh`.
pub(super) fn host_name(machine: &str) -> String {
    format!("{machine}.machine.{TRUST_DOMAIN}")
}

/// Writes the configuration of `ssh` where the inventory expects it: through the gateway, with the controller's helper.
/// The host's key is checked, under the machine's name. (With what `ssh-config` writes there is no key of anybody's own:
/// `ssh_access.rs`.)
pub(super) fn ssh_config(room: &Room, machines: &[&str]) {
    let proxy = format!("{} --dir {} connect --helper ssh@%h", built("lychgate").display(), room.robot.dir().display());
    let (mut config, mut known) = (String::new(), String::new());
    for machine in machines {
        let host = host_name(machine);
        config.push_str(&format!("Host {host}\n  ProxyCommand {proxy}\n"));
        if let Ok(key) = fs::read_to_string(room.file(machine).join("host_key.pub")) {
            known.push_str(&format!("{host} {key}"));
        }
    }
    let known = room.write("known_hosts", &known);
    let key = room.file("client_key");
    config.push_str(&format!(
        "Host *\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n",
        key.display(),
        known.display(),
    ));
    let dir = room.robot.file("ssh");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config"), config).unwrap();
}

/// The persistent connections of `ssh`, closed when this is dropped.
pub(super) struct Kept(pub(super) PathBuf);

impl Kept {
    pub(super) fn sockets(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for socket in self.sockets() {
            let mut exit = Command::new("ssh");
            exit.arg("-F").arg("none").arg("-o").arg(format!("ControlPath={}", socket.display()));
            let _ = run(exit.args(["-O", "exit", "nobody"]), ANSIBLE_TIME);
        }
    }
}
