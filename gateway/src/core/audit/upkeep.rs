//! Events of the gateway itself and of what it keeps.

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
}

impl Upkeep {
    /// The stable name, for filters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ClockDoubted { .. } => "clock.doubted",
            Self::ClockBelieved { .. } => "clock.believed",
            Self::RecordQuarantined { .. } => "record.quarantined",
        }
    }

    /// Subject, rules and fields.
    pub(super) fn parts(self) -> (String, Vec<String>, Vec<(&'static str, String)>) {
        match self {
            Self::ClockDoubted { why } | Self::ClockBelieved { why } => {
                ("gateway".to_owned(), vec![], vec![("why", why)])
            }
            Self::RecordQuarantined { key, why } => (key, vec![], vec![("why", why)]),
        }
    }
}
