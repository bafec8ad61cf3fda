//! `reference`: two rounds over a shared secret, for tests of everything around attestors. It exists only in debug builds, so that no
//! release build can be configured to accept it, and is disabled without its section.
//!
//! Evidence, first round: the client's name. Challenge: a nonce, hex. Evidence, second round: name, a blank, and
//! HMAC-SHA256 over nonce and key digest under the secret, hex. Claims: `reference_name`, `reference_round`. It does not establish
//! where the secret is stored, although its assurance is `hardware`.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use pki::{AssuranceLevel, KeyDigest};
use serde::Deserialize;

use super::{Attestor, Built, Case, Renewal, Row};
use crate::core::{
    evidence::{
        BadSection, ClaimKind, Claims, Cleared, Context, Found, Grants, Message, Need, Reject, Rejected, RejectionCode,
        RestsOn, Section, Step, Vouched,
    },
    records::{Claim, LockKind},
};

/// Row of [`super::ALL`].
pub static ROW: Row = Row {
    kind: "reference",
    prefix: "reference",
    claims: &[("name", ClaimKind::Text), ("round", ClaimKind::Number)],
    renewal: Renewal::Proves,
    device: None,
    rejections,
    build,
};

/// `[attest.reference]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferenceSettings {
    /// Shared with the client.
    secret: String,
}

/// Least bytes of a secret.
const SECRET_MIN: usize = 16;

fn build(section: Option<&Section>) -> Built {
    let Some(section) = section else { return Ok(None) };
    let ReferenceSettings { secret } = section.read()?;
    if secret.len() < SECRET_MIN {
        return Err(BadSection::new(format!("`secret` must have {SECRET_MIN} bytes")));
    }
    Ok(Some(Box::new(Reference { key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()) })))
}

static WRONG: RejectionCode =
    RejectionCode::refused("reference-wrong", Some("answer the newest question, with the secret"));
static SHAPE: RejectionCode = RejectionCode::malformed("reference-malformed", None);

fn wrong() -> Reject {
    Reject::new(&WRONG, "the answer is not that of whoever knows the secret")
}

fn shape() -> Reject {
    Reject::new(&SHAPE, "a reference is a name, and in the second round an answer")
}

fn rejections() -> Vec<Reject> {
    vec![wrong(), shape()]
}

struct Reference {
    key: hmac::Key,
}

impl Attestor for Reference {
    fn open(&self, message: &Message<'_>, _: &Context<'_>) -> Result<Box<dyn Case>, Reject> {
        let (name, answer) = match message.body.split_once(' ') {
            Some((name, answer)) => (name, Some(answer)),
            None => (message.body, None),
        };
        let legal =
            (1..=63).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let nonce = match (message.kept, answer) {
            // an answer without a ticket starts a first round
            (None, _) => None,
            (Some(nonce), Some(answer)) => Some((nonce, answer)),
            (Some(_), None) => return Err(shape()),
        };
        if !legal {
            return Err(shape());
        }
        if let Some((nonce, answer)) = nonce {
            let answer = hex::decode(answer).map_err(|_| shape())?;
            hmac::verify(&self.key, &signed(nonce, &message.for_key), &answer).map_err(|_| wrong())?;
        }
        let nonce = message.entropy.iter().copied().take(NONCE_LEN).collect();
        Ok(Box::new(AskedBefore { name: name.to_owned(), answered: answer.is_some() && message.kept.is_some(), nonce }))
    }
}

const NONCE_LEN: usize = 16;

/// Input of the HMAC: the challenge, and the digest of the key to be certified.
fn signed(nonce: &[u8], for_key: &KeyDigest) -> Vec<u8> {
    [nonce, for_key.as_bytes()].concat()
}

struct AskedBefore {
    name: String,
    answered: bool,
    nonce: Vec<u8>,
}

impl Case for AskedBefore {
    fn needs(&self, _: &Found) -> Result<Vec<Need>, Reject> {
        Ok(vec![])
    }

    fn rests_on(&self, _: &Found, _: &Context<'_>) -> Result<RestsOn, Reject> {
        let own = vec![(LockKind::Machine, self.name.clone())];
        Ok(RestsOn { targets: own.clone(), own })
    }

    fn step(&self, _: &Found, _: &Context<'_>, _: &Cleared) -> Result<Step, Rejected> {
        if !self.answered {
            return Ok(Step::Ask { send: hex::encode(&self.nonce), keep: self.nonce.clone() });
        }
        Ok(Step::Done(Box::new(Vouched::claims(Claims {
            values: BTreeMap::from([
                ("name".to_owned(), Claim::Text(self.name.clone())),
                ("round".to_owned(), Claim::Number(2)),
            ]),
            assurance: AssuranceLevel::Hardware,
            role: None,
            names: vec![self.name.clone()],
            grants: Some(Grants::default()),
        }))))
    }
}
