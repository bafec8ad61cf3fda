//! Gateways other than the expected one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tests::gateway::{Gateway, Setup};

use crate::{assert_says, items, joined, token};

#[test]
fn a_wrong_pin() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = gateway.client("edge-07");
    let wrong = "0".repeat(64);
    let refused = machine.refused(&["join", &gateway.enroll().url(""), "--pin", &wrong, "--name", "edge-07"]);
    let (presented, says) = (gateway.info().pin, "was expected: it is the wrong gateway, or somebody is in between");
    assert_says(&refused, 6, &format!("presents the root {presented}, and {wrong} {says}"));
    assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);
    // Nothing was said to whoever answered.
    assert!(items(&alice.json(&["requests", "list"])).is_empty());
    // And nothing stands in the way of the right one.
    machine.ok(&["join", &token(&alice, &[]), "--name", "edge-07"]);
}

/// A token whose address belongs to another gateway than its pin.
#[test]
fn another_gateway_at_the_tokens_address() {
    let (expected, impostor) = (Setup::default().start(), Setup::default().start());
    let alice = expected.first_person();
    let token = token(&alice, &[]);
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&parts[1]).unwrap()).unwrap();
    claims["gateway"] = json!(impostor.enroll().authority());
    parts[1] = URL_SAFE_NO_PAD.encode(claims.to_string());
    let machine = expected.client("edge-07");
    let refused = machine.refused(&["join", &parts.join("."), "--name", "edge-07"]);
    let pin = claims["pin"].as_str().unwrap();
    assert_says(&refused, 6, &format!("and {pin} was expected: it is the wrong gateway, or somebody is in between"));
    // The token was kept from whoever answered there.
    let somebody = impostor.first_person();
    assert!(items(&somebody.json(&["requests", "list"])).is_empty());
    assert!(!impostor.log().contains("request refused"), "{}", impostor.log());
}

/// The certificate names `gateway.example` only; the client came by the address.
#[test]
fn a_certificate_for_another_name() {
    let names = |name: &str| toml::Value::Array(vec![name.into()]);
    let gateway = Setup::default()
        .config("names.enroll", names("gateway.example"))
        .config("names.manage", names("gateway.example"))
        .config("names.proxy", names("gateway.example"))
        .start();
    let pin = gateway.info().pin;
    let machine = gateway.client("edge-07");
    let refused = machine.refused(&["join", &gateway.enroll().url(""), "--pin", &pin, "--name", "edge-07"]);
    let place = gateway.enroll().authority();
    assert_says(&refused, 6, &format!("the gateway's certificate is not for the name in {place}"));
    assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);
}

/// After the machine has joined, another gateway answers at the same address.
#[test]
fn another_authority_after_joining() {
    let mut gateway = Setup::default().start();
    let alice = gateway.first_person();
    let machine = joined(&gateway, &alice, "edge-07");
    let before = std::fs::read(machine.file("cert.pem")).unwrap();
    let [enroll, manage] = gateway.ports().map(|port| format!("127.0.0.1:{port}"));
    let _ = gateway.stop();
    let impostor: Gateway = Setup::default()
        .config("listen.enroll", enroll.as_str())
        .config("listen.manage", manage.as_str())
        .config("public.enroll", enroll.as_str())
        .config("public.manage", manage.as_str())
        .start();
    let refused = machine.refused(&["renew", "--force"]);
    assert_says(&refused, 6, "does not lead to a root in our bundle: it is another gateway, or somebody is in between");
    assert_eq!(std::fs::read(machine.file("cert.pem")).unwrap(), before);
    drop(impostor);
    gateway.start();
    machine.ok(&["renew", "--force"]);
}
