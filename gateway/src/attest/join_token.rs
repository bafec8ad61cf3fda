//! `join-token`: a JWT signed by this gateway; a bearer token.
//!
//! Evidence: the JWT itself. Claims: `token_id`, `token_by` (its creator), `token_owner`. The token is redeemed for a key: the same
//! key can use it again, another key cannot. It establishes nothing about the machine that shows it.

use std::collections::BTreeMap;

use pki::{Assurance, KeyDigest, Role};
use wire::evidence::JOIN_TOKEN;

use super::{Attestor, Built, Case, Renewal, Row, switched};
use crate::core::{
    audit::Event,
    change::Changes,
    evidence::{
        ClaimKind, Claims, Cleared, Context, Found, Grants, Message, Need, Reject, Rejected, RejectionCode, RestsOn,
        SUSPENDED, Section, Step, Vouched,
    },
    keys,
    records::{Claim, LockKind, Seen, Subject, Token},
    refusal::Refusal,
    token::{self, Maker, TokenError},
};

/// Row of [`super::ALL`].
pub static ROW: Row = Row {
    kind: JOIN_TOKEN,
    prefix: "token",
    claims: &[("id", ClaimKind::Text), ("by", ClaimKind::Text), ("owner", ClaimKind::Text)],
    renewal: Renewal::OnlyAdmits,
    asks: false,
    device: None,
    rejections,
    build,
};

fn build(section: Option<&Section>) -> Built {
    switched(section, JoinToken)
}

static INVALID: RejectionCode =
    RejectionCode::refused("token-invalid", Some("copy the whole token, or ask for a new one"));
static EXPIRED: RejectionCode = RejectionCode::refused("token-expired", Some(ANOTHER));
static REVOKED: RejectionCode = RejectionCode::refused("token-revoked", Some(ANOTHER));
static SPENT: RejectionCode =
    RejectionCode::refused("token-spent", Some("each machine needs its own token unless it was made for several uses"));
static NOT_FOR_KEY: RejectionCode = RejectionCode::refused("token-not-for-key", Some(ANOTHER));

/// Hint for a token that is not valid any more.
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

fn rejections() -> Vec<Reject> {
    use TokenError::{Expired, Invalid, NotYet, OtherKey, Revoked, Spent, Suspended};
    let invalid = Invalid("this gateway did not sign it");
    [invalid, NotYet, Expired(7), Suspended, Revoked, Spent, OtherKey].map(Reject::from).into()
}

struct JoinToken;

impl Attestor for JoinToken {
    fn open(&self, message: &Message<'_>, context: &Context<'_>) -> Result<Box<dyn Case>, Reject> {
        let issuer = token::issuer(context.domain.as_str());
        let id = context.token_key.verify(message.body, &issuer)?.jti;
        Ok(Box::new(PresentedToken { id, for_key: message.for_key }))
    }

    fn recheck_needs(&self, id: &str, found: &Found) -> Vec<Need> {
        needs(id, found)
    }

    fn recheck(&self, id: &str, for_key: &KeyDigest, found: &Found, context: &Context<'_>) -> Result<Changes, Refusal> {
        let seen = found.record::<Token>(TOKEN).ok_or(TokenError::Revoked).map_err(Reject::from)?;
        let maker = maker(&seen, found, context);
        token::redeemable(&seen.record, for_key, maker, context.now).map_err(Reject::from)?;
        let mut changes = Changes::new();
        changes.expect_seen(keys::token(id), &seen);
        Ok(changes)
    }
}

/// Index of the token's record in [`Found`].
const TOKEN: usize = 0;
/// Index of the record of the token's creator.
const MAKER: usize = 1;

fn needs(id: &str, found: &Found) -> Vec<Need> {
    match found.len() {
        TOKEN => vec![Need::Record(keys::token(id))],
        MAKER => {
            let maker = found.record::<Token>(TOKEN).filter(|seen| seen.record.maker.is_some());
            maker.map(|seen| Need::Record(keys::subject(Role::Person, &seen.record.by))).into_iter().collect()
        }
        _ => vec![],
    }
}

fn maker(seen: &Seen<Token>, found: &Found, context: &Context<'_>) -> Maker {
    let person = found.record::<Subject>(MAKER);
    token::maker(&seen.record, person.as_ref().map(|seen| &seen.record), context.rules, context.now)
}

/// A token with a valid signature.
struct PresentedToken {
    id: String,
    for_key: KeyDigest,
}

impl PresentedToken {
    fn token(found: &Found) -> Result<Seen<Token>, TokenError> {
        found.record(TOKEN).ok_or(TokenError::Invalid("this gateway does not know it (any more)"))
    }
}

impl Case for PresentedToken {
    fn needs(&self, found: &Found) -> Result<Vec<Need>, Reject> {
        Ok(needs(&self.id, found))
    }

    fn rests_on(&self, found: &Found, _: &Context<'_>) -> Result<RestsOn, Reject> {
        // the creator: while they are locked, their tokens admit nobody
        let token = Self::token(found)?.record;
        let mut targets = vec![(LockKind::Person, token.by)];
        targets.extend(token.maker.map(|lineage| (LockKind::Lineage, lineage)));
        Ok(RestsOn { targets, own: vec![] })
    }

    fn step(&self, found: &Found, context: &Context<'_>, _: &Cleared) -> Result<Step, Rejected> {
        let seen = Self::token(found).map_err(Reject::from)?;
        let record = &seen.record;
        token::redeemable(record, &self.for_key, maker(&seen, found, context), context.now).map_err(Reject::from)?;
        let mut values = BTreeMap::from([
            ("id".to_owned(), Claim::Text(record.id.clone())),
            ("by".to_owned(), Claim::Text(record.by.clone())),
        ]);
        if let Some(owner) = &record.owner {
            values.insert("owner".to_owned(), Claim::Text(owner.name.clone()));
        }
        let claims = Claims {
            values,
            assurance: Assurance::SOFTWARE,
            role: Some(record.role),
            names: record.names.clone(),
            grants: Some(Grants {
                labels: record.labels.clone(),
                groups: record.groups.clone(),
                owner: record.owner.clone(),
                continues: None,
            }),
        };
        let spends = redeem(&seen, &self.for_key);
        Ok(Step::Done(Box::new(Vouched { spends, reference: Some(self.id.clone()), ..Vouched::claims(claims) })))
    }
}

/// Redeems a token for a key. A repetition with the same key leaves the record as it is.
fn redeem(seen: &Seen<Token>, for_key: &KeyDigest) -> Changes {
    let (mut changes, mut record, key) = (Changes::new(), seen.record.clone(), for_key.hex());
    if !record.redeemed.contains(&key) {
        record.redeemed.push(key.clone());
        changes.event(Event::TokenRedeemed { token: record.id.clone(), key });
    }
    // written even if unchanged, so that a concurrent revocation is a conflict
    changes.update(keys::token(&record.id), seen, &record);
    changes
}
