//! `join-token`: a JWT made by this gateway for whoever holds it.
//!
//! Evidence: the JWT itself. Claims: `token_id`, `token_by` (who made it), `token_owner`. The token is redeemed for the
//! key, so the same key may come again and another key may not.

use std::collections::BTreeMap;

use pki::AssuranceLevel;
use wire::enroll::JOIN_TOKEN;

use super::Attestor;
use crate::core::{
    evidence::{Behind, ClaimKind, Claims, Cleared, Code, Context, Found, Grants, Message, Need, Reject, SUSPENDED},
    records::{Claim, LockKind, Seen, Token},
    token::{self, TokenError},
};

static INVALID: Code = Code::refused("token-invalid", Some("copy the whole token, or ask for a new one"));
static EXPIRED: Code = Code::refused("token-expired", Some(ANOTHER));
static REVOKED: Code = Code::refused("token-revoked", Some(ANOTHER));
static SPENT: Code =
    Code::refused("token-spent", Some("each machine needs its own token unless it was made for several uses"));
static NOT_FOR_KEY: Code = Code::refused("token-not-for-key", Some(ANOTHER));

/// What to do about a token that is not good any more.
const ANOTHER: &str = "ask for a new token";

impl From<TokenError> for Reject {
    fn from(error: TokenError) -> Self {
        let code = match &error {
            TokenError::Invalid(_) | TokenError::NotYet => &INVALID,
            TokenError::Expired(_) => &EXPIRED,
            TokenError::Suspended => &SUSPENDED,
            TokenError::Revoked => &REVOKED,
            TokenError::Spent => &SPENT,
            TokenError::OtherKey => &NOT_FOR_KEY,
        };
        Self::new(code, error.to_string())
    }
}

/// The attestor.
pub struct JoinToken;

impl Attestor for JoinToken {
    fn kind(&self) -> &'static str {
        JOIN_TOKEN
    }

    fn rejections(&self) -> Vec<Reject> {
        use TokenError::{Expired, Invalid, NotYet, OtherKey, Revoked, Spent, Suspended};
        let invalid = Invalid("this gateway did not sign it");
        [invalid, NotYet, Expired(7), Suspended, Revoked, Spent, OtherKey].map(Reject::from).into()
    }

    fn claims(&self) -> &'static [(&'static str, ClaimKind)] {
        &[("token_id", ClaimKind::Text), ("token_by", ClaimKind::Text), ("token_owner", ClaimKind::Text)]
    }

    fn needs(&self, message: &Message<'_>, context: &Context<'_>) -> Result<Vec<Need>, Reject> {
        let issuer = token::issuer(context.domain.as_str());
        let claims = context.token_key.verify(message.body, &issuer)?;
        Ok(vec![Need::Token(claims.jti)])
    }

    fn behind(&self, _: &Message<'_>, found: &Found, _: &Context<'_>) -> Result<Behind, Reject> {
        // Whoever made it: while a person is locked, nobody comes in by their word.
        let maker = &token(found)?.record.by;
        Ok(Behind { targets: vec![(LockKind::Person, maker.clone())], own: vec![], replaced: None })
    }

    fn step(&self, message: &Message<'_>, found: &Found, context: &Context<'_>, _: &Cleared) -> Result<Claims, Reject> {
        let seen = token(found)?;
        let record = &seen.record;
        token::redeemable(record, &message.for_key, found.maker, context.now)?;
        let mut values = BTreeMap::from([
            ("token_id".to_owned(), Claim::Text(record.id.clone())),
            ("token_by".to_owned(), Claim::Text(record.by.clone())),
        ]);
        if let Some(owner) = &record.owner {
            values.insert("token_owner".to_owned(), Claim::Text(owner.name.clone()));
        }
        Ok(Claims {
            values,
            assurance: AssuranceLevel::Software,
            role: Some(record.role),
            names: record.names.clone(),
            redeem: vec![seen.clone()],
            grants: Some(Grants {
                labels: record.labels.clone(),
                groups: record.groups.clone(),
                owner: record.owner.clone(),
                rejoin: None,
            }),
        })
    }
}

/// The token's record.
fn token(found: &Found) -> Result<&Seen<Token>, Reject> {
    found.token.as_ref().ok_or_else(|| TokenError::Invalid("this gateway does not know it (any more)").into())
}
