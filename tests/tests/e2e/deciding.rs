//! Approvers and administrators: names in use, withdrawn denials and requests, watching requests, changing machines and people, and
//! offboarding a person.

use serde_json::{Value, json};
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::shifted_clock;
use tests::wait::{PATIENCE, Stopwatch, eventually};

use crate::rig::{Connected, Echo, Running};
use crate::{assert_says, at_the_gate, at_the_gate_in, audit, items, joined, request_id, token};

/// A person who has joined with an invitation.
fn invited(gateway: &Gateway, by: &Lychgate, name: &str, groups: &[&str]) -> Lychgate {
    let mut args = vec!["people", "invite", "--name", name];
    args.extend(groups.iter().flat_map(|group| ["--group", group]));
    let token = by.json(&args)["token"].as_str().unwrap().to_owned();
    let person = gateway.client(name);
    person.ok(&["join", &token, "--name", name]);
    person
}

/// The lines of a program's output as JSON, the last of which may be incomplete.
fn lines(out: &str) -> Vec<Value> {
    out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn a_name_that_is_taken_is_said_to_the_approver_and_the_machine_follows() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    joined(&gateway, &alice, "edge-07");
    let second = at_the_gate_in(&gateway, "second", "edge-07");
    let id = request_id(&alice, "edge-07");
    assert!(alice.ok(&["requests", "list"]).contains("edge-07 (taken)"));
    assert!(alice.ok(&["requests", "show", &id]).contains("EXISTS (active)"));
    let refused = alice.refused(&["requests", "approve", &id, "--code", &second.code]);
    assert_says(&refused, 3, "--name");
    alice.ok(&["requests", "approve", &id, "--code", &second.code, "--name", "edge-08"]);
    let ended = second.join.end_within(PATIENCE);
    assert_says(&ended, 0, "admitted as `edge-08`, the name an approver gave, and not as `edge-07`");
    let machine = second.machine;
    let status = machine.json(&["status"]);
    assert_eq!((&status["name"], &status["wanted_name"]), (&json!("edge-08"), &json!("edge-07")));
    // It is remembered for as long as the identity lives.
    machine.ok(&["renew", "--force"]);
    assert!(machine.ok(&["status"]).contains("the name `edge-07`; an approver gave it `edge-08`"));
}

#[test]
fn whoever_leaves_while_it_waits_takes_its_request_along() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let first = at_the_gate_in(&gateway, "first", "edge-07");
    let id = request_id(&alice, "edge-07");
    first.join.stop();
    let left = first.machine.json(&["leave"]);
    assert_eq!((&left["withdrawn"], &left["gateway_told"]), (&json!(id), &json!(true)));
    assert!(items(&alice.json(&["requests", "list"])).is_empty());
    assert_eq!(audit(&alice, "enrollment.withdrawn").len(), 1);
    // Whoever comes anew is nobody's rival.
    let second = at_the_gate_in(&gateway, "second", "edge-07");
    let request = alice.json(&["requests", "show", &request_id(&alice, "edge-07")]);
    assert_eq!(request["rivals"], json!([]));
    // Without the gateway one leaves all the same, and hears what stays behind.
    second.join.stop();
    let mut gateway = gateway;
    gateway.stop();
    let left = second.machine.run(&["leave"]);
    assert_says(&left, 0, "could not be withdrawn");
    assert!(left.stderr.contains("it stays at the gate until"), "{}", left.stderr);
    assert_eq!(second.machine.run(&["status"]).code, 8);
}

#[test]
fn a_denial_is_taken_back_and_the_machine_goes_on_with_its_key() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let denied = at_the_gate(&gateway, "edge-07");
    let id = request_id(&alice, "edge-07");
    let empty = alice.refused(&["requests", "deny", &id, "--reason", " "]);
    assert_says(&empty, 2, "a reason is required");
    alice.ok(&["requests", "deny", &id, "--reason", "wrong rack"]);
    assert_says(&denied.join.end_within(PATIENCE), 3, "wrong rack");
    let machine = denied.machine;
    // The denial stands for programs, and for a person until it is taken back.
    assert_eq!(machine.json_of(3, &["status"])["state"], "denied");
    assert_says(&machine.refused(&["run"]), 3, "wrong rack");
    assert_says(&machine.refused(&["join", "--no-wait"]), 3, "wrong rack");
    assert!(alice.ok(&["requests", "reopen", &id]).contains("taken back"));
    let waits = machine.run(&["join", "--no-wait"]);
    assert_says(&waits, 4, &denied.code);
    assert_eq!(machine.json_of(4, &["status"])["state"], "waiting");
    alice.ok(&["requests", "approve", &id, "--code", &denied.code]);
    machine.ok(&["join"]);
    assert_says(&alice.refused(&["requests", "reopen", &id]), 1, "only one that was denied");
}

#[test]
fn who_waits_is_watched_as_it_happens() {
    let gateway = Setup::default().init();
    gateway.edit_policy(|text| text.replace("@approvals(\"1\")", "@approvals(\"2\")"));
    let mut gateway = gateway;
    gateway.start();
    let alice = gateway.first_person();
    let bob = invited(&gateway, &alice, "bob", &["admins"]);
    let mut watch = alice.start(&["--json", "requests", "watch"]);
    let waiting = at_the_gate(&gateway, "edge-07");
    let id = request_id(&alice, "edge-07");
    let told = |event: &'static str, approvals: usize| {
        let id = id.clone();
        move |out: &str| {
            let is = |line: &Value| {
                line["event"] == event
                    && line["request"]["id"] == id.as_str()
                    && line["request"]["approvals"].as_array().map(Vec::len) == Some(approvals)
            };
            lines(out).iter().any(is).then_some(())
        }
    };
    watch.expect_stdout("it waits", told("waits", 0));
    // At once, and not when the question has been open for as long as it may.
    let watched = Stopwatch::start();
    alice.ok(&["requests", "approve", &id, "--code", &waiting.code]);
    watch.expect_stdout("one has approved", told("approval", 1));
    watched.assert_within(std::time::Duration::from_secs(10), "an approval is told");
    bob.ok(&["requests", "approve", &id, "--code", &waiting.code]);
    watch.expect_stdout("it waits no more", told("decided", 1));
    watch.stop();
}

#[test]
fn what_a_machine_was_given_is_corrected() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let olga = invited(&gateway, &alice, "olga", &[]);
    joined(&gateway, &alice, "edge-07");
    let set = |args: &[&str]| alice.ok(&[&["machines", "set", "edge-07"], args].concat());
    assert!(
        set(&["--label", "env=lab", "--label", "rack=7", "--owner", "olga"])
            .contains("owner olga, labels env=lab rack=7")
    );
    set(&["--no-label", "rack", "--label", "env=prod"]);
    let shown = olga.json(&["machines", "show", "edge-07"]);
    assert_eq!((&shown["labels"], &shown["owner"]), (&json!({"env": "prod"}), &json!("olga")));
    set(&["--no-owner"]);
    assert_says(&olga.refused(&["machines", "show", "edge-07"]), 1, "no such machine");
    for (args, code, says) in [
        (&["--label", "Bad Key=x"][..], 2, "the label `Bad Key` cannot be given"),
        (&["--owner", "nobody"], 2, "there is no person `nobody`"),
        (&[], 2, "nothing is to be changed"),
    ] {
        assert_says(&alice.refused(&[&["machines", "set", "edge-07"], args].concat()), code, says);
    }
    let changed: Vec<Value> = audit(&alice, "subject.set").iter().map(|event| event["detail"].clone()).collect();
    assert_eq!(changed.len(), 3, "{changed:?}");
    assert!(changed.contains(&json!({"labels": "+env=prod -rack"})), "{changed:?}");
}

/// A machine that runs is renamed within seconds, and is reached by its new name alone, sealed services too.
#[test]
fn a_machine_is_renamed_while_it_runs() {
    let echo = Echo::start();
    let mut gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    // Nobody renews what was made this minute.
    gateway.stop();
    gateway.run_under(&shifted_clock("+5m"));
    gateway.start();
    let running =
        Running::start(machine, &["--expose", &echo.exposed("plain", ",raw"), "--expose", &echo.exposed("echo", "")]);
    Connected::start(&alice, &["edge-07", "echo"]).passes("before\n");
    let said = alice.ok(&["machines", "set", "edge-07", "--name", "rack7-2", "--label", "env=lab"]);
    assert!(said.contains("becomes `rack7-2`"), "{said}");
    eventually("the new name in the list, with a tunnel", PATIENCE, || {
        let rows = items(&alice.json(&["machines", "list", "--online"]));
        (rows.len() == 1 && rows[0]["name"] == "rack7-2").then_some(())
    });
    assert_says(&alice.refused(&["machines", "show", "edge-07"]), 1, "no such machine");
    let shown = alice.json(&["machines", "show", "rack7-2"]);
    assert_eq!((&shown["labels"], &shown["renaming"]), (&json!({"env": "lab"}), &Value::Null));
    for service in ["echo", "plain"] {
        eventually("the service under the new name", PATIENCE, || {
            (alice.run(&["connect", "--raw", "rack7-2", service]).code == 0).then_some(())
        });
        Connected::start(&alice, &["rack7-2", service]).passes("after\n");
    }
    assert_eq!(running.machine.json(&["status"])["name"], "rack7-2");
    let renamed = audit(&alice, "subject.renamed");
    assert_eq!(renamed.len(), 1, "{renamed:?}");
    assert_eq!(renamed[0]["detail"]["before"], "edge-07");
    // The old name stands in a certificate that lives.
    let late = gateway.client("late");
    assert_says(&late.run(&["join", &token(&alice, &[]), "--name", "edge-07"]), 3, "the name `edge-07` is taken");
    running.run.stop();
    let offline = items(&alice.json(&["machines", "list", "--offline"]));
    assert!(offline[0]["last_seen"].as_u64().is_some(), "{offline:?}");
}

#[test]
fn the_groups_of_a_person_are_corrected() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let carol = invited(&gateway, &alice, "carol", &[]);
    assert_eq!(carol.json(&["can-i", "administer"])["allowed"], false);
    assert!(alice.ok(&["people", "set", "carol", "--group", "admins"]).contains("groups admins"));
    assert_eq!(carol.json(&["can-i", "administer"])["allowed"], true);
    // A group that no rule names is said, since it may be a slip.
    let unruled = alice.run(&["people", "set", "carol", "--group", "adminz"]);
    assert_says(&unruled, 0, "adminz");
    alice.ok(&["people", "set", "carol", "--no-group", "admins", "--no-group", "adminz"]);
    assert_eq!(carol.json(&["can-i", "administer"])["allowed"], false);
    // The last who may administer cannot take that from herself.
    let last = alice.refused(&["people", "set", "alice", "--no-group", "admins"]);
    assert!(last.stderr.contains("last"), "{}", last.stderr);
}

#[test]
fn a_person_who_goes_hands_their_machines_over() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let bob = invited(&gateway, &alice, "bob", &["admins"]);
    let carol = invited(&gateway, &alice, "carol", &[]);
    joined(&gateway, &alice, "edge-07");
    alice.ok(&["machines", "set", "edge-07", "--owner", "bob"]);
    let token = token(&bob, &[]);
    assert_says(&alice.refused(&["people", "offboard", "bob", "--to", "nobody"]), 1, "no such person");
    let said = alice.ok(&["people", "offboard", "bob", "--to", "carol"]);
    assert!(said.contains("machines that `carol` owns now: edge-07"), "{said}");
    assert!(said.contains("tokens and invitations of theirs, worthless now"), "{said}");
    assert_eq!(carol.json(&["machines", "show", "edge-07"])["owner"], "carol");
    assert_eq!(bob.run(&["requests", "list"]).code, 9, "bob is gone");
    let late = gateway.client("late");
    assert_says(&late.run(&["join", &token, "--name", "late"]), 3, "revoked");
}
