//! The active root and its CRL, read from files.

use std::path::{Path, PathBuf};

use pki::{ListInfo, Root, UnixTime};

use super::{CERTIFICATE, CaDir, LIST, SignerError, all_of, load_certificate, pem_of};
use crate::ports::files;

/// The slot name of the active root.
pub(super) fn active_root(dir: &CaDir) -> Result<String, SignerError> {
    let none = || SignerError::NoAuthority { path: dir.path().to_owned() };
    Ok(dir.slots()?.active_root().ok_or_else(none)?.name.clone())
}

/// The certificate of the active root, DER.
pub fn root_certificate(data_dir: &Path) -> Result<Vec<u8>, SignerError> {
    let dir = CaDir::of(data_dir);
    load_certificate(&dir.certificate(&active_root(&dir)?))
}

/// Path of the active root's key. The file does not exist if the key is kept offline.
pub fn root_key(data_dir: &Path) -> Result<PathBuf, SignerError> {
    let dir = CaDir::of(data_dir);
    Ok(dir.key(&active_root(&dir)?))
}

/// The CRL of the active root, DER and parsed; `None` if there is no file.
///
/// # Errors
/// [`SignerError::List`] if the file is not a CRL that the root signed.
pub fn root_list(data_dir: &Path) -> Result<Option<(Vec<u8>, ListInfo)>, SignerError> {
    let dir = CaDir::of(data_dir);
    list_of_root(&dir, &active_root(&dir)?)
}

/// The CRL of a root; `None` if there is no file.
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

/// The cross certificates for a root's key, issued by other roots.
pub(super) fn crosses(dir: &CaDir, root: &str) -> Result<Vec<Vec<u8>>, SignerError> {
    let path = dir.cross(root);
    if files::exists(&path) { all_of(CERTIFICATE, &path) } else { Ok(Vec::new()) }
}

/// Signs a new CRL of the root, without entries. It is valid for [`pki::ISSUING_CA_LIFETIME`]: once it expires, every verifier that
/// checks CRLs refuses the certificates below the root, and a root's key is rarely used.
pub fn make_root_list(root: &Root, last: Option<ListInfo>, now_ms: u64) -> Result<Vec<u8>, SignerError> {
    let now = UnixTime::new(now_ms / 1000);
    let number = last.map_or(now_ms, |last| now_ms.max(last.number.saturating_add(1)));
    let until = now.plus(pki::ISSUING_CA_LIFETIME).min(root.not_after());
    // backdated like certificates: a client's clock may be slow
    Ok(pki::root_crl(root, number, now.minus(pki::BACKDATE), until)?)
}
