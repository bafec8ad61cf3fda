//! The folder of a disk engine: one opener at a time, one engine, and a mark with the number of the newest commit.
//!
//! ```text
//! <path>/lock         locked while the store is open
//! <path>/store.json   {"engine":"sled","commits":1234}: replaced atomically when the store is opened and closed
//! <path>/reached      the newest acknowledged commit, overwritten in place after every group
//! <path>/sled/        the engine's own files (or <path>/store.redb)
//! ```
//!
//! Both numbers are lower bounds. An engine that opens empty, or below them, has lost commits, even if it reports no error:
//! sled treats damage in the middle of its log as an unfinished write, drops everything after it, and opens in an older,
//! consistent state. And if the configuration names another engine, that one would create an empty store beside the full one.
//! Either would undo revocations.
//!
//! `reached` is written after the engine's sync, so it is never ahead of what is durable and never refuses a good store. It
//! is synced only every [`SYNC_EVERY`] groups: a killed process loses nothing of it, and a power cut at most some groups of
//! the *mark*, never of the store.
#![expect(
    clippy::disallowed_methods,
    reason = "the store owns its folder, and replaces its note privately and atomically"
)]

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    batch::Version,
    engine::{EngineError, Past},
    named::{Engine, OpenError},
};

/// Groups between two syncs of the mark: its cost is then negligible beside the sync of every group.
const SYNC_EVERY: u32 = 64;

/// Bytes of one slot. The mark has two slots, written in turn and a disk sector apart, so that a torn write damages only one.
const SLOT: usize = 512;

/// A folder and its lock, which is released on drop.
pub(super) struct Folder {
    path: PathBuf,
    engine: Engine,
    /// From `store.json` and `reached` as they were when the folder was opened.
    past: Past,
    reached: File,
    writes: u32,
    _lock: File,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EngineNote {
    engine: String,
    commits: Version,
}

impl Folder {
    /// Creates the folder if needed and takes its lock.
    pub(super) fn open(path: &Path, engine: Engine) -> Result<Self, OpenError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt;
            builder.mode(0o700); // the store has secrets
        }
        builder.create(path).map_err(|error| failed("making the store's folder", path, &error))?;
        let lock = lock(&path.join("lock"), path)?;
        let past = past(&path.join("store.json"), engine)?;
        let (reached, mark) = open_mark(&path.join("reached"))?;
        let past = match (past, mark) {
            (Past::AtLeast(noted), mark) => Past::AtLeast(noted.max(mark)),
            (Past::New, 0) => Past::New,
            (Past::New, mark) => Past::AtLeast(mark),
        };
        Ok(Self { path: path.to_owned(), engine, past, reached, writes: 0, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn past(&self) -> Past {
        self.past
    }

    /// Marks that all commits up to `commits` are durable in the engine. Called after every group, so it is one small write.
    pub(super) fn reached(&mut self, commits: Version) -> Result<(), EngineError> {
        let slot = u64::from(self.writes % 2) * SLOT as u64;
        self.writes = self.writes.wrapping_add(1);
        let sync = self.writes.is_multiple_of(SYNC_EVERY);
        let mut write = || {
            self.reached.seek(SeekFrom::Start(slot))?;
            self.reached.write_all(&encode_mark(commits))?;
            if sync { self.reached.sync_data() } else { Ok(()) }
        };
        write().map_err(|error| EngineError::io("marking the last commit", &error))
    }

    /// Writes `commits` to `store.json`. Durable when it returns.
    pub(super) fn mark(&self, commits: Version) -> Result<(), EngineError> {
        let note = EngineNote { engine: self.engine.to_string(), commits };
        self.replace_note(&note).map_err(|error| EngineError::io("writing store.json", &error))
    }

    fn replace_note(&self, note: &EngineNote) -> io::Result<()> {
        let temporary = self.path.join("store.json.new");
        let mut file = private(OpenOptions::new().write(true).create(true).truncate(true)).open(&temporary)?;
        file.write_all(&serde_json::to_vec(note)?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, self.path.join("store.json"))?;
        sync_folder(&self.path)
    }
}

/// Copies a store's files into a new private folder, under the store's lock and without a write to its own folder.
pub(super) fn copy(path: &Path, to: &Path) -> Result<(), OpenError> {
    let file = path.join("lock");
    let lock = File::open(&file).map_err(|error| failed("opening the store's lock", &file, &error))?;
    match lock.try_lock() {
        Ok(()) => {
            make_private(to).map_err(|error| failed("making the folder for a copy of the store", to, &error))?;
            copy_content(path, to).map_err(|error| failed("copying the store from", path, &error))
        }
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed("locking the store", &file, &error)),
    }
}

fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(folder)
}

fn copy_content(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            make_private(&to)?;
            copy_content(&entry.path(), &to)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

/// Makes the folder's entries (new and renamed files) durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// One slot of the mark: the number and its CRC-32, big-endian.
fn encode_mark(commits: Version) -> [u8; 12] {
    let number = commits.to_be_bytes();
    let mut mark = [0; 12];
    mark[..8].copy_from_slice(&number);
    mark[8..].copy_from_slice(&crc32fast::hash(&number).to_be_bytes());
    mark
}

/// The number in one slot of the mark; `None` if the slot is torn or damaged.
fn decode_mark(slot: Option<&[u8]>) -> Option<Version> {
    let number = Version::from_be_bytes(*slot?.first_chunk()?);
    slot?.starts_with(&encode_mark(number)).then_some(number)
}

/// Opens the mark, or creates one with two zeros, and returns the larger of its two numbers.
fn open_mark(file: &Path) -> Result<(File, Version), OpenError> {
    let open = || -> io::Result<(File, Vec<u8>)> {
        let mut mark = private(OpenOptions::new().read(true).write(true).create(true).truncate(false)).open(file)?;
        let mut bytes = Vec::new();
        (&mark).take(2 * SLOT as u64).read_to_end(&mut bytes)?;
        // a power cut can leave a new file with zeros only
        if bytes.iter().all(|byte| *byte == 0) {
            mark.rewind()?;
            bytes.resize(2 * SLOT, 0);
            for slot in [0, SLOT] {
                bytes[slot..slot + 12].copy_from_slice(&encode_mark(0));
            }
            // at full size, so that later writes need no space on a full disk
            mark.write_all(&bytes)?;
            mark.sync_all()?;
        }
        Ok((mark, bytes))
    };
    let (mark, bytes) = open().map_err(|error| failed("opening", file, &error))?;
    let slots = [decode_mark(Some(&bytes)), decode_mark(bytes.get(SLOT..))];
    match slots.into_iter().flatten().max() {
        Some(commits) => Ok((mark, commits)),
        None => Err(OpenError::Damaged { reason: format!("`{}` is unreadable", file.display()) }),
    }
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> OpenError {
    OpenError::from(EngineError::io(&format!("{doing} `{}`", path.display()), error))
}

fn lock(file: &Path, path: &Path) -> Result<File, OpenError> {
    let lock = private(OpenOptions::new().write(true).create(true).truncate(false))
        .open(file)
        .map_err(|error| failed("opening the store's lock", file, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed("locking the store", file, &error)),
    }
}

fn past(note: &Path, engine: Engine) -> Result<Past, OpenError> {
    let bytes = match std::fs::read(note) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Past::New),
        Err(error) => return Err(failed("reading", note, &error)),
    };
    let unreadable = |why: String| OpenError::Damaged { reason: format!("`{}`: {why}", note.display()) };
    let note: EngineNote = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    let has: Engine = note.engine.parse().map_err(|_| unreadable(format!("unknown engine `{}`", note.engine)))?;
    if has == engine { Ok(Past::AtLeast(note.commits)) } else { Err(OpenError::OtherEngine { has, asked: engine }) }
}
