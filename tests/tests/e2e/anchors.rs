//! The CAs of makers whose TPMs are trusted: imported by the gateway's commands, from certificates that stock `openssl` made.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::gateway::{Gateway, Setup};
use tests::program::{Ended, run};
use tests::swtpm::TpmMaker;
use tests::wait::PATIENCE;

use crate::tpm;

#[track_caller]
fn openssl(folder: &Path, line: &[&str]) -> String {
    let ended = run(Command::new("openssl").args(line).current_dir(folder), PATIENCE);
    assert_eq!(ended.code, 0, "{line:?}: {}", ended.stderr);
    ended.stdout
}

/// Makes the self-signed certificate of a CA, `FILE.pem`.
#[track_caller]
fn root(folder: &Path, file: &str, subject: &str, more: &[&str]) {
    let (key, out) = (format!("{file}.key"), format!("{file}.pem"));
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"];
    openssl(folder, &[&new[..], &["-keyout", &key, "-out", &out, "-subj", subject], more].concat());
}

/// A gateway that does not run, whose configuration names a file that is not there.
fn naming_a_file() -> Gateway {
    Setup::default().config("attest.tpm.anchors", "tpm-anchors.pem").init()
}

fn anchors(gateway: &Gateway, folder: &Path, args: &[&str]) -> Ended {
    // files are named as they are in the folder
    let args: Vec<String> = args
        .iter()
        .map(|arg| if folder.join(arg).exists() { folder.join(arg).display().to_string() } else { (*arg).to_owned() })
        .collect();
    let args: Vec<&str> = ["attest", "anchors"].into_iter().chain(args.iter().map(String::as_str)).collect();
    gateway.command(&args)
}

#[track_caller]
fn listed(gateway: &Gateway) -> Vec<Value> {
    let ended = gateway.command(&["attest", "anchors", "list", "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let view: Value = serde_json::from_str(&ended.stdout).unwrap();
    view["anchors"].as_array().unwrap().clone()
}

#[test]
fn imported_cas_are_trusted_by_a_gateway_that_runs() {
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let tpm = maker.tpm("one");
    // a folder as somebody has it: one certificate in PEM, one in DER, and something to read
    let folder = room.path().join("downloads");
    fs::create_dir(&folder).unwrap();
    let ca = |name: &str| room.path().join("maker/ca").join(name);
    fs::copy(ca("swtpm-localca-rootca-cert.pem"), folder.join("root.pem")).unwrap();
    let issuer = ca("issuercert.pem");
    openssl(&folder, &["x509", "-in", issuer.to_str().unwrap(), "-outform", "DER", "-out", "ca.cer"]);
    fs::write(folder.join("README"), "Certificates of a maker\n").unwrap();

    let mut gateway = Setup::default().config("attest.tpm.anchors", "tpm-anchors.pem").policy(tpm::RULES).init();
    gateway.start();
    let source = "https://maker.example/tpm";
    let imported = gateway.command(&["attest", "anchors", "import", folder.to_str().unwrap(), "--source", source]);
    assert_eq!(imported.code, 0, "{}", imported.stderr);
    assert!(imported.stdout.contains("2 added to "), "{}", imported.stdout);
    assert!(imported.stderr.contains("skipped: ") && imported.stderr.contains("README"), "{}", imported.stderr);
    assert!(imported.stderr.contains("`CN=swtpm-localca` is not known here"), "{}", imported.stderr);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = gateway.dir().join("tpm-anchors.pem");
    assert_eq!(mode(&file), mode(&gateway.config()), "whoever reads the configuration reads this");

    let machine = tpm::with(&gateway, "edge-a", &tpm);
    let joined = machine.run(&["join", &gateway.enroll().url(""), "--pin", &gateway.info().pin, "--name", "edge-a"]);
    assert_eq!(joined.code, 0, "{}", joined.stderr);

    let listed = listed(&gateway);
    let subjects: Vec<&Value> = listed.iter().map(|anchor| &anchor["subject"]).collect();
    assert_eq!(subjects, ["CN=swtpm-localca", "CN=swtpm-localca-rootca"]);
    for anchor in &listed {
        assert_eq!((&anchor["source"], &anchor["state"]), (&source.into(), &"unknown".into()), "{anchor}");
    }
}

#[test]
fn a_known_name_on_another_certificate_is_told_and_not_imported() {
    let room = tempfile::tempdir().unwrap();
    let gateway = naming_a_file();
    root(room.path(), "st", "/C=CH/O=STMicroelectronics NV/CN=STM TPM EK Root CA", &[]);
    root(room.path(), "acme", "/O=Acme/CN=TPM Root", &[]);

    let alone = run(
        Command::new(tests::program::built("lychgate-gateway"))
            .args(["attest", "anchors", "check", "acme.pem"])
            .current_dir(room.path()),
        PATIENCE,
    );
    assert_eq!(alone.code, 0, "unknown is no error, and no configuration is needed: {}", alone.stderr);
    assert!(alone.stdout.contains("unknown"), "{}", alone.stdout);

    let checked = anchors(&gateway, room.path(), &["check", "acme.pem", "st.pem"]);
    assert_eq!(checked.code, 1, "{}", checked.stdout);
    assert!(checked.stdout.lines().any(|line| line.starts_with("differs      STM  ")), "{}", checked.stdout);
    assert!(checked.stderr.contains("AND IS ANOTHER CERTIFICATE"), "{}", checked.stderr);
    assert!(checked.stderr.contains("https://secure.globalsign.com/cacert/stmtpmekroot.crt"), "{}", checked.stderr);

    let refused = anchors(&gateway, room.path(), &["import", "acme.pem", "st.pem"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(!gateway.dir().join("tpm-anchors.pem").exists(), "nothing was added");
    let fingerprint = openssl(room.path(), &["x509", "-in", "st.pem", "-noout", "-fingerprint", "-sha256"]);
    let fingerprint = fingerprint.trim().split_once('=').unwrap().1.to_owned();
    let accepted = anchors(&gateway, room.path(), &["import", "acme.pem", "st.pem", "--accept", &fingerprint]);
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    assert!(accepted.stderr.contains("AND IS ANOTHER CERTIFICATE"), "{}", accepted.stderr);
    let configured = gateway.command(&["attest", "anchors", "check"]);
    assert_eq!(configured.code, 1, "also of what is configured: {}", configured.stderr);
}

#[test]
fn what_is_odd_about_a_certificate_is_told_and_what_is_no_ca_is_refused() {
    let room = tempfile::tempdir().unwrap();
    let gateway = naming_a_file();
    root(room.path(), "sha1", "/CN=Old Root", &["-sha1"]);
    root(room.path(), "ended", "/CN=Ended Root", &[]);
    fs::write(room.path().join("extensions"), "basicConstraints=critical,CA:TRUE\n").unwrap();
    openssl(room.path(), &["req", "-new", "-key", "ended.key", "-subj", "/CN=Ended Root", "-out", "ended.csr"]);
    let again = ["x509", "-req", "-in", "ended.csr", "-signkey", "ended.key", "-days", "-1", "-out", "ended.pem"];
    openssl(room.path(), &[&again[..], &["-extfile", "extensions"]].concat());
    root(room.path(), "leaf", "/CN=An EK", &["-addext", "basicConstraints=critical,CA:FALSE"]);

    let imported = anchors(&gateway, room.path(), &["import", "sha1.pem", "ended.pem"]);
    assert_eq!(imported.code, 0, "{}", imported.stderr);
    assert!(imported.stderr.contains("`CN=Old Root` is signed with SHA-1"), "{}", imported.stderr);
    assert!(imported.stderr.contains("the certificate of `CN=Ended Root` expired at "), "{}", imported.stderr);
    let file = gateway.dir().join("tpm-anchors.pem");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(&format!("# Source: {}\n", room.path().join("sha1.pem").display())), "{text}");

    let twice = anchors(&gateway, room.path(), &["import", "sha1.pem"]);
    assert_eq!((twice.code, fs::read_to_string(&file).unwrap()), (0, text.clone()), "{}", twice.stderr);
    assert!(twice.stdout.contains("0 added to ") && twice.stdout.contains(", 1 there already"), "{}", twice.stdout);

    root(room.path(), "good", "/CN=Good Root", &[]);
    let refused = anchors(&gateway, room.path(), &["import", "good.pem", "leaf.pem"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("leaf.pem: certificate 1: the certificate of `CN=An EK` is not one of a CA"),
        "{}",
        refused.stderr
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "nothing was added");

    let unnamed = Setup::default().init();
    let refused = anchors(&unnamed, room.path(), &["import", "good.pem"]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("write `anchors = \"tpm-anchors.pem\"`"), "{}", refused.stderr);
}
