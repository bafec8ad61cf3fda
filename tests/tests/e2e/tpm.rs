//! Machines with TPMs that nobody provisioned: emulated ones, whose maker's CA is the test's.

use std::fs;
use std::process::Command;

use serde_json::json;
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::run;
use tests::swtpm::{Swtpm, TpmMaker};
use tests::wait::PATIENCE;
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
const RULES: &str = r#"
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
fn trusting(maker: &TpmMaker) -> Gateway {
    ruled(maker, RULES)
}

/// The same under other rules.
fn ruled(maker: &TpmMaker, rules: &str) -> Gateway {
    let section: Table = format!("anchors = '{}'", maker.anchors().display()).parse().unwrap();
    Setup::default().config("attest.tpm", section).policy(rules).start()
}

/// A machine with this TPM.
fn with(gateway: &Gateway, name: &str, tpm: &Swtpm) -> Lychgate {
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

    // A copy of its disk has another TPM.
    let copy = gateway.room().join("copy");
    let copied = run(Command::new("cp").arg("-a").arg(waiting.machine.dir()).arg(&copy), PATIENCE);
    assert_eq!(copied.code, 0, "{}", copied.stderr);
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
