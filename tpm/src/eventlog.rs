//! Event logs of measured boot (TCG PC Client Platform Firmware Profile, 10): parsed, and replayed to values of PCRs.
//!
//! Only digests can be trusted, and only if their replay gives the value of a PCR that a quote vouches for. The type of
//! an event is covered by nothing, and its data only where its digest is one of the data. A log says nothing about PCRs
//! that were not quoted.

use thiserror::Error;

use crate::codec::CodecError;
use crate::pcr::Bank;

mod authority;
mod boot;
mod parse;
mod replay;
mod secure_boot;
mod uki;
mod variable;

pub use authority::Authority;
pub use boot::{Boot, BootError};
pub use replay::{ReplayError, Replayed};
pub use secure_boot::{SecureBoot, SecureBootError};
pub use uki::Section;

/// How much of a log is read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Most bytes in the log.
    pub bytes: usize,
    /// Most events.
    pub events: usize,
    /// Most digests of one event, which is most banks.
    pub digests: usize,
    /// Most bytes of data in one event.
    pub event_bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: 512 * 1024,       // seven times the largest log we know
            events: 4096,            // a boot has under 200, a kernel with much to load some hundreds
            digests: 8,              // TPMs have at most five banks
            event_bytes: 128 * 1024, // the list of revoked boot programs, which has 20 KiB and grows
        }
    }
}

/// Why a log is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum LogError {
    #[error("the log has {found} bytes and at most {most} are read")]
    TooLong { found: usize, most: usize },
    #[error("the log has more than {0} events")]
    TooManyEvents(usize),
    #[error("the log has no event")]
    Empty,
    #[error("event {event}: {why}")]
    Event { event: usize, why: CodecError },
}

/// A log. Nothing in it is believed before [`Replayed::differences`] was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog<'a> {
    banks: Vec<Bank>,
    events: Vec<Event<'a>>,
}

/// What was measured, as the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Into which PCR. In events that are not measured it can be any number.
    pub pcr: u32,
    /// Its type. Nothing covers it: whoever hands the log over may have changed it.
    pub kind: EventKind,
    /// Its digest for each bank. This is what was measured.
    pub digests: Vec<(Bank, &'a [u8])>,
    /// What belongs to it. Believe it only where a digest is one of this data.
    pub data: &'a [u8],
}

/// The type of an event (TCG_EVENTTYPE). Nothing covers it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventKind(pub u32);

impl EventKind {
    /// EV_NO_ACTION: it is not measured.
    pub const NO_ACTION: Self = Self(0x0000_0003);
}

impl<'a> Event<'a> {
    /// Whether it was measured.
    fn is_measured(&self) -> bool {
        self.kind != EventKind::NO_ACTION
    }

    /// Its digest for a bank.
    #[must_use]
    pub fn digest(&self, bank: Bank) -> Option<&'a [u8]> {
        self.digests.iter().find(|(of, _)| *of == bank).map(|(_, digest)| *digest)
    }
}

impl<'a> EventLog<'a> {
    /// The banks that its events have digests for. A log in the old format has SHA-1 alone.
    #[must_use]
    pub fn banks(&self) -> &[Bank] {
        &self.banks
    }

    /// Its events, in the order in which they were measured.
    #[must_use]
    pub fn events(&self) -> &[Event<'a>] {
        &self.events
    }
}

#[cfg(test)]
mod tests;
