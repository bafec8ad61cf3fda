//! Names that nobody may take yet.

use pki::UnixTime;
use serde::{Deserialize, Serialize};

use super::UnixSecs;

/// A reserved name: a machine is being renamed to it, or was renamed from it and has unexpired certificates with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptName {
    /// The lineage of that machine.
    pub lineage: String,
    /// Expiry of the last certificate with this name; absent while a renaming to it is pending.
    pub until: Option<UnixSecs>,
}

impl KeptName {
    /// Whether it is still reserved.
    #[must_use]
    pub fn is_kept(&self, now: UnixTime) -> bool {
        self.until.is_none_or(|until| now.secs() <= until.0)
    }
}
