//! Wrong clocks, machines that were off, gateways that are down.

use std::time::Duration;

use tests::gateway::Setup;
use tests::program::shifted_clock;
use tests::wait::{PATIENCE, eventually, unix_now};

use crate::{assert_says, at_the_gate_under, audit, joined, request_id, token};

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
    let status = machine.run(&["status"]);
    assert_eq!(status.code, 10, "{}", status.stderr);
    assert!(status.stdout.contains("rejoins with it as evidence"), "{}", status.stdout);
    assert_says(&machine.refused(&["renew", "--force"]), 10, "expired at");
    let said = machine.ok(&["run", "--once"]);
    assert!(said.contains("expired: the certificate expired at") && said.contains("rejoined: valid until"), "{said}");
    let after = machine.json(&["status"]);
    assert_eq!(after["identity"], before["identity"], "{after}");
    assert_ne!(after["serial"], before["serial"]);
    // The same machine, not a second one of the name, and its line goes on.
    machine.ok(&["renew", "--force"]);
}

/// Past the policy's window the old certificate admits nobody at once: it says to a person who is asking, and under which
/// name the machine comes back.
#[test]
fn a_machine_that_was_off_for_too_long_waits_for_a_person() {
    let mut gateway = Setup::default().start();
    gateway.edit_policy(|text| text.replacen("prior_expired_for <= 2592000", "prior_expired_for <= 3600", 1));
    gateway.reload();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let before = machine.json(&["status"]);
    let _ = gateway.stop();
    let later = shifted_clock("+2d");
    gateway.run_under(&later);
    gateway.start();
    let (machine, alice) = (machine.under(&later), alice.under(&later));
    alice.ok(&["join"]);
    assert_says(&machine.refused(&["renew", "--force"]), 10, "expired at");
    assert_says(&machine.run(&["join", "--no-wait"]), 4, "waiting at the gate");
    let id = request_id(&alice, "edge-07");
    let shown = alice.ok(&["requests", "show", &id]);
    assert!(shown.contains("prior_name") && shown.contains("prior_expired_for"), "{shown}");
    let status = machine.run(&["--json", "status"]);
    assert_eq!(status.code, 10, "{}", status.stderr);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let code = status["waiting"]["code"].as_str().unwrap().to_owned();
    assert!(machine.run(&["status"]).stdout.contains(&format!("the code {code} waits at the gate")), "{status}");
    alice.ok(&["requests", "approve", &id, "--code", &code]);
    machine.ok(&["join"]);
    let after = machine.json(&["status"]);
    assert_eq!(after["identity"], before["identity"], "{after}");
    assert_ne!(after["serial"], before["serial"]);
}

#[test]
fn a_gateway_that_is_away_and_comes_back() {
    let mut gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let _ = gateway.stop();
    let refused = machine.refused(&["renew", "--force"]);
    assert_says(&refused, 5, &format!("cannot reach 127.0.0.1:{}", gateway.ports()[1]));
    assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);

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

/// Longer than the certificate lives, which is a minute here: the machine asks ever more slowly and speaks ever louder, and
/// is back by itself when the gateway is.
#[test]
fn a_gateway_that_is_away_until_the_certificate_is_over() {
    let mut gateway = Setup::default().machine_lifetime("60s").start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let before = machine.json(&["status"]);
    let _ = gateway.stop();
    let mut daemon = machine.start(&["run"]);
    let said = |event: &'static str| move |text: &str| text.contains(event).then_some(());
    daemon.expect_stdout_within("a first failure", PATIENCE, said(" warning look-failed: cannot reach"));
    daemon.expect_stdout_within(
        "a louder word when it gets late",
        3 * PATIENCE,
        said(" error late: still not renewed"),
    );
    daemon.expect_stdout_within(
        "the end of the certificate",
        3 * PATIENCE,
        said(" error expired: the certificate expired"),
    );
    let status = machine.run(&["status"]);
    assert_eq!(status.code, 10, "{}", status.stdout);
    assert!(status.stdout.contains("cannot reach"), "it does not say why\n{}", status.stdout);
    // A certificate of a minute is asked for every few seconds at most; none of them would be a storm.
    let tries = daemon.stdout().lines().filter(|line| line.contains("-failed: ")).count();
    assert!((2..40).contains(&tries), "{tries} attempts\n{}", daemon.stdout());
    gateway.start();
    daemon.expect_stdout_within("its return", 3 * PATIENCE, said(" info rejoined: valid until"));
    let after = machine.json(&["status"]);
    assert_eq!(after["identity"], before["identity"], "{after}");
    assert_ne!(after["serial"], before["serial"], "{after}");
    assert_eq!(daemon.stop().code, 0);
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
