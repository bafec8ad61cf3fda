//! Locks, and concurrent decisions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tests::cli::Lychgate;
use tests::device::{self, Held, Key, Outcome};
use tests::gateway::{Gateway, Setup};
use tests::http::Connection;
use tests::raw::Raw;
use tests::tls;
use tests::wait::{PATIENCE, Stopwatch};

use crate::{assert_says, at_the_gate, items, joined, request_id, token};

/// A second administrator.
#[track_caller]
fn bob(gateway: &Gateway, alice: &Lychgate) -> Lychgate {
    let bob = gateway.client("bob");
    let invitation = alice.json(&["people", "invite", "--name", "bob", "--group", "admins"]);
    bob.ok(&["join", invitation["token"].as_str().unwrap(), "--name", "bob"]);
    bob
}

#[test]
fn a_key_locked_while_it_waits_is_not_admitted() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let waiting = at_the_gate(&gateway, "edge-07");
    let id = request_id(&alice, "edge-07");
    let key = alice.json(&["requests", "show", &id])["key"].as_str().unwrap().to_owned();
    alice.ok(&["locks", "add", "key", &key, "--reason", "seen elsewhere"]);
    let refused = alice.refused(&["requests", "approve", &id, "--code", &waiting.code]);
    assert_says(&refused, 9, "this key is locked: seen elsewhere");
    assert!(items(&alice.json(&["machines", "list"])).is_empty());
    alice.ok(&["locks", "remove", "key", &key]);
    // The machine waits all the while, with one long question after the other, and gets in now without a new key.
    alice.ok(&["requests", "approve", &id, "--code", &waiting.code]);
    assert_eq!(waiting.join.end_within(3 * PATIENCE).code, 0);
}

#[test]
fn a_machine_locked_while_it_waits_is_told_so() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = gateway.client("edge-07");
    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    let join = ["join", &url, "--pin", &pin, "--name", "edge-07", "--no-wait"];
    assert_eq!(machine.run(&join).code, 4);
    let key = alice.json(&["requests", "show", &request_id(&alice, "edge-07")])["key"].as_str().unwrap().to_owned();
    alice.ok(&["locks", "add", "key", &key, "--reason", "seen elsewhere"]);
    let refused = machine.refused(&join);
    assert_says(&refused, 9, "this key is locked: seen elsewhere");
    assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);
    // The request is still at the gate, and the same one goes on when the lock is gone.
    let id = request_id(&alice, "edge-07");
    alice.ok(&["locks", "remove", "key", &key]);
    alice.ok(&["requests", "approve", &id, "--unchecked"]);
    machine.ok(&join);
}

#[test]
fn a_key_locked_after_its_approval_gets_no_certificate() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = gateway.client("edge-07");
    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    let join = ["join", &url, "--pin", &pin, "--name", "edge-07", "--no-wait"];
    assert_eq!(machine.run(&join).code, 4);
    let id = request_id(&alice, "edge-07");
    alice.ok(&["requests", "approve", &id, "--unchecked"]);
    let key = alice.json(&["requests", "show", &id])["key"].as_str().unwrap().to_owned();
    alice.ok(&["locks", "add", "key", &key, "--reason", "seen elsewhere"]);
    assert_says(&machine.refused(&join), 9, "this key is locked: seen elsewhere");
    assert!(!machine.file("cert.pem").exists());
}

/// An open connection is cut even when nothing is asked on it.
#[test]
fn a_lock_cuts_an_idle_connection_within_a_second() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let other = joined(&gateway, &alice, "edge-08");
    let face = gateway.manage();
    let open = |holder: &Lychgate| {
        let config = tls::trusting(&gateway.roots(), Some(&holder.identity()));
        let mut raw = Raw::open(face.address, &face.name, &config).unwrap();
        raw.send(format!("GET /v1/self HTTP/1.1\r\nHost: {}\r\n\r\n", face.authority()).as_bytes()).unwrap();
        assert_eq!(raw.response().unwrap().0, 200);
        raw
    };
    let (mut cut, mut kept) = (open(&machine), open(&other));
    alice.ok(&["machines", "lock", "edge-07", "--reason", "stolen"]);
    let locked = Stopwatch::start();
    assert!(cut.closed(), "the connection is still open");
    locked.assert_within(Duration::from_secs(1), "the cut");
    // Its neighbour's is not.
    kept.send(format!("GET /v1/self HTTP/1.1\r\nHost: {}\r\n\r\n", face.authority()).as_bytes()).unwrap();
    assert_eq!(kept.response().unwrap().0, 200);
}

/// Concurrent renewals: none that began after the lock was acknowledged may succeed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_locked_while_it_renews() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let token = token(&alice, &[]);
    let key = Key::generate();
    let config = tls::trusting(&gateway.roots(), None);
    let request = device::request(&key, Some("edge-07"), Some(&token));
    let outcome = device::enroll(&gateway.enroll(), &config, &key, &request).await.unwrap();
    let held = Held { reply: outcome.issued().unwrap(), key };
    let locked = Arc::new(AtomicBool::new(false));
    let face = gateway.manage();
    let renewing = tokio::spawn({
        let locked = Arc::clone(&locked);
        async move {
            let (mut before, mut refused) = (0, 0);
            while refused < 3 {
                let after_lock = locked.load(Ordering::SeqCst);
                let next = Key::generate();
                let outcome = match Connection::open(&face, &held.config()).await {
                    Ok(mut connection) => device::renew_on(&mut connection, &next).await,
                    Err(e) => Err(e),
                };
                match outcome {
                    Ok(Outcome::Issued(_)) => {
                        assert!(!after_lock, "renewed after the lock");
                        before += 1;
                    }
                    Ok(other) => {
                        assert_eq!(other.code().as_deref(), Some("locked"), "{other:?}");
                        refused += 1;
                    }
                    // Cut in the middle.
                    Err(_) => refused += i32::from(after_lock),
                }
            }
            before
        }
    });
    let lock = alice.command(&["machines", "lock", "edge-07", "--reason", "stolen"]);
    let ended = tokio::task::spawn_blocking(move || {
        let mut lock = lock;
        tests::program::run(&mut lock, PATIENCE)
    });
    assert_eq!(ended.await.unwrap().code, 0);
    locked.store(true, Ordering::SeqCst);
    tokio::time::timeout(PATIENCE, renewing).await.unwrap().unwrap();
}

#[test]
fn an_approval_and_a_denial_at_the_same_moment_are_one_or_the_other() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let bob = bob(&gateway, &alice);
    for round in 0..4 {
        let name = format!("edge-{round}");
        let waiting = at_the_gate(&gateway, &name);
        let id = request_id(&alice, &name);
        let yes = alice.start(&["requests", "approve", &id, "--code", &waiting.code]);
        let no = bob.start(&["requests", "deny", &id, "--reason", "no"]);
        let (yes, no) = (yes.end_within(PATIENCE).code, no.end_within(PATIENCE).code);
        assert!((yes == 0) != (no == 0), "approve {yes}, deny {no}");
        let ended = waiting.join.end_within(PATIENCE);
        assert_eq!(ended.code == 0, yes == 0, "{}", ended.stderr);
    }
}

#[test]
fn a_locked_person_may_do_nothing_and_unlocking_mends_it() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let bob = bob(&gateway, &alice);
    let _ = bob.json(&["machines", "list"]);
    alice.ok(&["people", "lock", "bob", "--reason", "left us"]);
    assert_says(&bob.refused(&["machines", "list"]), 9, "the person `bob` is locked: left us");
    alice.ok(&["people", "unlock", "bob"]);
    let _ = bob.json(&["machines", "list"]);
}
