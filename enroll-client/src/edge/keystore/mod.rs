//! The identity folder.
//!
//! ```text
//! DIR/                        0700
//!   cert.pem                  -> current/cert.pem: the leaf, then the issuing CA, as servers and curl want it
//!   key.pem                   -> current/key.pem: PKCS#8, 0600
//!   chain.pem                 -> current/chain.pem: the issuing CA alone
//!   bundle.pem                the roots to trust
//!   state.json                what is known, for other programs (record::State)
//!   attestation.json          how the machine proves itself, and where its keys are (Attestation)
//!   current                   -> generations/<serial>
//!   generations/<serial>/     cert.pem, key.pem, chain.pem, identity.json; this one and the one before. Of a key in the TPM
//!                             key.pem holds what this TPM alone can use (TSS2 PRIVATE KEY)
//!   next-key.pem              the key of a request that is not finished, 0600
//!   pending.json              that request, when it is one to join, 0600
//!   ssh/                      0700: SSH keys and certificates, and which host keys have one (sshcert)
//!   hooks.d/                  programs to run after there is a new certificate
//!   lock                      held while joining or renewing
//!   state.lock                held while state.json is read and written
//!   run.lock                  held by `lychgate run`, with its process in it
//! ```
//!
//! A new certificate becomes the current one by one rename. A program that opens `cert.pem` and `key.pem` gets a matching
//! pair unless that rename falls between its two opens; one that must rule this out resolves `current` once and opens both
//! there. Everything is on the disk before the new certificate is used for the first time.

mod credential;
mod disk;
mod error;
mod install;
mod lock;
mod read;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pki::{Identity, KeyDigest, Order, Serial, UnixTime};

pub use self::credential::Credential;
pub use self::disk::{Disk, OsDisk};
pub use self::error::StoreError;
use self::error::failed;
pub use self::lock::Lock;
pub use self::read::read_text;
use self::read::{read, read_certificates, read_json, read_key, to_json, trusted};
use crate::core::attestation::{Attestation, KeyPlace};
use crate::core::key::PrivateKey;
use crate::core::record::{Denied, Facts, Pending, State};
use crate::core::renew::Life;
use crate::core::target::Address;
use crate::edge::entropy;
use crate::evidence;
use crate::platform::{self, Access};

/// The leaf and its issuing CA.
pub const CERT: &str = "cert.pem";
/// The private key.
pub const KEY: &str = "key.pem";
/// The issuing CA.
pub const CHAIN: &str = "chain.pem";
/// The trusted roots.
pub const BUNDLE: &str = "bundle.pem";
/// See [`State`].
pub const STATE: &str = "state.json";
const FACTS: &str = "identity.json";
const NEXT_KEY: &str = "next-key.pem";
const PENDING: &str = "pending.json";
const ATTESTATION: &str = "attestation.json";
const CURRENT: &str = "current";
const GENERATIONS: &str = "generations";
const SSH: &str = "ssh";
/// The gateway's last reply about its SSH CAs, in the folder of SSH keys.
pub const SSH_CAS: &str = "ca.json";
const HOOKS: &str = super::hooks::FOLDER;

/// The folder.
#[derive(Clone)]
pub struct Keystore {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Keystore {
    /// The folder `dir`, which need not exist.
    #[must_use]
    pub fn at(dir: PathBuf) -> Self {
        Self::on(dir, Arc::new(OsDisk))
    }

    /// On another disk, for tests.
    #[must_use]
    pub fn on(dir: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { dir, disk }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The text of a file in the folder, if it is there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn text(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(read(&self.dir.join(name))?.map(|text| text.to_string()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Creates the folder if it does not exist.
    pub fn prepare(&self) -> Result<(), StoreError> {
        self.disk.make_folder(&self.dir).map_err(failed("create the folder", &self.dir))
    }

    /// Checks, before anything is read, that no other user may write to the folder and the files in it. Root accepts files of the
    /// folder's owner, but runs no program of theirs: see [`Keystore::trusted_text`] and [`platform::may_run`].
    ///
    /// # Errors
    /// When another user may write.
    pub fn check(&self) -> Result<(), StoreError> {
        let guest_of = platform::guest_of(&self.dir);
        let all = [CURRENT, GENERATIONS, BUNDLE, STATE, ATTESTATION, PENDING, NEXT_KEY, SSH, KEY, CERT, CHAIN, HOOKS];
        for path in std::iter::once(self.dir.clone()).chain(all.map(|name| self.path(name))) {
            trusted(&path, guest_of)?;
        }
        Ok(())
    }

    /// The text of a configuration file in the folder, if it exists. It must belong to root or to our user.
    ///
    /// # Errors
    /// When another user may have written it, or it cannot be read.
    pub fn trusted_text(&self, name: &str) -> Result<Option<String>, StoreError> {
        trusted(&self.path(name), None)?;
        self.text(name)
    }

    /// Takes the lock of the folder, which must exist, waiting for it up to `patience`.
    ///
    /// # Errors
    /// When another process keeps it for longer.
    pub async fn lock(&self, patience: std::time::Duration) -> Result<Lock, StoreError> {
        lock::take(&self.dir, patience).await
    }

    /// The identity in use, if there is one.
    ///
    /// # Errors
    /// When its files cannot be read or are damaged, or others can read the key.
    pub fn credential(&self) -> Result<Option<Credential>, StoreError> {
        let Some(folder) = self.current()? else { return Ok(None) };
        let facts_path = folder.join(FACTS);
        let damaged = |path: &Path, why: &str| StoreError::Damaged { path: path.to_owned(), why: why.to_owned() };
        let facts: Facts = read_json(&facts_path)?.ok_or_else(|| damaged(&facts_path, "it is missing"))?;
        let key_path = folder.join(KEY);
        let key = read_key(&key_path)?.ok_or_else(|| damaged(&key_path, "it is missing"))?;
        if key.digest().hex() != facts.key {
            return Err(damaged(&key_path, "it is not the key of the certificate beside it"));
        }
        let mut chain = read_certificates(&folder.join(CERT))?;
        let leaf = chain.remove(0);
        let roots = read_certificates(&self.path(BUNDLE))?;

        let field = |name: &str| damaged(&facts_path, &format!("`{name}` does not parse"));
        let time = UnixTime::new;
        Ok(Some(Credential {
            identity: Identity::parse(&facts.identity).map_err(|_| field("identity"))?,
            serial: Serial::parse_hex(&facts.serial).map_err(|_| field("serial"))?,
            life: Life {
                not_before: time(facts.not_before),
                not_after: time(facts.not_after),
                renew_after: time(facts.renew_after),
                renew_by: time(facts.renew_by),
            },
            gateway: Address::parse(&facts.gateway, 443).map_err(|_| field("gateway"))?,
            manage: Address::parse(&facts.manage, 443).map_err(|_| field("manage"))?,
            pin: KeyDigest::parse_hex(&facts.pin).map_err(|_| field("pin"))?,
            order: Order::new(facts.order).max(self.order_of_ssh_cas()),
            key,
            leaf,
            chain,
            roots,
            facts,
        }))
    }

    /// The order of the last reply about SSH CAs, which was checked when it was received.
    fn order_of_ssh_cas(&self) -> Order {
        #[derive(serde::Deserialize)]
        struct Kept {
            #[serde(default)]
            order: u64,
        }
        let kept: Option<Kept> = read_json(&self.ssh_file(SSH_CAS)).unwrap_or_default();
        Order::new(kept.map_or(0, |kept| kept.order))
    }

    /// The folder of the certificate in use.
    fn current(&self) -> Result<Option<PathBuf>, StoreError> {
        let pointer = self.path(CURRENT);
        let target = match platform::follow(&pointer) {
            Ok(target) => target,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("read", &pointer)(e)),
        };
        // Only links of the form that we write are followed.
        let serial = target.file_name().and_then(|name| name.to_str()).and_then(|name| Serial::parse_hex(name).ok());
        match serial {
            Some(serial) => Ok(Some(self.generation(&serial))),
            None => Err(StoreError::Damaged { path: pointer, why: "it does not point to a generation".into() }),
        }
    }

    /// The serial number of the certificate in use, from the symbolic link alone.
    #[must_use]
    pub fn serial_in_use(&self) -> Option<Serial> {
        let folder = self.current().ok()??;
        Serial::parse_hex(folder.file_name()?.to_str()?).ok()
    }

    fn generation(&self, serial: &Serial) -> PathBuf {
        self.path(GENERATIONS).join(serial.hex())
    }

    /// The contents of `state.json`, if it exists and is about this certificate.
    #[must_use]
    pub fn state(&self, facts: &Facts) -> State {
        // A damaged or outdated state.json is ignored: it has only information about the last contact.
        match read_json::<State>(&self.path(STATE)) {
            Ok(Some(state)) => State { facts: facts.clone(), ..state },
            Ok(None) | Err(_) => State {
                facts: facts.clone(),
                clock_offset: 0,
                last_contact: None,
                trouble: None,
                proxy: None,
                renaming: None,
                evidence: Vec::new(),
                run: None,
            },
        }
    }

    /// Changes `state.json`. Several processes do so, each changing other fields, so it is read and written under a lock.
    pub fn change_state(&self, facts: &Facts, change: impl FnOnce(&mut State)) -> Result<(), StoreError> {
        let _lock = lock::take_state(&self.dir)?;
        let mut state = self.state(facts);
        change(&mut state);
        self.replace(STATE, &to_json(&state), Access::Public)
    }

    /// How the machine proves itself, and where its keys are.
    ///
    /// # Errors
    /// When its file cannot be read or is damaged.
    pub fn attestation(&self) -> Result<Attestation, StoreError> {
        Ok(read_json(&self.path(ATTESTATION))?.unwrap_or_default())
    }

    /// Changes `attestation.json`, under the lock of `state.json`. The folder must exist.
    pub fn change_attestation(&self, change: impl FnOnce(&mut Attestation)) -> Result<(), StoreError> {
        let _lock = lock::take_state(&self.dir)?;
        let before = self.attestation()?;
        let mut after = before.clone();
        change(&mut after);
        if after == before { Ok(()) } else { self.replace(ATTESTATION, &to_json(&after), Access::Public) }
    }

    /// The unfinished request to join.
    ///
    /// # Errors
    /// When its file cannot be read or is damaged.
    pub fn pending(&self) -> Result<Option<Pending>, StoreError> {
        read_json(&self.path(PENDING))
    }

    /// Records the unfinished request.
    pub fn save_pending(&self, pending: &Pending) -> Result<(), StoreError> {
        self.replace(PENDING, &to_json(pending), Access::Secret)
    }

    /// The key of the unfinished request or renewal. It is on the disk before the request is sent, and is used again after a lost
    /// reply, so that the gateway recognises it and sends the same certificate.
    ///
    /// A key in the TPM takes as long as that to make: the caller must then be a thread that may block.
    pub fn next_key(&self) -> Result<PrivateKey, StoreError> {
        let (path, place) = (self.path(NEXT_KEY), self.attestation()?.key);
        let in_use = self.current()?.map(|folder| read_key(&folder.join(KEY))).transpose()?.flatten();
        match read_key(&path) {
            // If it is the key in use, an installation was interrupted just before its end. A key must not be certified twice.
            Ok(Some(key)) if in_use.is_none_or(|used| used.digest() != key.digest()) && key.place() == place => Ok(key),
            // A damaged key (the disk was full) was never sent: it is written and synced before.
            Ok(_) | Err(StoreError::Damaged { .. }) => self.fresh_next_key(),
            Err(other) => Err(other),
        }
    }

    /// Replaces the key of the unfinished request by a new one.
    pub fn fresh_next_key(&self) -> Result<PrivateKey, StoreError> {
        let key = match self.attestation()?.key {
            KeyPlace::File => entropy::private_key(),
            KeyPlace::Tpm => evidence::tpm::make_key(),
        };
        let key = key.map_err(StoreError::Key)?;
        self.replace(NEXT_KEY, &key.to_pem(), Access::Secret)?;
        Ok(key)
    }

    /// Records that a person has denied the request, and deletes its token. The key is kept, because an approver may take the denial
    /// back.
    pub fn deny_request(&self, pending: &Pending, denied: Denied) -> Result<(), StoreError> {
        self.save_pending(&Pending { token: None, trouble: None, denied: Some(denied), ..pending.clone() })
    }

    /// Takes the lock of `lychgate run`.
    ///
    /// # Errors
    /// When another process holds it; with its process id.
    pub async fn running(&self) -> Result<Lock, StoreError> {
        lock::take_running(&self.dir).await
    }

    /// The process id of the `lychgate run` of this folder, if there is one; 0 when the id is unknown.
    #[must_use]
    pub fn who_runs(&self) -> Option<u32> {
        lock::who_runs(&self.dir)
    }

    /// Deletes the unfinished request, and keeps its key.
    pub fn forget_pending(&self) -> Result<(), StoreError> {
        let path = self.path(PENDING);
        self.disk.remove_file(&path).map_err(failed("remove", &path))?;
        self.sync(&self.dir)
    }

    /// Deletes the unfinished request and its key.
    pub fn forget_request(&self) -> Result<(), StoreError> {
        for name in [PENDING, NEXT_KEY] {
            let path = self.path(name);
            self.disk.remove_file(&path).map_err(failed("remove", &path))?;
        }
        self.sync(&self.dir)
    }

    /// Deletes the identity: every file of ours except the hooks.
    pub fn clear(&self) -> Result<(), StoreError> {
        // The link `current` first: without it there is no identity, even if other files cannot be removed.
        for name in [CURRENT, CERT, KEY, CHAIN, STATE, ATTESTATION, PENDING, NEXT_KEY, BUNDLE] {
            for path in [self.path(name), self.path(&format!(".{name}.new"))] {
                self.disk.remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        for all in [GENERATIONS, SSH].map(|name| self.path(name)) {
            self.disk.remove_folder(&all).map_err(failed("remove", &all))?;
        }
        self.sync(&self.dir)
    }

    /// The folder of SSH keys and certificates, created if it does not exist.
    pub fn ssh_folder(&self) -> Result<PathBuf, StoreError> {
        let path = self.path(SSH);
        self.disk.make_folder(&path).map_err(failed("create the folder", &path))?;
        Ok(path)
    }

    /// A file among the SSH keys and certificates, which need not exist.
    #[must_use]
    pub fn ssh_file(&self, name: &str) -> PathBuf {
        self.path(SSH).join(name)
    }

    /// Renames a key pair from temporary names to its final ones, the public key first.
    pub fn adopt(&self, made: [&Path; 2], places: [&Path; 2]) -> Result<(), StoreError> {
        for (from, to) in made.into_iter().zip(places).rev() {
            self.disk.rename(from, to).map_err(failed("replace", to))?;
        }
        self.sync(places[0].parent().unwrap_or(&self.dir))
    }

    /// Removes a file, if it exists.
    pub fn remove(&self, path: &Path) -> Result<(), StoreError> {
        self.disk.remove_file(path).map_err(failed("remove", path))
    }

    /// Atomically replaces a file at the top of the folder.
    fn replace(&self, name: &str, text: &str, access: Access) -> Result<(), StoreError> {
        self.replace_at(&self.path(name), text, access)
    }

    /// Atomically replaces a file in any existing folder.
    pub fn replace_at(&self, path: &Path, text: &str, access: Access) -> Result<(), StoreError> {
        let folder = path.parent().unwrap_or(&self.dir);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = folder.join(format!(".{name}.new"));
        self.disk.remove_file(&draft).map_err(failed("remove", &draft))?;
        self.disk.write_new(&draft, text.as_bytes(), access).map_err(failed("write", path))?;
        self.disk.rename(&draft, path).map_err(failed("replace", path))?;
        self.sync(folder)
    }

    /// Atomically replaces a symbolic link at the top of the folder.
    fn replace_link(&self, name: &str, target: &Path) -> Result<(), StoreError> {
        let (path, draft) = (self.path(name), self.path(&format!(".{name}.new")));
        self.disk.remove_file(&draft).map_err(failed("remove", &draft))?;
        self.disk.link(target, &draft).map_err(failed("write", &path))?;
        self.disk.rename(&draft, &path).map_err(failed("replace", &path))?;
        self.sync(&self.dir)
    }

    fn sync(&self, folder: &Path) -> Result<(), StoreError> {
        self.disk.sync_folder(folder).map_err(failed("make durable", folder))
    }
}

#[cfg(test)]
mod tests;
