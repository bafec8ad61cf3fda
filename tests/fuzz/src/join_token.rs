//! What a person pastes behind `lychgate join`, as the client reads it and as the gateway does. The gateway takes a token
//! in one form only, for its own domain; what it takes, the client takes as well; and blanks in between mean nothing.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use enroll_client::core::target::{Address, BadTarget, JoinTarget, parse_pin};
use gateway::core::token::{TOKEN_MAX, issuer};
use serde_json::{Value, json};
use wire::evidence::JOIN_TOKEN_AUDIENCE;

use crate::{
    Outcome,
    parts::{SIGN, jwt, with_mode},
    world::{NOW, WORLD, jwt_by_token_key},
};

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let Some(text) = jwt(data, jwt_by_token_key) else { return Outcome::Refused };
    let client = by_client(&text);
    let gateway = by_gateway(&text);
    if gateway && text.starts_with("eyJ") {
        // The gateway does not look at what only the client needs.
        let agreed = matches!(client, Ok(JoinTarget::Token(_)) | Err(BadTarget::BadToken(_)));
        assert!(agreed, "taken by the gateway, and by the client as {client:?}");
    }
    Outcome::any(&[gateway, client.is_ok()])
}

fn by_gateway(text: &str) -> bool {
    let issuer = issuer(WORLD.domain.as_str());
    let Ok(claims) = WORLD.token_key.verify(text, &issuer) else { return false };
    assert!(text.len() <= TOKEN_MAX);
    assert_eq!((claims.aud.as_str(), claims.iss.as_str()), (JOIN_TOKEN_AUDIENCE, issuer.as_str()));
    let parts: Vec<&str> = text.split('.').collect();
    assert_eq!(parts.len(), 3);
    for part in &parts {
        let bytes = URL_SAFE_NO_PAD.decode(part).expect("what was taken is base64url");
        assert_eq!(URL_SAFE_NO_PAD.encode(bytes), *part, "a second form of one token");
    }
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[0]).expect("as before")).expect("JSON");
    assert_eq!(header["alg"], "ES256");
    // RFC 7515 4.1.11: what is critical must be understood, and nothing is.
    assert!(header.get("crit").is_none(), "{header}");
    assert!(WORLD.token_key.verify(text, "spiffe://other.example").is_err(), "for another domain");
    true
}

fn by_client(text: &str) -> Result<JoinTarget, BadTarget> {
    let target = JoinTarget::parse(text)?;
    let half = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
    let broken = format!(" {}\r\n\t{} ", &text[..half], &text[half..]);
    if broken.len() <= text.len() + 8 {
        assert!(
            matches!(JoinTarget::parse(&broken), Err(BadTarget::TooLong))
                || JoinTarget::parse(&broken).as_ref() == Ok(&target)
        );
    }
    match &target {
        JoinTarget::Token(token) => {
            assert!(!token.text.contains(char::is_whitespace));
            assert!(!format!("{token:?}").contains(&token.text), "the secret shows");
            survives(&token.gateway);
        }
        JoinTarget::Url { gateway, pin } => {
            survives(gateway);
            let again = pin.map_or_else(String::new, |pin| format!("#{}", pin.hex()));
            assert_eq!(JoinTarget::parse(&format!("https://{gateway}{again}")).as_ref(), Ok(&target));
            assert!(pin.is_none_or(|pin| parse_pin(&pin.hex()) == Ok(pin)));
        }
    }
    Ok(target)
}

fn survives(address: &Address) {
    assert_eq!(Address::parse(&address.to_string(), 1).as_ref(), Ok(address));
    assert_eq!(Address::parse(&address.authority(), 443).as_ref(), Ok(address));
}

/// The claims of a good token.
#[must_use]
pub fn claims() -> Value {
    json!({
        "iss": issuer(WORLD.domain.as_str()),
        "aud": JOIN_TOKEN_AUDIENCE,
        "jti": "0a1b2c3d4e5f",
        "iat": NOW.secs(),
        "nbf": NOW.secs(),
        "exp": NOW.secs() + 3_600,
        "gateway": "gate.example:8443",
        "pin": WORLD.root.pin().hex(),
        "role": "machine",
    })
}

/// A good token.
#[must_use]
pub fn good() -> String {
    jwt_by_token_key(br#"{"typ":"JWT","alg":"ES256"}"#, claims().to_string().as_bytes())
}

/// Tokens, good and bent, and URLs.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let (claims, pin) = (claims().to_string(), WORLD.root.pin().hex());
    let mut seeds = vec![with_mode(0, good().as_bytes())];
    for header in [r#"{"typ":"JWT","alg":"ES256"}"#, r#"{"alg":"none"}"#, r#"{"alg":"HS256","typ":"JWT"}"#] {
        seeds.push(with_mode(SIGN, format!("{header}\n{claims}").as_bytes()));
    }
    let other = claims.replace(JOIN_TOKEN_AUDIENCE, "elsewhere");
    seeds.push(with_mode(SIGN, format!("{{\"alg\":\"ES256\"}}\n{other}").as_bytes()));
    let urls = [
        format!("https://gate.example:8443#{pin}"),
        format!("https://[::1]:8443/#pin={pin}"),
        "HTTPS://127.0.0.1".to_owned(),
        "gate_1.example.:1".to_owned(),
        "::1".to_owned(),
        "https://user@gate.example/path?x#y".to_owned(),
    ];
    seeds.extend(urls.iter().map(|url| with_mode(0, url.as_bytes())));
    seeds
}
