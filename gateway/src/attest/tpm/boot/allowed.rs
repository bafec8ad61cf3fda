//! Boots that are allowed, `[attest.tpm.boot.NAME]`, and how a measured one differs from them.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use tpm::{HashAlgorithm, PcrSet, Section};

use super::MeasuredBoot;
use crate::core::{evidence::BadSection, name};

/// What the claim on the boot says when it is none that is allowed. No name of one may be this.
pub(super) const DIFFERS: &str = "differs";

/// Most boots that are named: each is compared with every measured one.
const BOOTS_MAX: usize = 64;

/// Most values of one kind in a boot: versions of a fleet, with their firmware.
const VALUES_MAX: usize = 256;

/// Most differences that are told: the first ones say enough.
const TOLD_MAX: usize = 3;

/// Most characters of a value that are told.
const SHOWN_MAX: usize = 48;

/// Characters of a digest that are told: enough to find it in a list.
const DIGEST_SHOWN: usize = 16;

/// `[attest.tpm.boot.NAME]`: what all must hold of a boot.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct AllowedSettings {
    /// Whether Secure Boot must be on.
    #[serde(default)]
    secure_boot: bool,
    /// SHA-256 of the certificates, hex, one of which must have verified each program.
    #[serde(default)]
    uki_signers: Vec<String>,
    /// What may be given to a UKI beside its own command line.
    #[serde(default)]
    command_lines: Vec<String>,
    /// Values of PCRs, hex, by their numbers.
    #[serde(default)]
    pcrs: BTreeMap<String, Vec<String>>,
    /// Digests of sections of a UKI, hex, by their names without the dot.
    #[serde(default)]
    sections: BTreeMap<String, Vec<String>>,
}

/// Something that must hold of a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    SecureBoot,
    Signers(Vec<String>),
    CommandLines(Vec<String>),
    Pcr(u8, Vec<String>),
    Section(Section, Vec<String>),
}

/// A boot that is allowed: everything in it must hold, and there is something.
struct AllowedBoot {
    name: String,
    requirements: Vec<Requirement>,
}

/// The boots that are allowed.
#[derive(Default)]
pub(in super::super) struct AllowedBoots(Vec<AllowedBoot>);

/// A measured boot, compared with those that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Compared {
    /// None is named.
    Unasked,
    /// It is this one.
    Allowed(String),
    /// It is none of them.
    Differs(BootDifference),
}

/// How a measured boot differs from the one that is the nearest of those allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct BootDifference {
    name: String,
    differences: Vec<Difference>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Difference {
    what: String,
    expected: String,
    measured: String,
}

impl fmt::Display for BootDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.name)?;
        for (at, Difference { what, expected, measured }) in self.differences.iter().take(TOLD_MAX).enumerate() {
            let before = if at == 0 { ": " } else { "; " };
            write!(f, "{before}{what}: expected {expected}, measured {measured}")?;
        }
        match self.differences.len().saturating_sub(TOLD_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl AllowedBoots {
    /// Reads the settings. What they ask for must be quoted, and the log be wanted where it is needed.
    pub(in super::super) fn build(
        settings: BTreeMap<String, AllowedSettings>,
        quoted: PcrSet,
        log: bool,
    ) -> Result<Self, BadSection> {
        if settings.len() > BOOTS_MAX {
            return Err(BadSection::new(format!("`boot` has more than {BOOTS_MAX} names")));
        }
        let build = |(name, settings)| AllowedBoot::build(name, settings, quoted, log);
        Ok(Self(settings.into_iter().map(build).collect::<Result<_, _>>()?))
    }

    /// Compares: the first by name that is met counts, else that from which it differs least.
    pub(in super::super) fn compare(&self, measured: &MeasuredBoot) -> Compared {
        let compared = |boot: &AllowedBoot| BootDifference {
            name: boot.name.clone(),
            differences: boot.requirements.iter().filter_map(|one| one.difference(measured)).collect(),
        };
        match self.0.iter().map(compared).min_by_key(|compared| compared.differences.len()) {
            None => Compared::Unasked,
            Some(BootDifference { name, differences }) if differences.is_empty() => Compared::Allowed(name),
            Some(difference) => Compared::Differs(difference),
        }
    }
}

impl AllowedBoot {
    fn build(name: String, settings: AllowedSettings, quoted: PcrSet, log: bool) -> Result<Self, BadSection> {
        let bad = |what: String| BadSection::new(format!("`boot.{name}`: {what}"));
        if name::known(&name).is_err() || name == DIFFERS {
            let what = "its name has lower-case letters, digits and inner hyphens, and is not `differs`";
            return Err(bad(what.to_owned()));
        }
        let requirements = requirements(settings).map_err(bad)?;
        if requirements.is_empty() {
            return Err(bad("it asks for nothing, so every boot would be allowed".to_owned()));
        }
        for requirement in &requirements {
            let pcr = requirement.pcr();
            if !quoted.contains(pcr) {
                return Err(bad(format!("`{}` needs PCR {pcr} in `pcrs`", requirement.setting())));
            }
            if requirement.needs_log() && !log {
                return Err(bad(format!("`{}` needs `log = \"wanted\"`", requirement.setting())));
            }
            if requirement.values().len() > VALUES_MAX {
                return Err(bad(format!("`{}` has more than {VALUES_MAX} values", requirement.setting())));
            }
        }
        Ok(Self { name, requirements })
    }
}

fn requirements(settings: AllowedSettings) -> Result<Vec<Requirement>, String> {
    let AllowedSettings { secure_boot, uki_signers, command_lines, pcrs, sections } = settings;
    let mut all = Vec::new();
    all.extend(secure_boot.then_some(Requirement::SecureBoot));
    if !uki_signers.is_empty() {
        let is_sha256 = |text: &String| hex::decode(text).is_ok_and(|bytes| bytes.len() == 32);
        let right = uki_signers.iter().all(is_sha256);
        let signers = lower(uki_signers);
        all.push(
            right.then_some(Requirement::Signers(signers)).ok_or("a value of `uki_signers` is no SHA-256 in hex")?,
        );
    }
    if !command_lines.is_empty() {
        all.push(Requirement::CommandLines(command_lines));
    }
    for (number, values) in pcrs {
        let pcr = number.parse::<u8>().ok().filter(|pcr| pcr.to_string() == number);
        let pcr = pcr.ok_or_else(|| format!("`{number}` in `pcrs` is no number of a PCR"))?;
        all.push(Requirement::Pcr(pcr, digests(values, &format!("pcrs.{number}"))?));
    }
    for (name, values) in sections {
        let section = Section::ALL.into_iter().find(|section| section.name().strip_prefix('.') == Some(name.as_str()));
        let section = section.ok_or_else(|| format!("`{name}` in `sections` is no section that is measured"))?;
        all.push(Requirement::Section(section, digests(values, &format!("sections.{name}"))?));
    }
    Ok(all)
}

/// Digests of any bank. None at all would never be met.
fn digests(values: Vec<String>, setting: &str) -> Result<Vec<String>, String> {
    let is_digest = |text: &String| {
        let len = hex::decode(text).map(|bytes| bytes.len());
        len.is_ok_and(|len| HashAlgorithm::ALL.iter().any(|hash| hash.digest_len() == len))
    };
    if values.is_empty() || !values.iter().all(is_digest) {
        return Err(format!("`{setting}` must be one or more digests in hex"));
    }
    Ok(lower(values))
}

fn lower(values: Vec<String>) -> Vec<String> {
    values.iter().map(|value| value.to_ascii_lowercase()).collect()
}

impl Requirement {
    /// The PCR that it is about.
    const fn pcr(&self) -> u8 {
        match self {
            Self::SecureBoot | Self::Signers(_) => 7,
            Self::CommandLines(_) => 12,
            Self::Pcr(pcr, _) => *pcr,
            Self::Section(..) => 11,
        }
    }

    /// Whether it is told from the log.
    const fn needs_log(&self) -> bool {
        match self {
            Self::SecureBoot | Self::Signers(_) | Self::CommandLines(_) | Self::Section(..) => true,
            Self::Pcr(..) => false,
        }
    }

    /// Its name in the configuration.
    const fn setting(&self) -> &'static str {
        match self {
            Self::SecureBoot => "secure_boot",
            Self::Signers(_) => "uki_signers",
            Self::CommandLines(_) => "command_lines",
            Self::Pcr(..) => "pcrs",
            Self::Section(..) => "sections",
        }
    }

    fn values(&self) -> &[String] {
        match self {
            Self::SecureBoot => &[],
            Self::Signers(values) | Self::CommandLines(values) | Self::Pcr(_, values) | Self::Section(_, values) => {
                values
            }
        }
    }

    /// How the measured boot differs, if it does. What is not known differs from everything.
    fn difference(&self, measured: &MeasuredBoot) -> Option<Difference> {
        let one = |value: Option<&String>| value.map(|value| vec![value.clone()]);
        let (what, found) = match self {
            Self::SecureBoot => {
                let (found, expected) = (measured.secure_boot().to_owned(), "on".to_owned());
                let what = "Secure Boot".to_owned();
                return (found != expected).then_some(Difference { what, expected, measured: found });
            }
            Self::Signers(_) => ("signers of what was booted".to_owned(), measured.signers.clone()),
            Self::CommandLines(_) => ("kernel command line".to_owned(), one(measured.command_line.as_ref())),
            Self::Pcr(pcr, _) => (format!("PCR {pcr}"), one(measured.pcrs.get(pcr))),
            Self::Section(section, _) => {
                let known = measured.sections.is_some();
                (format!("section {}", section.name()), known.then(|| measured.contents(*section)))
            }
        };
        let show = match self {
            Self::CommandLines(_) => quoted,
            Self::SecureBoot | Self::Signers(_) | Self::Pcr(..) | Self::Section(..) => digest,
        };
        let allowed = self.values();
        let met = found.as_ref().is_some_and(|all| !all.is_empty() && all.iter().all(|one| allowed.contains(one)));
        (!met).then(|| Difference { what, expected: expected(allowed, show), measured: shown(found.as_deref(), show) })
    }
}

/// What is expected: the first value, and how many there are beside it.
fn expected(values: &[String], show: fn(&str) -> String) -> String {
    match values {
        [] => "nothing".to_owned(),
        [one] => show(one),
        [one, others @ ..] => format!("{} or {} others", show(one), others.len()),
    }
}

/// What was measured.
fn shown(values: Option<&[String]>, show: fn(&str) -> String) -> String {
    match values {
        None => "what the log does not tell".to_owned(),
        Some([]) => "none".to_owned(),
        Some(values) => {
            let mut all: Vec<String> = values.iter().take(TOLD_MAX).map(|value| show(value)).collect();
            if let Some(more) = values.len().checked_sub(TOLD_MAX).filter(|more| *more > 0) {
                all.push(format!("{more} more"));
            }
            all.join(" and ")
        }
    }
}

fn digest(hex: &str) -> String {
    format!("{}...", hex.chars().take(DIGEST_SHOWN).collect::<String>())
}

fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_MAX).collect();
    let more = if cut.len() < text.len() { "..." } else { "" };
    format!("`{cut}{more}`")
}
