//! Each row is something that the `jsonwebtoken` crate lets pass, or that an issuer does.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::{
    soft::{SoftKey, key_set},
    *,
};

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";

static P256: LazyLock<SoftKey> = LazyLock::new(SoftKey::p256);
static RSA: LazyLock<SoftKey> = LazyLock::new(SoftKey::rsa);

fn all_algorithms() -> Vec<Algorithm> {
    ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect()
}

fn good() -> Value {
    json!({ "iss": ISSUER, "aud": "us", "sub": "who", "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 300 })
}

/// The claims of [`good`] with this one changed, or absent for `null`.
fn with(claim: &str, value: Value) -> Value {
    let mut claims = good();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(claim);
    } else {
        claims[claim] = value;
    }
    claims
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(&key_set(keys)).unwrap()
}

fn judge(token: &str, keys: &KeySet, change: impl FnOnce(&mut ExpectedJwt<'_>)) -> Result<VerifiedJwt, BadJwt> {
    judge_by(&IssuerName::Iss(ISSUER.to_owned()), token, keys, change)
}

fn judge_by(
    issuer: &IssuerName,
    token: &str,
    keys: &KeySet,
    change: impl FnOnce(&mut ExpectedJwt<'_>),
) -> Result<VerifiedJwt, BadJwt> {
    let algorithms = all_algorithms();
    let mut expected = ExpectedJwt {
        issuer,
        audience: "us",
        algorithms: &algorithms,
        key_use: KeyUse::Signature,
        max_age: 900,
        party: Some("client"),
        now: UnixTime::new(NOW),
    };
    change(&mut expected);
    Jwt::read(token)?.verify(keys, &expected)
}

/// What becomes of these claims, signed by the issuer.
fn claimed(claims: &Value) -> Result<VerifiedJwt, BadJwt> {
    judge(&P256.sign(Some("1"), claims), &set(&[P256.jwk_with(&json!({ "kid": "1" }))]), |_| {})
}

/// What becomes of a token with this header, signed by the issuer.
fn headed(header: &Value) -> Result<VerifiedJwt, BadJwt> {
    let token = P256.sign_text(&header.to_string(), &good().to_string());
    judge(&token, &set(&[P256.jwk_with(&json!({ "kid": "1" }))]), |_| {})
}

#[test]
fn a_good_token_says_whose_it_is() {
    let verified = claimed(&good()).unwrap();
    assert_eq!((verified.subject.as_str(), verified.issued.secs(), verified.ends.secs()), ("who", NOW - 10, NOW + 300));
    let one = set(&[P256.jwk()]);
    assert_eq!(verified.signer, one.keys_for_tests()[0].thumbprint());
}

/// The vector of RFC 7638 3.1.
#[test]
fn thumbprints_are_those_of_the_standard() {
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs\
tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbI\
SD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let jwk = json!({ "kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29" });
    let thumbprint = set(&[jwk]).keys_for_tests()[0].thumbprint();
    assert_eq!(URL_SAFE_NO_PAD.encode(thumbprint), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn each_claim_must_be_there() {
    for claim in ["iss", "aud", "sub", "iat", "exp"] {
        assert_eq!(claimed(&with(claim, Value::Null)), Err(BadJwt::Absent(claim)), "{claim}");
    }
    assert!(claimed(&with("nbf", Value::Null)).is_ok());
    let null = json!({ "iss": ISSUER, "aud": null, "sub": "who", "iat": NOW, "exp": NOW + 1 });
    assert_eq!(claimed(&null), Err(BadJwt::Absent("aud")));
}

#[test]
fn each_claim_must_be_of_its_type() {
    let number = "a number of seconds";
    for (claim, value, want) in [
        ("iss", json!([ISSUER, "https://other.example"]), "a text"),
        ("iss", json!([ISSUER]), "a text"),
        ("iss", json!({}), "a text"),
        ("iss", json!(""), "a text"),
        ("sub", json!(7), "a text"),
        ("sub", json!(""), "a text"),
        ("sub", json!(["who"]), "a text"),
        ("aud", json!(7), "a text or a list of texts"),
        ("aud", json!({ "us": true }), "a text or a list of texts"),
        ("exp", json!((NOW + 300).to_string()), number),
        ("exp", json!(-1), number),
        ("exp", json!(1e300), number),
        ("exp", json!([NOW + 300]), number),
        ("exp", json!(true), number),
        ("nbf", json!("soon"), number),
        ("iat", json!("now"), number),
    ] {
        assert_eq!(claimed(&with(claim, value.clone())), Err(BadJwt::Kind { claim, want }), "{claim} {value}");
    }
    // RFC 7519 2: a NumericDate may have a fraction.
    assert!(claimed(&with("exp", json!(NOW as f64 + 0.5))).is_ok());
}

#[test]
fn the_audience_is_one() {
    assert!(claimed(&with("aud", json!(["us"]))).is_ok());
    for other in
        [json!("them"), json!("us "), json!("US"), json!(["us", "them"]), json!([]), json!([["us"]]), json!("")]
    {
        let found = claimed(&with("aud", other.clone()));
        assert!(matches!(found, Err(BadJwt::Audience { .. })), "{other}: {found:?}");
    }
}

#[test]
fn the_issuer_is_compared_as_a_text() {
    for other in ["https://issuer.example/", "https://ISSUER.example", "issuer.example", "https://issuer.example.org"] {
        let found = claimed(&with("iss", json!(other)));
        assert!(matches!(found, Err(BadJwt::Issuer { .. })), "{other}: {found:?}");
    }
}

#[test]
fn times_are_held_against_the_clock() {
    for (claim, value, want) in [
        ("exp", NOW - LEEWAY + 1, Ok(())),
        ("exp", NOW - LEEWAY, Err(BadJwt::Expired(LEEWAY))),
        ("exp", NOW - 3600, Err(BadJwt::Expired(3600))),
        ("exp", 0, Err(BadJwt::Expired(NOW))),
        ("exp", u64::MAX, Ok(())),
        ("nbf", NOW + LEEWAY, Ok(())),
        ("nbf", NOW + LEEWAY + 1, Err(BadJwt::NotYet(LEEWAY + 1))),
        ("nbf", NOW + 3600, Err(BadJwt::NotYet(3600))),
        ("iat", NOW + LEEWAY, Ok(())),
        ("iat", NOW + 3600, Err(BadJwt::Future(3600))),
        ("iat", NOW - 900 - LEEWAY, Ok(())),
        ("iat", NOW - 901 - LEEWAY, Err(BadJwt::Old { age: 901 + LEEWAY, max: 900 })),
    ] {
        assert_eq!(claimed(&with(claim, json!(value))).map(drop), want, "{claim} {value}");
    }
}

#[test]
fn another_clients_token_is_refused_where_it_is_compared() {
    assert!(claimed(&with("azp", json!("client"))).is_ok());
    assert_eq!(claimed(&with("azp", json!("other"))), Err(BadJwt::Party("other".to_owned())));
    assert_eq!(claimed(&with("azp", json!(["client"]))), Err(BadJwt::Party(r#"["client"]"#.to_owned())));
    let token = P256.sign(None, &with("azp", json!("other")));
    assert!(judge(&token, &set(&[P256.jwk()]), |expected| expected.party = None).is_ok());
}

#[test]
fn headers() {
    for typ in ["JWT", "jwt", "application/jwt", "Application/JWT"] {
        assert!(headed(&json!({ "alg": "ES256", "typ": typ })).is_ok(), "{typ}");
    }
    assert!(headed(&json!({ "alg": "ES256" })).is_ok());
    for typ in ["at+jwt", "dpop+jwt", "wit+jwt", "JOSE", "logout+jwt", "", "application/"] {
        assert_eq!(headed(&json!({ "alg": "ES256", "typ": typ })), Err(BadJwt::Type(typ.to_owned())), "{typ}");
    }
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!(null), json!("exp")] {
        assert_eq!(headed(&json!({ "alg": "ES256", "crit": crit })), Err(BadJwt::Critical), "{crit}");
    }
    for name in ["none", "None", "HS256", "HS384", "HS512", "ES512", "ES256K", "Ed25519", "Ed448", "RS1", ""] {
        assert_eq!(headed(&json!({ "alg": name })), Err(BadJwt::UnknownAlgorithm(name.to_owned())), "{name}");
    }
    // by another algorithm of the same family, or of another
    for name in ["ES384", "RS256", "PS256", "EdDSA"] {
        assert_eq!(headed(&json!({ "alg": name, "kid": "1" })), Err(BadJwt::UnknownKey), "{name}");
    }
}

#[test]
fn an_algorithm_that_the_issuer_may_not_use_is_named() {
    let (token, keys) = (P256.sign(None, &good()), set(&[P256.jwk()]));
    let refused = judge(&token, &keys, |expected| expected.algorithms = &[Algorithm::RS256]);
    assert_eq!(refused, Err(BadJwt::OtherAlgorithm("ES256".to_owned())));
}

#[test]
fn shapes_that_are_no_jws() {
    let token = P256.sign(None, &good());
    let parts: Vec<&str> = token.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    for bad in [
        String::new(),
        "..".to_owned(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}.{signature}."),
        format!("{header}.{claims}.{signature}.{header}.{claims}"),
        format!("{header}=.{claims}.{signature}"),
        format!(" {header}.{claims}.{signature}"),
        format!("{header}\n.{claims}.{signature}"),
    ] {
        assert_eq!(Jwt::read(&bad).map(drop), Err(BadJwt::Shape), "{bad}");
    }
    let keys = set(&[P256.jwk()]);
    for bad in [
        format!("{header}.{claims}."),
        format!("{token}\n"),
        format!("{token}="),
        format!("{header}.{claims}.{}", &signature[..signature.len() - 2]),
    ] {
        assert_eq!(judge(&bad, &keys, |_| {}), Err(BadJwt::Signature), "{bad}");
    }
    let long = format!("{token}{}", "A".repeat(JWT_MAX));
    assert_eq!(Jwt::read(&long).map(drop), Err(BadJwt::TooLong));
}

#[test]
fn claims_that_are_no_object() {
    for bad in ["[]", "1", "null", "\"a\"", "", "{", r#"{"iss":"a","iss":"b"}"#, r#"{"x":{"a":1,"a":2}}"#] {
        let token = P256.sign_text(r#"{"alg":"ES256"}"#, bad);
        assert!(matches!(Jwt::read(&token).map(drop), Err(BadJwt::Unreadable(_))), "{bad}");
    }
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(4000), "]".repeat(4000));
    let token = P256.sign_text(r#"{"alg":"ES256"}"#, &deep);
    assert!(matches!(Jwt::read(&token).map(drop), Err(BadJwt::Unreadable(_))));
}

/// The oldest trick: the public key as the secret of an HMAC, and no signature at all.
#[test]
fn nobody_signs_with_a_public_key() {
    let keys = set(&[RSA.jwk_with(&json!({ "kid": "1" }))]);
    for secret in [RSA.public_der(), pki::to_pem("PUBLIC KEY", &RSA.public_der()).into_bytes()] {
        for (alg, algorithm) in
            [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("RS256", hmac::HMAC_SHA256)]
        {
            let header = json!({ "alg": alg, "typ": "JWT", "kid": "1" });
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let input = format!("{}.{}", part(&header), part(&good()));
            let tag = hmac::sign(&hmac::Key::new(algorithm, &secret), input.as_bytes());
            let refused = judge(&format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag)), &keys, |_| {});
            let want = if alg == "RS256" { BadJwt::Signature } else { BadJwt::UnknownAlgorithm(alg.to_owned()) };
            assert_eq!(refused, Err(want), "{alg}");
        }
    }
}

/// Keys in the token, or where the token says, are never looked at.
#[test]
fn a_token_brings_no_key_along() {
    let (thief, keys) = (SoftKey::p256(), set(&[P256.jwk_with(&json!({ "kid": "1" }))]));
    for kid in ["1", "2"] {
        let header = json!({
            "alg": "ES256", "kid": kid, "jwk": thief.jwk_with(&json!({ "kid": kid })), "jku": "https://thief.example/keys",
            "x5u": "https://thief.example/chain", "x5c": ["MIIB"], "x5t": "AAAA",
        });
        let refused = judge(&thief.sign_text(&header.to_string(), &good().to_string()), &keys, |_| {});
        assert_eq!(refused, Err(if kid == "1" { BadJwt::Signature } else { BadJwt::UnknownKey }));
    }
    // Microsoft's tokens have `x5t`, others `jku`: whose key signed is what counts.
    assert!(
        headed(&json!({ "alg": "ES256", "kid": "1", "jku": "https://issuer.example/keys", "x5t": "AAAA" })).is_ok()
    );
}

/// What a JWK says of itself is compared with the token.
#[test]
fn keys_are_used_for_what_they_are_for() {
    let token = P256.sign(Some("1"), &good());
    for (more, good) in [
        (json!({}), true),
        (json!({ "kid": "1" }), true),
        (json!({ "alg": "ES256", "use": "sig", "key_ops": ["verify"] }), true),
        (json!({ "key_ops": ["sign", "verify"] }), true),
        (json!({ "alg": null, "use": null }), true),
        (json!({ "kid": "2" }), false),
        (json!({ "alg": "ES384" }), false),
        (json!({ "alg": "RS256" }), false),
        (json!({ "alg": "ECDH-ES" }), false),
        (json!({ "alg": "" }), false),
        (json!({ "use": "enc" }), false),
        (json!({ "use": "jwt-svid" }), false),
        (json!({ "use": "" }), false),
        (json!({ "key_ops": ["encrypt"] }), false),
        (json!({ "key_ops": [] }), false),
    ] {
        let found = judge(&token, &set(&[P256.jwk_with(&more)]), |_| {});
        assert_eq!(found.map(drop), if good { Ok(()) } else { Err(BadJwt::UnknownKey) }, "{more}");
    }
}

/// Keycloak may have its key for encryption first, and issuers rotate.
#[test]
fn the_right_key_of_several_is_found() {
    let (enc, other) = (SoftKey::rsa(), SoftKey::p256());
    let keys = [
        enc.jwk_with(&json!({ "kid": "1", "use": "enc", "alg": "RSA-OAEP" })),
        RSA.jwk_with(&json!({ "kid": "2" })),
        P256.jwk_with(&json!({ "kid": "2" })),
        other.jwk_with(&json!({ "kid": "3" })),
    ];
    let keys = set(&keys);
    assert!(keys.complaints().is_empty(), "{:?}", keys.complaints());
    let judge = |token: &str| judge(token, &keys, |_| {}).map(drop);
    assert_eq!(judge(&P256.sign(Some("2"), &good())), Ok(()));
    assert_eq!(judge(&RSA.sign(Some("2"), &good())), Ok(()));
    assert_eq!(judge(&RSA.sign_text(r#"{"alg":"PS256","kid":"2"}"#, &good().to_string())), Ok(()));
    assert_eq!(judge(&other.sign(Some("3"), &good())), Ok(()));
    // without `kid` any that fits may have signed
    assert_eq!(judge(&other.sign(None, &good())), Ok(()));
    assert_eq!(judge(&P256.sign(Some("3"), &good())), Err(BadJwt::Signature));
    assert_eq!(judge(&enc.sign(Some("1"), &good())), Err(BadJwt::UnknownKey));
    assert_eq!(judge(&other.sign(Some("4"), &good())), Err(BadJwt::UnknownKey));
    // a key set without `kid` and a token with one
    let plain = set(&[P256.jwk()]);
    assert!(super::tests::judge(&P256.sign(Some("x"), &good()), &plain, |_| {}).is_ok());
}

#[test]
fn every_kind_of_key_verifies() {
    for key in [SoftKey::p256(), SoftKey::p384(), SoftKey::ed25519(), SoftKey::rsa()] {
        let token = key.sign(Some("1"), &good());
        let keys = set(&[key.jwk_with(&json!({ "kid": "1", "alg": key.alg() }))]);
        assert!(judge(&token, &keys, |_| {}).is_ok(), "{}", key.alg());
        let mut forged = good();
        forged["sub"] = "root".into();
        let (header, signature) = (token.split('.').next().unwrap(), token.split('.').nth(2).unwrap());
        let forged = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(forged.to_string()));
        assert_eq!(judge(&forged, &keys, |_| {}), Err(BadJwt::Signature), "{}", key.alg());
    }
    // RFC 9864 has another name for it in the key
    let key = SoftKey::ed25519();
    let keys = set(&[key.jwk_with(&json!({ "alg": "Ed25519" }))]);
    assert!(judge(&key.sign(None, &good()), &keys, |_| {}).is_ok());
}

/// One odd key costs nothing but itself, and is named.
#[test]
fn a_key_that_cannot_be_used_stands_beside_a_good_one() {
    let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
    let ec = |x: &str, y: &str| json!({ "kid": "odd", "kty": "EC", "crv": "P-256", "x": x, "y": y });
    let byte = |len: usize| URL_SAFE_NO_PAD.encode(vec![1; len]);
    for (odd, says) in [
        (json!(7), "it is not an object"),
        (json!({ "kid": "odd" }), "it has no `kty`"),
        (json!({ "kid": 7, "kty": "EC", "crv": "P-256", "x": byte(32), "y": byte(32) }), "its `kid` is not a text"),
        (json!({ "kid": "odd", "kty": "EC", "use": 7 }), "its `use` is not a text"),
        (json!({ "kid": "odd", "kty": "EC", "key_ops": "verify" }), "its `key_ops` is not a list"),
        (json!({ "kid": "odd", "kty": "AKP", "pub": "AA" }), "its `kty` is not one of RSA, EC and OKP"),
        (json!({ "kid": "odd", "kty": "oct", "k": "AA" }), "it is a shared secret"),
        (json!({ "kid": "odd", "kty": "EC", "crv": "secp256k1" }), "its curve is not P-256 or P-384"),
        (json!({ "kid": "odd", "kty": "OKP", "crv": "X448", "x": "AA" }), "its curve is not Ed25519"),
        (json!({ "kid": "odd", "kty": "RSA", "n": short, "e": "AQAB" }), "its modulus is shorter than 2048 bits"),
        (json!({ "kid": "odd", "kty": "RSA", "n": byte(2000), "e": "AQAB" }), "its modulus is shorter than 2048 bits"),
        (
            json!({ "kid": "odd", "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0; 256]), "e": "AQAB" }),
            "begins with a zero",
        ),
        (RSA.jwk_with(&json!({ "kid": "odd", "e": "AQ" })), "its exponent is not an odd number"),
        (RSA.jwk_with(&json!({ "kid": "odd", "e": "AQAA" })), "its exponent is not an odd number"),
        (RSA.jwk_with(&json!({ "kid": "odd", "e": "" })), "its exponent is not an odd number"),
        (RSA.jwk_with(&json!({ "kid": "odd", "n": "a+b/" })), "not base64url"),
        (json!({ "kid": "odd", "kty": "RSA", "e": "AQAB" }), "a part of the key is missing"),
        (ec(&byte(31), &byte(32)), "its point has another length"),
        (P256.jwk_with(&json!({ "kid": "odd", "d": byte(32) })), "it is a private key"),
    ] {
        let keys = set(&[odd.clone(), P256.jwk_with(&json!({ "kid": "1" }))]);
        let told = keys.complaints();
        assert!(matches!(told, [one] if one.contains(says)), "{odd}: {told:?}");
        assert!(judge(&P256.sign(Some("1"), &good()), &keys, |_| {}).is_ok(), "{odd}");
    }
    // A point that is not on the curve is found out by the signature.
    let keys = set(&[ec(&byte(32), &byte(32))]);
    assert_eq!(judge(&P256.sign(Some("odd"), &good()), &keys, |_| {}), Err(BadJwt::Signature));
}

#[test]
fn what_is_no_key_set() {
    for bad in ["", "{}", "[]", r#"{"keys":{}}"#, "null", r#"{"keys":"#] {
        assert!(KeySet::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    let none = KeySet::parse(br#"{"keys":[]}"#).unwrap();
    assert_eq!(none.complaints(), ["there is no key for signatures"]);
    let many = set(&vec![P256.jwk(); 70]);
    assert_eq!(many.complaints(), ["of 70 keys only the first 64 are used"]);
}

/// However many keys have one name, the work for a token is bounded.
#[test]
fn few_keys_are_tried() {
    let keys = set(&vec![SoftKey::p256().jwk_with(&json!({ "kid": "1" })); 60]);
    let jwt = Jwt::read(&P256.sign(Some("1"), &good())).unwrap();
    assert_eq!(jwt.candidates(&keys, KeyUse::Signature).unwrap().len(), 4);
}

#[test]
fn svids_are_of_their_trust_domain() {
    let key = SoftKey::p256();
    let keys = set(&[key.jwk_with(&json!({ "kid": "1", "use": "jwt-svid" }))]);
    let issuer = IssuerName::TrustDomain("spiffe://td.example".to_owned());
    let judge = |sub: &str, typ: &str| {
        let claims = json!({ "aud": ["us"], "sub": sub, "iat": NOW, "exp": NOW + 300 });
        let token = key.sign_text(&json!({ "alg": "ES256", "kid": "1", "typ": typ }).to_string(), &claims.to_string());
        judge_by(&issuer, &token, &keys, |expected| expected.key_use = KeyUse::JwtSvid)
    };
    assert_eq!(judge("spiffe://td.example/db/1", "JWT").unwrap().subject, "spiffe://td.example/db/1");
    assert!(judge("spiffe://td.example/db", "JOSE").is_ok());
    for other in
        ["spiffe://td.example.org/db", "spiffe://td.example", "spiffe://td.example/", "spiffe://td.exampl", "db"]
    {
        assert!(matches!(judge(other, "JWT"), Err(BadJwt::Issuer { .. })), "{other}");
    }
}

/// ECDSA has two signatures for one message: a token is the same token with either.
#[test]
fn the_digest_is_of_what_is_signed() {
    let token = P256.sign(None, &good());
    let (input, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bytes[40] ^= 1;
    let other = format!("{input}.{}", URL_SAFE_NO_PAD.encode(bytes));
    assert_eq!(Jwt::read(&token).unwrap().digest(), Jwt::read(&other).unwrap().digest());
    assert_ne!(
        Jwt::read(&token).unwrap().digest(),
        Jwt::read(&P256.sign(None, &with("jti", json!("2")))).unwrap().digest()
    );
}
