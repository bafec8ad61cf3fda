//! The folder after power cuts, with full disks, other users and damaged files.

use std::fs;
use std::sync::Mutex;

use super::*;
use crate::core::attestation::{KnownEk, Offer};
use crate::core::receive::Issued;
use crate::testing::Authority;
use crate::text::report::{Complaint, Exit};

fn gateway() -> Address {
    Address::parse("gw.example:443", 443).unwrap()
}

fn issue(authority: &Authority, key: &PrivateKey, now: u64) -> Issued {
    authority.issued(key, "edge-07", now)
}

/// A disk that fails at the given step and from then on, as in a power cut. A write that fails leaves half a file.
struct Fused {
    left: Mutex<u32>,
    kind: io::ErrorKind,
}

impl Fused {
    fn burn(&self) -> io::Result<()> {
        let mut left = self.left.lock().unwrap();
        *left = left.checked_sub(1).ok_or_else(|| io::Error::from(self.kind))?;
        Ok(())
    }
}

impl Disk for Fused {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.burn().and_then(|()| OsDisk.make_folder(path))
    }
    fn write_new(&self, path: &Path, content: &[u8], access: Access) -> io::Result<()> {
        match self.burn() {
            Ok(()) => OsDisk.write_new(path, content, access),
            Err(e) => {
                // The failing step may be half done, later ones do nothing.
                let _ = OsDisk.write_new(path, &content[..content.len() / 2], access);
                Err(e)
            }
        }
    }
    fn link(&self, target: &Path, at: &Path) -> io::Result<()> {
        self.burn().and_then(|()| OsDisk.link(target, at))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.burn().and_then(|()| OsDisk.rename(from, to))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.burn().and_then(|()| OsDisk.remove_file(path))
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.burn().and_then(|()| OsDisk.remove_folder(path))
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.burn().and_then(|()| OsDisk.sync_folder(path))
    }
}

fn fused(dir: &Path, steps: u32, kind: io::ErrorKind) -> Keystore {
    Keystore::on(dir.to_owned(), Arc::new(Fused { left: Mutex::new(steps), kind }))
}

/// The guarantees to other programs on the machine.
#[track_caller]
fn assert_complete(dir: &Path, serial: &Serial) {
    let store = Keystore::at(dir.to_owned());
    store.mend().unwrap();
    let credential = store.credential().unwrap().unwrap();
    assert_eq!(credential.serial, *serial);
    let text = |name| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(PrivateKey::from_pem(&text(KEY)).unwrap().digest(), credential.key.digest());
    let chain = pki::parse_pem("CERTIFICATE", &text(CERT)).unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[0], credential.leaf);
    assert_eq!(pki::parse_pem("CERTIFICATE", &text(CHAIN)).unwrap(), chain[1..]);
    assert_eq!(pki::parse_pem("CERTIFICATE", &text(BUNDLE)).unwrap(), credential.roots);
}

#[test]
fn installs_and_reads_back() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let store = Keystore::at(dir.path().join("a/b"));
    store.prepare().unwrap();
    assert!(store.credential().unwrap().is_none());
    let key = store.next_key().unwrap();
    assert_eq!(store.next_key().unwrap().digest(), key.digest(), "asking again gives the same key");
    let issued = issue(&authority, &key, 100_000);
    let credential = store.install(&issued, &key, &gateway()).unwrap();
    assert_eq!(credential.identity.to_string(), "spiffe://td.example/machine/edge-07");
    assert_eq!(credential.life, issued.life);
    assert_complete(store.dir(), &issued.serial);
    assert!(!store.dir().join(NEXT_KEY).exists());
    assert_ne!(store.next_key().unwrap().digest(), key.digest(), "a renewal makes a new key");
}

#[test]
fn keeps_the_generation_before_and_no_more() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let store = Keystore::at(dir.path().to_owned());
    for round in 0..4 {
        let key = store.next_key().unwrap();
        store.install(&issue(&authority, &key, 100_000 + round), &key, &gateway()).unwrap();
    }
    assert_eq!(fs::read_dir(dir.path().join(GENERATIONS)).unwrap().count(), 2);
}

/// Runs a renewal on a disk that fails at each step in turn. In every case there is a complete identity, and repeating the renewal
/// with the key on the disk succeeds.
#[test]
fn a_power_cut_at_any_step_leaves_one_identity_whole() {
    let authority = Authority::new();
    for steps in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let store = Keystore::at(dir.path().to_owned());
        let key = store.next_key().unwrap();
        let old = issue(&authority, &key, 100_000);
        store.install(&old, &key, &gateway()).unwrap();

        let next = store.next_key().unwrap();
        let new = issue(&authority, &next, 143_200);
        let done = fused(dir.path(), steps, io::ErrorKind::Other).install(&new, &next, &gateway()).is_ok();

        let found = Keystore::at(dir.path().to_owned()).credential().unwrap().unwrap().serial;
        assert!(found == old.serial || found == new.serial, "step {steps}");
        assert_complete(dir.path(), &found);
        if found == old.serial {
            assert_eq!(store.next_key().unwrap().digest(), next.digest(), "step {steps}: the same key is sent again");
        }
        store.install(&new, &next, &gateway()).unwrap();
        assert_complete(dir.path(), &new.serial);
        assert_ne!(store.next_key().unwrap().digest(), next.digest());
        if done {
            assert!(steps > 20, "the plug was pulled at {steps} steps only");
            return;
        }
    }
}

#[test]
fn a_power_cut_while_joining_leaves_nothing_or_everything() {
    let authority = Authority::new();
    for steps in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let store = Keystore::at(dir.path().to_owned());
        let key = store.next_key().unwrap();
        let new = issue(&authority, &key, 100_000);
        let done = fused(dir.path(), steps, io::ErrorKind::Other).install(&new, &key, &gateway()).is_ok();
        match Keystore::at(dir.path().to_owned()).credential().unwrap() {
            Some(_) => assert_complete(dir.path(), &new.serial),
            None => assert_eq!(store.next_key().unwrap().digest(), key.digest()),
        }
        if done {
            return;
        }
    }
}

#[test]
fn what_was_chosen_is_kept_until_the_machine_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let (store, path) = (Keystore::at(dir.path().to_owned()), dir.path().join(ATTESTATION));
    store.change_attestation(|attestation| attestation.attest = Offer::Auto).unwrap();
    assert!(!path.exists(), "the default is not written");
    let ek = KnownEk { template: "H-3".into(), key: "ab".repeat(32) };
    let choose = |attestation: &mut Attestation| {
        (attestation.attest, attestation.ek) = (Offer::Nothing, Some(ek.clone()));
    };
    for steps in 0.. {
        let done = fused(dir.path(), steps, io::ErrorKind::Other).change_attestation(choose).is_ok();
        let found = store.attestation().unwrap();
        assert!(found == Attestation::default() || found.ek == Some(ek.clone()), "step {steps}: {found:?}");
        if done {
            assert_eq!(found.attest, Offer::Nothing);
            break;
        }
    }
    // The key of a request that has begun is used again only where keys are wanted now.
    let key = store.next_key().unwrap();
    store.change_attestation(|attestation| attestation.key = KeyPlace::File).unwrap();
    assert_eq!(store.next_key().unwrap().digest(), key.digest());
    fs::write(&path, "{").unwrap();
    assert!(matches!(store.attestation(), Err(StoreError::Damaged { .. })));
    store.clear().unwrap();
    assert_eq!(store.attestation().unwrap(), Attestation::default());
}

#[test]
fn a_key_of_a_tpm_is_read_and_installed_without_it() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let store = Keystore::at(dir.path().to_owned());
    let template = tpm::template::identity_key().unwrap();
    let pair = crate::testing::private_key();
    let (x, y) = pair.coordinates();
    let public = [&template[..template.len() - 4], &[0, 32], x, &[0, 32], y].concat();
    let file = tpm::KeyFile::new(tpm::command::Created { public, private: vec![5; 126] }).unwrap();
    let text = pki::to_pem(tpm::keyfile::LABEL, &file.der());
    let key = evidence::tpm::read_key(&text).unwrap().unwrap();
    assert_eq!(key.digest(), pair.digest());
    let issued = issue(&authority, &pair, 100_000);
    let credential = store.install(&issued, &key, &gateway()).unwrap();
    assert_eq!((credential.key.place(), credential.key.digest()), (KeyPlace::Tpm, pair.digest()));
    assert_eq!(fs::read_to_string(dir.path().join(KEY)).unwrap(), text);
    // Where keys are to be in files, an unfinished one of the TPM is not used.
    fs::rename(dir.path().join(CURRENT), dir.path().join("away")).unwrap();
    store.replace(NEXT_KEY, &text, Access::Secret).unwrap();
    assert_eq!(store.next_key().unwrap().place(), KeyPlace::File);
}

#[test]
fn a_key_cut_short_is_made_anew() {
    for steps in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        assert!(fused(dir.path(), steps, io::ErrorKind::Other).next_key().is_err());
        Keystore::at(dir.path().to_owned()).next_key().unwrap();
    }
}

#[test]
fn a_full_disk_is_said_and_costs_nothing() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let store = Keystore::at(dir.path().to_owned());
    let key = store.next_key().unwrap();
    let old = issue(&authority, &key, 100_000);
    store.install(&old, &key, &gateway()).unwrap();
    let next = store.next_key().unwrap();
    let new = issue(&authority, &next, 143_200);
    let error = fused(dir.path(), 4, io::ErrorKind::StorageFull).install(&new, &next, &gateway()).unwrap_err();
    let complaint = Complaint::from(error);
    assert_eq!(complaint.exit, Exit::Files);
    let want = format!(
        "lychgate: error: cannot write `{}`: no storage space\nlychgate: hint: free some space and try again; the identity in use is untouched\n",
        dir.path().join("generations/unfinished/key.pem").display()
    );
    assert_eq!(complaint.lines(), want);
    assert_complete(dir.path(), &old.serial);
}

#[test]
fn damage_is_named() {
    let authority = Authority::new();
    for (name, content, want) in [
        ("key.pem", "nonsense", "it is not a P-256 private key in PKCS#8 PEM"),
        ("identity.json", "{", "EOF while parsing an object at line 1 column 1"),
        ("cert.pem", "", "the text holds no `-----BEGIN CERTIFICATE-----` block"),
        ("bundle.pem", "", "the text holds no `-----BEGIN CERTIFICATE-----` block"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = Keystore::at(dir.path().to_owned());
        let key = store.next_key().unwrap();
        store.install(&issue(&authority, &key, 100_000), &key, &gateway()).unwrap();
        let folder = if name == BUNDLE { dir.path().to_owned() } else { store.current().unwrap().unwrap() };
        fs::write(folder.join(name), content).unwrap();
        let error = store.credential().unwrap_err();
        assert!(error.to_string().ends_with(&format!("is damaged: {want}")), "{name}: {error}");
        assert_eq!(Complaint::from(error).exit, Exit::Files);
    }
}

#[test]
fn a_lost_state_file_costs_nothing() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let store = Keystore::at(dir.path().to_owned());
    let key = store.next_key().unwrap();
    let credential = store.install(&issue(&authority, &key, 100_000), &key, &gateway()).unwrap();
    for content in ["", "{}", "nonsense"] {
        fs::write(dir.path().join(STATE), content).unwrap();
        assert_eq!(store.state(&credential.facts).facts, credential.facts);
    }
}

#[test]
fn clearing_leaves_no_secret_and_keeps_the_hooks() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let store = Keystore::at(dir.path().to_owned());
    fs::create_dir(dir.path().join("hooks.d")).unwrap();
    let key = store.next_key().unwrap();
    store.install(&issue(&authority, &key, 100_000), &key, &gateway()).unwrap();
    store.next_key().unwrap();
    store.clear().unwrap();
    let mut left: Vec<String> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["hooks.d", "state.lock"]);
    assert!(store.credential().unwrap().is_none());
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = Keystore::at(dir.path().to_owned());
    let first = store.lock(std::time::Duration::ZERO).await.unwrap();
    let error = store.lock(std::time::Duration::ZERO).await.unwrap_err();
    assert_eq!(error.to_string(), format!("another lychgate is joining or renewing in `{}`", dir.path().display()));
    drop(first);
    store.lock(std::time::Duration::ZERO).await.unwrap();
}

#[cfg(unix)]
mod modes {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: PathBuf) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn secrets_are_for_their_owner_alone() {
        let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        let store = Keystore::at(dir.path().join("id"));
        store.prepare().unwrap();
        let key = store.next_key().unwrap();
        assert_eq!(mode(store.dir().join(NEXT_KEY)), 0o600);
        store.install(&issue(&authority, &key, 100_000), &key, &gateway()).unwrap();
        assert_eq!(mode(store.dir().to_owned()), 0o700);
        assert_eq!(mode(store.dir().join(KEY)), 0o600);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        for bad in [0o640, 0o604, 0o620, 0o666] {
            let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
            let store = Keystore::at(dir.path().to_owned());
            let key = store.next_key().unwrap();
            store.install(&issue(&authority, &key, 100_000), &key, &gateway()).unwrap();
            fs::set_permissions(dir.path().join(KEY), fs::Permissions::from_mode(bad)).unwrap();
            let error = store.credential().unwrap_err();
            assert!(error.to_string().ends_with(&format!("(mode {bad:04o})")), "{error}");
        }
    }

    #[test]
    fn a_planted_pointer_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join(CURRENT)).unwrap();
        assert!(Keystore::at(dir.path().to_owned()).credential().is_err());
    }
}

/// A file that another user may write is refused: one row for each file that is read. As root, with a second user.
#[cfg(unix)]
#[test]
fn what_others_may_write_is_not_believed() {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    const NOBODY: u32 = 65_534;
    let root = rustix::process::geteuid().is_root();
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let (store, authority) = (Keystore::at(dir.path().join("id")), Authority::new());
        store.prepare().unwrap();
        let key = store.next_key().unwrap();
        store.install(&issue(&authority, &key, 100_000), &key, &gateway()).unwrap();
        fs::create_dir(store.dir().join("hooks.d")).unwrap();
        fs::write(store.dir().join("services.toml"), "").unwrap();
        (dir, store)
    };
    let judge = |store: &Keystore| store.check().and_then(|()| store.trusted_text("services.toml")).map(drop);
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let (_dir, store) = make();
    judge(&store).unwrap();
    mode(store.dir(), 0o750);
    judge(&store).unwrap();
    for name in [".", "hooks.d", "services.toml", "state.json", "bundle.pem", "generations"] {
        for bad in [0o777, 0o770, 0o702] {
            let (_dir, store) = make();
            mode(&store.dir().join(name), bad);
            let error = judge(&store).unwrap_err().to_string();
            assert!(error.contains("others may write to it"), "{name} {bad:o}: {error}");
        }
        if root && name != "." {
            let (_dir, store) = make();
            chown(store.dir().join(name), Some(NOBODY), None).unwrap();
            let error = judge(&store).unwrap_err().to_string();
            assert!(error.contains("belongs to another user"), "{name}: {error}");
        }
    }
    if root {
        // A symbolic link of another user is refused, whatever its target.
        let (_dir, store) = make();
        let (file, elsewhere) = (store.dir().join("services.toml"), store.dir().join("elsewhere"));
        fs::rename(&file, &elsewhere).unwrap();
        symlink(&elsewhere, &file).unwrap();
        judge(&store).unwrap();
        std::os::unix::fs::lchown(&file, Some(NOBODY), None).unwrap();
        assert!(judge(&store).is_err());
    }
}

/// When root works in another user's folder, files it writes belong to that user, and no program of that user is run.
#[cfg(unix)]
#[tokio::test]
async fn what_root_makes_in_somebody_elses_folder_is_theirs() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (store, authority) = (Keystore::at(dir.path().join("id")), Authority::new());
    store.prepare().unwrap();
    chown(store.dir(), Some(NOBODY), Some(NOBODY)).unwrap();
    fs::write(store.dir().join("services.toml"), "").unwrap();
    chown(store.dir().join("services.toml"), Some(NOBODY), None).unwrap();
    store.check().unwrap();
    drop(store.lock(std::time::Duration::ZERO).await.unwrap());
    drop(store.running().await.unwrap());
    let key = store.next_key().unwrap();
    store.install(&issue(&authority, &key, 100_000), &key, &gateway()).unwrap();
    store.next_key().unwrap();
    let ssh = store.ssh_folder().unwrap();
    store.replace_at(&ssh.join("ca.json"), "{}", Access::Public).unwrap();
    let mut left = vec![store.dir().to_owned()];
    let mut seen = 0;
    while let Some(path) = left.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        assert!(about.is_symlink() || about.uid() == NOBODY, "{}", path.display());
        seen += 1;
        if about.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert!(seen > 12, "{seen}");
    assert!(store.trusted_text("services.toml").is_err(), "root does not do what they say");
    // Root does not follow a symbolic link instead of a lock file.
    fs::remove_file(store.dir().join("run.lock")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("precious"), store.dir().join("run.lock")).unwrap();
    fs::write(dir.path().join("precious"), "kept").unwrap();
    assert!(store.running().await.is_err());
    assert_eq!(fs::read_to_string(dir.path().join("precious")).unwrap(), "kept");
}

/// Several processes change `state.json` at the same time, and no change is lost.
#[test]
fn no_change_of_the_state_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (store, authority) = (Keystore::at(dir.path().join("id")), Authority::new());
    store.prepare().unwrap();
    let key = store.next_key().unwrap();
    let credential = store.install(&issue(&authority, &key, 100_000), &key, &gateway()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    store.change_state(&credential.facts, |state| state.clock_offset += 1).unwrap();
                }
            });
        }
    });
    assert_eq!(store.state(&credential.facts).clock_offset, 100);
}
