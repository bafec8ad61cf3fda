//! The identity folder.
//!
//! ```text
//! DIR/                        0700
//!   cert.pem                  -> current/cert.pem: the leaf, then the issuing CA, as servers and curl want it
//!   key.pem                   -> current/key.pem: PKCS#8, 0600
//!   chain.pem                 -> current/chain.pem: the issuing CA alone
//!   bundle.pem                the roots to trust
//!   state.json                what is known, for other programs (record::State)
//!   current                   -> generations/<serial>
//!   generations/<serial>/     cert.pem, key.pem, chain.pem, identity.json; this one and the one before
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

mod disk;
mod lock;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pki::{Identity, KeyDigest, Order, Serial, TrustDomain, UnixTime};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

pub use disk::{Disk, OsDisk};
pub use lock::Lock;

use crate::core::key::{KeyFault, PrivateKey};
use crate::core::receive::{Before, Issued};
use crate::core::record::{Denied, Facts, Pending, State, VERSION};
use crate::core::renew::Life;
use crate::core::target::Address;
use crate::platform::{self, Access};
use crate::text::report::{Complaint, Exit};

/// The leaf and its issuing CA.
pub const CERT: &str = "cert.pem";
/// The private key.
pub const KEY: &str = "key.pem";
/// The issuing CA.
pub const CHAIN: &str = "chain.pem";
/// The trusted roots.
pub const BUNDLE: &str = "bundle.pem";
/// What is known, for other programs.
pub const STATE: &str = "state.json";
const FACTS: &str = "identity.json";
const NEXT_KEY: &str = "next-key.pem";
const PENDING: &str = "pending.json";
const CURRENT: &str = "current";
const GENERATIONS: &str = "generations";
const SSH: &str = "ssh";
/// What the gateway last said of its SSH CAs, in the folder of SSH keys.
pub const SSH_CAS: &str = "ca.json";
const HOOKS: &str = super::hooks::FOLDER;

/// Largest file of the folder that is read: a bundle of some hundred roots.
const FILE_MAX: u64 = 1024 * 1024;

/// What can be wrong with the folder.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {action} `{path}`: {cause}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file is there but makes no sense.
    #[error("`{path}` is damaged: {why}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A key that others can read is no secret.
    #[error("others can read the private key `{path}` ({mode})")]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: String,
    },
    /// Somebody else may have put it there.
    #[error("`{path}` is not believed: {why}")]
    Distrusted {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another process is at work here.
    #[error("another lychgate is joining or renewing in `{path}`")]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// Another `lychgate run` is at work here.
    #[error("`lychgate run` runs here already (process {pid})")]
    Runs {
        /// Its process.
        pid: u32,
    },
    /// A key could not be made.
    #[error("cannot make a key: {0}")]
    Key(KeyFault),
}

impl From<StoreError> for Complaint {
    fn from(error: StoreError) -> Self {
        let what = error.to_string();
        let hint = match error {
            StoreError::Io { cause, .. } => match cause.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free some space and try again; the identity in use is untouched".to_owned()
                }
                io::ErrorKind::PermissionDenied => {
                    "run it as the user the folder belongs to, or name another folder with --dir".to_owned()
                }
                io::ErrorKind::ReadOnlyFilesystem => "mount it writable, or name another folder with --dir".to_owned(),
                _ => return Self::new(Exit::Files, "files", what),
            },
            StoreError::Damaged { path, .. } => format!(
                "restore it from a backup, or move `{}` away and join again",
                path.parent().unwrap_or(&path).display()
            ),
            StoreError::Exposed { path, .. } => {
                format!(
                    "somebody may have copied it: rejoin with a new key, or if you are sure: {}",
                    platform::exposure_hint(&path)
                )
            }
            StoreError::Distrusted { path, .. } => format!(
                "whoever may write there decides what runs here: give it to the user who runs this, and `chmod go-w {}`",
                path.display()
            ),
            StoreError::Busy { .. } => "wait until it has finished, or name another folder with --dir".to_owned(),
            StoreError::Runs { .. } => {
                return Self::new(Exit::Failure, "already-runs", what)
                    .hint("`lychgate status` says how it stands; --dir names another folder");
            }
            StoreError::Key(_) => return Self::new(Exit::Failure, "key", what),
        };
        Self::new(Exit::Files, "files", what).hint(hint)
    }
}

/// An identity as it lies in the folder: a certificate with its key and whom it trusts.
#[derive(Clone, Debug)]
pub struct Credential {
    /// What its file says.
    pub facts: Facts,
    /// Who we are.
    pub identity: Identity,
    /// Its serial number.
    pub serial: Serial,
    /// Its times.
    pub life: Life,
    /// Its key.
    pub key: PrivateKey,
    /// The leaf, DER.
    pub leaf: Vec<u8>,
    /// The issuing CA, DER.
    pub chain: Vec<Vec<u8>>,
    /// The trusted roots, DER.
    pub roots: Vec<Vec<u8>>,
    /// The enroll face.
    pub gateway: Address,
    /// The manage face.
    pub manage: Address,
    /// The root that the certificate leads to: the one pinned at first contact, or one that it vouched for since.
    pub pin: KeyDigest,
    /// The greatest order of what the gateway vouches for that was heard.
    pub order: Order,
}

impl Credential {
    /// The trust domain.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.identity.domain
    }

    /// What was taken of the gateway so far.
    #[must_use]
    pub fn before(&self) -> Before {
        Before { order: self.order, manage: Some(self.manage.clone()) }
    }
}

/// The folder.
#[derive(Clone)]
pub struct Keystore {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
}

/// Attaches what was tried and with what to an error of the system.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |cause| StoreError::Io { action, path, cause }
}

/// The text of a small file, such as a public key; nothing when it is not there.
///
/// # Errors
/// When the system refuses, or it is no text.
pub fn read_text(path: &Path) -> Result<Option<String>, StoreError> {
    Ok(read(path)?.map(|text| text.to_string()))
}

/// What `read` finds: nothing when the file is not there.
fn read(path: &Path) -> Result<Option<Zeroizing<String>>, StoreError> {
    match fs::metadata(path) {
        Ok(about) if about.len() > FILE_MAX => {
            return Err(StoreError::Damaged { path: path.to_owned(), why: format!("it has {} bytes", about.len()) });
        }
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", path)(e)),
    }
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            Err(StoreError::Damaged { path: path.to_owned(), why: "it is not text".into() })
        }
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// Refuses what others may have put there; what is not there, nobody did.
fn trusted(path: &Path, guest_of: Option<u32>) -> Result<(), StoreError> {
    match platform::distrust(path, guest_of) {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(StoreError::Distrusted { path: path.to_owned(), why }),
        // Nothing is there, or nothing that could be read: whoever needs it says why.
        Err(_) => Ok(()),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let Some(text) = read(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| StoreError::Damaged { path: path.to_owned(), why: e.to_string() })
}

fn read_key(path: &Path) -> Result<Option<PrivateKey>, StoreError> {
    let Some(text) = read(path)? else { return Ok(None) };
    if let Some(mode) = platform::exposure(path).map_err(failed("look at", path))? {
        return Err(StoreError::Exposed { path: path.to_owned(), mode });
    }
    PrivateKey::from_pem(&text).map(Some).map_err(|e| StoreError::Damaged { path: path.to_owned(), why: e.to_string() })
}

fn read_certificates(path: &Path) -> Result<Vec<Vec<u8>>, StoreError> {
    let damaged = |why: String| StoreError::Damaged { path: path.to_owned(), why };
    let text = read(path)?.ok_or_else(|| damaged("it is missing".into()))?;
    pki::parse_pem("CERTIFICATE", &text).map_err(|e| damaged(e.to_string()))
}

fn to_json(value: &impl Serialize) -> String {
    // Our own records have no keys that JSON cannot express.
    serde_json::to_string_pretty(value).map(|text| text + "\n").unwrap_or_default()
}

impl Keystore {
    /// The folder `dir`, which need not exist.
    #[must_use]
    pub fn at(dir: PathBuf) -> Self {
        Self::on(dir, Arc::new(OsDisk))
    }

    /// The same on a disk of the caller's.
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

    /// Makes the folder if need be.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn prepare(&self) -> Result<(), StoreError> {
        self.disk.make_folder(&self.dir).map_err(failed("create the folder", &self.dir))
    }

    /// Looks who may write to the folder and to what is believed of it, before anything of it is. Root goes along with the owner of the
    /// folder, but runs nothing for them: see [`Keystore::trusted_text`] and [`platform::may_run`].
    ///
    /// # Errors
    /// When somebody else may.
    pub fn check(&self) -> Result<(), StoreError> {
        let guest_of = platform::guest_of(&self.dir);
        let all = [CURRENT, GENERATIONS, BUNDLE, STATE, PENDING, NEXT_KEY, SSH, KEY, CERT, CHAIN, HOOKS];
        for path in std::iter::once(self.dir.clone()).chain(all.map(|name| self.path(name))) {
            trusted(&path, guest_of)?;
        }
        Ok(())
    }

    /// The text of a file in the folder that says what this program does, if it is there: believed from root and ourselves alone.
    ///
    /// # Errors
    /// When somebody else may have written it, or it cannot be read.
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
    /// When its files cannot be read, make no sense, or the key is no secret.
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

    /// The order of the SSH CAs that were heard last, each of which was checked when it came.
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
        // Only what we write ourselves is followed, so that a planted link leads nowhere.
        let serial = target.file_name().and_then(|name| name.to_str()).and_then(|name| Serial::parse_hex(name).ok());
        match serial {
            Some(serial) => Ok(Some(self.generation(&serial))),
            None => Err(StoreError::Damaged { path: pointer, why: "it does not point to a generation".into() }),
        }
    }

    /// The serial number of the certificate in use, without reading it.
    #[must_use]
    pub fn serial_in_use(&self) -> Option<Serial> {
        let folder = self.current().ok()??;
        Serial::parse_hex(folder.file_name()?.to_str()?).ok()
    }

    fn generation(&self, serial: &Serial) -> PathBuf {
        self.path(GENERATIONS).join(serial.hex())
    }

    /// What was last known, when the file is there and of this certificate.
    #[must_use]
    pub fn state(&self, facts: &Facts) -> State {
        // A damaged or outdated state.json costs nothing but memories.
        match read_json::<State>(&self.path(STATE)) {
            Ok(Some(state)) => State { facts: facts.clone(), ..state },
            Ok(None) | Err(_) => State {
                facts: facts.clone(),
                clock_offset: 0,
                last_contact: None,
                trouble: None,
                proxy: None,
                renaming: None,
                run: None,
            },
        }
    }

    /// Changes what `state.json` says: the one way to write it. Several processes do, each knowing other things, and what one writes
    /// another must not undo; so it is read and written under a lock.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn change_state(&self, facts: &Facts, change: impl FnOnce(&mut State)) -> Result<(), StoreError> {
        let _lock = lock::take_state(&self.dir)?;
        let mut state = self.state(facts);
        change(&mut state);
        self.replace(STATE, &to_json(&state), Access::Public)
    }

    /// The unfinished request to join.
    ///
    /// # Errors
    /// When its file cannot be read or makes no sense.
    pub fn pending(&self) -> Result<Option<Pending>, StoreError> {
        read_json(&self.path(PENDING))
    }

    /// Records the unfinished request.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn save_pending(&self, pending: &Pending) -> Result<(), StoreError> {
        self.replace(PENDING, &to_json(pending), Access::Secret)
    }

    /// The key of the unfinished request or renewal. It is on the disk before the request is sent, and is sent again after
    /// a lost reply, so that the gateway recognises it and answers with the same certificate.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn next_key(&self) -> Result<PrivateKey, StoreError> {
        let path = self.path(NEXT_KEY);
        let in_use = self.current()?.map(|folder| read_key(&folder.join(KEY))).transpose()?.flatten();
        match read_key(&path) {
            // The key in use means that an installation was cut short just before its end: it must not be used twice.
            Ok(Some(key)) if in_use.is_none_or(|used| used.digest() != key.digest()) => Ok(key),
            // A damaged one (the disk was full) was never sent: sending comes after writing and syncing.
            Ok(_) | Err(StoreError::Damaged { .. }) => self.fresh_next_key(),
            Err(other) => Err(other),
        }
    }

    /// A new key in the place of the one there may be.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn fresh_next_key(&self) -> Result<PrivateKey, StoreError> {
        let key = PrivateKey::generate().map_err(StoreError::Key)?;
        self.replace(NEXT_KEY, &key.to_pem(), Access::Secret)?;
        Ok(key)
    }

    /// Remembers that a person turned the request away, and forgets its token. The key stays with the request: an approver may
    /// take the denial back.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn deny_request(&self, pending: &Pending, denied: Denied) -> Result<(), StoreError> {
        self.save_pending(&Pending { token: None, trouble: None, denied: Some(denied), ..pending.clone() })
    }

    /// Says that `lychgate run` runs here, for as long as what is given is kept.
    ///
    /// # Errors
    /// When another one does, with its process.
    pub async fn running(&self) -> Result<Lock, StoreError> {
        lock::take_running(&self.dir).await
    }

    /// The process of the `lychgate run` that runs here now, if one does; 0 when it is not known.
    #[must_use]
    pub fn who_runs(&self) -> Option<u32> {
        lock::who_runs(&self.dir)
    }

    /// Forgets what was asked, and keeps the key.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn forget_pending(&self) -> Result<(), StoreError> {
        let path = self.path(PENDING);
        self.disk.remove_file(&path).map_err(failed("remove", &path))?;
        self.sync(&self.dir)
    }

    /// Forgets the unfinished request and its key.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn forget_request(&self) -> Result<(), StoreError> {
        for name in [PENDING, NEXT_KEY] {
            let path = self.path(name);
            self.disk.remove_file(&path).map_err(failed("remove", &path))?;
        }
        self.sync(&self.dir)
    }

    /// Makes `issued`, which the gateway at `gateway` gave, the identity in use. Every step leaves either the old identity or the new one whole.
    ///
    /// # Errors
    /// When a step fails; what was in use before still is, or the new one is already.
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
        // The new roots first: they still hold the old ones when a root is being replaced, and the other way round there
        // would be a moment with a certificate and no root for it.
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

    /// The name that was asked for at first, unless it is the one that was given.
    fn wanted_name(&self, given: &str) -> Result<Option<String>, StoreError> {
        let asked = self.pending()?.and_then(|pending| pending.name);
        let wanted = match asked {
            Some(asked) => Some(asked),
            None => self.credential()?.and_then(|before| before.facts.wanted_name),
        };
        Ok(wanted.filter(|wanted| wanted != given))
    }

    /// Writes the folder of one certificate: under another name first, renamed when all of it is on the disk.
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
        // Left over from an attempt that was cut short; and a generation that was written but never made current.
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

    /// Sees to it that the files at the top are there: the last step of an installation that may have been cut short.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn mend(&self) -> Result<(), StoreError> {
        if self.current()?.is_some() { self.publish() } else { Ok(()) }
    }

    /// Puts the files of the current generation at the top of the folder.
    fn publish(&self) -> Result<(), StoreError> {
        let Some(folder) = self.current()? else { return Ok(()) };
        // The key last but one: a reader that finds a mismatch without links finds it for as short a time as can be.
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

    /// Removes all generations but the current one and the one before. What cannot be removed does no harm.
    fn prune(&self, current: &Path, before: Option<&Path>) {
        let Ok(entries) = fs::read_dir(self.path(GENERATIONS)) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path != current && Some(path.as_path()) != before {
                let _ = self.disk.remove_folder(&path);
            }
        }
    }

    /// Forgets the identity: every file of ours but the hooks.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn clear(&self) -> Result<(), StoreError> {
        // The pointer first: without it there is no identity, whatever else is left over.
        for name in [CURRENT, CERT, KEY, CHAIN, STATE, PENDING, NEXT_KEY, BUNDLE] {
            for path in [self.path(name), self.path(&format!(".{name}.new"))] {
                self.disk.remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        for all in [GENERATIONS, SSH].map(|name| self.path(name)) {
            self.disk.remove_folder(&all).map_err(failed("remove", &all))?;
        }
        self.sync(&self.dir)
    }

    /// The folder of SSH keys and certificates, made if need be.
    ///
    /// # Errors
    /// When the system refuses.
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

    /// Puts a key that was made elsewhere in the folder into its place, the public half first.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn adopt(&self, made: [&Path; 2], places: [&Path; 2]) -> Result<(), StoreError> {
        for (from, to) in made.into_iter().zip(places).rev() {
            self.disk.rename(from, to).map_err(failed("replace", to))?;
        }
        self.sync(places[0].parent().unwrap_or(&self.dir))
    }

    /// Removes a file that may be there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(&self, path: &Path) -> Result<(), StoreError> {
        self.disk.remove_file(path).map_err(failed("remove", path))
    }

    /// Replaces a file at the top in one step.
    fn replace(&self, name: &str, text: &str, access: Access) -> Result<(), StoreError> {
        self.replace_at(&self.path(name), text, access)
    }

    /// Replaces a file anywhere in one step, in a folder that exists.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn replace_at(&self, path: &Path, text: &str, access: Access) -> Result<(), StoreError> {
        let folder = path.parent().unwrap_or(&self.dir);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = folder.join(format!(".{name}.new"));
        self.disk.remove_file(&draft).map_err(failed("remove", &draft))?;
        self.disk.write_new(&draft, text.as_bytes(), access).map_err(failed("write", path))?;
        self.disk.rename(&draft, path).map_err(failed("replace", path))?;
        self.sync(folder)
    }

    /// Replaces a link at the top in one step.
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

/// The attributes sent with a request: what the system says, our version, and what the person adds, within the limits of
/// the protocol.
#[must_use]
pub fn attributes(extra: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::from([
        ("os".into(), std::env::consts::OS.into()),
        ("arch".into(), std::env::consts::ARCH.into()),
        ("client".into(), concat!("lychgate/", env!("CARGO_PKG_VERSION")).into()),
    ]);
    all.extend(platform::about_host().into_iter().map(|(name, value)| (name.to_owned(), value)));
    all.extend(extra.clone());
    for value in all.values_mut() {
        while value.len() > wire::limits::ATTRIBUTE_VALUE_MAX {
            value.pop();
        }
    }
    all
}

#[cfg(test)]
mod tests;
