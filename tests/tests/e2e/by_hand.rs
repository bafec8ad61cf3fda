//! Runs the scripts in docs/protocol.md unchanged: a machine that joins and renews with openssl and curl alone.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::cli::Lychgate;
use tests::gateway::Setup;
use tests::program::run;
use tests::ssh::make_key;
use tests::wait::PATIENCE;

use crate::request_id;

const PROTOCOL: &str = include_str!("../../../docs/protocol.md");

/// The script of docs/protocol.md that begins with `#!/bin/bash` and this comment.
pub fn script(says: &str) -> String {
    let begin = PROTOCOL.find(&format!("    #!/bin/bash\n    # {says}")).expect("the script is in the description");
    let lines = PROTOCOL[begin..].lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    lines.map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect()
}

/// The command in docs/protocol.md with this beginning, unchanged.
pub fn line(begins: &str) -> &'static str {
    let commands = PROTOCOL.lines().filter_map(|line| line.strip_prefix("    $ "));
    commands.into_iter().find(|line| line.starts_with(begins)).expect("the command is in the description")
}

/// Runs a command, which must succeed; gives what it printed.
#[track_caller]
pub fn bash(room: &Path, command: &str) -> String {
    let mut bash = Command::new("bash");
    let ended = run(bash.args(["-c", command]).current_dir(room), PATIENCE);
    assert_eq!(ended.code, 0, "{command}\n{}{}", ended.stdout, ended.stderr);
    ended.stdout
}

/// The JSON in a reply, behind which `openssl` says that the connection was closed.
fn json(reply: &str) -> Value {
    let from = reply.find('{').unwrap_or_else(|| panic!("no JSON in {reply}"));
    serde_json::Deserializer::from_str(&reply[from..]).into_iter().next().unwrap().unwrap()
}

fn approve(alice: &Lychgate, name: &str, code: &str) {
    alice.ok(&["requests", "approve", &request_id(alice, name), "--code", code]);
}

#[test]
fn a_machine_joins_and_renews_with_openssl_and_curl() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let room = gateway.room().join("by-hand");
    std::fs::create_dir(&room).unwrap();
    std::fs::write(room.join("ask"), script("ask HOST:PORT METHOD PATH [BODY]")).unwrap();
    std::fs::write(room.join("code"), script("code PIN NONCE")).unwrap();
    let (enroll, manage) = (gateway.enroll().authority(), gateway.manage().authority());
    bash(&room, &format!("curl -sSk https://{enroll}/v1/bundle -o bundle.pem"));
    bash(&room, line("openssl genpkey -algorithm EC"));
    bash(&room, line("openssl req -new -key key.pem"));
    let body = r#""{\"csr\":\"$(openssl base64 -A -in csr.der)\",\"wanted_name\":\"hand-2\"}""#;
    let waiting = bash(&room, &format!("bash ask {enroll} POST /v1/enrollments {body}"));
    assert!(waiting.starts_with("HTTP/1.1 202"), "{waiting}");
    let waiting = json(&waiting);
    let (id, nonce) = (waiting["id"].as_str().unwrap(), waiting["nonce"].as_str().unwrap());
    let code = bash(&room, &format!("bash code {} {nonce}", gateway.info().pin));
    approve(&alice, "hand-2", code.trim());
    let issued = bash(&room, &format!("bash ask {enroll} GET '/v1/enrollments/{id}?wait=25'"));
    assert!(issued.starts_with("HTTP/1.1 201"), "{issued}");
    let write = |file: &str, reply: &Value| {
        let text = ["certificate", "chain"].map(|part| reply[part].as_str().unwrap()).concat();
        std::fs::write(room.join(file), text).unwrap();
    };
    write("cert.pem", &json(&issued));
    let curl = |pair: &str, more: &str| bash(&room, &format!("curl -sS {pair} --cacert bundle.pem {more}"));
    let own = curl("--cert cert.pem --key key.pem", &format!("https://{manage}/v1/self"));
    assert_eq!(json(&own)["identity"], "spiffe://test.example/machine/hand-2");
    bash(&room, &line("openssl genpkey -algorithm EC").replace("key.pem", "next.pem"));
    bash(&room, line("openssl req -new -key next.pem"));
    let body = r#"--header 'Content-Type: application/json' --data "{\"csr\":\"$(cat next.csr)\"}""#;
    let renewed = curl("--cert cert.pem --key key.pem", &format!("{body} https://{manage}/v1/renew"));
    write("next-cert.pem", &json(&renewed));
    let own = curl("--cert next-cert.pem --key next.pem", &format!("https://{manage}/v1/self"));
    assert_eq!(json(&own)["identity"], "spiffe://test.example/machine/hand-2");
    assert_ne!(json(&renewed)["serial"], json(&issued)["serial"]);
}

#[test]
fn a_machine_asks_with_its_ssh_host_key() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let room = gateway.room().join("by-hand");
    std::fs::create_dir(&room).unwrap();
    std::fs::write(room.join("ask"), script("ask HOST:PORT METHOD PATH [BODY]")).unwrap();
    std::fs::write(room.join("host-key"), script("host-key EXPORTER")).unwrap();
    make_key(&room.join("ssh_host"));
    let enroll = gateway.enroll().authority();
    bash(&room, &format!("curl -sSk https://{enroll}/v1/bundle -o bundle.pem; chmod +x host-key"));
    bash(&room, line("openssl genpkey -algorithm EC"));
    bash(&room, line("openssl req -new -key key.pem"));
    let command = line("./ask 127.0.0.1:8443 POST /v1/enrollments @").replace("./ask 127.0.0.1:8443", "bash ask $AT");
    let ours = format!("export AT={enroll} HOST_KEY=ssh_host TRUST_DOMAIN=test.example");
    let waiting = bash(&room, &format!("{ours}; {command}"));
    assert!(waiting.starts_with("HTTP/1.1 202"), "{waiting}");
    let shown = alice.json(&["requests", "show", &request_id(&alice, "hand-3")]);
    let listed = bash(&room, "ssh-keygen -lf ssh_host.pub");
    let fingerprint = shown["verified"]["sshhost_fingerprint"].as_str().unwrap();
    assert!(listed.contains(fingerprint), "{listed}{shown}");
    assert_eq!(shown["verified"]["sshhost_trust"], "none");
}
