//! Clocks that are wrong, machines that were off, gateways that are away.

use std::time::Duration;

use tests::gateway::Setup;
use tests::program::shifted_clock;
use tests::wait::{PATIENCE, eventually, unix_now};

use crate::{at_the_gate_under, audit, joined, request_id, token};

#[test]
fn a_client_whose_clock_is_an_hour_wrong() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    for (name, by) in [("ahead", "+1h"), ("behind", "-1h")] {
        let machine = gateway.client(name).under(&shifted_clock(by));
        machine.ok(&["join", &token(&alice, &[]), "--name", name]);
        machine.ok(&["status"]);
        machine.ok(&["renew", "--force"]);
        machine.ok(&["run", "--once"]);
    }
    // Waiting at the gate works as well.
    let waiting = at_the_gate_under(&gateway, "waiting", &shifted_clock("-1h"));
    alice.ok(&["requests", "approve", &request_id(&alice, "waiting"), "--code", &waiting.code]);
    assert_eq!(waiting.join.end_within(PATIENCE).code, 0);
}

#[test]
fn a_machine_that_was_off_past_expiry_comes_back_with_its_old_key() {
    let mut gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let before = machine.json(&["status"]);
    let _ = gateway.stop();
    // Two days later, the certificate having lived for one.
    let later = shifted_clock("+2d");
    gateway.run_under(&later);
    gateway.start();
    let machine = machine.under(&later);
    assert_eq!(machine.run(&["status"]).code, 10);
    machine.ok(&["run", "--once"]);
    let after = machine.json(&["status"]);
    assert_eq!(after["identity"], before["identity"], "{after}");
    assert_ne!(after["serial"], before["serial"]);
    // The same machine, not a second one of the name, and its line goes on.
    machine.ok(&["renew", "--force"]);
}

#[test]
fn a_machine_that_was_off_for_too_long_waits_at_the_gate() {
    let mut gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let _ = gateway.stop();
    let later = shifted_clock("+60d");
    gateway.run_under(&later);
    gateway.start();
    let machine = machine.under(&later);
    let ended = machine.run(&["run", "--once"]);
    assert_ne!(ended.code, 0, "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    machine.refused(&["renew", "--force"]);
}

#[test]
fn a_gateway_that_is_away_and_comes_back() {
    let mut gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let _ = gateway.stop();
    let refused = machine.refused(&["renew", "--force"]);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.contains("127.0.0.1"), "it names whom it asked\n{}", refused.stderr);

    let mut daemon = machine.start(&["run"]);
    // Its events are its results: they come on standard output.
    daemon.expect_stdout("a word about the gateway's silence", |text| text.contains("look-failed").then_some(()));
    assert!(daemon.runs(), "{}", daemon.stderr());
    let away_until = unix_now();
    gateway.start();
    eventually("the daemon finds the gateway again", Duration::from_secs(90), || {
        assert!(daemon.runs(), "{}", daemon.stderr());
        let status = machine.json(&["status"]);
        (status["last_contact"].as_u64()? >= away_until && status["trouble"].is_null()).then_some(())
    });
}

/// The gateway restarts while a machine waits at it: the request is still there, and so is the machine.
#[test]
fn a_request_outlives_a_restart_of_the_gateway() {
    let mut gateway = Setup::default().start();
    let alice = gateway.first_person();
    let waiting = crate::at_the_gate(&gateway, "edge-07");
    let id = request_id(&alice, "edge-07");
    gateway.kill();
    gateway.start();
    assert_eq!(request_id(&alice, "edge-07"), id);
    alice.ok(&["requests", "approve", &id, "--code", &waiting.code]);
    assert_eq!(waiting.join.end_within(Duration::from_secs(90)).code, 0);
    assert_eq!(audit(&alice, "enrollment.waiting").len(), 1);
}

#[test]
fn a_stop_drains_and_ends_with_success() {
    let mut gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let ended = gateway.stop();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    gateway.start();
    machine.ok(&["renew", "--force"]);
}
