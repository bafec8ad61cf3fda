//! Owner and mode of the gateway's folder, and whether its files can be trusted.
#![expect(clippy::disallowed_methods, reason = "this file is where owners and modes of folders are looked at")]

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Mode bits that let group and others write.
const OTHERS_WRITE: u32 = 0o022;

/// The mode bit with which only the owner of a file can remove it from a folder, as in `/tmp`.
const STICKY: u32 = 0o1000;

/// Why a file or folder is not trusted. Each text names it and the remedy.
#[derive(Debug, Error)]
pub enum HomeError {
    /// Other users can write it.
    #[error("`{path}` can be written by others than its owner (mode {mode:04o}); run `chmod go-w {path}`")]
    Writable {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user than root and the effective user.
    #[error(
        "`{path}` belongs to user {owner}, and this runs as user {me}; run it as its owner, or give it to root or to user {me}"
    )]
    Foreign {
        /// The file or folder.
        path: PathBuf,
        /// UID of its owner.
        owner: u32,
        /// Effective UID of this process.
        me: u32,
    },
    /// Owner and mode cannot be read.
    #[error("cannot inspect `{path}`: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Root could not change to the owner of the folder.
    #[error("cannot continue as user {owner}, who owns `{path}`: {source}; run it as that user")]
    Become {
        /// The folder.
        path: PathBuf,
        /// UID of its owner.
        owner: u32,
        /// The system's error.
        source: std::io::Error,
    },
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Metadata of a file or folder; `None` if it does not exist.
fn inspect(path: &Path) -> Result<Option<std::fs::Metadata>, HomeError> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HomeError::Io { path: path.to_owned(), source }),
    }
}

/// Checks that only root and the user of this process can write `path`. A path that does not exist passes.
pub fn check(path: &Path) -> Result<(), HomeError> {
    let Some(found) = inspect(path)? else { return Ok(()) };
    judge(path, found.uid(), found.mode() & 0o7777, me())
}

/// As [`check`], also for the folder of the file: a user who can write there can replace the file. For a configuration, which
/// names other files.
pub fn check_file(path: &Path) -> Result<(), HomeError> {
    check(path)?;
    let around = path.parent().filter(|around| !around.as_os_str().is_empty()).unwrap_or(Path::new("."));
    check(around)
}

fn judge(path: &Path, owner: u32, mode: u32, me: u32) -> Result<(), HomeError> {
    if owner != 0 && owner != me {
        return Err(HomeError::Foreign { path: path.to_owned(), owner, me });
    }
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        return Err(HomeError::Writable { path: path.to_owned(), mode });
    }
    Ok(())
}

/// If root calls it, runs `work` as the owner of the gateway's folder, so that the service can read the files that `work` writes.
/// Files elsewhere must be opened before, as root. Threads that `work` starts run as the owner, too.
///
/// # Errors
/// [`HomeError::Foreign`] if the folder belongs to another user and this is not root, [`HomeError::Become`] if root may not change
/// to its owner.
pub fn within<T: Send>(folder: &Path, work: impl FnOnce() -> T + Send) -> Result<T, HomeError> {
    let (owner, group) = match inspect(folder)? {
        Some(found) => (found.uid(), found.gid()),
        None => (me(), 0),
    };
    if owner == me() || owner == 0 {
        return Ok(work());
    }
    if me() != 0 {
        return Err(HomeError::Foreign { path: folder.to_owned(), owner, me: me() });
    }
    let done = std::thread::scope(|scope| {
        let as_owner = scope.spawn(|| become_user(owner, group).map(|()| work()));
        as_owner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    done.map_err(|source| HomeError::Become { path: folder.to_owned(), owner, source })
}

/// Changes the user of the calling thread, irrevocably.
#[cfg(target_os = "linux")]
fn become_user(owner: u32, group: u32) -> std::io::Result<()> {
    use rustix::thread::{Gid, Uid, set_thread_gid, set_thread_groups, set_thread_uid};
    set_thread_groups(&[])?;
    set_thread_gid(Gid::from_raw(group))?;
    set_thread_uid(Uid::from_raw(owner))?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn become_user(_owner: u32, _group: u32) -> std::io::Result<()> {
    Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_could_have_written_is_not_believed() {
        for (owner, mode, me, want) in [
            (1000, 0o700, 1000, None),
            (1000, 0o755, 1000, None),
            (0, 0o755, 1000, None),
            (0, 0o1777, 1000, None),
            (1000, 0o770, 1000, Some("chmod go-w")),
            (1000, 0o702, 1000, Some("mode 0702")),
            (1000, 0o777, 1000, Some("chmod go-w")),
            (1001, 0o700, 1000, Some("belongs to user 1001, and this runs as user 1000")),
            (1001, 0o1777, 1000, Some("belongs to user 1001")),
            (1000, 0o700, 0, Some("belongs to user 1000, and this runs as user 0")),
        ] {
            let got = judge(Path::new("/d"), owner, mode, me).map_err(|error| error.to_string());
            match want {
                None => assert_eq!(got, Ok(()), "{owner} {mode:o} {me}"),
                Some(want) => assert!(got.as_ref().is_err_and(|got| got.contains(want)), "{owner} {mode:o}: {got:?}"),
            }
        }
    }

    #[test]
    fn root_works_as_the_owner_of_the_folder() {
        if me() != 0 {
            return;
        }
        let room = tempfile::tempdir().unwrap();
        let folder = room.path().join("gw");
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::chown(&folder, Some(65534), Some(65534)).unwrap();
        std::os::unix::fs::chown(room.path(), Some(65534), Some(65534)).unwrap();
        let inside = folder.clone();
        within(&folder, move || std::fs::write(inside.join("new"), "x").unwrap()).unwrap();
        let found = std::fs::metadata(folder.join("new")).unwrap();
        assert_eq!((found.uid(), found.gid()), (65534, 65534));
        assert_eq!(me(), 0, "and is root again after it");
        assert!(matches!(check(&folder), Err(HomeError::Foreign { .. })));
    }
}
