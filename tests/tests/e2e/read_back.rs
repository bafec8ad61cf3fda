//! Machines for which their owners write a text where the gateway reads it: an https server in Python has it, as a hoster's or as a
//! resolver's answer.

use std::time::Duration;

use serde_json::json;
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::issuer::Issuer;
use tests::program::Program;
use toml::Table;

use crate::assert_says;

/// Longer than the pauses of a machine whose owner took too long at first.
const PATIENCE: Duration = Duration::from_secs(90);

/// The rule in the operator's guide, unchanged.
fn rule_of_the_guide() -> String {
    const GUIDE: &str = include_str!("../../../docs/operator.md");
    let begin = GUIDE.find("    @id(\"owner-wrote-it\")").expect("the rule is in the guide");
    let lines = GUIDE[begin..].lines().take_while(|line| line.starts_with("    "));
    lines.map(|line| format!("{}\n", &line[4..])).collect()
}

/// A gateway with two places on this server, and who may administer it.
fn reading(server: &Issuer) -> Gateway {
    let (url, ca) = (server.name(), server.ca());
    let reached = format!("ca = '{}'\nprivate_network = true\n", ca.display());
    let section = format!(
        "[places.dns]\ndns = 'example.com'\nresolver = '{url}/resolve'\n{reached}\
         [places.hoster]\nurl = '{url}/{{name}}.txt'\nwhere = 'the notes of the server {{name}}'\n{reached}"
    );
    let section: Table = section.parse().unwrap();
    Setup::default().config("attest.read-back", section).policy(&rule_of_the_guide()).start()
}

/// Starts to join; gives what the owner is to write.
#[track_caller]
fn joining(gateway: &Gateway, machine: &Lychgate, name: &str) -> (Program, String) {
    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    let mut join = machine.start(&["join", &url, "--pin", &pin, "--name", name, "--attest", "read-back"]);
    let begin = format!("lychgate_{name}_");
    let text = join.expect_stderr("what the owner writes", |screen| {
        let at = screen.find(&begin)?;
        screen[at..].split_once('`').map(|(text, _)| text.to_owned())
    });
    (join, text)
}

#[test]
fn an_owner_writes_what_the_gateway_gave_and_the_machine_joins() {
    let mut server = Issuer::new();
    server.start();
    let gateway = reading(&server);
    let alice = gateway.first_person();
    let by_dns = gateway.client("web-1");
    let (dns, dns_text) = joining(&gateway, &by_dns, "web-1");
    let told = dns.stderr();
    assert!(
        told.contains("into the TXT record of _lychgate.web-1.example.com, or into the notes of the server web-1;"),
        "{told}"
    );
    let answer =
        json!({ "Status": 0, "Answer": [{ "name": "n.", "type": 16, "TTL": 60, "data": format!("\"{dns_text}\"") }] });
    std::fs::write(server.file("public/resolve"), answer.to_string()).unwrap();
    // This owner is late: the text is not there yet when the machine comes with its ticket, and the same one is asked for again.
    let late = gateway.client("web-2");
    let (notes, notes_text) = joining(&gateway, &late, "web-2");
    std::thread::sleep(Duration::from_secs(12));
    std::fs::write(server.file("public/web-2.txt"), format!("bought 2026\n{notes_text}\n")).unwrap();
    for (name, join, place) in [("web-1", dns, "dns"), ("web-2", notes, "hoster")] {
        let ended = join.end_within(PATIENCE);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let shown = alice.json(&["machines", "show", name]);
        assert_eq!(
            (&shown["verified"]["read_back_place"], &shown["verified"]["read_back_name"]),
            (&place.into(), &name.into())
        );
        assert_eq!(shown["assurance"], "software", "{shown}");
        assert_eq!(ended.stderr.matches("the owner of this machine writes").count(), 1, "{}", ended.stderr);
    }
    // It is for joining alone, and renewals go on without it.
    by_dns.ok(&["renew", "--force"]);
    by_dns.ok(&["renew", "--force"]);
}

#[test]
fn what_another_wrote_admits_nobody_else() {
    let mut server = Issuer::new();
    server.start();
    let gateway = reading(&server);
    let _alice = gateway.first_person();
    let (owner, text) = joining(&gateway, &gateway.client("web-1"), "web-1");
    // Whoever asks for the same name at the same time is given another text.
    let (mut other, others) = joining(&gateway, &gateway.client("thief"), "web-1");
    assert_ne!(text, others);
    std::fs::write(server.file("public/web-1.txt"), &text).unwrap();
    assert_eq!(owner.end_within(PATIENCE).code, 0);
    std::thread::sleep(Duration::from_secs(12));
    assert!(other.runs(), "it goes on waiting for its own text\n{}", other.stderr());
    other.kill();
    // Evidence that an owner has to do something for is not offered by itself, and a person decides.
    let quiet = gateway.client("quiet");
    let (url, pin) = (gateway.enroll().url(""), gateway.info().pin);
    let waits = quiet.run(&["join", &url, "--pin", &pin, "--name", "quiet", "--no-wait"]);
    assert_eq!(waits.code, 4, "{}", waits.stderr);
    assert!(!waits.stderr.contains("read-back"), "{}", waits.stderr);
    // A gateway without places does not accept it.
    let none = Setup::default().start();
    let (url, pin) = (none.enroll().url(""), none.info().pin);
    let named =
        none.client("m").run(&["join", &url, "--pin", &pin, "--name", "m", "--attest", "read-back", "--no-wait"]);
    assert_says(&named, 1, "the evidence `read-back` was asked for: the gateway does not accept it");
}
