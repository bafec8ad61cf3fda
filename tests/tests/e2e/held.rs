//! Several processes with one identity: a long-running process uses the newest certificate of the folder, so that a renewal by another
//! process is not taken for theft.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use tests::cli::Lychgate;
use tests::gateway::Setup;
use tests::program::built;
use tests::wait::{PATIENCE, eventually};

use crate::rig::{Connected, Echo, Running};
use crate::{audit, joined};

/// Of a certificate that lives for a minute a tenth; then a use of the one before is a fork.
const GRACE: Duration = Duration::from_secs(6);

#[track_caller]
fn serial(machine: &Lychgate) -> String {
    machine.json(&["status"])["serial"].as_str().unwrap().to_owned()
}

#[test]
fn a_renewal_by_another_hand_locks_nobody() {
    let echo = Echo::start();
    let mut gateway = Setup::default().machine_lifetime("60s").start();
    let alice = gateway.first_person();
    let exposed = echo.exposed("echo", ",raw");
    let mut edge = Running::start(joined(&gateway, &alice, "edge"), &["--expose", &exposed]);
    let mut open = Connected::start(&alice, &["edge", "echo"]);
    open.passes("before\n");

    // By hand, beside `run`.
    edge.machine.ok(&["renew", "--force"]);
    let since = Instant::now();
    edge.run.expect_stdout("it follows the folder", |out| out.contains("taken-over").then_some(()));
    edge.run.expect_stdout("so does the tunnel", |out| out.contains("tunnel-renewed").then_some(()));
    eventually("the grace is over", PATIENCE, || (since.elapsed() > GRACE).then_some(()));
    alice.ok(&["machines", "renew", "edge"]);
    open.passes("after\n");
    drop(open);
    // A new connection shows the new one.
    let _ = gateway.stop();
    gateway.start();
    edge.run.expect_stdout("it is back", |out| (out.matches("tunnel-up").count() >= 2).then_some(()));

    // A lock that is lifted while it runs.
    alice.ok(&["machines", "lock", "edge", "--reason", "to try"]);
    let _ = edge.machine.run(&["renew", "--force"]);
    alice.ok(&["machines", "unlock", "edge"]);
    edge.machine.ok(&["renew", "--force"]);
    let before = serial(&edge.machine);
    eventually("it renews again", 3 * PATIENCE, || (serial(&edge.machine) != before).then_some(()));
    assert_eq!(audit(&alice, "lineage.forked").len(), 0, "{}", edge.run.stdout());
    assert!(edge.run.runs());
}

#[test]
fn a_hook_that_renews_locks_nobody() {
    let gateway = Setup::default().machine_lifetime("60s").start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge");
    let hooks = machine.file("hooks.d");
    fs::create_dir(&hooks).unwrap();
    let (hook, lychgate) = (hooks.join("10-again"), built("lychgate"));
    // Once: its own renewal runs it, too.
    let script = format!(
        "#!/bin/sh\nmkdir \"$LYCHGATE_DIR/once\" 2>/dev/null || exit 0\nexec {} --dir \"$LYCHGATE_DIR\" renew --force\n",
        lychgate.display()
    );
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o700)).unwrap();
    let mut edge = Running::start(machine, &[]);
    edge.run.expect_stdout_within("it renews, and the hook once more", 3 * PATIENCE, |out| {
        out.contains("taken-over").then_some(())
    });
    edge.run.expect_stdout_within("and goes on", 3 * PATIENCE, |out| {
        (out.matches(" renewed: ").count() >= 2).then_some(())
    });
    assert_eq!(audit(&alice, "lineage.forked").len(), 0, "{}", edge.run.stdout());
}
