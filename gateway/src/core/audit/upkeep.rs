//! Events of the gateway itself and of what it keeps.

use serde::{Deserialize, Serialize};

/// What a command did in the gateway's folder while the store was not its own: it is noted beside the store, and the gateway
/// makes it an event.
#[expect(missing_docs, reason = "each variant is documented; its fields are named for what they hold")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub enum Offline {
    /// An issuing CA has another certificate: by the root's key here, or signed elsewhere.
    CaRenewed { ca: String, serial: String, not_after: u64, signed: SignedWhere },
    /// The root's revocation list was made anew.
    RootListMade { number: String, signed: SignedWhere },
    /// A root or an issuing CA took a step; of one that was retired, how many depended on it, when that was known.
    SlotChanged { slot: String, state: String, key: String, stranded: Option<u64> },
    /// The key of join tokens or of tickets was replaced.
    KeyReplaced { file: String },
}

/// Where the root signed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignedWhere {
    /// By this command.
    Here,
    /// Elsewhere, and it was brought here.
    Elsewhere,
}

impl SignedWhere {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Elsewhere => "elsewhere",
        }
    }
}

/// What happened. The names given by [`Upkeep::name`] are stable.
#[expect(missing_docs, reason = "each variant is documented; its fields are named for what they hold")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// The clock is not believed any more: housekeeping deletes nothing for good.
    ClockDoubted { why: String },
    /// It is believed again: by itself, or because an operator said so.
    ClockBelieved { why: String },
    /// A damaged record was put aside.
    RecordQuarantined { key: String, why: String },
    /// A command did something beside the store, at that time.
    Offline { at: u64, what: Offline },
    /// The store was filled from an export.
    StoreImported { records: u64, sha256: String },
    /// An operator started the gateway on a store that was restored or copied.
    RollbackAccepted { why: String },
}

impl Upkeep {
    /// The stable name, for filters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ClockDoubted { .. } => "clock.doubted",
            Self::ClockBelieved { .. } => "clock.believed",
            Self::RecordQuarantined { .. } => "record.quarantined",
            Self::Offline { what: Offline::CaRenewed { .. }, .. } => "ca.renewed",
            Self::Offline { what: Offline::RootListMade { .. }, .. } => "ca.root-list",
            Self::Offline { what: Offline::SlotChanged { .. }, .. } => "ca.slot",
            Self::Offline { what: Offline::KeyReplaced { .. }, .. } => "ca.key",
            Self::StoreImported { .. } => "store.imported",
            Self::RollbackAccepted { .. } => "store.rollback-accepted",
        }
    }

    /// Subject, rules and fields.
    pub(super) fn parts(self) -> (String, Vec<String>, Vec<(&'static str, String)>) {
        match self {
            Self::ClockDoubted { why } | Self::ClockBelieved { why } | Self::RollbackAccepted { why } => {
                ("gateway".to_owned(), vec![], vec![("why", why)])
            }
            Self::RecordQuarantined { key, why } => (key, vec![], vec![("why", why)]),
            Self::StoreImported { records, sha256 } => {
                ("gateway".to_owned(), vec![], vec![("records", records.to_string()), ("sha256", sha256)])
            }
            Self::Offline { at, what } => {
                let at = ("at", at.to_string());
                match what {
                    Offline::CaRenewed { ca, serial, not_after, signed } => {
                        let until = ("not_after", not_after.to_string());
                        let signed = ("signed", signed.as_str().to_owned());
                        (ca, vec![], vec![("serial", serial), until, signed, at])
                    }
                    Offline::RootListMade { number, signed } => {
                        let signed = ("signed", signed.as_str().to_owned());
                        ("root".to_owned(), vec![], vec![("number", number), signed, at])
                    }
                    Offline::SlotChanged { slot, state, key, stranded } => {
                        let mut fields = vec![("state", state), ("key", key), at];
                        fields.extend(stranded.map(|count| ("stranded", count.to_string())));
                        (slot, vec![], fields)
                    }
                    Offline::KeyReplaced { file } => (file, vec![], vec![at]),
                }
            }
        }
    }
}
