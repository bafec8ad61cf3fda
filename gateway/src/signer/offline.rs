//! What is done with the authority's files while nothing is issued: the root's list made anew, the issuing CAs certified
//! anew. Needs the root's key, which may lie on another machine: then a request goes there, and what was signed comes back.

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
        CERTIFICATE, CaDir, LIST, Passphrase, REQUEST, SignerError, file, load_certificate,
        roots::{active_root, list_of_root, make_root_list},
        rotation::Making,
        save_list,
    },
};

pub use super::roots::{root_certificate, root_key, root_list};

/// One slot as its files say.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its certificate's file.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// The root it is below, of an issuing CA.
    pub root: Option<String>,
    /// How far it is.
    pub state: SlotState,
    /// What its certificate says.
    pub info: CaInfo,
    /// The revocation list, of a root.
    pub list: Option<ListInfo>,
}

/// Every slot, as its files say. Needs no passphrase.
///
/// # Errors
/// [`SignerError`].
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

/// Opens the root: its certificate, and its key wherever that lies.
///
/// # Errors
/// [`SignerError`], when the key is another's too.
pub fn open_root(certificate: &[u8], key: &Path, passphrase: &Passphrase) -> Result<Root, SignerError> {
    let pkcs8 = file::load_key(key, passphrase)?;
    let software =
        SoftwareKey::from_pkcs8(&pkcs8).map_err(|source| SignerError::Key { path: key.to_owned(), source })?;
    Root::from_parts(certificate, Arc::new(software)).map_err(|source| SignerError::Ca { path: key.to_owned(), source })
}

/// Makes the root's list anew in its file.
///
/// # Errors
/// [`SignerError::ListHasEntries`] rather than to lose what another tool put on it.
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

/// What the holder of the root's key is asked to sign: the root, and the issuing CAs as they are, PEM. Nothing in it is
/// secret, and nothing is taken from it but keys that the root has signed before.
///
/// # Errors
/// [`SignerError`].
pub fn request(data_dir: &Path) -> Result<String, SignerError> {
    let all =
        std::iter::once(Ok(root_certificate(data_dir)?)).chain(issuing(data_dir)?.into_iter().map(|(_, der)| Ok(der)));
    all.map(|der| der.map(|der| pki::to_pem(CERTIFICATE, &der))).collect()
}

/// Where the root's key is, and what its holder says of a request.
pub struct RootSigning<'a> {
    /// The root's key.
    pub key: &'a Path,
    /// What opens it.
    pub passphrase: &'a Passphrase,
    /// Whose leaves a new CA is to sign, when the request is for one: it takes the root's holder to say so.
    pub new: Option<Role>,
}

/// Signs a request: every issuing CA in it anew, or a new one; and the root's list.
///
/// # Errors
/// [`SignerError`], when the request is of another root too.
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
    // There may be none.
    for csr in pki::parse_pem(REQUEST, &text).unwrap_or_default() {
        let role = by.new.ok_or_else(|| SignerError::NewCa { path: request.to_owned() })?;
        let csr = pki::csr::verify(&csr).map_err(|source| SignerError::BadCsr { path: request.to_owned(), source })?;
        let new = root.certify_ca(role, &csr.into_key(), serial(entropy), clock.now())?;
        signed.push_str(&pki::to_pem(CERTIFICATE, &new));
    }
    signed.push_str(&pki::to_pem(LIST, &make_root_list(&root, None, clock.now_ms())?));
    Ok(signed)
}

/// Certifies the issuing CAs anew in place.
///
/// # Errors
/// [`SignerError`]; nothing was written then, unless it is the disk that fails.
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

/// What came back from where the root's key is.
#[derive(Clone, Debug)]
pub enum Imported {
    /// The issuing CAs have other certificates.
    Renewed(Vec<Listed>),
    /// There is a new issuing CA of this name.
    New(String),
}

/// Puts in place what was signed elsewhere: the issuing CAs anew, or the new one whose key was made here.
///
/// # Errors
/// [`SignerError`], when something in it is not what was asked for; nothing was written then.
pub fn import(making: &Making<'_>, signed: &Path) -> Result<Imported, SignerError> {
    let data_dir = making.data_dir;
    let text = files::read_text(signed)?;
    let bad = |source| SignerError::Pem { path: signed.to_owned(), source };
    let new = pki::parse_pem(CERTIFICATE, &text).map_err(bad)?;
    let lists = pki::parse_pem(LIST, &text).map_err(bad)?;
    let (root, old) = (root_certificate(data_dir)?, issuing(data_dir)?);
    let key = |der: &[u8]| pki::ca_info(der).ok().map(|info| info.key);
    if let [der] = new.as_slice()
        && old.iter().all(|(_, old)| key(old) != key(der))
    {
        return making.certified(der, signed).map(Imported::New);
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

/// The issuing CAs below the active root, as long as they are of use.
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

/// Each file whole or not at all. Interrupted in between, the CAs have different ends, and doing it again mends that.
fn put(renewed: &[(PathBuf, Vec<u8>)]) -> Result<(), SignerError> {
    for (path, der) in renewed {
        let text = pki::to_pem(CERTIFICATE, der);
        files::write_atomic(path, text.as_bytes(), FileAccess::Public, Existing::Replace)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
