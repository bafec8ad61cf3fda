//! Whether Secure Boot was on, from what the firmware measured into PCR 7.

use thiserror::Error;

use crate::algorithm::HashAlgorithm;
use crate::pcr::{Bank, QuotedPcrs};

use super::{
    Event, EventKind, EventLog, ReplayError,
    variable::{Namespace, Variable},
};

/// The PCR for the policy of Secure Boot (PC Client Platform Firmware Profile, 3.3.4.8).
pub(super) const PCR: u8 = 7;

/// What the firmware said of Secure Boot. Of the keys that it boots by nothing is known.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SecureBoot {
    /// It was on.
    On,
    /// It was off, or the firmware has none: then the variable is measured without a value.
    Off,
}

/// Why nothing is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum SecureBootError {
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error("PCR 7 was not quoted")]
    NotQuoted,
    #[error("the log does not lead to the value of PCR 7 that was quoted")]
    Differs,
    #[error("event {event} has a digest that is not of its data")]
    Data { event: usize },
    #[error("the log does not say where the firmware ends in PCR 7: there is no separator")]
    NoSeparator,
    #[error("the firmware did not measure the variable SecureBoot")]
    Absent,
    #[error("the firmware measured the variable SecureBoot twice, or with a value that it cannot have")]
    Variable,
}

/// What separators are digests of (3.3.2): the usual one, and those that tell of an error.
pub(super) const SEPARATORS: [[u8; 4]; 3] = [[0; 4], [0xff; 4], [1, 0, 0, 0]];

impl EventLog<'_> {
    /// What the firmware measured of Secure Boot, if the log leads to the value of PCR 7 that was quoted.
    ///
    /// Only what comes before the separator is the firmware's own word: after it, whatever was booted measures what it
    /// likes. Types of events are not looked at, as nothing covers them; so before the separator every digest must be
    /// one of its data, or a variable could be hidden among them.
    pub fn secure_boot(&self, quoted: &QuotedPcrs) -> Result<SecureBoot, SecureBootError> {
        let hash = quoted.bank();
        if quoted.value(PCR).is_none() {
            return Err(SecureBootError::NotQuoted);
        }
        let replayed = self.replay(Bank::Believed(hash))?;
        if replayed.differences(quoted).contains(PCR) {
            return Err(SecureBootError::Differs);
        }
        self.before_separator(hash)
    }

    fn before_separator(&self, hash: HashAlgorithm) -> Result<SecureBoot, SecureBootError> {
        let separators = SEPARATORS.map(|data| hash.digest(&[&data]));
        let mut found = None;
        let measured = |event: &Event<'_>| event.pcr == u32::from(PCR) && event.kind != EventKind::NO_ACTION;
        for (at, event) in self.events.iter().enumerate().filter(|(_, event)| measured(event)) {
            let digest = event.digest(Bank::Believed(hash)).unwrap_or_default();
            if separators.iter().any(|separator| separator == digest) {
                return found.ok_or(SecureBootError::Absent);
            }
            if hash.digest(&[event.data]) != digest {
                return Err(SecureBootError::Data { event: at });
            }
            if let Some(value) = secure_boot_variable(event.data) {
                let value = match value {
                    [] | [0] => SecureBoot::Off,
                    [1] => SecureBoot::On,
                    _ => return Err(SecureBootError::Variable),
                };
                if found.replace(value).is_some() {
                    return Err(SecureBootError::Variable);
                }
            }
        }
        Err(SecureBootError::NoSeparator)
    }
}

/// The value, if this is the variable SecureBoot.
fn secure_boot_variable(data: &[u8]) -> Option<&[u8]> {
    Variable::read(data)?.is(Namespace::Global, "SecureBoot")
}
