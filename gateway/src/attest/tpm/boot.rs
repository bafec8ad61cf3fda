//! What was booted: measured, by the quote and the event log, and compared with what is allowed.
//!
//! Values of PCRs are the quote's. All else is from the log, and only from PCRs that it leads to. What a program measured that was
//! booted, such as the sections of a UKI, is worth what that program is worth: a rule about it needs one about the signer, too.

use std::collections::BTreeMap;

use pki::{Assurance, AssuranceLevel};
use tpm::{Authority, Boot, Budget, EventLog, HashAlgorithm, QuotedPcrs, Section, SecureBoot, SecureBootError};

use super::{keys::decoded, reject::log_mismatch};
use crate::core::{evidence::Reject, records::Claim};

mod allowed;

pub(super) use self::allowed::{AllowedBoots, AllowedSettings, Compared};

/// The PCRs without which it is not known what was booted: the firmware's code, that of its extensions, what it started, and by which
/// policy (PC Client Platform Firmware Profile, 3.3.4).
const NEEDED: [u8; 4] = [0, 2, 4, 7];

/// Longest command line that is claimed as it is, in bytes: Linux takes 2048 on PCs, and most have under 300.
const COMMAND_LINE_MAX: usize = 1024;

/// Most programs and signers that are claimed: more than a boot has.
const LISTED_MAX: usize = 16;

/// The sections of a UKI that are claimed, each with the name of its claim.
const SECTIONS: [(Section, &str); 3] =
    [(Section::Linux, "boot_uki_linux"), (Section::Cmdline, "boot_uki_cmdline"), (Section::Initrd, "boot_uki_initrd")];

/// How far the log leads.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum LogState {
    /// To the values of all PCRs that were quoted.
    Complete,
    /// Not to all of them.
    Partial,
    /// There is none.
    None,
}

/// A boot, as it was measured. What is `None` is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MeasuredBoot {
    log: LogState,
    /// Values, hex.
    pcrs: BTreeMap<u8, String>,
    secure_boot: Option<SecureBoot>,
    /// SHA-256 of the certificates that programs were verified by, hex.
    signers: Option<Vec<String>>,
    /// Digests of what the firmware started, hex.
    programs: Option<Vec<String>>,
    /// What was given to a UKI beside its own command line.
    command_line: Option<String>,
    /// Digests of sections, hex.
    sections: Option<Vec<(Section, String)>>,
    /// SHA-256 of the lists of whom the firmware boots, and does not boot, hex.
    lists: [(&'static str, Option<String>); 2],
}

impl MeasuredBoot {
    /// From a quote, and its log in base64. A log that leads to another value of PCR 7 is refused; one that leaves something open is not.
    pub(super) fn read(quoted: &QuotedPcrs, log: Option<&str>) -> Result<Self, Reject> {
        let value = |pcr: u8| quoted.value(pcr).map(|value| (pcr, hex::encode(value)));
        let mut measured = Self {
            log: LogState::None,
            pcrs: quoted.pcrs().iter().filter_map(value).collect(),
            secure_boot: None,
            signers: None,
            programs: None,
            command_line: None,
            sections: None,
            lists: [("boot_db", None), ("boot_dbx", None)],
        };
        let Some(log) = log else { return Ok(measured) };
        let bytes = decoded(log)?;
        let log = EventLog::parse(&bytes, Budget::default()).map_err(|error| log_mismatch(&error.to_string()))?;
        measured.log = LogState::Partial;
        // one without digests of this bank tells nothing
        if let Ok(boot) = log.boot(quoted) {
            measured.told(&boot)?;
        }
        Ok(measured)
    }

    fn told(&mut self, boot: &Boot<'_>) -> Result<(), Reject> {
        if let Err(error @ SecureBootError::Differs) = &boot.secure_boot {
            return Err(log_mismatch(&error.to_string()));
        }
        if boot.is_complete() {
            self.log = LogState::Complete;
        }
        let hexes = |all: &[&[u8]]| all.iter().map(hex::encode).collect::<Vec<String>>();
        let sha256 = |list: &[u8]| hex::encode(HashAlgorithm::Sha256.digest(&[list]));
        self.secure_boot = boot.secure_boot.as_ref().ok().copied();
        let fingerprints = |all: &[Authority<'_>]| all.iter().map(|one| hex::encode(one.fingerprint())).collect();
        self.signers = boot.authorities.as_deref().ok().map(fingerprints);
        self.programs = boot.programs.as_deref().ok().map(hexes);
        self.command_line = boot.command_lines.as_ref().ok().map(|lines| lines.join(" "));
        let sections = boot.sections.as_ref().ok();
        self.sections =
            sections.map(|all| all.iter().map(|(section, digest)| (*section, hex::encode(digest))).collect());
        self.lists = [("boot_db", boot.db.map(sha256)), ("boot_dbx", boot.dbx.map(sha256))];
        Ok(())
    }

    /// What the claim on Secure Boot says.
    pub(super) const fn secure_boot(&self) -> &'static str {
        match self.secure_boot {
            Some(SecureBoot::On) => "on",
            Some(SecureBoot::Off) => "off",
            None => "unknown",
        }
    }

    /// Whether it is known what was booted: the log leads to all PCRs, and among them are those that say so.
    fn is_known(&self) -> bool {
        self.log == LogState::Complete
            && self.secure_boot.is_some()
            && NEEDED.iter().all(|pcr| self.pcrs.contains_key(pcr))
    }

    /// The assurance, if that of the key is this. Where boots are named that are allowed, it must be one of them.
    pub(super) fn assurance(&self, proven: Assurance, compared: &Compared) -> Assurance {
        let expected = match compared {
            Compared::Unasked | Compared::Allowed(_) => true,
            Compared::Differs(_) => false,
        };
        match (proven.level(), proven.of()) {
            (AssuranceLevel::Hardware, Some(of)) if expected && self.is_known() => Assurance::measured(of),
            _ => proven,
        }
    }

    /// What is claimed of it, without the prefix. A TPM that no maker vouches for can be a program, which tells what it likes: it has no
    /// boot that is allowed.
    pub(super) fn claims(&self, compared: &Compared, assurance: Assurance) -> Vec<(String, Claim)> {
        let log = match self.log {
            LogState::Complete => Some("complete"),
            LogState::Partial => Some("partial"),
            LogState::None => None,
        };
        let value = |(pcr, value): (&u8, &String)| (format!("boot_pcr_{pcr}"), value.clone());
        let mut all: Vec<(String, String)> = self.pcrs.iter().map(value).collect();
        let mut known = |name: &str, value: Option<String>| all.extend(value.map(|value| (name.to_owned(), value)));
        known("boot_log", log.map(str::to_owned));
        known("boot_uki_signer", self.signers.as_deref().and_then(listed));
        known("boot_programs", self.programs.as_deref().and_then(listed));
        known("boot_cmdline", self.command_line.as_deref().map(command_line));
        for (section, name) in SECTIONS {
            known(name, listed(&self.contents(section)));
        }
        for (name, digest) in &self.lists {
            known(name, digest.clone());
        }
        match compared {
            Compared::Unasked => {}
            Compared::Allowed(name) => {
                known("boot", (assurance.level() >= AssuranceLevel::Hardware).then(|| name.clone()));
            }
            Compared::Differs(difference) => {
                known("boot", Some(allowed::DIFFERS.to_owned()));
                known("boot_differs", Some(difference.to_string()));
            }
        }
        all.into_iter().map(|(name, value)| (name, Claim::Text(value))).collect()
    }

    /// Digests of the sections with this name.
    fn contents(&self, section: Section) -> Vec<String> {
        let of_it = self.sections.iter().flatten().filter(|(of, _)| *of == section);
        of_it.map(|(_, digest)| digest.clone()).collect()
    }
}

/// Values with commas between them, unless there is none or there are too many.
fn listed(values: &[String]) -> Option<String> {
    (1..=LISTED_MAX).contains(&values.len()).then(|| values.join(","))
}

/// A command line as it is claimed: itself, or its digest if it is long.
fn command_line(text: &str) -> String {
    if text.len() <= COMMAND_LINE_MAX {
        return text.to_owned();
    }
    format!("sha256:{}", hex::encode(HashAlgorithm::Sha256.digest(&[text.as_bytes()])))
}

#[cfg(test)]
mod tests;
