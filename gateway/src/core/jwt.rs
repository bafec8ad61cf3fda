//! JSON Web Tokens (RFC 7519) that others issue: identity tokens of OpenID Connect, and tokens of clouds, clusters and CI systems.
//!
//! The `jsonwebtoken` crate verifies the signature, and nothing else. Everything that it does not check, or checks only if it is
//! there, is in [`Jwt::verify`]: one function for whoever takes such tokens. It does not establish that the token was not used
//! before, nor that whoever sends it is whom it was issued to: the caller binds it to a key or spends it.

use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::Algorithm;
use pki::UnixTime;
use serde_json::{Map, Value};

pub use self::key_set::{BadKeySet, IssuerKey, KeySet, KeyUse};
use super::jose::{self, BadJws, Jws};

mod key_set;
#[cfg(test)]
pub(crate) mod soft;
#[cfg(test)]
mod tests;

/// Longest token that is read, in bytes. Those of CI systems and clusters have one to two thousand, those of a directory with many
/// groups up to eight.
pub const JWT_MAX: usize = 16 * 1024;

/// Clock difference to an issuer that is allowed for, in seconds.
pub const LEEWAY: u64 = 60;

/// The algorithms that a token may be signed with: all that the crate verifies with a public key.
pub const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// The algorithm of this name, if a token may be signed with it.
#[must_use]
pub fn algorithm(name: &str) -> Option<Algorithm> {
    ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
}

/// The names of [`ALGORITHMS`], for texts.
#[must_use]
pub fn algorithm_names() -> String {
    ALGORITHMS.map(|(name, _)| name).join(", ")
}

/// Why a token is refused. Each text continues "the token: ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadJwt {
    /// It is longer than [`JWT_MAX`].
    #[error("it is longer than {JWT_MAX} bytes")]
    TooLong,
    /// Not three parts in base64url, or the header is not that of a JWS.
    #[error("it is not a signed JWT")]
    Shape,
    /// RFC 7515 4.1.11: a token with an unknown critical extension must be refused.
    #[error("it has `crit` in its header, and no extension is known here")]
    Critical,
    /// Its algorithm is none of [`ALGORITHMS`]: `none`, one with a shared secret, or one that is not known.
    #[error("its algorithm is {0:?}, and judged are {names}", names = algorithm_names())]
    UnknownAlgorithm(String),
    /// Its issuer may use others only.
    #[error("its algorithm is {0}, which is not allowed for its issuer")]
    OtherAlgorithm(String),
    /// Its `typ` says that it is another kind of token.
    #[error("its type is {0:?}, so it is for another purpose")]
    Type(String),
    /// The claims are no JSON object, or have a member twice; where.
    #[error("its claims cannot be read: {0}")]
    Unreadable(String),
    /// None of the issuer's keys is named or fits.
    #[error("it is signed by none of the keys that its issuer publishes now")]
    UnknownKey,
    /// The signature is not by the key that it names.
    #[error("its signature is not by its issuer's key")]
    Signature,
    /// A required claim is missing.
    #[error("the claim `{0}` is missing")]
    Absent(&'static str),
    /// A claim is there, of another type.
    #[error("the claim `{claim}` is not {want}")]
    Kind {
        /// Its name.
        claim: &'static str,
        /// What it should be.
        want: &'static str,
    },
    /// It is by somebody else.
    #[error("it is by the issuer {found:?}, and not by {want:?}")]
    Issuer {
        /// `iss`.
        found: String,
        /// The issuer whose keys were used.
        want: String,
    },
    /// It is for somebody else, or for others too.
    #[error("it is for {found}, and must be for {want:?} alone")]
    Audience {
        /// `aud`.
        found: String,
        /// The one that is wanted.
        want: String,
    },
    /// It is over since so many seconds.
    #[error("it ended {0} s ago")]
    Expired(u64),
    /// It begins in so many seconds.
    #[error("it is not valid for another {0} s")]
    NotYet(u64),
    /// It was issued so many seconds from now.
    #[error("it was issued {0} s in the future")]
    Future(u64),
    /// It was issued too long ago.
    #[error("it was issued {age} s ago, and {max} s are allowed")]
    Old {
        /// Its age in seconds.
        age: u64,
        /// The oldest that is taken.
        max: u64,
    },
    /// It was issued to another client of the issuer.
    #[error("it was issued to the client {0:?}")]
    Party(String),
}

impl From<BadJws> for BadJwt {
    fn from(bad: BadJws) -> Self {
        match bad {
            BadJws::Shape => Self::Shape,
            BadJws::Critical => Self::Critical,
            BadJws::Claims(why) => Self::Unreadable(shown(&why)),
            // the algorithm is compared before the signature is
            BadJws::Algorithm | BadJws::Signature => Self::Signature,
        }
    }
}

/// Longest text of a token that is told in an error, in characters.
const SHOWN_MAX: usize = 128;

/// The beginning of a text of the token.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

/// Which claim says whose token it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerName {
    /// `iss` (RFC 7519 4.1.1), compared as a text.
    Iss(String),
    /// The trust domain of the SPIFFE ID in `sub` (JWT-SVID 3), as `spiffe://DOMAIN`. There may be any `iss` or none.
    TrustDomain(String),
}

impl IssuerName {
    /// As it stands in the configuration.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Iss(name) | Self::TrustDomain(name) => name,
        }
    }
}

/// What a token must be.
#[derive(Clone, Debug)]
pub struct ExpectedJwt<'a> {
    /// Who issued it.
    pub issuer: &'a IssuerName,
    /// Whom it is for: this, and nobody else.
    pub audience: &'a str,
    /// What it may be signed with.
    pub algorithms: &'a [Algorithm],
    /// What the key must be for.
    pub key_use: KeyUse,
    /// Oldest token that is taken, in seconds since `iat`.
    pub max_age: u64,
    /// If there is an `azp` (OpenID Connect Core 2), whom it must name.
    pub party: Option<&'a str>,
    /// The time.
    pub now: UnixTime,
}

/// What a verified token says, beside its other claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedJwt {
    /// The key that signed it, by its thumbprint (RFC 7638).
    pub signer: [u8; 32],
    /// `sub`, which is not empty.
    pub subject: String,
    /// `iat`.
    pub issued: UnixTime,
    /// `exp`.
    pub ends: UnixTime,
}

/// A token that was read. Nothing in it is to be trusted before [`Jwt::verify`].
#[derive(Clone, Debug)]
pub struct Jwt(Jws<'static, Map<String, Value>>);

impl Jwt {
    /// Reads a token; checks what needs no key.
    ///
    /// # Errors
    /// [`BadJwt::TooLong`], [`BadJwt::Shape`], [`BadJwt::Critical`], [`BadJwt::UnknownAlgorithm`], [`BadJwt::Unreadable`].
    pub fn read(text: &str) -> Result<Self, BadJwt> {
        if text.len() > JWT_MAX {
            return Err(BadJwt::TooLong);
        }
        let jws = jose::read::<Map<String, Value>>(text)?;
        if algorithm(&jws.alg).is_none() {
            return Err(BadJwt::UnknownAlgorithm(shown(&jws.alg)));
        }
        Ok(Self(jws.into_owned()))
    }

    /// Whether it says that it is by this issuer.
    #[must_use]
    pub fn names(&self, issuer: &IssuerName) -> bool {
        self.issuer(issuer).is_ok()
    }

    /// Its `iss`, if that is a text.
    #[must_use]
    pub fn iss(&self) -> Option<String> {
        self.claims().get("iss").and_then(Value::as_str).map(shown)
    }

    /// All claims.
    #[must_use]
    pub const fn claims(&self) -> &Map<String, Value> {
        &self.0.claims
    }

    /// SHA-256 of what is signed. Unlike one of the whole token it is the same however the signature is written: an ECDSA signature
    /// has two forms that both verify.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, self.0.signing_input().as_bytes()).as_ref());
        bytes
    }

    /// The keys of a set that may have signed it, by `kid`, algorithm and use.
    ///
    /// # Errors
    /// [`BadJwt::UnknownKey`] if there is none: the issuer may have a new key.
    pub fn candidates<'k>(&self, keys: &'k KeySet, key_use: KeyUse) -> Result<Vec<&'k IssuerKey>, BadJwt> {
        let algorithm = algorithm(&self.0.alg).ok_or_else(|| BadJwt::UnknownAlgorithm(shown(&self.0.alg)))?;
        let found = keys.candidates(self.0.kid.as_deref(), algorithm, key_use);
        if found.is_empty() { Err(BadJwt::UnknownKey) } else { Ok(found) }
    }

    /// Verifies it: algorithm and type, signature, and each of the registered claims.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(&self, keys: &KeySet, expected: &ExpectedJwt<'_>) -> Result<VerifiedJwt, BadJwt> {
        let signer = self.signed(keys, expected)?;
        self.issuer(expected.issuer)?;
        let subject = self.text("sub")?.to_owned();
        self.audience(expected.audience)?;
        let (issued, ends) = self.times(expected)?;
        match (self.claims().get("azp"), expected.party) {
            (None, _) | (_, None) => {}
            (Some(Value::String(found)), Some(party)) if found == party => {}
            (Some(found), Some(_)) => return Err(BadJwt::Party(shown(&text_of(found)))),
        }
        Ok(VerifiedJwt { signer, subject, issued, ends })
    }

    /// The thumbprint of the key that signed it.
    fn signed(&self, keys: &KeySet, expected: &ExpectedJwt<'_>) -> Result<[u8; 32], BadJwt> {
        let known = algorithm(&self.0.alg).ok_or_else(|| BadJwt::UnknownAlgorithm(shown(&self.0.alg)))?;
        if !expected.algorithms.contains(&known) {
            return Err(BadJwt::OtherAlgorithm(self.0.alg.clone()));
        }
        if let Some(kind) = &self.0.typ
            && !expected.key_use.types().iter().any(|known| is_type(kind, known))
        {
            return Err(BadJwt::Type(shown(kind)));
        }
        let candidates = self.candidates(keys, expected.key_use)?;
        let signer = candidates.iter().find(|key| self.0.verify(key.decoding_key(), known).is_ok());
        signer.map(|key| key.thumbprint()).ok_or(BadJwt::Signature)
    }

    /// A claim that must be a text, and not an empty one.
    fn text(&self, claim: &'static str) -> Result<&str, BadJwt> {
        match self.claims().get(claim) {
            None | Some(Value::Null) => Err(BadJwt::Absent(claim)),
            Some(Value::String(text)) if !text.is_empty() => Ok(text),
            Some(_) => Err(BadJwt::Kind { claim, want: "a text" }),
        }
    }

    fn issuer(&self, want: &IssuerName) -> Result<(), BadJwt> {
        let (found, is_it) = match want {
            IssuerName::Iss(name) => {
                let found = self.text("iss")?;
                (found, found == name)
            }
            IssuerName::TrustDomain(domain) => {
                let found = self.text("sub")?;
                let path = found.strip_prefix(domain.as_str()).and_then(|rest| rest.strip_prefix('/'));
                (found, path.is_some_and(|path| !path.is_empty()))
            }
        };
        if is_it { Ok(()) } else { Err(BadJwt::Issuer { found: shown(found), want: want.as_str().to_owned() }) }
    }

    /// `aud` is a text, or a list of one: a token for several could be used by each of them at the others.
    fn audience(&self, want: &str) -> Result<(), BadJwt> {
        let found = match self.claims().get("aud") {
            None | Some(Value::Null) => return Err(BadJwt::Absent("aud")),
            Some(found) => found,
        };
        let one = match found {
            Value::String(one) => Some(one.as_str()),
            Value::Array(all) => match all.as_slice() {
                [Value::String(one)] => Some(one.as_str()),
                _ => None,
            },
            _ => return Err(BadJwt::Kind { claim: "aud", want: "a text or a list of texts" }),
        };
        if one == Some(want) {
            return Ok(());
        }
        Err(BadJwt::Audience { found: shown(&found.to_string()), want: want.to_owned() })
    }

    /// When it was issued and when it ends.
    fn times(&self, expected: &ExpectedJwt<'_>) -> Result<(UnixTime, UnixTime), BadJwt> {
        let now = expected.now.secs();
        let ends = self.time("exp")?.ok_or(BadJwt::Absent("exp"))?;
        if now >= ends.saturating_add(LEEWAY) {
            return Err(BadJwt::Expired(now - ends));
        }
        if let Some(begins) = self.time("nbf")?.filter(|begins| *begins > now.saturating_add(LEEWAY)) {
            return Err(BadJwt::NotYet(begins - now));
        }
        let issued = self.time("iat")?.ok_or(BadJwt::Absent("iat"))?;
        if issued > now.saturating_add(LEEWAY) {
            return Err(BadJwt::Future(issued - now));
        }
        let age = now.saturating_sub(issued);
        if age > expected.max_age.saturating_add(LEEWAY) {
            return Err(BadJwt::Old { age, max: expected.max_age });
        }
        Ok((UnixTime::new(issued), UnixTime::new(ends)))
    }

    /// A NumericDate (RFC 7519 2), which may have a fraction, as whole seconds.
    fn time(&self, claim: &'static str) -> Result<Option<u64>, BadJwt> {
        let bad = BadJwt::Kind { claim, want: "a number of seconds" };
        match self.claims().get(claim) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => {
                let fraction = || number.as_f64().filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds));
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in the range")]
                let seconds = number.as_u64().or_else(|| fraction().map(|seconds| seconds as u64));
                seconds.map(Some).ok_or(bad)
            }
            Some(_) => Err(bad),
        }
    }
}

/// Latest time with a fraction that is read: integers are exact up to here.
const SECONDS_MAX: f64 = 9_007_199_254_740_992.0;

/// RFC 7515 4.1.9: media types are compared without regard to case, and `application/` may be left out.
fn is_type(found: &str, known: &str) -> bool {
    let start = "application/";
    let bare = match found.split_at_checked(start.len()) {
        Some((before, bare)) if before.eq_ignore_ascii_case(start) => bare,
        _ => found,
    };
    bare.eq_ignore_ascii_case(known)
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
