//! Events about requests, names and evidence: what a request or certificate depended on has changed.

use pki::Assurance;

/// An event about a request, name or evidence.
#[expect(missing_docs, reason = "each variant is documented; its fields are named for what they hold")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandingEvent {
    /// A replaced certificate that had expired or was locked was used as evidence. It was refused and nothing was locked.
    CertificateStale { identity: String, lineage: String, used: String, source: String },
    /// A request ended because something that it depended on was removed.
    EnrollmentEnded { enrollment: String, identity: String },
    /// The requester withdrew a request.
    EnrollmentWithdrawn { enrollment: String },
    /// A renamed machine now uses its new name.
    SubjectRenamed { identity: String, before: String },
    /// Evidence was accepted at a renewal.
    EvidenceTaken { identity: String, kinds: String, assurance: Assurance },
    /// Evidence that the policy requires again was missing at a renewal: its claims were dropped.
    EvidenceLapsed { identity: String, kinds: String },
    /// What the evidence of a request or a machine measured differs from what is allowed.
    EvidenceDiffers { subject: String, difference: String },
    /// A machine that was wiped came back as itself by its device.
    DeviceReturned { identity: String, lineage: String, enrollment: String },
    /// A machine's device counted less than before. It was not refused and nothing was locked.
    DeviceCountedBack { identity: String, count: String, before: i64, now: i64 },
    /// A person reopened a denied request.
    EnrollmentReopened { enrollment: String, rules: Vec<String> },
}

impl StandingEvent {
    /// The stable name, for filters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CertificateStale { .. } => "certificate.stale",
            Self::DeviceReturned { .. } => "device.returned",
            Self::DeviceCountedBack { .. } => "device.counted-back",
            Self::EnrollmentEnded { .. } => "enrollment.ended",
            Self::EnrollmentWithdrawn { .. } => "enrollment.withdrawn",
            Self::EnrollmentReopened { .. } => "enrollment.reopened",
            Self::EvidenceDiffers { .. } => "evidence.differs",
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
                let fields = [("kinds", kinds), ("assurance", assurance.level().as_str().to_owned())];
                let of = assurance.of().map(|of| ("assurance_of", of.as_str().to_owned()));
                (identity, vec![], fields.into_iter().chain(of).collect())
            }
            Self::EvidenceDiffers { subject, difference } => (subject, vec![], vec![("difference", difference)]),
            Self::DeviceReturned { identity, lineage, enrollment } => {
                (identity, vec![], vec![("lineage", lineage), ("enrollment", enrollment)])
            }
            Self::DeviceCountedBack { identity, count, before, now } => {
                (identity, vec![], vec![("count", count), ("before", before.to_string()), ("now", now.to_string())])
            }
            Self::EvidenceLapsed { identity, kinds } => (identity, vec![], vec![("kinds", kinds)]),
            Self::EnrollmentReopened { enrollment, rules } => (enrollment, rules, vec![]),
        }
    }
}
