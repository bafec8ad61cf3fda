//! The connection to a TPM: the kernel's device, or a socket of an emulator that speaks the same bytes. Reading and writing block, so all
//! of this runs in a thread of its own.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tpm::CodecError;
use tpm::command::{
    self, Command, Created, HEADER_LEN, Loaded, MESSAGE_MAX, ResponseError, announced_size, create_primary,
    flush_context, load, response_code, start_policy_session,
};

/// Names the TPM to use: a device, `unix:/PATH`, `tcp:HOST:PORT`, or `none`.
pub const VARIABLE: &str = "LYCHGATE_TPM";

/// The kernel's devices. The first shares the TPM among programs, so it is preferred.
const DEVICES: [&str; 2] = ["/dev/tpmrm0", "/dev/tpm0"];

/// How long a socket may take for one response. Making an RSA key takes some TPMs half a minute.
const RESPONSE_MAX: Duration = Duration::from_secs(60);
/// How long to open a socket.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a command is sent again while the TPM says that it is busy.
const BUSY_MAX: Duration = Duration::from_secs(10);
/// Pause before it is sent again.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Why a TPM cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum TpmError {
    #[error("the TPM at {place} cannot be opened: {why}")]
    Open { place: Place, why: io::Error },
    #[error("no answer from the TPM to {command}: {why}")]
    Io { command: &'static str, why: io::Error },
    #[error(transparent)]
    Response(#[from] ResponseError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the TPM did not finish within {} s", .0.as_secs())]
    Slow(Duration),
    /// Of the key with this digest, which is the gateway's claim `tpm_ek`.
    #[error(
        "this TPM does not have the endorsement key by which the gateway knows the machine (tpm_ek {key}): the TPM was replaced or made \
         anew, or another one is named by {VARIABLE}; to be known by this one, `lychgate leave`, then join again"
    )]
    EkGone { key: String },
    #[error("{0}")]
    Unusable(&'static str),
}

/// Where a TPM is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A device of the kernel.
    Device(PathBuf),
    /// The socket of an emulator.
    Unix(PathBuf),
    /// The port of an emulator: `HOST:PORT`.
    Tcp(String),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device(path) => write!(f, "{}", path.display()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl Place {
    /// The TPM that [`VARIABLE`] names, or else the machine's own, if it has one.
    #[must_use]
    pub fn find() -> Option<Self> {
        let named = std::env::var(VARIABLE).ok().filter(|named| !named.is_empty());
        named.map_or_else(
            || DEVICES.into_iter().find(|device| Path::new(device).exists()).map(|device| Self::Device(device.into())),
            |named| Self::parse(&named),
        )
    }

    fn parse(named: &str) -> Option<Self> {
        match (named, named.split_once(':')) {
            ("none", _) => None,
            (_, Some(("unix", path))) => Some(Self::Unix(path.into())),
            (_, Some(("tcp", address))) => Some(Self::Tcp(address.to_owned())),
            (device, _) => Some(Self::Device(device.into())),
        }
    }

    fn connect(&self) -> io::Result<Box<dyn Link>> {
        match self {
            Self::Device(path) => Ok(Box::new(File::options().read(true).write(true).open(path)?)),
            #[cfg(unix)]
            Self::Unix(path) => {
                let socket = std::os::unix::net::UnixStream::connect(path)?;
                socket.set_read_timeout(Some(RESPONSE_MAX))?;
                Ok(Box::new(socket))
            }
            #[cfg(not(unix))]
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Tcp(address) => {
                let address = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
                let socket = TcpStream::connect_timeout(&address, CONNECT_MAX)?;
                socket.set_read_timeout(Some(RESPONSE_MAX))?;
                Ok(Box::new(socket))
            }
        }
    }
}

/// What the primary keys of a TPM are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// The maker's, which stays when the TPM is cleared.
    Endorsement,
    /// The owner's, which is made anew then.
    Storage,
}

/// What bytes go to a TPM and come from it by.
pub(super) trait Link: Read + Write + Send {}

impl<T: Read + Write + Send> Link for T {}

/// A TPM that is open. What it was made to load is flushed when this is dropped: without a resource manager it has room for three keys.
pub struct Device {
    link: Box<dyn Link>,
    loaded: Vec<u32>,
    /// After a failure to write or read the next bytes may answer an earlier command.
    is_broken: bool,
}

impl Device {
    /// Opens it. A device without a resource manager is for one program at a time: it is waited for.
    pub fn open(place: &Place) -> Result<Self, TpmError> {
        let begun = Instant::now();
        loop {
            match place.connect() {
                Ok(link) => return Ok(Self::over(link)),
                Err(why) if why.kind() == io::ErrorKind::ResourceBusy && begun.elapsed() < BUSY_MAX => {
                    std::thread::sleep(BUSY_PAUSE);
                }
                Err(why) => return Err(TpmError::Open { place: place.clone(), why }),
            }
        }
    }

    pub(super) fn over(link: Box<dyn Link>) -> Self {
        Self { link, loaded: Vec::new(), is_broken: false }
    }

    /// Sends a command, again while the TPM is busy, and reads its response.
    pub fn run<T>(&mut self, command: &Command<T>) -> Result<T, TpmError> {
        let begun = Instant::now();
        loop {
            let response = self.exchange(command.bytes()).map_err(|why| {
                self.is_broken = true;
                TpmError::Io { command: command.name(), why }
            })?;
            let is_busy = response_code(&response).is_some_and(command::ResponseCode::is_passing);
            if !is_busy || begun.elapsed() > BUSY_MAX {
                return Ok(command.response(&response)?);
            }
            std::thread::sleep(BUSY_PAUSE);
        }
    }

    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.link.write_all(command)?;
        // A device gives a response in one read, and only if all of it fits; a socket may give it in parts.
        let mut buffer = [0; MESSAGE_MAX];
        let mut filled = 0;
        loop {
            let room = buffer.get_mut(filled..).unwrap_or_default();
            match self.link.read(room) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it is silent"));
                }
                Err(error) => return Err(error),
            }
            let response = buffer.get(..filled).unwrap_or_default();
            let Some(header) = response.first_chunk::<HEADER_LEN>() else { continue };
            let size = announced_size(header).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
            if filled >= size {
                return Ok(response.to_vec());
            }
        }
    }

    /// Makes a primary key of a hierarchy.
    pub fn primary(&mut self, hierarchy: Hierarchy, template: &[u8]) -> Result<Loaded, TpmError> {
        let (handle, locked) = match hierarchy {
            Hierarchy::Endorsement => (command::ENDORSEMENT, "the TPM's endorsement hierarchy has a password"),
            Hierarchy::Storage => (command::OWNER, "the TPM's storage hierarchy has a password (the owner's)"),
        };
        let loaded = match self.run(&create_primary(handle, template)?) {
            Err(TpmError::Response(ResponseError::Refused { code, .. })) if code.is_authorization() => {
                return Err(TpmError::Unusable(locked));
            }
            outcome => outcome?,
        };
        self.loaded.push(loaded.handle);
        Ok(loaded)
    }

    /// Loads a key below its parent, which is loaded.
    pub fn load(&mut self, parent: u32, key: &Created) -> Result<u32, TpmError> {
        let handle = self.run(&load(parent, key)?)?;
        self.loaded.push(handle);
        Ok(handle)
    }

    /// Starts a policy session for a key whose name has this hash.
    pub fn policy_session(&mut self, hash: tpm::HashAlgorithm) -> Result<u32, TpmError> {
        let session = self.run(&start_policy_session(hash, &[0; 16])?)?;
        self.loaded.push(session);
        Ok(session)
    }

    /// Removes a key or session from the TPM's memory, if it was loaded here: it may be one that stays in the TPM.
    pub fn flush(&mut self, handle: u32) {
        if !self.loaded.contains(&handle) {
            return;
        }
        self.loaded.retain(|loaded| *loaded != handle);
        // A TPM that does not flush runs out of memory, and then says so.
        let _ = flush_context(handle).map_err(TpmError::from).and_then(|command| self.run(&command));
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        while let Some(handle) = self.loaded.last().copied() {
            self.flush(handle);
        }
    }
}

#[cfg(test)]
pub(super) use self::script::scripted;

/// A TPM of prepared responses.
#[cfg(test)]
mod script {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Gives what is prepared, one after the other, and keeps what is written.
    struct Script {
        given: VecDeque<io::Result<Vec<u8>>>,
        sent: Arc<Mutex<Vec<String>>>,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let given = self.given.pop_front().unwrap_or(Ok(Vec::new()))?;
            buffer[..given.len()].copy_from_slice(&given);
            Ok(given.len())
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.sent.lock().unwrap().push(hex::encode(bytes));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub fn scripted(given: &[&str]) -> (Device, Arc<Mutex<Vec<String>>>) {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let given = given.iter().map(|given| match *given {
            "silence" => Err(io::ErrorKind::WouldBlock.into()),
            bytes => Ok(hex::decode(bytes.replace(' ', "")).unwrap()),
        });
        (Device::over(Box::new(Script { given: given.collect(), sent: Arc::clone(&sent) })), sent)
    }
}

#[cfg(test)]
mod tests {
    use tpm::command::nv_read;

    use super::*;

    const READ: &str = "80020000001600000000 00000003 0001 30 0000 01 0000";

    #[test]
    fn what_a_tpm_may_do_wrong() {
        let refused = "TPM2_NV_Read: the TPM answers TPM_RC_LOCKOUT (0x921)";
        for (given, want) in [
            (&[READ][..], Ok(vec![0x30])),
            (&["80020000 0016", "00000000 00000003 0001 30 0000 01 0000"], Ok(vec![0x30])),
            (&["80010000000a00000922", "80010000000a00000908", READ], Ok(vec![0x30])),
            (&["80010000000a00000921"], Err(refused)),
            (&["8001000000"], Err("no answer from the TPM to TPM2_NV_Read: unexpected end of file")),
            (&["silence"], Err("no answer from the TPM to TPM2_NV_Read: it is silent")),
            (
                &["80010000200000000000"],
                Err("no answer from the TPM to TPM2_NV_Read: `response` has 8192 bytes and at most 4096 are accepted"),
            ),
        ] {
            let (mut device, _) = scripted(given);
            let got = device.run(&nv_read(0x01c0_0002, 0, 1).unwrap()).map_err(|error| error.to_string());
            assert_eq!(got, want.map_err(str::to_owned), "{given:?}");
        }
    }

    #[test]
    fn what_was_loaded_is_flushed_also_after_a_refusal() {
        let session = "80010000002000000000 03000000 0010 999654b0a216a011c792edf9310c3862";
        let (mut device, sent) = scripted(&[session, "80010000000a00000921", "80010000000a00000000"]);
        device.policy_session(tpm::HashAlgorithm::Sha256).unwrap();
        assert!(device.run(&nv_read(1, 0, 1).unwrap()).is_err());
        drop(device);
        assert_eq!(sent.lock().unwrap().last().unwrap(), "80010000000e0000016503000000");
    }

    #[test]
    fn a_tpm_that_was_silent_is_not_spoken_to_again() {
        let (mut device, sent) = scripted(&["silence", READ]);
        let command = nv_read(1, 0, 1).unwrap();
        assert!(device.run(&command).is_err());
        assert!(device.run(&command).is_err(), "the bytes would answer the command before");
        assert_eq!(sent.lock().unwrap().len(), 1);
    }

    #[test]
    fn places() {
        for (named, want) in [
            ("none", None),
            ("unix:/run/tpm.sock", Some(Place::Unix("/run/tpm.sock".into()))),
            ("tcp:127.0.0.1:2321", Some(Place::Tcp("127.0.0.1:2321".into()))),
            ("/dev/tpmrm1", Some(Place::Device("/dev/tpmrm1".into()))),
        ] {
            assert_eq!(Place::parse(named), want);
            let shown = want.map_or_else(|| "none".to_owned(), |place| place.to_string());
            assert_eq!(shown, named);
        }
    }
}
