//! Devices, such as TPMs: which machine one is, and what it counted.

use serde::{Deserialize, Serialize};

use super::UnixSecs;

/// Which machine a device is. It stays on record after that machine was removed, until its lineage is forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceHolder {
    /// The machine's lineage.
    pub lineage: String,
}

/// A machine's device counted less than before: it is a copy, was set back to an earlier state, or was cleared. It changes nothing and is
/// told for a while. One record a lineage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedBack {
    /// The lineage.
    pub lineage: String,
    /// The claim with the count.
    pub count: String,
    /// Its value when the device was shown before.
    pub before: i64,
    /// Its value now.
    pub now: i64,
    /// When that was seen.
    pub at: UnixSecs,
}
