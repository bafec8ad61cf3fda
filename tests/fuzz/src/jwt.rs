//! Tokens of other issuers. What is verified is signed by the issuer's key, by it, for us alone, and in time; and nothing else than the
//! key set decides whose key that is.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway::core::jwt::{ALGORITHMS, ExpectedJwt, IssuerName, JWT_MAX, Jwt, KeySet, KeyUse, LEEWAY};
use jsonwebtoken::Algorithm;
use pki::CaKey as _;
use serde_json::{Value, json};

use crate::{
    Outcome,
    parts::{SIGN, jwt, with_mode},
    world::{LEAF_KEY, NOW, jwt_by_leaf, key},
};

/// The issuer.
pub const ISSUER: &str = "https://issuer.example";

/// The algorithms that it may use.
static ALL: LazyLock<Vec<Algorithm>> = LazyLock::new(|| ALGORITHMS.map(|(_, algorithm)| algorithm).to_vec());

/// A public key as a JWK.
#[must_use]
pub fn jwk(number: u8, kid: &str) -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": URL_SAFE_NO_PAD.encode(key(number).public_key()) })
}

/// The set of these keys.
#[must_use]
pub fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).expect("our own keys")
}

static KEYS: LazyLock<KeySet> = LazyLock::new(|| set(&[jwk(LEAF_KEY, "1")]));
static OTHERS: LazyLock<KeySet> = LazyLock::new(|| set(&[jwk(LEAF_KEY + 1, "1")]));

/// Whether a token holds, with these keys and for this audience.
#[must_use]
pub fn holds(token: &Jwt, keys: &KeySet, audience: &str) -> bool {
    let issuer = IssuerName::Iss(ISSUER.to_owned());
    let expected = ExpectedJwt {
        issuer: &issuer,
        audience,
        algorithms: &ALL,
        key_use: KeyUse::Signature,
        max_age: 900,
        party: None,
        now: NOW,
    };
    token.verify(keys, &expected).is_ok()
}

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let Some(text) = jwt(data, jwt_by_leaf) else { return Outcome::Refused };
    let Ok(token) = Jwt::read(&text) else { return Outcome::Refused };
    assert!(text.len() <= JWT_MAX);
    assert!(!holds(&token, &OTHERS, "us"), "by another key");
    if !holds(&token, &KEYS, "us") {
        return Outcome::Refused;
    }
    assert!(!holds(&token, &KEYS, "them"), "for another");
    let parts: Vec<&str> = text.split('.').collect();
    assert_eq!(parts.len(), 3);
    for part in &parts {
        let bytes = URL_SAFE_NO_PAD.decode(part).expect("what was taken is base64url");
        assert_eq!(URL_SAFE_NO_PAD.encode(bytes), *part, "a second form of one token");
    }
    let json = |part: &str| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("as before")).expect("what was taken is JSON")
    };
    let (header, claims) = (json(parts[0]), json(parts[1]));
    assert_eq!(header["alg"], "EdDSA");
    // RFC 7515 4.1.11: what is critical must be understood, and nothing is.
    assert!(header.get("crit").is_none(), "{header}");
    assert_eq!(claims["iss"], ISSUER);
    assert!(claims["aud"] == "us" || claims["aud"] == json!(["us"]), "{claims}");
    assert!(claims["sub"].as_str().is_some_and(|sub| !sub.is_empty()), "{claims}");
    let time = |claim: &str| claims[claim].as_f64().expect("a time");
    #[expect(clippy::cast_precision_loss, reason = "times of this century are exact")]
    let (now, leeway) = (NOW.secs() as f64, LEEWAY as f64);
    assert!(time("exp") > now - leeway && time("iat") < now + leeway + 1.0, "{claims}");
    Outcome::Taken
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": "us", "sub": "who", "iat": NOW.secs(), "exp": NOW.secs() + 300 })
}

/// A good token.
#[must_use]
pub fn good() -> String {
    jwt_by_leaf(br#"{"typ":"JWT","alg":"EdDSA","kid":"1"}"#, claims().to_string().as_bytes())
}

/// Tokens, good and bent.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let header = r#"{"typ":"JWT","alg":"EdDSA","kid":"1"}"#;
    let mut seeds = vec![with_mode(0, good().as_bytes())];
    for header in [header, r#"{"alg":"none"}"#, r#"{"alg":"EdDSA","crit":["exp"]}"#, r#"{"alg":"HS256","kid":"1"}"#] {
        seeds.push(with_mode(SIGN, format!("{header}\n{}", claims()).as_bytes()));
    }
    for (claim, value) in
        [("aud", json!(["us", "them"])), ("iss", json!([ISSUER])), ("exp", json!("1")), ("sub", json!(""))]
    {
        let mut claims = claims();
        claims[claim] = value;
        seeds.push(with_mode(SIGN, format!("{header}\n{claims}").as_bytes()));
    }
    seeds
}
