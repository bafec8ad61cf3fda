//! Invalid join tokens, each with its refusal.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tests::cli::Lychgate;
use tests::device::{self, Held, Key, Outcome};
use tests::gateway::{Gateway, Setup};
use tests::tls;
use tests::wait::{PATIENCE, eventually, unix_now};

use crate::{assert_refused, assert_says, audit, items, token};

/// A running gateway with a person who makes tokens, and a TLS client without certificate.
struct Gate {
    gateway: Gateway,
    alice: Lychgate,
    config: Arc<ClientConfig>,
}

impl Gate {
    fn open() -> Self {
        let gateway = Setup::default().start();
        let alice = gateway.first_person();
        let config = tls::trusting(&gateway.roots(), None);
        Self { gateway, alice, config }
    }

    async fn redeem(&self, key: &Key, token: &str) -> Outcome {
        self.redeem_as(key, None, token).await
    }

    async fn redeem_as(&self, key: &Key, name: Option<&str>, token: &str) -> Outcome {
        let request = device::request(key, name, Some(token));
        device::enroll(&self.gateway.enroll(), &self.config, key, &request).await.unwrap()
    }

    #[track_caller]
    fn assert_nobody_came_in(&self) {
        let machines = items(&self.alice.json(&["machines", "list"]));
        assert!(machines.is_empty(), "{machines:?}");
        assert!(audit(&self.alice, "token.redeemed").iter().all(|event| event["subject"] != "machine"));
    }
}

#[tokio::test]
async fn an_expired_token() {
    let gate = Gate::open();
    let made = gate.alice.json(&["tokens", "create", "--ttl", "1s"]);
    let (token, expires) = (made["token"].as_str().unwrap(), made["expires"].as_u64().unwrap());
    eventually("the token's end", PATIENCE, || (unix_now() > expires + 1).then_some(()));
    let says = "the join token expired";
    assert_refused(&gate.redeem(&Key::generate(), token).await, "token-expired", says, "expired");
    assert_says(&gate.gateway.client("edge-07").refused(&["join", token, "--name", "edge-07"]), 3, says);
    gate.assert_nobody_came_in();
}

#[tokio::test]
async fn a_token_is_redeemed_for_a_key_and_not_by_a_request() {
    let gate = Gate::open();
    let token = token(&gate.alice, &[]);
    let key = Key::generate();
    let first = gate.redeem_as(&key, Some("edge-07"), &token).await.issued().unwrap();
    // The reply was lost: the same key asks again and gets the same certificate.
    let again = gate.redeem_as(&key, Some("edge-07"), &token).await.issued().unwrap();
    assert_eq!(first.certificate, again.certificate);
    // Another key does not.
    let says = "the join token was already used by another key";
    assert_refused(&gate.redeem(&Key::generate(), &token).await, "token-spent", says, "another key");
    assert_says(&gate.gateway.client("edge-08").refused(&["join", &token, "--name", "edge-08"]), 3, says);
    assert_eq!(items(&gate.alice.json(&["machines", "list"])).len(), 1);
}

#[tokio::test]
async fn racing_keys_share_no_token() {
    let gate = Gate::open();
    let token = token(&gate.alice, &["--uses", "2"]);
    let mut races = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (face, config, token) = (gate.gateway.enroll(), Arc::clone(&gate.config), token.clone());
        races.spawn(async move {
            let key = Key::generate();
            let request = device::request(&key, None, Some(&token));
            device::enroll(&face, &config, &key, &request).await.unwrap()
        });
    }
    let outcomes = races.join_all().await;
    let admitted = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Issued(_))).count();
    assert_eq!(admitted, 2, "{outcomes:?}");
    for outcome in outcomes.iter().filter(|outcome| !matches!(outcome, Outcome::Issued(_))) {
        assert_refused(outcome, "token-spent", "already used", "a slower key");
    }
}

#[tokio::test]
async fn a_revoked_token() {
    let gate = Gate::open();
    let made = gate.alice.json(&["tokens", "create"]);
    gate.alice.ok(&["tokens", "revoke", made["id"].as_str().unwrap()]);
    let token = made["token"].as_str().unwrap();
    let says = "the join token was revoked";
    assert_refused(&gate.redeem(&Key::generate(), token).await, "token-revoked", says, "revoked");
    assert_says(&gate.gateway.client("edge-07").refused(&["join", token, "--name", "edge-07"]), 3, says);
    gate.assert_nobody_came_in();
}

#[tokio::test]
async fn a_token_for_one_key_or_one_name() {
    let gate = Gate::open();
    let (right, wrong) = (Key::generate(), Key::generate());
    let bound = token(&gate.alice, &["--key", &right.digest]);
    let lent = gate.redeem(&wrong, &bound).await;
    assert_refused(&lent, "token-not-for-key", "the join token is for another key", "lent");
    assert!(gate.redeem(&right, &bound).await.issued().is_some());

    let named = token(&gate.alice, &["--name", "rack-1"]);
    let refused = gate.redeem_as(&wrong, Some("rack-2"), &named).await;
    assert_refused(&refused, "name-illegal", "the evidence shown is for rack-1", "a name that the token allows");
    let admitted = gate.redeem_as(&wrong, Some("rack-1"), &named).await.issued().unwrap();
    assert_eq!(admitted.identity, "spiffe://test.example/machine/rack-1");
}

/// The three parts of a JWT, the first two as JSON.
fn parts(token: &str) -> (Value, Value, String) {
    let parts: Vec<&str> = token.split('.').collect();
    let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    (json(parts[0]), json(parts[1]), parts[2].to_owned())
}

fn assemble(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

/// Number of characters by which a token is truncated: a part of its signature.
const CUT: usize = 22;

/// Changes of a valid token, and the gateway's refusals.
fn bent(token: &str) -> Vec<(&'static str, String, &'static str)> {
    let (header, claims, signature) = parts(token);
    let with = |key: &str, value: Value| {
        let mut claims = claims.clone();
        claims[key] = value;
        claims
    };
    let stranger = EncodingKey::from_ec_der(&Key::generate().pkcs8);
    let signed = |claims: &Value| jsonwebtoken::encode(&Header::new(Algorithm::ES256), claims, &stranger).unwrap();
    let none = |alg: &str| assemble(&json!({"alg": alg, "typ": "JWT"}), &claims, "");
    let pin = claims["pin"].as_str().unwrap().as_bytes();
    let mac = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(pin).unwrap()).unwrap();
    let mut flipped = signature.clone().into_bytes();
    flipped[10] = if flipped[10] == b'A' { b'B' } else { b'A' };
    let (no_jwt, not_ours, cut) = ("it is not a JWT", "this gateway did not sign it", "it is cut short");
    let other_algorithm = "its algorithm is not ES256";
    vec![
        ("alg none", none("none"), other_algorithm),
        ("alg None", none("None"), other_algorithm),
        ("alg NONE", none("NONE"), other_algorithm),
        ("alg none with the old signature", assemble(&json!({"alg": "none"}), &claims, &signature), other_algorithm),
        ("no alg", assemble(&json!({"typ": "JWT"}), &claims, &signature), no_jwt),
        ("a MAC keyed with something public", mac, other_algorithm),
        ("signed by somebody else", signed(&claims), not_ours),
        ("a later end", assemble(&header, &with("exp", json!(4_102_444_800_u64)), &signature), not_ours),
        ("another audience", signed(&with("aud", json!("lychgate-manage"))), not_ours),
        ("another issuer", signed(&with("iss", json!("spiffe://other.example"))), not_ours),
        ("another id", assemble(&header, &with("jti", json!("t-000")), &signature), not_ours),
        (
            "a signature with one bit changed",
            assemble(&header, &claims, &String::from_utf8(flipped).unwrap()),
            not_ours,
        ),
        ("a signature of nothing", assemble(&header, &claims, &URL_SAFE_NO_PAD.encode([0; 64])), not_ours),
        ("no signature", assemble(&header, &claims, ""), cut),
        ("an end in words", assemble(&header, &with("exp", json!("tomorrow")), &signature), "it is malformed"),
        ("cut short", token[..token.len() - CUT].to_owned(), cut),
        ("two parts", token.rsplit_once('.').unwrap().0.to_owned(), no_jwt),
        ("not a token", "hello".to_owned(), no_jwt),
        ("nothing", String::new(), no_jwt),
        ("far too long", "a".repeat(20_000), "it is too long"),
    ]
}

#[tokio::test]
async fn bent_tokens_are_all_refused() {
    let gate = Gate::open();
    let token = token(&gate.alice, &[]);
    for (what, bent, says) in bent(&token) {
        assert_refused(&gate.redeem(&Key::generate(), &bent).await, "token-invalid", says, what);
    }
    gate.assert_nobody_came_in();
    // None of that spent the good one.
    assert!(gate.redeem(&Key::generate(), &token).await.issued().is_some());
}

/// The same at the keyboard: what the client can see by itself is a mistake of the command line, the rest is the gateway's
/// to refuse.
#[test]
fn the_client_says_what_is_wrong_with_a_token() {
    let gate = Gate::open();
    let token = token(&gate.alice, &[]);
    let (header, claims, signature) = parts(&token);
    let elsewhere = json!({"aud": "somewhere-else"});
    let pinless = json!({"aud": "lychgate-join"});
    let rows = [
        ("another audience", assemble(&header, &elsewhere, &signature), 2, "one for `somewhere-else`"),
        ("claims missing", assemble(&header, &pinless, &signature), 2, "the token is damaged: a claim is missing"),
        ("letters lost", token.replacen('.', ".!", 1), 2, "the token is damaged"),
        ("alg none", assemble(&json!({"alg": "none"}), &claims, ""), 3, "its algorithm is not ES256"),
        ("badly signed", assemble(&header, &claims, &"A".repeat(86)), 3, "this gateway did not sign it"),
        ("cut short", token[..token.len() - CUT].to_owned(), 3, "it is cut short"),
        ("cut in the middle", token[..60].to_owned(), 2, "the token is damaged: it does not have three parts"),
    ];
    for (what, text, code, says) in rows {
        let machine = gate.gateway.client("edge-07");
        let refused = machine.refused(&["join", &text, "--name", "edge-07"]);
        assert_says(&refused, code, says);
        assert!(refused.stderr.contains("error:") && refused.stderr.contains("hint:"), "{what}: {}", refused.stderr);
        assert!(!machine.file("cert.pem").exists(), "{what}");
    }
}

#[tokio::test]
async fn a_token_of_another_gateway() {
    let (here, there) = (Gate::open(), Gate::open());
    let foreign = token(&there.alice, &[]);
    let outcome = here.redeem(&Key::generate(), &foreign).await;
    assert_refused(&outcome, "token-invalid", "this gateway did not sign it", "of another gateway");
}

#[tokio::test]
async fn an_invitation_makes_no_machine_and_a_machines_token_no_person() {
    let gate = Gate::open();
    let invitation = gate.alice.json(&["people", "invite", "--name", "bob"]);
    let key = Key::generate();
    let outcome = gate.redeem_as(&key, Some("bob"), invitation["token"].as_str().unwrap()).await;
    let reply = outcome.issued().unwrap();
    assert_eq!(reply.identity, "spiffe://test.example/person/bob");
    let bob = Held { reply, key };
    // Invited without a group, bob may approve nobody.
    let mut connection = tests::http::Connection::open(&gate.gateway.manage(), &bob.config()).await.unwrap();
    let refused = connection.post("/v1/tokens", &wire::admin::TokenRequest::default()).await.unwrap();
    assert_eq!(refused.status, 403, "{refused}");
    let machine = gate.gateway.client("carol");
    machine.ok(&["join", &token(&gate.alice, &[]), "--name", "carol"]);
    assert_eq!(machine.json(&["status"])["identity"], "spiffe://test.example/machine/carol");
}
