//! New roots and issuing CAs, and their steps: what an operator's commands do to the files of the authority. A running gateway
//! takes it over at its next reload.
//!
//! Each change ends with the file of the slots, in one piece. A command that was interrupted before leaves at most files of a slot
//! that is not there; done again, it goes on with them.

use std::{path::Path, sync::Arc};

use pki::{CaKey, Role, Root, Serial, SoftwareKey, TrustAnchors, TrustDomain};

use super::{
    CERTIFICATE, CaDir, Passphrase, REQUEST, SignerError, all_of, file, load_certificate,
    made::{OwnKey, generate, new_root},
    roots::{crosses, make_root_list, root_certificate},
    save_certificates, save_list,
};
use crate::{
    core::slots::{SlotStep, Slots},
    ports::{
        clock::Clock,
        entropy::Entropy,
        files::{self, Existing},
    },
};

/// Whose keys are made, and with what.
pub struct Making<'a> {
    /// The data folder.
    pub data_dir: &'a Path,
    /// The trust domain.
    pub domain: &'a TrustDomain,
    /// What encrypts the keys.
    pub passphrase: &'a Passphrase,
    /// The time.
    pub clock: &'a Clock,
    /// Randomness.
    pub entropy: &'a Entropy,
}

impl Making<'_> {
    fn dir(&self) -> CaDir {
        CaDir::of(self.data_dir)
    }

    fn serial(&self) -> Serial {
        Serial::from_entropy(self.entropy.bytes())
    }

    /// The key of a slot that is to be: the one that an interrupted command left, or a new one.
    fn key(&self, slot: &str) -> Result<Arc<dyn CaKey>, SignerError> {
        let path = self.dir().key(slot);
        if files::exists(&path) {
            let pkcs8 = file::load_key(&path, self.passphrase)?;
            let key = SoftwareKey::from_pkcs8(&pkcs8).map_err(|source| SignerError::Key { path, source })?;
            return Ok(Arc::new(key));
        }
        let (key, pkcs8) = generate()?;
        file::save_key(&path, &pkcs8, self.passphrase, self.entropy, Existing::Keep)?;
        Ok(key)
    }

    /// Makes an issuing CA below the active root, whose key this is. Gives its name.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn issuing(&self, role: Role, root: &Root) -> Result<String, SignerError> {
        let (dir, slots) = (self.dir(), self.dir().slots()?);
        let name = slots.free_name(role.as_str());
        let ca = root.issue_ca(role, self.key(&name)?, self.serial(), self.clock.now())?;
        save_certificates(&dir.certificate(&name), &[ca.cert_der().to_vec()], Existing::Replace)?;
        save(&dir, slots.with_issuing(name.clone(), role, ca.key_digest()))?;
        Ok(name)
    }

    /// Makes a root with an issuing CA for each role. The active root, whose key this is, vouches for it, and it for the active one:
    /// whoever begins with either comes to know both. Gives its name.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn root(&self, active: &Root) -> Result<String, SignerError> {
        let (dir, slots, now) = (self.dir(), self.dir().slots()?, self.clock.now());
        let name = slots.free_name("root");
        let root = new_root(self.domain, self.key(&name)?, self.serial(), now)?;
        let mut issuing = Vec::new();
        for role in Role::ALL {
            let its = slots.free_name(role.as_str());
            let ca = root.issue_ca(role, self.key(&its)?, self.serial(), now)?;
            save_certificates(&dir.certificate(&its), &[ca.cert_der().to_vec()], Existing::Replace)?;
            issuing.push((its, role, ca.key_digest()));
        }
        let cross = active.cross_certify(root.cert_der(), self.serial())?;
        save_certificates(&dir.cross(&name), &[cross], Existing::Replace)?;
        if let Some(before) = slots.active_root() {
            let mut vouched = crosses(&dir, &before.name)?;
            vouched.push(root.cross_certify(active.cert_der(), self.serial())?);
            save_certificates(&dir.cross(&before.name), &vouched, Existing::Replace)?;
        }
        save_list(&dir.list(&name), &make_root_list(&root, None, self.clock.now_ms())?, Existing::Replace)?;
        save_certificates(&dir.certificate(&name), &[root.cert_der().to_vec()], Existing::Replace)?;
        save(&dir, slots.with_root(&name, root.pin(), issuing))?;
        Ok(name)
    }

    /// Replaces a key. What the old one made is refused once the gateway has taken over the new one.
    ///
    /// # Errors
    /// [`SignerError::NoKey`] when there is none to replace.
    pub fn replace(&self, own: OwnKey) -> Result<(), SignerError> {
        let (dir, path) = (self.dir(), own.file(self.data_dir));
        // With the passphrase that opens the others, or the next start would open only some of them.
        file::load_own_key(&path, self.passphrase)?;
        let (_, pkcs8) = generate()?;
        file::save_key(&path, &pkcs8, self.passphrase, self.entropy, Existing::Replace)?;
        dir.save_slots(&dir.slots()?.touched())
    }

    /// Makes the key of an issuing CA that the holder of the root's key is to certify elsewhere. Gives the name that it is to have,
    /// and the request: the active root, and a CSR, PEM.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn request(&self, role: Role) -> Result<(String, String), SignerError> {
        let (dir, slots) = (self.dir(), self.dir().slots()?);
        let name = slots.free_name(role.as_str());
        let key = self.key(&name)?;
        let csr = pki::csr::request(&*key).map_err(|source| SignerError::Csr { path: dir.key(&name), source })?;
        let root = pki::to_pem(CERTIFICATE, &root_certificate(self.data_dir)?);
        Ok((name, root + &pki::to_pem(REQUEST, &csr)))
    }

    /// Takes the certificate of an issuing CA whose key [`Making::request`] made. Gives its name.
    ///
    /// # Errors
    /// [`SignerError::NotSigned`] when it is for another key than the one that was made last for its role.
    pub fn certified(&self, der: &[u8], path: &Path) -> Result<String, SignerError> {
        let (dir, slots) = (self.dir(), self.dir().slots()?);
        let root = root_certificate(self.data_dir)?;
        let checked = pki::check_issuing(&root, der);
        let (role, domain) = checked.map_err(|source| SignerError::Ca { path: path.to_owned(), source })?;
        if domain != *self.domain {
            return Err(SignerError::Domain { path: path.to_owned(), found: domain, wanted: self.domain.clone() });
        }
        let name = slots.free_name(role.as_str());
        let wanted = dir.key(&name);
        let made = if files::exists(&wanted) { Some(self.key(&name)?) } else { None };
        let digest = |key: &Arc<dyn CaKey>| pki::SubjectKey::from_raw(key.algorithm(), key.public_key());
        let key = made.as_ref().and_then(|key| digest(key).ok()).map(|key| key.digest());
        let info =
            pki::ca_info(der).map_err(|source| SignerError::Ca { path: path.to_owned(), source: source.into() })?;
        if key != Some(info.key) {
            return Err(SignerError::NotSigned { path: path.to_owned(), wanted });
        }
        save_certificates(&dir.certificate(&name), &[der.to_vec()], Existing::Replace)?;
        save(&dir, slots.with_issuing(name.clone(), role, info.key))?;
        Ok(name)
    }
}

/// Takes a step of a slot. Gives the slots as they are after it.
///
/// # Errors
/// [`SignerError::Slots`] when it is not the next step, [`SignerError::NotVouched`].
pub fn step(data_dir: &Path, name: &str, step: SlotStep) -> Result<Slots, SignerError> {
    let dir = CaDir::of(data_dir);
    let slots = dir.slots()?;
    if step == SlotStep::Publish && slots.root(name).is_some() {
        vouched(&dir, &slots, name)?;
    }
    save(&dir, slots.step(name, step))
}

/// Looks whether the active root vouches for a root: otherwise nobody who believes that one alone would ever take it.
fn vouched(dir: &CaDir, slots: &Slots, name: &str) -> Result<(), SignerError> {
    let path = dir.cross(name);
    let not = || SignerError::NotVouched { path: path.clone(), root: name.to_owned() };
    let active = slots.active_root().ok_or_else(not)?;
    let (active, root) = (load_certificate(&dir.certificate(&active.name))?, load_certificate(&dir.certificate(name))?);
    let bad = |source| SignerError::Root { path: dir.certificate(name), source };
    let (domain, info) = (pki::root_domain(&active).map_err(bad)?, pki::ca_info(&active));
    let from = info.map_err(|source| SignerError::Ca { path: path.clone(), source: source.into() })?.not_after;
    let anchors = TrustAnchors::new(&domain, &[&active], from).map_err(bad)?;
    let crosses = if files::exists(&path) { all_of(CERTIFICATE, &path)? } else { Vec::new() };
    let vouches = |cross: &Vec<u8>| {
        let at = pki::ca_info(cross).map_or(from, |info| info.not_after);
        pki::verify_cross(&root, cross, &anchors, at).is_ok()
    };
    if crosses.iter().any(vouches) { Ok(()) } else { Err(not()) }
}

fn save(dir: &CaDir, slots: Result<Slots, crate::core::slots::SlotError>) -> Result<Slots, SignerError> {
    let slots = slots.map_err(|source| SignerError::Slots { path: dir.slots_file(), source })?;
    dir.save_slots(&slots)?;
    Ok(slots)
}
