//! Compares the output of `--json` with docs/json.md: one example for each command.

use serde_json::Value;
use tests::gateway::Setup;

use crate::rig::{Connected, Echo, Running, sessions};
use crate::{at_the_gate, joined, request_id};

const DOCUMENT: &str = include_str!("../../../docs/json.md");

/// Members whose value is a map with free names.
const MAPS: [&str; 5] = ["labels", "claimed", "stated", "verified", "detail"];

/// Optional members.
const SOMETIMES: [&str; 9] =
    ["next", "ended", "tunnel", "convergence", "instance", "taken", "same_device", "last_seen", "renaming"];

/// The example for a command: the block behind the heading that names it.
#[track_caller]
fn example(command: &str) -> Value {
    let heading = format!("### `{command}`\n");
    let behind = DOCUMENT.split_once(&heading).unwrap_or_else(|| panic!("docs/json.md has no `{command}`")).1;
    let behind = behind.split("\n### ").next().unwrap();
    let block = behind.split_once("```json\n").unwrap_or_else(|| panic!("`{command}` has no example")).1;
    serde_json::from_str(block.split_once("```").unwrap().0).unwrap_or_else(|e| panic!("`{command}`: {e}"))
}

/// Output and example have the same members with the same types.
#[track_caller]
pub fn check(command: &str, got: &Value) {
    same(command, "", &example(command), got);
}

#[track_caller]
fn same(command: &str, path: &str, example: &Value, got: &Value) {
    match (example, got) {
        (Value::Null, _) | (_, Value::Null) => {}
        (Value::Object(_), Value::Object(got)) if MAPS.iter().any(|map| path.ends_with(map)) => {
            assert!(got.values().all(Value::is_string), "{command}: {path} is no map of text: {got:?}");
        }
        (Value::Object(example), Value::Object(got)) => {
            for (name, value) in got {
                let known = example.get(name).unwrap_or_else(|| {
                    panic!("`{command}` prints `{path}.{name}`, which docs/json.md does not have: {value}")
                });
                same(command, &format!("{path}.{name}"), known, value);
            }
            for name in example.keys().filter(|name| !SOMETIMES.contains(&name.as_str())) {
                assert!(got.contains_key(name), "`{command}` does not print `{path}.{name}`");
            }
        }
        (Value::Array(example), Value::Array(got)) => {
            if let Some(example) = example.first() {
                got.iter().for_each(|got| same(command, &format!("{path}[]"), example, got));
            }
        }
        (example, got) => {
            let kind = std::mem::discriminant;
            assert_eq!(kind(example), kind(got), "{command}: {path} is {got}, and {example} in docs/json.md");
        }
    }
}

#[test]
fn every_command_prints_what_the_document_says() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let does = |command: &str, more: &[&str]| {
        let words: Vec<&str> = command.split(' ').chain(more.iter().copied()).collect();
        let got = alice.json(&words);
        check(command, &got);
        got
    };
    does("tokens create", &["--label", "site=lab"]);
    does("tokens list", &[]);
    let alpha = joined(&gateway, &alice, "alpha");
    check("status", &alpha.json(&["status"]));
    check("renew", &alpha.json(&["renew", "--force"]));
    let alpha = Running::start(alpha, &["--expose", &echo.exposed("echo", "")]);
    does("machines list", &[]);
    does("machines show", &["alpha"]);
    does("machines renew", &["alpha"]);
    does("machines wait", &["alpha", "--online", "--timeout", "10s"]);
    let waiting = at_the_gate(&gateway, "beta");
    let id = request_id(&alice, "beta");
    does("requests list", &[]);
    does("requests show", &[&id]);
    does("requests approve", &[&id, "--code", &waiting.code]);
    drop(waiting);
    let refused = at_the_gate(&gateway, "gamma");
    does("requests deny", &[&request_id(&alice, "gamma"), "--reason", "not ours"]);
    drop(refused);
    does("people invite", &["--name", "bob", "--group", "admins"]);
    does("people list", &[]);
    let mut open = Connected::start(&alice, &["echo@alpha"]);
    open.passes("hello\n");
    does("sessions list", &[]);
    let session = sessions(&alice)[0]["id"].as_str().unwrap().to_owned();
    does("sessions show", &[&session]);
    does("sessions kill", &[&session]);
    drop(open);
    does("locks add", &["machine", "alpha", "--reason", "stolen"]);
    does("locks list", &[]);
    does("machines unlock", &["alpha"]);
    does("machines remove", &["beta"]);
    does("can-i", &["connect", "echo@alpha"]);
    does("audit", &["--limit", "3"]);
    does("ssh-cert known-hosts", &[]);
    does("ssh-config", &[]);
    let mut forward = alice.start(&["--json", "forward", "echo@alpha"]);
    let line = forward.expect_stdout("it listens", |out| out.lines().next().map(str::to_owned));
    check("forward", &serde_json::from_str(&line).unwrap());
    drop(alpha);
    // What goes wrong has one form too, also where the command line is none.
    for args in [&["machines", "show", "nobody"][..], &["machines", "show"], &["machines", "shwo"]] {
        let refused = alice.refused(&[&["--json"], args].concat());
        let got: Value = serde_json::from_str(&refused.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}"));
        check("errors", &got);
        assert_eq!(got["error"]["exit"], refused.code, "{args:?}");
    }
    let help = alice.run(&["--json", "--help"]);
    assert_eq!(help.code, 0);
}
