//! Machines with TPMs that nobody provisioned: emulated ones, whose maker's CA is the test's.

use std::fs;
use std::process::Command;

use serde_json::json;
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::{built, run};
use tests::swtpm::{Swtpm, TpmMaker};
use tests::wait::{PATIENCE, eventually};
use toml::Table;

use crate::{assert_says, at_the_gate_under, audit, request_id, show_up};

#[test]
fn what_a_tpm_can_prove_is_shown() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let tpm = maker.tpm("one");
    let machine = Lychgate::at(room.path().join("machine"));
    let info = machine.under(&tpm.wrapper()).json(&["tpm", "info"]);
    crate::json::check("tpm info", &info);
    assert_eq!(info["maker"], "IBM", "{info}");
    assert_eq!(info["banks"], json!(["sha256"]), "{info}");
    let keys: Vec<_> = info["certificates"].as_array().unwrap().iter().map(|one| &one["key"]).collect();
    assert_eq!(keys, ["RSA-2048", "P-384"], "{info}");
    let text = machine.under(&tpm.wrapper()).ok(&["tpm", "info"]);
    assert!(text.contains("ek 0x1c00016: P-384, subject CN=one, issuer CN=swtpm-localca, until 9999-12-31"), "{text}");
    assert!(!machine.dir().exists(), "looking changes nothing");
    // Three keys at most fit into a TPM without a resource manager: whatever is made is flushed.
    for _ in 0..4 {
        machine.under(&tpm.wrapper()).ok(&["tpm", "info"]);
    }

    let none = machine.under(&["env", "LYCHGATE_TPM=none"]).refused(&["tpm", "info"]);
    assert_eq!(
        (none.code, none.stderr.lines().next()),
        (1, Some("lychgate: error: this machine has no TPM that the system knows of"))
    );
    let gone = machine.under(&["env", "LYCHGATE_TPM=/nowhere"]).refused(&["tpm", "info"]);
    assert_eq!(gone.code, 7, "{}", gone.stderr);
    assert!(gone.stderr.starts_with("lychgate: error: the TPM at /nowhere cannot be opened: "), "{}", gone.stderr);
    let text = machine.under(&["env", "LYCHGATE_TPM=tcp:127.0.0.1:1"]).refused(&["tpm", "info"]);
    assert_eq!(text.code, 7, "{}", text.stderr);
}

/// Admits machines whose TPM is by a maker that the gateway trusts.
pub const RULES: &str = r#"
@id("by-tpm")
permit (principal is Lychgate::Newcomer, action == Lychgate::Action::"enroll", resource)
when { principal.claims has tpm_chain && principal.claims.tpm_chain == "verified" };
"#;

/// Lets a machine come back by its TPM, and admits nobody else.
const RETURNS: &str = r#"
@id("same-tpm")
@lifetime("24h")
permit (principal is Lychgate::Newcomer, action == Lychgate::Action::"enroll", resource)
when { principal.same_device && principal.claims has tpm_chain && principal.claims.tpm_chain == "verified" };
"#;

/// A gateway that trusts this maker.
pub fn trusting(maker: &TpmMaker) -> Gateway {
    ruled(maker, RULES)
}

/// The same under other rules.
fn ruled(maker: &TpmMaker, rules: &str) -> Gateway {
    let section: Table = format!("anchors = '{}'", maker.anchors().display()).parse().unwrap();
    Setup::default().config("attest.tpm", section).policy(rules).start()
}

/// A machine with this TPM.
pub fn with(gateway: &Gateway, name: &str, tpm: &Swtpm) -> Lychgate {
    gateway.client(name).under(&tpm.wrapper())
}

#[test]
fn a_machine_joins_and_renews_by_its_tpm_alone() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let tpm = maker.tpm("one");
    let gateway = trusting(&maker);
    let alice = gateway.first_person();
    let machine = with(&gateway, "edge-a", &tpm);
    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    let joined = machine.run(&["join", &url, "--pin", &pin, "--name", "edge-a"]);
    assert_eq!(joined.code, 0, "{}", joined.stderr);
    assert!(joined.stderr.contains("offering the evidence of this machine: tpm"), "{}", joined.stderr);
    let shown = || alice.json(&["machines", "show", "edge-a"]);
    assert_eq!(shown()["assurance"], "hardware", "{}", shown());
    machine.ok(&["renew", "--force"]);
    machine.ok(&["renew", "--force"]);
    assert_eq!(shown()["assurance"], "hardware", "{}", shown());
    // Without its TPM the machine goes on, and proves less.
    let alone = gateway.client("edge-a").under(&["env", "LYCHGATE_TPM=/nowhere"]);
    let renewed = alone.run(&["renew", "--force"]);
    assert_eq!(renewed.code, 0, "{}", renewed.stderr);
    assert!(
        renewed.stderr.contains("renewing without the evidence `tpm`: the TPM at /nowhere cannot"),
        "{}",
        renewed.stderr
    );
    assert_eq!(shown()["assurance"], "software");
}

/// Both the check and the gateway name what cannot be used in the file of anchors, and the others count.
#[test]
fn an_anchor_that_cannot_be_used_is_named_and_the_others_count() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let tpm = maker.tpm("one");
    let gateway = trusting(&maker);
    let alice = gateway.first_person();
    let anchors = room.path().join("maker/anchors.pem");
    let broken = "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n";
    fs::write(&anchors, broken.to_owned() + &fs::read_to_string(&anchors).unwrap()).unwrap();
    let says = format!("[attest.tpm]: {}: certificate 1 cannot be read", anchors.display());
    let mut check = Command::new(built("lychgate-gateway"));
    let checked = run(check.arg("check-config").arg("--config").arg(gateway.config()), PATIENCE);
    assert!(checked.code == 0 && checked.stdout.contains(&format!("warning: {says}")), "{checked:?}");
    let machine = with(&gateway, "edge-a", &tpm);
    machine.ok(&["join", &gateway.enroll().url(""), "--pin", &gateway.info().pin, "--name", "edge-a"]);
    assert_eq!(alice.json(&["machines", "show", "edge-a"])["assurance"], "hardware");
    assert!(gateway.log().contains(&says), "{}", gateway.log());
    let mut again = Command::new(built("lychgate-gateway"));
    fs::write(&anchors, broken).unwrap();
    let checked = run(again.arg("check-config").arg("--config").arg(gateway.config()), PATIENCE);
    assert!(checked.stdout.contains("none of the 1 certificates can be used"), "{checked:?}");
}

#[test]
fn a_machine_whose_maker_is_not_trusted_waits_for_a_person() {
    let room = tempfile::tempdir().unwrap();
    let (maker, other) = (TpmMaker::new(room.path().join("maker")), TpmMaker::new(room.path().join("other")));
    let (_first, tpm) = (maker.tpm("one"), other.tpm("two"));
    let gateway = trusting(&maker);
    let alice = gateway.first_person();
    let waiting = at_the_gate_under(&gateway, "edge-b", &tpm.wrapper());
    let id = request_id(&alice, "edge-b");
    let shown = alice.json(&["requests", "show", &id]);
    assert_eq!(shown["verified"]["tpm_chain"], "unknown-issuer", "{shown}");
    // What its certificate says stands apart from what is verified, for people and in the audit.
    assert_eq!(
        (&shown["stated"]["tpm_maker"], &shown["verified"]["tpm_maker"]),
        (&json!("IBM"), &json!(null)),
        "{shown}"
    );
    assert_eq!(shown["stated"]["tpm_model"], "swtpm", "{shown}");
    let text = alice.ok(&["requests", "show", &id]);
    let (verified, stated) = text.split_once("STATED in its evidence, proven by nobody\n").unwrap();
    assert!(stated.contains("tpm_maker     IBM\n") && !verified.contains("tpm_maker"), "{text}");
    let asked = audit(&alice, "enrollment.waiting");
    let said =
        |row: &serde_json::Value| row["detail"]["stated"].as_str().unwrap_or_default().contains("tpm_maker=\"IBM\"");
    assert!(asked.iter().any(said), "{asked:?}");
    alice.ok(&["requests", "approve", &id, "--code", &waiting.code]);
    assert_eq!(waiting.join.end_within(PATIENCE).code, 0);
    assert_eq!(alice.json(&["machines", "show", "edge-b"])["assurance"], "software");
}

#[test]
fn a_machine_whose_tpm_cannot_be_used_joins_without_it() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let _tpm = maker.tpm("one");
    let gateway = trusting(&maker);
    let alice = gateway.first_person();
    // Neither a device that is not there, nor one that answers with something else than a TPM does.
    let odd = room.path().join("odd");
    fs::write(&odd, "no TPM").unwrap();
    for (name, device) in [("edge-c", "/nowhere".to_owned()), ("edge-d", odd.display().to_string())] {
        let waiting = at_the_gate_under(&gateway, name, &["env".to_owned(), format!("LYCHGATE_TPM={device}")]);
        let says = waiting.join.stderr();
        assert!(says.contains("going on without the evidence `tpm`: "), "{says}");
        alice.ok(&["requests", "approve", &request_id(&alice, name), "--code", &waiting.code]);
        assert_eq!(waiting.join.end_within(PATIENCE).code, 0);
    }
}

#[test]
fn a_machine_that_was_wiped_is_the_same_again_by_its_tpm() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let (tpm, other) = (maker.tpm("one"), maker.tpm("two"));
    let gateway = ruled(&maker, RETURNS);
    let alice = gateway.first_person();
    let waiting = at_the_gate_under(&gateway, "edge-w", &tpm.wrapper());
    let id = request_id(&alice, "edge-w");
    let shown = alice.json(&["requests", "show", &id]);
    assert_eq!((&shown["verified"]["tpm_chain"], &shown["same_device"]), (&json!("verified"), &json!(null)), "{shown}");
    alice.ok(&["requests", "approve", &id, "--code", &waiting.code]);
    assert_eq!(waiting.join.end_within(PATIENCE).code, 0);
    let show = || alice.json(&["machines", "show", "edge-w"]);
    let before = show();

    // A copy of its disk has another TPM. With the record of the one that was shown the client would show none.
    let copy = gateway.room().join("copy");
    let copied = run(Command::new("cp").arg("-a").arg(waiting.machine.dir()).arg(&copy), PATIENCE);
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    fs::remove_file(copy.join("attestation.json")).unwrap();
    let renewed = Lychgate::at(copy).under(&other.wrapper()).run(&["renew", "--force"]);
    assert_ne!(renewed.code, 0);
    assert_says(&renewed, renewed.code, "it is another's than this certificate");

    // A second machine of that name competes for it.
    let second = show_up(&gateway, with(&gateway, "second", &other), "edge-w");
    let id = request_id(&alice, "edge-w");
    let shown = alice.json(&["requests", "show", &id]);
    assert_eq!((&shown["taken"], &shown["same_device"]), (&json!("active"), &json!(null)), "{shown}");
    alice.ok(&["requests", "deny", &id, "--reason", "not ours"]);
    assert_ne!(second.join.end_within(PATIENCE).code, 0);

    // Wiped and installed anew, under another host name.
    fs::remove_dir_all(waiting.machine.dir()).unwrap();
    let machine = with(&gateway, "edge-w", &tpm);
    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    let joined = machine.run(&["join", &url, "--pin", &pin, "--name", "ubuntu"]);
    assert_eq!(joined.code, 0, "{}", joined.stderr);
    let after = show();
    assert_eq!((&after["lineage"], &after["assurance"]), (&before["lineage"], &json!("hardware")), "{after}");
    machine.ok(&["renew", "--force"]);
    assert_eq!(audit(&alice, "device.returned").len(), 1);
    assert!(audit(&alice, "device.counted-back").is_empty());

    // A locked one does not come back.
    alice.ok(&["machines", "lock", "edge-w", "--reason", "stolen"]);
    fs::remove_dir_all(machine.dir()).unwrap();
    let refused = machine.run(&["join", &url, "--pin", &pin, "--name", "ubuntu"]);
    assert_ne!(refused.code, 0);
    assert_says(&refused, refused.code, "stolen");
}

/// The endorsement key that the gateway knows a machine by.
fn known_ek(person: &Lychgate, name: &str) -> String {
    person.json(&["machines", "show", name])["verified"]["tpm_ek"].as_str().unwrap().to_owned()
}

#[test]
fn a_machine_keeps_to_the_endorsement_key_that_it_showed() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let (tpm, other) = (maker.tpm("one"), maker.tpm("two"));
    let gateway = trusting(&maker);
    let alice = gateway.first_person();
    let machine = with(&gateway, "edge-e", &tpm);
    machine.ok(&["join", &gateway.enroll().url(""), "--pin", &gateway.info().pin, "--name", "edge-e"]);
    let known = known_ek(&alice, "edge-e");
    let record = || -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(machine.file("attestation.json")).unwrap()).unwrap()
    };
    assert_eq!(record()["ek"], json!({ "template": "H-3", "key": known }));

    // Without the certificate of this key the TPM's other one would be the best; and after the TPM was cleared the key is made again.
    tpm.undefine(0x01c0_0016);
    tpm.clear();
    let renewed = machine.run(&["renew", "--force"]);
    assert_eq!(renewed.code, 0, "{}", renewed.stderr);
    assert!(!renewed.stderr.contains("without the evidence"), "{}", renewed.stderr);
    assert_eq!(known_ek(&alice, "edge-e"), known);

    // Another TPM in the machine: it is said, and the machine goes on.
    let renewed = with(&gateway, "edge-e", &other).run(&["renew", "--force"]);
    assert_eq!(renewed.code, 0, "{}", renewed.stderr);
    let says = format!(
        "renewing without the evidence `tpm`: this TPM does not have the endorsement key by which the gateway knows the machine \
         (tpm_ek {known})"
    );
    assert!(renewed.stderr.contains(&says), "{}", renewed.stderr);
    assert_eq!(record()["ek"]["key"], json!(known), "it may come back");
    machine.ok(&["renew", "--force"]);
    assert_eq!(known_ek(&alice, "edge-e"), known);

    // A machine that left is not bound to it.
    machine.ok(&["leave"]);
    assert!(!machine.file("attestation.json").exists());
    let again = with(&gateway, "edge-e", &other);
    again.ok(&["join", &gateway.enroll().url(""), "--pin", &gateway.info().pin, "--name", "edge-e2"]);
    assert_ne!(known_ek(&alice, "edge-e2"), known);
}

#[test]
fn the_owner_chooses_what_is_offered() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let tpm = maker.tpm("one");
    let gateway = trusting(&maker);
    let alice = gateway.first_person();
    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    let join = |machine: &Lychgate, name: &str, more: &[&str]| {
        machine.run(&[&["join", &url, "--pin", &pin, "--no-wait", "--name", name], more].concat())
    };

    // Nothing: the machine waits for a person, and its renewals prove nothing either.
    let machine = with(&gateway, "edge-n", &tpm);
    let waits = join(&machine, "edge-n", &["--attest", "none"]);
    assert_eq!(waits.code, 4, "{}", waits.stderr);
    assert!(!waits.stderr.contains("offering"), "{}", waits.stderr);
    let refused = machine.refused(&["join", "--attest", "tpm"]);
    crate::assert_says(&refused, 1, "waits already, and stays as it was made");
    let shown = machine.json_of(4, &["status"]);
    let code = shown["code"].as_str().unwrap().to_owned();
    alice.ok(&["requests", "approve", &request_id(&alice, "edge-n"), "--code", &code]);
    machine.ok(&["join"]);
    machine.ok(&["renew", "--force"]);
    assert_eq!(alice.json(&["machines", "show", "edge-n"])["assurance"], "software");
    // Said of a machine that has joined, it holds from the next renewal on.
    machine.ok(&["join", "--attest", "auto"]);
    machine.ok(&["renew", "--force"]);
    assert_eq!(alice.json(&["machines", "show", "edge-n"])["assurance"], "hardware");

    // Beside a token, when it is named.
    for (name, more, assurance) in [("edge-t", &[][..], "software"), ("edge-u", &["--attest", "tpm"], "hardware")] {
        let machine = with(&gateway, name, &tpm);
        let token = crate::token(&alice, &[]);
        let joined = machine.json(&[&["join", token.as_str(), "--name", name], more].concat());
        crate::json::check("join", &joined);
        assert_eq!(joined["evidence"], if more.is_empty() { json!([]) } else { json!(["tpm"]) }, "{joined}");
        assert_eq!(alice.json(&["machines", "show", name])["assurance"], assurance);
    }

    // What is named and not there is an error, and nothing is at the gate.
    let none = gateway.client("edge-x");
    for (more, code, says) in [
        (
            "ssh-host-key",
            1,
            "the evidence `ssh-host-key` was asked for: its sshd has no host key that this user may use",
        ),
        ("tpm", 1, "the evidence `tpm` was asked for: this machine has no TPM that the system knows of"),
        ("tarot", 2, "`tarot` is no evidence that a machine has"),
        ("tpm,auto", 2, "`auto` stands alone"),
    ] {
        crate::assert_says(&join(&none, "edge-x", &["--attest", more]), code, says);
    }
    let broken = none.under(&["env", "LYCHGATE_TPM=/nowhere"]);
    let says = "the evidence `tpm` was asked for: the TPM at /nowhere cannot be opened";
    crate::assert_says(&join(&broken, "edge-x", &["--attest", "tpm"]), 1, says);
    gateway.edit_config(|config| {
        let section: Table = "enabled = false".parse().unwrap();
        config.insert("attest".to_owned(), Table::from_iter([("tpm".to_owned(), section.into())]).into());
    });
    gateway.reload();
    eventually("a gateway that takes no TPMs", PATIENCE, || {
        gateway.info().evidence.iter().all(|kind| kind != "tpm").then_some(())
    });
    let says = "the evidence `tpm` was asked for: the gateway does not accept it, but ";
    crate::assert_says(&join(&with(&gateway, "edge-y", &tpm), "edge-y", &["--attest", "tpm"]), 1, says);
    assert!(crate::items(&alice.json(&["requests", "list"])).is_empty());
}
