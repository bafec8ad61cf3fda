//! The write operations on a disk as a trait, so that tests can simulate a power cut between any two of them.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use crate::platform::{self, Access};

/// Every change of the folder goes through this trait; reading does not.
pub trait Disk: Send + Sync {
    /// Makes a private folder; one that exists is fine.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Writes a file that must not exist, and syncs it.
    fn write_new(&self, path: &Path, content: &[u8], access: Access) -> io::Result<()>;
    /// Makes a link that must not exist.
    fn link(&self, target: &Path, at: &Path) -> io::Result<()>;
    /// Renames in one step, replacing a file that is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or link; none there is fine.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all that is in it; none there is fine.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's file system.
pub struct OsDisk;

/// Removing a missing file succeeds.
fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Disk for OsDisk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        platform::make_folder(path)
    }

    fn write_new(&self, path: &Path, content: &[u8], access: Access) -> io::Result<()> {
        let mut file = platform::create(path, access)?;
        file.write_all(content)?;
        file.sync_all()
    }

    fn link(&self, target: &Path, at: &Path) -> io::Result<()> {
        platform::link(target, at)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        absent_is_fine(fs::remove_file(path))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        absent_is_fine(fs::remove_dir_all(path))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        platform::sync_folder(path)
    }
}
