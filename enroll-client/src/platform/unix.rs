//! Unix: modes, symbolic links, signals, process groups, systemd.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Access;
use crate::core::ending::Ending;

/// The files at the top of the folder are symbolic links into the current generation.
pub const TOP_LEVEL_IS_LINKS: bool = true;

/// Any permission for the group or for others.
const FOR_OTHERS: u32 = 0o077;

/// Creates a file that must not exist yet. The mode is set at creation, so that others can never read it.
pub fn create(path: &Path, access: Access) -> io::Result<File> {
    let mode = match access {
        Access::Secret => 0o600,
        Access::Public => 0o644,
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    give_to_owner(path, &file)?;
    Ok(file)
}

/// Opens or creates a file, to be locked or written. Symbolic links are not followed: the folder's owner must not redirect root to a
/// file of root's.
pub fn open_own(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits();
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(i32::try_from(flags).unwrap_or(0))
        .open(path)?;
    give_to_owner(path, &file)?;
    Ok(file)
}

/// Gives a file that root has made in another user's folder to that user: otherwise after `sudo lychgate renew` the service could not
/// read its own key. By file descriptor, so that the file cannot be exchanged meanwhile.
fn give_to_owner(path: &Path, made: &File) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owner = fs::metadata(parent)?;
    if owner.uid() != 0 && made.metadata()?.uid() == 0 {
        std::os::unix::fs::fchown(made, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Makes a program that creates files in `folder` run as the folder's owner, when root works in another user's folder. Changing the
/// owner of the files afterwards is not safe: their names may then be links to other files of root's.
pub fn as_owner(command: &mut std::process::Command, folder: &Path) -> io::Result<()> {
    use std::os::unix::process::CommandExt as _;
    if guest_of(folder).is_some() {
        let owner = fs::metadata(folder)?;
        // Setting the user also drops root's supplementary groups.
        command.gid(owner.gid()).uid(owner.uid());
    }
    Ok(())
}

/// Why a file or folder is not trusted, if so: it belongs to another user, or others may write to it. `followed` is the owner of the
/// folder, whose files root accepts.
pub fn distrust(path: &Path, followed: Option<u32>) -> io::Result<Option<String>> {
    let me = rustix::process::geteuid();
    let mine = |uid: u32| uid == 0 || uid == me.as_raw() || followed == Some(uid);
    // The link itself, then its target.
    for about in [fs::symlink_metadata(path)?, fs::metadata(path)?] {
        if !mine(about.uid()) {
            return Ok(Some(format!("it belongs to another user (uid {})", about.uid())));
        }
        if !about.is_symlink() && about.mode() & 0o022 != 0 {
            return Ok(Some(format!("others may write to it (mode {:04o})", about.mode() & 0o7777)));
        }
    }
    Ok(None)
}

/// The user id of the folder's owner, if we are root and the folder is another user's.
pub fn guest_of(folder: &Path) -> Option<u32> {
    let owner = fs::metadata(folder).ok()?.uid();
    (rustix::process::geteuid().is_root() && owner != 0).then_some(owner)
}

/// Creates a folder with mode 0700; missing parents have the default mode.
pub fn make_folder(path: &Path) -> io::Result<()> {
    make_parents(path)?;
    make_one_folder(path, 0o700)
}

/// Creates a folder and missing parents with the default mode.
pub fn make_shared_folder(path: &Path) -> io::Result<()> {
    make_parents(path)?;
    make_one_folder(path, 0o755)
}

/// Creates missing parents, from the top.
fn make_parents(path: &Path) -> io::Result<()> {
    let mut missing: Vec<&Path> =
        path.ancestors().skip(1).take_while(|above| !above.as_os_str().is_empty() && !above.is_dir()).collect();
    missing.reverse();
    missing.into_iter().try_for_each(|above| make_one_folder(above, 0o755))
}

fn make_one_folder(path: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::DIRECTORY;
            let flags = i32::try_from(flags.bits()).unwrap_or(0);
            give_to_owner(path, &OpenOptions::new().read(true).custom_flags(flags).open(path)?)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// The mode of a secret file, if it gives any permission to group or others.
pub fn exposure(path: &Path) -> io::Result<Option<String>> {
    let mode = fs::metadata(path)?.mode() & 0o7777;
    Ok((mode & FOR_OTHERS != 0).then(|| format!("mode {mode:04o}")))
}

/// How to fix the mode that [`exposure`] found.
pub fn exposure_hint(path: &Path) -> String {
    format!("chmod 600 {}", path.display())
}

/// Makes `at` point to `target`, which is relative to the folder of `at`. `at` must not exist.
pub fn link(target: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, at)
}

/// Where `at` points.
pub fn follow(at: &Path) -> io::Result<PathBuf> {
    fs::read_link(at)
}

/// Makes the entries of a folder durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The folder used when none is named.
#[must_use]
pub fn default_folder() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/lychgate"));
    }
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(".lychgate"))
}

/// Width of the terminal at standard output, in characters.
#[must_use]
pub fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    // Serial consoles report 0.
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// The home folder of the user.
#[must_use]
pub fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// The user's name, from the environment.
#[must_use]
pub fn user_name() -> Option<String> {
    ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// Atomically replaces a file of the user, keeping its mode. A new file and its folder are accessible to the user only.
pub fn replace_own(path: &Path, text: &str) -> io::Result<()> {
    make_folder(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
    replace(path, text, Access::Secret)
}

/// Atomically replaces or creates a file; an existing one keeps its mode. Its folder must exist.
pub fn replace(path: &Path, text: &str, access: Access) -> io::Result<()> {
    use std::io::Write as _;
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".lychgate-new");
    let draft = folder.join(name);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = create(&draft, access)?;
    if let Ok(about) = fs::metadata(path) {
        file.set_permissions(about.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

/// Attributes of the system, shown to approvers as claimed, never as verified.
#[must_use]
pub fn about_host() -> BTreeMap<&'static str, String> {
    let name = rustix::system::uname();
    BTreeMap::from([
        ("hostname", name.nodename().to_string_lossy().into_owned()),
        ("kernel", format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy())),
    ])
}

/// Whether a hook may be run: an executable file that only root and our user can change.
pub fn may_run(path: &Path) -> Result<(), &'static str> {
    let me = rustix::process::geteuid().as_raw();
    // The owner of a link decides what is run, so the link is checked before its target.
    let link = fs::symlink_metadata(path).map_err(|_| "it cannot be looked at")?;
    if link.uid() != 0 && link.uid() != me {
        return Err("it belongs to another user");
    }
    let about = fs::metadata(path).map_err(|_| "it cannot be looked at")?;
    if !about.is_file() {
        return Err("it is not a file");
    }
    if about.mode() & 0o111 == 0 {
        return Err("it is not executable");
    }
    if about.uid() != 0 && about.uid() != me {
        return Err("it belongs to another user");
    }
    if about.mode() & 0o022 != 0 {
        return Err("others may write to it");
    }
    Ok(())
}

/// A command run by the shell.
#[must_use]
pub fn shell(command: &str) -> tokio::process::Command {
    let mut shell = tokio::process::Command::new("/bin/sh");
    shell.arg("-c").arg(command);
    shell
}

/// Starts the program in a new process group, so that its child processes can be killed with it.
pub fn own_group(command: &mut tokio::process::Command) {
    command.process_group(0);
}

/// Kills a process group started with [`own_group`].
pub fn end_group(leader: u32) {
    if let Some(pid) = i32::try_from(leader).ok().and_then(rustix::process::Pid::from_raw) {
        // An error means that it has ended already.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

/// SIGINT and SIGTERM.
pub struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignal {
    /// Installs the signal handlers.
    pub fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for a signal; returns its name.
    pub async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Reports readiness to the service manager, if there is one (sd_notify `READY=1`).
pub fn notify_ready() {
    // Does nothing without a service manager; errors are ignored.
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
}

/// Reports a status line (`STATUS=`).
pub fn notify_status(status: &str) {
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Status(status)]);
}

/// Reports that we are stopping (`STOPPING=1`).
pub fn notify_stopping() {
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
}

/// Resets the watchdog (`WATCHDOG=1`).
pub fn notify_alive() {
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Watchdog]);
}

/// Interval for [`notify_alive`]: half of the watchdog's time limit; `None` without a watchdog.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let mut micros = 0;
    sd_notify::watchdog_enabled(false, &mut micros)
        .then(|| Duration::from_micros(micros / 2).max(Duration::from_millis(100)))
}

/// A connection between programs of one user on this machine.
pub type LocalStream = tokio::net::UnixStream;

/// Listens on a socket that only its owner can use; `None` when another process listens there already. The socket file of an ended
/// process is removed.
pub fn listen_private(path: &Path) -> io::Result<Option<LocalListener>> {
    use std::os::unix::fs::PermissionsExt as _;
    // Without this lock, of two processes that start at the same time the second could remove the socket of the first.
    let lock = open_own(&path.with_extension("lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // The folder is private already; the mode protects the socket if it is moved elsewhere.
    let address = SocketAddress::of(path)?;
    let listener = tokio::net::UnixListener::bind(address.path())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(Some(LocalListener { listener, _lock: lock }))
}

/// See [`listen_private`].
pub struct LocalListener {
    listener: tokio::net::UnixListener,
    // Released by the system, also when the process is killed.
    _lock: File,
}

impl LocalListener {
    /// Accepts the next connection.
    pub async fn accept(&self) -> io::Result<LocalStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

/// Connects to a socket of [`listen_private`].
pub async fn connect_local(path: &Path) -> io::Result<LocalStream> {
    let address = SocketAddress::of(path)?;
    LocalStream::connect(address.path()).await
}

/// Longest path of a socket on every system, in bytes (`sun_path` without the final zero).
const SOCKET_PATH_MAX: usize = 103;

/// A path for `bind` and `connect`: that of the socket or, if it is too long, one through `/proc/self/fd` of its folder, which stays
/// open meanwhile.
struct SocketAddress {
    path: PathBuf,
    _folder: Option<File>,
}

impl SocketAddress {
    /// # Errors
    /// [`io::ErrorKind::InvalidFilename`] when there is no such path; or the folder cannot be opened.
    fn of(path: &Path) -> io::Result<Self> {
        use std::os::fd::AsRawFd as _;
        if path.as_os_str().len() <= SOCKET_PATH_MAX {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let too_long = || {
            let what = format!(
                "a socket's path can have {SOCKET_PATH_MAX} bytes here, and this one has {}",
                path.as_os_str().len()
            );
            io::Error::new(io::ErrorKind::InvalidFilename, what)
        };
        let (folder, name) = (path.parent().ok_or_else(too_long)?, path.file_name().ok_or_else(too_long)?);
        let open = File::open(folder)?;
        let through = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        if !through.is_dir() {
            return Err(too_long());
        }
        Ok(Self { path: through.join(name), _folder: Some(open) })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Size in bytes of a read or write, the same as the gateway's.
const PIECE: usize = 64 * 1024;

/// Relays between standard input and output and such a connection, until the other end has closed its direction. Whether the data is
/// complete is not visible in a local socket: the helper at the other end must be asked.
///
/// With blocking threads: a runtime would pass each read and write to such a thread anyway.
pub async fn join_stdio(stream: LocalStream) -> io::Result<Ending> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // A pipe with a larger buffer, so that not every write waits for the reading program.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&output, 4 * PIECE);
    let (to, whole) = (stream.try_clone()?, stream.try_clone()?);
    // Not joined: it may block in a read until the process ends.
    std::thread::spawn(move || {
        let _ = pass_on(&input, &to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let inwards = tokio::task::spawn_blocking(move || pass_on(&stream, &output));
    let ending = inwards.await.map_err(io::Error::other)?;
    // The session ends when both directions have ended.
    let _ = whole.shutdown(std::net::Shutdown::Both);
    Ok(ending)
}

/// Copies until end of file. Not with `io::copy`, which uses splice(2): a part of ssh's key exchange then stayed in the pipe for ever.
fn pass_on(mut from: impl io::Read, mut to: impl io::Write) -> Ending {
    let mut space = vec![0; PIECE];
    loop {
        match from.read(&mut space) {
            Ok(0) => return Ending::Closed,
            Ok(read) => {
                if let Err(error) = to.write_all(space.get(..read).unwrap_or_default()) {
                    return Ending::unwritten(error);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ending::Broke(error),
        }
    }
}

/// Removes the socket file of an ended process.
pub fn remove_socket(path: &Path) {
    let _ = fs::remove_file(path);
}

/// Sends the descriptor of a connection over standard output, which is a Unix socket, for ssh's `ProxyUseFdpass`.
pub fn pass_stdout(stream: LocalStream) -> io::Result<()> {
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd as _;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let fds = [stream.as_fd()];
    message.push(SendAncillaryMessage::ScmRights(&fds));
    // ssh expects one byte with the descriptor.
    sendmsg(io::stdout().as_fd(), &[io::IoSlice::new(&[0])], &mut message, SendFlags::empty())?;
    Ok(())
}

/// Starts a program in a new process group with `/` as working directory, so that it survives this process and its terminal. Its standard
/// error is readable by us.
pub fn start_apart(mut command: std::process::Command) -> io::Result<std::process::Child> {
    use std::os::unix::process::CommandExt as _;
    use std::process::Stdio;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).current_dir("/").process_group(0).spawn()
}

/// Replaces this process by another program (execve). Returns only after an error.
pub fn replace_by(mut command: std::process::Command) -> io::Error {
    use std::os::unix::process::CommandExt as _;
    command.exec()
}
