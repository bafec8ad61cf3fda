//! The leaf for a machine's sealed services: OpenSSL serves with it, curl believes it by the machine's name, and the gateway
//! takes it from nobody.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::port::Port;
use tests::program::{Ended, Program, run};
use tests::wait::PATIENCE;

use crate::{audit, joined};

/// `curl` with a certificate and key, both in files.
fn curl(gateway: &Gateway, certificate: &Path, key: &Path, path: &str, more: &[&str]) -> Ended {
    let bundle = certificate.parent().unwrap().join("bundle.pem");
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--cert"]).arg(certificate).arg("--key").arg(key);
    command.arg("--cacert").arg(bundle).args(more).arg(gateway.manage().url(path));
    run(&mut command, PATIENCE)
}

#[track_caller]
fn openssl(dir: &Path, args: &[&str]) -> Ended {
    run(Command::new("openssl").args(args).current_dir(dir), PATIENCE)
}

/// Asks for the leaf with a request that wants to be somebody else.
#[track_caller]
fn ask(gateway: &Gateway, who: &Lychgate) -> Value {
    let room = who.dir();
    let made = openssl(room, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sealed.key"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let subject = ["-subj", "/CN=gateway", "-addext", "subjectAltName=DNS:127.0.0.1"];
    let args = [&["req", "-new", "-key", "sealed.key", "-out", "sealed.csr"], &subject[..]].concat();
    assert_eq!(openssl(room, &args).code, 0);
    let csr = std::fs::read_to_string(room.join("sealed.csr")).unwrap();
    let base64: String = csr.lines().filter(|line| !line.starts_with('-')).collect();
    let body = serde_json::json!({ "csr": base64 }).to_string();
    let ended = curl(gateway, &who.file("cert.pem"), &who.file("key.pem"), "/v1/sealed", &["--json", &body]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn a_machine_serves_with_it_and_can_do_nothing_else() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let edge = joined(&gateway, &alice, "edge-1");
    let reply = ask(&gateway, &edge);
    assert_eq!(reply["identity"], "spiffe://test.example/machine/edge-1");
    assert_eq!(reply["not_after"], edge.json(&["status"])["not_after"]);
    let text = |name: &str| reply[name].as_str().unwrap().to_owned();
    let sealed = edge.file("sealed.pem");
    std::fs::write(&sealed, text("certificate") + &text("chain")).unwrap();
    for (purpose, good) in [("sslserver", true), ("sslclient", false)] {
        let args = ["verify", "-purpose", purpose, "-CAfile", "bundle.pem", "-untrusted", "chain.pem", "sealed.pem"];
        let ended = openssl(edge.dir(), &args);
        assert_eq!(ended.code == 0, good, "{purpose}: {} {}", ended.stdout, ended.stderr);
    }

    // The gateway's listeners do not take it, and the machine is none the worse for the attempt.
    let refused = curl(&gateway, &sealed, &edge.file("sealed.key"), "/v1/self", &[]);
    assert_ne!(refused.code, 0, "served: {}", refused.stdout);
    assert!(refused.stderr.contains("alert"), "{}", refused.stderr);
    edge.ok(&["renew", "--force"]);
    assert_eq!(audit(&alice, "certificate.sealed").len(), 1);
    assert_eq!(audit(&alice, "lineage.forked").len(), 0);
    let person = ask(&gateway, &alice);
    assert_eq!(person["type"], "urn:lychgate:error:wrong-caller");

    // Whoever trusts the roots believes it under the machine's name and no other.
    let port = Port::take();
    let address = port.number().to_string();
    let mut server = Command::new("openssl");
    server.args(["s_server", "-quiet", "-www", "-port", &address, "-cert", "sealed.pem", "-key", "sealed.key"]);
    server.args(["-cert_chain", "chain.pem"]).current_dir(edge.dir());
    let _server = Program::start(&mut server, gateway.room());
    let get = |name: &str| {
        let mut command = Command::new("curl");
        let resolve = format!("{name}:{address}:127.0.0.1");
        command.args(["--silent", "--show-error", "--retry", "20", "--retry-connrefused", "--retry-delay", "1"]);
        command.args(["--resolve", &resolve, "--cacert"]).arg(edge.file("bundle.pem"));
        run(command.arg(format!("https://{name}:{address}/")), PATIENCE)
    };
    let believed = get("edge-1.machine.test.example");
    assert_eq!(believed.code, 0, "{}", believed.stderr);
    // CURLE_PEER_FAILED_VERIFICATION
    assert_eq!(get("edge-2.machine.test.example").code, 60);
}
