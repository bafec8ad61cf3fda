//! Opening a store: the engine by its name, the folder's lock, the check of everything, and only then the store.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use super::{
    Store,
    folder::Folder,
    format,
    group::{self, Fault, Grouped},
    memory::Memory,
    redb::Redb,
    sled::Sled,
};

/// The engines, as the configuration names them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Forgets everything at the end of the process.
    Memory,
    /// The default.
    Sled,
    /// The other one on disk: one file, opens faster, commits a little slower.
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

/// A name that is no engine's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown store engine `{0}`; choose `sled`, `redb` or `memory`")]
pub struct UnknownEngine(pub String);

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        Self::ALL.into_iter().find(|engine| engine.as_str() == name).ok_or_else(|| UnknownEngine(name.to_owned()))
    }
}

/// Why a store did not open. Nothing in it was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Somebody has it open.
    #[error("the store in `{path}` is already open by another process; stop that one first")]
    Locked {
        /// The store's folder.
        path: PathBuf,
    },
    /// It was written by a newer version.
    #[error("the store has format {found}, this version knows formats up to {known}; use the newer version")]
    Newer {
        /// The format it has.
        found: u32,
        /// The newest we know.
        known: u32,
    },
    /// The folder holds the store of another engine.
    #[error(
        "the folder holds a `{has}` store, but the configuration asks for `{asked}`; export the one and import it into an empty folder"
    )]
    OtherEngine {
        /// Whose store it is.
        has: Engine,
        /// Which one was asked for.
        asked: Engine,
    },
    /// An import into it did not finish.
    #[error("an import into this store did not finish; remove the folder and import again")]
    HalfImported,
    /// It is not what was written.
    #[error("the store is damaged: {reason}; restore it from the newest export")]
    Damaged {
        /// What was found.
        reason: String,
    },
    /// The disk or the system said no; trying again later may help.
    #[error("the store could not be opened: {reason}")]
    Engine {
        /// What it said.
        reason: String,
    },
}

/// Opens the store in the folder `path`, making it if the folder is empty or missing. `cache_mib` is the engine's cache;
/// expect up to three times that in memory.
///
/// Everything stored is read and checked before the store is given out: some seconds for a million records.
pub fn open(engine: Engine, path: &Path, cache_mib: u64) -> Result<Arc<dyn Store>, OpenError> {
    match engine {
        Engine::Memory => Ok(Arc::new(Memory::default())),
        Engine::Sled => on_disk(engine, path, |dir| Sled::open(&dir.join("sled"), cache_mib)),
        Engine::Redb => on_disk(engine, path, |dir| Redb::open(&dir.join("store.redb"), cache_mib)),
    }
}

/// Opens a copy of the store in the folder `path`, for reading alone: nothing is written there, as every engine does that
/// opens. The copy is made in the new folder `copy`, which the caller removes.
pub fn open_copy(engine: Engine, path: &Path, copy: &Path, cache_mib: u64) -> Result<Arc<dyn Store>, OpenError> {
    if engine != Engine::Memory {
        super::folder::copy(path, copy)?;
    }
    open(engine, copy, cache_mib)
}

fn on_disk<E: group::Engine>(
    engine: Engine,
    path: &Path,
    open: impl FnOnce(&Path) -> Result<E, Fault>,
) -> Result<Arc<dyn Store>, OpenError> {
    let folder = Folder::open(path, engine)?;
    let opened = group::guarded(|| open(folder.path()))?;
    let checked = match format::check(&opened, folder.past()) {
        Ok(checked) => checked,
        Err(error) => {
            // a damaged engine may panic again when it is dropped
            let _ = group::guarded(|| {
                drop(opened);
                Ok::<_, Fault>(())
            });
            return Err(error);
        }
    };
    let commits = checked.totals.commits;
    if folder.past() != format::Past::AtLeast(commits) {
        folder.mark(commits)?;
    }
    Ok(Arc::new(Grouped::start(opened, checked, Some(folder))?))
}
