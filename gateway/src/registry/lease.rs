//! The lease of this process: what is written to the store with it vanishes when the process is gone. `flow::lease` keeps it.

use tokio::sync::watch;

use crate::store::LeaseId;

/// The lease that stands now, if any does.
#[derive(Debug, Default)]
pub struct ReplicaLease(watch::Sender<Option<LeaseId>>);

impl ReplicaLease {
    /// The lease; nothing before there is a first one, and while the store cannot be reached to get another.
    #[must_use]
    pub fn current(&self) -> Option<LeaseId> {
        *self.0.borrow()
    }

    /// Tells when another stands: what was written with the one before is gone.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Option<LeaseId>> {
        self.0.subscribe()
    }

    /// From now on this one stands.
    pub fn becomes(&self, lease: Option<LeaseId>) {
        self.0.send_if_modified(|current| {
            let differs = *current != lease;
            *current = lease;
            differs
        });
    }
}
