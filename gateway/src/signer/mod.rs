//! The gateway's keys: those of its CAs, the one that signs join tokens, and the gateway's own TLS key.
//!
//! A signing key is a [`pki::CaKey`]; each kind of key storage is one file here. So far there is one: [`file`](self::file).
//!
//! ```text
//! <data_dir>/ca/authority.toml   the roots and issuing CAs, and which of them sign: see `core/slots.rs`
//! <data_dir>/ca/<root>.pem       a root's certificate; public
//! <data_dir>/ca/<root>.key       its key; may be kept offline, the gateway runs without it
//! <data_dir>/ca/<root>.crl       its revocation list
//! <data_dir>/ca/<root>.cross.pem cross certificates for its key, issued by older and newer roots
//! <data_dir>/ca/<ca>.pem         an issuing CA, of machines, people or gateways
//! <data_dir>/ca/<ca>.key
//! <data_dir>/ca/ssh-user.key     signs SSH certificates of people
//! <data_dir>/ca/ssh-host.key     signs SSH certificates of machines
//! <data_dir>/token.key           signs join tokens (ES256)
//! <data_dir>/ticket.key          encrypts the tickets that carry an attestor's state between two rounds
//! ```
//!
//! Only operator commands create keys, all by a [`CaBuilder`].

mod authority;
mod builder;
mod create;
mod error;
mod file;
mod leaf;
pub mod offline;
mod parts;
mod roots;
pub mod rotation;
mod signing;
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
    builder::CaBuilder,
    create::OwnKey,
    error::SignerError,
    file::Passphrase,
    leaf::{GatewayLeaf, LeafKey},
    signing::{Committed, SignError, Signed, Signer},
    ssh::SshCas,
};

const CERTIFICATE: &str = "CERTIFICATE";

/// PEM label of a CSR (RFC 7468 7).
const REQUEST: &str = "CERTIFICATE REQUEST";

/// PEM label of a CRL (RFC 7468 6).
const LIST: &str = "X509 CRL";

/// Paths of the authority's files.
#[derive(Clone, Debug)]
pub struct CaDir(PathBuf);

impl CaDir {
    /// `<data_dir>/ca`.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self(data_dir.join("ca"))
    }

    /// Path of the folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `authority.toml`.
    #[must_use]
    pub fn slots_file(&self) -> PathBuf {
        self.0.join("authority.toml")
    }

    /// Increments the generation in `authority.toml`, so that a running gateway reloads certificates and lists.
    fn touch(&self) -> Result<(), SignerError> {
        self.save_slots(&self.slots()?.touched())
    }

    /// `<slot>.pem`.
    #[must_use]
    pub fn certificate(&self, slot: &str) -> PathBuf {
        self.0.join(format!("{slot}.pem"))
    }

    /// `<slot>.key`.
    #[must_use]
    pub fn key(&self, slot: &str) -> PathBuf {
        self.0.join(format!("{slot}.key"))
    }

    /// `<root>.crl`.
    #[must_use]
    pub fn list(&self, root: &str) -> PathBuf {
        self.0.join(format!("{root}.crl"))
    }

    /// `<root>.cross.pem`.
    #[must_use]
    pub fn cross(&self, root: &str) -> PathBuf {
        self.0.join(format!("{root}.cross.pem"))
    }

    /// Reads `authority.toml`.
    ///
    /// # Errors
    /// [`SignerError::NoAuthority`] if the file does not exist, [`SignerError::Slots`] if it is inconsistent.
    pub fn slots(&self) -> Result<Slots, SignerError> {
        let path = self.slots_file();
        if !files::exists(&path) {
            return Err(SignerError::NoAuthority { path: self.0.clone() });
        }
        Slots::parse(&files::read_text(&path)?).map_err(|source| SignerError::Slots { path, source })
    }

    /// Replaces `authority.toml` atomically.
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

/// The only PEM block with that label in a file.
fn pem_of(label: &'static str, path: &Path) -> Result<Vec<u8>, SignerError> {
    let found = all_of(label, path)?;
    <[Vec<u8>; 1]>::try_from(found)
        .map(|[der]| der)
        .map_err(|found| SignerError::Count { path: path.to_owned(), found: found.len() })
}

/// All PEM blocks with that label in a file.
fn all_of(label: &'static str, path: &Path) -> Result<Vec<Vec<u8>>, SignerError> {
    let text = files::read_text(path)?;
    pki::parse_pem(label, &text).map_err(|source| SignerError::Pem { path: path.to_owned(), source })
}
