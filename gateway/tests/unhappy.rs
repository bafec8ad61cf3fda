//! Unhappy paths that only somebody with the gateway's own keys, or with an owner among the people, can walk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway::flow::asked::TokenWish;
use gateway::{core::refusal::Refusal, flow};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use story::{DAY, Story, all};

/// The claims of a token, unverified.
fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// A JWS by the gateway's own token key, whatever it says.
async fn sign(story: &Story, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let signature = story.shell.signer.token(text.clone()).await.unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// What the gateway says to a token with other claims, signed by its own token key all the same.
#[track_caller]
fn check(what: &str, refused: &Refusal, says: &str) {
    let Refusal::Evidence(reject) = refused else { panic!("{what}: {refused:?}") };
    let why = &reject.text;
    assert!(reject.code.name == "token-invalid" && why.contains(says), "{what}: {why}");
}

#[tokio::test]
async fn of_sixty_four_who_redeem_a_token_at_once_one_joins() {
    let story = Story::new().await;
    let token = story.token(TokenWish::default()).await;
    let racers: Vec<_> = (0..64).map(|at| (story.stranger(), format!("edge-{at}"))).collect();
    let outcomes = all(racers.iter().map(|(racer, name)| racer.join(&token, name))).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 63));
    for outcome in lost {
        let Err(Refusal::Evidence(reject)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(reject.code.name, "token-spent", "{reject}");
    }
}

#[tokio::test]
async fn our_signature_on_something_else_is_no_join_token() {
    let story = Story::new().await;
    let good = story.token(TokenWish::default()).await;
    let rows = [
        ("another audience", "aud", json!("lychgate-manage"), "not a join token"),
        ("no audience", "aud", Value::Null, ""),
        ("several audiences", "aud", json!(["lychgate-manage", "lychgate-join"]), ""),
        ("another trust domain", "iss", json!("spiffe://other.example"), "trust domain"),
        ("a token nobody made", "jti", json!("0123456789abcdef"), "does not know it"),
        ("no end", "exp", Value::Null, ""),
    ];
    for (what, claim, value, says) in rows {
        let mut bent = claims(&good);
        if value.is_null() {
            bent.as_object_mut().unwrap().remove(claim);
        } else {
            bent[claim] = value;
        }
        let signed = sign(&story, &json!({ "typ": "JWT", "alg": "ES256" }), &bent).await;
        check(what, &story.stranger().join(&signed, "edge-07").await.unwrap_err(), says);
    }
    // Signed, and with an extension that must be understood.
    for crit in [json!(["exp"]), json!([]), json!("b64")] {
        let signed = sign(&story, &json!({ "alg": "ES256", "crit": crit, "exp": 1 }), &claims(&good)).await;
        check("a critical extension", &story.stranger().join(&signed, "edge-07").await.unwrap_err(), "`crit`");
    }
    // The right claims under an algorithm that anybody can sign by: the public key is no secret.
    let public = EncodingKey::from_secret(story.shell.ca().token_point()).unwrap();
    let signed = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(&good), &public).unwrap();
    check("a MAC", &story.stranger().join(&signed, "edge-07").await.unwrap_err(), "ES256");
    // A later end in the text is nothing: the record decides.
    let mut longer = claims(&good);
    longer["exp"] = json!(4_102_444_800_u64);
    let longer = sign(&story, &json!({ "alg": "ES256" }), &longer).await;
    story.clock.advance(DAY);
    let late = story.stranger().join(&longer, "edge-07").await.unwrap_err();
    assert!(matches!(&late, Refusal::Evidence(reject) if reject.code.name == "token-expired"), "{late:?}");
}

#[tokio::test]
async fn a_fork_is_told_to_the_owner_and_the_administrators_and_nobody_else() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let (owner, other) = (story.person("olga", &[]).await, story.person("oscar", &[]).await);
    let token = story.token(TokenWish { owner: Some("olga".to_owned()), ..TokenWish::default() }).await;
    let stranger = story.stranger();
    let original = stranger.join(&token, "edge-07").await.unwrap().issued();
    let original = stranger.into_member(original);
    let clone = original.cloned(&story);
    let renewed = original.renew(&story).await.unwrap();
    story.admit(&story.peer(&renewed)).await.unwrap();
    assert!(matches!(clone.renew(&story).await.unwrap_err(), Refusal::Forked { .. }));
    for (member, told) in [(&alice, 1), (&owner, 1), (&other, 0)] {
        let caller = member.caller(&story).await;
        let notices = flow::notices::of(&story.shell, &caller).await.unwrap();
        assert_eq!(notices.len(), told, "{}: {notices:?}", caller.identity);
        assert!(notices.iter().all(|notice| notice.contains("edge-07")), "{notices:?}");
    }
}

#[tokio::test]
async fn a_machine_locked_before_it_collects_gets_nothing() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.stranger();
    let waiting = machine.ask("edge-07").await.waiting();
    story.approve(&alice, &waiting.id, &machine.code(&waiting)).await.unwrap();
    for (kind, target) in [("machine", "edge-07".to_owned()), ("key", machine.digest())] {
        story.lock(&alice, kind, &target).await.unwrap();
        assert!(matches!(machine.poll(&waiting.id).await.unwrap_err(), Refusal::Locked { .. }), "{kind}");
        assert!(matches!(machine.try_ask("edge-07").await.unwrap_err(), Refusal::Locked { .. }), "{kind}");
        let caller = alice.caller(&story).await;
        flow::admin::unlock(&story.shell, &caller, kind, &target, "i").await.unwrap();
    }
    machine.poll(&waiting.id).await.unwrap().issued();
}
