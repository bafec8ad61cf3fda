//! Reads files of the identity folder, up to a size limit, and only if no other user may have written them.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::error::{StoreError, failed};
use crate::core::key::PrivateKey;
use crate::evidence;
use crate::platform;

/// Largest file that is read, in bytes: a bundle of some hundred roots.
const FILE_MAX: u64 = 1024 * 1024;

/// The text of a small file, such as a public key; `None` if it does not exist.
pub fn read_text(path: &Path) -> Result<Option<String>, StoreError> {
    Ok(read(path)?.map(|text| text.to_string()))
}

/// As [`read_text`], erased from memory when dropped.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, StoreError> {
    match fs::metadata(path) {
        Ok(about) if about.len() > FILE_MAX => {
            return Err(StoreError::Damaged { path: path.to_owned(), why: format!("it has {} bytes", about.len()) });
        }
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", path)(e)),
    }
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            Err(StoreError::Damaged { path: path.to_owned(), why: "it is not text".into() })
        }
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// Refuses a file that another user may have written. A missing file is accepted.
pub(super) fn trusted(path: &Path, guest_of: Option<u32>) -> Result<(), StoreError> {
    match platform::distrust(path, guest_of) {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(StoreError::Distrusted { path: path.to_owned(), why }),
        // Missing or unreadable: reading it gives the error.
        Err(_) => Ok(()),
    }
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let Some(text) = read(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| StoreError::Damaged { path: path.to_owned(), why: e.to_string() })
}

pub(super) fn read_key(path: &Path) -> Result<Option<PrivateKey>, StoreError> {
    let Some(text) = read(path)? else { return Ok(None) };
    if let Some(mode) = platform::exposure(path).map_err(failed("look at", path))? {
        return Err(StoreError::Exposed { path: path.to_owned(), mode });
    }
    let key = evidence::tpm::read_key(&text).unwrap_or_else(|| PrivateKey::from_pem(&text).map_err(|e| e.to_string()));
    key.map(Some).map_err(|why| StoreError::Damaged { path: path.to_owned(), why })
}

pub(super) fn read_certificates(path: &Path) -> Result<Vec<Vec<u8>>, StoreError> {
    let damaged = |why: String| StoreError::Damaged { path: path.to_owned(), why };
    let text = read(path)?.ok_or_else(|| damaged("it is missing".into()))?;
    pki::parse_pem("CERTIFICATE", &text).map_err(|e| damaged(e.to_string()))
}

pub(super) fn to_json(value: &impl Serialize) -> String {
    // Cannot fail: all map keys of our records are strings.
    serde_json::to_string_pretty(value).map(|text| text + "\n").unwrap_or_default()
}
