//! Runs of configuration tools.

use serde::{Deserialize, Serialize};

use super::UnixSecs;

/// One run of a configuration tool on a machine, as reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The tool.
    pub tool: String,
    /// Its version.
    pub version: Option<String>,
    /// The tool's id of this run.
    pub run_id: Option<String>,
    /// What was run.
    pub play: Option<String>,
    /// When it began, by the reporter's clock.
    pub started: UnixSecs,
    /// When it ended, by the reporter's clock.
    pub finished: UnixSecs,
    /// Steps that succeeded.
    pub ok: u32,
    /// Steps that changed something.
    pub changed: u32,
    /// Steps that failed.
    pub failed: u32,
    /// How often the machine could not be reached.
    pub unreachable: u32,
    /// Steps left out.
    pub skipped: u32,
}

/// The last reported run on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Convergence {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// Who reported it: an identity.
    pub by: String,
    /// When it was reported.
    pub at: UnixSecs,
}
