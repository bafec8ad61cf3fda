//! The first use in one test: a gateway by `dev`, two machines that wait and are approved, and a person who reaches them with stock
//! programs. The commands printed by `dev` are run; only names, ports and the waiting code are replaced.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tests::cli::waiting_code;
use tests::program::Program;
use tests::ssh::{Sshd, SshdSetup, make_key, whoami};
use tests::wait::{PATIENCE, Stopwatch, eventually};

use crate::dev::{Terminal, below};
use crate::items;
use crate::rig::{Helpers, web};

/// A terminal with `dev` running in another, and what that one says.
struct Day<'a> {
    terminal: Terminal<'a>,
    said: String,
}

/// A machine that has joined, with its sshd.
struct Machine {
    sshd: Sshd,
    _run: Program,
}

impl Day<'_> {
    /// A command printed by `dev`, with another machine than `machine-1`.
    #[track_caller]
    fn printed(&self, heading: &str, machine: &str) -> String {
        below(&self.said, heading).replace("machine-1", machine)
    }

    /// The commands below a line with this beginning, up to the next such line.
    #[track_caller]
    fn all_printed(&self, heading: &str, machine: &str) -> Vec<String> {
        let lines = self.said.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
        let commands = lines.take_while(|line| line.starts_with("    "));
        commands.map(|line| line.trim().replace("machine-1", machine)).collect()
    }

    /// The machine waits, and the person approves it with its code.
    #[track_caller]
    fn let_in(&self, name: &str) {
        let join = self.printed("join a machine", name);
        let mut joining = Program::start(&mut self.terminal.command(&format!("exec {join}")), self.terminal.room);
        let code = joining.expect_stderr("a code on the machine's screen", waiting_code);
        let waiting = items(&self.terminal.json(&below(&self.said, "see who waits")));
        let request = waiting.iter().find(|row| row["wanted_name"] == name && row["state"] == "waiting");
        let id = request.unwrap_or_else(|| panic!("{name} does not wait: {waiting:?}"))["id"].as_str().unwrap();
        let approved = self.terminal.ok(&below(&self.said, "approve")
            .replace(" ID ", &format!(" {id} "))
            .replace("--code CODE", &format!("--code {code}")));
        assert!(approved.contains(&format!("approved {id} as `{name}`")), "{approved}");
        assert_eq!(joining.end_within(PATIENCE).code, 0);
    }

    /// A machine with an sshd that has a host certificate, exposed beside other services.
    #[track_caller]
    fn machine(&self, name: &str, more: &str) -> Machine {
        self.let_in(name);
        let place = self.terminal.room.join(format!("{name}-sshd"));
        std::fs::create_dir(&place).unwrap();
        let host_key = place.join("host_key");
        make_key(&host_key);
        let [show, believe] = &self.all_printed("let its sshd", name)[..] else { panic!("{}", self.said) };
        self.terminal.ok(&format!("{show} --host-key {}", host_key.display()));
        let user_ca = self.terminal.ok(believe);
        let host_certificate = Some(place.join("host_key-cert.pub"));
        let setup = SshdSetup { host_key, host_certificate, user_ca: &user_ca, under: vec![] };
        let sshd = Sshd::start(&place, &setup);
        let run = self.printed("keep it renewed, and expose", name);
        let run = format!("exec {}{more}", run.replace("127.0.0.1:22", &format!("127.0.0.1:{}", sshd.port())));
        let mut run = Program::start(&mut self.terminal.command(&run), self.terminal.room);
        run.expect_stdout("the tunnel is established", |out| out.contains("tunnel-up").then_some(()));
        Machine { sshd, _run: run }
    }

    /// The person's folder.
    fn me(&self, file: &str) -> PathBuf {
        self.terminal.room.join("lychgate-dev/me").join(file)
    }

    /// The default policy lets admins log in as root and under their own name: whoever else runs this test is added to it.
    #[track_caller]
    fn may_log_in_here(&self, dev: &Program) {
        let rule = format!(
            "\n@id(\"test-login\") @principals(\"{}\") permit(principal is Lychgate::Person, action == \
             Lychgate::Action::\"login\", resource);\n",
            whoami()
        );
        let policy = self.terminal.room.join("lychgate-dev/policy/default.cedar");
        let text = std::fs::read_to_string(&policy).unwrap();
        std::fs::write(&policy, text + &rule).unwrap();
        dev.signal(Signal::HUP);
        let certificate = below(&self.said, "see who waits").replace("requests list", "ssh-cert user");
        eventually("the new policy", PATIENCE, || self.terminal.ok(&certificate).contains(&whoami()).then_some(()));
    }
}

/// Runs `ssh` without a terminal, so that a prompt is a failure.
fn asked_nothing(line: &str) -> String {
    let line = line.replace("root@", &format!("{}@", whoami()));
    format!("env -u SSH_AUTH_SOCK {line} -o BatchMode=yes")
}

#[test]
fn two_machines_are_let_in_and_reached_by_ssh_and_curl() {
    let room = tempfile::tempdir().unwrap();
    let terminal = Terminal::open(room.path());
    let (dev, said) = terminal.dev();
    let day = Day { terminal, said };
    let _helpers = Helpers::of(&room.path().join("lychgate-dev/me"));
    let web = web("hello from machine-2");
    let machines = [("machine-1", String::new()), ("machine-2", format!(" --expose web={web},raw"))]
        .map(|(name, more)| (name, day.machine(name, &more)));
    if whoami() != "root" {
        day.may_log_in_here(&dev);
    }
    for (name, machine) in &machines {
        let line = asked_nothing(&day.printed("log in there by name", name));
        assert_eq!(day.terminal.ok(&format!("{line} echo by {name}")), format!("by {name}\n"));
        machine.sshd.wait_for_log("ID spiffe://dev.lychgate.test/person/admin#");
    }
    by_stock_ssh(&day);
    by_curl(&day);
    let opened = below(&day.said, "see who waits").replace("requests list", "audit --event session.opened");
    let mut doors: Vec<String> = items(&day.terminal.json(&opened))
        .iter()
        .map(|event| format!("{} {}", event["detail"]["door"].as_str().unwrap(), event["rules"][0].as_str().unwrap()))
        .collect();
    doors.sort();
    let want =
        ["connect", "helper", "helper", "helper", "helper", "raw", "raw"].map(|door| format!("{door} admins-connect"));
    assert_eq!(doors, want);
    // Nothing is open, so nothing is waited for, although a helper still holds its connection.
    let began = Stopwatch::start();
    assert_eq!(dev.stop().code, 0);
    began.assert_within(Duration::from_secs(8), "the lock and its end");
}

/// ssh with both configurations of `ssh-config`: with our program, and with openssl alone.
#[track_caller]
fn by_stock_ssh(day: &Day<'_>) {
    let printed = day.all_printed("the same with stock ssh", "machine-1");
    let [write, ssh] = &printed[..] else { panic!("{}", day.said) };
    day.terminal.ok(write);
    let config = day.me("ssh/config");
    let openssl = day.terminal.room.join("openssl_config");
    std::fs::write(&openssl, day.terminal.ok(&write.replace("--write", "--openssl"))).unwrap();
    for (file, name) in
        [(&config, "machine-1"), (&config, "machine-2"), (&openssl, "machine-1"), (&openssl, "machine-2")]
    {
        assert!(ssh.contains(path(&config)), "{ssh}");
        let line = asked_nothing(&ssh.replace(path(&config), path(file)).replace("machine-1", name));
        assert_eq!(day.terminal.ok(&format!("{line} echo by {name}")), format!("by {name}\n"));
    }
    let helper = std::fs::read_to_string(&config).unwrap();
    let openssl = std::fs::read_to_string(&openssl).unwrap();
    assert!(helper.contains("connect --helper") && !helper.contains("s_client"), "{helper}");
    assert!(openssl.contains("s_client") && !openssl.contains("connect --helper"), "{openssl}");
}

/// curl with the person's certificate, with the address printed last by `dev`.
#[track_caller]
fn by_curl(day: &Day<'_>) {
    let (_, proxy) = day.said.split_once("   proxy ").unwrap();
    let (address, _) = proxy.split_once('\n').unwrap();
    let file = |name: &str| day.me(name).display().to_string();
    let curl = format!(
        "curl -sS --max-time 20 --noproxy '' --proxytunnel -x {address} --proxy-cacert {} --proxy-cert {} --proxy-key {}",
        file("bundle.pem"),
        file("cert.pem"),
        file("key.pem"),
    );
    assert_eq!(day.terminal.ok(&format!("{curl} http://web.machine-2/")), "hello from machine-2");
    // Its owner exposes nothing of the kind on the other.
    let refused = day.terminal.paste(&format!("{curl} http://web.machine-1/"));
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("response 404"), "{}", refused.stderr);
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
