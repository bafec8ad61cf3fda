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

/// Creates a file that must not exist yet. Its mode is set at creation, so that there is no moment at which others can read
/// it.
pub fn create(path: &Path, access: Access) -> io::Result<File> {
    let mode = match access {
        Access::Secret => 0o600,
        Access::Public => 0o644,
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    give_to_owner(path, &file)?;
    Ok(file)
}

/// Opens a file that may be there, to be locked or written. A link in its place is not followed: whoever owns the folder must not lead
/// root to a file of root's.
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

/// What root makes in somebody else's folder is theirs: otherwise one `sudo lychgate renew` leaves a service that cannot read its own
/// key. By the open file, so that nobody can put another in its place meanwhile.
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

/// Lets a program that makes files in `folder` by itself do so as the folder's owner. Not by giving them away afterwards: what has
/// their name by then may be something else of root's. For anybody but root in somebody else's folder it changes nothing.
pub fn as_owner(command: &mut std::process::Command, folder: &Path) -> io::Result<()> {
    use std::os::unix::process::CommandExt as _;
    if guest_of(folder).is_some() {
        let owner = fs::metadata(folder)?;
        // Other groups of root's are given up with its user.
        command.gid(owner.gid()).uid(owner.uid());
    }
    Ok(())
}

/// Why a file or folder must not be believed, if so: it belongs to another user, or others may write to it. `followed` is the owner of
/// the folder that it lies in, whom root goes along with.
pub fn distrust(path: &Path, followed: Option<u32>) -> io::Result<Option<String>> {
    let me = rustix::process::geteuid();
    let mine = |uid: u32| uid == 0 || uid == me.as_raw() || followed == Some(uid);
    // The link itself, then what it leads to.
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

/// In whose folder root is at work; nothing for anybody else.
pub fn guest_of(folder: &Path) -> Option<u32> {
    let owner = fs::metadata(folder).ok()?.uid();
    (rustix::process::geteuid().is_root() && owner != 0).then_some(owner)
}

/// Creates a folder only its owner can enter; parents with the usual mode.
pub fn make_folder(path: &Path) -> io::Result<()> {
    make_parents(path)?;
    make_one_folder(path, 0o700)
}

/// Creates a folder as any other, and its parents.
pub fn make_shared_folder(path: &Path) -> io::Result<()> {
    make_parents(path)?;
    make_one_folder(path, 0o755)
}

/// Each folder above that is missing, from the top.
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

/// The mode of a secret file, if others may do anything with it.
pub fn exposure(path: &Path) -> io::Result<Option<String>> {
    let mode = fs::metadata(path)?.mode() & 0o7777;
    Ok((mode & FOR_OTHERS != 0).then(|| format!("mode {mode:04o}")))
}

/// How to mend what [`exposure`] found.
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

/// How wide the terminal at standard output is, in characters.
#[must_use]
pub fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    // Serial consoles say 0: they do not know.
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// The home folder of the user.
#[must_use]
pub fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// The user's name, as far as the environment knows it.
#[must_use]
pub fn user_name() -> Option<String> {
    ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// Puts a text into the place of a file of the user's, which keeps its mode; a new one, and its folder, are the user's alone.
pub fn replace_own(path: &Path, text: &str) -> io::Result<()> {
    make_folder(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
    replace(path, text, Access::Secret)
}

/// Puts a text into the place of a file that may be there, which keeps its mode then. Its folder must exist.
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

/// What the system says about itself, for approvers: claimed, never verified.
#[must_use]
pub fn about_host() -> BTreeMap<&'static str, String> {
    let name = rustix::system::uname();
    BTreeMap::from([
        ("hostname", name.nodename().to_string_lossy().into_owned()),
        ("kernel", format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy())),
    ])
}

/// Whether a hook may be run: an executable file that nobody but root and ourselves can change.
pub fn may_run(path: &Path) -> Result<(), &'static str> {
    let me = rustix::process::geteuid().as_raw();
    // Who put a link there decides what is run, so the link is judged before what it leads to.
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

/// A command as the shell understands it.
#[must_use]
pub fn shell(command: &str) -> tokio::process::Command {
    let mut shell = tokio::process::Command::new("/bin/sh");
    shell.arg("-c").arg(command);
    shell
}

/// Starts the program in a process group of its own, so that what it starts can be ended with it.
pub fn own_group(command: &mut tokio::process::Command) {
    command.process_group(0);
}

/// Ends a process group started with [`own_group`].
pub fn end_group(leader: u32) {
    if let Some(pid) = i32::try_from(leader).ok().and_then(rustix::process::Pid::from_raw) {
        // It may be gone already, which is what is wanted.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

/// The wish of the user or the system that we stop.
pub struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignal {
    /// From now on the signals are ours to handle.
    pub fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for one; gives its name.
    pub async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Tells the service manager, if there is one, that we are ready.
pub fn notify_ready() {
    // Without a manager this does nothing; a manager that does not listen is not our concern.
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
}

/// Tells it how things stand.
pub fn notify_status(status: &str) {
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Status(status)]);
}

/// Tells it that we are about to stop.
pub fn notify_stopping() {
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
}

/// Tells it that we are alive.
pub fn notify_alive() {
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Watchdog]);
}

/// How often it wants to hear that, if at all: half the limit it has set.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let mut micros = 0;
    sd_notify::watchdog_enabled(false, &mut micros)
        .then(|| Duration::from_micros(micros / 2).max(Duration::from_millis(100)))
}

/// A connection between programs of one user on this machine.
pub type LocalStream = tokio::net::UnixStream;

/// Listens on a socket that only its owner can use; nothing when somebody listens there already. What a program left that is
/// gone is removed.
pub fn listen_private(path: &Path) -> io::Result<Option<LocalListener>> {
    use std::os::unix::fs::PermissionsExt as _;
    // Two that begin in the same moment would each find nobody, and the second would take the first one's socket away.
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
    // The folder is its owner's alone already; the mode says so again for whoever moves the socket.
    let address = SocketAddress::of(path)?;
    let listener = tokio::net::UnixListener::bind(address.path())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(Some(LocalListener { listener, _lock: lock }))
}

/// See [`listen_private`].
pub struct LocalListener {
    listener: tokio::net::UnixListener,
    // Given back by the system, also when we are killed.
    _lock: File,
}

impl LocalListener {
    /// The next program that comes.
    pub async fn accept(&self) -> io::Result<LocalStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

/// Connects to such a socket.
pub async fn connect_local(path: &Path) -> io::Result<LocalStream> {
    let address = SocketAddress::of(path)?;
    LocalStream::connect(address.path()).await
}

/// The longest path that a socket can have on every system, in bytes (`sun_path` less its end).
const SOCKET_PATH_MAX: usize = 103;

/// A path for `bind` and `connect`: that of the socket, or, where that is too long for them, one through its folder, which is
/// open for as long.
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

/// What is read and written at a time, as everywhere on the way.
const PIECE: usize = 64 * 1024;

/// Joins standard input and output with such a connection, until the other side has no more to say. The end of a local socket
/// says nothing of the service's: whoever holds the other end is to be asked.
///
/// By plain threads that block: a runtime would hand each piece to such a thread and back.
///
/// # Errors
/// When a descriptor cannot be had.
pub async fn join_stdio(stream: LocalStream) -> io::Result<Ending> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // Where it is a pipe, the program behind it need not be awaited for each piece.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&output, 4 * PIECE);
    let (to, whole) = (stream.try_clone()?, stream.try_clone()?);
    // Not awaited: it may stand in a read that nothing ends but the process.
    std::thread::spawn(move || {
        let _ = pass_on(&input, &to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let inwards = tokio::task::spawn_blocking(move || pass_on(&stream, &output));
    let ending = inwards.await.map_err(io::Error::other)?;
    // The session ends when both directions have.
    let _ = whole.shutdown(std::net::Shutdown::Both);
    Ok(ending)
}

/// Reads from one and writes to the other until there is no more. Not `io::copy`, which would have the kernel splice the two: a
/// piece of ssh's key exchange stayed in between for ever.
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

/// Removes a socket that nobody listens on any more.
pub fn remove_socket(path: &Path) {
    let _ = fs::remove_file(path);
}

/// Hands an open connection to whoever holds the other end of standard output, as ssh's `ProxyUseFdpass` wants it.
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
    // ssh reads one byte with the descriptor.
    sendmsg(io::stdout().as_fd(), &[io::IoSlice::new(&[0])], &mut message, SendFlags::empty())?;
    Ok(())
}

/// Starts a program that goes on when we and our terminal are gone, and keeps no folder busy. What it says is for us to read as
/// long as we are there.
pub fn start_apart(mut command: std::process::Command) -> io::Result<std::process::Child> {
    use std::os::unix::process::CommandExt as _;
    use std::process::Stdio;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).current_dir("/").process_group(0).spawn()
}

/// Becomes another program. Comes back only when that cannot be.
pub fn replace_by(mut command: std::process::Command) -> io::Error {
    use std::os::unix::process::CommandExt as _;
    command.exec()
}
