//! Whether this gateway is the one of those over its store that does what is done once for all.

use tokio::sync::Mutex;

use crate::store::{LeaseId, Version};

/// What is held while it is.
pub type Leading = Mutex<Option<HeldLease>>;

/// The lease that makes this gateway the one.
#[derive(Copy, Clone, Debug)]
pub struct HeldLease {
    /// The lease.
    pub lease: LeaseId,
    /// The commit that wrote the record which hangs on it.
    pub version: Version,
}
