//! One process at a time joins or renews in a folder. The lock is the operating system's, so it ends with the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use super::{StoreError, failed};

/// How often a lock that is held by another is tried again.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// The lock of a folder, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock of `dir`, waiting for it up to `patience`.
pub(super) async fn take(dir: &Path, patience: Duration) -> Result<Lock, StoreError> {
    let path = dir.join("lock");
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed("open", &path))?;
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
