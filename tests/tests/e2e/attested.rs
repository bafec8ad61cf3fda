//! Evidence in two rounds, with the test attestor and test prover of debug builds; and SSH host keys, with OpenSSH's own programs.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::Command;

use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::run;
use tests::ssh::make_key;
use tests::wait::PATIENCE;
use toml::Table;

use crate::{assert_says, audit, joined, request_id};

const RULES: &str = r#"
@id("by-reference")
permit (principal is Lychgate::Newcomer, action == Lychgate::Action::"enroll", resource)
when { principal.claims has reference_name && principal.assurance >= 2 };
"#;

/// What the machine has to show, if anything.
fn give(machine: &Lychgate, name: &str) {
    std::fs::DirBuilder::new().mode(0o700).create(machine.dir()).unwrap();
    std::fs::write(machine.file("reference.secret"), format!("{name} sixteen bytes or more\n")).unwrap();
}

#[test]
fn a_machine_joins_and_renews_by_what_it_has() {
    let section: Table = "secret = 'sixteen bytes or more'".parse().unwrap();
    let gateway = Setup::default().config("attest.reference", section).policy(RULES).start();
    let alice = gateway.first_person();
    let machine = gateway.client("edge-a");
    give(&machine, "edge-a");
    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    machine.ok(&["join", &url, "--pin", &pin, "--name", "edge-a"]);
    let assurance = || alice.json(&["machines", "show", "edge-a"])["assurance"].clone();
    assert_eq!(assurance(), "hardware");
    // The first renewal is sent before anything was heard of what renewals may carry, and its answer says that.
    machine.ok(&["renew", "--force"]);
    machine.ok(&["renew", "--force"]);
    assert_eq!(assurance(), "hardware");
    assert!(!audit(&alice, "evidence.taken").is_empty());
    std::fs::remove_file(machine.file("reference.secret")).unwrap();
    machine.ok(&["renew", "--force"]);
    assert_eq!(assurance(), "software", "nothing was proven of this key");
}

/// The rule in the operator's guide, unchanged.
fn rule_of_the_guide() -> String {
    const GUIDE: &str = include_str!("../../../docs/operator.md");
    let begin = GUIDE.find("    @id(\"ssh-host-certificate\")").expect("the rule is in the guide");
    let lines = GUIDE[begin..].lines().take_while(|line| line.starts_with("    "));
    lines.map(|line| format!("{}\n", &line[4..])).collect()
}

/// A host key for a machine, with a certificate by the CA in the gateway's room.
fn give_host_key(gateway: &Gateway, machine: &Lychgate, sign: &[&str]) {
    let folder = machine.host_keys();
    std::fs::create_dir_all(&folder).unwrap();
    let key = folder.join("ssh_host_ed25519_key");
    if !key.exists() {
        make_key(&key);
    }
    let ca = gateway.room().join("ca");
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-s"])
        .arg(&ca)
        .args(["-h", "-I", "host 7"])
        .args(sign)
        .arg(folder.join("ssh_host_ed25519_key.pub"));
    let ended = run(&mut keygen, PATIENCE);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

fn trusting_ssh_hosts() -> Gateway {
    let section: Table = "authorities = 'authorities'\ndomain = 'example.com'".parse().unwrap();
    let gateway = Setup::default().config("attest.ssh-host-key", section).policy(&rule_of_the_guide()).start();
    make_key(&gateway.room().join("ca"));
    let ca = std::fs::read_to_string(gateway.room().join("ca.pub")).unwrap();
    let line = format!("@cert-authority *.example.com,web2 {ca}");
    std::fs::write(gateway.config().with_file_name("authorities"), line).unwrap();
    gateway
}

fn join(gateway: &Gateway, machine: &Lychgate, name: &str) -> tests::program::Ended {
    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    machine.run(&["join", &url, "--pin", &pin, "--name", name])
}

fn verified(alice: &Lychgate, name: &str) -> serde_json::Value {
    alice.json(&["machines", "show", name])["verified"].clone()
}

#[test]
fn a_host_with_a_certificate_of_a_known_ca_joins_without_a_token() {
    let gateway = trusting_ssh_hosts();
    let alice = gateway.first_person();
    let machine = gateway.client("web1");
    give_host_key(&gateway, &machine, &["-n", "web1.example.com"]);
    let other = join(&gateway, &machine, "db1");
    assert_says(&other, other.code, "the evidence shown is for web1");
    assert_ne!(other.code, 0);
    let joined = join(&gateway, &machine, "web1");
    assert_eq!(joined.code, 0, "{}", joined.stderr);
    let shown = verified(&alice, "web1");
    assert_eq!((&shown["sshhost_trust"], &shown["sshhost_key_id"]), (&"authority".into(), &"host 7".into()));
    assert_eq!(shown["sshhost_names"], "web1.example.com");
    // It is shown again at renewals: the first one is sent before anything was heard of what renewals may carry.
    machine.ok(&["renew", "--force"]);
    machine.ok(&["renew", "--force"]);
    assert!(!audit(&alice, "evidence.taken").is_empty());
    // A CA that the operator has removed strands nobody.
    std::fs::write(gateway.config().with_file_name("authorities"), "# none\n").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(6));
    machine.ok(&["renew", "--force"]);
    assert_eq!(verified(&alice, "web1")["sshhost_trust"], "none");
    let stranger = gateway.client("web2");
    give_host_key(&gateway, &stranger, &["-n", "web2"]);
    let refused = join(&gateway, &stranger, "web2");
    assert_says(&refused, refused.code, "which this gateway does not know");
}

#[test]
fn a_host_key_that_nobody_knows_is_seen_by_the_approver() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = gateway.client("edge-1");
    make_key_of(&machine);
    let gate = crate::show_up(&gateway, machine, "edge-1");
    let request = alice.json(&["requests", "show", &request_id(&alice, "edge-1")]);
    let listed = fingerprint(&gate.machine.host_keys().join("ssh_host_ed25519_key.pub"));
    let told = request["verified"]["sshhost_fingerprint"].as_str().unwrap();
    assert!(listed.contains(told), "{listed} {told}");
    assert_eq!(request["verified"]["sshhost_trust"], "none");
    drop(gate);
    // Whoever has a token shows nothing else, and renews with it.
    let machine = joined(&gateway, &alice, "edge-2");
    make_key_of(&machine);
    machine.ok(&["renew", "--force"]);
    machine.ok(&["renew", "--force"]);
    assert_eq!(verified(&alice, "edge-2")["sshhost_trust"], "none");
}

fn make_key_of(machine: &Lychgate) {
    std::fs::create_dir_all(machine.host_keys()).unwrap();
    make_key(&machine.host_keys().join("ssh_host_ed25519_key"));
}

/// What `ssh-keyscan HOST | ssh-keygen -lf -` would show.
fn fingerprint(public: &Path) -> String {
    run(Command::new("ssh-keygen").arg("-lf").arg(public), PATIENCE).stdout
}

#[test]
fn ssh_hosts_are_well_known() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let mut curl = Command::new("curl");
    curl.args(["-sSk", &gateway.enroll().url("/.well-known/ssh-known-hosts")]);
    assert_eq!(run(&mut curl, PATIENCE).stdout, alice.ok(&["ssh-cert", "known-hosts"]));
}
