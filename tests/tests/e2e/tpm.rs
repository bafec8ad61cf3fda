//! Machines with TPMs that nobody provisioned: emulated ones, whose maker's CA is the test's.

use std::fs;

use serde_json::json;
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::swtpm::{Swtpm, TpmMaker};
use tests::wait::PATIENCE;
use toml::Table;

use crate::{at_the_gate_under, request_id};

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

/// A gateway that trusts this maker.
fn trusting(maker: &TpmMaker) -> Gateway {
    let section: Table = format!("anchors = '{}'", maker.anchors().display()).parse().unwrap();
    Setup::default().config("attest.tpm", section).policy(RULES).start()
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
