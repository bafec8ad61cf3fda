//! Digests to values of PCRs.

use thiserror::Error;

use crate::algorithm::digest_of;
use crate::pcr::{Bank, PcrSet, PcrValues, QuotedPcrs};

use super::{Event, EventKind, EventLog};

/// How an event begins that says from which locality the TPM was started (TCG_EfiStartupLocalityEvent).
const STARTUP_LOCALITY: &[u8] = b"StartupLocality\0";

/// The values that a log leads to, for one bank. They are the machine's only where a quote has the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    bank: Bank,
    values: PcrValues,
}

/// Why a log cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum ReplayError {
    #[error("the log has no digests for {0:?}")]
    Bank(Bank),
    #[error("event {event} has no digest for the bank")]
    NoDigest { event: usize },
    #[error("event {event} says anew from where the TPM was started, or says it too late, or says what cannot be")]
    StartupLocality { event: usize },
}

impl EventLog<'_> {
    /// Measures every event again.
    pub fn replay(&self, bank: Bank) -> Result<Replayed, ReplayError> {
        let algorithm = bank.algorithm().filter(|_| self.banks.contains(&bank)).ok_or(ReplayError::Bank(bank))?;
        let mut values = PcrValues::new();
        for (at, event) in self.events.iter().enumerate() {
            if event.kind == EventKind::NO_ACTION {
                if let Some(locality) = startup_locality(event) {
                    let mut value = vec![0; algorithm.output_len()];
                    let last = value.last_mut().filter(|_| [0, 3, 4].contains(&locality));
                    *last.ok_or(ReplayError::StartupLocality { event: at })? = locality;
                    if values.insert(0, value).is_some() {
                        return Err(ReplayError::StartupLocality { event: at });
                    }
                }
                continue;
            }
            let digest = event.digest(bank).ok_or(ReplayError::NoDigest { event: at })?;
            // PCRs above 23 are refused when the log is read.
            let pcr = u8::try_from(event.pcr).unwrap_or(u8::MAX);
            let value = values.entry(pcr).or_insert_with(|| start(pcr, algorithm.output_len()));
            *value = digest_of(algorithm, &[value, digest]);
        }
        Ok(Replayed { bank, values })
    }
}

/// The locality, if this event says one.
fn startup_locality(event: &Event<'_>) -> Option<u8> {
    match event.data.strip_prefix(STARTUP_LOCALITY) {
        Some([locality]) if event.pcr == 0 => Some(*locality),
        Some(_) | None => None,
    }
}

/// The value of a PCR after a reset: those for dynamic launches have all bits set (PC Client Platform TPM Profile,
/// 4.6).
fn start(pcr: u8, len: usize) -> Vec<u8> {
    vec![if (17..=22).contains(&pcr) { 0xff } else { 0 }; len]
}

impl Replayed {
    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> Bank {
        self.bank
    }

    /// The values of the PCRs that the log has events for.
    #[must_use]
    pub const fn values(&self) -> &PcrValues {
        &self.values
    }

    /// The value of a PCR: without events it is that after a reset.
    pub(super) fn value(&self, pcr: u8, len: usize) -> Vec<u8> {
        self.values.get(&pcr).cloned().unwrap_or_else(|| start(pcr, len))
    }

    /// Of the PCRs that were quoted, those that the log leads to another value for. A PCR without events has the value
    /// it has after a reset. Values of another bank differ, all of them.
    ///
    /// Some differ on sound machines: what is measured while the system runs is often not in this log (systemd, PCR
    /// 11), and some firmware leaves out what it measures when it hands over to the system (PCR 5).
    #[must_use]
    pub fn differences(&self, quoted: &QuotedPcrs) -> PcrSet {
        let same_bank = self.bank == Bank::Believed(quoted.bank());
        let agrees = |pcr: u8| quoted.value(pcr) == Some(self.value(pcr, quoted.bank().digest_len()).as_slice());
        quoted.pcrs().filter(|pcr| !same_bank || !agrees(pcr))
    }
}
