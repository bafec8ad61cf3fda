//! What ends an open session, what does not, and the reasons reported to both ends.

use std::io::Read as _;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::run;
use tests::wait::{PATIENCE, Stopwatch, eventually, never};

use crate::rig::{Connected, Echo, Helpers, Running, connect, refused, sessions};
use crate::{assert_says, audit, items, joined};

/// A gateway, its first person, and a machine with an echo.
struct Stage {
    gateway: Gateway,
    alice: Lychgate,
    alpha: Running,
    echo: Echo,
}

impl Stage {
    fn set(setup: Setup) -> Self {
        let echo = Echo::start();
        let gateway = setup.start();
        let alice = gateway.first_person();
        let alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", ",raw")]);
        Self { gateway, alice, alpha, echo }
    }

    fn open(&self, who: &Lychgate) -> Connected {
        let mut open = Connected::start(who, &["alpha", "echo"]);
        open.passes("hello\n");
        open
    }

    /// A second administrator, for the time after the first is locked.
    fn bob(&self) -> Lychgate {
        let bob = self.gateway.client("bob");
        let invitation = self.alice.json(&["people", "invite", "--name", "bob", "--group", "admins"]);
        bob.ok(&["join", invitation["token"].as_str().unwrap(), "--name", "bob"]);
        bob
    }
}

/// The session ends, with the same reason in the program's message and in the audit event.
#[track_caller]
fn ended(mut open: Connected, by: &Lychgate, reason: &str, says: &str) {
    let mut rest = Vec::new();
    open.child.stdout.as_mut().unwrap().read_to_end(&mut rest).unwrap();
    let (_, said) = open.end();
    assert!(said.contains(says), "it does not say `{says}`: {said}");
    eventually("the audit says so", PATIENCE, || {
        audit(by, "session.closed").iter().any(|closed| closed["detail"]["reason"] == reason).then_some(())
    });
}

#[test]
fn a_lock_of_the_machine() {
    let stage = Stage::set(Setup::default());
    let _helpers = Helpers::of(stage.alice.dir());
    let open = stage.open(&stage.alice);
    let began = Stopwatch::start();
    let locked = stage.alice.ok(&["machines", "lock", "alpha", "--reason", "stolen"]);
    assert!(locked.contains("ended 1 session in"), "{locked}");
    ended(open, &stage.alice, "locked", "locked: a lock was set; `alpha` was locked by alice: stolen");
    began.assert_within(Duration::from_secs(5), "the cut, with the commands themselves");
    let enforced = audit(&stage.alice, "lock.enforced").pop().unwrap();
    assert_eq!(enforced["detail"]["sessions"], "1");
    let millis: u64 = enforced["detail"]["millis"].as_str().unwrap().parse().unwrap();
    began.assert_took(Duration::from_millis(millis), Duration::from_secs(1), "the cut by its own record");
    assert_eq!(enforced["instance"], audit(&stage.alice, "lock.set").pop().unwrap()["instance"]);
    for way in [&[][..], &["--helper"]] {
        let refused = stage.alice.refused(&[&["connect", "echo@alpha"], way].concat());
        assert_says(&refused, 3, "locked-machine");
        assert_says(&refused, 3, "`alpha` was locked by alice: stolen");
        assert_says(&refused, 3, "`lychgate machines unlock alpha` lifts it");
    }
    // The machine is told as well, asks no more than now and then, and comes back by itself when the lock is gone.
    let mut alpha = stage.alpha;
    alpha.run.expect_stdout("the machine hears why", |out| out.contains("(locked): a lock was set").then_some(()));
}

#[test]
fn a_lock_of_the_person() {
    let stage = Stage::set(Setup::default());
    let bob = stage.bob();
    let open = stage.open(&bob);
    let kept = stage.open(&stage.alice);
    stage.alice.ok(&["people", "lock", "bob", "--reason", "left the company"]);
    ended(open, &stage.alice, "locked", "the person `bob` is locked: left the company");
    assert_eq!(sessions(&stage.alice).len(), 1, "the other one goes on");
    drop(kept);
}

#[test]
fn a_lock_of_the_lineage_and_of_the_key() {
    for kind in ["lineage", "key"] {
        let stage = Stage::set(Setup::default());
        let open = stage.open(&stage.alice);
        let shown = stage.alice.json(&["machines", "show", "alpha"]);
        let target = match kind {
            "lineage" => shown["lineage"].as_str().unwrap().to_owned(),
            _ => {
                let state = std::fs::read_to_string(stage.alpha.machine.file("state.json")).unwrap();
                serde_json::from_str::<serde_json::Value>(&state).unwrap()["key"].as_str().unwrap().to_owned()
            }
        };
        let said = stage.alice.ok(&["locks", "add", kind, &target, "--reason", "copied"]);
        assert!(said.contains("ended 1 session"), "{said}");
        ended(open, &stage.alice, "locked", "locked: a lock was set");
    }
}

#[test]
fn a_rule_that_is_removed() {
    let rule = "@id(\"ops\") permit(principal is Lychgate::Person in Lychgate::Group::\"ops\", \
                action in [Lychgate::Action::\"connect\", Lychgate::Action::\"read\"], resource);";
    let stage = Stage::set(Setup::default().policy(rule));
    let bob = stage.gateway.client("bob");
    let invitation = stage.alice.json(&["people", "invite", "--name", "bob", "--group", "ops"]);
    bob.ok(&["join", invitation["token"].as_str().unwrap(), "--name", "bob"]);
    let (open, kept) = (stage.open(&bob), stage.open(&stage.alice));
    assert_eq!(items(&stage.alice.json(&["sessions", "list", "--rule", "ops"])).len(), 1);
    stage.gateway.edit_policy(|text| text.replace("\"connect\", Lychgate::Action::\"read\"", "\"read\""));
    stage.gateway.reload();
    ended(open, &stage.alice, "policy", "policy: the policy no longer allows it");
    assert_eq!(sessions(&stage.alice).len(), 1, "what another rule allows goes on");
    drop(kept);
}

#[test]
fn somebody_ends_it() {
    let stage = Stage::set(Setup::default());
    let open = stage.open(&stage.alice);
    let id = sessions(&stage.alice)[0]["id"].as_str().unwrap().to_owned();
    let mut watch = stage.alice.start(&["sessions", "watch"]);
    never("`watch` ends by itself", Duration::from_millis(700), || (!watch.runs()).then_some(()));
    stage.alice.ok(&["sessions", "kill", &id]);
    ended(open, &stage.alice, "killed", "killed: somebody ended it");
    watch.expect_stdout("it is seen", |out| {
        (out.contains("closed") && out.contains(&id) && out.contains("killed")).then_some(())
    });
    assert_eq!(stage.alice.json(&["sessions", "show", &id])["reason"], "killed");
    assert_says(&stage.alice.refused(&["sessions", "kill", &id]), 1, "has ended already");
    assert_says(&stage.alice.refused(&["sessions", "show", "feed"]), 1, "the audit has all of them");
}

#[test]
fn the_end_of_the_persons_certificate_and_not_before() {
    let stage = Stage::set(Setup::default());
    stage.gateway.edit_policy(|text| text.replace("@lifetime(\"12h\")", "@lifetime(\"60s\")"));
    stage.gateway.reload();
    let bob = eventually("the new policy", PATIENCE, || {
        let bob = stage.gateway.client("bob");
        let invitation = stage.alice.json(&["people", "invite", "--name", "bob", "--group", "admins"]);
        bob.ok(&["join", invitation["token"].as_str().unwrap(), "--name", "bob"]);
        let state: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(bob.file("state.json")).unwrap()).unwrap();
        let life = state["not_after"].as_u64().unwrap() - state["received"].as_u64().unwrap();
        if life > 60 {
            bob.ok(&["leave"]);
        }
        (life <= 60).then_some((bob, state["not_after"].as_u64().unwrap()))
    });
    let (bob, not_after) = bob;
    let open = stage.open(&bob);
    let mut forward = bob.start(&["forward", "--raw", "echo@alpha"]);
    let at: std::net::SocketAddr =
        forward.expect_stderr("it listens", |said| said.split_whitespace().find_map(|word| word.parse().ok()));
    ended(open, &stage.alice, "expired", "expired");
    let now = tests::wait::unix_now();
    assert!((not_after + 1..not_after + 5).contains(&now), "cut at {now}, and valid until {not_after}");
    // Whatever became of the connection that it held: what is said is what it comes of.
    drop(std::net::TcpStream::connect(at).unwrap());
    forward.expect_stderr("the cause", |said| said.contains("expired at").then_some(()));
    assert!(!forward.stderr().contains("broke"), "{}", forward.stderr());
}

#[test]
fn renewals_at_both_ends_do_not_end_it() {
    let stage = Stage::set(Setup::default().machine_lifetime("60s"));
    let mut open = stage.open(&stage.alice);
    let mut alpha = stage.alpha;
    stage.alice.ok(&["renew", "--force"]);
    alpha.run.expect_stdout_within("the tunnel shows the renewed certificate", Duration::from_secs(90), |out| {
        out.contains("tunnel-renewed").then_some(())
    });
    open.passes("still here\n");
    assert_eq!(sessions(&stage.alice).len(), 1);
    // Past the end of the certificate that the tunnel began with.
    let first = audit(&stage.alice, "certificate.issued")
        .into_iter()
        .filter(|event| event["subject"] == "spiffe://test.example/machine/alpha")
        .filter_map(|event| event["detail"]["not_after"].as_str()?.parse::<u64>().ok())
        .min()
        .unwrap();
    eventually("the first certificate ends", Duration::from_secs(90), || {
        (tests::wait::unix_now() > first + 2).then_some(())
    });
    open.passes("and still\n");
    assert!(audit(&stage.alice, "lineage.forked").is_empty());
}

#[test]
fn a_gateway_that_stops_says_so_and_machines_come_back() {
    let mut stage = Stage::set(Setup::default().config("limits.drain_time", "2s"));
    let open = stage.open(&stage.alice);
    let stopped = stage.gateway.stop();
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    let (code, said) = open.end();
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("the gateway is about to stop; what is open is ended within 2 s"), "{said}");
    assert!(said.contains("was ended: drained: the gateway closes this connection; connect again"), "{said}");
    stage
        .alpha
        .run
        .expect_stdout("the machine is told", |out| out.contains("the gateway closes this connection").then_some(()));
    stage.gateway.start();
    let closed = audit(&stage.alice, "session.closed").pop().unwrap();
    assert_eq!(closed["detail"]["reason"], "drained");
    comes_back(&stage);
}

#[test]
fn a_gateway_that_is_killed_is_found_again() {
    let mut stage = Stage::set(Setup::default());
    let open = stage.open(&stage.alice);
    stage.gateway.kill();
    let (code, said) = open.end();
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("was ended: the gateway does not answer any more"), "{said}");
    stage.gateway.start();
    comes_back(&stage);
}

#[track_caller]
fn comes_back(stage: &Stage) {
    eventually("the machine is back", PATIENCE, || {
        let shown = stage.alice.json(&["machines", "show", "alpha"]);
        shown["tunnel"].is_object().then_some(())
    });
    drop(stage.open(&stage.alice));
}

#[test]
fn whoever_is_killed_leaves_nothing_behind() {
    let mut stage = Stage::set(Setup::default());
    let mut person = stage.open(&stage.alice);
    person.child.kill().unwrap();
    eventually("the person's is gone", PATIENCE, || sessions(&stage.alice).is_empty().then_some(()));
    let open = stage.open(&stage.alice);
    stage.alpha.run.kill();
    ended(open, &stage.alice, "lost", "lost: the machine's connection was lost");
    eventually("nobody is there", PATIENCE, || sessions(&stage.alice).is_empty().then_some(()));
    assert_says(&stage.alice.refused(&["connect", "alpha", "echo"]), 5, "the machine `alpha` is offline");
}

/// A copy of a machine's folder, because a folder can have only one `run`.
fn copied(stage: &Stage, from: &str, to: &str) -> Lychgate {
    let (from, to) = (stage.gateway.client(from), stage.gateway.client(to));
    assert_eq!(run(Command::new("cp").arg("-a").arg(from.dir()).arg(to.dir()), PATIENCE).code, 0);
    to
}

#[test]
fn the_newest_tunnel_of_a_machine_wins() {
    let stage = Stage::set(Setup::default());
    let open = stage.open(&stage.alice);
    let echo = Echo::start();
    let machine = copied(&stage, "alpha", "alpha-2");
    let _second = Running::start(machine, &["--expose", &echo.exposed("echo", ",raw")]);
    ended(open, &stage.alice, "replaced", "replaced: the machine came back on another connection");
    let mut alpha = stage.alpha;
    alpha.run.expect_stdout("the older is told", |out| out.contains("(replaced)").then_some(()));
    let mut again = Connected::start(&stage.alice, &["alpha", "echo"]);
    again.passes("by the newer\n");
}

/// A replaced tunnel must always get the reason: otherwise its client would reconnect at once and replace the newer one.
#[test]
fn whoever_is_replaced_hears_it_every_time() {
    let mut stage = Stage::set(Setup::default());
    let mut folder = "alpha".to_owned();
    for round in 0..12 {
        let copy = format!("alpha-{round}");
        let machine = copied(&stage, &folder, &copy);
        folder = copy;
        let open = stage.open(&stage.alice);
        let exposed = stage.echo.exposed("echo", ",raw");
        let newer = Running::start(machine, &["--expose", &exposed]);
        let mut older = std::mem::replace(&mut stage.alpha, newer);
        older.run.expect_stdout(&format!("round {round}: the older is told"), |out| {
            out.contains("(replaced)").then_some(())
        });
        drop(open);
    }
}

#[test]
fn a_machine_that_froze_is_noticed() {
    let stage = Stage::set(Setup::default());
    stage.alpha.run.signal(Signal::STOP);
    let silent = stage.alice.refused(&["connect", "alpha", "echo"]);
    assert_says(&silent, 5, "the machine `alpha` did not answer within 12 s");
    assert_says(&stage.alice.refused(&["connect", "alpha", "echo"]), 5, "the machine `alpha` is offline");
    stage.alpha.run.signal(Signal::CONT);
    comes_back(&stage);
}

/// Twenty machines with some fifty streams each, all by one person: as many as they may have, and more than one page of the
/// listing. They are locked, and every stream is gone within the second, measured by the gateway from the lock's acceptance on.
#[test]
fn a_thousand_streams_end_within_a_second() {
    const MACHINES: usize = 20;
    const ALL: usize = 1_024;
    let echo = Echo::start();
    let gateway = Setup::default().no_limits().start();
    let alice = gateway.first_person();
    let bob = gateway.client("bob");
    let invitation = alice.json(&["people", "invite", "--name", "bob", "--group", "admins"]);
    bob.ok(&["join", invitation["token"].as_str().unwrap(), "--name", "bob"]);
    let _running: Vec<Running> = (0..MACHINES)
        .map(|n| {
            Running::start(joined(&gateway, &alice, &format!("m{n}")), &["--expose", &echo.exposed("echo", ",raw")])
        })
        .collect();
    let mut forwards = Vec::new();
    let mut streams = Vec::new();
    for n in 0..MACHINES {
        let mut forward = bob.start(&["forward", "--raw", &format!("m{n}"), "echo"]);
        let at: std::net::SocketAddr = forward.expect_stderr("it listens", |said| {
            said.split_once("lychgate: ")?.1.split_once(" forwards to")?.0.parse().ok()
        });
        forwards.push(forward);
        for _ in 0..ALL / MACHINES + usize::from(n < ALL % MACHINES) {
            let mut stream = std::net::TcpStream::connect(at).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            std::io::Write::write_all(&mut stream, b"x").unwrap();
            streams.push(stream);
        }
    }
    for stream in &mut streams {
        stream.read_exact(&mut [0; 1]).unwrap();
    }
    assert_eq!(sessions(&alice).len(), ALL);
    let one_more = connect(&gateway, &bob, "echo.m0:7");
    refused(&one_more, 429, "stream-limit", "connection_limit_reached");
    assert!(one_more.1.contains("Retry-After: 5\r\n"), "{}", one_more.1);
    let words = "1024 sessions of `spiffe://test.example/person/bob` are open, which is the most";
    assert_eq!(one_more.2["detail"], words);
    assert_eq!(connect(&gateway, &alice, "echo.m0:7").0, 200, "somebody else has room");
    let began = Stopwatch::start();
    let locked = alice.ok(&["people", "lock", "bob", "--reason", "stolen laptop"]);
    let enforced = audit(&alice, "lock.enforced").pop().unwrap();
    assert_eq!(enforced["detail"]["sessions"], ALL.to_string(), "{locked}");
    let millis: u64 = enforced["detail"]["millis"].as_str().unwrap().parse().unwrap();
    began.assert_took(Duration::from_millis(millis), Duration::from_secs(1), "the cut by its own record");
    eprintln!("{locked}");
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    eventually("nothing is left", PATIENCE, || sessions(&alice).is_empty().then_some(()));
}
