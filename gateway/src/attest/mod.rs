//! Attestors: each verifies one kind of evidence. One file each, one line in [`ALL`], one section `[attest.<kind>]` in the
//! configuration.
//!
//! An attestor is pure. [`Attestor::open`] parses a piece of evidence, checks all that needs no look-up, and returns a [`Case`]. The case
//! then names the look-ups that it needs, in rounds, then what the evidence depends on, so that locks can be looked up, and then decides.
//! To add one, write a file here with its evidence format, settings, claims, rejections, case and tests.

use std::path::Path;

use pki::{KeyDigest, SshKey, UnixTime};
use policy::{ClaimDecl, ClaimType};
use serde::Deserialize;

use crate::core::{
    change::Changes,
    evidence::{
        BadSection, ClaimKind, Cleared, Context, DeviceClaims, DocumentSource, Found, Message, Need, Reject, Rejected,
        RestsOn, Section, Sections, Step, Vouched,
    },
    lock::Locks,
    refusal::Refusal,
};

mod cloud;
mod join_token;
mod jwt;
mod prior_certificate;
mod read_back;
#[cfg(debug_assertions)]
mod reference;
mod ssh_host_key;
mod tpm;
mod x509;

pub use tpm::makers;

/// All attestors, alphabetical.
pub static ALL: &[&Row] = &[
    &cloud::ROW,
    &join_token::ROW,
    &jwt::ROW,
    &prior_certificate::ROW,
    &read_back::ROW,
    #[cfg(debug_assertions)]
    &reference::ROW,
    &ssh_host_key::ROW,
    &tpm::ROW,
    &x509::ROW,
];

/// Whether a kind of evidence is accepted at renewal.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It proves a present property of the machine and may be shown at each renewal.
    Proves,
    /// It is for enrollment only: a token, an earlier certificate.
    OnlyAdmits,
}

/// An attestor, or `None` if its section disables it.
pub type Built = Result<Option<Box<dyn Attestor>>, BadSection>;

/// The section of an attestor whose only setting is whether it is enabled.
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

/// Builds such an attestor: enabled by default.
fn switched(section: Option<&Section>, attestor: impl Attestor + 'static) -> Built {
    let Switch { enabled } = section.map_or_else(|| Ok(Switch::default()), Section::read)?;
    Ok(enabled.then(|| Box::new(attestor) as Box<dyn Attestor>))
}

/// The static description of an attestor.
pub struct Row {
    /// The `kind` of its evidence, and the name of its section.
    pub kind: &'static str,
    /// Prefix of its claims, without the `_` that follows.
    pub prefix: &'static str,
    /// All its claims, without the prefix. A policy rule with an undeclared claim fails at load.
    pub claims: &'static [(&'static str, ClaimKind)],
    /// Whether the evidence is accepted at renewal.
    pub renewal: Renewal,
    /// Whether it may challenge. Of a kind that does, a request has one piece, and another is refused before any is opened: each costs a
    /// challenge, and a client answers one.
    pub asks: bool,
    /// The claims about the device that the evidence is of. A machine that was shown to be on one is not renewed, and does not come
    /// back, by evidence of another; and it comes back by evidence of this one alone.
    pub device: Option<DeviceRow>,
    /// One example of each of its rejections, with the text for the client.
    pub rejections: fn() -> Vec<Reject>,
    /// Builds it from its section.
    pub build: fn(Option<&Section>) -> Built,
}

/// The claims about a device, without the prefix: see [`DeviceClaims`].
#[derive(Copy, Clone, Debug)]
pub struct DeviceRow {
    /// [`DeviceClaims::device`].
    pub claim: &'static str,
    /// [`DeviceClaims::counts`].
    pub counts: &'static [&'static str],
}

impl Row {
    /// Its claims, with the prefix.
    fn declared(&self) -> impl Iterator<Item = ClaimDecl> {
        let kind = |kind: ClaimKind| match kind {
            ClaimKind::Text => ClaimType::Text,
            ClaimKind::Number => ClaimType::Number,
        };
        self.claims.iter().map(move |(name, of)| ClaimDecl { name: self.named(name).into(), kind: kind(*of) })
    }

    fn device_claims(&self) -> Option<DeviceClaims> {
        let DeviceRow { claim, counts } = self.device?;
        let counts = counts.iter().map(|count| self.named(count)).collect();
        Some(DeviceClaims { device: self.named(claim), counts })
    }

    fn named(&self, claim: &str) -> String {
        format!("{}_{claim}", self.prefix)
    }
}

/// Verifies one kind of evidence.
pub trait Attestor: Send + Sync {
    /// Largest piece of its evidence, in bytes. A value above the common limit raises the size limit of requests.
    fn piece_max(&self) -> usize {
        wire::limits::ENROLL_BODY_MAX
    }

    /// Parses a piece of evidence and checks all that needs no look-up.
    ///
    /// # Errors
    /// The evidence is malformed, or fails one of these checks.
    fn open(&self, message: &Message<'_>, context: &Context<'_>) -> Result<Box<dyn Case>, Reject>;

    /// The documents that it is configured to read.
    fn documents(&self) -> Vec<DocumentSource> {
        vec![]
    }

    /// What in one of these documents cannot be used, for the operator. `own` is this gateway's CA for the sshds of its machines, if it
    /// is known.
    fn complaints(&self, _source: &DocumentSource, _text: &[u8], _own: Option<&SshKey>, _now: UnixTime) -> Vec<String> {
        vec![]
    }

    /// Look-ups for [`Attestor::recheck`], in rounds as in [`Case::needs`].
    fn recheck_needs(&self, _reference: &str, _found: &Found) -> Vec<Need> {
        vec![]
    }

    /// Checks whether evidence that was accepted before is still valid for the key, while its sender waits and again when the certificate
    /// is issued. Returns conditions for the commit.
    ///
    /// # Errors
    /// The evidence has become invalid, or it cannot be told whether it has.
    fn recheck(
        &self,
        _reference: &str,
        _for_key: &KeyDigest,
        _found: &Found,
        _context: &Context<'_>,
    ) -> Result<Changes, Refusal> {
        Ok(Changes::new())
    }
}

/// One parsed piece of evidence. It is asked several times, at first before what it needs was read, which counts as absent then: nothing
/// that follows from an absent record or document may be kept in it.
pub trait Case: Send + Sync {
    /// The next look-ups; empty if none are left.
    ///
    /// # Errors
    /// The results so far make the evidence invalid.
    fn needs(&self, found: &Found) -> Result<Vec<Need>, Reject>;

    /// The keys, lineages, machines and people that the evidence depends on.
    ///
    /// # Errors
    /// The results make the evidence invalid.
    fn rests_on(&self, found: &Found, context: &Context<'_>) -> Result<RestsOn, Reject>;

    /// Changes that follow from the mere use of this evidence, such as a lock for a fork; called whether there are locks or not.
    fn alarm(&self, _found: &Found, _locks: &Locks, _source: &str, _context: &Context<'_>) -> Option<Rejected> {
        None
    }

    /// Decides, once there is no lock on anything that the evidence depends on; or asks a challenge, which the client answers with
    /// another message.
    ///
    /// # Errors
    /// The evidence is invalid.
    fn step(&self, found: &Found, context: &Context<'_>, cleared: &Cleared) -> Result<Step, Rejected>;
}

/// The enabled attestors, and what is known of all.
pub struct Attestors {
    built: Vec<(&'static Row, Box<dyn Attestor>)>,
    only_admit: Vec<&'static str>,
    prefixes: Vec<(&'static str, &'static str)>,
    devices: Vec<DeviceClaims>,
    again: Vec<(&'static str, &'static str)>,
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
    /// The kind of the invalid section, and the reason; for an unknown kind the reason lists the known ones.
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
        Ok(Self {
            built,
            only_admit: ALL.iter().filter(|row| row.renewal == Renewal::OnlyAdmits).map(|row| row.kind).collect(),
            prefixes: ALL.iter().map(|row| (row.kind, row.prefix)).collect(),
            devices: ALL.iter().filter_map(|row| row.device_claims()).collect(),
            again: ALL.iter().filter(|row| row.renewal == Renewal::Proves).map(|row| (row.kind, row.prefix)).collect(),
        })
    }

    /// The kinds that only let in, switched on or not: a renewal never wants them.
    #[must_use]
    pub fn only_admit(&self) -> &[&'static str] {
        &self.only_admit
    }

    /// What the names of the claims of each kind begin with, switched on or not.
    #[must_use]
    pub fn prefixes(&self) -> &[(&'static str, &'static str)] {
        &self.prefixes
    }

    /// The claims about devices, of all kinds, switched on or not: see [`Row::device`].
    #[must_use]
    pub fn devices(&self) -> &[DeviceClaims] {
        &self.devices
    }

    /// The kinds that can be shown again at renewal, switched on or not, each with the prefix of its claims.
    #[must_use]
    pub fn again(&self) -> &[(&'static str, &'static str)] {
        &self.again
    }

    /// Those that are enabled by default.
    ///
    /// # Errors
    /// None; a test proves that the defaults build.
    pub fn standard() -> Result<Self, (String, BadSection)> {
        Self::from(&Sections::new())
    }

    /// The kinds accepted at enrollment.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.built.iter().map(|(row, _)| row.kind)
    }

    /// The kinds accepted at renewal.
    pub fn renewing(&self) -> impl Iterator<Item = &'static str> {
        self.built.iter().filter(|(row, _)| row.renewal == Renewal::Proves).map(|(row, _)| row.kind)
    }

    /// What is wrong with the files that they are configured to read, each complaint with the file's path. URLs are not fetched for it.
    pub fn complaints<E: std::fmt::Display>(
        &self,
        read: impl Fn(&Path) -> Result<Vec<u8>, E>,
        own: Option<&SshKey>,
        now: UnixTime,
    ) -> Vec<String> {
        let mut all = Vec::new();
        for (row, attestor) in &self.built {
            for source in attestor.documents() {
                let DocumentSource::File(path) = &source else { continue };
                match read(path) {
                    Ok(text) => all.extend(complaints(row, &**attestor, &source, &text, own, now)),
                    Err(error) => all.push(format!("[attest.{}]: {error}", row.kind)),
                }
            }
        }
        all
    }

    /// The same of one document, that was read.
    #[must_use]
    pub fn complaints_of(
        &self,
        source: &DocumentSource,
        text: &[u8],
        own: Option<&SshKey>,
        now: UnixTime,
    ) -> Vec<String> {
        let readers = self.built.iter().filter(|(_, attestor)| attestor.documents().contains(source));
        readers.flat_map(|(row, attestor)| complaints(row, &**attestor, source, text, own, now)).collect()
    }

    /// Selects the attestor for a kind of evidence.
    ///
    /// # Errors
    /// [`crate::core::evidence::UNKNOWN`] if there is none or it is disabled.
    pub fn by_kind(&self, kind: &str) -> Result<Chosen<'_>, Reject> {
        let found = self.built.iter().find(|(row, _)| row.kind == kind);
        found.map(|(row, attestor)| Chosen { row, attestor: &**attestor }).ok_or_else(|| Reject::unknown(kind))
    }

    /// Largest request with evidence, in bytes: the common limit, plus what attestors allow beyond it.
    #[must_use]
    pub fn body_max(&self) -> usize {
        let least = wire::limits::ENROLL_BODY_MAX;
        let beyond = self.built.iter().map(|(_, attestor)| piece_max(&**attestor).saturating_sub(least));
        (least + beyond.sum::<usize>()).min(wire::limits::ENROLL_BODY_MOST)
    }
}

/// What an attestor complains of, each with whose and which document it is.
fn complaints(
    row: &Row,
    attestor: &dyn Attestor,
    source: &DocumentSource,
    text: &[u8],
    own: Option<&SshKey>,
    now: UnixTime,
) -> Vec<String> {
    let all = attestor.complaints(source, text, own, now);
    all.iter().map(|what| format!("[attest.{}]: {source}: {what}", row.kind)).collect()
}

/// The size limit of an attestor, which is capped by the common maximum.
fn piece_max(attestor: &dyn Attestor) -> usize {
    attestor.piece_max().min(wire::limits::EVIDENCE_PIECE_MOST)
}

/// All claims that policy rules may use.
pub fn claims() -> impl Iterator<Item = ClaimDecl> {
    ALL.iter().flat_map(|row| row.declared())
}

/// The attestor for a kind of evidence.
#[derive(Clone, Copy)]
pub struct Chosen<'a> {
    row: &'static Row,
    attestor: &'a dyn Attestor,
}

impl Chosen<'_> {
    /// [`Row::kind`].
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.row.kind
    }

    /// [`Row::prefix`].
    #[must_use]
    pub const fn prefix(&self) -> &'static str {
        self.row.prefix
    }

    /// [`Row::renewal`].
    #[must_use]
    pub const fn renewal(&self) -> Renewal {
        self.row.renewal
    }

    /// [`Row::asks`].
    #[must_use]
    pub const fn asks(&self) -> bool {
        self.row.asks
    }

    /// The attestor itself.
    #[must_use]
    pub const fn attestor(&self) -> &dyn Attestor {
        self.attestor
    }

    /// As [`Attestor::open`], after a check of the size.
    ///
    /// # Errors
    /// [`crate::core::evidence::TOO_LARGE`], or as [`Attestor::open`].
    pub fn open(&self, message: &Message<'_>, context: &Context<'_>) -> Result<Box<dyn Case>, Reject> {
        let max = piece_max(self.attestor);
        if message.body.len() > max {
            return Err(Reject::too_large(self.row.kind, max));
        }
        self.attestor.open(message, context)
    }

    /// Adds the attestor's prefix to the name of each claim, and of what is stated.
    #[must_use]
    pub fn named(&self, mut vouched: Vouched) -> Vouched {
        let values = std::mem::take(&mut vouched.claims.values);
        vouched.claims.values = values.into_iter().map(|(name, value)| (self.row.named(&name), value)).collect();
        let stated = std::mem::take(&mut vouched.stated);
        vouched.stated = stated.into_iter().map(|(name, value)| (self.row.named(&name), value)).collect();
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
        let standard = ["join-token", "prior-certificate", "ssh-host-key", "tpm"];
        assert_eq!(Attestors::standard().unwrap().kinds().collect::<Vec<_>>(), standard);
        assert_eq!(kinds("[join-token]\n[prior-certificate]"), Ok(standard.to_vec()));
        assert_eq!(kinds("[join-token]\nenabled = false"), Ok(vec!["prior-certificate", "ssh-host-key", "tpm"]));
        let others = "[prior-certificate]\nenabled = false\n[ssh-host-key]\nenabled = false\n[tpm]\nenabled = false";
        assert_eq!(kinds(others), Ok(vec!["join-token"]));
    }

    #[test]
    fn what_is_wrong_with_a_section_is_said() {
        for (text, says) in [
            (
                "[tarot]",
                "tarot: there is no attestor `tarot`; there are `cloud`, `join-token`, `jwt`, `prior-certificate`",
            ),
            ("[join-token]\nenable = true", "join-token: unknown field `enable`, expected `enabled`"),
            ("[ssh-host-key]\ndomain = '.example.com'", "ssh-host-key: `domain` must be a lower-case DNS domain"),
            ("[tpm]\npcrs = []", "tpm: `pcrs` must be one or more numbers from 0 to 23"),
            ("[tpm]\npcrs = [7, 24]", "tpm: `pcrs` must be one or more numbers from 0 to 23"),
            ("[tpm]\nbanks = []", "tpm: `banks` must be one or more of `sha256`, `sha384`, `sha512`, each once"),
            ("[tpm]\nbanks = ['sha1']", "tpm: `banks` must be one or more of `sha256`, `sha384`, `sha512`, each once"),
            ("[tpm]\nbanks = ['sha256', 'sha256']", "tpm: `banks` must be one or more of"),
            ("[tpm]\nlog = true", "tpm: "),
            ("[tpm]\nlog = 'perhaps'", "tpm: unknown variant `perhaps`, expected `wanted` or `required`"),
            ("[join-token]\nenabled = 1", "join-token: invalid type: integer `1`, expected a boolean"),
        ] {
            let error = kinds(text).unwrap_err();
            assert!(error.starts_with(says), "{text}: {error}");
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
