//! The redb engine: one file, one table, a copy-on-write tree whose every commit is synced.
//!
//! Pages have checksums, but by default redb verifies them only after a crash, and may panic on a damaged page; so the
//! integrity check is requested at every opening. After a crash redb rebuilds its free list by walking the file, which takes
//! seconds in a store of some hundred thousand records; the quick repair that would avoid this slows down every commit.
#![expect(clippy::disallowed_methods, reason = "the store owns its folder")]

use std::{io::ErrorKind, path::Path};

use redb::{Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition};

use super::{
    engine::{DiskEngine, EngineError, RawRows, View, Writes},
    folder::sync_folder,
    scan::{Direction, Span},
};

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("lychgate");

/// An open redb database.
pub(super) struct Redb {
    db: Database,
}

impl Redb {
    /// Opens or creates the database file.
    ///
    /// If redb is killed before the first commit to a new file, it cannot open that file later, and reports it as a file of
    /// another kind. So a new file is created under another name and renamed when it is complete.
    pub(super) fn open(file: &Path, cache_mib: u64) -> Result<Self, EngineError> {
        if !file.exists() {
            let unfinished = file.with_extension("new");
            match std::fs::remove_file(&unfinished) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(EngineError::io("removing redb's unfinished file", &error));
                }
                Ok(()) | Err(_) => {}
            }
            drop(Self::open_or_create(&unfinished, cache_mib)?);
            std::fs::rename(&unfinished, file).map_err(|error| EngineError::io("naming redb's file", &error))?;
        }
        Self::open_or_create(file, cache_mib)
    }

    fn open_or_create(file: &Path, cache_mib: u64) -> Result<Self, EngineError> {
        let cache = usize::try_from(cache_mib.saturating_mul(1024 * 1024)).unwrap_or(usize::MAX);
        let db = Builder::new().set_cache_size(cache).set_check_integrity_on_open(true).create(file).map_err(fault)?;
        let redb = Self { db };
        redb.apply(&Writes::new())?; // makes the table, so that views find it
        if let Some(folder) = file.parent() {
            sync_folder(folder).map_err(|error| EngineError::io("syncing the store's folder", &error))?;
        }
        Ok(redb)
    }
}

impl DiskEngine for Redb {
    type View = RedbView;

    fn view(&self) -> Result<RedbView, EngineError> {
        let table = self.db.begin_read().map_err(fault)?.open_table(TABLE).map_err(fault)?;
        Ok(RedbView { table })
    }

    /// Durable already when it returns.
    fn apply(&self, writes: &Writes) -> Result<(), EngineError> {
        let mut transaction = self.db.begin_write().map_err(fault)?;
        transaction.set_durability(Durability::Immediate).map_err(fault)?;
        {
            let mut table = transaction.open_table(TABLE).map_err(fault)?;
            for (key, change) in writes {
                match &change.after {
                    Some(value) => drop(table.insert(key.as_slice(), value.as_slice()).map_err(fault)?),
                    None => drop(table.remove(key.as_slice()).map_err(fault)?),
                }
            }
        }
        transaction.commit().map_err(fault)
    }

    fn sync(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

/// One snapshot of the table.
pub(super) struct RedbView {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl View for RedbView {
    type Bytes = Vec<u8>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.table.get(key).map_err(fault)?.map(|value| value.value().to_vec()))
    }

    fn rows<'a>(&'a self, span: &Span, order: Direction) -> Result<RawRows<'a, Vec<u8>>, EngineError> {
        let rows = self.table.range::<&[u8]>(span.bounds()).map_err(fault)?;
        let rows = rows.map(|row| {
            let (key, value) = row.map_err(fault)?;
            Ok((key.value().to_vec(), value.value().to_vec()))
        });
        Ok(match order {
            Direction::Ascending => Box::new(rows),
            Direction::Descending => Box::new(rows.rev()),
        })
    }

    fn assemble(&self, raw: Vec<u8>) -> Result<Vec<u8>, EngineError> {
        Ok(raw)
    }
}

fn fault(error: impl Into<redb::Error>) -> EngineError {
    match error.into() {
        redb::Error::Io(error) => EngineError::io("redb", &error),
        damaged @ (redb::Error::Corrupted(_) | redb::Error::RepairAborted) => EngineError::Damaged(damaged.to_string()),
        other => EngineError::Io(other.to_string()),
    }
}
