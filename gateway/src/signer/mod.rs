//! The gateway's keys: the authority's, the one that signs join tokens, and the gateway's own TLS key.
//!
//! What signs is a [`pki::CaKey`]; each way of holding such keys is one file here, and this is the list:
//! [`file`](self::file).
//!
//! ```text
//! <data_dir>/ca/authority.toml   which roots and issuing CAs there are, and which of them sign: see `core/slots.rs`
//! <data_dir>/ca/<root>.pem       a root's certificate, for everybody
//! <data_dir>/ca/<root>.key       its key; may be taken offline, the gateway runs without it
//! <data_dir>/ca/<root>.crl       its revocation list
//! <data_dir>/ca/<root>.cross.pem certificates for its key by the roots before and after it
//! <data_dir>/ca/<ca>.pem         an issuing CA, of machines, people or gateways
//! <data_dir>/ca/<ca>.key
//! <data_dir>/ca/ssh-user.key     signs SSH certificates of people
//! <data_dir>/ca/ssh-host.key     signs SSH certificates of machines
//! <data_dir>/token.key           signs join tokens (ES256)
//! <data_dir>/ticket.key          seals what attestors keep between two rounds
//! ```
//!
//! Keys are made by [`create`](Authority::create) and by [`rotation`] alone, which are commands of an operator. No start of the
//! gateway makes one.

mod authority;
mod door;
mod error;
mod file;
mod leaf;
mod made;
pub mod offline;
mod parts;
mod roots;
pub mod rotation;
mod ssh;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::{
    core::slots::Slots,
    ports::files::{self, Existing, FileAccess},
};

pub use self::{
    authority::Authority,
    door::{Committed, SignError, Signed, Signer},
    error::SignerError,
    file::Passphrase,
    leaf::{GatewayLeaf, LeafKey},
    made::OwnKey,
    ssh::SshCas,
};

const CERTIFICATE: &str = "CERTIFICATE";

/// The label of a request for a certificate (RFC 7468 7).
const REQUEST: &str = "CERTIFICATE REQUEST";

/// The label of a revocation list (RFC 7468 7).
const LIST: &str = "X509 CRL";

/// The folder of the authority, and what lies there under which name.
#[derive(Clone, Debug)]
pub struct CaDir(PathBuf);

impl CaDir {
    /// Of the gateway whose data folder that is.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self(data_dir.join("ca"))
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file of the slots.
    #[must_use]
    pub fn slots_file(&self) -> PathBuf {
        self.0.join("authority.toml")
    }

    /// Says that certificates or lists of slots are others now, so that a running gateway takes them over.
    fn touch(&self) -> Result<(), SignerError> {
        self.save_slots(&self.slots()?.touched())
    }

    /// The certificate of a slot.
    #[must_use]
    pub fn certificate(&self, slot: &str) -> PathBuf {
        self.0.join(format!("{slot}.pem"))
    }

    /// The key of a slot.
    #[must_use]
    pub fn key(&self, slot: &str) -> PathBuf {
        self.0.join(format!("{slot}.key"))
    }

    /// The revocation list of a root.
    #[must_use]
    pub fn list(&self, root: &str) -> PathBuf {
        self.0.join(format!("{root}.crl"))
    }

    /// What other roots vouch for a root by.
    #[must_use]
    pub fn cross(&self, root: &str) -> PathBuf {
        self.0.join(format!("{root}.cross.pem"))
    }

    /// Reads the slots.
    ///
    /// # Errors
    /// [`SignerError::NoAuthority`], [`SignerError::Slots`].
    pub fn slots(&self) -> Result<Slots, SignerError> {
        let path = self.slots_file();
        if !files::exists(&path) {
            return Err(SignerError::NoAuthority { path: self.0.clone() });
        }
        Slots::parse(&files::read_text(&path)?).map_err(|source| SignerError::Slots { path, source })
    }

    /// Puts other slots in their place, whole or not at all.
    fn save_slots(&self, slots: &Slots) -> Result<(), SignerError> {
        let text = slots.text();
        Ok(files::write_atomic(&self.slots_file(), text.as_bytes(), FileAccess::Private, Existing::Replace)?)
    }
}

fn save_certificates(path: &Path, ders: &[Vec<u8>], existing: Existing) -> Result<(), SignerError> {
    let text: String = ders.iter().map(|der| pki::to_pem(CERTIFICATE, der)).collect();
    Ok(files::write_atomic(path, text.as_bytes(), FileAccess::Public, existing)?)
}

fn save_list(path: &Path, der: &[u8], existing: Existing) -> Result<(), SignerError> {
    let text = pki::to_pem(LIST, der);
    Ok(files::write_atomic(path, text.as_bytes(), FileAccess::Public, existing)?)
}

fn load_certificate(path: &Path) -> Result<Vec<u8>, SignerError> {
    pem_of(CERTIFICATE, path)
}

/// The one thing of that label in a file.
fn pem_of(label: &'static str, path: &Path) -> Result<Vec<u8>, SignerError> {
    let found = all_of(label, path)?;
    <[Vec<u8>; 1]>::try_from(found)
        .map(|[der]| der)
        .map_err(|found| SignerError::Count { path: path.to_owned(), found: found.len() })
}

/// Everything of that label in a file.
fn all_of(label: &'static str, path: &Path) -> Result<Vec<Vec<u8>>, SignerError> {
    let text = files::read_text(path)?;
    pki::parse_pem(label, &text).map_err(|source| SignerError::Pem { path: path.to_owned(), source })
}
