//! A link that silently loses everything: when each end notices, and how the tunnel is restored.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::cli::Lychgate;
use tests::gateway::Setup;
use tests::http::Face;
use tests::ssh::whoami;
use tests::wait::{PATIENCE, eventually};

use crate::audit;
use crate::netns::Namespace;
use crate::rig::{Connected, Running, connect_at, refused, sessions};

/// Two and a half heartbeats of a busy machine at the gateway, slightly more at the machine, and time to report it.
const SILENCE: Duration = Duration::from_secs(60);

fn tunnel(alice: &Lychgate) -> Value {
    alice.json(&["machines", "show", "alpha"])["tunnel"].clone()
}

/// The session ends, the person's program reports that the machine is lost, and there is an audit event.
#[track_caller]
fn ended(open: Connected, alice: &Lychgate, id: &Value) {
    let (code, said) = open.end();
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("lost: the machine's connection was lost"), "{said}");
    let closed = eventually("the audit says so", PATIENCE, || {
        audit(alice, "session.closed").into_iter().find(|event| event["subject"] == *id)
    });
    assert_eq!(closed["detail"]["reason"], "lost", "{closed}");
}

#[test]
fn a_link_that_loses_everything() {
    if whoami() != "root" {
        eprintln!("skipped: network namespaces want root");
        return;
    }
    let host = Namespace::make();
    let (gateway, alice) = host.gateway(Setup::default());
    let alpha = host.machine(&gateway, &alice, "alpha");
    let _service = host.echo(&gateway);
    let mut alpha = Running::start(alpha, &["--expose", "echo=127.0.0.1:7,raw"]);
    let proxy = Face::named((Ipv4Addr::LOCALHOST, gateway.proxy().address.port()).into(), "127.0.0.1");
    let open = || {
        let mut open = Connected::start(&alice, &["alpha", "echo"]);
        open.passes("hello\n");
        open
    };
    let comes_back = |what: &str| {
        eventually(what, 2 * PATIENCE, || tunnel(&alice).is_object().then_some(()));
        let (status, head, _) = connect_at(&proxy, &gateway, &alice, "echo.alpha:7");
        assert_eq!(status, 200, "{head}");
        eventually("it is closed again", PATIENCE, || sessions(&alice).is_empty().then_some(()));
    };

    // Somebody asks for the machine meanwhile: they hear within the time that a machine has, and the tunnel is given up then.
    let session = open();
    let id = sessions(&alice)[0]["id"].clone();
    let hole = host.black_hole();
    let began = Instant::now();
    let answer = connect_at(&proxy, &gateway, &alice, "echo.alpha:7");
    let took = began.elapsed();
    refused(&answer, 504, "machine-silent", "connection_timeout");
    assert!((Duration::from_secs(12)..Duration::from_secs(16)).contains(&took), "{took:?}");
    ended(session, &alice, &id);
    assert!(tunnel(&alice).is_null());
    refused(&connect_at(&proxy, &gateway, &alice, "echo.alpha:7"), 503, "offline", "destination_unavailable");
    // The machine has not noticed: it learns of it by the first word that gets through.
    assert!(!alpha.run.stdout().contains("tunnel-down"), "{}", alpha.run.stdout());
    drop(hole);
    comes_back("the machine is back");

    // Nobody asks: each end notices by itself that the other is silent.
    let session = open();
    let id = sessions(&alice)[0]["id"].clone();
    let ups = alpha.run.stdout().matches("tunnel-up").count();
    let hole = host.black_hole();
    alpha.run.expect_stdout_within("the machine notices", SILENCE, |out| {
        out.contains("tunnel-down: nothing heard for ").then_some(())
    });
    ended(session, &alice, &id);
    eventually("the gateway has noticed", PATIENCE, || tunnel(&alice).is_null().then_some(()));
    drop(hole);
    comes_back("the machine is back again");
    assert_eq!(alpha.run.stdout().matches("tunnel-up").count(), ups + 1, "{}", alpha.run.stdout());
}
