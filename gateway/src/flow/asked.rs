//! Requests as their authors wrote them, before they are parsed and checked.

use std::collections::BTreeMap;

/// A lock to be set.
#[derive(Clone, Debug)]
pub struct LockWish {
    /// What it is against.
    pub kind: String,
    /// Which one.
    pub target: String,
    /// Why.
    pub reason: String,
}

/// What the policy is asked.
#[derive(Clone, Debug, Default)]
pub struct PolicyQuestion {
    /// The action.
    pub action: String,
    /// What it concerns.
    pub resource: String,
}

/// A change of a machine.
#[derive(Clone, Debug, Default)]
pub struct MachineCorrection {
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// Labels to take away.
    pub no_labels: Vec<String>,
    /// Its new owner.
    pub owner: Option<String>,
    /// Whether to remove the owner.
    pub no_owner: bool,
    /// Its new name.
    pub name: Option<String>,
}

/// A change of a person.
#[derive(Clone, Debug, Default)]
pub struct PersonCorrection {
    /// Groups to give.
    pub groups: Vec<String>,
    /// Groups to take away.
    pub no_groups: Vec<String>,
}

/// A join token to be made.
#[derive(Clone, Debug, Default)]
pub struct TokenWish {
    /// What it admits; a machine when nothing is said.
    pub role: Option<String>,
    /// For how many keys; one when nothing is said.
    pub uses: Option<u32>,
    /// For how long, in seconds.
    pub ttl: Option<u64>,
    /// Names and patterns that it is for.
    pub names: Vec<String>,
    /// Labels that it gives.
    pub labels: BTreeMap<String, String>,
    /// Groups that it gives.
    pub groups: Vec<String>,
    /// The owner that it gives.
    pub owner: Option<String>,
    /// Digest of the one key that it is for.
    pub key: Option<String>,
}

/// A run of a configuration tool, as reported.
#[derive(Clone, Debug, Default)]
pub struct RunReport {
    /// The tool.
    pub tool: String,
    /// Its version.
    pub version: Option<String>,
    /// The run's own id.
    pub run_id: Option<String>,
    /// What was run.
    pub play: Option<String>,
    /// When it began, in seconds since the Unix epoch.
    pub started: u64,
    /// When it ended.
    pub finished: u64,
    /// Tasks that were right already.
    pub ok: u32,
    /// Tasks that changed something.
    pub changed: u32,
    /// Tasks that failed.
    pub failed: u32,
    /// Tasks that did not reach the machine.
    pub unreachable: u32,
    /// Tasks that were left out.
    pub skipped: u32,
}
