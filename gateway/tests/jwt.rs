//! Stories of evidence by tokens of other issuers. What makes a token good or bad stands beside the attestor; here it meets races, locks,
//! approvers, renewals and issuers that rotate their keys or do not answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

#[allow(dead_code, reason = "these stories need few of the cast")]
mod story;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway::{core::refusal::Refusal, flow::sweep};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::sign};
use pki::{CaKey as _, KeyAlgorithm, KeyDigest, SoftwareKey};
use serde_json::{Value, json};
use story::{DAY, Member, Story, Told, all};
use wire::evidence::JWT;

/// What is in the policy of these stories beside the default one.
const RULES: &str = r#"
@id("jobs")
@lifetime("24h")
permit (principal is Lychgate::Newcomer, action == Lychgate::Action::"enroll", resource)
when { principal.claims has jwt_issuer && principal.claims.jwt_issuer == "ci" };
"#;

/// An issuer's key.
struct Signer {
    kid: &'static str,
    key: SoftwareKey,
    signing: EncodingKey,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        let (key, pkcs8) = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        Self { kid, key, signing: EncodingKey::from_ec_der(&pkcs8) }
    }

    fn jwk(&self) -> Value {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = self.key.public_key()[1..].split_at(32);
        json!({ "kty": "EC", "crv": "P-256", "kid": self.kid, "x": part(x), "y": part(y) })
    }
}

/// A gateway, and the issuer that it trusts, with keys at a URL that this test answers for.
struct Stage {
    story: Story,
    /// What the issuer answers, and how often it was asked.
    answer: Arc<Mutex<Result<Vec<u8>, String>>>,
    asked: Arc<AtomicUsize>,
    /// How many tokens were made: each is another one.
    made: AtomicUsize,
}

impl Stage {
    async fn set(audience: &str) -> Self {
        let story = Story::with_policy(|text| format!("{text}\n{RULES}")).await;
        let values = format!(
            "[issuers.ci]\npreset = 'oidc'\nissuer = 'https://issuer.example'\nkeys = 'https://issuer.example/keys'\n\
             audience = '{audience}'\n"
        );
        story.attests_by(JWT, &values, Path::new("/"));
        let (answer, asked) = (Arc::new(Mutex::new(Err("refused".to_owned()))), Arc::new(AtomicUsize::new(0)));
        let (answers, counts) = (Arc::clone(&answer), Arc::clone(&asked));
        story.shell.documents.fetch_with(Box::new(move |url| {
            assert_eq!(url.to_string(), "https://issuer.example/keys");
            counts.fetch_add(1, Ordering::Relaxed);
            let answer = answers.lock().unwrap().clone();
            Box::pin(async move { answer })
        }));
        Self { story, answer, asked, made: AtomicUsize::new(0) }
    }

    /// The issuer publishes these keys from now on.
    fn publish(&self, keys: &[&Signer]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        *self.answer.lock().unwrap() = Ok(json!({ "keys": keys }).to_string().into_bytes());
    }

    fn unreachable(&self) {
        *self.answer.lock().unwrap() = Err("refused".to_owned());
    }

    fn token(&self, by: &Signer, audience: &str) -> String {
        let now = self.story.shell.now().secs();
        let claims = json!({
            "iss": "https://issuer.example", "aud": audience, "sub": "job", "iat": now, "exp": now + 300,
            "jti": self.made.fetch_add(1, Ordering::Relaxed),
        });
        let header = json!({ "alg": "ES256", "kid": by.kid });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(&header), part(&claims));
        format!("{input}.{}", sign(input.as_bytes(), &by.signing, Algorithm::ES256).unwrap())
    }

    async fn renewed(&self, machine: Member, token: impl Fn(&KeyDigest) -> String) -> Result<Member, Refusal> {
        let next = machine.next_key().await;
        let evidence = evidence(&token(&story::digest(&next)));
        match machine.renew_with(&self.story, evidence, None).await? {
            Told::Issued(issued) => Ok(machine.moved(*issued)),
            Told::Challenge(challenge) => panic!("{challenge:?}"),
        }
    }
}

/// Lets seconds pass for what was fetched. The clock of the gateway is another.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

fn evidence(token: &str) -> Vec<(String, String)> {
    vec![(JWT.to_owned(), token.to_owned())]
}

#[track_caller]
fn code<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> &'static str {
    match outcome {
        Err(Refusal::Evidence(reject)) => reject.code.name,
        Err(Refusal::Unverifiable { what, .. }) => {
            assert_eq!(what, "the keys of the issuer `ci` cannot be had");
            "unverifiable"
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_token_joins_one_machine() {
    let stage = Stage::set("us").await;
    let signer = Signer::new("1");
    stage.publish(&[&signer]);
    let token = stage.token(&signer, "us");
    let machine = stage.story.stranger();
    let first = machine.with("job-1", evidence(&token)).await.unwrap().issued();
    // The answer was lost: the same key is told the same.
    let again = machine.with("job-1", evidence(&token)).await.unwrap().issued();
    assert_eq!(first.certificate, again.certificate);
    let thief = stage.story.stranger().with("job-2", evidence(&token)).await;
    assert_eq!(code(thief), "jwt-used");
    // What was used is remembered as long as it could be used, and not longer.
    let records = async || stage.story.shell.store.scan(&"jwt/".into(), None, 10).await.unwrap().rows.len();
    assert_eq!(records().await, 1);
    stage.story.clock.advance(Duration::from_secs(600));
    sweep::sweep(&stage.story.shell).await.unwrap();
    assert_eq!(records().await, 1);
    stage.story.clock.advance(2 * DAY);
    for _ in 0..3 {
        sweep::sweep(&stage.story.shell).await.unwrap();
    }
    assert_eq!(records().await, 0);
}

/// Of many who send one token at once, one gets in.
#[tokio::test]
async fn a_token_that_races_is_spent_once() {
    let stage = Stage::set("us").await;
    let signer = Signer::new("1");
    stage.publish(&[&signer]);
    let token = stage.token(&signer, "us");
    let racers: Vec<_> = (0..16).map(|at| (stage.story.stranger(), format!("job-{at}"))).collect();
    let outcomes = all(racers.iter().map(|(racer, name)| racer.with(name, evidence(&token)))).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 15));
    for outcome in lost {
        assert_eq!(code(outcome), "jwt-used");
    }
}

#[tokio::test]
async fn a_token_for_a_key_is_of_no_use_to_others_and_renews_with_a_fresh_one() {
    let stage = Stage::set("lychgate://{domain}/{key}").await;
    let signer = Signer::new("1");
    stage.publish(&[&signer]);
    let audience = |key: &KeyDigest| format!("lychgate://test.example/{}", key.hex());
    let machine = stage.story.stranger();
    let token = stage.token(&signer, &audience(&story::digest(machine.key())));
    assert_eq!(code(stage.story.stranger().with("job-1", evidence(&token)).await), "jwt-audience");
    let issued = machine.with("job-1", evidence(&token)).await.unwrap().issued();
    let machine = machine.into_member(issued);
    stage.story.clock.advance(DAY / 2);
    let machine = stage.renewed(machine, |key| stage.token(&signer, &audience(key))).await.unwrap();
    let caller = machine.caller(&stage.story).await;
    assert_eq!(caller.subject.record.claims["jwt_issuer"].text(), "ci");
    assert_eq!(caller.subject.record.claims["jwt_bound"].text(), "key");
    // The old token is for the old key, and has ended.
    stage.story.clock.advance(DAY / 2);
    assert_eq!(code(stage.renewed(machine, |_| token.clone()).await.map(drop)), "jwt-audience");
}

#[tokio::test]
async fn keys_rotate_in_between() {
    let stage = Stage::set("us").await;
    let (old, new) = (Signer::new("1"), Signer::new("2"));
    stage.publish(&[&old]);
    let join =
        async |name: &str, by: &Signer| stage.story.stranger().with(name, evidence(&stage.token(by, "us"))).await;
    join("job-1", &old).await.unwrap().issued();
    assert_eq!(stage.asked.load(Ordering::Relaxed), 1);
    // The new key is found at once, and however many ask, the issuer is asked twice a minute.
    stage.publish(&[&new]);
    later(30).await;
    join("job-2", &new).await.unwrap().issued();
    assert_eq!(stage.asked.load(Ordering::Relaxed), 2);
    for at in 0..20 {
        assert_eq!(code(join(&format!("odd-{at}"), &Signer::new("3")).await), "jwt-signature");
    }
    assert_eq!(code(join("job-3", &old).await), "jwt-signature");
    assert_eq!(stage.asked.load(Ordering::Relaxed), 2);
    // While it does not answer, the keys that are known count, and for others the issuer is named.
    stage.unreachable();
    later(3600).await;
    assert_eq!(code(join("job-4", &Signer::new("3")).await), "unverifiable");
    join("job-5", &new).await.unwrap().issued();
    later(6 * 3600).await;
    let refused = join("job-6", &new).await.unwrap_err();
    assert!(
        matches!(&refused, Refusal::Unverifiable { what, .. } if what.ends_with("newer ones cannot be had")),
        "{refused}"
    );
}

#[tokio::test]
async fn an_issuer_that_cannot_be_reached_is_named() {
    let stage = Stage::set("us").await;
    let signer = Signer::new("1");
    let token = stage.token(&signer, "us");
    let machine = stage.story.stranger();
    assert_eq!(code(machine.with("job-1", evidence(&token)).await), "unverifiable");
    // Nothing was spent by it.
    later(31).await;
    stage.publish(&[&signer]);
    stage.story.stranger().with("job-1", evidence(&token)).await.unwrap().issued();
}

#[tokio::test]
async fn a_lock_on_the_issuers_key_stops_whoever_has_its_tokens() {
    let stage = Stage::set("us").await;
    let alice = stage.story.first_person().await;
    let signer = Signer::new("1");
    stage.publish(&[&signer]);
    let machine = stage.story.stranger();
    let issued = machine.with("job-1", evidence(&stage.token(&signer, "us"))).await.unwrap().issued();
    let machine = machine.into_member(issued);
    let thumbprint = machine.caller(&stage.story).await.subject.record.claims["jwt_signer"].text();
    stage.story.lock(&alice, "key", &thumbprint).await.unwrap();
    let locked = stage.story.stranger().with("job-2", evidence(&stage.token(&signer, "us"))).await.unwrap_err();
    assert!(matches!(locked, Refusal::Locked { .. }), "{locked:?}");
    // Who cannot show a good token does not learn of the lock.
    let other = stage.token(&Signer::new("1"), "us");
    assert_eq!(code(stage.story.stranger().with("job-3", evidence(&other)).await), "jwt-signature");
}
