//! New roots and issuing CAs, and the steps of their slots, as operator commands on the authority's files. A running gateway
//! loads the changes at its next reload.
//!
//! Each change ends with an atomic replacement of `authority.toml`. A command interrupted before that leaves only files that
//! `authority.toml` does not name; when it is repeated it uses them.

use std::{path::Path, sync::Arc};

use pki::{CaKey, Role, Root, SoftwareKey, TrustAnchors};

use super::{
    CERTIFICATE, CaBuilder, CaDir, REQUEST, SignerError, all_of,
    create::{OwnKey, generate, new_root},
    file, load_certificate,
    roots::{crosses, make_root_list, root_certificate},
    save_certificates, save_list,
};
use crate::{
    core::slots::{SlotStep, Slots},
    ports::files::{self, Existing},
};

impl CaBuilder {
    /// The key for a new slot: the one that an interrupted command left, or a new one.
    fn key(&self, slot: &str) -> Result<Arc<dyn CaKey>, SignerError> {
        let path = self.dir().key(slot);
        if files::exists(&path) {
            let pkcs8 = file::load_key(&path, &self.passphrase)?;
            let key = SoftwareKey::from_pkcs8(&pkcs8).map_err(|source| SignerError::Key { path, source })?;
            return Ok(Arc::new(key));
        }
        let (key, pkcs8) = generate()?;
        self.save_key(&path, &pkcs8, Existing::Keep)?;
        Ok(key)
    }

    /// Creates an issuing CA below `root`, the active one. Returns its slot name.
    pub fn issuing(&self, role: Role, root: &Root) -> Result<String, SignerError> {
        let (dir, slots) = (self.dir(), self.dir().slots()?);
        let name = slots.free_name(role.as_str());
        let ca = root.issue_ca(role, self.key(&name)?, self.serial(), self.clock.now())?;
        save_certificates(&dir.certificate(&name), &[ca.cert_der().to_vec()], Existing::Replace)?;
        save(&dir, slots.with_issuing(name.clone(), role, ca.key_digest()))?;
        Ok(name)
    }

    /// Creates a root with an issuing CA for each role. It and the active root cross-certify each other, so a client that has either
    /// can verify the other. Returns its slot name.
    pub fn root(&self, active: &Root) -> Result<String, SignerError> {
        let (dir, slots, now) = (self.dir(), self.dir().slots()?, self.clock.now());
        let name = slots.free_name("root");
        let root = new_root(&self.domain, self.key(&name)?, self.serial(), now)?;
        let mut issuing = Vec::new();
        for role in Role::ALL {
            let slot = slots.free_name(role.as_str());
            let ca = root.issue_ca(role, self.key(&slot)?, self.serial(), now)?;
            save_certificates(&dir.certificate(&slot), &[ca.cert_der().to_vec()], Existing::Replace)?;
            issuing.push((slot, role, ca.key_digest()));
        }
        let cross = active.cross_certify(root.cert_der(), self.serial())?;
        save_certificates(&dir.cross(&name), &[cross], Existing::Replace)?;
        if let Some(before) = slots.active_root() {
            let mut cross = crosses(&dir, &before.name)?;
            cross.push(root.cross_certify(active.cert_der(), self.serial())?);
            save_certificates(&dir.cross(&before.name), &cross, Existing::Replace)?;
        }
        save_list(&dir.list(&name), &make_root_list(&root, None, self.clock.now_ms())?, Existing::Replace)?;
        save_certificates(&dir.certificate(&name), &[root.cert_der().to_vec()], Existing::Replace)?;
        save(&dir, slots.with_root(&name, root.pin(), issuing))?;
        Ok(name)
    }

    /// Replaces a key. The gateway refuses what the old one signed or encrypted once it has loaded the new one.
    ///
    /// # Errors
    /// [`SignerError::NoKey`] if there is none to replace.
    pub fn replace(&self, own: OwnKey) -> Result<(), SignerError> {
        let (dir, path) = (self.dir(), own.file(&self.data_dir));
        // the passphrase must be that of the other keys, or the next start could not decrypt all of them
        file::load_own_key(&path, &self.passphrase)?;
        let (_, pkcs8) = generate()?;
        self.save_key(&path, &pkcs8, Existing::Replace)?;
        dir.save_slots(&dir.slots()?.touched())
    }

    /// Generates the key of an issuing CA to be signed where the root's key is. Returns its future slot name and the request, PEM: the
    /// active root's certificate and a CSR.
    pub fn request(&self, role: Role) -> Result<(String, String), SignerError> {
        let (dir, slots) = (self.dir(), self.dir().slots()?);
        let name = slots.free_name(role.as_str());
        let key = self.key(&name)?;
        let csr = pki::csr::request(&*key).map_err(|source| SignerError::Csr { path: dir.key(&name), source })?;
        let root = pki::to_pem(CERTIFICATE, &root_certificate(&self.data_dir)?);
        Ok((name, root + &pki::to_pem(REQUEST, &csr)))
    }

    /// Adds the issuing CA whose key [`CaBuilder::request`] generated. Returns its slot name.
    ///
    /// # Errors
    /// [`SignerError::NotSigned`] if the certificate is not for the key that was generated last for its role.
    pub fn certified(&self, der: &[u8], path: &Path) -> Result<String, SignerError> {
        let (dir, slots) = (self.dir(), self.dir().slots()?);
        let root = root_certificate(&self.data_dir)?;
        let checked = pki::check_issuing(&root, der);
        let (role, domain) = checked.map_err(|source| SignerError::Ca { path: path.to_owned(), source })?;
        if domain != self.domain {
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

/// Takes a step of a slot. Returns the slots after it.
///
/// # Errors
/// [`SignerError::Slots`] if it is not the slot's next step, [`SignerError::NotVouched`] if a root to publish has no cross certificate.
pub fn step(data_dir: &Path, name: &str, step: SlotStep) -> Result<Slots, SignerError> {
    let dir = CaDir::of(data_dir);
    let slots = dir.slots()?;
    if step == SlotStep::Publish && slots.root(name).is_some() {
        check_cross_certified(&dir, &slots, name)?;
    }
    save(&dir, slots.step(name, step))
}

/// Checks that the active root has cross-certified a root. Otherwise clients that trust only the active root could not verify it.
fn check_cross_certified(dir: &CaDir, slots: &Slots, name: &str) -> Result<(), SignerError> {
    let path = dir.cross(name);
    let not = || SignerError::NotVouched { path: path.clone(), root: name.to_owned() };
    let active = slots.active_root().ok_or_else(not)?;
    let (active, root) = (load_certificate(&dir.certificate(&active.name))?, load_certificate(&dir.certificate(name))?);
    let bad = |source| SignerError::Root { path: dir.certificate(name), source };
    let (domain, info) = (pki::root_domain(&active).map_err(bad)?, pki::ca_info(&active));
    let from = info.map_err(|source| SignerError::Ca { path: path.clone(), source: source.into() })?.not_after;
    let anchors = TrustAnchors::new(&domain, &[&active], from).map_err(bad)?;
    let crosses = if files::exists(&path) { all_of(CERTIFICATE, &path)? } else { Vec::new() };
    let valid = |cross: &Vec<u8>| {
        let at = pki::ca_info(cross).map_or(from, |info| info.not_after);
        pki::verify_cross(&root, cross, &anchors, at).is_ok()
    };
    if crosses.iter().any(valid) { Ok(()) } else { Err(not()) }
}

fn save(dir: &CaDir, slots: Result<Slots, crate::core::slots::SlotError>) -> Result<Slots, SignerError> {
    let slots = slots.map_err(|source| SignerError::Slots { path: dir.slots_file(), source })?;
    dir.save_slots(&slots)?;
    Ok(slots)
}
