//! Attestors: what makes a newcomer believable. One file each, one line in [`ALL`], one section `[attest.<kind>]` in the
//! configuration.
//!
//! An attestor is pure. It opens a piece of evidence ([`Attestor::open`]), which gives a [`Case`]: what can be checked by itself is
//! checked. The case says what it needs looked up, in rounds, then what it rests on, whose locks are looked up, and then judges.
//! Adding one means a file here with its evidence format, its settings, its claims, its rejections, its case and its tests.

use pki::KeyDigest;
use policy::{ClaimDecl, ClaimType};
use serde::Deserialize;

use crate::core::{
    change::Changes,
    evidence::{
        BadSection, ClaimKind, Cleared, Context, Found, Message, Need, Reject, Rejected, RestsOn, Section, Sections,
        Step, Vouched,
    },
    lock::Locks,
};

mod join_token;
mod prior_certificate;
#[cfg(debug_assertions)]
mod reference;

/// Every attestor there is, alphabetical.
pub static ALL: &[&Row] = &[
    &join_token::ROW,
    &prior_certificate::ROW,
    #[cfg(debug_assertions)]
    &reference::ROW,
];

/// What a kind of evidence is worth to somebody who is in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It says something of the machine at that moment, and may be shown at each renewal.
    Proves,
    /// It lets in, and nothing else: a token, an earlier certificate.
    OnlyAdmits,
}

/// The kinds that only let in, which a renewal never wants.
#[must_use]
pub fn only_admit() -> Vec<&'static str> {
    ALL.iter().filter(|row| row.renewal == Renewal::OnlyAdmits).map(|row| row.kind).collect()
}

/// What the names of the claims of each kind begin with.
#[must_use]
pub fn prefixes() -> Vec<(&'static str, &'static str)> {
    ALL.iter().map(|row| (row.kind, row.prefix)).collect()
}

/// An attestor, or nothing when it is switched off.
pub type Built = Result<Option<Box<dyn Attestor>>, BadSection>;

/// The section of an attestor that has nothing to set but whether it is switched on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Switch {
    enabled: bool,
}

impl Default for Switch {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Builds such an attestor: it is on unless its section says otherwise.
fn switched(section: Option<&Section>, attestor: impl Attestor + 'static) -> Built {
    let Switch { enabled } = section.map_or_else(|| Ok(Switch::default()), Section::read)?;
    Ok(enabled.then(|| Box::new(attestor) as Box<dyn Attestor>))
}

/// What is known of an attestor before it is built.
pub struct Row {
    /// The `kind` of its evidence, and the name of its section.
    pub kind: &'static str,
    /// What the names of its claims begin with, before a `_`.
    pub prefix: &'static str,
    /// Every claim it may make, without the prefix. A policy rule that names a claim nobody declares fails at load.
    pub claims: &'static [(&'static str, ClaimKind)],
    /// Whether it can be shown again at a renewal.
    pub renewal: Renewal,
    /// Every rejection it has, one of each, as whoever is rejected reads it.
    pub rejections: fn() -> Vec<Reject>,
    /// Makes it from its section; nothing when it is switched off.
    pub build: fn(Option<&Section>) -> Built,
}

impl Row {
    /// Its claims by the names that rules use.
    fn declared(&self) -> impl Iterator<Item = ClaimDecl> {
        let kind = |kind: ClaimKind| match kind {
            ClaimKind::Text => ClaimType::Text,
            ClaimKind::Number => ClaimType::Number,
        };
        self.claims.iter().map(move |(name, of)| ClaimDecl { name: self.named(name).into(), kind: kind(*of) })
    }

    fn named(&self, claim: &str) -> String {
        format!("{}_{claim}", self.prefix)
    }
}

/// A way to be believed.
pub trait Attestor: Send + Sync {
    /// Largest piece of its evidence, in bytes. More than what every request may have makes the gateway read larger requests.
    fn piece_max(&self) -> usize {
        wire::limits::ENROLL_BODY_MAX
    }

    /// Reads a piece of evidence and checks what can be checked by itself.
    ///
    /// # Errors
    /// When the message is not even evidence of this kind.
    fn open(&self, message: &Message<'_>, context: &Context<'_>) -> Result<Box<dyn Case>, Reject>;

    /// What must be looked up to say whether evidence that was taken before still holds, as [`Case::needs`].
    fn still_needs(&self, _reference: &str, _found: &Found) -> Vec<Need> {
        vec![]
    }

    /// Whether evidence that was taken before still holds for the key: it is asked while its sender waits, and when the certificate
    /// is made. Gives the conditions under which it does.
    ///
    /// # Errors
    /// Why it does not any more.
    fn still(
        &self,
        _reference: &str,
        _for_key: &KeyDigest,
        _found: &Found,
        _context: &Context<'_>,
    ) -> Result<Changes, Reject> {
        Ok(Changes::new())
    }
}

/// One piece of evidence, opened.
pub trait Case: Send + Sync {
    /// What must be looked up next; nothing when all that can be had was found.
    ///
    /// # Errors
    /// When what was found so far cannot hold.
    fn needs(&self, found: &Found) -> Result<Vec<Need>, Reject>;

    /// What it rests on: every key, lineage, machine and person without whom it would not hold.
    ///
    /// # Errors
    /// When what was found cannot hold.
    fn rests_on(&self, found: &Found, context: &Context<'_>) -> Result<RestsOn, Reject>;

    /// Whether that it is shown at all must be acted upon, locked or not.
    fn alarm(&self, _found: &Found, _locks: &Locks, _source: &str, _context: &Context<'_>) -> Option<Rejected> {
        None
    }

    /// Judges it, once no lock stands on anything it rests on, or asks: then the client sends another message, with what is kept now.
    ///
    /// # Errors
    /// Why the evidence does not hold.
    fn step(&self, found: &Found, context: &Context<'_>, cleared: &Cleared) -> Result<Step, Rejected>;
}

/// The attestors that are switched on.
pub struct Attestors {
    built: Vec<(&'static Row, Box<dyn Attestor>)>,
}

impl std::fmt::Debug for Attestors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.kinds()).finish()
    }
}

impl Attestors {
    /// Builds them from their sections of the configuration.
    ///
    /// # Errors
    /// The kind of the section, with what is wrong with it; a section that no attestor has names the known ones.
    pub fn from(sections: &Sections) -> Result<Self, (String, BadSection)> {
        if let Some(unknown) = sections.keys().find(|kind| !ALL.iter().any(|row| row.kind == *kind)) {
            let known: Vec<&str> = ALL.iter().map(|row| row.kind).collect();
            let what = format!("there is no attestor `{unknown}`; there are `{}`", known.join("`, `"));
            return Err((unknown.clone(), BadSection::new(what)));
        }
        let mut built = Vec::new();
        for row in ALL {
            let made = (row.build)(sections.get(row.kind)).map_err(|bad| (row.kind.to_owned(), bad))?;
            built.extend(made.map(|attestor| (*row, attestor)));
        }
        Ok(Self { built })
    }

    /// Those that are switched on when no section says otherwise.
    ///
    /// # Errors
    /// Never, as a test proves.
    pub fn standard() -> Result<Self, (String, BadSection)> {
        Self::from(&Sections::new())
    }

    /// The kinds that are accepted.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.built.iter().map(|(row, _)| row.kind)
    }

    /// The kinds that a renewal may carry.
    pub fn renewing(&self) -> impl Iterator<Item = &'static str> {
        self.built.iter().filter(|(row, _)| row.renewal == Renewal::Proves).map(|(row, _)| row.kind)
    }

    /// The attestor for a kind of evidence.
    ///
    /// # Errors
    /// [`crate::core::evidence::UNKNOWN`].
    pub fn by_kind(&self, kind: &str) -> Result<Chosen<'_>, Reject> {
        let found = self.built.iter().find(|(row, _)| row.kind == kind);
        found.map(|(row, attestor)| Chosen { row, attestor: &**attestor }).ok_or_else(|| Reject::unknown(kind))
    }

    /// Largest request with evidence, in bytes: what every request may have, and what attestors take beyond it.
    #[must_use]
    pub fn body_max(&self) -> usize {
        let least = wire::limits::ENROLL_BODY_MAX;
        let beyond = self.built.iter().map(|(_, attestor)| piece_max(&**attestor).saturating_sub(least));
        (least + beyond.sum::<usize>()).min(wire::limits::ENROLL_BODY_MOST)
    }
}

/// What an attestor takes at most: its own limit, up to that of every kind.
fn piece_max(attestor: &dyn Attestor) -> usize {
    attestor.piece_max().min(wire::limits::EVIDENCE_PIECE_MOST)
}

/// Every claim that a rule may name.
pub fn claims() -> impl Iterator<Item = ClaimDecl> {
    ALL.iter().flat_map(|row| row.declared())
}

/// An attestor that was looked up by its kind.
#[derive(Clone, Copy)]
pub struct Chosen<'a> {
    row: &'static Row,
    attestor: &'a dyn Attestor,
}

impl Chosen<'_> {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.row.kind
    }

    /// What the names of its claims begin with.
    #[must_use]
    pub const fn prefix(&self) -> &'static str {
        self.row.prefix
    }

    /// Whether it can be shown again at a renewal.
    #[must_use]
    pub const fn renewal(&self) -> Renewal {
        self.row.renewal
    }

    /// The attestor.
    #[must_use]
    pub const fn attestor(&self) -> &dyn Attestor {
        self.attestor
    }

    /// Opens a piece of evidence.
    ///
    /// # Errors
    /// When it is too large, or as [`Attestor::open`].
    pub fn open(&self, message: &Message<'_>, context: &Context<'_>) -> Result<Box<dyn Case>, Reject> {
        let max = piece_max(self.attestor);
        if message.body.len() > max {
            return Err(Reject::too_large(self.row.kind, max));
        }
        self.attestor.open(message, context)
    }

    /// What it vouches for, with its prefix before the name of each claim.
    #[must_use]
    pub fn named(&self, mut vouched: Vouched) -> Vouched {
        let values = std::mem::take(&mut vouched.claims.values);
        vouched.claims.values = values.into_iter().map(|(name, value)| (self.row.named(&name), value)).collect();
        vouched
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::PathBuf};

    use super::*;

    fn sections(text: &str) -> Sections {
        let table: toml::Table = text.parse().unwrap();
        let section = |values: toml::Value| Section {
            values: values.as_table().unwrap().clone(),
            folder: PathBuf::from("/etc/lychgate"),
        };
        table.into_iter().map(|(kind, values)| (kind, section(values))).collect()
    }

    fn kinds(text: &str) -> Result<Vec<&'static str>, String> {
        let built = Attestors::from(&sections(text));
        built.map(|built| built.kinds().collect()).map_err(|(kind, bad)| format!("{kind}: {bad}"))
    }

    #[test]
    fn sections_switch_them_on_and_off() {
        let standard = ["join-token", "prior-certificate"];
        assert_eq!(Attestors::standard().unwrap().kinds().collect::<Vec<_>>(), standard);
        assert_eq!(kinds("[join-token]\n[prior-certificate]"), Ok(standard.to_vec()));
        assert_eq!(kinds("[join-token]\nenabled = false"), Ok(vec!["prior-certificate"]));
        assert_eq!(kinds("[prior-certificate]\nenabled = false"), Ok(vec!["join-token"]));
    }

    #[test]
    fn what_is_wrong_with_a_section_is_said() {
        for (text, says) in [
            ("[tarot]", "tarot: there is no attestor `tarot`; there are `join-token`, `prior-certificate`"),
            ("[join-token]\nenable = true", "join-token: unknown field `enable`, expected `enabled`"),
            ("[join-token]\nenabled = 1", "join-token: invalid type: integer `1`, expected a boolean"),
        ] {
            let told = kinds(text).unwrap_err();
            assert!(told.starts_with(says), "{text}: {told}");
        }
    }

    #[test]
    fn kinds_prefixes_and_codes_are_of_one_attestor_each() {
        let (mut kinds, mut prefixes, mut codes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for row in ALL {
            assert!(kinds.insert(row.kind) && prefixes.insert(row.prefix), "{}", row.kind);
            let own: BTreeSet<&str> = (row.rejections)().iter().map(|reject| reject.code.name).collect();
            assert!(!own.is_empty(), "{} rejects nothing", row.kind);
            for code in own {
                assert!(codes.insert(code), "{}: `{code}` is another's", row.kind);
            }
        }
        assert!(ALL.is_sorted_by_key(|row| row.kind));
    }

    #[test]
    fn requests_are_as_large_as_the_attestors_want() {
        assert_eq!(Attestors::standard().unwrap().body_max(), wire::limits::ENROLL_BODY_MAX);
    }
}
