//! Clocks that are set while programs run: sessions, tunnels and renewals use the gateway's time.

use std::io::Read as _;
use std::time::Duration;

use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::Hands;
use tests::wait::{PATIENCE, eventually, unix_now};

use crate::rig::{Connected, Echo, Running, sessions};
use crate::{audit, joined};

/// Time for three certificates of a minute, renewed at half of it, on a busy machine.
const SEVERAL_LIVES: Duration = Duration::from_secs(90);

/// A gateway with its own clock, its first person, and a machine with another clock.
struct Stage {
    gateway: Gateway,
    alice: Lychgate,
    alpha: Running,
    gateways: Hands,
    machines: Hands,
    _room: tempfile::TempDir,
    _echo: Echo,
}

impl Stage {
    /// Person and machine join at the true time. Then the gateway's clock is set to `then`, so that the certificates are as old as
    /// that, and the machine runs.
    fn set(setup: Setup, then: &str, how: &str) -> Self {
        let room = tempfile::tempdir().unwrap();
        let (gateways, machines) = (Hands::new(room.path()), Hands::new(room.path()));
        let echo = Echo::start();
        let gateway = setup.under(&gateways.prefix()).start();
        let alice = gateway.first_person();
        let alpha = joined(&gateway, &alice, "alpha").under(&machines.prefix());
        gateways.set(then);
        let alpha = Running::start(alpha, &["--expose", &echo.exposed("echo", how)]);
        Self { gateway, alice, alpha, gateways, machines, _room: room, _echo: echo }
    }

    fn open(&self) -> Connected {
        let mut open = Connected::start(&self.alice, &["alpha", "echo"]);
        open.passes("hello\n");
        open
    }

    /// When the certificate that the machine joined with ends, by the true time.
    fn first_end(&self) -> u64 {
        audit(&self.alice, "certificate.issued")
            .into_iter()
            .filter(|event| event["subject"] == "spiffe://test.example/machine/alpha")
            .filter_map(|event| event["detail"]["not_after"].as_str()?.parse::<u64>().ok())
            .min()
            .unwrap()
    }

    fn tunnel_since(&self) -> u64 {
        self.alice.json(&["machines", "show", "alpha"])["tunnel"]["since"].as_u64().unwrap()
    }

    /// How often a renewed certificate was proven in the tunnel.
    fn renewals(&self) -> usize {
        self.alpha.run.stdout().matches("tunnel-renewed").count()
    }
}

/// An hour ahead, an hour behind: in each, a renewal is made and proved in the tunnel, and the session outlives the
/// certificate that the tunnel had when the clock was set.
#[test]
fn a_machines_clock_is_set_while_somebody_is_there() {
    let mut stage = Stage::set(Setup::default().machine_lifetime("60s"), "+0", ",raw");
    let mut open = stage.open();
    let since = stage.tunnel_since();
    for to in ["+1h", "-1h"] {
        stage.machines.set(to);
        let (set_at, before) = (unix_now(), stage.renewals());
        open.passes("the clock was set\n");
        eventually("a renewal that the tunnel goes on with", SEVERAL_LIVES, || {
            assert!(stage.alpha.run.runs(), "{}", stage.alpha.run.stdout());
            assert_eq!(sessions(&stage.alice).len(), 1, "{}", stage.alpha.run.stdout());
            (stage.renewals() > before).then_some(())
        });
        eventually("no certificate of then is good any more", SEVERAL_LIVES, || {
            (unix_now() > set_at.max(stage.first_end()) + 2).then_some(())
        });
        open.passes("still here\n");
    }
    let said = stage.alpha.run.stdout();
    assert!(!said.contains("tunnel-not-renewed") && !said.contains("tunnel-down"), "{said}");
    assert_eq!(stage.tunnel_since(), since, "the same tunnel all along\n{said}");
    assert!(audit(&stage.alice, "lineage.forked").is_empty());
    // What is sealed and proved goes by the same time.
    stage.alpha.machine.ok(&["renew", "--force"]);
}

#[test]
fn the_gateways_clock_is_set_while_somebody_is_there() {
    // Certificates are valid from five minutes before they were made: all were made long before any time that comes.
    let stage = Stage::set(Setup::default(), "+3h", ",raw");
    let mut open = stage.open();
    let since = stage.tunnel_since();
    for to in ["+4h", "+2h"] {
        stage.gateways.set(to);
        open.passes("the clock was set\n");
        // A busy machine's heartbeat comes every 15 seconds, and 37.5 without one would be the end: both times together.
        tests::wait::never("the session ends", Duration::from_secs(20), || {
            sessions(&stage.alice).is_empty().then_some(())
        });
        drop(stage.open());
        stage.alpha.machine.ok(&["status"]);
        open.passes("still here\n");
        eventually("the other is closed", PATIENCE, || (sessions(&stage.alice).len() == 1).then_some(()));
    }
    assert_eq!(stage.tunnel_since(), since, "the same tunnel all along");
    assert!(audit(&stage.alice, "session.closed").iter().all(|event| event["detail"]["reason"] == "peer"));
}

#[test]
fn the_gateways_clock_jumps_past_the_end_of_a_persons_certificate() {
    let stage = Stage::set(Setup::default(), "+0", ",raw");
    let mut open = stage.open();
    stage.gateways.set("+13h");
    let mut rest = Vec::new();
    open.child.stdout.as_mut().unwrap().read_to_end(&mut rest).unwrap();
    let (_, said) = open.end();
    assert!(said.contains("was ended: expired: "), "{said}");
    stage.gateways.set("+0");
    let closed = eventually("the audit says so", PATIENCE, || audit(&stage.alice, "session.closed").pop());
    assert_eq!(closed["detail"]["reason"], "expired", "{closed}");
    // It was the clock's doing alone.
    drop(stage.open());
}

/// Both ends check each other's certificate by the gateway's time.
#[test]
fn what_is_sealed_goes_by_the_gateways_time() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    for (name, by) in [("ahead", "+1h"), ("behind", "-1h")] {
        let hands = Hands::new(gateway.room());
        hands.set(by);
        let machine = gateway.client(name).under(&hands.prefix());
        machine.ok(&["join", &crate::token(&alice, &[]), "--name", name]);
        let _running = Running::start(machine, &["--expose", &echo.exposed("echo", "")]);
        let mut open = Connected::start(&alice, &[name, "echo"]);
        open.passes("a secret\n");
        let bob = gateway.client(&format!("bob-{name}")).under(&hands.prefix());
        let invitation = alice.json(&["people", "invite", "--name", &format!("bob-{name}"), "--group", "admins"]);
        bob.ok(&["join", invitation["token"].as_str().unwrap(), "--name", &format!("bob-{name}")]);
        let mut open = Connected::start(&bob, &[name, "echo"]);
        open.passes("from a person whose clock is as wrong\n");
    }
}

/// A clock that is set while the machine runs is detected by the next heartbeat.
#[test]
fn what_is_sealed_is_opened_after_the_machines_clock_was_set() {
    let mut stage = Stage::set(Setup::default(), "+0", "");
    let mut kept = stage.open();
    stage.machines.set("-1h");
    stage.alpha.run.expect_stdout("it hears what time it is", |out| out.contains(" warning clock:").then_some(()));
    drop(stage.open());
    kept.passes("still here\n");
    assert!(stage.gateway.runs());
}

/// A minute far ahead, and back: nobody loses anything by it. What the operator sees meanwhile, and the word that ends it.
#[test]
fn the_gateways_clock_jumps_500_days_and_back() {
    let room = tempfile::tempdir().unwrap();
    let hands = Hands::new(room.path());
    let mut gateway = Setup::default().under(&hands.prefix()).start();
    let alice = gateway.first_person();
    let alpha = joined(&gateway, &alice, "alpha");
    alice.ok(&["tokens", "create"]);
    alice.ok(&["locks", "add", "key", &"ab".repeat(32), "--reason", "stolen"]);
    let doubts = |gateway: &Gateway| {
        eventually("housekeeping notices", SEVERAL_LIVES, || {
            gateway.log().contains("the clock cannot be right").then_some(())
        });
    };
    hands.set("+500d");
    doubts(&gateway);
    // Also a gateway that is started anew meanwhile knows.
    let _ = gateway.stop();
    gateway.start();
    doubts(&gateway);
    let face = gateway.enroll();
    let ready = tests::raw::get(face.address, &face.name, &tests::tls::trusting_anybody(None), "/readyz");
    assert_eq!(ready, Some((200, "ready\nclock-suspect\n".to_owned())));
    hands.set("+0");
    eventually("housekeeping goes on", SEVERAL_LIVES, || {
        gateway.log().contains("the clock is right again").then_some(())
    });
    // The gateway's own certificate is of the wrong time; a reload makes another.
    gateway.reload();
    eventually("the machine renews", PATIENCE, || (alpha.run(&["renew", "--force"]).code == 0).then_some(()));
    assert!(alice.ok(&["tokens", "list"]).contains("live"));
    assert!(alice.ok(&["locks", "list"]).contains("stolen"));
    assert!(!audit(&alice, "clock.doubted").is_empty() && !audit(&alice, "clock.believed").is_empty());

    // A leap that is no mistake: an operator says so.
    let _ = gateway.stop();
    hands.set("+90d");
    gateway.start();
    doubts(&gateway);
    let mut prefix = hands.prefix();
    prefix.push(tests::program::built("lychgate-gateway").to_str().unwrap().to_owned());
    let mut accept = std::process::Command::new(&prefix[0]);
    accept.args(&prefix[1..]).args(["clock", "accept", "--config"]).arg(gateway.config());
    let said = tests::program::run(&mut accept, PATIENCE);
    assert_eq!(said.code, 0, "{}", said.stderr);
    eventually("it believes the operator", SEVERAL_LIVES, || {
        gateway.log().contains("an operator has accepted it").then_some(())
    });
}
