//! The gateway's folder: whose it is, and whether what lies in it may be believed.
#![expect(clippy::disallowed_methods, reason = "this file is where owners and modes of folders are looked at")]

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Bits that let others than the owner write.
const OTHERS_WRITE: u32 = 0o022;

/// The bit by which nobody takes away what is another's, as in `/tmp`.
const STICKY: u32 = 0o1000;

/// Why a file or folder is not believed. Each says which, and the cure.
#[derive(Debug, Error)]
pub enum HomeError {
    /// Others may write it.
    #[error("`{path}` can be written by others than its owner (mode {mode:04o}); run `chmod go-w {path}`")]
    Writable {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is somebody else's.
    #[error(
        "`{path}` belongs to user {owner}, and this runs as user {me}; run it as its owner, or give it to root or to user {me}"
    )]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who runs this.
        me: u32,
    },
    /// It cannot be looked at.
    #[error("cannot inspect `{path}`: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Root could not become the owner of the folder.
    #[error("cannot continue as user {owner}, who owns `{path}`: {source}; run it as that user")]
    Become {
        /// Whose folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// What the system said.
        source: std::io::Error,
    },
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What is written down about a file or folder; nothing when it is not there.
fn inspect(path: &Path) -> Result<Option<std::fs::Metadata>, HomeError> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HomeError::Io { path: path.to_owned(), source }),
    }
}

/// Whether only root, and whoever runs this, could have written `path`. What is not there is nobody's.
///
/// # Errors
/// [`HomeError`], naming it and the cure.
pub fn believed(path: &Path) -> Result<(), HomeError> {
    let Some(found) = inspect(path)? else { return Ok(()) };
    judge(path, found.uid(), found.mode() & 0o7777, me())
}

/// The same for a file that names others, such as a configuration: the folder around it counts, too, since whoever writes
/// there puts another in its place.
///
/// # Errors
/// As [`believed`].
pub fn believed_file(path: &Path) -> Result<(), HomeError> {
    believed(path)?;
    let around = path.parent().filter(|around| !around.as_os_str().is_empty()).unwrap_or(Path::new("."));
    believed(around)
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

/// Does something in a gateway's folder as whom it belongs to, so that root leaves nothing there that the service cannot
/// read. Everything else, such as files elsewhere, is opened before. Threads that `work` starts are the owner's, too.
///
/// # Errors
/// When the folder is somebody else's and this is not root, or root may not become its owner.
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

/// Makes the calling thread another user's, for good.
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
        assert!(matches!(believed(&folder), Err(HomeError::Foreign { .. })));
    }
}
