//! Join tokens: a JWT (RFC 7519) signed by the gateway's token key, and a record in the store.
//!
//! The JWT is the complete string that a person copies. It has the gateway's address and pin; what it grants is in the record, so that a
//! token can be listed, revoked and counted.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use pki::{KeyDigest, Role, UnixTime};
use policy::Ruleset;
use wire::evidence::{JOIN_TOKEN_AUDIENCE, JoinTokenClaims};

use super::{
    facts::person_facts,
    jose::{self, BadJws},
    records::{Subject, Token},
};

/// Longest token we parse, in bytes: ours are about 600.
pub const TOKEN_MAX: usize = 4096;

/// Lifetime of a token if none is given: enough time to go to the machine.
pub const TOKEN_TTL: Duration = Duration::from_secs(3600);

/// Creator of the tokens that no person created.
pub const GATEWAY: &str = "gateway";

/// State of a token's creator now.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Maker {
    /// They may still create such a token, or the gateway created it.
    Stands,
    /// They are locked, or may not create such a token any more.
    Suspended,
    /// They were removed or have left.
    #[default]
    Gone,
}

/// The state of a token's creator by the current policy; `person` has the creator's name now. Locks are checked separately.
#[must_use]
pub fn maker(token: &Token, person: Option<&Subject>, rules: &Ruleset, now: UnixTime) -> Maker {
    let Some(lineage) = &token.maker else {
        return if token.by == GATEWAY { Maker::Stands } else { Maker::Gone };
    };
    let Some(person) = person.filter(|person| person.lineage == *lineage) else { return Maker::Gone };
    let ask = policy::Ask {
        action: policy::Action::Administer,
        principal: policy::Principal::Person(person_facts(person)),
        resource: policy::Resource::Token(facts(token)),
        now: now.secs(),
    };
    match policy::decide(rules, &ask) {
        policy::Decision::Allowed(_) => Maker::Stands,
        policy::Decision::Denied(_) => Maker::Suspended,
    }
}

/// The policy resource of a token.
#[must_use]
pub fn facts(token: &Token) -> policy::Token {
    policy::Token {
        role: token.role.as_str().to_owned(),
        names: token.names.clone(),
        groups: token.groups.clone(),
        labels: token.labels.clone(),
        owner: token.owner.as_ref().map(|owner| owner.name.clone()),
        uses: token.uses,
    }
}

/// Characters of an ES256 signature: 64 bytes in base64url (RFC 7518 3.4).
const SIGNATURE_CHARS: usize = 86;

/// Clock difference allowed for `nbf`, in seconds.
const LEEWAY: u64 = 60;

/// Verifies join tokens. Only ES256 is accepted.
pub struct TokenKey(DecodingKey);

/// The header of our tokens.
const HEADER: &str = r#"{"typ":"JWT","alg":"ES256"}"#;

/// The JWS Signing Input of a token (RFC 7515 5.1).
///
/// # Errors
/// `serde_json`'s, which these claims do not cause.
pub fn to_be_signed(claims: &JoinTokenClaims) -> Result<String, serde_json::Error> {
    let claims = serde_json::to_vec(claims)?;
    Ok(format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims)))
}

/// The JWS of a signing input and its signature.
#[must_use]
pub fn signed(text: &str, signature: &[u8; 64]) -> String {
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

impl TokenKey {
    /// From the uncompressed public point of a P-256 key (SEC 1 2.3.3).
    #[must_use]
    pub fn new(public_point: &[u8]) -> Self {
        Self(DecodingKey::from_ec_der(public_point))
    }

    /// Verifies signature, algorithm, audience and issuer. Does not check times; [`redeemable`] does.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] with the failed check.
    pub fn verify(&self, token: &str, issuer: &str) -> Result<JoinTokenClaims, TokenError> {
        if token.len() > TOKEN_MAX {
            return Err(TokenError::Invalid("it is too long"));
        }
        // only for a text of three parts; another is no token at all
        let parts: Vec<&str> = token.splitn(4, '.').collect();
        let cut_short = matches!(parts.as_slice(), [_, _, signature] if signature.len() < SIGNATURE_CHARS);
        let invalid = |bad: BadJws| {
            TokenError::Invalid(match bad {
                BadJws::Algorithm => "its algorithm is not ES256",
                // an error of its own, since it is the usual one when a long line is copied
                _ if cut_short => "it is cut short",
                BadJws::Shape => "it is not a JWT",
                BadJws::Critical => "it has `crit` in its header, and no extension is known here",
                BadJws::Claims(_) => "it is malformed",
                BadJws::Signature => "this gateway did not sign it",
            })
        };
        let jws = jose::read::<JoinTokenClaims>(token).map_err(invalid)?;
        let claims = jws.signed_by(&self.0, Algorithm::ES256).map_err(invalid)?;
        if claims.aud != JOIN_TOKEN_AUDIENCE {
            return Err(TokenError::Invalid("it is not a join token"));
        }
        if claims.iss != issuer {
            return Err(TokenError::Invalid("it is for another trust domain"));
        }
        Ok(claims)
    }
}

/// Why a token cannot be redeemed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// This gateway did not sign it.
    #[error("the join token is not valid: {0}")]
    Invalid(&'static str),
    /// After `exp`; seconds since then.
    #[error("the join token expired {0} s ago")]
    Expired(u64),
    /// Before its creation, more than the leeway: a clock is wrong.
    #[error("the join token is not valid yet")]
    NotYet,
    /// Also if its creator was removed.
    #[error("the join token was revoked")]
    Revoked,
    /// Other keys have used all its uses.
    #[error("the join token was already used by another key")]
    Spent,
    /// It is bound to another key.
    #[error("the join token is for another key")]
    OtherKey,
    /// Its creator could not create it now.
    #[error("the join token cannot be used at present")]
    Suspended,
}

/// Checks that a token may be redeemed for `key` now. It admits only what its creator could grant now. For a key that redeemed it
/// before it remains valid, also after it expired, until it is revoked: a token is redeemed for a key and not for a request, so that
/// after a lapsed request the client can ask again with the same key.
///
/// # Errors
/// [`TokenError`] with the first failed check.
pub fn redeemable(token: &Token, key: &KeyDigest, maker: Maker, now: UnixTime) -> Result<(), TokenError> {
    let key = key.hex();
    if token.revoked {
        return Err(TokenError::Revoked);
    }
    match maker {
        Maker::Stands => {}
        Maker::Suspended => return Err(TokenError::Suspended),
        Maker::Gone => return Err(TokenError::Revoked),
    }
    if token.redeemed.contains(&key) {
        return Ok(());
    }
    if now.secs() > token.expires.0 {
        return Err(TokenError::Expired(now.secs() - token.expires.0));
    }
    if now.secs() + LEEWAY < token.created.0 {
        return Err(TokenError::NotYet);
    }
    if token.key.as_ref().is_some_and(|bound| *bound != key) {
        return Err(TokenError::OtherKey);
    }
    if token.redeemed.len() >= token.uses as usize {
        return Err(TokenError::Spent);
    }
    Ok(())
}

/// The state of a token, as shown in listings.
#[must_use]
pub fn state(token: &Token, maker: Maker, now: UnixTime) -> &'static str {
    if token.revoked || maker == Maker::Gone {
        "revoked"
    } else if now.secs() > token.expires.0 {
        "expired"
    } else if token.redeemed.len() >= token.uses as usize {
        "spent"
    } else if maker == Maker::Suspended {
        "suspended"
    } else {
        "live"
    }
}

/// The claims of a token's JWT.
#[must_use]
pub fn claims(token: &Token, domain: &str, gateway: &str, pin: &KeyDigest) -> JoinTokenClaims {
    JoinTokenClaims {
        iss: issuer(domain),
        aud: JOIN_TOKEN_AUDIENCE.to_owned(),
        jti: token.id.clone(),
        iat: token.created.0,
        nbf: token.created.0,
        exp: token.expires.0,
        gateway: gateway.to_owned(),
        pin: pin.hex(),
        role: token.role.as_str().to_owned(),
    }
}

/// `iss` of the tokens of a trust domain.
#[must_use]
pub fn issuer(domain: &str) -> String {
    format!("spiffe://{domain}")
}

/// Whether tokens can be for this role.
#[must_use]
pub const fn admits(role: Role) -> bool {
    match role {
        Role::Machine | Role::Person => true,
        Role::Gateway => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::core::records::UnixSecs;

    fn token(change: impl FnOnce(&mut Token)) -> Token {
        let mut token = Token {
            id: "t".into(),
            role: Role::Machine,
            uses: 1,
            redeemed: vec![],
            names: vec![],
            labels: BTreeMap::new(),
            groups: vec![],
            owner: None,
            key: None,
            by: "alice".into(),
            maker: Some("l-1".into()),
            created: UnixSecs(1000),
            expires: UnixSecs(2000),
            revoked: false,
        };
        change(&mut token);
        token
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Token), now: u64, want: Result<(), TokenError>) {
        let key = KeyDigest::from_spki_der(b"mine");
        assert_eq!(redeemable(&token(change), &key, Maker::Stands, UnixTime::new(now)), want);
    }

    /// If the creator lost the permission, the token is not valid, redeemed before or not.
    #[test]
    fn a_token_is_worth_what_its_maker_could_give() {
        let key = KeyDigest::from_spki_der(b"mine");
        for (maker, want, state_is) in [
            (Maker::Stands, Ok(()), "live"),
            (Maker::Suspended, Err(TokenError::Suspended), "suspended"),
            (Maker::Gone, Err(TokenError::Revoked), "revoked"),
        ] {
            for redeemed in [vec![], vec![key.hex()]] {
                let token = token(|token| (token.uses, token.redeemed) = (2, redeemed));
                assert_eq!(redeemable(&token, &key, maker, UnixTime::new(1500)), want);
                assert_eq!(state(&token, maker, UnixTime::new(1500)), state_is);
            }
        }
    }

    #[test]
    fn redemption() {
        let mine = KeyDigest::from_spki_der(b"mine").hex();
        check(|_| {}, 1500, Ok(()));
        check(|_| {}, 2000, Ok(()));
        check(|_| {}, 2001, Err(TokenError::Expired(1)));
        check(|_| {}, 939, Err(TokenError::NotYet));
        check(|t| t.revoked = true, 1500, Err(TokenError::Revoked));
        check(|t| t.redeemed = vec!["other".into()], 1500, Err(TokenError::Spent));
        check(|t| t.redeemed = vec![mine.clone()], 1500, Ok(()));
        check(|t| t.redeemed = vec![mine.clone()], 2001, Ok(()));
        check(|t| (t.revoked, t.redeemed) = (true, vec![mine.clone()]), 1500, Err(TokenError::Revoked));
        check(|t| (t.uses, t.redeemed) = (2, vec!["other".into()]), 1500, Ok(()));
        check(|t| t.key = Some("other".into()), 1500, Err(TokenError::OtherKey));
        check(|t| t.key = Some(mine.clone()), 1500, Ok(()));
    }
}
