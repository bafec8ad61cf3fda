//! Events about what stood behind something and does not any more.

/// What happened.
#[expect(missing_docs, reason = "each variant is documented; its fields are named for what they hold")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandingEvent {
    /// A certificate that was replaced, and had expired or was locked, was shown as evidence. It changed nothing.
    CertificateStale { identity: String, lineage: String, used: String, source: String },
    /// A request ended because what it rested on was removed.
    EnrollmentEnded { enrollment: String, identity: String },
    /// Whoever made a request took it back.
    EnrollmentWithdrawn { enrollment: String },
    /// A machine has taken the name that it was to become.
    SubjectRenamed { identity: String, before: String },
    /// Evidence was shown at a renewal, and held.
    EvidenceTaken { identity: String, kinds: String, assurance: &'static str },
    /// Evidence that the policy wants fresh was not shown at a renewal: its claims are forgotten.
    EvidenceLapsed { identity: String, kinds: String },
    /// A person took a denial back: the request waits again.
    EnrollmentReopened { enrollment: String, rules: Vec<String> },
}

impl StandingEvent {
    /// The stable name, for filters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CertificateStale { .. } => "certificate.stale",
            Self::EnrollmentEnded { .. } => "enrollment.ended",
            Self::EnrollmentWithdrawn { .. } => "enrollment.withdrawn",
            Self::EnrollmentReopened { .. } => "enrollment.reopened",
            Self::EvidenceTaken { .. } => "evidence.taken",
            Self::EvidenceLapsed { .. } => "evidence.lapsed",
            Self::SubjectRenamed { .. } => "subject.renamed",
        }
    }

    pub(super) fn parts(self) -> (String, Vec<String>, Vec<(&'static str, String)>) {
        match self {
            Self::CertificateStale { identity, lineage, used, source } => {
                (identity, vec![], vec![("lineage", lineage), ("used", used), ("source", source)])
            }
            Self::EnrollmentEnded { enrollment, identity } => (enrollment, vec![], vec![("identity", identity)]),
            Self::EnrollmentWithdrawn { enrollment } => (enrollment, vec![], vec![]),
            Self::SubjectRenamed { identity, before } => (identity, vec![], vec![("before", before)]),
            Self::EvidenceTaken { identity, kinds, assurance } => {
                (identity, vec![], vec![("kinds", kinds), ("assurance", assurance.to_owned())])
            }
            Self::EvidenceLapsed { identity, kinds } => (identity, vec![], vec![("kinds", kinds)]),
            Self::EnrollmentReopened { enrollment, rules } => (enrollment, rules, vec![]),
        }
    }
}
