//! Locks of a folder: one process at a time joins or renews, and one `lychgate run` runs. They are locks of the operating system, which
//! end with the process.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use super::{StoreError, failed};
use crate::platform;

/// Interval of attempts while another process holds a lock.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// The lock of a folder, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock of `dir`, waiting for it up to `patience`.
pub(super) async fn take(dir: &Path, patience: Duration) -> Result<Lock, StoreError> {
    let path = dir.join("lock");
    let file = platform::open_own(&path).map_err(failed("open", &path))?;
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(TRY_EVERY).await;
            }
            Err(TryLockError::WouldBlock) => return Err(StoreError::Busy { path: dir.to_owned() }),
            Err(TryLockError::Error(e)) => return Err(failed("lock", &path)(e)),
        }
    }
}

/// The lock of `state.json`.
const STATE: &str = "state.lock";

/// How long a change of `state.json` waits for another process, which reads and writes one small file.
const STATE_PATIENCE: Duration = Duration::from_secs(5);

/// Interval of attempts to take it.
const STATE_EVERY: Duration = Duration::from_millis(2);

/// Takes the lock of `state.json`. It is separate from the folder's lock, which is held during requests to the gateway.
pub(super) fn take_state(dir: &Path) -> Result<Lock, StoreError> {
    let path = dir.join(STATE);
    let file = platform::open_own(&path).map_err(failed("open", &path))?;
    for _ in 0..STATE_PATIENCE.as_millis() / STATE_EVERY.as_millis() {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => std::thread::sleep(STATE_EVERY),
            Err(TryLockError::Error(e)) => return Err(failed("lock", &path)(e)),
        }
    }
    Err(StoreError::Busy { path: dir.to_owned() })
}

/// The lock of `lychgate run`.
const RUN: &str = "run.lock";

/// How long a second `run` waits for the first: `who_runs` holds the lock for a moment, and after a restart the old process may still
/// be ending.
const RUN_PATIENCE: Duration = Duration::from_secs(2);

/// Takes the lock of `lychgate run`, and writes our process id into the file.
pub(super) async fn take_running(dir: &Path) -> Result<Lock, StoreError> {
    let path = dir.join(RUN);
    let mut file = platform::open_own(&path).map_err(failed("open", &path))?;
    let deadline = tokio::time::Instant::now() + RUN_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(TRY_EVERY).await;
            }
            Err(TryLockError::WouldBlock) => return Err(StoreError::Runs { pid: pid(&path) }),
            Err(TryLockError::Error(e)) => return Err(failed("lock", &path)(e)),
        }
    }
    let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    written.map_err(failed("write", &path))?;
    Ok(Lock { _file: file })
}

/// The process id in the lock file; 0 if there is none.
fn pid(path: &Path) -> u32 {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// See [`super::Keystore::who_runs`].
pub(super) fn who_runs(dir: &Path) -> Option<u32> {
    let path = dir.join(RUN);
    let file = File::open(&path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(pid(&path)),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}
