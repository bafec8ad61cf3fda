//! The engines by name, and why a store does not open.

use std::{fmt, path::PathBuf, str::FromStr};

use super::engine::EngineError;

/// The engines, as the configuration names them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Nothing is stored on disk. For tests and `dev`.
    Memory,
    /// On disk. The default.
    Sled,
    /// On disk, in one file. Opens faster than sled, commits a little slower.
    Redb,
}

impl Engine {
    /// Every engine, in the order of preference for a gateway on one machine.
    pub const ALL: [Self; 3] = [Self::Sled, Self::Redb, Self::Memory];

    /// Its name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sled => "sled",
            Self::Redb => "redb",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The configuration names an engine that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown store engine `{0}`; choose `sled`, `redb` or `memory`")]
pub struct UnknownEngine(pub String);

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        Self::ALL.into_iter().find(|engine| engine.as_str() == name).ok_or_else(|| UnknownEngine(name.to_owned()))
    }
}

/// Why a store did not open. The store was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store in `{path}` is already open by another process; stop that one first")]
    Locked {
        /// The store's folder.
        path: PathBuf,
    },
    /// It was written by a newer version.
    #[error("the store has format {found}, this version knows formats up to {known}; use the newer version")]
    Newer {
        /// Format version of the store.
        found: u32,
        /// The newest version that this build reads.
        known: u32,
    },
    /// The folder holds the store of another engine.
    #[error(
        "the folder holds a `{has}` store, but the configuration asks for `{asked}`; export the one and import it into an empty folder"
    )]
    OtherEngine {
        /// The engine that wrote the store.
        has: Engine,
        /// The engine in the configuration.
        asked: Engine,
    },
    /// An import into it did not finish.
    #[error("an import into this store did not finish; remove the folder and import again")]
    HalfImported,
    /// Files or records are missing, older than acknowledged commits, or fail their check.
    #[error("the store is damaged: {reason}; restore it from the newest export")]
    Damaged {
        /// What was found.
        reason: String,
    },
    /// An I/O error; another attempt may succeed.
    #[error("the store could not be opened: {reason}")]
    Engine {
        /// The engine's or the system's error.
        reason: String,
    },
}

impl From<EngineError> for OpenError {
    fn from(fault: EngineError) -> Self {
        match fault {
            EngineError::Full(_) | EngineError::Io(_) => Self::Engine { reason: fault.to_string() },
            EngineError::Damaged(reason) => Self::Damaged { reason },
            // an engine that panics while it opens or reads has met something its authors did not expect
            EngineError::Panicked(reason) => Self::Damaged { reason: format!("the engine panicked: {reason}") },
        }
    }
}
