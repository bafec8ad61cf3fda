//! Commands for scripts that wait for a decision, a machine, or the next event.

use tests::gateway::Setup;
use tests::wait::{PATIENCE, eventually};

use crate::rig::{Echo, Running};
use crate::{assert_says, at_the_gate, joined, request_id};

#[test]
fn a_decision_is_waited_for_and_said_by_the_exit_code() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let waiting = at_the_gate(&gateway, "alpha");
    let id = request_id(&alice, "alpha");
    assert_says(&alice.refused(&["requests", "wait", &id, "--timeout", "1s"]), 4, "still waits");
    let mut wait = alice.start(&["requests", "wait", &id]);
    assert!(wait.runs());
    alice.ok(&["requests", "approve", &id, "--code", &waiting.code]);
    let ended = wait.end_within(PATIENCE);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("alpha"), "{}", ended.stdout);
    let _refused = at_the_gate(&gateway, "beta");
    let id = request_id(&alice, "beta");
    let wait = alice.start(&["requests", "wait", &id, "--timeout", "10min"]);
    alice.ok(&["requests", "deny", &id, "--reason", "not ours"]);
    let ended = wait.end_within(PATIENCE);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("was denied: not ours"), "{}", ended.stderr);
    // The audit names who was turned away.
    assert!(alice.ok(&["audit", "--event", "enrollment.denied"]).contains("wanted_name=beta"));
}

#[test]
fn a_machine_is_waited_for_also_before_it_is_there() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    assert_says(&alice.refused(&["machines", "wait", "alpha", "--online", "--timeout", "1s"]), 5, "no machine `alpha`");
    let mut wait = alice.start(&["machines", "wait", "alpha", "--online"]);
    wait.expect_stderr("it says that there is none", |said| said.contains("no machine `alpha`").then_some(()));
    let alpha = joined(&gateway, &alice, "alpha");
    assert_says(&alice.refused(&["machines", "wait", "alpha", "--online", "--timeout", "1s"]), 5, "is offline");
    let _alpha = Running::start(alpha, &["--expose", &echo.exposed("echo", "")]);
    let ended = wait.end_within(PATIENCE);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("since"), "{}", ended.stdout);
}

#[test]
fn the_audit_is_followed_and_knows_its_events() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let mut follow = alice.start(&["audit", "--follow", "--event", "token"]);
    follow.expect_stderr("it follows", |said| said.contains("Ctrl-C stops").then_some(()));
    let follows = || {
        // What was made before it looked for the first time is not new.
        alice.ok(&["tokens", "create"]);
        let said = follow.stdout();
        said.contains("token.created").then_some(said)
    };
    let said = eventually("an event", PATIENCE, follows);
    assert!(!said.contains("lock.set"), "{said}");
    for (event, known) in
        [("tokens", "ca, certificate, clock, "), ("token.made", "token.created, token.redeemed, token.revoked")]
    {
        let refused = alice.refused(&["audit", "--event", event]);
        assert_says(&refused, 2, &format!("no event is called `{event}`; there are {known}"));
    }
}
