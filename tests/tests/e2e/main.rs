//! End-to-end tests with the built programs, on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is reported by panicking"
)]

mod absence;
mod access;
mod alone;
mod anchors;
mod ansible;
mod attested;
mod balancers;
mod black_hole;
mod by_hand;
mod ca_end;
mod clocks;
mod cloud;
mod cuts;
mod deciding;
mod dev;
mod dial_back;
mod disk;
mod faults;
mod first_day;
mod flood;
mod framing;
mod guest;
mod held;
mod helper;
mod home;
mod hostile;
mod join;
mod json;
mod jwt;
mod locks;
mod manual;
mod netns;
mod offline;
mod owner_rules;
mod ports;
mod read_back;
mod recipes;
mod renew_now;
mod requests;
mod restore;
mod rig;
mod rotation;
mod sealed;
mod short_chains;
mod ssh_access;
mod ssh_cert;
mod tokens;
mod tpm;
mod tpm_boot;
mod tpm_fetch;
mod tpm_key;
mod transfers;
mod trust;
mod verifiers;
mod versions;
mod waits;
mod x509;

use serde_json::Value;
use tests::cli::{Lychgate, waiting_code};
use tests::device::Outcome;
use tests::gateway::Gateway;
use tests::program::{Ended, Program};

/// A waiting machine, with the waiting code from its output.
struct AtTheGate {
    machine: Lychgate,
    join: Program,
    code: String,
}

/// Starts `lychgate join URL` and waits until it shows its code.
#[track_caller]
fn at_the_gate(gateway: &Gateway, name: &str) -> AtTheGate {
    at_the_gate_in(gateway, name, name)
}

/// As [`at_the_gate`], with another name for the directory.
#[track_caller]
fn at_the_gate_in(gateway: &Gateway, dir: &str, name: &str) -> AtTheGate {
    show_up(gateway, gateway.client(dir), name)
}

/// As [`at_the_gate`], with the client run under another program.
#[track_caller]
fn at_the_gate_under(gateway: &Gateway, name: &str, wrapper: &[String]) -> AtTheGate {
    show_up(gateway, gateway.client(name).under(wrapper), name)
}

#[track_caller]
fn show_up(gateway: &Gateway, machine: Lychgate, name: &str) -> AtTheGate {
    let pin = gateway.info().pin;
    let mut join = machine.start(&["join", &gateway.enroll().url(""), "--pin", &pin, "--name", name]);
    let code = join.expect_stderr("waiting code on the machine's screen", waiting_code);
    AtTheGate { machine, join, code }
}

/// The rows of a listing, whether it comes as a page or as a list.
#[track_caller]
fn items(listing: &Value) -> Vec<Value> {
    let rows = listing.get("items").unwrap_or(listing);
    rows.as_array().unwrap_or_else(|| panic!("not a listing: {listing}")).clone()
}

/// The one waiting request for a name.
#[track_caller]
fn request_id(person: &Lychgate, name: &str) -> String {
    let listing = person.json(&["requests", "list"]);
    let wanted: Vec<Value> =
        items(&listing).into_iter().filter(|row| row["wanted_name"] == name && row["state"] == "waiting").collect();
    assert_eq!(wanted.len(), 1, "requests for {name} in {listing}");
    wanted[0]["id"].as_str().unwrap().to_owned()
}

/// Panics unless a command failed with this exit code and message.
#[track_caller]
fn assert_says(refused: &Ended, code: i32, says: &str) {
    assert_eq!(refused.code, code, "{}", refused.stderr);
    assert!(refused.stderr.contains(says), "it does not say `{says}`\n{}", refused.stderr);
}

/// Panics unless a request was refused with this problem code, and this text in detail or hint.
#[track_caller]
fn assert_refused(outcome: &Outcome, code: &str, says: &str, what: &str) {
    assert_eq!(outcome.code().as_deref(), Some(code), "{what}: {outcome:?}");
    assert!(outcome.says().contains(says), "{what}: it does not say `{says}`: {}", outcome.says());
}

/// A join token for machines.
#[track_caller]
fn token(person: &Lychgate, more: &[&str]) -> String {
    let mut args = vec!["tokens", "create"];
    args.extend(more);
    person.json(&args)["token"].as_str().unwrap().to_owned()
}

/// A machine that has joined by a token.
#[track_caller]
fn joined(gateway: &Gateway, person: &Lychgate, name: &str) -> Lychgate {
    let machine = gateway.client(name);
    machine.ok(&["join", &token(person, &[]), "--name", name]);
    machine
}

/// The audit events of a kind, in the program's order.
#[track_caller]
fn audit(person: &Lychgate, event: &str) -> Vec<Value> {
    items(&person.json(&["audit", "--event", event]))
}
