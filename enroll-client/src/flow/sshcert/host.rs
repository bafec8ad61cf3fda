//! Certificates for host keys of a machine's sshd. The host keys are listed in a file, so that their certificates are renewed together
//! with the machine's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pki::{SshKind, UnixTime};
use serde::{Deserialize, Serialize};

use super::{obtain, public_key, require, write_certificate};
use crate::edge::hooks::{self, HookContext};
use crate::edge::keystore::{Credential, Keystore, read_text};
use crate::platform::Access;
use crate::text::report::{Complaint, Exit};

/// The file that lists the host keys.
const BOOK: &str = "host-certificates.json";

/// How long to wait for the folder's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// `LYCHGATE_EVENT` for the reload command.
const EVENT: &str = "ssh-host-certificate";

/// A host key whose certificate is renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCertificate {
    /// The private host key.
    pub key: PathBuf,
    /// The file of its certificate.
    pub certificate: PathBuf,
    /// A shell command to run after each renewal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<String>,
    /// The serial of the machine's certificate with which it was asked for, hex.
    #[serde(default)]
    pub by: String,
    /// First second after its validity, seconds since the Unix epoch.
    #[serde(default)]
    pub not_after: u64,
}

#[derive(Default, Serialize, Deserialize)]
struct Book {
    #[serde(default)]
    certificates: Vec<HostCertificate>,
}

impl Book {
    fn read(store: &Keystore) -> Result<Self, Complaint> {
        let path = store.ssh_file(BOOK);
        let Some(text) = read_text(&path)? else { return Ok(Self::default()) };
        serde_json::from_str(&text).map_err(|error| {
            Complaint::new(Exit::Files, "files", format!("`{}` is damaged: {error}", path.display()))
                .hint("remove it and run `lychgate ssh-cert host` again for each host key")
        })
    }

    fn write(&self, store: &Keystore) -> Result<(), Complaint> {
        // Cannot fail: the paths are UTF-8, see `named`.
        let text = serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default();
        Ok(store.replace_at(&store.ssh_folder()?.join(BOOK), &text, Access::Secret)?)
    }

    /// Adds an entry, replacing one for the same key.
    fn put(&mut self, wanted: HostCertificate) {
        self.certificates.retain(|other| other.key != wanted.key);
        self.certificates.push(wanted);
    }
}

/// The result of a renewal for one host key.
#[derive(Debug)]
pub struct Renewed {
    /// The private host key.
    pub key: PathBuf,
    /// The end of the new certificate's validity, or the error.
    pub outcome: Result<UnixTime, Complaint>,
    /// The error of the reload command.
    pub reload_trouble: Option<String>,
}

/// Renews the certificates that were requested with an earlier certificate of the machine.
pub async fn renew_due(store: &Keystore, credential: &Credential) -> Vec<Renewed> {
    let failed = |complaint| vec![Renewed { key: store.ssh_file(BOOK), outcome: Err(complaint), reload_trouble: None }];
    let is_due = |wanted: &HostCertificate| wanted.by != credential.facts.serial;
    match Book::read(store) {
        Ok(book) if !book.certificates.iter().any(is_due) => return Vec::new(),
        Ok(_) => {}
        Err(complaint) => return failed(complaint),
    }
    let _lock = match store.lock(LOCK_PATIENCE).await {
        Ok(lock) => lock,
        Err(error) => return failed(error.into()),
    };
    let mut book = match Book::read(store) {
        Ok(book) => book,
        Err(complaint) => return failed(complaint),
    };
    let due: Vec<HostCertificate> = book.certificates.iter().filter(|wanted| is_due(wanted)).cloned().collect();
    let mut renewed = Vec::new();
    for wanted in due {
        let key = wanted.key.clone();
        let outcome = match issue(store, credential, wanted).await {
            Ok(done) => {
                book.put(done.clone());
                book.write(store).map(|()| done)
            }
            Err(complaint) => Err(complaint),
        };
        let reload_trouble = match &outcome {
            Ok(done) => reload(store, credential, done).await,
            Err(_) => None,
        };
        renewed.push(Renewed { key, outcome: outcome.map(|done| UnixTime::new(done.not_after)), reload_trouble });
    }
    renewed
}

/// Requests the certificate of one host key and writes it.
async fn issue(
    store: &Keystore,
    credential: &Credential,
    wanted: HostCertificate,
) -> Result<HostCertificate, Complaint> {
    let public = public_key(&wanted.key).await?;
    let reply = obtain(credential, SshKind::Host, &wanted.key, &public).await?;
    write_certificate(store, &wanted.certificate, &reply)?;
    Ok(HostCertificate { by: credential.facts.serial.clone(), not_after: reply.not_after, ..wanted })
}

async fn reload(store: &Keystore, credential: &Credential, wanted: &HostCertificate) -> Option<String> {
    let facts = &credential.facts;
    let occasion = HookContext { event: EVENT, serial: &facts.serial, identity: &facts.identity };
    let command = wanted.reload.as_deref()?;
    let trouble = hooks::run_command(store.dir(), command, &occasion).await?;
    Some(format!("the command `{command}` failed: {trouble}"))
}

/// Gets a certificate for a host key and adds the key to the list. Returns the certificate and the error of the reload command.
pub async fn keep(
    store: &Keystore,
    credential: &Credential,
    request: HostCertificate,
) -> Result<(HostCertificate, Option<String>), Complaint> {
    require(credential, SshKind::Host)?;
    let _lock = store.lock(LOCK_PATIENCE).await?;
    let mut book = Book::read(store)?;
    let done = issue(store, credential, request).await?;
    book.put(done.clone());
    book.write(store)?;
    let trouble = reload(store, credential, &done).await;
    Ok((done, trouble))
}

/// Removes a host key from the list; returns whether it was listed.
pub async fn forget(store: &Keystore, key: &Path) -> Result<bool, Complaint> {
    let _lock = store.lock(LOCK_PATIENCE).await?;
    let mut book = Book::read(store)?;
    let before = book.certificates.len();
    book.certificates.retain(|kept| kept.key != key);
    let forgotten = book.certificates.len() < before;
    if forgotten {
        book.write(store)?;
    }
    Ok(forgotten)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::openssh;

    fn wanted(key: &str, by: &str) -> HostCertificate {
        let certificate = openssh::certificate_path(Path::new(key));
        HostCertificate { key: key.into(), certificate, reload: Some("true".into()), by: by.into(), not_after: 7 }
    }

    #[test]
    fn the_book_has_one_entry_for_each_key_and_survives_strangers() {
        let dir = tempfile::tempdir().unwrap();
        let store = Keystore::at(dir.path().to_owned());
        assert!(Book::read(&store).unwrap().certificates.is_empty());
        let mut book = Book::default();
        for (key, by) in [("/a", "1"), ("/b", "1"), ("/a", "2")] {
            book.put(wanted(key, by));
        }
        book.write(&store).unwrap();
        assert_eq!(Book::read(&store).unwrap().certificates, [wanted("/b", "1"), wanted("/a", "2")]);

        let path = store.ssh_file(BOOK);
        let later = r#"{"certificates":[{"key":"/a","certificate":"/c","of_the_future":1}],"version":9}"#;
        std::fs::write(&path, later).unwrap();
        let read = Book::read(&store).unwrap().certificates;
        assert_eq!((read[0].by.as_str(), read[0].reload.as_deref()), ("", None));
        std::fs::write(&path, "{").unwrap();
        let complaint = Book::read(&store).err().unwrap();
        assert_eq!(complaint.exit, Exit::Files);
        assert!(complaint.lines().contains("is damaged: EOF while parsing"), "{complaint}");
    }
}
