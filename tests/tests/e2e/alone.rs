//! Unattended machines: they send expired and refused requests again, only a person's denial ends that, and `status` reports the state.

use std::time::Duration;

use tests::gateway::Setup;
use tests::wait::{PATIENCE, eventually, unix_now};

use crate::rig::{Echo, Running};
use crate::{assert_says, items, joined, request_id};

#[test]
fn a_request_that_lapsed_is_asked_again_with_the_same_key_until_a_person_decides() {
    let gateway = Setup::default().config("enroll.pending_ttl", "6s").start();
    let alice = gateway.first_person();
    let pin = gateway.info().pin;
    let url = gateway.enroll().url("");
    let machine = gateway.client("w-1");
    assert_says(&machine.run(&["join", &url, "--pin", &pin, "--name", "w-1", "--no-wait"]), 4, "waiting at the gate");
    let first = request_id(&alice, "w-1");
    let key = alice.json(&["requests", "show", &first])["key"].clone();
    let mut run = machine.start(&["run"]);
    let second = eventually("a new request", 2 * PATIENCE, || {
        let waiting = items(&alice.json(&["requests", "list"]));
        waiting.iter().find_map(|request| Some(request["id"].as_str()?.to_owned()).filter(|id| *id != first))
    });
    assert!(run.runs(), "{}", run.stdout());
    assert_eq!(alice.json(&["requests", "show", &second])["key"], key, "the same key");
    // At the keyboard it goes on too, though nobody came by in between.
    assert_eq!(run.stop().code, 0);
    let status: serde_json::Value = serde_json::from_str(&machine.run(&["--json", "status"]).stdout).unwrap();
    let lapses = status["expires"].as_u64().unwrap();
    eventually("it lapsed", PATIENCE, || (unix_now() > lapses).then_some(()));
    let mut run = machine.start(&["run"]);
    let third = eventually("a new request", PATIENCE, || {
        let waiting = items(&alice.json(&["requests", "list"]));
        let known = [&first, &second];
        waiting.iter().find_map(|request| Some(request["id"].as_str()?.to_owned()).filter(|id| !known.contains(&id)))
    });
    // It may have lapsed just now; then the next one is denied.
    let _ = alice.run(&["requests", "deny", &third, "--reason", "not ours"]);
    eventually("it ends", PATIENCE, || {
        for request in items(&alice.json(&["requests", "list"])) {
            let _ = alice.run(&["requests", "deny", request["id"].as_str().unwrap(), "--reason", "not ours"]);
        }
        (!run.runs()).then_some(())
    });
    assert_eq!(run.stop().code, 3);
    let status = machine.run(&["status"]);
    assert_says(&machine.run(&["run"]), 3, "a person denied this machine");
    // A person's word is asked for at the gateway again: somebody may have taken the denial back.
    assert_says(&machine.run(&["join"]), 3, "an approver denied this request: not ours");
    assert!(
        status.code == 3 && status.stdout.contains("denied by a person") && status.stdout.contains("not ours"),
        "{status:?}"
    );
}

#[test]
fn one_run_for_a_folder_and_status_says_what_it_does() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge");
    let idle = machine.json(&["status"]);
    assert_eq!((&idle["running"], &idle["run"]), (&false.into(), &serde_json::Value::Null), "{idle}");
    assert!(machine.ok(&["status"]).contains("nothing renews it"));
    let edge = Running::start(machine, &["--expose", &echo.exposed("echo", ",raw")]);
    let pid = edge.run.id();
    let up = eventually("status knows", PATIENCE, || {
        Some(edge.machine.json(&["status"])).filter(|status| status["run"]["tunnel"]["up"] == true)
    });
    assert_eq!((&up["run"]["pid"], &up["run"]["exposes"][0]), (&pid.into(), &"echo (raw)".into()), "{up}");
    let shown = edge.machine.ok(&["status"]);
    assert!(shown.contains("tunnel") && shown.contains("up for") && shown.contains("echo (raw)"), "{shown}");
    assert_says(&edge.machine.refused(&["run"]), 1, &format!("`lychgate run` runs here already (process {pid})"));
    assert!(!edge.run.stdout().contains("tunnel-down"), "the first is not disturbed");

    alice.ok(&["machines", "lock", "edge", "--reason", "stolen"]);
    eventually("status knows of the lock", PATIENCE, || {
        let status = edge.machine.run(&["status"]);
        (status.code == 9 && status.stdout.contains("locked") && status.stdout.contains("stolen")).then_some(())
    });
    alice.ok(&["machines", "unlock", "edge"]);
    eventually("back within the minute", 3 * PATIENCE, || {
        let status = edge.machine.run(&["--json", "status"]).stdout;
        let status: serde_json::Value = serde_json::from_str(&status).ok()?;
        (status["state"] == "valid" && status["run"]["tunnel"]["up"] == true).then_some(())
    });

    // Removal is for good: there is nothing to be asked again.
    alice.ok(&["machines", "remove", "edge"]);
    let ended = edge.run.end_within(PATIENCE + Duration::from_secs(60));
    assert_eq!(ended.code, 9, "{}", ended.stdout);
    let status = edge.machine.run(&["status"]);
    assert!(status.code == 9 && status.stdout.contains("removed at the gateway"), "{}", status.stdout);
    assert_says(&edge.machine.refused(&["run"]), 9, "removed");
}
