//! Installs a new certificate. After each step either the old or the new identity is complete.

use std::fs;
use std::path::Path;

use super::error::{StoreError, failed};
use super::read::{read, to_json};
use super::{BUNDLE, CERT, CHAIN, CURRENT, Credential, FACTS, GENERATIONS, KEY, Keystore};
use crate::core::key::{KeyFault, PrivateKey};
use crate::core::receive::Issued;
use crate::core::record::{Facts, VERSION};
use crate::core::target::Address;
use crate::platform::{self, Access};

impl Keystore {
    /// Makes `issued`, from the gateway at `gateway`, the identity in use.
    ///
    /// # Errors
    /// When a step fails. Either the old or the new identity is then in use.
    pub fn install(&self, issued: &Issued, key: &PrivateKey, gateway: &Address) -> Result<Credential, StoreError> {
        if key.digest() != issued.key {
            return Err(StoreError::Key(KeyFault::Library("the certificate is for another key".into())));
        }
        let facts = facts(issued, gateway, self.wanted_name(issued.identity.name.as_str())?);
        let before = self.current()?;
        let folder = self.generation(&issued.serial);
        if before.as_ref() != Some(&folder) {
            self.write_generation(&folder, issued, key, &facts)?;
        }
        // The roots first: the new bundle still contains the old root while a root is being replaced, and in the other order there
        // would be a moment with a certificate but without its root.
        self.replace(BUNDLE, &issued.bundle, Access::Public)?;
        let target = Path::new(GENERATIONS).join(issued.serial.hex());
        self.replace_link(CURRENT, &target)?;
        self.publish()?;
        self.change_state(&facts, |state| {
            state.trouble = None;
            state.last_contact = Some(issued.time.secs());
        })?;
        self.forget_request()?;
        self.prune(&folder, before.as_deref());
        self.credential()?.ok_or_else(|| StoreError::Damaged {
            path: self.path(CURRENT),
            why: "it vanished while the certificate was installed".into(),
        })
    }

    /// The name of the original request, unless it was assigned.
    fn wanted_name(&self, given: &str) -> Result<Option<String>, StoreError> {
        let asked = self.pending()?.and_then(|pending| pending.name);
        let wanted = match asked {
            Some(asked) => Some(asked),
            None => self.credential()?.and_then(|before| before.facts.wanted_name),
        };
        Ok(wanted.filter(|wanted| wanted != given))
    }

    /// Writes the folder of one certificate under a temporary name, and renames it after everything is synced.
    fn write_generation(
        &self,
        folder: &Path,
        issued: &Issued,
        key: &PrivateKey,
        facts: &Facts,
    ) -> Result<(), StoreError> {
        let all = self.path(GENERATIONS);
        self.disk.make_folder(&all).map_err(failed("create the folder", &all))?;
        let draft = all.join("unfinished");
        // Removes the temporary folder of an interrupted attempt, and a generation that never became current.
        for left in [draft.as_path(), folder] {
            self.disk.remove_folder(left).map_err(failed("remove", left))?;
        }
        self.disk.make_folder(&draft).map_err(failed("create the folder", &draft))?;
        let full_chain = format!("{}{}", issued.leaf, issued.chain);
        let facts = to_json(facts);
        let key = key.to_pem();
        let files = [
            (KEY, key.as_str(), Access::Secret),
            (CERT, &full_chain, Access::Public),
            (CHAIN, &issued.chain, Access::Public),
            (FACTS, &facts, Access::Public),
        ];
        for (name, text, access) in files {
            let path = draft.join(name);
            self.disk.write_new(&path, text.as_bytes(), access).map_err(failed("write", &path))?;
        }
        self.sync(&draft)?;
        self.disk.rename(&draft, folder).map_err(failed("rename to", folder))?;
        self.sync(&all)
    }

    /// Completes an interrupted installation: creates missing files at the top of the folder.
    pub fn mend(&self) -> Result<(), StoreError> {
        if self.current()?.is_some() { self.publish() } else { Ok(()) }
    }

    /// Puts the files of the current generation at the top of the folder.
    fn publish(&self) -> Result<(), StoreError> {
        let Some(folder) = self.current()? else { return Ok(()) };
        // Key and certificate one after the other: on systems without links this keeps the time of a mismatch short.
        for name in [CHAIN, KEY, CERT] {
            if platform::TOP_LEVEL_IS_LINKS {
                let target = Path::new(CURRENT).join(name);
                if platform::follow(&self.path(name)).ok().as_ref() != Some(&target) {
                    self.replace_link(name, &target)?;
                }
            } else {
                let access = if name == KEY { Access::Secret } else { Access::Public };
                let text = read(&folder.join(name))?.unwrap_or_default();
                self.replace(name, &text, access)?;
            }
        }
        Ok(())
    }

    /// Removes all generations but the current and the previous one. Errors are ignored.
    fn prune(&self, current: &Path, before: Option<&Path>) {
        let Ok(entries) = fs::read_dir(self.path(GENERATIONS)) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path != current && Some(path.as_path()) != before {
                let _ = self.disk.remove_folder(&path);
            }
        }
    }
}

/// The facts of a certificate.
fn facts(issued: &Issued, gateway: &Address, wanted_name: Option<String>) -> Facts {
    Facts {
        version: VERSION,
        identity: issued.identity.to_string(),
        role: issued.identity.role.as_str().to_owned(),
        name: issued.identity.name.as_str().to_owned(),
        trust_domain: issued.identity.domain.as_str().to_owned(),
        id: issued.id.clone(),
        serial: issued.serial.hex(),
        key: issued.key.hex(),
        not_before: issued.life.not_before.secs(),
        not_after: issued.life.not_after.secs(),
        renew_after: issued.life.renew_after.secs(),
        renew_by: issued.life.renew_by.secs(),
        gateway: gateway.to_string(),
        manage: issued.manage.to_string(),
        pin: issued.pin.hex(),
        received: issued.time.secs(),
        order: issued.order.number(),
        wanted_name,
    }
}
