//! Errors of the identity folder, with hints.

use std::io;
use std::path::{Path, PathBuf};

use crate::core::key::KeyFault;
use crate::platform;
use crate::text::report::{Complaint, Exit};

/// What can be wrong with the folder.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum StoreError {
    #[error("cannot {action} `{path}`: {cause}")]
    Io { action: &'static str, path: PathBuf, cause: io::Error },
    #[error("`{path}` is damaged: {why}")]
    Damaged { path: PathBuf, why: String },
    #[error("others can read the private key `{path}` ({mode})")]
    Exposed { path: PathBuf, mode: String },
    #[error("`{path}` is not trusted: {why}")]
    Distrusted { path: PathBuf, why: String },
    #[error("another lychgate is joining or renewing in `{path}`")]
    Busy { path: PathBuf },
    #[error("`lychgate run` runs here already (process {pid})")]
    Runs { pid: u32 },
    #[error("cannot make a key: {0}")]
    Key(KeyFault),
}

impl From<StoreError> for Complaint {
    fn from(error: StoreError) -> Self {
        let what = error.to_string();
        let hint = match error {
            StoreError::Io { cause, .. } => match cause.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free some space and try again; the identity in use is untouched".to_owned()
                }
                io::ErrorKind::PermissionDenied => {
                    "run it as the user the folder belongs to, or name another folder with --dir".to_owned()
                }
                io::ErrorKind::ReadOnlyFilesystem => "mount it writable, or name another folder with --dir".to_owned(),
                _ => return Self::new(Exit::Files, "files", what),
            },
            StoreError::Damaged { path, .. } => format!(
                "restore it from a backup, or move `{}` away and join again",
                path.parent().unwrap_or(&path).display()
            ),
            StoreError::Exposed { path, .. } => {
                format!(
                    "somebody may have copied it: rejoin with a new key, or if you are sure: {}",
                    platform::exposure_hint(&path)
                )
            }
            StoreError::Distrusted { path, .. } => format!(
                "whoever may write there decides what runs here: give it to the user who runs this, and `chmod go-w {}`",
                path.display()
            ),
            StoreError::Busy { .. } => "wait until it has finished, or name another folder with --dir".to_owned(),
            StoreError::Runs { .. } => {
                return Self::new(Exit::Failure, "already-runs", what)
                    .hint("`lychgate status` says how it stands; --dir names another folder");
            }
            StoreError::Key(fault) => return Self { what, ..fault.into() },
        };
        Self::new(Exit::Files, "files", what).hint(hint)
    }
}

/// Adds action and path to an error of the system.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |cause| StoreError::Io { action, path, cause }
}
