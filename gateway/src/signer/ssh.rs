//! The SSH CAs, one for people and one for machines: keys without a certificate, encrypted like the other CA keys.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use pki::{KeyAlgorithm, SoftwareKey, SshCa, SshKind};

use crate::{
    ports::files::Existing,
    signer::{
        CaBuilder, SignerError,
        file::{self, Passphrase},
    },
};

/// Every OpenSSH verifies it, and its public key is the shortest line to copy to other machines.
const ALGORITHM: KeyAlgorithm = KeyAlgorithm::Ed25519;

/// Both SSH CAs.
#[derive(Debug)]
pub struct SshCas {
    user: SshCa,
    host: SshCa,
}

impl SshCas {
    /// New ones, in memory only.
    pub(super) fn ephemeral() -> Result<Self, SignerError> {
        Self::each(|_| Ok(SoftwareKey::generate(ALGORITHM).map_err(SignerError::Generate)?.0), Path::new(""))
    }

    /// New ones, written to files. Existing files are not replaced.
    pub(super) fn create(builder: &CaBuilder) -> Result<Self, SignerError> {
        let dir = builder.dir();
        let dir = dir.path();
        let key = |kind: SshKind| {
            let (key, pkcs8) = SoftwareKey::generate(ALGORITHM).map_err(SignerError::Generate)?;
            builder.save_key(&path(dir, kind), &pkcs8, Existing::Keep)?;
            Ok(key)
        };
        Self::each(key, dir)
    }

    /// Reads those in `dir`.
    pub(super) fn load(dir: &Path, passphrase: &Passphrase) -> Result<Self, SignerError> {
        let key = |kind: SshKind| {
            let pkcs8 = file::load_own_key(&path(dir, kind), passphrase)?;
            SoftwareKey::from_pkcs8(&pkcs8).map_err(|source| SignerError::Key { path: path(dir, kind), source })
        };
        Self::each(key, dir)
    }

    fn each(key: impl Fn(SshKind) -> Result<SoftwareKey, SignerError>, dir: &Path) -> Result<Self, SignerError> {
        let ca = |kind: SshKind| {
            let unusable = |source| SignerError::Ssh { path: path(dir, kind), source };
            SshCa::new(kind, Arc::new(key(kind)?)).map_err(unusable)
        };
        Ok(Self { user: ca(SshKind::User)?, host: ca(SshKind::Host)? })
    }

    /// User certificates or host certificates.
    #[must_use]
    pub const fn of(&self, kind: SshKind) -> &SshCa {
        match kind {
            SshKind::User => &self.user,
            SshKind::Host => &self.host,
        }
    }
}

fn path(dir: &Path, kind: SshKind) -> PathBuf {
    dir.join(format!("ssh-{kind}.key"))
}
