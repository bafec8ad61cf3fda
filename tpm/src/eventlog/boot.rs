//! What was booted, as far as the log leads to the PCRs that were quoted.
//!
//! Of each PCR the digests and their order are covered, and nothing else: not the types of events, not their order
//! between PCRs, and data only where the digest is one of it. So whoever hands the log over can change all other data,
//! and what depends on it is not told. What the firmware measured is the firmware's word; what a program measured
//! that it started, such as the sections of a UKI, is worth what that program is worth, which PCRs 4 and 7 say.

use thiserror::Error;

use crate::algorithm::HashAlgorithm;
use crate::pcr::{Bank, PcrSet, QuotedPcrs};

use super::secure_boot::{self, SEPARATORS};
use super::variable::{Namespace, Variable};
use super::{Authority, Event, EventLog, ReplayError, Replayed, Section, SecureBoot, SecureBootError, authority, uki};

/// The PCR for programs that the firmware starts (PC Client Platform Firmware Profile, 3.3.4.5).
const BOOT_PROGRAMS: u8 = 4;

/// What the firmware measures there that is no program (10.4.5, EV_EFI_ACTION).
const ACTIONS: [&[u8]; 2] =
    [b"Calling EFI Application from Boot Option", b"Returning from EFI Application from Boot Option"];

/// What is measured after the log was closed, in this order. Firmware may leave out the first two, when it hands over
/// to the system; the system adds the others (systemd-pcrphase), and with them none of the firmware's is lost.
const TAILS: [(u8, &[&str]); 3] = [
    (5, &["Exit Boot Services Invocation", "Exit Boot Services Returned with Success"]),
    (11, &["enter-initrd", "leave-initrd", "sysinit", "ready", "shutdown", "final"]),
    (11, &["sysinit", "ready", "shutdown", "final"]),
];

/// What a log tells of a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot<'a> {
    /// Of the PCRs that were quoted, those that the log does not lead to. Nothing is told from these.
    pub differences: PcrSet,
    /// Whether Secure Boot was on.
    pub secure_boot: Result<SecureBoot, SecureBootError>,
    /// The list of whom the firmware boots, as it measured it.
    pub db: Option<&'a [u8]>,
    /// The list of whom it does not boot.
    pub dbx: Option<&'a [u8]>,
    /// By what every program was verified that Secure Boot let run, each once, in this order.
    pub authorities: Result<Vec<Authority<'a>>, BootError>,
    /// The digests (of Authenticode) of the programs that the firmware started, in this order.
    pub programs: Result<Vec<&'a [u8]>, BootError>,
    /// The sections of the UKI, each with the digest of its content. There is none if what was booted measured none.
    pub sections: Result<Vec<(Section, &'a [u8])>, BootError>,
    /// Kernel command lines that were given to a UKI beside its own, or by a boot loader of systemd.
    pub command_lines: Result<Vec<String>, BootError>,
}

/// Why something is not known of a boot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum BootError {
    #[error("PCR {0} was not quoted")]
    NotQuoted(u8),
    #[error("the log does not lead to the value of PCR {0} that was quoted")]
    Differs(u8),
    #[error("event {event} has a digest that is not of its data")]
    Data { event: usize },
    #[error("event {event} is none that is known there")]
    Form { event: usize },
    #[error("Secure Boot was not on, or it is not known whether it was")]
    NotSecure,
}

impl Boot<'_> {
    /// Whether the log leads to the value of every PCR that was quoted.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.differences.is_empty()
    }
}

impl<'a> EventLog<'a> {
    /// What it tells of the boot that led to the values that were quoted.
    pub fn boot(&self, quoted: &QuotedPcrs) -> Result<Boot<'a>, ReplayError> {
        let replayed = self.replay(Bank::Believed(quoted.bank()))?;
        let differences = replayed.differences(quoted).filter(|pcr| !leads_on(&replayed, pcr, quoted));
        let told = ToldLog { log: self, hash: quoted.bank(), quoted, differences };
        let secure_boot = self.secure_boot(quoted);
        let authorities = match secure_boot {
            Ok(SecureBoot::On) => authority::read(&told),
            Ok(SecureBoot::Off) | Err(_) => Err(BootError::NotSecure),
        };
        let [db, dbx] = match secure_boot {
            Ok(_) => ["db", "dbx"].map(|name| told.firmware_variable(name)),
            Err(_) => [None, None],
        };
        Ok(Boot {
            differences,
            secure_boot,
            db,
            dbx,
            authorities,
            programs: told.programs(),
            sections: uki::sections(&told),
            command_lines: uki::command_lines(&told),
        })
    }
}

/// Whether what the log leads to becomes the quoted value with what is known to be measured after it.
fn leads_on(replayed: &Replayed, pcr: u8, quoted: &QuotedPcrs) -> bool {
    let hash = quoted.bank();
    TAILS.iter().filter(|(of, _)| *of == pcr).any(|(_, tail)| {
        let mut value = replayed.value(pcr, hash.digest_len());
        tail.iter().any(|text| {
            value = hash.digest(&[&value, &hash.digest(&[text.as_bytes()])]);
            quoted.value(pcr) == Some(value.as_slice())
        })
    })
}

/// A log, and the PCRs that bear it out.
pub(super) struct ToldLog<'l, 'a> {
    log: &'l EventLog<'a>,
    pub(super) hash: HashAlgorithm,
    quoted: &'l QuotedPcrs,
    differences: PcrSet,
}

/// An event of a PCR, by its number in the log, and its digest.
pub(super) struct Told<'a> {
    pub(super) at: usize,
    pub(super) digest: &'a [u8],
    pub(super) data: &'a [u8],
}

impl<'a> ToldLog<'_, 'a> {
    /// The events of a PCR, in their order, if the quote bears them out.
    pub(super) fn events(&self, pcr: u8) -> Result<impl Iterator<Item = Told<'a>>, BootError> {
        if self.quoted.value(pcr).is_none() {
            return Err(BootError::NotQuoted(pcr));
        }
        if self.differences.contains(pcr) {
            return Err(BootError::Differs(pcr));
        }
        let bank = Bank::Believed(self.hash);
        let of_it = move |event: &Event<'_>| event.pcr == u32::from(pcr) && event.is_measured();
        let events = self.log.events().iter().enumerate().filter(move |(_, event)| of_it(event));
        // The replay has a digest of each.
        Ok(events.map(move |(at, event)| {
            let digest = event.digest(bank).unwrap_or_default();
            Told { at, digest, data: event.data }
        }))
    }

    /// Whether a digest is one of these bytes.
    pub(super) fn is_of(&self, digest: &[u8], bytes: &[u8]) -> bool {
        self.hash.digest(&[bytes]) == digest
    }

    /// Whether a digest is one of a separator.
    pub(super) fn is_separator(&self, digest: &[u8]) -> bool {
        SEPARATORS.iter().any(|separator| self.is_of(digest, separator))
    }

    /// A list of images, as the firmware measured it before the separator: there all data is covered.
    fn firmware_variable(&self, name: &str) -> Option<&'a [u8]> {
        let events = self.events(secure_boot::PCR).ok()?;
        events
            .take_while(|event| !self.is_separator(event.digest))
            .filter(|event| self.is_of(event.digest, event.data))
            .find_map(|event| Variable::read(event.data)?.is(Namespace::ImageSecurity, name))
    }

    /// Every digest in PCR 4 but those of what is known to be no program.
    fn programs(&self) -> Result<Vec<&'a [u8]>, BootError> {
        let actions = ACTIONS.map(|action| self.hash.digest(&[action]));
        let is_action = |digest: &[u8]| actions.iter().any(|action| action == digest);
        let events = self.events(BOOT_PROGRAMS)?.map(|event| event.digest);
        Ok(events.filter(|digest| !self.is_separator(digest) && !is_action(digest)).collect())
    }
}

#[cfg(test)]
mod tests;
