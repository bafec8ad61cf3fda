//! Files: written whole or not at all, private to the service, and read with a limit.
#![expect(clippy::disallowed_methods, reason = "this file is where files are read and written")]

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use thiserror::Error;
use zeroize::Zeroizing;

/// Largest file read whole, in bytes: the longest is a policy, and a policy of 1 MiB holds some ten thousand rules.
pub const FILE_MAX: u64 = 1024 * 1024;

/// Why a file could not be read or written. Each says which, and what to do.
#[derive(Debug, Error)]
pub enum FileError {
    /// It is not there.
    #[error("`{path}` does not exist")]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// It is there already, and replacing it would destroy something.
    #[error("`{path}` exists already; move it away first")]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// Everybody on the machine may read it.
    #[error("`{path}` can be read by every user of this machine (mode {mode:03o}); run `chmod 600 {path}`")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is longer than anything we write.
    #[error("`{path}` is larger than {max} bytes; it cannot be what it should be")]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The limit.
        max: u64,
    },
    /// It is not text.
    #[error("`{path}` is not UTF-8 text")]
    NotText {
        /// Which.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {doing} `{path}`: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FileError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            _ => Self::Io { doing, path, source },
        }
    }
}

/// Who may read a file that we write.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// The service alone: mode 0600.
    Private,
    /// Everybody: mode 0644.
    Public,
}

impl FileAccess {
    const fn mode(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
        }
    }
}

/// What to do when the file is there already.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Put the new one in its place.
    Replace,
    /// Refuse.
    Keep,
}

/// Writes a file so that after a power cut it holds either the old bytes or the new ones, never a part: a temporary
/// neighbour is written, synced and renamed, and then the folder is synced.
pub fn write_atomic(path: &Path, bytes: &[u8], access: FileAccess, existing: Existing) -> Result<(), FileError> {
    let folder = folder_of(path);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = folder.join(name);
    // Left over from a crash between create and rename; nobody else writes in our folder.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(FileError::io("replace", &new, error)),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(access.mode())
        .open(&new)
        .map_err(|error| FileError::io("create", &new, error))?;
    file.write_all(bytes).map_err(|error| FileError::io("write", &new, error))?;
    file.sync_all().map_err(|error| FileError::io("sync", &new, error))?;
    match existing {
        Existing::Replace => std::fs::rename(&new, path).map_err(|error| FileError::io("replace", path, error))?,
        Existing::Keep => {
            // A hard link fails when the name is taken; a rename would win silently.
            let linked = std::fs::hard_link(&new, path).map_err(|error| FileError::io("create", path, error));
            std::fs::remove_file(&new).map_err(|error| FileError::io("remove", &new, error))?;
            linked?;
        }
    }
    sync_folder(folder)
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| FileError::io("sync", folder, error))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// Makes a folder, and those above it, that only the service may enter (mode 0700). One that is there is left as it is.
pub fn make_private_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| FileError::io("create", path, error))
}

/// Makes a folder, and those above it, that everybody may read (mode 0755). One that is there is left as it is.
pub fn make_public_dir(path: &Path) -> Result<(), FileError> {
    if exists(path) {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    // Whatever the caller's umask is.
    made.and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)))
        .map_err(|error| FileError::io("create", path, error))
}

/// Whether there is something at `path`.
#[must_use]
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Removes a file. One that is not there is removed already.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::io("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Opens a file to be read in pieces, when it may be larger than [`FILE_MAX`].
pub fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|error| FileError::io("open", path, error))
}

/// Opens a file to be written at its end, for the service alone to read.
pub fn append(path: &Path) -> Result<File, FileError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FileAccess::Private.mode())
        .open(path)
        .map_err(|error| FileError::io("open", path, error))
}

/// Reads a file that anybody may see.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(|error| FileError::io("open", path, error))?;
    let mut bytes = Vec::new();
    read_limited(file, path, &mut bytes)?;
    Ok(bytes)
}

/// Reads a text that anybody may see.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    String::from_utf8(read(path)?).map_err(|_| FileError::NotText { path: path.to_owned() })
}

/// Reads a secret: refuses a file that every user of the machine could have read, and wipes the bytes when done.
///
/// Only the bits for others are refused: a service manager or an orchestrator may hand a secret over by group.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = File::open(path).map_err(|error| FileError::io("open", path, error))?;
    // Of the open file, not of the name, so that nobody can swap the two.
    let mode = file.metadata().map_err(|error| FileError::io("inspect", path, error))?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    read_limited(file, path, &mut bytes)?;
    Ok(bytes)
}

fn read_limited(file: File, path: &Path, into: &mut Vec<u8>) -> Result<(), FileError> {
    file.take(FILE_MAX + 1).read_to_end(into).map_err(|error| FileError::io("read", path, error))?;
    if into.len() as u64 > FILE_MAX {
        return Err(FileError::TooLarge { path: path.to_owned(), max: FILE_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/key");
        make_private_dir(path.parent().unwrap()).unwrap();
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        write_atomic(&path, b"one", FileAccess::Private, Existing::Keep).unwrap();
        write_atomic(&path, b"two", FileAccess::Private, Existing::Replace).unwrap();
        assert_eq!((mode(&path), read_secret(&path).unwrap().as_slice()), (0o600, &b"two"[..]));
        assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn keep_refuses_and_leaves_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_atomic(&path, b"one", FileAccess::Public, Existing::Keep).unwrap();
        let error = write_atomic(&path, b"two", FileAccess::Public, Existing::Keep).unwrap_err();
        assert!(matches!(error, FileError::Exists { .. }), "{error}");
        assert_eq!((mode(&path), read_text(&path).unwrap().as_str()), (0o644, "one"));
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_left_behind_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(dir.path().join("key.new"), b"half").unwrap();
        write_atomic(&path, b"whole", FileAccess::Private, Existing::Keep).unwrap();
        assert_eq!(read(&path).unwrap(), b"whole");
    }

    #[test]
    fn removing_and_appending() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for line in [b"one", b"two"] {
            append(&path).unwrap().write_all(line).unwrap();
        }
        let mut text = String::new();
        open(&path).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), mode(&path)), ("onetwo", 0o600));
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!exists(&path));
    }

    #[test]
    fn errors_name_the_file_and_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let shown = path.display();
        assert_eq!(read(&path).unwrap_err().to_string(), format!("`{shown}` does not exist"));
        write_atomic(&path, b"secret", FileAccess::Public, Existing::Keep).unwrap();
        assert_eq!(
            read_secret(&path).unwrap_err().to_string(),
            format!("`{shown}` can be read by every user of this machine (mode 644); run `chmod 600 {shown}`")
        );
        std::fs::write(&path, vec![b'x'; usize::try_from(FILE_MAX).unwrap() + 1]).unwrap();
        assert!(matches!(read(&path).unwrap_err(), FileError::TooLarge { .. }));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(matches!(read_text(&path).unwrap_err(), FileError::NotText { .. }));
    }
}
