//! JSON Web Signatures in compact serialization (RFC 7515 3.1), for proofs and tokens. The `jsonwebtoken` crate verifies signatures;
//! all other checks are here, so that they do not depend on the crate's version.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};

/// Why a JWS is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadJws {
    /// Not three parts in base64url, or the header is not an object with `alg`.
    #[error("it is not a signed JWT")]
    Shape,
    /// RFC 7515 4.1.11: a JWS with an unknown critical extension must be refused.
    #[error("it has `crit`, and no extension is known here")]
    Critical,
    /// `alg` is not the algorithm of the key.
    #[error("its algorithm is another")]
    Algorithm,
    /// The claims do not deserialize; the text names the first error.
    #[error("its claims are not those wanted: {0}")]
    Claims(String),
    /// The signature does not verify with the key.
    #[error("its signature is not by this key")]
    Signature,
}

/// The header parameters that are checked; all others are ignored.
#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    /// Whether it is present, with any value: no extension is supported.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

fn present<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// A JWS whose signature is not verified yet.
#[derive(Clone, Debug)]
pub struct Jws<'a, T> {
    text: Cow<'a, str>,
    /// Header parameter `alg` (RFC 7515 4.1.1), which may be the name of no algorithm.
    pub alg: String,
    /// Header parameter `typ` (RFC 7515 4.1.9).
    pub typ: Option<String>,
    /// Header parameter `kid` (RFC 7515 4.1.4).
    pub kid: Option<String>,
    /// Not to be trusted before [`Jws::signed_by`].
    pub claims: T,
}

/// Reads header and claims; does not verify the signature.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<Jws<'_, T>, BadJws> {
    let mut parts = text.split('.');
    let (Some(header), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(BadJws::Shape);
    };
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| BadJws::Shape);
    let (header, claims) = (decoded(header)?, decoded(claims)?);
    let header: Header = wire::strict::from_slice(&header).map_err(|_| BadJws::Shape)?;
    if header.crit {
        return Err(BadJws::Critical);
    }
    let claims = wire::strict::from_slice(&claims).map_err(|error| BadJws::Claims(error.to_string()))?;
    Ok(Jws { text: text.into(), alg: header.alg, typ: header.typ, kid: header.kid, claims })
}

impl<T> Jws<'_, T> {
    /// As it is, of a text of its own.
    pub fn into_owned(self) -> Jws<'static, T> {
        let Self { text, alg, typ, kid, claims } = self;
        Jws { text: Cow::Owned(text.into_owned()), alg, typ, kid, claims }
    }

    /// The JWS Signing Input (RFC 7515 2): what the signature is over.
    pub fn signing_input(&self) -> &str {
        self.text.rsplit_once('.').map_or("", |(input, _)| input)
    }

    /// Verifies the signature by `key` with `algorithm`. Does not check times and audience; the caller does.
    pub fn signed_by(self, key: &DecodingKey, algorithm: Algorithm) -> Result<T, BadJws> {
        self.verify(key, algorithm)?;
        Ok(self.claims)
    }

    /// As [`Jws::signed_by`], for one of several keys.
    pub fn verify(&self, key: &DecodingKey, algorithm: Algorithm) -> Result<(), BadJws> {
        if self.alg.parse() != Ok(algorithm) {
            return Err(BadJws::Algorithm);
        }
        let (input, signature) = self.text.rsplit_once('.').ok_or(BadJws::Shape)?;
        match jsonwebtoken::crypto::verify(signature, input.as_bytes(), key, algorithm) {
            Ok(true) => Ok(()),
            Ok(false) => Err(BadJws::Signature),
            Err(_) => Err(BadJws::Shape),
        }
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::EncodingKey;
    use pki::{CaKey as _, KeyAlgorithm, SoftwareKey};

    use super::*;

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Claims {
        sub: String,
        iat: u64,
    }

    const GOOD: &str = r#"{"sub":"a","iat":1}"#;

    /// Signs any header and claims, and reads the result as ES256 by the same key.
    fn outcome(header: &str, claims: &str) -> Result<Claims, BadJws> {
        let (key, pkcs8) = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signed = EncodingKey::from_ec_der(&pkcs8);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &signed, Algorithm::ES256).unwrap();
        let text = format!("{message}.{signature}");
        read::<Claims>(&text)?.signed_by(&DecodingKey::from_ec_der(key.public_key()), Algorithm::ES256)
    }

    #[track_caller]
    fn header(header: &str, want: Result<(), BadJws>) {
        assert_eq!(outcome(header, GOOD).map(drop), want, "{header}");
    }

    #[test]
    fn headers() {
        header(r#"{"alg":"ES256"}"#, Ok(()));
        header(r#"{"alg":"ES256","typ":"JWT","kid":"1","x":{"crit":["y"]}}"#, Ok(()));
        for crit in [r#"["b64"]"#, r#"["exp"]"#, r#"["https://x"]"#, "[]", "null", "1", r#""exp""#, "{}"] {
            header(&format!(r#"{{"alg":"ES256","exp":1,"crit":{crit}}}"#), Err(BadJws::Critical));
            header(&format!(r#"{{"crit":{crit},"b64":true,"alg":"ES256"}}"#), Err(BadJws::Critical));
        }
        header(r#"{"alg":"ES384"}"#, Err(BadJws::Algorithm));
        for other in ["HS256", "none", "NONE", "ES512", "ES256K", "Ed25519", ""] {
            header(&format!(r#"{{"alg":"{other}"}}"#), Err(BadJws::Algorithm));
        }
        for bad in [r#"{"alg":1}"#, "{}", "[]", r#"["ES256"]"#, r#"["ES256",null,null]"#, "x", ""] {
            header(bad, Err(BadJws::Shape));
        }
        header(r#"{"alg":"ES256","alg":"ES256"}"#, Err(BadJws::Shape));
        header(r#"{"alg":"ES256","kid":"1","kid":"1"}"#, Err(BadJws::Shape));
        header(r#"{"alg":"ES256","kid":1}"#, Err(BadJws::Shape));
    }

    #[track_caller]
    fn claims(text: &str, says: Option<&str>) {
        match (outcome(r#"{"alg":"ES256"}"#, text), says) {
            (Ok(_), None) => {}
            (Err(BadJws::Claims(why)), Some(says)) => assert!(why.contains(says), "{text}: {why}"),
            (other, _) => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_is_wrong_with_claims_is_said() {
        claims(GOOD, None);
        claims(r#"{"sub":"a","iat":1,"more":[]}"#, None);
        claims(r#"{"sub":"a","iat":1.5}"#, Some("floating point `1.5`"));
        claims(r#"{"sub":"a","iat":"1"}"#, Some("string \"1\""));
        claims(r#"{"sub":"a"}"#, Some("missing field `iat`"));
        claims(r#"{"sub":"a","iat":1,"iat":2}"#, Some("duplicate field `iat`"));
        claims(r#"["a",1]"#, Some("sequence"));
    }
}
