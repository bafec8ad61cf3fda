//! The sled engine (exactly 0.34.7), wrapped so that a power cut loses nothing.
//!
//! What sled does by itself, and what is done here about it:
//!
//! - `flush()` asks the kernel to write, but neither commits the file's size nor flushes the drive's cache; the real fsync
//!   comes from a background thread whose errors are only logged. So every sync is `flush()`, then `sync_data()` on our own
//!   handle of the data file.
//! - A page above 128 kB goes to a file of its own under `blobs/`, which is never synced at all; if it is missing after a
//!   power cut, sled silently returns the previous version of the page. A page holds up to 20 rows, so values are stored in
//!   parts of at most [`PART_MAX`], and no page reaches 128 kB.
//! - A half-written `snap.*.generating`, left by a crash while opening, is read as the newest snapshot and makes the store
//!   permanently unreadable. A snapshot is complete only once it is renamed, so these files are removed before opening.
//! - Damaged messages are skipped silently: the totals in `format` detect it. Some damage panics: every call runs in `guarded`.
//! - Compression is off and the mode is the default one, as tested.
#![expect(clippy::disallowed_methods, reason = "the store owns its folder; sled's files are synced and tidied here")]

use std::{
    fs::File,
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sled::{Db, IVec, Tree};

use super::{
    engine::{DiskEngine, EngineError, RawRows, RowChange, View, Writes},
    folder::sync_folder,
    scan::{Direction, Span},
};

/// Longest value stored in one piece. Twenty of them with the longest keys are 90 kB, below the 128 kB where sled leaves its
/// log; nearly all records fit in one piece.
const PART_MAX: usize = 4096;

/// How often sled flushes and cleans up in the background. It cleans for up to half of this time at once, and commits wait
/// meanwhile: with sled's default of 500 ms, some renewals took 100 ms.
const CLEAN_EVERY_MS: u64 = 40;

/// The first byte of a row that names the parts of a value. No record begins with it.
const PARTED: u8 = 0xfe;

/// Attempts to open while sled's own lock is taken, [`LOCK_PAUSE`] apart: five seconds in all. sled's background threads
/// release the file shortly after the database is dropped.
const LOCK_TRIES: u32 = 1000;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// An open sled database and our own handle of its data file.
pub(super) struct Sled {
    db: Db,
    data: File,
    next_parted: AtomicU64,
}

impl Sled {
    /// Opens or makes the database in the folder `dir`, which the caller has locked.
    pub(super) fn open(dir: &Path, cache_mib: u64) -> Result<Self, EngineError> {
        std::fs::create_dir_all(dir).map_err(|error| EngineError::io("making sled's folder", &error))?;
        remove_unfinished_snapshots(dir).map_err(|error| EngineError::io("tidying sled's folder", &error))?;
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(cache_mib.saturating_mul(1024 * 1024))
            .flush_every_ms(Some(CLEAN_EVERY_MS))
            .mode(sled::Mode::LowSpace)
            .use_compression(false);
        let db = open_with_retries(&config)?;
        let data = sync_names(dir).map_err(|error| EngineError::io("syncing sled's files", &error))?;
        let last = db.range(b"p".as_slice()..b"q".as_slice()).next_back().transpose().map_err(fault)?;
        let next = last.and_then(|(key, _)| parted_id(&key)).map_or(0, |id| id + 1);
        Ok(Self { db, data, next_parted: AtomicU64::new(next) })
    }

    /// Adds one row to a batch: the value itself, or its parts and a row that names them. Removes the parts of the old value.
    fn add(&self, batch: &mut sled::Batch, key: &[u8], change: &RowChange) -> Result<(), EngineError> {
        if change.before > PART_MAX
            && let Some(old) = self.db.get(key).map_err(fault)?
            && let Some(old) = Parted::parse(&old)?
        {
            old.keys().for_each(|part| batch.remove(part.as_slice()));
        }
        match change.after.as_deref() {
            None => batch.remove(key),
            Some(value) if value.len() <= PART_MAX => batch.insert(key, value),
            Some(value) => {
                let id = self.next_parted.fetch_add(1, Ordering::Relaxed);
                let count = u16::try_from(value.len().div_ceil(PART_MAX))
                    .map_err(|_| EngineError::Io(format!("a record of {} bytes has too many parts", value.len())))?;
                let parted = Parted { id, count };
                for (key, part) in parted.keys().zip(value.chunks(PART_MAX)) {
                    batch.insert(key.as_slice(), part);
                }
                batch.insert(key, parted.encode());
            }
        }
        Ok(())
    }
}

/// A value in parts. The key of a part is `p`, the id and the number of the part, both big-endian.
#[derive(Copy, Clone)]
struct Parted {
    id: u64,
    count: u16,
}

impl Parted {
    fn encode(self) -> Vec<u8> {
        let mut bytes = vec![PARTED];
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&self.count.to_be_bytes());
        bytes
    }

    /// `None` for a value in one piece.
    fn parse(raw: &[u8]) -> Result<Option<Self>, EngineError> {
        let Some((&PARTED, rest)) = raw.split_first() else {
            return Ok(None);
        };
        let parsed = rest.split_first_chunk().and_then(|(id, count)| Some((id, count.try_into().ok()?)));
        let (id, count) = parsed
            .ok_or_else(|| EngineError::Damaged("a row that names the parts of a value is cut short".to_owned()))?;
        Ok(Some(Self { id: u64::from_be_bytes(*id), count: u16::from_be_bytes(count) }))
    }

    fn keys(self) -> impl Iterator<Item = Vec<u8>> {
        (0..self.count).map(move |number| {
            let mut key = vec![b'p'];
            key.extend_from_slice(&self.id.to_be_bytes());
            key.extend_from_slice(&number.to_be_bytes());
            key
        })
    }
}

fn parted_id(key: &[u8]) -> Option<u64> {
    key.get(1..)?.first_chunk().map(|id| u64::from_be_bytes(*id))
}

impl DiskEngine for Sled {
    type View = SledView;

    fn view(&self) -> Result<SledView, EngineError> {
        Ok(SledView { tree: Tree::clone(&self.db) })
    }

    fn apply(&self, writes: &Writes) -> Result<(), EngineError> {
        let mut batch = sled::Batch::default();
        for (key, change) in writes {
            self.add(&mut batch, key, change)?;
        }
        self.db.apply_batch(batch).map_err(fault)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.db.flush().map_err(fault)?;
        self.data.sync_data().map_err(|error| EngineError::io("syncing sled's log", &error))
    }
}

/// A view is one reference count, not a snapshot.
pub(super) struct SledView {
    tree: Tree,
}

impl View for SledView {
    type Bytes = IVec;

    fn get(&self, key: &[u8]) -> Result<Option<IVec>, EngineError> {
        self.tree.get(key).map_err(fault)?.map(|raw| self.assemble(raw)).transpose()
    }

    fn rows<'a>(&'a self, span: &Span, order: Direction) -> Result<RawRows<'a, IVec>, EngineError> {
        let rows = self.tree.range::<&[u8], _>(span.bounds());
        Ok(match order {
            Direction::Ascending => Box::new(rows.map(|row| row.map_err(fault))),
            Direction::Descending => Box::new(rows.rev().map(|row| row.map_err(fault))),
        })
    }

    fn assemble(&self, raw: IVec) -> Result<IVec, EngineError> {
        let Some(parted) = Parted::parse(&raw)? else {
            return Ok(raw);
        };
        let mut value = Vec::with_capacity(usize::from(parted.count) * PART_MAX);
        for key in parted.keys() {
            let part = self.tree.get(&key).map_err(fault)?;
            let part =
                part.ok_or_else(|| EngineError::Damaged(format!("part {} of a value is missing", hex::encode(&key))))?;
            value.extend_from_slice(&part);
        }
        Ok(value.into())
    }
}

fn fault(error: sled::Error) -> EngineError {
    match error {
        sled::Error::Io(error) => EngineError::io("sled", &error),
        damaged @ sled::Error::Corruption { .. } => EngineError::Damaged(damaged.to_string()),
        other @ (sled::Error::CollectionNotFound(_) | sled::Error::Unsupported(_) | sled::Error::ReportableBug(_)) => {
            EngineError::Io(other.to_string())
        }
    }
}

/// The folder's lock excludes other processes; sled's own lock may still be held by threads of this process that are ending.
fn open_with_retries(config: &sled::Config) -> Result<Db, EngineError> {
    for _ in 1..LOCK_TRIES {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().starts_with("could not acquire lock") => {
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return opened.map_err(fault),
        }
    }
    config.open().map_err(fault)
}

fn remove_unfinished_snapshots(dir: &Path) -> io::Result<()> {
    for file in std::fs::read_dir(dir)? {
        let file = file?;
        let name = file.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

/// Syncs the folder entries of sled's files and its `conf`, and returns our handle of the data file.
fn sync_names(dir: &Path) -> io::Result<File> {
    File::open(dir.join("conf"))?.sync_all()?;
    let data = File::options().read(true).write(true).open(dir.join("db"))?;
    data.sync_all()?;
    sync_folder(dir)?;
    if let Some(parent) = dir.parent() {
        sync_folder(parent)?;
    }
    Ok(data)
}
