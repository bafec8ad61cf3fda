//! `read-back`: the machine's owner writes a text of ours where we can read it, for clouds and hosters whose machines have no document.
//!
//! Evidence: JSON [`ReadBackEvidence`], with nothing in it, for the name that the request wants. The challenge is a text with that name
//! and a nonce, and the places where its owner, not the machine, may write it: a DNS TXT record, what a URL answers, a file. When the
//! client comes with the ticket we read these places; while the text is not there, we ask the same again. The nonce is in the ticket,
//! which is for the key to be certified.
//!
//! Claims: see [`ROW`]. It establishes that somebody who may write to this place under this name read this text and wrote it there, a
//! short time ago, which a machine with this key showed. It does not establish that the machine is the one that the writer meant:
//! whoever persuades them to write a text joins. Nor does it establish where the key is stored, nor who answers for DNS.
//!
//! Where to read comes from the configuration. Only a legal machine name is put into it, and the host is fixed; see
//! [`crate::core::evidence::Freshness::OfName`] for how often.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pki::{Assurance, Name, Role, UnixTime};
use serde::Deserialize;
use wire::evidence::{READ_BACK, ReadBackChallenge, ReadBackEvidence};

use self::{
    place::{PlaceSettings, ReadBackPlace},
    reject::{malformed, no_name, rejections},
};
use super::{Attestor, Built, Case, Renewal, Row};
use crate::core::{
    evidence::{
        BadSection, ClaimKind, Claims, Cleared, Context, DocumentSource, ENTROPY_LEN, Found, Message, Need,
        OF_NAME_AGE, Purpose, Reject, Rejected, RestsOn, Section, Step, Vouched,
    },
    name,
    records::Claim,
};

mod place;
mod reject;
#[cfg(test)]
mod tests;

/// Row of [`super::ALL`].
pub static ROW: Row = Row {
    kind: READ_BACK,
    prefix: "read_back",
    claims: &[("place", ClaimKind::Text), ("name", ClaimKind::Text)],
    renewal: Renewal::OnlyAdmits,
    asks: true,
    device: None,
    rejections,
    build,
};

/// Most places: each is read for every answer.
const PLACES_MAX: usize = 4;

/// How long a text counts: an owner needs some minutes to write it, and DNS some to tell it.
const TEXT_LIFE: Duration = Duration::from_secs(3600);

/// Length of a nonce: nobody guesses it within [`TEXT_LIFE`].
const NONCE_LEN: usize = 16;

/// `[attest.read-back]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReadBackSettings {
    enabled: bool,
    /// Each by the name that rules know it by.
    places: BTreeMap<String, PlaceSettings>,
}

impl Default for ReadBackSettings {
    fn default() -> Self {
        Self { enabled: true, places: BTreeMap::new() }
    }
}

/// Without a place there is nothing to read, and the evidence is not accepted.
fn build(section: Option<&Section>) -> Built {
    let Some(section) = section else { return Ok(None) };
    let ReadBackSettings { enabled, places } = section.read()?;
    if places.len() > PLACES_MAX {
        return Err(BadSection::new(format!("there are {} places, and at most {PLACES_MAX} are read", places.len())));
    }
    let place = |(name, settings)| ReadBackPlace::build(name, settings, section);
    let places: Vec<ReadBackPlace> = places.into_iter().map(place).collect::<Result<_, BadSection>>()?;
    Ok((enabled && !places.is_empty()).then(|| Box::new(ReadBack { places: places.into() }) as Box<dyn Attestor>))
}

struct ReadBack {
    /// By their names.
    places: Arc<[ReadBackPlace]>,
}

impl Attestor for ReadBack {
    fn open(&self, message: &Message<'_>, context: &Context<'_>) -> Result<Box<dyn Case>, Reject> {
        let ReadBackEvidence {} = wire::strict::from_slice(message.body.as_bytes())
            .map_err(|_| malformed("its JSON is not that of such evidence"))?;
        let wanted = match message.purpose {
            Purpose::Join { wanted } => wanted,
            Purpose::Renewal { name, .. } => Some(name),
        };
        let name = wanted.and_then(|wanted| name::legal(wanted).ok()).ok_or_else(no_name)?;
        let asked = message.kept.map(AskedText::read).transpose()?;
        let asked = asked.filter(|asked| asked.name == name.as_str() && asked.counts(context.now));
        let (round, asked) = match asked {
            Some(asked) => (Round::Answer, asked),
            None => (Round::First, AskedText::fresh(&message.entropy, &name, context.now)),
        };
        let sources = self.places.iter().map(|place| place.source(&name)).collect::<Result<_, Reject>>()?;
        Ok(Box::new(SoughtText { places: Arc::clone(&self.places), sources, asked, round }))
    }
}

/// The text that an owner was asked to write.
struct AskedText {
    nonce: [u8; NONCE_LEN],
    since: UnixTime,
    /// The name of the machine.
    name: String,
}

impl AskedText {
    fn fresh(entropy: &[u8; ENTROPY_LEN], name: &Name, now: UnixTime) -> Self {
        let mut nonce = [0; NONCE_LEN];
        nonce.iter_mut().zip(entropy).for_each(|(to, from)| *to = *from);
        Self { nonce, since: now, name: name.as_str().to_owned() }
    }

    /// Nonce, time, name.
    fn kept(&self) -> Vec<u8> {
        [&self.nonce[..], &self.since.secs().to_be_bytes(), self.name.as_bytes()].concat()
    }

    fn read(kept: &[u8]) -> Result<Self, Reject> {
        let read = || {
            let (nonce, rest) = kept.split_first_chunk()?;
            let (since, name) = rest.split_first_chunk()?;
            let (since, name) = (u64::from_be_bytes(*since), String::from_utf8(name.to_vec()).ok()?);
            Some(Self { nonce: *nonce, since: UnixTime::new(since), name })
        };
        read().ok_or_else(|| malformed("its ticket holds something else"))
    }

    fn counts(&self, now: UnixTime) -> bool {
        now.since(self.since) < TEXT_LIFE
    }

    /// Of signs that DNS, and the labels of clouds, take.
    fn text(&self) -> String {
        format!("lychgate_{}_{}", self.name, hex::encode(self.nonce))
    }
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Round {
    First,
    Answer,
}

/// A text that is to be found in one of the places.
struct SoughtText {
    places: Arc<[ReadBackPlace]>,
    /// Of each place, for this name.
    sources: Vec<DocumentSource>,
    asked: AskedText,
    round: Round,
}

impl SoughtText {
    /// The first place, by name, that has the text.
    fn found(&self, found: &Found) -> Option<&ReadBackPlace> {
        if self.round == Round::First || found.len() < self.sources.len() {
            return None;
        }
        let text = self.asked.text();
        let has = |at: usize, place: &ReadBackPlace| {
            found.document(at).is_some_and(|document| place.has(&document.bytes, &text))
        };
        // Not kept: this is asked before all places were read, too.
        self.places.iter().enumerate().find(|(at, place)| has(*at, place)).map(|(_, place)| place)
    }

    fn challenge(&self) -> String {
        let challenge = ReadBackChallenge {
            text: self.asked.text(),
            places: self.places.iter().map(|place| place.told(&self.asked.name)).collect(),
            seconds: OF_NAME_AGE.as_secs(),
        };
        // our own types can be written
        serde_json::to_string(&challenge).unwrap_or_default()
    }
}

impl Case for SoughtText {
    fn needs(&self, found: &Found) -> Result<Vec<Need>, Reject> {
        let none = self.round == Round::First || !found.is_empty();
        Ok(if none { vec![] } else { self.sources.iter().cloned().map(Need::OfName).collect() })
    }

    /// On nothing that could be locked: a lock on the machine's name is looked up for every newcomer who wants it.
    fn rests_on(&self, _: &Found, _: &Context<'_>) -> Result<RestsOn, Reject> {
        Ok(RestsOn::default())
    }

    fn step(&self, found: &Found, _: &Context<'_>, _: &Cleared) -> Result<Step, Rejected> {
        let Some(place) = self.found(found) else {
            return Ok(Step::Ask { send: self.challenge(), keep: self.asked.kept() });
        };
        let name = &self.asked.name;
        let values = [("place", &place.name), ("name", name)];
        let values = values.map(|(claim, value)| (claim.to_owned(), Claim::Text(value.clone()))).into();
        let (assurance, role) = (Assurance::SOFTWARE, Some(Role::Machine));
        let claims = Claims { values, assurance, role, names: vec![name.clone()], grants: None };
        Ok(Step::Done(Box::new(Vouched::claims(claims))))
    }
}
