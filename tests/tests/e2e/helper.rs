//! The helper that `connect --helper` starts: one process and one connection to the gateway for any number of programs.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use tests::cli::Lychgate;
use tests::gateway::Setup;
use tests::wait::{PATIENCE, eventually};

use crate::joined;
use crate::rig::{Connected, Echo, Helpers, Running, metric, sessions};

/// Total number of programs.
const PROGRAMS: usize = 100;

/// Number of concurrent programs, each a process.
const AT_A_TIME: usize = 10;

/// A complete `connect --helper`: one line and its echo.
#[track_caller]
fn passes(person: &Lychgate, line: &str) {
    let mut child = person
        .command(&["connect", "--raw", "--helper", "alpha", "echo"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    let status = eventually("the end of `connect`", PATIENCE, || child.try_wait().unwrap());
    let (mut heard, mut said) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut heard).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(status.success(), "{status}: {said}");
    assert_eq!((heard.as_str(), said.as_str()), (line, ""));
}

/// Runs all programs, [`AT_A_TIME`] at a time.
fn all_pass(person: &Lychgate) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= PROGRAMS {
                        return;
                    }
                    passes(person, &format!("number {number}\n"));
                }
            });
        }
    });
}

#[test]
fn a_hundred_programs_share_the_helper_that_the_first_started() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _a = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", ",raw")]);
    let helpers = Helpers::of(alice.dir());
    assert!(helpers.ids().is_empty(), "nobody started one");
    let mut first = Connected::start(&alice, &["alpha", "echo", "--helper"]);
    first.passes("the first\n");
    let helper = helpers.ids();
    assert_eq!(helper.len(), 1);
    all_pass(&alice);
    first.passes("still here\n");
    assert_eq!(helpers.ids(), helper, "the same one");
    // The first went by the helper's connection as well.
    assert_eq!(metric(&gateway, &alice, "lychgate_connections{face=\"proxy\"}"), 1);
    let ended = metric(&gateway, &alice, "lychgate_sessions_ended_total{reason=\"peer\"}");
    assert_eq!(ended, u64::try_from(PROGRAMS).unwrap());
    drop(first);
    eventually("nothing is left", PATIENCE, || sessions(&alice).is_empty().then_some(()));
    assert_eq!(metric(&gateway, &alice, "lychgate_connections{face=\"proxy\"}"), 1, "it stays for the next");
}

#[test]
fn programs_that_come_at_once_start_one_helper() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _a = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", ",raw")]);
    let helpers = Helpers::of(alice.dir());
    let mut open: Vec<Connected> =
        (0..AT_A_TIME).map(|_| Connected::start(&alice, &["alpha", "echo", "--helper"])).collect();
    open.iter_mut().for_each(|one| one.passes("at once\n"));
    // Those that were started beside it have seen that they are not needed.
    eventually("one helper", PATIENCE, || (helpers.ids().len() == 1).then_some(()));
    assert_eq!(metric(&gateway, &alice, "lychgate_connections{face=\"proxy\"}"), 1);
    all_pass(&alice);
    assert_eq!(metric(&gateway, &alice, "lychgate_connections{face=\"proxy\"}"), 1);
}

#[test]
fn a_helper_that_is_killed_is_missed() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", ",raw")]);
    let mut helper = alice.start(&["helper"]);
    helper.expect_stderr("the helper helps", |said| said.contains("helping at").then_some(()));
    let mut open = Connected::start(&alice, &["--helper", "alpha", "echo"]);
    open.passes("hello\n");
    helper.kill();
    let (code, said) = open.end();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("the helper went away, and the session with it"), "{said}");
    // The next program starts another.
    let _helpers = Helpers::of(alice.dir());
    passes(&alice, "and again\n");
}
