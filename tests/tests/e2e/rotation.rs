//! Rotation of roots and issuing CAs in a running gateway, by an operator's commands and reload, with clients of which one is away until
//! shortly before the old root is retired.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::{Ended, built, run};
use tests::wait::{PATIENCE, eventually};

use crate::token;

/// The gateway counts clients with old roots once a minute.
const MINUTES: Duration = Duration::from_mins(3);

struct Stage {
    gateway: Gateway,
    alice: Lychgate,
}

impl Stage {
    fn set() -> Self {
        let gateway = Setup::default().start();
        let alice = gateway.first_person();
        Self { gateway, alice }
    }

    fn ca(&self, args: &[&str]) -> Ended {
        let mut command = Command::new(built("lychgate-gateway"));
        run(command.arg("ca").args(args).arg("--config").arg(self.gateway.config()), PATIENCE)
    }

    fn done(&self, args: &[&str]) -> String {
        let ended = self.ca(args);
        assert_eq!(ended.code, 0, "{args:?}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// One command of the rotation, and the reload.
    fn step(&self, step: &str, name: &str) -> String {
        let said = self.done(&[step, name]);
        self.reload();
        said
    }

    fn reload(&self) {
        let reloaded = || self.gateway.log().matches("policy and configuration reloaded").count();
        let before = reloaded();
        self.gateway.reload();
        eventually("the gateway has reloaded", PATIENCE, || (reloaded() > before).then_some(()));
    }

    fn joins(&self, name: &str) -> Lychgate {
        let machine = self.gateway.client(name);
        machine.ok(&["join", &token(&self.alice, &[]), "--name", name]);
        machine
    }
}

/// How many certificates a file of an identity folder holds.
fn count(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().matches("-----BEGIN CERTIFICATE-----").count()
}

fn slots(stage: &Stage) -> Vec<(String, String)> {
    let listed: serde_json::Value = serde_json::from_str(&stage.done(&["list", "--json"])).unwrap();
    let text = |slot: &serde_json::Value, what: &str| slot[what].as_str().unwrap().to_owned();
    listed["slots"].as_array().unwrap().iter().map(|slot| (text(slot, "name"), text(slot, "state"))).collect()
}

#[test]
fn a_running_gateway_changes_its_issuing_cas() {
    let stage = Stage::set();
    let machine = stage.joins("m-1");
    let chain = std::fs::read(machine.file("chain.pem")).unwrap();
    let said = stage.done(&["prepare", "machine"]);
    assert!(said.contains("prepared `machine-2`") && said.contains("ca publish machine-2"), "{said}");
    let refused = stage.ca(&["activate", "machine-2"]);
    assert!(refused.code == 1 && refused.stderr.contains("only what is published"), "{}", refused.stderr);
    stage.step("publish", "machine-2");
    stage.step("activate", "machine-2");
    machine.ok(&["status"]);
    machine.ok(&["renew", "--force"]);
    assert_ne!(std::fs::read(machine.file("chain.pem")).unwrap(), chain, "the other CA signs");
    machine.ok(&["status"]);
    // The gateway's own is changed by the same steps, while the connection of a machine goes on.
    let held = machine.start(&["run"]);
    stage.done(&["prepare", "gateway"]);
    stage.step("publish", "gateway-2");
    stage.step("activate", "gateway-2");
    stage.joins("m-2").ok(&["status"]);
    drop(held);
    eventually("the steps stand in the audit", MINUTES, || {
        let events = stage.alice.ok(&["audit", "--event", "ca.slot", "--json"]);
        ["prepared", "published", "active"].iter().all(|state| events.contains(state)).then_some(())
    });
}

#[test]
fn a_running_gateway_replaces_the_keys_of_tokens_and_tickets() {
    let stage = Stage::set();
    let before = token(&stage.alice, &[]);
    let told = stage.done(&["replace", "tokens"]);
    assert!(told.contains("replaced `token.key`: reload the gateway") && told.contains("refused"), "{told}");
    let told = stage.done(&["replace", "tickets"]);
    assert!(told.contains("replaced `ticket.key`"), "{told}");
    let machine = stage.gateway.client("m-1");
    stage.reload();
    let refused = machine.run(&["join", &before, "--name", "m-1"]);
    assert!(refused.code != 0 && refused.stderr.contains("did not sign it"), "{}", refused.stderr);
    machine.ok(&["join", &token(&stage.alice, &[]), "--name", "m-1"]);
    eventually("both stand in the audit", MINUTES, || {
        let events = stage.alice.ok(&["audit", "--event", "ca.key", "--json"]);
        ["token.key", "ticket.key"].iter().all(|file| events.contains(file)).then_some(())
    });
}

#[test]
fn a_running_gateway_changes_its_root_and_waits_for_who_is_away() {
    let stage = Stage::set();
    let (here, away) = (stage.joins("here"), stage.joins("away"));
    stage.done(&["prepare", "root"]);
    stage.step("publish", "root-2");
    for somebody in [&here, &stage.alice] {
        somebody.ok(&["renew", "--force"]);
        assert_eq!(count(&somebody.file("bundle.pem")), 2, "told of both by the one it has");
    }
    let old_token = token(&stage.alice, &[]);
    let said = stage.step("activate", "root-2");
    assert!(said.contains("machine away") && said.contains("`root` is not retired"), "{said}");
    for somebody in [&here, &stage.alice] {
        somebody.ok(&["status"]);
        somebody.ok(&["renew", "--force"]);
        somebody.ok(&["status"]);
    }
    // Newcomers with the pin of today, and with one from before.
    stage.joins("today");
    let late = stage.gateway.client("late");
    late.ok(&["join", &old_token, "--name", "late"]);
    assert_eq!(count(&late.file("bundle.pem")), 2);
    let refused = stage.ca(&["retire", "root"]);
    assert!(refused.code == 1 && refused.stderr.contains("machine away"), "{}", refused.stderr);
    assert_eq!(count(&away.file("bundle.pem")), 1);
    away.ok(&["renew", "--force"]);
    away.ok(&["status"]);
    assert_eq!(count(&away.file("bundle.pem")), 2, "back in time");
    eventually("nobody depends on the root any more", MINUTES, || {
        let ended = stage.ca(&["retire", "root"]);
        (ended.code == 0).then_some(ended)
    });
    stage.reload();
    for somebody in [&here, &away, &late, &stage.alice] {
        somebody.ok(&["renew", "--force"]);
        somebody.ok(&["status"]);
    }
    let states = slots(&stage);
    let state = |name: &str| states.iter().find(|(slot, _)| slot == name).map(|(_, state)| state.as_str());
    assert_eq!([state("root"), state("root-2"), state("machine")], [Some("retired"), Some("active"), Some("retired")]);
}

#[test]
fn a_ca_whose_root_is_elsewhere() {
    let stage = Stage::set();
    let machine = stage.joins("m-1");
    let room = stage.gateway.room();
    let [key, asked, signed] = ["root.key", "asked.pem", "signed.pem"].map(|name| room.join(name));
    std::fs::rename(stage.gateway.dir().join("ca/root.key"), &key).unwrap();
    let refused = stage.ca(&["prepare", "machine"]);
    assert!(refused.code == 1 && refused.stderr.contains("the root's key is not at"), "{}", refused.stderr);
    stage.done(&["prepare", "machine", "--request", asked.to_str().unwrap()]);
    let there = |more: &[&str]| {
        let mut command = Command::new(built("lychgate-gateway"));
        command
            .args(["ca", "sign"])
            .args(more)
            .arg("--root-key")
            .arg(&key)
            .arg("--in")
            .arg(&asked)
            .arg("--out")
            .arg(&signed);
        run(command.arg("--root-passphrase-file").arg(stage.gateway.dir().join("ca-passphrase")), PATIENCE)
    };
    let unsaid = there(&[]);
    assert!(unsaid.code == 1 && unsaid.stderr.contains("--new"), "{}", unsaid.stderr);
    assert_eq!(there(&["--new", "person"]).code, 0);
    let refused = stage.ca(&["import", "--in", signed.to_str().unwrap()]);
    assert_eq!(refused.code, 1, "a key that was made for machines is no CA for people: {}", refused.stdout);
    assert_eq!(there(&["--new", "machine"]).code, 0);
    let said = stage.done(&["import", "--in", signed.to_str().unwrap()]);
    assert!(said.contains("prepared `machine-2`"), "{said}");
    stage.step("publish", "machine-2");
    stage.step("activate", "machine-2");
    machine.ok(&["renew", "--force"]);
    machine.ok(&["status"]);
}
