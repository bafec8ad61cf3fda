//! Files: written atomically, private to the service, and read with a size limit.
#![expect(clippy::disallowed_methods, reason = "this file is where files are read and written")]

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use thiserror::Error;
use zeroize::Zeroizing;

/// Largest file that is read at once, in bytes: the largest is a policy, and a policy of 1 MiB has some ten thousand rules.
pub const FILE_MAX: u64 = 1024 * 1024;

/// Why a file could not be read or written. Each text names the file.
#[derive(Debug, Error)]
pub enum FileError {
    /// The file does not exist.
    #[error("`{path}` does not exist")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file exists, and [`Existing::Keep`] was given.
    #[error("`{path}` exists already; move it away first")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A secret has a mode that lets all users read it.
    #[error("`{path}` can be read by every user of this machine (mode {mode:03o}); run `chmod 600 {path}`")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file exceeds [`FILE_MAX`].
    #[error("`{path}` is larger than {max} bytes; it cannot be what it should be")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        max: u64,
    },
    /// The file should be text.
    #[error("`{path}` is not UTF-8 text")]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// Another error of the operating system.
    #[error("cannot {doing} `{path}`: {source}")]
    Io {
        /// The operation, a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
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

/// Who may read a file that is written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// Only the service: mode 0600.
    Private,
    /// All users: mode 0644.
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

/// What to do if the file exists.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Replace it atomically.
    Replace,
    /// Fail with [`FileError::Exists`].
    Keep,
}

/// Writes a file so that after a power cut it has either the old bytes or all of the new ones: a temporary file in the same folder is
/// written, synced and renamed, and then the folder is synced.
pub fn write_atomic(path: &Path, bytes: &[u8], access: FileAccess, existing: Existing) -> Result<(), FileError> {
    let folder = folder_of(path);
    let (new, file) = new_beside(path, bytes, access.mode())?;
    file.sync_all().map_err(|error| FileError::io("sync", &new, error))?;
    match existing {
        Existing::Replace => std::fs::rename(&new, path).map_err(|error| FileError::io("replace", path, error))?,
        Existing::Keep => {
            // a hard link fails if the name exists; a rename would replace the file silently
            let linked = std::fs::hard_link(&new, path).map_err(|error| FileError::io("create", path, error));
            std::fs::remove_file(&new).map_err(|error| FileError::io("remove", &new, error))?;
            linked?;
        }
    }
    sync_folder(folder)
}

/// Writes a file in the same way, with mode and owner of the file that it replaces, or, if there is none, of `like`. The file behind a
/// symbolic link is replaced, and the link stays.
pub fn rewrite(path: &Path, bytes: &[u8], like: &Path) -> Result<(), FileError> {
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let like = if exists(path) { path } else { like };
    let wanted = std::fs::metadata(like).map_err(|error| FileError::io("inspect", like, error))?;
    let (new, file) = new_beside(path, bytes, FileAccess::Private.mode())?;
    let done = as_owned(&file, &wanted)
        .map_err(|error| FileError::io("set mode and owner of", &new, error))
        .and_then(|()| file.sync_all().map_err(|error| FileError::io("sync", &new, error)))
        .and_then(|()| std::fs::rename(&new, path).map_err(|error| FileError::io("replace", path, error)));
    if done.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    done.and_then(|()| sync_folder(folder_of(path)))
}

/// Gives a file the owner and the mode that another has.
fn as_owned(file: &File, wanted: &std::fs::Metadata) -> io::Result<()> {
    let is = file.metadata()?;
    if (is.uid(), is.gid()) != (wanted.uid(), wanted.gid()) {
        std::os::unix::fs::fchown(file, Some(wanted.uid()), Some(wanted.gid()))?;
    }
    file.set_permissions(std::fs::Permissions::from_mode(wanted.mode() & 0o777))
}

/// A new file with these bytes in the folder of `path`.
fn new_beside(path: &Path, bytes: &[u8], mode: u32) -> Result<(PathBuf, File), FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = folder_of(path).join(name);
    // left over from a crash between create and rename; no other process writes in this folder
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(FileError::io("replace", &new, error)),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .map_err(|error| FileError::io("create", &new, error))?;
    file.write_all(bytes).map_err(|error| FileError::io("write", &new, error))?;
    Ok((new, file))
}

/// Makes the folder's entries (new and renamed files) durable.
fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| FileError::io("sync", folder, error))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// Creates a folder and its missing parents with mode 0700. An existing folder keeps its mode.
pub fn make_private_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| FileError::io("create", path, error))
}

/// Creates a folder and its missing parents with mode 0755. An existing folder keeps its mode.
pub fn make_public_dir(path: &Path) -> Result<(), FileError> {
    if exists(path) {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    // regardless of the umask
    made.and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)))
        .map_err(|error| FileError::io("create", path, error))
}

/// Whether there is a file or folder at `path`. False also if that cannot be determined.
#[must_use]
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Removes a file. No error if it does not exist.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::io("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Opens a file that may be larger than [`FILE_MAX`].
pub fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|error| FileError::io("open", path, error))
}

/// Opens a file for appending; creates it with mode 0600.
pub fn append(path: &Path) -> Result<File, FileError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FileAccess::Private.mode())
        .open(path)
        .map_err(|error| FileError::io("open", path, error))
}

/// Reads a file that is not secret.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(|error| FileError::io("open", path, error))?;
    let mut bytes = Vec::new();
    read_limited(file, path, &mut bytes)?;
    Ok(bytes)
}

/// Reads a UTF-8 text that is not secret.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    String::from_utf8(read(path)?).map_err(|_| FileError::NotText { path: path.to_owned() })
}

/// Reads a secret. Refuses a file that every user of the machine can read; the bytes are wiped on drop.
///
/// Only the mode bits for others are checked: service managers and orchestrators may pass a secret by its group.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = File::open(path).map_err(|error| FileError::io("open", path, error))?;
    // the mode of the open file, not of the path, which could be another file by now
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
    fn a_file_is_rewritten_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (path, like, link) = (dir.path().join("list"), dir.path().join("like"), dir.path().join("link"));
        write_atomic(&like, b"", FileAccess::Public, Existing::Keep).unwrap();
        rewrite(&path, b"one", &like).unwrap();
        assert_eq!((mode(&path), read(&path).unwrap().as_slice()), (0o644, &b"one"[..]), "new: as the other");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        rewrite(&link, b"two", &like).unwrap();
        assert_eq!((mode(&path), read(&path).unwrap().as_slice()), (0o640, &b"two"[..]), "there: as it was");
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(dir.path().read_dir().unwrap().count(), 3, "no temporary file is left");
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
