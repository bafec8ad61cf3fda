//! What makes keys and certificates, put together once for each command.

use std::path::{Path, PathBuf};

use pki::{Serial, TrustDomain};

use super::{CaDir, Passphrase, SignerError, file};
use crate::ports::{clock::Clock, entropy::Entropy, files::Existing};

/// Makes keys and certificates: those of a new authority, and of new slots of one.
pub struct CaBuilder {
    /// The gateway's data folder, the parent of `ca`.
    pub data_dir: PathBuf,
    /// Goes into new roots; a certificate from elsewhere must have the same.
    pub domain: TrustDomain,
    /// Encrypts new keys.
    pub passphrase: Passphrase,
    /// For `notBefore`.
    pub clock: Clock,
    /// For serials, salts and IVs.
    pub entropy: Entropy,
}

impl CaBuilder {
    pub(super) fn dir(&self) -> CaDir {
        CaDir::of(&self.data_dir)
    }

    pub(super) fn serial(&self) -> Serial {
        Serial::from_entropy(self.entropy.bytes())
    }

    pub(super) fn save_key(&self, path: &Path, key: &[u8], existing: Existing) -> Result<(), SignerError> {
        file::save_key(path, key, &self.passphrase, &self.entropy, existing)
    }
}
