//! Machines whose private key is in their TPM.

use std::fs;
use std::process::Command;

use tests::cli::Lychgate;
use tests::gateway::Gateway;
use tests::program::shifted_clock;
use tests::swtpm::{Swtpm, TpmMaker};

use crate::assert_says;
use crate::rig::{Connected, Echo, Running};
use crate::tpm::{trusting, with};

/// Joins with the key in this TPM.
#[track_caller]
fn joined(gateway: &Gateway, name: &str, tpm: &Swtpm) -> Lychgate {
    let machine = with(gateway, name, tpm);
    let said = machine.json(&[
        "join",
        &gateway.enroll().url(""),
        "--pin",
        &gateway.info().pin,
        "--name",
        name,
        "--key",
        "tpm",
    ]);
    crate::json::check("join", &said);
    assert_eq!(said["key_place"], "tpm", "{said}");
    machine
}

#[test]
fn a_key_in_the_tpm_joins_renews_and_carries_connections() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let tpm = maker.tpm("one");
    let gateway = trusting(&maker);
    let alice = gateway.first_person();
    let machine = joined(&gateway, "edge-k", &tpm);
    let key = || fs::read_to_string(machine.file("key.pem")).unwrap();
    assert!(key().starts_with("-----BEGIN TSS2 PRIVATE KEY-----"), "{}", key());
    let shown = alice.json(&["machines", "show", "edge-k"]);
    assert_eq!((&shown["assurance"], &shown["verified"]["tpm_key"]), (&"hardware".into(), &"inside".into()), "{shown}");
    assert_eq!(shown["assurance_of"], "key", "{shown}");
    assert!(alice.ok(&["machines", "show", "edge-k"]).contains("hardware (key)\n"));
    let certificate = machine.file("cert.pem");
    let read = Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(certificate).output().unwrap();
    let read = String::from_utf8(read.stdout).unwrap();
    assert!(read.contains(".156070738.4.2\n"), "{read}");
    let status = machine.json(&["status"]);
    crate::json::check("status", &status);
    assert_eq!(status["key_place"], "tpm", "{status}");
    assert!(machine.ok(&["status"]).contains(", in the TPM"));

    // Each renewal makes another key there. More of them than keys fit into a TPM.
    let first = status["key"].as_str().unwrap().to_owned();
    for _ in 0..4 {
        let renewed = machine.run(&["renew", "--force"]);
        assert_eq!(renewed.code, 0, "{}", renewed.stderr);
        assert!(!renewed.stderr.contains("without the evidence"), "{}", renewed.stderr);
    }
    let status = machine.json(&["status"]);
    assert_eq!(status["key_place"], "tpm", "{status}");
    assert_ne!(status["key"], first.as_str());
    assert_eq!(alice.json(&["machines", "show", "edge-k"])["verified"]["tpm_key"], "inside");

    // The tunnel, a raw and a sealed service, and a renewal below an open connection.
    let echo = Echo::start();
    let exposed = ["--expose", &echo.exposed("echo", ",raw"), "--expose", &echo.exposed("safe", ",sealed")];
    let running = Running::start(machine, &exposed);
    let mut open = Connected::start(&alice, &["echo@edge-k"]);
    open.passes("before\n");
    Connected::start(&alice, &["safe@edge-k"]).passes("sealed\n");
    running.machine.ok(&["renew", "--force"]);
    let mut run = running.run;
    run.expect_stdout("the tunnel shows the new certificate", |out| out.contains("tunnel-renewed").then_some(()));
    open.passes("after\n");

    // The next renewal makes its key in a file again.
    running.machine.ok(&["join", "--key", "file"]);
    running.machine.ok(&["renew", "--force"]);
    let status = running.machine.json(&["status"]);
    assert_eq!(status["key_place"], "file", "{status}");
    assert_eq!(alice.json(&["machines", "show", "edge-k"])["verified"]["tpm_key"], "beside");
}

#[test]
fn a_folder_is_nothing_without_its_tpm() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let (tpm, other) = (maker.tpm("one"), maker.tpm("two"));
    let gateway = trusting(&maker);
    let alice = gateway.first_person();
    let machine = joined(&gateway, "edge-k", &tpm);
    let thief = gateway.client("thief");
    let copied = Command::new("cp").arg("-a").arg(machine.dir()).arg(thief.dir()).status().unwrap();
    assert!(copied.success());
    let serial = || alice.json(&["machines", "show", "edge-k"])["serial"].clone();
    let before = serial();

    let elsewhere = "the private key is in a TPM, and not in one of this machine: ";
    let none = format!("{elsewhere}this machine has no TPM that the system knows of");
    let foreign = format!("{elsewhere}this TPM did not make it, or was cleared since");
    for (wrapper, says) in
        [(vec!["env".to_owned(), "LYCHGATE_TPM=none".to_owned()], none), (other.wrapper().to_vec(), foreign.clone())]
    {
        let thief = thief.under(&wrapper);
        for command in [&["renew", "--force"][..], &["leave"], &["run", "--once"]] {
            let refused = thief.refused(command);
            assert_says(&refused, 1, &says);
            assert!(command[0] == "run" || refused.stderr.contains("lychgate leave --local"), "{}", refused.stderr);
        }
        // Looking is all that can be done.
        assert_eq!(thief.json(&["status"])["key_place"], "tpm");
    }
    let silent = thief.under(&["env", "LYCHGATE_TPM=/nowhere"]).refused(&["renew", "--force"]);
    assert_says(&silent, 1, "the TPM with the private key fails: the TPM at /nowhere cannot be opened");
    assert_eq!(serial(), before, "nothing was renewed");
    machine.ok(&["renew", "--force"]);
    assert_ne!(serial(), before, "and the machine itself goes on");

    // Cleared, the TPM has another storage key.
    tpm.clear();
    assert_says(&machine.refused(&["renew", "--force"]), 1, &foreign);
    machine.ok(&["leave", "--local"]);
    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    machine.ok(&["join", &url, "--pin", &pin, "--name", "edge-l", "--key", "tpm"]);
    machine.ok(&["renew", "--force"]);
}

#[test]
fn a_machine_that_was_off_returns_with_its_key_in_the_tpm() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let tpm = maker.tpm("one");
    let mut gateway = trusting(&maker);
    let alice = gateway.first_person();
    let machine = joined(&gateway, "edge-k", &tpm);
    let before = machine.json(&["status"]);
    let _ = gateway.stop();
    let later = shifted_clock("+2d");
    gateway.run_under(&later);
    gateway.start();
    let machine = machine.under(&[&later[..], &tpm.wrapper()].concat());
    let said = machine.ok(&["run", "--once"]);
    assert!(said.contains("rejoined: valid until"), "{said}");
    let after = machine.json(&["status"]);
    assert_eq!((&after["identity"], &after["key_place"]), (&before["identity"], &before["key_place"]), "{after}");
    assert_ne!(after["key"], before["key"]);
    let alice = alice.under(&later);
    alice.ok(&["join"]);
    let shown = alice.json(&["machines", "show", "edge-k"]);
    assert_eq!((&shown["assurance"], &shown["verified"]["tpm_key"]), (&"hardware".into(), &"inside".into()), "{shown}");
    machine.ok(&["renew", "--force"]);
}

#[test]
fn where_no_key_can_be_in_a_tpm() {
    let gateway = tests::gateway::Setup::default().start();
    let alice = gateway.first_person();
    let machine = gateway.client("edge-k");
    let token = crate::token(&alice, &[]);
    let refused = machine.refused(&["join", &token, "--name", "edge-k", "--key", "tpm"]);
    assert_says(&refused, 1, "cannot make a key: the TPM makes none: this machine has no TPM that the system knows of");
    assert!(refused.stderr.contains("join with `--key file`"), "{}", refused.stderr);
    let said = machine.run(&["join", &token, "--name", "edge-k", "--key", "auto"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("the key is in a file, and not in the TPM: the TPM makes none"), "{}", said.stderr);
    assert_eq!(machine.json(&["status"])["key_place"], "file");
    let invitation = alice.json(&["people", "invite", "--name", "bob"])["token"].as_str().unwrap().to_owned();
    let person = gateway.client("bob");
    assert_says(
        &person.refused(&["join", &invitation, "--key", "tpm"]),
        2,
        "the token admits a person, who is not the machine that they sit at",
    );
}
