//! What is done with the authority's files while nothing is issued: the root's list made anew, the issuing CAs certified
//! anew. Needs the root's key, which may lie on another machine: then a request goes there, and what was signed comes back.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use pki::{CaInfo, ListInfo, Role, Root, Serial, SoftwareKey, UnixTime};

use crate::{
    ports::{
        clock::Clock,
        entropy::Entropy,
        files::{self, Access, Existing},
    },
    signer::{CERTIFICATE, LIST, Passphrase, SignerError, file, load_certificate, pem_of, save_list},
};

/// One line of what there is.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The file.
    pub path: PathBuf,
    /// Its name: `root`, or the role of the CA.
    pub name: &'static str,
    /// What its certificate says.
    pub info: CaInfo,
}

/// The root and the issuing CAs, as their files say. Needs no passphrase.
///
/// # Errors
/// [`SignerError`].
pub fn list(data_dir: &Path) -> Result<Vec<Listed>, SignerError> {
    let dir = data_dir.join("ca");
    if !files::exists(&dir.join("root.pem")) {
        return Err(SignerError::NoAuthority { path: dir });
    }
    let listed = |name: &'static str| {
        let path = dir.join(format!("{name}.pem"));
        let der = load_certificate(&path)?;
        let info =
            pki::ca_info(&der).map_err(|source| SignerError::Ca { path: path.clone(), source: source.into() })?;
        Ok(Listed { path, name, info })
    };
    std::iter::once("root").chain(Role::ALL.map(Role::as_str)).map(listed).collect()
}

/// The root's certificate.
///
/// # Errors
/// [`SignerError`].
pub fn root_certificate(data_dir: &Path) -> Result<Vec<u8>, SignerError> {
    load_certificate(&data_dir.join("ca/root.pem"))
}

/// The root's list, if there is one.
///
/// # Errors
/// [`SignerError::List`] when it is another's, or none.
pub fn root_list(data_dir: &Path) -> Result<Option<(Vec<u8>, ListInfo)>, SignerError> {
    let path = data_dir.join("ca").join(ROOT_LIST);
    if !files::exists(&path) {
        return Ok(None);
    }
    let root = root_certificate(data_dir)?;
    let der = pem_of(LIST, &path)?;
    let info = pki::read_crl(&der, &root).map_err(|source| SignerError::List { path, source })?;
    Ok(Some((der, info)))
}

/// The file of the root's list, beside the root.
pub const ROOT_LIST: &str = "root.crl";

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

/// A new list of the root. It is good for as long as its issuing CAs are made for: a list that ends shuts everybody out who
/// believes in lists, and nobody looks at a root every week.
///
/// # Errors
/// [`SignerError`].
pub fn make_root_list(root: &Root, last: Option<ListInfo>, now_ms: u64) -> Result<Vec<u8>, SignerError> {
    let now = UnixTime::new(now_ms / 1000);
    let number = last.map_or(now_ms, |last| now_ms.max(last.number.saturating_add(1)));
    let until = now.plus(pki::ISSUING_CA_LIFETIME).min(root.not_after());
    // As with certificates: whoever fetches it may have a clock that is a little behind.
    Ok(pki::root_crl(root, number, now.minus(pki::BACKDATE), until)?)
}

/// Makes the root's list anew in its file.
///
/// # Errors
/// [`SignerError::ListHasEntries`] rather than to lose what another tool put on it.
pub fn renew_root_list(data_dir: &Path, root: &Root, clock: &Clock) -> Result<ListInfo, SignerError> {
    let last = root_list(data_dir)?.map(|(_, info)| info);
    let path = data_dir.join("ca").join(ROOT_LIST);
    if last.is_some_and(|last| last.entries > 0) {
        return Err(SignerError::ListHasEntries { path });
    }
    let der = make_root_list(root, last, clock.now_ms())?;
    save_list(&path, &der, Existing::Replace)?;
    pki::read_crl(&der, root.cert_der()).map_err(|source| SignerError::List { path, source })
}

/// What the holder of the root's key is asked to sign: the root, and the issuing CAs as they are, PEM. Nothing in it is
/// secret, and nothing is taken from it but keys that the root has signed before.
///
/// # Errors
/// [`SignerError`].
pub fn request(data_dir: &Path) -> Result<String, SignerError> {
    list(data_dir)?.iter().map(|listed| Ok(pki::to_pem(CERTIFICATE, &load_certificate(&listed.path)?))).collect()
}

/// Signs a request: every issuing CA anew, and the root's list.
///
/// # Errors
/// [`SignerError`], when the request is of another root too.
pub fn sign(
    request: &Path,
    key: &Path,
    passphrase: &Passphrase,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<String, SignerError> {
    let text = files::read_text(request)?;
    let bad = |source| SignerError::Pem { path: request.to_owned(), source };
    let certificates = pki::parse_pem(CERTIFICATE, &text).map_err(bad)?;
    let Some((root, old)) = certificates.split_first() else {
        return Err(SignerError::Count { path: request.to_owned(), found: 0 });
    };
    let root = open_root(root, key, passphrase)?;
    let mut signed = String::new();
    for old in old {
        signed.push_str(&pki::to_pem(CERTIFICATE, &root.renew_ca(old, serial(entropy), clock.now())?));
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
    list(data_dir)
}

/// Puts in place what was signed elsewhere.
///
/// # Errors
/// [`SignerError`], when something in it is not what was asked for; nothing was written then.
pub fn import(data_dir: &Path, signed: &Path) -> Result<Vec<Listed>, SignerError> {
    let text = files::read_text(signed)?;
    let bad = |source| SignerError::Pem { path: signed.to_owned(), source };
    let new = pki::parse_pem(CERTIFICATE, &text).map_err(bad)?;
    let lists = pki::parse_pem(LIST, &text).map_err(bad)?;
    let root = root_certificate(data_dir)?;
    let mut renewed = Vec::new();
    for (path, old) in issuing(data_dir)? {
        let fits = |new: &&Vec<u8>| {
            pki::ca_info(new).ok().map(|info| info.role) == pki::ca_info(&old).ok().map(|info| info.role)
        };
        let Some(new) = new.iter().find(fits) else {
            return Err(SignerError::NotSigned { path: signed.to_owned(), wanted: path });
        };
        pki::check_renewed(&root, &old, new).map_err(|source| SignerError::Ca { path: signed.to_owned(), source })?;
        renewed.push((path, new.clone()));
    }
    let path = data_dir.join("ca").join(ROOT_LIST);
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
    list(data_dir)
}

fn serial(entropy: &Entropy) -> Serial {
    Serial::from_entropy(entropy.bytes())
}

fn issuing(data_dir: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, SignerError> {
    Role::ALL
        .map(|role| {
            let path = data_dir.join("ca").join(format!("{role}.pem"));
            let der = load_certificate(&path)?;
            Ok((path, der))
        })
        .into_iter()
        .collect()
}

/// Each file whole or not at all. Interrupted in between, the CAs have different ends, and doing it again mends that.
fn put(renewed: &[(PathBuf, Vec<u8>)]) -> Result<(), SignerError> {
    for (path, der) in renewed {
        let text = pki::to_pem(CERTIFICATE, der);
        files::write_atomic(path, text.as_bytes(), Access::Public, Existing::Replace)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
