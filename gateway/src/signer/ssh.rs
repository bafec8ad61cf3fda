//! The SSH CAs, one for people and one for machines: bare keys in files beside the other CA keys, in the same encryption.
//!
//! A gateway that was made before there were any makes them at its next start.

use std::{path::Path, sync::Arc};

use pki::{KeyAlgorithm, SoftwareKey, SshCa, SshKind};
use zeroize::Zeroizing;

use crate::{
    ports::{entropy::Entropy, files},
    signer::{
        SignerError,
        file::{self, Passphrase},
    },
};

/// What OpenSSH verifies everywhere, with the shortest line to paste into other machines.
const ALGORITHM: KeyAlgorithm = KeyAlgorithm::Ed25519;

/// Both SSH CAs.
#[derive(Debug)]
pub struct SshCas {
    user: SshCa,
    host: SshCa,
}

impl SshCas {
    /// New ones that lie in no file.
    pub(super) fn ephemeral() -> Result<Self, SignerError> {
        Self::each(|_| Ok(SoftwareKey::generate(ALGORITHM).map_err(SignerError::Generate)?.0), Path::new(""))
    }

    /// Those in `dir`; what is not there yet is made, written and said.
    pub(super) fn load_or_make(dir: &Path, passphrase: &Passphrase, entropy: &Entropy) -> Result<Self, SignerError> {
        let key = |kind: SshKind| {
            let path = dir.join(format!("ssh-{kind}.key"));
            let pkcs8: Zeroizing<Vec<u8>> = if files::exists(&path) {
                file::load_key(&path, passphrase)?
            } else {
                let (_, pkcs8) = SoftwareKey::generate(ALGORITHM).map_err(SignerError::Generate)?;
                file::save_key(&path, &pkcs8, passphrase, entropy)?;
                tracing::info!(path = %path.display(), "made the key of the SSH CA for {kind} certificates");
                pkcs8
            };
            SoftwareKey::from_pkcs8(&pkcs8).map_err(|source| SignerError::Key { path, source })
        };
        Self::each(key, dir)
    }

    fn each(key: impl Fn(SshKind) -> Result<SoftwareKey, SignerError>, dir: &Path) -> Result<Self, SignerError> {
        let ca = |kind: SshKind| {
            let unusable = |source| SignerError::Ssh { path: dir.join(format!("ssh-{kind}.key")), source };
            SshCa::new(kind, Arc::new(key(kind)?)).map_err(unusable)
        };
        Ok(Self { user: ca(SshKind::User)?, host: ca(SshKind::Host)? })
    }

    /// The CA of a kind.
    #[must_use]
    pub const fn of(&self, kind: SshKind) -> &SshCa {
        match kind {
            SshKind::User => &self.user,
            SshKind::Host => &self.host,
        }
    }
}
