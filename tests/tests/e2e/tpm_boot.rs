//! Machines whose boot is measured, by emulated TPMs into which is measured what a firmware and a UKI would.

use std::path::Path;

use serde_json::{Value, json};
use tests::boot::{RULES, UkiBoot};
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::swtpm::{Swtpm, TpmMaker};
use tests::wait::PATIENCE;
use toml::Table;
use tpm::HashAlgorithm;

use crate::{assert_says, at_the_gate_under, audit, request_id};

/// A certificate of whoever signs kernels. Nothing is verified by it here.
fn signer() -> Vec<u8> {
    [&[0x30, 0x82, 1, 0x2c][..], &[9; 300]].concat()
}

fn boot(command_line: &str, tpm: &Swtpm, log: &Path) {
    UkiBoot { signer: &signer(), kernel: b"kernel 1", command_line }.on(tpm, log);
}

/// A gateway that trusts this maker and allows one boot.
fn gateway(maker: &TpmMaker) -> Gateway {
    let section = format!(
        "anchors = '{}'\nlog = 'wanted'\npcrs = [0, 2, 4, 7, 11, 12]\n\
         [boot.uki-1]\nsecure_boot = true\nuki_signers = ['{}']\ncommand_lines = ['quiet']",
        maker.anchors().display(),
        hex::encode(HashAlgorithm::Sha256.digest(&[&signer()]))
    );
    Setup::default().config("attest.tpm", section.parse::<Table>().unwrap()).policy(RULES).start()
}

/// A machine with this TPM and log.
fn with(gateway: &Gateway, name: &str, tpm: &Swtpm, log: &Path) -> Lychgate {
    gateway.client(name).under(&wrapper(tpm, log))
}

fn wrapper(tpm: &Swtpm, log: &Path) -> Vec<String> {
    tpm.wrapper().into_iter().chain([format!("LYCHGATE_TPM_LOG={}", log.display())]).collect()
}

fn shown(alice: &Lychgate, name: &str) -> Value {
    alice.json(&["machines", "show", name])
}

const DIFFERENCE: &str = "`uki-1`: kernel command line: expected `quiet`, measured `quiet init=/bin/sh`";

#[test]
fn a_changed_command_line_ends_the_renewals_of_a_machine_until_it_boots_as_it_should() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let (tpm, log) = (maker.tpm("one"), room.path().join("log"));
    let gateway = gateway(&maker);
    let alice = gateway.first_person();
    boot("quiet", &tpm, &log);
    let machine = with(&gateway, "edge-m", &tpm, &log);
    let info = machine.json(&["tpm", "info"]);
    assert_eq!(info["event_log"], json!(log), "{info}");
    machine.ok(&["join", &gateway.enroll().url(""), "--pin", &gateway.info().pin, "--name", "edge-m"]);
    machine.ok(&["renew", "--force"]);
    let good = shown(&alice, "edge-m");
    assert_eq!(good["assurance"], "measured", "{good}");
    for (claim, want) in [("boot", "uki-1"), ("boot_cmdline", "quiet"), ("boot_log", "complete"), ("secure_boot", "on")]
    {
        assert_eq!(good["verified"][format!("tpm_{claim}")], want, "{good}");
    }
    assert!(audit(&alice, "evidence.differs").is_empty());

    // Somebody at the console adds to the command line.
    let tpm = tpm.power_cycled();
    boot("quiet init=/bin/sh", &tpm, &log);
    for _ in 0..2 {
        let refused = machine.run(&["renew", "--force"]);
        assert_ne!(refused.code, 0);
        assert_says(&refused, refused.code, DIFFERENCE);
    }
    let bad = shown(&alice, "edge-m");
    assert_eq!(bad["verified"]["tpm_boot_differs"], DIFFERENCE, "{bad}");
    assert_eq!(bad["verified"]["tpm_boot_cmdline"], "quiet init=/bin/sh", "{bad}");
    let told = audit(&alice, "evidence.differs");
    assert_eq!(told.len(), 1, "it is told once: {told:?}");
    assert!(told[0]["detail"]["difference"].as_str().unwrap().ends_with(DIFFERENCE), "{told:?}");
    assert!(alice.ok(&["can-i", "lock", "edge-m", "--explain"]).contains(DIFFERENCE));

    // It is no way out to show nothing.
    let silent = gateway.client("edge-m").under(&["env", "LYCHGATE_TPM=none"]).run(&["renew", "--force"]);
    assert_ne!(silent.code, 0);
    assert_says(&silent, silent.code, "the policy wants fresh evidence of kind `tpm`");

    let tpm = tpm.power_cycled();
    boot("quiet", &tpm, &log);
    machine.ok(&["renew", "--force"]);
    let again = shown(&alice, "edge-m");
    assert_eq!((&again["assurance"], &again["verified"]["tpm_boot"]), (&json!("measured"), &json!("uki-1")), "{again}");
    assert_eq!(again["verified"]["tpm_boot_differs"], json!(null), "{again}");
}

#[test]
fn an_approver_sees_how_a_boot_differs() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let (tpm, log) = (maker.tpm("one"), room.path().join("log"));
    let gateway = gateway(&maker);
    let alice = gateway.first_person();
    boot("quiet init=/bin/sh", &tpm, &log);
    let waiting = at_the_gate_under(&gateway, "edge-q", &wrapper(&tpm, &log));
    let id = request_id(&alice, "edge-q");
    let request = alice.json(&["requests", "show", &id]);
    assert_eq!(request["verified"]["tpm_boot_differs"], DIFFERENCE, "{request}");
    assert!(alice.ok(&["requests", "show", &id]).contains(DIFFERENCE));
    assert!(alice.ok(&["can-i", "approve", &id, "--explain"]).contains(DIFFERENCE));
    assert_eq!(audit(&alice, "evidence.differs").len(), 1);
    alice.ok(&["requests", "approve", &id, "--code", &waiting.code]);
    assert_eq!(waiting.join.end_within(PATIENCE).code, 0);
    let machine = shown(&alice, "edge-q");
    assert_eq!((&machine["assurance"], &machine["verified"]["tpm_boot"]), (&json!("hardware"), &json!("differs")));

    // A machine whose log is gone, or is of another boot.
    std::fs::remove_file(&log).unwrap();
    let refused = waiting.machine.run(&["renew", "--force"]);
    assert_ne!(refused.code, 0);
    assert_says(&refused, refused.code, "`uki-1`: Secure Boot: expected on, measured unknown; ");
}
