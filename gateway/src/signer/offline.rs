//! Operator commands that need the root's key: renew the root's CRL and the certificates of the issuing CAs. If the key is on
//! another machine, `request` writes a file for it, `sign` runs there, and `import` reads the result.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use pki::{CaInfo, ListInfo, Role, Root, Serial, SoftwareKey};

use crate::{
    core::slots::{IssuingSlot, SlotState},
    ports::{
        clock::Clock,
        entropy::Entropy,
        files::{self, Existing, FileAccess},
    },
    signer::{
        CERTIFICATE, CaBuilder, CaDir, LIST, Passphrase, REQUEST, SignerError, file, load_certificate,
        roots::{active_root, list_of_root, make_root_list},
        save_list,
    },
};

pub use super::roots::{root_certificate, root_key, root_list};

/// A slot, its certificate and its CRL.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The certificate file.
    pub path: PathBuf,
    /// Slot name.
    pub name: String,
    /// For an issuing CA: slot name of its root.
    pub root: Option<String>,
    /// From `authority.toml`.
    pub state: SlotState,
    /// From the certificate.
    pub info: CaInfo,
    /// For a root: its CRL, if it has one.
    pub list: Option<ListInfo>,
}

/// Every slot. Needs no passphrase, since no key is read.
pub fn list(data_dir: &Path) -> Result<Vec<Listed>, SignerError> {
    let dir = CaDir::of(data_dir);
    let slots = dir.slots()?;
    let listed = |name: &str, root: Option<&String>, state| {
        let path = dir.certificate(name);
        let der = load_certificate(&path)?;
        let info =
            pki::ca_info(&der).map_err(|source| SignerError::Ca { path: path.clone(), source: source.into() })?;
        let list = if root.is_none() { list_of_root(&dir, name)?.map(|(_, info)| info) } else { None };
        Ok(Listed { path, name: name.to_owned(), root: root.cloned(), state, info, list })
    };
    let roots = slots.roots().iter().map(|slot| listed(&slot.name, None, slot.state));
    let issuing = slots.issuing().iter().map(|slot| listed(&slot.name, Some(&slot.root), slot.state));
    roots.chain(issuing).collect()
}

/// Loads the root from its certificate and the key file, which may be anywhere.
///
/// # Errors
/// [`SignerError::Ca`] if the key is not the certificate's.
pub fn open_root(certificate: &[u8], key: &Path, passphrase: &Passphrase) -> Result<Root, SignerError> {
    let pkcs8 = file::load_key(key, passphrase)?;
    let software =
        SoftwareKey::from_pkcs8(&pkcs8).map_err(|source| SignerError::Key { path: key.to_owned(), source })?;
    Root::from_parts(certificate, Arc::new(software)).map_err(|source| SignerError::Ca { path: key.to_owned(), source })
}

/// Replaces the active root's CRL by a new one without entries.
///
/// # Errors
/// [`SignerError::ListHasEntries`] if the old one has entries, which another tool added and this would remove.
pub fn renew_root_list(data_dir: &Path, root: &Root, clock: &Clock) -> Result<ListInfo, SignerError> {
    let dir = CaDir::of(data_dir);
    let path = dir.list(&active_root(&dir)?);
    let last = root_list(data_dir)?.map(|(_, info)| info);
    if last.is_some_and(|last| last.entries > 0) {
        return Err(SignerError::ListHasEntries { path });
    }
    let der = make_root_list(root, last, clock.now_ms())?;
    save_list(&path, &der, Existing::Replace)?;
    CaDir::of(data_dir).touch()?;
    pki::read_crl(&der, root.cert_der()).map_err(|source| SignerError::List { path, source })
}

/// A request to renew the issuing CAs, PEM: the root's certificate and theirs. Nothing in it is secret. [`sign`] renews only
/// certificates that the root has signed before.
pub fn request(data_dir: &Path) -> Result<String, SignerError> {
    let all =
        std::iter::once(Ok(root_certificate(data_dir)?)).chain(issuing(data_dir)?.into_iter().map(|(_, der)| Ok(der)));
    all.map(|der| der.map(|der| pki::to_pem(CERTIFICATE, &der))).collect()
}

/// The root's key, and the role that its holder grants to a new CA.
pub struct RootSigning<'a> {
    /// The root's key file.
    pub key: &'a Path,
    /// Decrypts it.
    pub passphrase: &'a Passphrase,
    /// Role of the new CA, if the request is for one. Not part of the request: the holder of the root's key must decide it.
    pub new: Option<Role>,
}

/// Signs a request: renews every issuing CA in it, or certifies a new one, and signs the root's CRL. Returns PEM.
///
/// # Errors
/// [`SignerError::Ca`] or [`SignerError::Issue`] if the request is of another root, [`SignerError::NewCa`] if `by.new` is missing.
pub fn sign(request: &Path, by: &RootSigning<'_>, clock: &Clock, entropy: &Entropy) -> Result<String, SignerError> {
    let text = files::read_text(request)?;
    let bad = |source| SignerError::Pem { path: request.to_owned(), source };
    let certificates = pki::parse_pem(CERTIFICATE, &text).map_err(bad)?;
    let Some((root, old)) = certificates.split_first() else {
        return Err(SignerError::Count { path: request.to_owned(), found: 0 });
    };
    let root = open_root(root, by.key, by.passphrase)?;
    let mut signed = String::new();
    for old in old {
        signed.push_str(&pki::to_pem(CERTIFICATE, &root.renew_ca(old, serial(entropy), clock.now())?));
    }
    // an error here means that there is no CSR
    for csr in pki::parse_pem(REQUEST, &text).unwrap_or_default() {
        let role = by.new.ok_or_else(|| SignerError::NewCa { path: request.to_owned() })?;
        let csr = pki::csr::verify(&csr).map_err(|source| SignerError::BadCsr { path: request.to_owned(), source })?;
        let new = root.certify_ca(role, &csr.into_key(), serial(entropy), clock.now())?;
        signed.push_str(&pki::to_pem(CERTIFICATE, &new));
    }
    signed.push_str(&pki::to_pem(LIST, &make_root_list(&root, None, clock.now_ms())?));
    Ok(signed)
}

/// Renews the certificates of the issuing CAs and the root's CRL.
///
/// # Errors
/// Nothing has been written, except after [`SignerError::File`]: then repeat it.
pub fn renew(data_dir: &Path, root: &Root, clock: &Clock, entropy: &Entropy) -> Result<Vec<Listed>, SignerError> {
    let old = issuing(data_dir)?;
    let renewed = old.iter().map(|(path, der)| {
        let new = root.renew_ca(der, serial(entropy), clock.now())?;
        Ok::<_, SignerError>((path.clone(), new))
    });
    let renewed: Vec<_> = renewed.collect::<Result<_, _>>()?;
    renew_root_list(data_dir, root, clock)?;
    put(&renewed)?;
    CaDir::of(data_dir).touch()?;
    list(data_dir)
}

/// Result of [`import`].
#[derive(Clone, Debug)]
pub enum Imported {
    /// All slots, after the issuing CAs were renewed.
    Renewed(Vec<Listed>),
    /// Slot name of the new issuing CA.
    New(String),
}

/// Reads what [`sign`] returned on the machine with the root's key: renewed issuing CAs, or a new one whose key was generated here.
///
/// # Errors
/// [`SignerError::NotSigned`] if a certificate is missing; nothing has been written, except after [`SignerError::File`].
pub fn import(builder: &CaBuilder, signed: &Path) -> Result<Imported, SignerError> {
    let data_dir = &builder.data_dir;
    let text = files::read_text(signed)?;
    let bad = |source| SignerError::Pem { path: signed.to_owned(), source };
    let new = pki::parse_pem(CERTIFICATE, &text).map_err(bad)?;
    let lists = pki::parse_pem(LIST, &text).map_err(bad)?;
    let (root, old) = (root_certificate(data_dir)?, issuing(data_dir)?);
    let key = |der: &[u8]| pki::ca_info(der).ok().map(|info| info.key);
    if let [der] = new.as_slice()
        && old.iter().all(|(_, old)| key(old) != key(der))
    {
        return builder.certified(der, signed).map(Imported::New);
    }
    let mut renewed = Vec::new();
    for (path, old) in old {
        let Some(new) = new.iter().find(|new| key(new) == key(&old)) else {
            return Err(SignerError::NotSigned { path: signed.to_owned(), wanted: path });
        };
        pki::check_renewed(&root, &old, new).map_err(|source| SignerError::Ca { path: signed.to_owned(), source })?;
        renewed.push((path, new.clone()));
    }
    let dir = CaDir::of(data_dir);
    let path = dir.list(&active_root(&dir)?);
    for der in &lists {
        pki::read_crl(der, &root).map_err(|source| SignerError::List { path: signed.to_owned(), source })?;
        if root_list(data_dir)?.is_some_and(|(_, last)| last.entries > 0) {
            return Err(SignerError::ListHasEntries { path });
        }
    }
    for der in &lists {
        save_list(&path, der, Existing::Replace)?;
    }
    put(&renewed)?;
    CaDir::of(data_dir).touch()?;
    Ok(Imported::Renewed(list(data_dir)?))
}

fn serial(entropy: &Entropy) -> Serial {
    Serial::from_entropy(entropy.bytes())
}

/// Certificate file and certificate of the issuing CAs below the active root, without retired ones.
fn issuing(data_dir: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, SignerError> {
    let dir = CaDir::of(data_dir);
    let (slots, root) = (dir.slots()?, active_root(&dir)?);
    let below = slots.issuing().iter().filter(|slot| slot.root == root && slot.state != SlotState::Retired);
    let read = |slot: &IssuingSlot| {
        let path = dir.certificate(&slot.name);
        let der = load_certificate(&path)?;
        Ok((path, der))
    };
    below.map(read).collect()
}

/// Replaces each file atomically. If it is interrupted in between, only some CAs are renewed; repeat it.
fn put(renewed: &[(PathBuf, Vec<u8>)]) -> Result<(), SignerError> {
    for (path, der) in renewed {
        let text = pki::to_pem(CERTIFICATE, der);
        files::write_atomic(path, text.as_bytes(), FileAccess::Public, Existing::Replace)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
