//! Files, folders and ports for the offline commands and `dev`.
#![expect(clippy::disallowed_methods, reason = "this is the edge of the offline commands and of `dev`")]

use std::{
    fs::{File, OpenOptions},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Mutex,
};

use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::ports::log::{Log, LogError, parse_level};

/// Opens a file for reading.
pub fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// The files in a folder, not in those below it, by name; `None` if `path` is no folder.
///
/// # Errors
/// There is nothing at `path`, or it cannot be read.
pub fn files_in(path: &Path) -> io::Result<Option<Vec<PathBuf>>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(None);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        if std::fs::metadata(&file)?.is_file() {
            found.push(file);
        }
    }
    found.sort();
    Ok(Some(found))
}

/// Renames a file; replaces an existing file of the new name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

/// Removes a file. No error if it does not exist.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A path for a temporary folder in the system's temporary folder. Does not create it.
#[must_use]
pub fn temporary(unique: &str) -> PathBuf {
    std::env::temp_dir().join(format!("lychgate-gateway-{unique}"))
}

/// Removes a folder and its contents. No error if it does not exist.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Checks that the address is free. Port 0 is replaced by a free port.
///
/// # Errors
/// The error of `bind`, `AddrInUse` if another process listens there.
pub fn free(address: SocketAddr) -> io::Result<SocketAddr> {
    std::net::TcpListener::bind(address)?.local_addr()
}

/// Appends the log of this process to a file.
///
/// # Errors
/// The file cannot be written, or the process has a log already.
pub fn log_to(log: &Log, path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let filter = parse_level(&log.level).map_err(|error: LogError| io::Error::other(error.to_string()))?;
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(Mutex::new(file));
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .map_err(|error| io::Error::other(error.to_string()))
}
