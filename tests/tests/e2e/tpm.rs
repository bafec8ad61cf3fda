//! Machines with TPMs that nobody provisioned: emulated ones, whose maker's CA is the test's.

use serde_json::json;
use tests::cli::Lychgate;
use tests::swtpm::TpmMaker;

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
