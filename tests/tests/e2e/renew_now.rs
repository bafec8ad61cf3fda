//! An administrator asks machines to renew now, and they do at their next contact.

use std::time::Duration;

use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::shifted_clock;
use tests::wait::{PATIENCE, Stopwatch, eventually};

use crate::rig::{Connected, Echo, Running};
use crate::{audit, joined};

/// Time limit for "at once" on a busy machine.
const SECONDS: Duration = Duration::from_secs(10);

#[track_caller]
fn serial(machine: &Lychgate) -> String {
    machine.json(&["status"])["serial"].as_str().unwrap().to_owned()
}

/// A gateway, its first person, and two machines that joined minutes ago: nobody renews what was made this minute.
#[track_caller]
fn minutes_later() -> (Gateway, Lychgate, [Lychgate; 2]) {
    let mut gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machines = ["edge-1", "edge-2"].map(|name| joined(&gateway, &alice, name));
    let _ = gateway.stop();
    gateway.run_under(&shifted_clock("+5m"));
    gateway.start();
    (gateway, alice, machines)
}

#[test]
fn machines_that_are_asked_renew_when_they_next_call() {
    let (_gateway, alice, [one, two]) = minutes_later();
    let before = [serial(&one), serial(&two)];
    one.ok(&["run", "--once"]);
    assert_eq!(serial(&one), before[0], "nobody asked yet");

    let said = alice.ok(&["machines", "renew", "edge-1", "--reason", "a new authority"]);
    assert!(said.contains("asked `edge-1` to renew"), "{said}");
    one.ok(&["run", "--once"]);
    two.ok(&["run", "--once"]);
    let after = [serial(&one), serial(&two)];
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1], before[1]);

    alice.ok(&["machines", "renew", "--all"]);
    let mut running = two.start(&["run"]);
    eventually("a renewal by `run`", PATIENCE, || (serial(&two) != before[1]).then_some(()));
    running.expect_stdout("the reason it gives", |text| text.contains("renewal-asked").then_some(()));
    assert_eq!(running.stop().code, 0);
    // Once is enough.
    let done = serial(&two);
    two.ok(&["run", "--once"]);
    assert_eq!(serial(&two), done);
    let asked = audit(&alice, "renewal.asked");
    assert_eq!(asked.len(), 2, "{asked:?}");
    alice.refused(&["machines", "renew", "edge-9"]);
}

/// With a tunnel the machine renews at once; without one it would query within an hour.
#[test]
fn machines_that_run_renew_within_seconds_and_nobody_notices() {
    let echo = Echo::start();
    let (_gateway, alice, [one, two]) = minutes_later();
    let before = [serial(&one), serial(&two)];
    let exposed = echo.exposed("echo", ",raw");
    let [mut one, mut two] = [one, two].map(|machine| Running::start(machine, &["--expose", &exposed]));
    let mut open = Connected::start(&alice, &["edge-1", "echo"]);
    open.passes("before\n");
    assert_eq!([&one, &two].map(|running| serial(&running.machine)), before, "nobody asked yet");

    alice.ok(&["machines", "renew", "edge-1", "--reason", "a new authority"]);
    let began = Stopwatch::start();
    eventually("a renewal by the tunnel", PATIENCE, || (serial(&one.machine) != before[0]).then_some(()));
    one.run.expect_stdout("the reason it gives", |text| text.contains("renewal-asked").then_some(()));
    one.run.expect_stdout("the tunnel goes on", |text| text.contains("tunnel-renewed").then_some(()));
    began.assert_within(SECONDS, "the renewal");
    open.passes("after\n");
    assert!(!one.run.stdout().contains("tunnel-down"), "{}", one.run.stdout());
    assert_eq!(serial(&two.machine), before[1], "it was not asked");

    alice.ok(&["machines", "renew", "--all"]);
    let began = Stopwatch::start();
    eventually("a renewal of all", PATIENCE, || (serial(&two.machine) != before[1]).then_some(()));
    two.run.expect_stdout("the tunnel goes on", |text| text.contains("tunnel-renewed").then_some(()));
    began.assert_within(SECONDS, "the renewal");
    let shown = alice.json(&["machines", "show", "edge-2"]);
    assert_eq!(shown["serial"], serial(&two.machine).as_str(), "the gateway has seen it in use");
}
