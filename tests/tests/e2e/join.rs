//! The main path: join, wait, be approved, renew, be locked, be cloned.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::cli::{Lychgate, waiting_code};
use tests::gateway::{Gateway, Setup};
use tests::http::Connection;
use tests::program::run;
use tests::tls;
use tests::wait::{PATIENCE, Stopwatch, eventually};

use crate::{assert_says, at_the_gate, at_the_gate_in, audit, items, joined, request_id, token};

#[test]
fn a_stranger_waits_until_a_person_types_the_code_on_its_screen() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let waiting = at_the_gate(&gateway, "edge-07");

    let id = request_id(&alice, "edge-07");
    let shown = alice.ok(&["requests", "show", &id]);
    assert!(!shown.contains(&waiting.code), "the approver must read the code on the machine, not here:\n{shown}");
    alice.ok(&["requests", "approve", &id, "--code", &waiting.code]);

    let ended = waiting.join.end_within(PATIENCE);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let status = waiting.machine.json(&["status"]);
    assert_eq!(status["identity"], "spiffe://test.example/machine/edge-07", "{status}");
    let mode = |name: &str| std::fs::metadata(waiting.machine.file(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("key.pem"), 0o600);
    for name in ["cert.pem", "chain.pem", "bundle.pem", "state.json"] {
        assert!(waiting.machine.file(name).is_file(), "{name}");
    }
    let machines = items(&alice.json(&["machines", "list"]));
    assert_eq!(machines.len(), 1, "{machines:?}");
    assert_eq!(machines[0]["name"], "edge-07");
    for event in ["enrollment.waiting", "enrollment.approved", "certificate.issued"] {
        assert!(!audit(&alice, event).is_empty(), "no `{event}` in the audit");
    }
}

#[test]
fn a_wrong_code_does_not_admit() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let mut waiting = at_the_gate(&gateway, "edge-07");
    let id = request_id(&alice, "edge-07");
    let wrong = if waiting.code.starts_with('0') { "1111-1111" } else { "0000-0000" };

    let refused = alice.refused(&["requests", "approve", &id, "--code", wrong]);
    assert_says(&refused, 3, "the code does not match what the machine shows");
    assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);
    assert!(waiting.join.runs(), "{}", waiting.join.stderr());
    assert_eq!(audit(&alice, "enrollment.wrong-code").len(), 1);
    assert!(items(&alice.json(&["machines", "list"])).is_empty());
    // Without a code the approver must say so.
    assert_says(&alice.refused(&["requests", "approve", &id]), 2, "--unchecked");
    // A slip of the finger costs nothing but the event.
    alice.ok(&["requests", "approve", &id, "--code", &waiting.code.to_lowercase().replace('-', " ")]);
    assert_eq!(waiting.join.end_within(PATIENCE).code, 0);
}

#[test]
fn an_approver_may_say_that_the_code_was_not_checked() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let waiting = at_the_gate(&gateway, "edge-07");
    let id = request_id(&alice, "edge-07");
    alice.ok(&["requests", "approve", &id, "--unchecked", "--name", "rack-1", "--label", "site=oslo"]);
    assert_eq!(waiting.join.end_within(PATIENCE).code, 0);
    let machine = alice.json(&["machines", "show", "rack-1"]);
    assert_eq!(machine["labels"]["site"], "oslo", "{machine}");
    let approved = audit(&alice, "enrollment.approved");
    assert_eq!(approved[0]["detail"]["code_checked"], "false", "{approved:?}");
}

#[test]
fn a_token_admits_at_once() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = gateway.client("edge-07");
    let token = token(&alice, &["--label", "site=oslo", "--ttl", "10m"]);
    machine.ok(&["join", &token, "--name", "edge-07"]);
    let status = machine.json(&["status"]);
    assert_eq!(status["identity"], "spiffe://test.example/machine/edge-07", "{status}");
    assert_eq!(alice.json(&["machines", "show", "edge-07"])["labels"]["site"], "oslo");
    // To join again with an identity in place changes nothing.
    let before = std::fs::read(machine.file("cert.pem")).unwrap();
    let _ = machine.run(&["join", &token, "--name", "edge-07"]);
    assert_eq!(std::fs::read(machine.file("cert.pem")).unwrap(), before);
}

#[test]
fn an_interrupted_join_resumes_the_same_request() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let first = at_the_gate(&gateway, "edge-07");
    first.join.signal(Signal::INT);
    let ended = first.join.end_within(PATIENCE);
    assert_eq!(ended.code, 4, "waiting for approval has an exit code of its own\n{}", ended.stderr);

    let id = request_id(&alice, "edge-07");
    let again = at_the_gate(&gateway, "edge-07");
    assert_eq!(again.code, first.code);
    assert_eq!(request_id(&alice, "edge-07"), id);
    alice.ok(&["requests", "approve", &id, "--code", &again.code]);
    assert_eq!(again.join.end_within(PATIENCE).code, 0);
}

#[test]
fn a_machine_approved_while_nobody_waited_collects_its_certificate_later() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = gateway.client("edge-07");
    let pin = gateway.info().pin;
    let url = gateway.enroll().url("");
    let ended = machine.run(&["join", &url, "--pin", &pin, "--name", "edge-07", "--no-wait"]);
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    let code = waiting_code(&ended.stderr).or_else(|| waiting_code(&ended.stdout)).expect("no code shown");
    assert_eq!(machine.run(&["status"]).code, 4);
    let id = request_id(&alice, "edge-07");
    alice.ok(&["requests", "approve", &id, "--code", &code]);
    machine.ok(&["join", &url, "--pin", &pin, "--name", "edge-07", "--no-wait"]);
    machine.ok(&["status"]);
}

#[test]
fn several_may_want_one_name_and_the_approved_one_gets_it() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let honest = at_the_gate_in(&gateway, "honest", "edge-07");
    let id = request_id(&alice, "edge-07");
    let mut rival = at_the_gate_in(&gateway, "rival", "edge-07");
    assert_ne!(honest.code, rival.code);
    let request = alice.json(&["requests", "show", &id]);
    assert_eq!(request["rivals"].as_array().map(Vec::len), Some(1), "{request}");
    // The rival's code does not open the honest one's request.
    alice.refused(&["requests", "approve", &id, "--code", &rival.code]);
    alice.ok(&["requests", "approve", &id, "--code", &honest.code]);
    assert_eq!(honest.join.end_within(PATIENCE).code, 0);
    // The other one still waits and may be given another name, but not this one.
    assert!(rival.join.runs());
    let other = request_id(&alice, "edge-07");
    assert_ne!(other, id);
    let taken = alice.refused(&["requests", "approve", &other, "--code", &rival.code]);
    assert_says(&taken, 3, "the name `edge-07` is taken");
    alice.ok(&["requests", "approve", &other, "--code", &rival.code, "--name", "edge-08"]);
    assert_eq!(rival.join.end_within(PATIENCE).code, 0);
    assert_eq!(rival.machine.json(&["status"])["identity"], "spiffe://test.example/machine/edge-08");
}

#[test]
fn a_denied_machine_is_told_why() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let waiting = at_the_gate(&gateway, "edge-07");
    let id = request_id(&alice, "edge-07");
    alice.ok(&["requests", "deny", &id, "--reason", "not one of ours"]);
    let ended = waiting.join.end_within(PATIENCE);
    assert_says(&ended, 3, "an approver denied this request: not one of ours");
    assert!(ended.stderr.contains("hint:"), "{}", ended.stderr);
    assert!(!waiting.machine.file("cert.pem").exists());
    assert_eq!(audit(&alice, "enrollment.denied").len(), 1);
}

#[test]
fn two_approvals_where_the_policy_wants_two() {
    let gateway = Setup::default().init();
    gateway.edit_policy(|text| text.replace("@approvals(\"1\")", "@approvals(\"2\")"));
    let mut gateway = gateway;
    gateway.start();
    let alice = gateway.first_person();
    let bob = gateway.client("bob");
    let invitation = alice.json(&["people", "invite", "--name", "bob", "--group", "admins"]);
    bob.ok(&["join", invitation["token"].as_str().unwrap(), "--name", "bob"]);

    let mut waiting = at_the_gate(&gateway, "edge-07");
    let id = request_id(&alice, "edge-07");
    alice.ok(&["requests", "approve", &id, "--code", &waiting.code]);
    let twice = alice.refused(&["requests", "approve", &id, "--code", &waiting.code]);
    assert!(twice.stderr.contains("already"), "{}", twice.stderr);
    assert!(waiting.join.runs(), "one approval admitted\n{}", waiting.join.stderr());
    bob.ok(&["requests", "approve", &id, "--code", &waiting.code]);
    assert_eq!(waiting.join.end_within(PATIENCE).code, 0);
}

#[test]
fn an_invited_person_joins_and_may_do_what_the_policy_says() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let carol = gateway.client("carol");
    let invitation = alice.json(&["people", "invite", "--name", "carol", "--ttl", "1h"]);
    carol.ok(&["join", invitation["token"].as_str().unwrap(), "--name", "carol"]);
    assert_eq!(carol.json(&["status"])["identity"], "spiffe://test.example/person/carol");
    let names: BTreeSet<String> =
        items(&alice.json(&["people", "list"])).iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, BTreeSet::from(["alice".to_owned(), "carol".to_owned()]));

    let waiting = at_the_gate(&gateway, "edge-07");
    let id = request_id(&alice, "edge-07");
    let refused = carol.refused(&["requests", "approve", &id, "--code", &waiting.code]);
    // What one may neither approve nor see is not there.
    assert_says(&refused, 1, "no such request");
    assert_eq!(carol.json(&["can-i", "administer"])["allowed"], Value::Bool(false));
    let answer = alice.json(&["can-i", "administer", "--explain"]);
    assert_eq!(answer["allowed"], Value::Bool(true), "{answer}");
    assert_eq!(answer["rules"], serde_json::json!(["admins"]));
}

#[test]
fn without_a_pin_and_without_a_terminal_nobody_is_trusted() {
    let gateway = Setup::default().start();
    let machine = gateway.client("edge-07");
    let refused = machine.refused(&["join", &gateway.enroll().url(""), "--name", "edge-07"]);
    assert_says(&refused, 6, "no pin is given for the gateway");
    assert!(refused.stderr.contains("--pin"), "{}", refused.stderr);
    assert!(!machine.file("cert.pem").exists());
}

/// `curl` on the manage face; gives its exit code and what it printed.
fn curl(gateway: &Gateway, machine: &Lychgate, with_certificate: bool) -> (i32, String) {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "20", "--cacert"]).arg(machine.file("bundle.pem"));
    if with_certificate {
        curl.arg("--cert").arg(machine.file("cert.pem")).arg("--key").arg(machine.file("key.pem"));
    }
    curl.args(["--write-out", " %{http_code}"]).arg(gateway.manage().url("/v1/self"));
    let ended = run(&mut curl, PATIENCE);
    (ended.code, ended.stdout)
}

#[test]
fn curl_speaks_with_the_files_and_is_refused_without_them() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let (code, printed) = curl(&gateway, &machine, true);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("spiffe://test.example/machine/edge-07") && printed.ends_with(" 200"), "{printed}");
    // No certificate: the handshake fails, there is no HTTP status at all.
    let (code, printed) = curl(&gateway, &machine, false);
    assert_ne!(code, 0);
    assert_eq!(printed.trim(), "000");
}

#[test]
fn openssl_takes_the_issued_chain() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let mut openssl = Command::new("openssl");
    openssl
        .args(["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"])
        .arg(machine.file("bundle.pem"))
        .arg("-untrusted")
        .arg(machine.file("chain.pem"))
        .arg(machine.file("cert.pem"));
    let ended = run(&mut openssl, PATIENCE);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
}

/// Certificates live for a minute, the shortest the policy allows, so four renewals take about two.
#[test]
fn run_renews_four_times_unattended() {
    let gateway = Setup::default().machine_lifetime("60s").start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let renewals = machine.file("renewals");
    let hook = format!("echo renewed >> '{}'", renewals.display());
    let mut daemon = machine.start(&["run", "--hook", &hook]);
    let mut certificates = BTreeSet::from([std::fs::read(machine.file("cert.pem")).unwrap()]);
    eventually("four renewals", Duration::from_secs(240), || {
        assert!(daemon.runs(), "the daemon ended\n{}", daemon.stderr());
        certificates.insert(std::fs::read(machine.file("cert.pem")).unwrap());
        (certificates.len() >= 5).then_some(())
    });
    let (code, printed) = curl(&gateway, &machine, true);
    assert_eq!(code, 0, "{printed}");
    let hooks = std::fs::read_to_string(&renewals).unwrap_or_default();
    assert!(hooks.lines().count() >= 3, "the hook ran {} times\n{}", hooks.lines().count(), daemon.stderr());
    let ended = daemon.stop();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

#[tokio::test]
async fn a_lock_is_felt_on_the_next_call_within_a_second() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let config = tls::trusting(&gateway.roots(), Some(&machine.identity()));
    let mut open = Connection::open(&gateway.manage(), &config).await.unwrap();
    assert_eq!(open.get("/v1/self").await.unwrap().status, 200);

    alice.ok(&["machines", "lock", "edge-07", "--reason", "stolen"]);
    let locked = Stopwatch::start();
    // The open connection, if it was not cut at once.
    match open.get("/v1/self").await {
        Ok(reply) => assert_eq!(reply.status, 403, "{reply}"),
        Err(cut) => assert_ne!(cut.kind(), std::io::ErrorKind::TimedOut),
    }
    locked.assert_within(Duration::from_secs(1), "the cut");
    // A new one.
    let refused = machine.refused(&["renew", "--force"]);
    assert_says(&refused, 9, "the machine `edge-07` is locked: stolen");
    assert_eq!(audit(&alice, "lock.set").len(), 1);

    alice.ok(&["machines", "unlock", "edge-07"]);
    machine.ok(&["renew", "--force"]);
}

#[test]
fn a_cloned_directory_is_caught_and_its_lineage_locked() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    machine.ok(&["renew", "--force"]);
    let clone = gateway.client("clone");
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(machine.dir()).arg(clone.dir());
    assert_eq!(run(&mut copy, PATIENCE).code, 0);

    // Both keep renewing. The first renewal is honest; the other copy then uses a certificate that was replaced.
    machine.ok(&["renew", "--force"]);
    let says = "two holders of one key were seen: spiffe://test.example/machine/edge-07";
    assert_says(&clone.refused(&["renew", "--force"]), 9, says);
    // The lineage is locked: the original is out as well, until a person has looked.
    assert_says(&machine.refused(&["renew", "--force"]), 9, says);
    // Whoever may mend it is told without asking.
    let told = alice.run(&["machines", "list"]);
    assert_says(&told, 0, "machine `edge-07` is locked");
    let shown = alice.json(&["machines", "show", "edge-07"]);
    assert_eq!(shown["state"], "locked", "{shown}");
    let forks = audit(&alice, "lineage.forked");
    assert_eq!(forks.len(), 1, "{forks:?}");
    let why = forks[0]["detail"]["why"].as_str().unwrap_or_default();
    assert_eq!(why, "a certificate that was replaced asked to be renewed", "{forks:?}");
    // Another machine of the same gateway feels nothing.
    joined(&gateway, &alice, "edge-08").ok(&["renew", "--force"]);
}

#[test]
fn a_machine_that_leaves_is_gone() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let identity = machine.identity();
    machine.ok(&["leave"]);
    assert_eq!(machine.run(&["status"]).code, 8);
    let config = tls::trusting(&gateway.roots(), Some(&identity));
    let manage = gateway.manage();
    let answer = tests::raw::get(manage.address, &manage.name, &config, "/v1/self");
    assert_ne!(answer.map(|(status, _)| status), Some(200));
    // The name is free again.
    let again = gateway.client("again");
    again.ok(&["join", &token(&alice, &[]), "--name", "edge-07"]);
}
