//! SSH certificates with OpenSSH's ssh, sshd, ssh-keygen and ssh-agent: there is never a prompt about a host key.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::{Program, run, shifted_clock};
use tests::ssh::{Login, Sshd, SshdSetup, listed, listed_value, make_key, whoami};
use tests::wait::{PATIENCE, eventually};

use crate::{assert_says, audit, joined};

/// A gateway whose administrators may log in as the account that runs the test.
fn setup() -> Setup {
    let rule = format!(
        "@id(\"test-login\") @principals(\"{}\") permit(principal is Lychgate::Person in Lychgate::Group::\"admins\", \
         action == Lychgate::Action::\"login\", resource);",
        whoami()
    );
    Setup::default().policy(&rule)
}

/// A machine whose sshd has a host certificate.
struct Stage {
    gateway: Gateway,
    alice: Lychgate,
    edge: Lychgate,
    host_key: PathBuf,
    certificate: PathBuf,
    known_hosts: String,
    user_ca: String,
}

const ALIAS: &str = "edge-1.machine.test.example";

impl Stage {
    fn set(setup: Setup) -> Self {
        let gateway = setup.start();
        let alice = gateway.first_person();
        let edge = joined(&gateway, &alice, "edge-1");
        let host_key = gateway.room().join("ssh_host_ed25519_key");
        make_key(&host_key);
        edge.ok(&["ssh-cert", "host", "--host-key", host_key.to_str().unwrap()]);
        let known_hosts = alice.ok(&["ssh-cert", "known-hosts"]);
        let user_ca = edge.ok(&["ssh-cert", "trusted-user-ca"]);
        let certificate = gateway.room().join("ssh_host_ed25519_key-cert.pub");
        Self { gateway, alice, edge, host_key, certificate, known_hosts, user_ca }
    }

    fn sshd(&self) -> Sshd {
        self.sshd_with(Some(self.certificate.clone()))
    }

    fn sshd_with(&self, host_certificate: Option<PathBuf>) -> Sshd {
        let (host_key, user_ca) = (self.host_key.clone(), &self.user_ca);
        let setup = SshdSetup { host_key, host_certificate, user_ca, under: vec![] };
        Sshd::start(&self.gateway.room().join("sshd"), &setup)
    }

    fn login<'a>(&'a self, sshd: &'a Sshd, key: &'a Path) -> Login<'a> {
        Login { sshd, alias: ALIAS, known_hosts: &self.known_hosts, key: Some(key), agent: None }
    }
}

fn own_key(person: &Lychgate) -> PathBuf {
    person.file("ssh/id_ed25519")
}

#[test]
fn a_person_logs_in_and_nobody_is_asked_anything() {
    let mut stage = Stage::set(setup());
    let sshd = stage.sshd();
    assert!(stage.known_hosts.starts_with("@cert-authority *.machine.test.example ssh-ed25519 AAAA"));
    let got = stage.alice.json(&["ssh-cert", "user", "--if-needed"]);
    assert_eq!(got["result"], "issued");
    let key = own_key(&stage.alice);
    assert_eq!(got["key"], key.to_str().unwrap());
    assert_eq!(stage.login(&sshd, &key).ok("echo in; exit 0"), "in\n");
    // Who it was stands in sshd's log.
    let key_id = got["key_id"].as_str().unwrap();
    assert!(key_id.starts_with("spiffe://test.example/person/alice#"), "{key_id}");
    sshd.wait_for_log(&format!("ID {key_id} (serial {})", got["serial"].as_str().unwrap()));

    // The certificates as ssh-keygen sees them.
    let host = listed(&stage.certificate);
    assert!(host.contains(&"Type: ssh-ed25519-cert-v01@openssh.com host certificate".to_owned()), "{host:?}");
    let principals: Vec<&String> = host.iter().skip_while(|line| *line != "Principals:").skip(1).take(2).collect();
    assert_eq!(principals, ["edge-1", ALIAS]);
    let user = listed(Path::new(got["certificate"].as_str().unwrap()));
    assert!(user.contains(&"permit-pty".to_owned()) && user.contains(&"alice".to_owned()), "{user:?}");

    // And in the audit, with the rules.
    let events = audit(&stage.alice, "ssh.issued");
    assert_eq!(events.len(), 2, "{events:?}");
    let event = events.iter().find(|event| event["subject"] == "spiffe://test.example/person/alice").unwrap();
    assert_eq!(event["rules"], serde_json::json!(["admins-login", "test-login"]));
    assert_eq!(event["detail"]["key_id"], key_id);

    // The machine's certificate is good for no other machine.
    let elsewhere = Login { alias: "edge-2.machine.test.example", ..stage.login(&sshd, &key) }.refused();
    assert!(elsewhere.contains("name is not a listed principal"), "{elsewhere}");

    // While it is fresh there is no network.
    let _ = stage.gateway.stop();
    let kept = stage.alice.json(&["ssh-cert", "user", "--if-needed"]);
    assert_eq!((&kept["result"], &kept["serial"]), (&"kept".into(), &got["serial"]));
    assert_eq!(std::fs::read_to_string(kept["known_hosts"].as_str().unwrap()).unwrap(), stage.known_hosts);
    assert_eq!(stage.alice.ok(&["ssh-cert", "known-hosts"]), stage.known_hosts, "as last heard");
    assert_says(&stage.alice.refused(&["ssh-cert", "user"]), 5, "cannot reach");
}

#[test]
fn an_sshd_without_a_certificate_is_not_believed() {
    let stage = Stage::set(setup());
    stage.alice.ok(&["ssh-cert", "user"]);
    let key = own_key(&stage.alice);
    let sshd = stage.sshd_with(None);
    let said = stage.login(&sshd, &key).refused();
    assert!(said.contains("Host key verification failed"), "{said}");

    // Nor one by another CA.
    let ca = stage.gateway.room().join("other-ca");
    make_key(&ca);
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-h", "-s"]).arg(&ca).args(["-I", "x", "-n", ALIAS]);
    assert_eq!(run(sign.arg(stage.host_key.with_extension("pub")), PATIENCE).code, 0);
    let sshd = stage.sshd();
    let said = stage.login(&sshd, &key).refused();
    assert!(said.contains("Host key verification failed"), "{said}");
}

#[test]
fn sshd_refuses_what_the_gateway_did_not_give() {
    let stage = Stage::set(setup().policy(
        "@id(\"guests\") @principals(\"{name}\") permit(principal is Lychgate::Person in \
         Lychgate::Group::\"guests\", action == Lychgate::Action::\"login\", resource);",
    ));
    let sshd = stage.sshd();
    let room = stage.gateway.room();
    // A key without a certificate, and one with a certificate of another CA.
    let (key, ca) = (room.join("own"), room.join("other-ca"));
    make_key(&key);
    make_key(&ca);
    assert!(stage.login(&sshd, &key).refused().contains("Permission denied"));
    let sign = ["-q", "-s", ca.to_str().unwrap(), "-I", "x", "-n", &whoami(), key.to_str().unwrap()];
    assert_eq!(run(Command::new("ssh-keygen").args(sign), PATIENCE).code, 0);
    assert!(stage.login(&sshd, &key).refused().contains("Permission denied"));

    // Somebody whom the policy gives another login.
    let invited = stage.alice.json(&["people", "invite", "--name", "bob", "--group", "guests"]);
    let bob = stage.gateway.client("bob");
    bob.ok(&["join", invited["token"].as_str().unwrap()]);
    assert_eq!(bob.json(&["ssh-cert", "user"])["principals"], serde_json::json!(["bob"]));
    assert!(stage.login(&sshd, &own_key(&bob)).refused().contains("Permission denied"));
    sshd.wait_for_log("name is not a listed principal");
    // With the right one, the same sshd lets in.
    stage.alice.ok(&["ssh-cert", "user"]);
    stage.login(&sshd, &own_key(&stage.alice)).ok("true");
}

#[test]
fn a_certificate_that_has_ended_is_refused() {
    let stage = Stage::set(setup());
    stage.alice.ok(&["ssh-cert", "user"]);
    // An sshd two hours later: the person's hour is over, the machine's day is not.
    let setup = SshdSetup {
        host_key: stage.host_key.clone(),
        host_certificate: Some(stage.certificate.clone()),
        user_ca: &stage.user_ca,
        under: shifted_clock("+2h"),
    };
    let sshd = Sshd::start(&stage.gateway.room().join("sshd"), &setup);
    assert!(stage.login(&sshd, &own_key(&stage.alice)).refused().contains("Permission denied"));
    sshd.wait_for_log("Certificate invalid: expired");
}

#[test]
fn a_host_certificate_is_renewed_with_the_machines_own() {
    let mut stage = Stage::set(setup());
    let sshd = stage.sshd();
    stage.alice.ok(&["ssh-cert", "user"]);
    let key = own_key(&stage.alice);
    let shown = |ended: &str| {
        let line = ended.lines().find(|line| line.contains("Server host certificate: ssh-ed25519-cert"))?;
        Some(line.split("serial ").nth(1)?.split_whitespace().next()?.to_owned())
    };
    let serial = || listed_value(&stage.certificate, "Serial");
    let first = serial();
    assert_eq!(shown(&stage.login(&sshd, &key).run("true").stderr), Some(first.clone()));

    // The command that makes sshd read it anew is given once, and run after each renewal.
    let reload = format!("kill -HUP {}", sshd.id());
    stage.edge.ok(&["ssh-cert", "host", "--host-key", stage.host_key.to_str().unwrap(), "--reload", &reload]);
    let second = serial();
    assert_ne!(second, first);
    stage.edge.ok(&["renew", "--force"]);
    let third = serial();
    assert_ne!(third, second);
    eventually("sshd shows the new certificate", PATIENCE, || {
        let ended = stage.login(&sshd, &key).run("true");
        (shown(&ended.stderr) == Some(third.clone()) && ended.code == 0).then_some(())
    });

    // `run` does the same once the machine's certificate is due.
    let book = std::fs::read_to_string(stage.edge.file("ssh/host-certificates.json")).unwrap();
    let book: serde_json::Value = serde_json::from_str(&book).unwrap();
    let before = book["certificates"][0]["not_after"].as_u64().unwrap();
    assert_eq!(before, stage.edge.json(&["status"])["not_after"].as_u64().unwrap());
    let _ = stage.gateway.stop();
    // Later than the latest time at which it may be due: 60 % of a day.
    let later = shifted_clock("+15h");
    stage.gateway.run_under(&later);
    stage.gateway.start();
    let ran = stage.edge.under(&later).ok(&["run", "--once"]);
    assert!(ran.contains("ssh-host-certificate"), "{ran}");
    assert_ne!(listed_value(&stage.certificate, "Serial"), third);

    // Forgotten, it stays as it is.
    let fourth = listed_value(&stage.certificate, "Serial");
    stage.edge.ok(&["ssh-cert", "host", "--host-key", stage.host_key.to_str().unwrap(), "--forget"]);
    stage.edge.under(&later).ok(&["renew", "--force"]);
    assert_eq!(listed_value(&stage.certificate, "Serial"), fourth);
}

#[test]
fn a_host_certificate_that_could_not_be_renewed_is_renewed_later() {
    let stage = Stage::set(setup());
    let before = listed_value(&stage.certificate, "Serial");
    let away = stage.host_key.with_extension("away");
    std::fs::rename(&stage.host_key, &away).unwrap();
    let ended = stage.edge.run(&["renew", "--force"]);
    assert_says(&ended, 0, "no new SSH certificate for");
    assert_eq!(listed_value(&stage.certificate, "Serial"), before);
    std::fs::rename(&away, &stage.host_key).unwrap();
    stage.edge.ok(&["run", "--once"]);
    assert_ne!(listed_value(&stage.certificate, "Serial"), before);
}

#[test]
fn keys_in_an_agent() {
    let stage = Stage::set(setup());
    let sshd = stage.sshd();
    let room = stage.gateway.room();
    let socket = room.join("agent.sock");
    let _agent = Program::start(Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket), room);
    eventually("the agent listens", PATIENCE, || socket.exists().then_some(()));
    let with_agent = |args: &[&str]| run(stage.alice.command(args).env("SSH_AUTH_SOCK", &socket), PATIENCE);
    let login =
        || Login { key: None, agent: Some(&socket), ..stage.login(&sshd, &room.join("unused")) }.run("true").code;
    assert_eq!(login(), 255);
    let ended = with_agent(&["ssh-cert", "user", "--agent"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(login(), 0);

    // A key that only the agent has: its public half is enough.
    let key = room.join("in-agent");
    make_key(&key);
    let add = run(Command::new("ssh-add").arg(&key).env("SSH_AUTH_SOCK", &socket), PATIENCE);
    assert_eq!(add.code, 0, "{}", add.stderr);
    std::fs::remove_file(&key).unwrap();
    let public = room.join("in-agent.pub");
    let ended = with_agent(&["ssh-cert", "user", "--key", public.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(
        listed_value(&room.join("in-agent-cert.pub"), "Key ID").split('#').next(),
        Some("\"spiffe://test.example/person/alice")
    );
    let without = stage.alice.refused(&["ssh-cert", "user", "--key", public.to_str().unwrap()]);
    assert_says(&without, 1, "`ssh-keygen` failed");
    let no_agent = run(stage.alice.command(&["ssh-cert", "user", "--agent"]).env_remove("SSH_AUTH_SOCK"), PATIENCE);
    assert_says(&no_agent, 1, "is an ssh-agent running?");
}

#[test]
fn what_is_refused_and_what_is_left_behind() {
    let stage = Stage::set(Setup::default());
    let host_key = stage.host_key.to_str().unwrap().to_owned();
    assert_says(
        &stage.edge.refused(&["ssh-cert", "user"]),
        3,
        "`spiffe://test.example/machine/edge-1` is a machine; SSH user certificates are for people",
    );
    let no_machine = stage.alice.refused(&["ssh-cert", "host", "--host-key", &host_key]);
    assert_says(
        &no_machine,
        3,
        "`spiffe://test.example/person/alice` is a person; SSH host certificates are for machines",
    );
    let nothing = stage.gateway.client("nobody").refused(&["ssh-cert", "known-hosts"]);
    assert_says(&nothing, 8, "holds no identity");
    assert_says(&stage.edge.refused(&["ssh-cert", "host", "--host-key", "/nothing/there"]), 1, "`ssh-keygen` failed");
    assert!(stage.alice.ok(&["can-i", "login", "--explain"]).contains("admins-login"));

    // Somebody in no group.
    let invited = stage.alice.json(&["people", "invite", "--name", "bob"]);
    let bob = stage.gateway.client("bob");
    bob.ok(&["join", invited["token"].as_str().unwrap()]);
    assert_says(&bob.refused(&["ssh-cert", "user"]), 3, "no rule of the policy allows `login`");
    assert!(!bob.file("ssh/id_ed25519-cert.pub").exists());
    // Somebody locked.
    stage.alice.ok(&["machines", "lock", "edge-1", "--reason", "stolen"]);
    assert_says(&stage.edge.refused(&["ssh-cert", "host", "--host-key", &host_key]), 9, "stolen");

    // The keys are for their owner alone, and go with the identity.
    stage.alice.ok(&["ssh-cert", "user"]);
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        path.metadata().unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode(&own_key(&stage.alice)), 0o600);
    assert_eq!(mode(&stage.alice.file("ssh")), 0o700);
    bob.ok(&["leave"]);
    assert!(!bob.file("ssh").exists());
}
