//! The active root and its revocation list, as the files say.

use std::path::{Path, PathBuf};

use pki::{ListInfo, Root, UnixTime};

use super::{CERTIFICATE, CaDir, LIST, SignerError, all_of, load_certificate, pem_of};
use crate::ports::files;

/// The name of the active root.
pub(super) fn active_root(dir: &CaDir) -> Result<String, SignerError> {
    let none = || SignerError::NoAuthority { path: dir.path().to_owned() };
    Ok(dir.slots()?.active_root().ok_or_else(none)?.name.clone())
}

/// The certificate of the active root.
///
/// # Errors
/// [`SignerError`].
pub fn root_certificate(data_dir: &Path) -> Result<Vec<u8>, SignerError> {
    let dir = CaDir::of(data_dir);
    load_certificate(&dir.certificate(&active_root(&dir)?))
}

/// Where the key of the active root lies unless it was taken elsewhere.
///
/// # Errors
/// [`SignerError`].
pub fn root_key(data_dir: &Path) -> Result<PathBuf, SignerError> {
    let dir = CaDir::of(data_dir);
    Ok(dir.key(&active_root(&dir)?))
}

/// The list of the active root, if there is one.
///
/// # Errors
/// [`SignerError::List`] when it is another's, or none.
pub fn root_list(data_dir: &Path) -> Result<Option<(Vec<u8>, ListInfo)>, SignerError> {
    let dir = CaDir::of(data_dir);
    list_of_root(&dir, &active_root(&dir)?)
}

/// The list of a root, if there is one.
pub(super) fn list_of_root(dir: &CaDir, root: &str) -> Result<Option<(Vec<u8>, ListInfo)>, SignerError> {
    let path = dir.list(root);
    if !files::exists(&path) {
        return Ok(None);
    }
    let root = load_certificate(&dir.certificate(root))?;
    let der = pem_of(LIST, &path)?;
    let info = pki::read_crl(&der, &root).map_err(|source| SignerError::List { path, source })?;
    Ok(Some((der, info)))
}

/// The certificates for a root's key that other roots made.
pub(super) fn crosses(dir: &CaDir, root: &str) -> Result<Vec<Vec<u8>>, SignerError> {
    let path = dir.cross(root);
    if files::exists(&path) { all_of(CERTIFICATE, &path) } else { Ok(Vec::new()) }
}

/// A new list of the root. It is good for as long as its issuing CAs are made for: a list that ends shuts everybody out who
/// believes in lists, and nobody looks at a root every week.
///
/// # Errors
/// [`SignerError`].
pub fn make_root_list(root: &Root, last: Option<ListInfo>, now_ms: u64) -> Result<Vec<u8>, SignerError> {
    let now = UnixTime::new(now_ms / 1000);
    let number = last.map_or(now_ms, |last| now_ms.max(last.number.saturating_add(1)));
    let until = now.plus(pki::ISSUING_CA_LIFETIME).min(root.not_after());
    // As with certificates: whoever fetches it may have a clock that is a little behind.
    Ok(pki::root_crl(root, number, now.minus(pki::BACKDATE), until)?)
}
