//! Access that needs both the policy and the owner's `allow`. The groups and labels for `allow` come with each stream, and a refusal
//! says which of the two refused, and the rule.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use serde_json::json;
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::port::Port;
use tests::wait::PATIENCE;

use crate::rig::{Connected, Echo, Helpers, Running, connect, refused, sessions};
use crate::{assert_says, audit, joined, token};

/// A policy that permits all access except to one service name, so that other refusals are the owner's.
const OPEN: &str = "
@id(\"all-connect\") permit(principal is Lychgate::Person, action == Lychgate::Action::\"connect\", resource)
  unless { principal in Lychgate::Group::\"lookers\" };
@id(\"all-reach\") permit(principal is Lychgate::Machine, action == Lychgate::Action::\"reach\", resource);
@id(\"lookers-read\") permit(principal is Lychgate::Person in Lychgate::Group::\"lookers\",
  action == Lychgate::Action::\"read\", resource is Lychgate::Machine);
@id(\"no-payroll\") forbid(principal, action == Lychgate::Action::\"connect\", resource)
  when { resource.name == \"payroll\" };
";

/// A person who was invited into a group.
#[track_caller]
fn member(gateway: &Gateway, alice: &Lychgate, name: &str, group: &str) -> Lychgate {
    let person = gateway.client(name);
    let invitation = alice.json(&["people", "invite", "--name", name, "--group", group]);
    person.ok(&["join", invitation["token"].as_str().unwrap(), "--name", name]);
    person
}

#[test]
fn groups_let_in_people_and_keep_out_the_others() {
    let echo = Echo::start();
    let gateway = Setup::default().policy(OPEN).start();
    let alice = gateway.first_person();
    let [bob, carol] = [("bob", "ops"), ("carol", "dba")].map(|(name, group)| member(&gateway, &alice, name, group));
    let alpha = joined(&gateway, &alice, "alpha");
    // By the file, too.
    let file =
        format!("[expose.filed]\ntarget = \"{}\"\nmode = \"raw\"\nallow = [\"group/ops\", \"group/dba\"]\n", echo.0);
    std::fs::write(alpha.file("services.toml"), file).unwrap();
    let exposed = [
        echo.exposed("raw", ",raw,allow=group/ops"),
        echo.exposed("shut", ",sealed,allow=group/ops"),
        echo.exposed("two", ",raw,allow=group/ops,allow=person/carol"),
        echo.exposed("machines", ",raw,allow=machine"),
        // A label is a machine's, whatever a group is called.
        echo.exposed("labelled", ",raw,allow=label/ops=ops"),
    ];
    let flags: Vec<&str> = exposed.iter().flat_map(|flag| ["--expose", flag]).collect();
    let mut alpha = Running::start(alpha, &flags);
    for (service, admits) in [
        ("raw", [true, false, false]),
        ("shut", [true, false, false]),
        ("two", [true, true, false]),
        ("filed", [true, true, false]),
        ("machines", [false, false, false]),
        ("labelled", [false, false, false]),
    ] {
        for ((name, who), admitted) in [("bob", &bob), ("carol", &carol), ("alice", &alice)].into_iter().zip(admits) {
            if admitted {
                let mut open = Connected::start(who, &["alpha", service]);
                open.passes(&format!("{name} at {service}\n"));
                continue;
            }
            let words = format!(
                "the machine `alpha` itself refused: its owner does not let spiffe://test.example/person/{name} in to `{service}`"
            );
            let said = who.refused(&["connect", "alpha", service]);
            assert_says(&said, 3, &words);
            assert!(said.stderr.contains("hint: ask the machine's owner"), "{}", said.stderr);
            let answer = connect(&gateway, who, &format!("{service}.alpha:1"));
            refused(&answer, 403, "refused-by-machine", "http_request_denied");
            assert_eq!(answer.2["detail"], words);
        }
    }
    let words = "refused spiffe://test.example/person/alice to `raw`: its owner does not let";
    alpha.run.expect_stdout("the owner sees who was refused", |out| out.contains(words).then_some(()));
}

/// Connects to a local address and sends a line; `None` without a reply.
fn heard_back(at: (Ipv4Addr, u16)) -> bool {
    let mut program = TcpStream::connect(at).unwrap();
    program.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut heard = [0; 6];
    program.write_all(b"agent\n").is_ok() && program.read_exact(&mut heard).is_ok() && heard == *b"agent\n"
}

#[test]
fn labels_let_in_machines_and_keep_out_the_others() {
    let echo = Echo::start();
    let gateway = Setup::default().policy(OPEN).start();
    let alice = gateway.first_person();
    let exposed = [
        echo.exposed("master", ",raw,allow=label/role=web"),
        echo.exposed("vault", ",sealed,allow=label/role=web"),
        echo.exposed("named", ",raw,allow=machine/db-1"),
    ];
    let flags: Vec<&str> = exposed.iter().flat_map(|flag| ["--expose", flag]).collect();
    let _infra = Running::start(joined(&gateway, &alice, "infra"), &flags);
    // What a machine says of itself is no label.
    let claim = ["--attribute", "role=web"];
    for (name, labels, claims, admits) in [
        ("web-1", vec!["--label", "role=web", "--label", "site=oslo"], vec![], [true, true, false]),
        ("db-1", vec!["--label", "role=db"], claim.to_vec(), [false, false, true]),
        ("bare-1", vec![], claim.to_vec(), [false, false, false]),
    ] {
        let machine = gateway.client(name);
        machine.ok(&[&["join", &token(&alice, &labels), "--name", name], &claims[..]].concat());
        let ports = [Port::take(), Port::take(), Port::take()];
        let services = ["master", "vault", "named"];
        let reach: Vec<String> = services
            .iter()
            .zip(&ports)
            .map(|(service, port)| format!("{service}={service}.infra:{},raw", port.number()))
            .collect();
        let flags: Vec<&str> = reach.iter().flat_map(|flag| ["--reach", flag]).collect();
        let mut running = Running::start(machine, &flags);
        for ((service, port), admitted) in services.iter().zip(&ports).zip(admits) {
            let heard = heard_back((Ipv4Addr::LOCALHOST, port.number()));
            assert_eq!(heard, admitted, "{name} at {service}\n{}", running.run.stdout());
            if !admitted {
                let words = format!(
                    "no way to `{service}` on infra: the machine `infra` itself refused: its owner does not let \
                     spiffe://test.example/machine/{name} in to `{service}`"
                );
                running.run.expect_stdout("the log says why", |out| out.contains(&words).then_some(()));
            }
        }
    }
}

/// A refusal gives the reason for machines that the person may see; other machines do not exist for them (`access.rs`).
#[test]
fn the_policy_refuses_by_no_rule_or_by_name() {
    let echo = Echo::start();
    let gateway = Setup::default().policy(OPEN).start();
    let alice = gateway.first_person();
    let carol = member(&gateway, &alice, "carol", "lookers");
    let _helpers = [&alice, &carol].map(|who| Helpers::of(who.dir()));
    let exposed = [echo.exposed("web", ",raw"), echo.exposed("payroll", ",raw")];
    let _alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &exposed[0], "--expose", &exposed[1]]);
    assert_eq!(carol.json(&["machines", "show", "alpha"])["tunnel"]["services"], json!(["payroll", "web"]));
    for (who, service, rules, words) in [
        (&carol, "web", vec![], "no rule of the policy allows `connect` here"),
        (&carol, "payroll", vec!["no-payroll"], "the policy refuses `connect` here, by `no-payroll`"),
        (&alice, "payroll", vec!["no-payroll"], "the policy refuses `connect` here, by `no-payroll`"),
        // Nor does one hear whether the machine has such a service.
        (&carol, "nothing", vec![], "no rule of the policy allows `connect` here"),
    ] {
        let answer = connect(&gateway, who, &format!("{service}.alpha:1"));
        refused(&answer, 403, "denied", "http_request_denied");
        assert!(answer.1.contains("Content-Type: application/problem+json"), "{}", answer.1);
        assert_eq!(answer.2["detail"], words, "{}", answer.2);
        let named: Vec<&str> =
            answer.2["rules"].as_array().into_iter().flatten().filter_map(|rule| rule.as_str()).collect();
        assert_eq!(named, rules, "{}", answer.2);
        for args in [vec!["connect", "alpha", service], vec!["connect", "alpha", service, "--helper"]] {
            let said = who.refused(&args);
            assert_says(&said, 3, &format!("lychgate: error: {words}\n"));
            assert!(said.stderr.contains("hint: ask the gateway's operator"), "{}", said.stderr);
        }
    }
    assert_eq!(audit(&alice, "session.opened").len(), 0);
}

#[test]
fn a_forward_listens_where_it_is_told() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", "")]);
    let port = Port::take();
    let listen = format!("127.0.0.1:{}", port.number());
    let mut forward = alice.start(&["forward", "--raw", "alpha", "echo", "--listen", &listen]);
    let words = format!("lychgate: {listen} forwards to echo@alpha");
    forward.expect_stderr("it listens", |said| said.contains(&words).then_some(()));
    assert!(heard_back((Ipv4Addr::LOCALHOST, port.number())));
    // Where somebody listens, where nobody can, and what is no address.
    for (listen, says) in [
        (listen.as_str(), "cannot listen on"),
        ("192.0.2.1:1", "cannot listen on 192.0.2.1:1"),
        ("nowhere", "cannot listen on nowhere"),
    ] {
        let said = alice.refused(&["forward", "--raw", "alpha", "echo", "--listen", listen]);
        assert_says(&said, 2, says);
        assert!(said.stderr.contains("choose another address with --listen"), "{}", said.stderr);
    }
    // Any free port without.
    let mut anywhere = alice.start(&["forward", "--raw", "alpha", "echo"]);
    let at: SocketAddr = anywhere.expect_stderr("it listens", |said| {
        said.split_once("lychgate: ")?.1.split_once(" forwards to")?.0.parse().ok()
    });
    assert!(at.ip().is_loopback() && heard_back((Ipv4Addr::LOCALHOST, at.port())));
    let mut open = TcpStream::connect(at).unwrap();
    open.write_all(b"x").unwrap();
    open.set_read_timeout(Some(PATIENCE)).unwrap();
    open.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(sessions(&alice).last().unwrap()["mode"], "sealed");
}
