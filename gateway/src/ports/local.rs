//! What the commands on this machine need beyond serving: an input file, a log file, a free port.
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

/// Opens a file for reading from its start.
pub fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Gives a file another name, over what has that name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

/// Removes a file; one that is not there is gone already.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A path for a folder of ours that is needed for a moment, among the system's temporary files.
#[must_use]
pub fn temporary(unique: &str) -> PathBuf {
    std::env::temp_dir().join(format!("lychgate-gateway-{unique}"))
}

/// Removes a folder with everything in it; one that is not there is gone already.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The address when nobody listens there, with a free port in the place of 0.
///
/// # Errors
/// When it is taken.
pub fn free(address: SocketAddr) -> io::Result<SocketAddr> {
    std::net::TcpListener::bind(address)?.local_addr()
}

/// Sends the log of this process to a file, at the end of what it holds.
///
/// # Errors
/// When the file cannot be written, or a log is set up already.
pub fn log_to(log: &Log, path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let filter = parse_level(&log.level).map_err(|error: LogError| io::Error::other(error.to_string()))?;
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(Mutex::new(file));
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .map_err(|error| io::Error::other(error.to_string()))
}
