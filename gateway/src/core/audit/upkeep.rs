//! Events of the gateway itself and its store.

use serde::{Deserialize, Serialize};

/// An action of an operator command that cannot open the store because the gateway has it open. It is noted in a file beside the store,
/// from which the gateway makes an event.
#[expect(missing_docs, reason = "each variant is documented; its fields are named for what they hold")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub enum Offline {
    /// The certificate of an issuing CA was renewed.
    CaRenewed { ca: String, serial: String, not_after: u64, signed: SignedWhere },
    /// A new CRL of the root was signed.
    RootListMade { number: String, signed: SignedWhere },
    /// A slot took a step. If it was retired, `stranded` is the number of holders that depended on it, if known.
    SlotChanged { slot: String, state: String, key: String, stranded: Option<u64> },
    /// The key of join tokens or of tickets was replaced.
    KeyReplaced { file: String },
}

/// Where the root's key was used.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignedWhere {
    /// By the command on this machine.
    Here,
    /// On another machine; the result was imported.
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

/// An event of the gateway itself.
#[expect(missing_docs, reason = "each variant is documented; its fields are named for what they hold")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// The wall clock is doubted: housekeeping deletes nothing permanently.
    ClockDoubted { why: String },
    /// The wall clock is trusted again: it agrees with the counted time, or an operator confirmed it.
    ClockBelieved { why: String },
    /// A damaged record was moved to quarantine.
    RecordQuarantined { key: String, why: String },
    /// An action of an operator command; `at` is its time in seconds since the Unix epoch.
    Offline { at: u64, what: Offline },
    /// The store was created by an import.
    StoreImported { records: u64, sha256: String },
    /// An operator confirmed that the store was restored or copied.
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
