//! Systems without Unix modes and symbolic links for everybody: plain files, replaced in a safe order. The folder lies in
//! the user's profile, whose access list keeps others out.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Access;
use crate::core::ending::Ending;

/// The files at the top of the folder are copies of those of the current generation.
pub const TOP_LEVEL_IS_LINKS: bool = false;

/// Creates a file that must not exist yet.
pub fn create(path: &Path, _: Access) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Opens a file that may be there, to be locked or written.
pub fn open_own(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

/// Access control lists are not checked.
pub fn distrust(_: &Path, _: Option<u32>) -> io::Result<Option<String>> {
    Ok(None)
}

/// Never: there are no owners of folders here.
pub fn guest_of(_: &Path) -> Option<u32> {
    None
}

/// Does nothing: there are no other users here.
pub fn as_owner(_: &mut std::process::Command, _: &Path) -> io::Result<()> {
    Ok(())
}

/// Creates a folder and its parents.
pub fn make_shared_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Creates a folder and its parents.
pub fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Access control lists are not checked.
pub fn exposure(path: &Path) -> io::Result<Option<String>> {
    fs::metadata(path).map(|_| None)
}

/// How to fix what [`exposure`] found.
pub fn exposure_hint(path: &Path) -> String {
    format!("let nobody but yourself read {}", path.display())
}

/// A small file with the target's name in it.
pub fn link(target: &Path, at: &Path) -> io::Result<()> {
    use std::io::Write as _;
    let text = target.to_str().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(at)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Where `at` points.
pub fn follow(at: &Path) -> io::Result<PathBuf> {
    Ok(PathBuf::from(fs::read_to_string(at)?.trim()))
}

/// The file system keeps its folders durable by itself.
pub fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// The folder used when none is named.
#[must_use]
pub fn default_folder() -> Option<PathBuf> {
    ["LOCALAPPDATA", "APPDATA", "HOME"]
        .iter()
        .find_map(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
        .map(|base| PathBuf::from(base).join("lychgate"))
}

/// How wide the terminal is: not known here.
#[must_use]
pub const fn terminal_width() -> Option<usize> {
    None
}

/// The home folder of the user.
#[must_use]
pub fn home() -> Option<PathBuf> {
    ["USERPROFILE", "HOME"]
        .iter()
        .find_map(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
        .map(PathBuf::from)
}

/// The user's name, from the environment.
#[must_use]
pub fn user_name() -> Option<String> {
    std::env::var("USERNAME").ok()
}

/// Replaces a file of the user.
pub fn replace_own(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    fs::write(path, text)
}

/// Replaces or creates a file. Its folder must exist.
pub fn replace(path: &Path, text: &str, _: Access) -> io::Result<()> {
    fs::write(path, text)
}

/// Attributes of the system, shown to approvers as claimed, never as verified.
#[must_use]
pub fn about_host() -> BTreeMap<&'static str, String> {
    std::env::var("COMPUTERNAME").ok().map(|name| ("hostname", name)).into_iter().collect()
}

/// Whether a hook may be run.
pub fn may_run(path: &Path) -> Result<(), &'static str> {
    if path.is_file() { Ok(()) } else { Err("it is not a file") }
}

/// A command run by the shell.
#[must_use]
pub fn shell(command: &str) -> tokio::process::Command {
    let mut shell = tokio::process::Command::new("cmd");
    shell.arg("/C").arg(command);
    shell
}

/// There are no process groups.
pub fn own_group(_: &mut tokio::process::Command) {}

/// There are no process groups.
pub fn end_group(_: u32) {}

/// Ctrl-C.
pub struct StopSignal;

impl StopSignal {
    /// Installs the handler.
    pub fn new() -> io::Result<Self> {
        Ok(Self)
    }

    /// Waits for Ctrl-C; returns its name.
    pub async fn wait(&mut self) -> &'static str {
        // If the handler cannot be installed, the process runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}

/// There is no service manager to tell.
pub fn notify_ready() {}

/// There is no service manager to tell.
pub fn notify_status(_: &str) {}

/// There is no service manager to tell.
pub fn notify_stopping() {}

/// There is no service manager to tell.
pub fn notify_alive() {}

/// There is no watchdog.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    None
}

/// A connection between programs of one user on this machine: there are none here.
pub type LocalStream = tokio::io::DuplexStream;

/// See [`listen_private`].
pub struct LocalListener;

impl LocalListener {
    /// Never returns: there are no such sockets here.
    pub async fn accept(&self) -> io::Result<LocalStream> {
        std::future::pending().await
    }
}

/// There are no such sockets here.
pub fn listen_private(_path: &Path) -> io::Result<Option<LocalListener>> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// There are no such sockets here.
pub async fn connect_local(_path: &Path) -> io::Result<LocalStream> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// There are no such sockets here.
pub async fn join_stdio(_stream: LocalStream) -> io::Result<Ending> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// There are no such sockets here.
pub fn remove_socket(_path: &Path) {}

/// Descriptors cannot be passed here.
pub fn pass_stdout(_stream: LocalStream) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// Starts a program that survives this process.
pub fn start_apart(mut command: std::process::Command) -> io::Result<std::process::Child> {
    use std::process::Stdio;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
}

/// Replacing the process is not supported here.
pub fn replace_by(_command: std::process::Command) -> io::Error {
    io::Error::from(io::ErrorKind::Unsupported)
}
