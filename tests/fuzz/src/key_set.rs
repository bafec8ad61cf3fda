//! Key sets of issuers. Whatever else is in one, a good key that is added to it is found, and a key of somebody else is not taken for it.

use gateway::core::jwt::{Jwt, KeySet};
use serde_json::{Value, json};

use crate::{
    Outcome, jwt,
    world::{LEAF_KEY, jwt_by_leaf},
};

/// Most keys of an input to which one is added: so many are read.
const KEYS_MAX: usize = 63;

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let Ok(keys) = KeySet::parse(data) else { return Outcome::Refused };
    assert!(keys.complaints().len() <= KEYS_MAX + 3);
    let mut value: Value = serde_json::from_slice(data).expect("what was taken is JSON");
    let list = value["keys"].as_array_mut().expect("what was taken has keys");
    if list.len() > KEYS_MAX || list.iter().any(|key| key["kid"] == "good") {
        return Outcome::Taken;
    }
    let token = Jwt::read(&token()).expect("a good token");
    assert!(!jwt::holds(&token, &KeySet::parse(data).expect("as before"), "us") || has_ours(list), "by another key");
    list.push(jwt::jwk(LEAF_KEY, "good"));
    let keys = KeySet::parse(value.to_string().as_bytes()).expect("as before");
    assert!(jwt::holds(&token, &keys, "us"), "a good key was lost");
    Outcome::Taken
}

/// Whether the key that signs is among them, under whatever name.
fn has_ours(keys: &[Value]) -> bool {
    let ours = jwt::jwk(LEAF_KEY, "good");
    keys.iter().any(|key| key["x"] == ours["x"])
}

/// A token by the key with the name `good`.
fn token() -> String {
    let claims = jwt::good();
    let claims = Jwt::read(&claims).expect("a good token").claims().clone();
    jwt_by_leaf(br#"{"alg":"EdDSA","kid":"good"}"#, Value::Object(claims).to_string().as_bytes())
}

/// Sets, good and odd.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs\
tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbI\
SD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let rsa = json!({ "kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "use": "sig", "key_ops": ["verify"] });
    let ec = json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" });
    let odd = json!({ "kty": "AKP", "kid": 7, "use": ["sig"] });
    [vec![rsa.clone(), ec.clone(), jwt::jwk(LEAF_KEY, "1")], vec![odd, rsa], vec![ec; 3], vec![]]
        .iter()
        .map(|keys| json!({ "keys": keys }).to_string().into_bytes())
        .collect()
}
