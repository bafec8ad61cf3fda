//! Stock OpenSSH with machine names: no prompts, only our configuration on its command line, and machines that accept no connection
//! from the network.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::{Ended, Program, built, run};
use tests::ssh::{Sshd, SshdSetup, make_key, whoami};
use tests::wait::{PATIENCE, Stopwatch, eventually};

use crate::netns::Namespace;
use crate::rig::{Helpers, Running, sessions};
use crate::{audit, joined};

/// A gateway whose administrators may log in as the account that runs the test.
fn setup() -> Setup {
    let rule = format!(
        "@id(\"test-login\") @principals(\"{}\") permit(principal is Lychgate::Person in Lychgate::Group::\"admins\", \
         action == Lychgate::Action::\"login\", resource);",
        whoami()
    );
    Setup::default().policy(&rule)
}

/// A running machine that exposes an sshd with a host certificate.
struct Machine {
    running: Running,
    sshd: Sshd,
}

fn machine(gateway: &Gateway, alice: &Lychgate, name: &str) -> Machine {
    let machine = joined(gateway, alice, name);
    let sshd = sshd_of(gateway, &machine, name, vec![]);
    let expose = format!("ssh=127.0.0.1:{}", sshd.port());
    Machine { running: Running::start(machine, &["--expose", &expose]), sshd }
}

/// The sshd of a machine that has joined, under another program if there is one.
fn sshd_of(gateway: &Gateway, machine: &Lychgate, name: &str, under: Vec<String>) -> Sshd {
    let host_key = gateway.room().join(format!("{name}_host_key"));
    make_key(&host_key);
    machine.ok(&["ssh-cert", "host", "--host-key", host_key.to_str().unwrap()]);
    let host_certificate = Some(gateway.room().join(format!("{name}_host_key-cert.pub")));
    let user_ca = machine.ok(&["ssh-cert", "trusted-user-ca"]);
    let setup = SshdSetup { host_key, host_certificate, user_ca: &user_ca, under };
    Sshd::start(&gateway.room().join(format!("{name}_sshd")), &setup)
}

/// `ssh -F CONFIG ARGS` without a terminal, so that a prompt is a failure.
fn ssh(config: &PathBuf, args: &[&str]) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(config).args(["-o", "BatchMode=yes", "-l", &whoami()]).args(args).env_remove("SSH_AUTH_SOCK");
    ssh
}

#[track_caller]
fn ok(ended: &Ended, says: &str) {
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(ended.stdout, says, "{}", ended.stderr);
}

#[test]
fn ssh_by_name_through_the_helper_and_through_openssl() {
    let gateway = setup().start();
    let alice = gateway.first_person();
    let machines = ["alpha", "beta"].map(|name| machine(&gateway, &alice, name));
    let _helpers = Helpers::of(alice.dir());
    alice.ok(&["ssh-config", "--write"]);
    let config = alice.file("ssh/config");
    for name in ["alpha", "beta", "beta.machine.test.example"] {
        ok(&run(&mut ssh(&config, &[name, "echo it is me"]), PATIENCE), "it is me\n");
    }
    assert_eq!(audit(&alice, "session.opened").len(), 3);
    machines[0].sshd.wait_for_log("ID spiffe://test.example/person/alice#");
    // The same with a program that everybody has.
    let text = alice.ok(&["ssh-config", "--openssl"]);
    assert!(text.contains("-verify_return_error") && text.contains("-verify_hostname ssh--beta."), "{text}");
    assert!(!text.contains("connect --helper"), "{text}");
    let openssl = gateway.room().join("openssl_config");
    std::fs::write(&openssl, text).unwrap();
    for name in ["alpha", "beta.machine.test.example"] {
        ok(&run(&mut ssh(&openssl, &[name, "echo it is me"]), PATIENCE), "it is me\n");
    }
    let doors: Vec<String> = audit(&alice, "session.opened")
        .iter()
        .map(|event| event["detail"]["door"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(doors.iter().filter(|door| *door == "raw").count(), 2, "{doors:?}");
    // Files, and the command that does it all.
    let (from, to) = (gateway.room().join("file"), gateway.room().join("copy"));
    std::fs::write(&from, vec![7; 3_000_000]).unwrap();
    let mut scp = Command::new("scp");
    scp.args(["-q", "-O", "-F"]).arg(&config).args(["-o", "BatchMode=yes"]).arg(&from);
    let ended = run(scp.arg(format!("{}@alpha:{}", whoami(), to.display())), PATIENCE);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(std::fs::read(&to).unwrap().len(), 3_000_000);
    let login = format!("{}@alpha", whoami());
    assert_eq!(alice.ok(&["ssh", &login, "-o", "BatchMode=yes", "echo by name"]), "by name\n");
    // A machine that is another than its name says is not believed, whoever leads there.
    let stranger =
        run(&mut ssh(&config, &["-o", "HostKeyAlias=gamma.machine.test.example", "alpha", "true"]), PATIENCE);
    assert_eq!(stranger.code, 255, "{}", stranger.stderr);
}

/// `lychgate ssh` in place of ssh, called by rsync, scp, sftp and git.
#[test]
fn it_stands_wherever_ssh_does() {
    let gateway = setup().start();
    let alice = gateway.first_person();
    let _machine = machine(&gateway, &alice, "alpha");
    let _helpers = Helpers::of(alice.dir());
    let (room, me) = (gateway.room(), whoami());
    let ssh = format!("{} --dir {} ssh -o BatchMode=yes", built("lychgate").display(), alice.dir().display());
    let go = |command: &mut Command| {
        let ended = run(command.env_remove("SSH_AUTH_SOCK"), PATIENCE);
        assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    };
    let from = room.join("from");
    std::fs::create_dir(&from).unwrap();
    std::fs::write(from.join("a file"), vec![7; 300_000]).unwrap();
    // rsync puts `-l LOGIN` in front of the host.
    let to = room.join("by_rsync");
    let mut rsync = Command::new("rsync");
    rsync.args(["-a", "-e", &ssh]).arg(format!("{}/", from.display())).arg(format!("{me}@alpha:{}/", to.display()));
    go(&mut rsync);
    assert_eq!(std::fs::read(to.join("a file")).unwrap().len(), 300_000);
    // scp and sftp take one word, and put everything in front of `--`.
    let link = room.join("lychgate-ssh");
    std::os::unix::fs::symlink(built("lychgate"), &link).unwrap();
    let to = room.join("by_scp");
    let mut scp = Command::new("scp");
    scp.args(["-q", "-r", "-S"]).arg(&link).args(["-o", "BatchMode=yes"]).arg(&from);
    go(scp.arg(format!("{me}@alpha:{}", to.display())).env("LYCHGATE_DIR", alice.dir()));
    assert_eq!(std::fs::read(to.join("a file")).unwrap().len(), 300_000);
    // git asks with `-G` first whether it is OpenSSH.
    let repository = room.join("repository");
    let mut git = Command::new("git");
    go(git.args(["init", "-q"]).arg(&repository));
    let mut git = Command::new("git");
    git.current_dir(&repository).args(["-c", "user.name=a", "-c", "user.email=a@lab.example", "commit", "-q"]);
    go(git.args(["--allow-empty", "-m", "first"]));
    let mut git = Command::new("git");
    git.args(["clone", "-q"]).arg(format!("ssh://{me}@alpha{}", repository.display())).arg(room.join("by_git"));
    go(git.env("GIT_SSH_COMMAND", &ssh));
    assert!(room.join("by_git/.git").is_dir());
    // By hand, with options in front and behind, in any case and with a dot.
    let typed = |args: &[&str]| alice.ok(&[&["ssh", "-o", "BatchMode=yes"], args].concat());
    assert_eq!(typed(&["-T", "-l", &me, "Alpha.", "echo", "one"]), "one\n");
    assert_eq!(typed(&[&format!("{me}@ALPHA.machine.test.example"), "-T", "--", "echo", "two"]), "two\n");
    assert_eq!(alice.run(&["ssh", "-l", &me, "alpha", "exit 37"]).code, 37);
    // Nowhere but through the gateway.
    for host in ["machine-9", "localhost", "127.0.0.1", "alpha.example", "beta.machine.test.example"] {
        let refused = alice.refused(&["ssh", &format!("{me}@{host}"), "true"]);
        crate::assert_says(&refused, 1, &format!("no machine `{host}` that you may see"));
    }
    for past in [["-J", "localhost"], ["-F", "none"], ["-o", "ProxyCommand=none"]] {
        let refused = alice.refused(&["ssh", past[0], past[1], "alpha", "true"]);
        crate::assert_says(&refused, 2, "goes through the gateway");
    }
    assert!(alice.run(&["ssh", "-V"]).stderr.contains("OpenSSH"));
}

/// Why there is no way to a machine reaches whoever runs ssh, also where ssh throws away what its ProxyCommand says, as Ansible has it do.
#[test]
fn ssh_itself_says_why_there_is_no_way() {
    let gateway = setup().start();
    let alice = gateway.first_person();
    let _helpers = Helpers::of(alice.dir());
    let _alpha = joined(&gateway, &alice, "alpha");
    alice.ok(&["ssh-config", "--write"]);
    let config = alice.file("ssh/config");
    let control = format!("ControlPath={}/%C", gateway.room().display());
    let shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", &control];
    for options in [&[][..], &shared] {
        let ended = run(&mut ssh(&config, &[options, &["alpha", "true"]].concat()), PATIENCE);
        assert_eq!(ended.code, 255, "{}", ended.stderr);
        let says = "Received disconnect from UNKNOWN port 65535:11: lychgate: the machine `alpha` is offline";
        assert!(ended.stderr.contains(says), "{options:?}: {}", ended.stderr);
    }
}

/// A port changes nothing: there is no other way than the gateway's, and ssh, which looks for `[HOST]:PORT` among the known hosts
/// first, still believes the gateway's CA alone.
#[test]
fn a_port_leads_nowhere_else_and_the_host_key_is_checked() {
    let gateway = setup().start();
    let alice = gateway.first_person();
    let _machine = machine(&gateway, &alice, "alpha");
    // Another sshd, whose key nobody has certified, and what listens at the port that is asked for.
    let stranger = joined(&gateway, &alice, "beta");
    let key = gateway.room().join("beta_host_key");
    make_key(&key);
    let user_ca = stranger.ok(&["ssh-cert", "trusted-user-ca"]);
    let own = SshdSetup { host_key: key, host_certificate: None, user_ca: &user_ca, under: vec![] };
    let sshd = Sshd::start(&gateway.room().join("beta_sshd"), &own);
    let _beta = Running::start(stranger, &["--expose", &format!("ssh=127.0.0.1:{}", sshd.port())]);
    let _helpers = Helpers::of(alice.dir());
    let (me, port) = (whoami(), sshd.port().to_string());
    let typed = |args: &[&str]| alice.run(&[&["ssh", "-o", "BatchMode=yes", "-l", &me], args].concat());
    alice.ok(&["ssh-config", "--write"]);
    let config = alice.file("ssh/config");
    for host in ["alpha", "Alpha.", "ssh://alpha"] {
        let before = audit(&alice, "session.opened").len();
        let args: &[&str] =
            if host.starts_with("ssh:") { &["ssh://alpha:2222", "echo one"] } else { &["-p", &port, host, "echo one"] };
        ok(&typed(args), "one\n");
        assert_eq!(audit(&alice, "session.opened").len(), before + 1, "{host} went by the gateway");
    }
    for name in ["alpha", "ALPHA", "alpha.", "alpha.machine.test.example"] {
        ok(&run(&mut ssh(&config, &["-p", &port, name, "echo two"]), PATIENCE), "two\n");
    }
    for args in [&["beta", "true"][..], &["-p", &port, "beta", "true"], &["-p", "22", "beta", "true"]] {
        let refused = typed(args);
        assert_eq!(refused.code, 255, "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("Host key verification failed"), "{args:?}: {}", refused.stderr);
    }
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let refused = alice.refused(&["ssh", "-p", &port, &format!("{me}@{host}"), "true"]);
        crate::assert_says(&refused, 1, "that you may see");
    }
}

/// The configuration is included in the person's own exactly once, whatever that contains.
#[test]
fn it_is_included_in_the_persons_own_configuration() {
    let gateway = setup().start();
    let alice = gateway.first_person();
    let home = gateway.room().join("home");
    let own = home.join(".ssh/config");
    for round in 0..3 {
        if round == 1 {
            std::fs::write(&own, "Host other\n    Port 2222\n").unwrap();
        }
        let ended = run(alice.command(&["ssh-config", "--install"]).env("HOME", &home), PATIENCE);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let text = std::fs::read_to_string(&own).unwrap();
        let line = format!("Include \"{}\"", alice.file("ssh/config").display());
        assert!(text.starts_with(&line), "{text}");
        assert_eq!(text.matches("Include").count(), 1, "{text}");
        assert_eq!(text.contains("Host other"), round > 0, "{text}");
    }
}

/// A folder whose socket path is longer than a socket address allows.
#[test]
fn a_long_folder_has_a_helper_too() {
    let gateway = setup().start();
    let short = gateway.first_person();
    let _machine = machine(&gateway, &short, "alpha");
    let long = gateway.room().join("x".repeat(100)).join("y".repeat(100));
    std::fs::create_dir_all(long.parent().unwrap()).unwrap();
    std::fs::rename(short.dir(), &long).unwrap();
    let alice = Lychgate::at(long);
    let _helpers = Helpers::of(alice.dir());
    let login = format!("{}@alpha", whoami());
    assert_eq!(alice.ok(&["ssh", "-o", "BatchMode=yes", &login, "echo by name"]), "by name\n");
    assert_eq!(Helpers::of(alice.dir()).ids().len(), 1);
}

/// A remote command that prints a line and runs until its session ends.
const STAY: &str = "echo begun; exec tail --pid=$PPID -f /dev/null";

/// The number of running child processes of a process.
fn children(id: u32) -> usize {
    let parent = |entry: std::io::Result<std::fs::DirEntry>| -> Option<u32> {
        let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        // The name, in parentheses, may hold anything; then come the state and the parent.
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    std::fs::read_dir("/proc").unwrap().filter_map(parent).filter(|parent| *parent == id).count()
}

/// ssh gets the connection's descriptor, so that no process of ours is between it and the helper.
#[test]
fn ssh_takes_the_open_connection_from_the_helper() {
    let gateway = setup().start();
    let alice = gateway.first_person();
    let machine = machine(&gateway, &alice, "alpha");
    let _helpers = Helpers::of(alice.dir());
    alice.ok(&["ssh-config", "--write"]);
    let usual = alice.file("ssh/config");
    let text = std::fs::read_to_string(&usual).unwrap();
    let passing = text.replace("connect --helper ssh@%h", "connect --helper --fdpass ssh@%h");
    assert_ne!(passing, text);
    let config = gateway.room().join("fdpass_config");
    std::fs::write(&config, format!("{passing}    ProxyUseFdpass yes\n")).unwrap();
    ok(&run(&mut ssh(&config, &["alpha", "echo it is me"]), PATIENCE), "it is me\n");
    machine.sshd.wait_for_log("ID spiffe://test.example/person/alice#");
    assert_eq!(audit(&alice, "session.opened")[0]["detail"]["door"], "helper");
    for (config, want) in [(&usual, 1), (&config, 0)] {
        let mut long = Program::start(&mut ssh(config, &["alpha", STAY]), gateway.room());
        long.expect_stdout("the session", |out| out.contains("begun").then_some(()));
        assert_eq!(children(long.id()), want, "{}", config.display());
    }
    eventually("the session is closed", PATIENCE, || sessions(&alice).is_empty().then_some(()));
    // A refusal has a place for words all the same.
    let refused = run(&mut ssh(&config, &["nobody.machine.test.example", "true"]), PATIENCE);
    assert_eq!(refused.code, 255, "{}", refused.stderr);
    assert!(refused.stderr.contains("lychgate: error: no such machine"), "{}", refused.stderr);
}

#[test]
fn a_long_session_survives_renewals_and_ends_with_the_lock() {
    let gateway = setup().machine_lifetime("60s").start();
    let alice = gateway.first_person();
    let mut alpha = machine(&gateway, &alice, "alpha");
    let _helpers = Helpers::of(alice.dir());
    alice.ok(&["ssh-config", "--write"]);
    let log = gateway.room().join("followed.log");
    std::fs::write(&log, "first line\n").unwrap();
    let follow = format!("tail -f {}", log.display());
    let mut tail = Program::start(&mut ssh(&alice.file("ssh/config"), &["alpha", &follow]), gateway.room());
    tail.expect_stdout("the first line", |out| out.contains("first line").then_some(()));
    alice.ok(&["renew", "--force"]);
    alpha.running.run.expect_stdout_within(
        "the tunnel goes on with a renewed certificate",
        Duration::from_secs(90),
        |out| out.contains("tunnel-renewed").then_some(()),
    );
    std::fs::write(&log, "first line\nsecond line\n").unwrap();
    tail.expect_stdout("the second line", |out| out.contains("second line").then_some(()));
    let session = sessions(&alice).pop().unwrap();
    let began = Stopwatch::start();
    alice.ok(&["machines", "lock", "alpha", "--reason", "stolen"]);
    let ended = tail.end_within(PATIENCE);
    began.assert_within(Duration::from_secs(5), "the cut, with the commands themselves");
    assert_eq!(ended.code, 255, "{}", ended.stderr);
    assert!(ended.stderr.contains("was ended: locked: a lock was set"), "{}", ended.stderr);
    let enforced = audit(&alice, "lock.enforced").pop().unwrap();
    let millis: u64 = enforced["detail"]["millis"].as_str().unwrap().parse().unwrap();
    began.assert_took(Duration::from_millis(millis), Duration::from_secs(1), "the cut by its own record");
    let closed = audit(&alice, "session.closed").pop().unwrap();
    assert_eq!((&closed["subject"], &closed["detail"]["reason"]), (&session["id"], &"locked".into()));
}

#[test]
fn a_machine_that_accepts_nothing_from_the_network_is_reached() {
    if whoami() != "root" {
        eprintln!("skipped: network namespaces want root");
        return;
    }
    let host = Namespace::make();
    let (gateway, alice) = host.gateway(setup());
    let machine = host.machine(&gateway, &alice, "alpha");
    let sshd = sshd_of(&gateway, &machine, "alpha", host.within());
    let expose = format!("ssh=127.0.0.1:{}", sshd.port());
    let _running = Running::start(machine, &["--expose", &expose]);
    let _helpers = Helpers::of(alice.dir());
    alice.ok(&["ssh-config", "--write"]);
    let mut session = Program::start(&mut ssh(&alice.file("ssh/config"), &["alpha", STAY]), gateway.room());
    session.expect_stdout("a session", |out| out.contains("begun").then_some(()));
    // And from outside nobody gets anywhere: not to the service, not to any port, not with a ping.
    for (kind, want) in [("-Htln", vec![format!("127.0.0.1:{}", sshd.port())]), ("-Huln", vec![])] {
        let listening = run(&mut host.command(&["ss", kind]), PATIENCE);
        assert_eq!(listening.code, 0, "{}", listening.stderr);
        let at: Vec<&str> = listening.stdout.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
        assert_eq!(at, want, "the machine listens elsewhere:\n{}", listening.stdout);
    }
    for port in [sshd.port(), 22, 443, 8443] {
        let at = format!("{}:{port}", host.inside()).parse().unwrap();
        let came = std::net::TcpStream::connect_timeout(&at, Duration::from_millis(300));
        assert!(came.is_err(), "{at} took a connection");
    }
    eventually("the session is there", PATIENCE, || (sessions(&alice).len() == 1).then_some(()));
}
