//! The current records that an earlier request depends on.

use pki::KeyDigest;

use crate::core::{
    admission::lock_kind,
    change::{Changes, Expectation},
    device::KnownDevices,
    lock::Target,
    records::{Lineage, LockKind, Seen, Subject},
    refusal::Refusal,
};

/// The current records that an earlier request depends on.
#[derive(Clone, Debug)]
pub struct EnrollmentBasis {
    /// The lineage that began with it, or that it would rejoin.
    pub lineage: Option<Seen<Lineage>>,
    /// The holder of that lineage's name.
    pub subject: Option<Seen<Subject>>,
    /// The devices that its evidence is of.
    pub devices: KnownDevices,
    /// The conditions under which its evidence is valid, or why it is not.
    pub evidence: Result<Vec<Expectation>, Refusal>,
}

impl Default for EnrollmentBasis {
    fn default() -> Self {
        Self { lineage: None, subject: None, devices: KnownDevices::default(), evidence: Ok(vec![]) }
    }
}

impl EnrollmentBasis {
    /// The client itself as lock targets: its key, and the lineage that the request began or rejoins, with its name.
    #[must_use]
    pub fn own(&self, key: &KeyDigest) -> Vec<Target> {
        let mut own = vec![(LockKind::Key, key.hex())];
        if let Some(Seen { record, .. }) = &self.lineage {
            own.push((LockKind::Lineage, record.id.clone()));
            own.push((lock_kind(record.role), record.name.clone()));
        }
        own
    }

    /// Adds the conditions under which the evidence is valid to `changes`.
    ///
    /// # Errors
    /// [`Refusal::Evidence`] if it has become invalid, such as by the revocation of a token; [`Refusal::Ours`] if that cannot be told.
    pub fn require_evidence(&self, changes: &mut Changes) -> Result<(), Refusal> {
        changes.expect.extend(self.evidence.clone()?);
        Ok(())
    }
}
