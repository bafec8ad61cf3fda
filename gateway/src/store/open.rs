//! Opening a store: lock the folder, open the engine, check every record, then start the writer.

use std::{path::Path, sync::Arc};

use super::{
    api::Store,
    engine::{DiskEngine, EngineError, Past, guarded},
    folder::{self, Folder},
    format,
    group::Grouped,
    memory::Memory,
    named::{Engine, OpenError},
    redb::Redb,
    sled::Sled,
};

/// Opens the store in the folder `path`, making it if the folder is empty or missing. `cache_mib` is the engine's cache;
/// expect up to three times that in memory.
///
/// Every record is read and checked before this returns: some seconds for a million records.
pub fn open(engine: Engine, path: &Path, cache_mib: u64) -> Result<Arc<dyn Store>, OpenError> {
    match engine {
        Engine::Memory => Ok(Arc::new(Memory::default())),
        Engine::Sled => on_disk(engine, path, |dir| Sled::open(&dir.join("sled"), cache_mib)),
        Engine::Redb => on_disk(engine, path, |dir| Redb::open(&dir.join("store.redb"), cache_mib)),
    }
}

/// Opens a copy of the store in the folder `path`, because every engine writes to the folder that it opens; nothing is written
/// to `path`. The copy is made in the new folder `copy`, which the caller removes.
pub fn open_copy(engine: Engine, path: &Path, copy: &Path, cache_mib: u64) -> Result<Arc<dyn Store>, OpenError> {
    if engine != Engine::Memory {
        folder::copy(path, copy)?;
    }
    open(engine, copy, cache_mib)
}

fn on_disk<E: DiskEngine>(
    engine: Engine,
    path: &Path,
    open: impl FnOnce(&Path) -> Result<E, EngineError>,
) -> Result<Arc<dyn Store>, OpenError> {
    let folder = Folder::open(path, engine)?;
    let opened = guarded(|| open(folder.path()))?;
    let checked = match format::check(&opened, folder.past()) {
        Ok(checked) => checked,
        Err(error) => {
            // a damaged engine may panic again when it is dropped
            let _ = guarded(|| {
                drop(opened);
                Ok::<_, EngineError>(())
            });
            return Err(error);
        }
    };
    let commits = checked.totals.commits;
    if folder.past() != Past::AtLeast(commits) {
        folder.mark(commits)?;
    }
    Ok(Arc::new(Grouped::start(opened, checked, Some(folder))?))
}
