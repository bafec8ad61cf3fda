//! Proofs of possession. What is taken is about this request, this gateway, this connection and this time, by a second
//! reading of its JSON.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway::core::proof::{self, Expected, PROOF_AGE_MAX, PROOF_MAX};
use serde_json::{Value, json};

use crate::{
    Outcome,
    parts::{SIGN, jwt, with_mode},
    world::{EXPORTER, LEAF_KEY, NOW, jwt_by_leaf, key},
};

const METHOD: &str = "POST";
const PATH: &str = "/v1/enrollments";

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let Some(text) = jwt(data, jwt_by_leaf) else { return Outcome::Refused };
    let holder = key(LEAF_KEY).subject_key().expect("its public key");
    let hosts = ["gate.example".to_owned(), "::1".to_owned()];
    let expected = Expected { method: METHOD, path: PATH, hosts: &hosts, exporter: &EXPORTER };
    if proof::check(&text, &holder, &expected, NOW).is_err() {
        return Outcome::Refused;
    }
    assert!(text.len() <= PROOF_MAX);
    promises(&text, &hosts);
    let other = key(LEAF_KEY + 1).subject_key().expect("its public key");
    assert!(proof::check(&text, &other, &expected, NOW).is_err(), "by another key");
    let elsewhere = Expected { exporter: &[8; 32], ..expected.clone() };
    assert!(proof::check(&text, &holder, &elsewhere, NOW).is_err(), "on another connection");
    let poll = Expected { method: "GET", ..expected };
    assert!(proof::check(&text, &holder, &poll, NOW).is_err(), "for another method");
    Outcome::Taken
}

fn promises(text: &str, hosts: &[String]) {
    let parts: Vec<&str> = text.split('.').collect();
    assert_eq!(parts.len(), 3);
    let part = |at: usize| -> Value {
        let bytes = URL_SAFE_NO_PAD.decode(parts[at]).expect("what was taken is base64url");
        assert_eq!(URL_SAFE_NO_PAD.encode(&bytes), parts[at], "a second form of one proof");
        serde_json::from_slice(&bytes).expect("what was taken is JSON")
    };
    let (header, claims) = (part(0), part(1));
    assert_eq!((&header["typ"], &header["alg"]), (&json!("dpop+jwt"), &json!("EdDSA")));
    // RFC 7515 4.1.11: what is critical must be understood, and nothing is.
    assert!(header.get("crit").is_none(), "{header}");
    assert_eq!(claims["htm"], METHOD);
    let htu = claims["htu"].as_str().expect("a URL");
    assert!(htu.starts_with("https://") && htu.ends_with(PATH), "{htu}");
    if let Ok(uri) = htu.parse::<http::Uri>() {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        assert!(hosts.iter().any(|known| known.eq_ignore_ascii_case(host)), "{htu}");
        assert_eq!((uri.path(), uri.query()), (PATH, None));
    }
    assert_eq!(claims["exporter"], URL_SAFE_NO_PAD.encode(EXPORTER));
    let made = claims["iat"].as_u64().expect("a time");
    assert!(made.abs_diff(NOW.secs()) <= PROOF_AGE_MAX.as_secs());
}

/// A good proof, and each way to be about something else.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let header = json!({ "typ": "dpop+jwt", "alg": "EdDSA", "jwk": { "kty": "OKP", "crv": "Ed25519", "x": "AA" } });
    let claims = json!({
        "jti": "1",
        "iat": NOW.secs(),
        "htm": METHOD,
        "htu": "https://gate.example:8443/v1/enrollments",
        "exporter": URL_SAFE_NO_PAD.encode(EXPORTER),
    });
    let (header, claims) = (header.to_string(), claims.to_string());
    let good = jwt_by_leaf(header.as_bytes(), claims.as_bytes());
    let mut seeds = vec![with_mode(0, good.as_bytes())];
    let bent = [
        claims.clone(),
        claims.replace("gate.example:8443", "[::1]"),
        claims.replace("gate.example", "user@gate.example"),
        // Two readers of URLs, two paths: found by this target.
        claims.replace(":8443", ":84?43"),
        claims.replace(METHOD, "GET"),
        claims.replace(&NOW.secs().to_string(), "0"),
    ];
    seeds.extend(bent.iter().map(|claims| with_mode(SIGN, format!("{header}\n{claims}").as_bytes())));
    let none = header.replace("EdDSA", "none");
    seeds.push(with_mode(SIGN, format!("{none}\n{claims}").as_bytes()));
    seeds
}
