//! Expiry of the issuing CAs, with clocks that are years ahead: warnings before it, what works after it, and that all clients can
//! return after the CAs were renewed.

use std::path::Path;
use std::process::Command;

use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::{Ended, Hands, built, run};
use tests::wait::PATIENCE;

use crate::token;

fn command(hands: &Hands, args: &[&str], paths: &[(&str, &Path)]) -> Ended {
    let prefix = hands.prefix();
    let mut command = Command::new(&prefix[0]);
    command.args(&prefix[1..]).arg(built("lychgate-gateway")).args(args);
    for (flag, path) in paths {
        command.arg(flag).arg(path);
    }
    run(&mut command, PATIENCE)
}

/// An offset of five years less `days`: the CAs have just been made.
fn before_the_end(days: i64) -> String {
    const FIVE_YEARS: i64 = 5 * 31_556_952;
    format!("+{}", FIVE_YEARS - days * 86_400)
}

/// A gateway that was made at the true time and runs with the shifted clock, and its first person.
fn begin(hands: &Hands) -> (Gateway, Lychgate) {
    let mut gateway = Setup::default().under(&hands.prefix()).init();
    // The token that `init` left has long ended by this clock.
    let token = command(hands, &["invite"], &[("--config", &gateway.config())]);
    assert_eq!(token.code, 0, "{}", token.stderr);
    gateway.start();
    let alice = gateway.client("alice").under(&hands.prefix());
    alice.ok(&["join", token.stdout.trim(), "--name", "alice"]);
    (gateway, alice)
}

fn joins(gateway: &Gateway, alice: &Lychgate, hands: &Hands, name: &str) -> Lychgate {
    let machine = gateway.client(name).under(&hands.prefix());
    machine.ok(&["join", &token(alice, &[]), "--name", name]);
    machine
}

fn ready(gateway: &Gateway) -> String {
    let mut curl = Command::new("curl");
    run(curl.args(["-sSk", "--max-time", "20"]).arg(gateway.enroll().url("/readyz")), PATIENCE).stdout
}

#[test]
fn it_is_said_in_time_and_nobody_is_stranded() {
    let room = tempfile::tempdir().unwrap();
    let hands = Hands::new(room.path());
    hands.set(&before_the_end(20));
    let (mut gateway, alice) = begin(&hands);
    assert!(ready(&gateway).contains("the CA for machine certificates ends in "), "{}", ready(&gateway));
    let said = "renew it with `lychgate-gateway ca renew`";
    assert!(gateway.log().contains(said), "{}", gateway.log());
    let machine = joins(&gateway, &alice, &hands, "m-1");
    let checked = command(&hands, &["check-config"], &[("--config", &gateway.config())]);
    assert!(checked.code == 0 && checked.stdout.contains(said), "{}{}", checked.stdout, checked.stderr);
    let metrics = {
        let mut curl = Command::new("curl");
        curl.args(["-sSk", "--max-time", "20", "--cert"]).arg(alice.file("cert.pem"));
        curl.arg("--key").arg(alice.file("key.pem")).arg(gateway.manage().url("/metrics"));
        run(&mut curl, PATIENCE).stdout
    };
    for ca in ["root", "root-crl", "machine", "person", "gateway"] {
        assert!(metrics.contains(&format!("lychgate_ca_not_after{{ca=\"{ca}\"}} ")), "{metrics}");
    }
    let _ = gateway.stop();

    // The last day: it starts, and what it issues is short.
    hands.set(&before_the_end(1));
    gateway.start();
    alice.ok(&["run", "--once"]);
    let newcomer = joins(&gateway, &alice, &hands, "m-2");
    newcomer.ok(&["status"]);
    let _ = gateway.stop();

    // After it: it starts, says so, and serves what needs no signature.
    hands.set(&before_the_end(-2));
    gateway.start();
    assert!(ready(&gateway).contains("the CA for machine certificates ended at"), "{}", ready(&gateway));
    assert!(gateway.log().contains("ended at"), "{}", gateway.log());
    let _ = gateway.stop();

    // Certified anew, by way of where the root's key is.
    let (key, asked, signed) = (room.path().join("root.key"), room.path().join("asked"), room.path().join("signed"));
    std::fs::rename(gateway.dir().join("ca/root.key"), &key).unwrap();
    let config = gateway.config();
    let refused = command(&hands, &["ca", "renew"], &[("--config", &config)]);
    assert!(refused.code == 1 && refused.stderr.contains("--request FILE"), "{}", refused.stderr);
    let done = |ended: Ended| assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    done(command(&hands, &["ca", "renew"], &[("--config", &config), ("--request", &asked)]));
    let passphrase = gateway.dir().join("ca-passphrase");
    let with_root = [("--root-key", key.as_path()), ("--root-passphrase-file", &passphrase)];
    let files = [with_root[0], with_root[1], ("--in", asked.as_path()), ("--out", &signed)];
    done(command(&hands, &["ca", "sign"], &files));
    done(command(&hands, &["ca", "import"], &[("--config", &config), ("--in", &signed)]));
    let listed = command(&hands, &["ca", "list"], &[("--config", &config)]);
    assert!(listed.code == 0 && !listed.stdout.contains("ended at"), "{}{}", listed.stdout, listed.stderr);
    gateway.start();
    // Whoever was there comes back, with the certificate they had as evidence, and with the chain they had on the disk.
    for somebody in [&machine, &newcomer, &alice] {
        somebody.ok(&["run", "--once"]);
        somebody.ok(&["status"]);
    }
}

#[test]
fn holders_of_good_certificates_go_on() {
    let room = tempfile::tempdir().unwrap();
    let hands = Hands::new(room.path());
    hands.set(&before_the_end(10));
    let (mut gateway, alice) = begin(&hands);
    let machine = joins(&gateway, &alice, &hands, "m-1");
    let chain = std::fs::read(machine.file("chain.pem")).unwrap();
    let renewed = command(&hands, &["ca", "renew"], &[("--config", &gateway.config())]);
    assert!(renewed.code == 0 && renewed.stdout.contains("reload the gateway"), "{}{}", renewed.stdout, renewed.stderr);
    let _ = gateway.stop();
    gateway.start();
    machine.ok(&["status"]);
    assert_eq!(std::fs::read(machine.file("chain.pem")).unwrap(), chain, "with the chain it had");
    machine.ok(&["renew", "--force"]);
    assert_ne!(std::fs::read(machine.file("chain.pem")).unwrap(), chain, "and then with the new one");
    machine.ok(&["status"]);
    // The root's list alone, with the key in its place.
    let list = std::fs::read(gateway.dir().join("ca/root.crl")).unwrap();
    let made = command(&hands, &["ca", "crl"], &[("--config", &gateway.config())]);
    assert!(
        made.code == 0 && made.stdout.contains("made the root's revocation list"),
        "{}{}",
        made.stdout,
        made.stderr
    );
    assert_ne!(std::fs::read(gateway.dir().join("ca/root.crl")).unwrap(), list);
}
