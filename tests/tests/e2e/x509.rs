//! Machines with certificates of another CA: an IDevID, made and revoked with stock `openssl`, by the client and by hand.

use std::path::PathBuf;
use std::process::Command;

use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::{Ended, run};
use tests::wait::PATIENCE;
use toml::Table;

use crate::by_hand::{bash, line, script};
use crate::{assert_says, at_the_gate_under, audit, request_id};

/// The rule in the operator's guide, unchanged.
fn rule_of_the_guide() -> String {
    const GUIDE: &str = include_str!("../../../docs/operator.md");
    let begin = GUIDE.find("    @id(\"idevid-machine\")").expect("the rule is in the guide");
    let lines = GUIDE[begin..].lines().take_while(|line| line.starts_with("    "));
    lines.map(|line| format!("{}\n", &line[4..])).collect()
}

/// A maker of devices: its CA, and its list.
struct Maker(PathBuf, #[expect(dead_code, reason = "it is removed with the maker")] tempfile::TempDir);

impl Maker {
    fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        let maker = Self(room.path().to_owned(), room);
        let config = "[ca]\ndefault_ca = it\n[it]\ndatabase = index\ncrlnumber = number\ndefault_md = sha256\n";
        for (file, text) in [("config", config), ("number", "01\n"), ("index", "")] {
            std::fs::write(maker.0.join(file), text).unwrap();
        }
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-384 -noenc -keyout ca.key";
        maker.openssl(&format!("req -x509 -new {key} -out ca.pem -days 1 -subj /O=Acme/CN=devices"));
        maker.list();
        maker
    }

    #[track_caller]
    fn openssl(&self, line: &str) {
        let mut command = Command::new("openssl");
        let ended = run(command.args(line.split_whitespace()).current_dir(&self.0), PATIENCE);
        assert_eq!(ended.code, 0, "{line}: {}", ended.stderr);
    }

    fn list(&self) {
        self.openssl("ca -config config -gencrl -keyfile ca.key -cert ca.pem -crldays 1 -out acme.crl");
    }

    fn revoke(&self, name: &str) {
        self.openssl(&format!("ca -config config -keyfile ca.key -cert ca.pem -revoke {name}.pem"));
        self.list();
        // A document is kept for a few seconds.
        std::thread::sleep(std::time::Duration::from_secs(6));
    }

    /// Makes a device with this serial number; a certificate for ever and its key.
    fn device(&self, name: &str, number: &str) {
        let key = format!("-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout {name}.key");
        self.openssl(&format!("req -new {key} -out {name}.csr -subj /O=Acme/serialNumber={number}"));
        std::fs::write(self.0.join("extensions"), "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\n")
            .unwrap();
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -days 2000000 -extfile extensions -out {name}.pem"
        ));
    }

    /// The program before a command that makes it show this device.
    fn wrapper(&self, name: &str) -> [String; 3] {
        let file = |end: &str| self.0.join(format!("{name}.{end}")).display().to_string();
        ["env".to_owned(), format!("LYCHGATE_X509_CERT={}", file("pem")), format!("LYCHGATE_X509_KEY={}", file("key"))]
    }
}

/// A gateway that knows a maker; with this policy beside the default one.
fn knowing_acme(rules: &str) -> (Gateway, Maker) {
    let maker = Maker::new();
    let (anchors, list) = (maker.0.join("ca.pem"), maker.0.join("acme.crl"));
    let files = format!("anchors = '{}'\ncrls = ['{}']", anchors.display(), list.display());
    let section = format!("[issuers.acme]\n{files}\ncrl_max_age = '2d'\nname = 'serial-number'");
    let section: Table = section.parse().unwrap();
    let gateway = Setup::default().config("attest.x509", section).policy(rules).start();
    (gateway, maker)
}

fn join(gateway: &Gateway, machine: &Lychgate, name: &str) -> Ended {
    machine.run(&["join", &gateway.enroll().url(""), "--pin", &gateway.info().pin, "--name", name])
}

#[test]
fn a_device_joins_and_renews_by_its_idevid_until_it_is_revoked() {
    let (gateway, maker) = knowing_acme(&rule_of_the_guide());
    let alice = gateway.first_person();
    maker.device("one", "edge-42");
    maker.device("two", "edge-43");
    let machine = gateway.client("machine").under(&maker.wrapper("one"));
    let other = join(&gateway, &machine, "edge-7");
    assert_says(&other, other.code, "the evidence shown is for edge-42");
    let joined = join(&gateway, &machine, "edge-42");
    assert_eq!(joined.code, 0, "{}", joined.stderr);
    let shown = alice.json(&["machines", "show", "edge-42"])["verified"].clone();
    assert_eq!((&shown["x509_issuer"], &shown["x509_serial_number"]), (&"acme".into(), &"edge-42".into()), "{shown}");
    // The first renewal is sent before anything was heard of what renewals may carry.
    machine.ok(&["renew", "--force"]);
    machine.ok(&["renew", "--force"]);
    assert!(!audit(&alice, "evidence.taken").is_empty());
    let other = machine.under(&maker.wrapper("two")).run(&["renew", "--force"]);
    assert_says(&other, other.code, "it is another's than this certificate");
    maker.revoke("one");
    let refused = machine.run(&["renew", "--force"]);
    assert_says(&refused, refused.code, "was revoked by its issuer");
    let again = join(&gateway, &gateway.client("again").under(&maker.wrapper("one")), "edge-42");
    assert_says(&again, again.code, "was revoked by its issuer");
}

#[test]
fn a_device_that_is_revoked_while_it_waits_is_not_admitted() {
    let (gateway, maker) = knowing_acme("");
    let alice = gateway.first_person();
    maker.device("one", "edge-42");
    let gate = at_the_gate_under(&gateway, "edge-42", &maker.wrapper("one"));
    let id = request_id(&alice, "edge-42");
    assert_eq!(alice.json(&["requests", "show", &id])["verified"]["x509_issuer"], "acme");
    maker.revoke("one");
    let refused = alice.run(&["requests", "approve", &id, "--code", &gate.code]);
    assert_says(&refused, refused.code, "was revoked by its issuer");
}

#[test]
fn a_machine_asks_with_its_idevid_by_hand() {
    let (gateway, maker) = knowing_acme("");
    let alice = gateway.first_person();
    maker.device("one", "hand-4");
    let room = gateway.room().join("by-hand");
    std::fs::create_dir(&room).unwrap();
    std::fs::write(room.join("ask"), script("ask HOST:PORT METHOD PATH [BODY]")).unwrap();
    std::fs::write(room.join("device"), script("device EXPORTER")).unwrap();
    let enroll = gateway.enroll().authority();
    bash(&room, &format!("curl -sSk https://{enroll}/v1/bundle -o bundle.pem; chmod +x device"));
    bash(&room, line("openssl genpkey -algorithm EC"));
    bash(&room, line("openssl req -new -key key.pem"));
    let device = maker.0.join("one").display().to_string();
    let ours = format!("export CERTIFICATE={device}.pem DEVICE_KEY={device}.key TRUST_DOMAIN=test.example");
    let waiting = bash(&room, &format!("{ours}; bash ask {enroll} POST /v1/enrollments @./device"));
    assert!(waiting.starts_with("HTTP/1.1 202"), "{waiting}");
    let shown = alice.json(&["requests", "show", &request_id(&alice, "hand-4")]);
    assert_eq!(shown["verified"]["x509_device"], "acme serial-number hand-4");
}
