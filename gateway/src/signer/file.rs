//! CA keys in files: PKCS#8, encrypted with a passphrase (PBES2 with scrypt and AES-256, RFC 8018, RFC 7914), so that a
//! copy of the data folder is not a copy of the authority. `openssl pkcs8` reads and writes the same files.

use std::path::Path;

use pkcs8::{
    EncryptedPrivateKeyInfo, PrivateKeyInfo,
    der::pem::LineEnding,
    pkcs5::{pbes2, scrypt},
};
use zeroize::Zeroizing;

use crate::{
    ports::{
        entropy::Entropy,
        files::{self, Existing, FileAccess},
    },
    signer::SignerError,
};

/// PEM label of an encrypted key (RFC 7468 11).
const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// scrypt with N = 2^14, r = 8, p = 1: RFC 7914's parameters for interactive use and what `openssl pkcs8 -scrypt` writes,
/// so OpenSSL reads it within its default limit on memory. A stronger derivation adds little, since the passphrase is 256 random
/// bits unless the operator replaced it, and costs time, since six keys are decrypted at every start.
const SCRYPT_LOG_N: u8 = 14;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 1;
const KEY_LENGTH: usize = 32;

/// Decrypts the key files. Wiped on drop; `Debug` does not show it.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

impl Passphrase {
    /// 256 random bits, in hex.
    #[must_use]
    pub fn generate(entropy: &Entropy) -> Self {
        let bytes = Zeroizing::new(entropy.bytes::<32>());
        Self(Zeroizing::new(hex::encode(*bytes).into_bytes()))
    }

    /// Reads it from a file; line ends at the end of the file are ignored.
    ///
    /// # Errors
    /// [`SignerError::File`] if the file cannot be read or its mode lets every user read it, [`SignerError::EmptyPassphrase`].
    pub fn load(path: &Path) -> Result<Self, SignerError> {
        let bytes = files::read_secret(path)?;
        let end = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
        match bytes.get(..end) {
            Some(kept) if end > 0 => Ok(Self(Zeroizing::new(kept.to_vec()))),
            Some(_) | None => Err(SignerError::EmptyPassphrase { path: path.to_owned() }),
        }
    }

    /// Writes it to a new file with mode 0600.
    ///
    /// # Errors
    /// [`SignerError::File`], also if the file exists.
    pub fn save(&self, path: &Path) -> Result<(), SignerError> {
        let mut line = Zeroizing::new(self.0.to_vec());
        line.push(b'\n');
        Ok(files::write_atomic(path, &line, FileAccess::Private, Existing::Keep)?)
    }
}

/// Encrypts a PKCS#8 key and writes it to a file.
pub fn save_key(
    path: &Path,
    key: &[u8],
    passphrase: &Passphrase,
    entropy: &Entropy,
    existing: Existing,
) -> Result<(), SignerError> {
    let unusable = |_| SignerError::Encrypt { path: path.to_owned() };
    let salt = entropy.bytes::<16>();
    let iv = entropy.bytes::<16>();
    let cost = scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P, KEY_LENGTH)
        .map_err(|_| SignerError::Encrypt { path: path.to_owned() })?;
    let parameters = pbes2::Parameters::scrypt_aes256cbc(cost, &salt, &iv)
        .map_err(|_| SignerError::Encrypt { path: path.to_owned() })?;
    let sealed = PrivateKeyInfo::try_from(key)
        .and_then(|info| info.encrypt_with_params(parameters, &*passphrase.0))
        .map_err(unusable)?;
    let text = sealed.to_pem(LABEL, LineEnding::LF).map_err(|_| SignerError::Encrypt { path: path.to_owned() })?;
    Ok(files::write_atomic(path, text.as_bytes(), FileAccess::Private, existing)?)
}

/// Reads a key of this gateway, created by `init` or `ca prepare`.
///
/// # Errors
/// [`SignerError::NoKey`] if it does not exist; otherwise as [`load_key`].
pub fn load_own_key(path: &Path, passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>, SignerError> {
    if files::exists(path) { load_key(path, passphrase) } else { Err(SignerError::NoKey { path: path.to_owned() }) }
}

/// Reads and decrypts a key. Returns PKCS#8.
///
/// # Errors
/// [`SignerError::WrongPassphrase`] also for some damaged files, which the format cannot tell from a wrong passphrase.
pub fn load_key(path: &Path, passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>, SignerError> {
    let text = files::read_secret(path)?;
    let damaged = || SignerError::NotAKey { path: path.to_owned() };
    let text = std::str::from_utf8(&text).map_err(|_| damaged())?;
    if text.contains("-----BEGIN PRIVATE KEY-----") {
        return Err(SignerError::NotEncrypted { path: path.to_owned() });
    }
    let [der] = <[Vec<u8>; 1]>::try_from(pki::parse_pem(LABEL, text).map_err(|_| damaged())?).map_err(|_| damaged())?;
    let sealed = EncryptedPrivateKeyInfo::try_from(der.as_slice()).map_err(|_| damaged())?;
    let plain = sealed.decrypt(&*passphrase.0).map_err(|_| SignerError::WrongPassphrase { path: path.to_owned() })?;
    Ok(Zeroizing::new(plain.as_bytes().to_vec()))
}
