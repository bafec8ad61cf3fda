//! `reference`: two rounds over a shared secret, for tests of everything around attestors. It exists only in debug builds, so that no
//! release build can be configured to accept it, and is disabled without its section.
//!
//! Evidence, first round: the client's name, or `@DEVICE:COUNT`. Challenge: a nonce, hex. Evidence, second round: the same, a blank, and
//! HMAC-SHA256 over nonce and key digest under the secret, hex. Claims: `reference_name`, `reference_round`, or `reference_device` and
//! `reference_count`. It does not establish where the secret is stored, although its assurance is `hardware`.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use pki::{Assurance, AssuranceOf, KeyDigest};
use serde::Deserialize;

use super::{Attestor, Built, Case, DeviceRow, Renewal, Row};
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
    claims: &[
        ("name", ClaimKind::Text),
        ("round", ClaimKind::Number),
        ("device", ClaimKind::Text),
        ("count", ClaimKind::Number),
    ],
    renewal: Renewal::Proves,
    asks: true,
    device: Some(DeviceRow { claim: "device", counts: &["count"] }),
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
        let (what, answer) = match message.body.split_once(' ') {
            Some((what, answer)) => (what, Some(answer)),
            None => (message.body, None),
        };
        let what = Referred::parse(what).ok_or_else(shape)?;
        let nonce = match (message.kept, answer) {
            // an answer without a ticket starts a first round
            (None, _) => None,
            (Some(nonce), Some(answer)) => Some((nonce, answer)),
            (Some(_), None) => return Err(shape()),
        };
        if let Some((nonce, answer)) = nonce {
            let answer = hex::decode(answer).map_err(|_| shape())?;
            hmac::verify(&self.key, &signed(nonce, &message.for_key), &answer).map_err(|_| wrong())?;
        }
        let nonce = message.entropy.iter().copied().take(NONCE_LEN).collect();
        Ok(Box::new(AskedBefore { what, answered: answer.is_some() && message.kept.is_some(), nonce }))
    }
}

const NONCE_LEN: usize = 16;

/// Input of the HMAC: the challenge, and the digest of the key to be certified.
fn signed(nonce: &[u8], for_key: &KeyDigest) -> Vec<u8> {
    [nonce, for_key.as_bytes()].concat()
}

/// What evidence is of.
enum Referred {
    /// A machine, which it admits under its name.
    Machine(String),
    /// A device, and what it counted: it admits nobody.
    Device(String, i64),
}

impl Referred {
    fn parse(text: &str) -> Option<Self> {
        let word = |word: &str| {
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
            ((1..=63).contains(&word.len()) && word.bytes().all(legal)).then(|| word.to_owned())
        };
        match text.strip_prefix('@') {
            None => word(text).map(Self::Machine),
            Some(device) => {
                let (device, count) = device.split_once(':')?;
                Some(Self::Device(word(device)?, count.parse().ok()?))
            }
        }
    }
}

struct AskedBefore {
    what: Referred,
    answered: bool,
    nonce: Vec<u8>,
}

impl Case for AskedBefore {
    fn needs(&self, _: &Found) -> Result<Vec<Need>, Reject> {
        Ok(vec![])
    }

    fn rests_on(&self, _: &Found, _: &Context<'_>) -> Result<RestsOn, Reject> {
        let own = match &self.what {
            Referred::Machine(name) => vec![(LockKind::Machine, name.clone())],
            Referred::Device(..) => vec![],
        };
        Ok(RestsOn { targets: own.clone(), own })
    }

    fn step(&self, _: &Found, _: &Context<'_>, _: &Cleared) -> Result<Step, Rejected> {
        if !self.answered {
            return Ok(Step::Ask { send: hex::encode(&self.nonce), keep: self.nonce.clone() });
        }
        let (values, names, grants) = match &self.what {
            Referred::Machine(name) => {
                let values = [("name", Claim::Text(name.clone())), ("round", Claim::Number(2))];
                (values, vec![name.clone()], Some(Grants::default()))
            }
            Referred::Device(device, count) => {
                ([("device", Claim::Text(device.clone())), ("count", Claim::Number(*count))], vec![], None)
            }
        };
        let values = values.map(|(name, value)| (name.to_owned(), value));
        let assurance = Assurance::hardware(AssuranceOf::Host);
        let claims = Claims { values: BTreeMap::from(values), assurance, role: None, names, grants };
        Ok(Step::Done(Box::new(Vouched::claims(claims))))
    }
}
