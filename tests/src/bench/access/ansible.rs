//! Figure 4: Ansible through the gateway, compared with direct connections to the same machines.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::ssh::{SshStage, good, host, name};
use crate::program::built;

/// Tasks of the play.
const TASKS: usize = 20;

/// Number of machines that Ansible connects to at a time.
const FORKS: &str = "10";

/// The controller and its folder.
pub struct Controller<'a> {
    stage: &'a SshStage,
    dir: PathBuf,
    inventories: [PathBuf; 2],
}

/// How Ansible connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// With the output of `lychgate inventory` and `lychgate ssh-config`.
    Gateway,
    /// Directly to the port of each machine.
    Straight,
}

impl<'a> Controller<'a> {
    /// For these machines; `None` with a note if Ansible is not installed.
    #[must_use]
    pub fn new(stage: &'a SshStage) -> Option<Self> {
        crate::bench::nginx::which("ansible-playbook")?;
        let dir = stage.gateway.room().join("ansible");
        fs::create_dir_all(&dir).unwrap();
        let python = good(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]));
        let config = format!(
            "[defaults]\nforks = {FORKS}\nremote_tmp = {0}/remote\nlocal_tmp = {0}/local\ninterpreter_python = {1}\n\
             host_key_checking = true\ngathering = explicit\n[ssh_connection]\npipelining = true\ncontrol_path_dir = {0}/cp\n",
            dir.display(),
            python.stdout.trim()
        );
        fs::write(dir.join("ansible.cfg"), config).unwrap();
        let through = dir.join("inventory.sh");
        let program = built("lychgate");
        let script =
            format!("#!/bin/sh\nexec {} --dir {} inventory \"$@\"\n", program.display(), stage.alice.dir().display());
        fs::write(&through, script).unwrap();
        fs::set_permissions(&through, fs::Permissions::from_mode(0o755)).unwrap();
        let straight = dir.join("straight.ini");
        let arguments = format!("ansible_ssh_common_args='-F {}'", stage.direct.display());
        let hosts =
            (0..stage.len()).map(|number| format!("{} ansible_host={} {arguments}\n", name(number), host(number)));
        fs::write(&straight, hosts.collect::<String>()).unwrap();
        let task = "    - ansible.builtin.command: \"true\"\n      changed_when: false\n";
        let play = format!("- hosts: all\n  gather_facts: false\n  tasks:\n{}", task.repeat(TASKS));
        fs::write(dir.join("play.yml"), play).unwrap();
        Some(Self { stage, dir, inventories: [through, straight] })
    }

    fn command(&self, program: &str, via: Via) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ANSIBLE_")) {
            command.env_remove(name);
        }
        command.env_remove("LYCHGATE_DIR").env_remove("SSH_AUTH_SOCK").env("LC_ALL", "C.UTF-8");
        command.env("ANSIBLE_CONFIG", self.dir.join("ansible.cfg")).env("ANSIBLE_HOME", self.dir.join("home"));
        command.current_dir(&self.dir).arg("-i").arg(&self.inventories[usize::from(via == Via::Straight)]);
        command
    }

    /// A ping of every machine, each over a new connection.
    #[must_use]
    pub fn ping(&self, via: Via) -> Duration {
        let mut ping = self.command("ansible", via);
        ping.args(["all", "-m", "ansible.builtin.ping"]);
        let (took, said) = self.timed(&mut ping);
        assert_eq!(said.matches("\"ping\": \"pong\"").count(), self.stage.len(), "{said}");
        took
    }

    /// A play on every machine, with a new persistent connection each.
    #[must_use]
    pub fn play(&self, via: Via) -> Duration {
        let mut play = self.command("ansible-playbook", via);
        play.arg(self.dir.join("play.yml"));
        let (took, said) = self.timed(&mut play);
        assert_eq!(said.matches(&format!("ok={TASKS} ")).count(), self.stage.len(), "{said}");
        took
    }

    fn timed(&self, command: &mut Command) -> (Duration, String) {
        let began = Instant::now();
        let ended = good(command);
        let took = began.elapsed();
        self.hang_up();
        (took, ended.stdout)
    }

    /// Closes the persistent connections of ssh.
    fn hang_up(&self) {
        let sockets = fs::read_dir(self.dir.join("cp")).into_iter().flatten();
        for socket in sockets.map(|entry| entry.unwrap().path()) {
            exit(&socket);
        }
    }
}

fn exit(socket: &Path) {
    let mut exit = Command::new("ssh");
    exit.args(["-F", "none", "-o"]).arg(format!("ControlPath={}", socket.display()));
    let _ = crate::program::run(exit.args(["-O", "exit", "nobody"]), Duration::from_secs(30));
}
