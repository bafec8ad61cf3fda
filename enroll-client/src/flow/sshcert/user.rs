//! A person's SSH certificate, in a file beside the key.

use std::path::PathBuf;
use std::time::Duration;

use pki::{BACKDATE, SshCertificate, SshKey, SshKind, UnixTime};

use super::{fetch_cas, kept_cas, obtain, public_key, require, write_certificate};
use crate::core::ssh::text;
use crate::edge::keystore::{Credential, Keystore, read_text};
use crate::edge::openssh;
use crate::flow::upkeep;
use crate::text::report::Complaint;

/// The file of the key that is made when none is named.
pub const KEY: &str = "id_ed25519";

/// How long to wait for another process that gets a certificate for the same key.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// When to request a new certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Always.
    Now,
    /// When at most a third of the certificate's lifetime is left, or there is none. Otherwise the network is not used.
    IfNeeded,
}

/// Parameters of [`ensure`].
#[derive(Clone, Debug)]
pub struct UserCertRequest {
    /// A key of the person's own, private or public; otherwise one is made in the folder.
    pub key: Option<PathBuf>,
    /// Where the certificate goes; otherwise beside the key, where ssh looks for it.
    pub out: Option<PathBuf>,
    /// When to request a new certificate.
    pub freshness: Freshness,
}

impl Default for UserCertRequest {
    fn default() -> Self {
        Self { key: None, out: None, freshness: Freshness::IfNeeded }
    }
}

/// A valid certificate, with everything that `ssh` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCert {
    /// For `IdentityFile`.
    pub key: PathBuf,
    /// For `CertificateFile`.
    pub certificate: PathBuf,
    /// Lines for `known_hosts` that accept every machine's host certificate.
    pub known_hosts: String,
    /// For `UserKnownHostsFile`: a file with these lines.
    pub known_hosts_file: PathBuf,
    /// Its login names.
    pub principals: Vec<String>,
    /// Its serial number, in decimal.
    pub serial: String,
    /// Its key id.
    pub key_id: String,
    /// First second after its validity, by the gateway's clock.
    pub valid_before: UnixTime,
    /// Whether an existing certificate was kept.
    pub kept: bool,
}

/// Ensures that there is a valid user certificate for the person in the folder:
/// `sshcert::ensure_user(&store, &UserCertRequest::default())`.
pub async fn ensure(store: &Keystore, request: &UserCertRequest) -> Result<UserCert, Complaint> {
    let credential = upkeep::load(store)?;
    require(&credential, SshKind::User)?;
    let key = request.key.as_ref().map(|key| std::path::absolute(key).unwrap_or_else(|_| key.clone()));
    let own = key.is_none();
    let key = key.unwrap_or_else(|| store.ssh_file(KEY));
    let certificate = request.out.as_ref().map(|out| std::path::absolute(out).unwrap_or_else(|_| out.clone()));
    let files = UserCertFiles { certificate: certificate.unwrap_or_else(|| openssh::certificate_path(&key)), key };
    if request.freshness == Freshness::IfNeeded
        && let Some(kept) = files.kept(store, &credential)
    {
        return Ok(kept);
    }
    // Without the lock for a key of the person's own: other processes must not wait while its passphrase is typed.
    let _lock = if own { Some(store.lock(LOCK_PATIENCE).await?) } else { None };
    // Another process may have renewed it while we waited for the lock.
    if request.freshness == Freshness::IfNeeded
        && let Some(kept) = files.kept(store, &credential)
    {
        return Ok(kept);
    }
    let credential = upkeep::load_valid(store)?;
    if own {
        make_own_key(store, &credential).await?;
    }
    files.renew(store, &credential).await
}

/// The files of a key and its certificate.
struct UserCertFiles {
    key: PathBuf,
    certificate: PathBuf,
}

impl UserCertFiles {
    /// The existing certificate, if it is valid for long enough.
    fn kept(&self, store: &Keystore, credential: &Credential) -> Option<UserCert> {
        let public = openssh::public_path(&openssh::private_path(&self.key));
        let public = SshKey::parse(&read_text(&public).ok()??).ok()?;
        let cert = SshCertificate::parse(&read_text(&self.certificate).ok()??).ok()?;
        let cas = kept_cas(store, credential)?;
        let now = upkeep::gateway_time(store, credential);
        is_fresh(&cert, &public, &credential.facts.identity, now).then(|| UserCert {
            key: self.key.clone(),
            certificate: self.certificate.clone(),
            known_hosts: text(&cas.known_hosts(&[])),
            known_hosts_file: store.ssh_file(super::KNOWN_HOSTS),
            principals: cert.principals().to_vec(),
            serial: cert.serial().to_string(),
            key_id: cert.key_id().to_owned(),
            valid_before: cert.valid_before(),
            kept: true,
        })
    }

    async fn renew(&self, store: &Keystore, credential: &Credential) -> Result<UserCert, Complaint> {
        let public = public_key(&self.key).await?;
        // First, so that the CAs are stored before the certificate.
        let cas = fetch_cas(store, credential).await?;
        let reply = obtain(credential, SshKind::User, &self.key, &public).await?;
        write_certificate(store, &self.certificate, &reply)?;
        Ok(UserCert {
            key: self.key.clone(),
            certificate: self.certificate.clone(),
            known_hosts: text(&cas.known_hosts(&[])),
            known_hosts_file: store.ssh_file(super::KNOWN_HOSTS),
            principals: reply.principals,
            serial: reply.serial,
            key_id: reply.key_id,
            valid_before: UnixTime::new(reply.not_after),
            kept: false,
        })
    }
}

/// Whether a certificate is this person's for this key, and more than a third of its lifetime is left.
fn is_fresh(cert: &SshCertificate, key: &SshKey, identity: &str, now: UnixTime) -> bool {
    let life = cert.valid_before().since(cert.valid_after().plus(BACKDATE));
    cert.kind() == SshKind::User
        && cert.certifies(key)
        && cert.key_id().rsplit_once('#').is_some_and(|(holder, _)| holder == identity)
        && cert.valid_after() <= now
        && cert.valid_before().since(now) > life / 3
}

/// Makes the key in the folder, if there is none, under a temporary name so that it is never incomplete.
async fn make_own_key(store: &Keystore, credential: &Credential) -> Result<(), Complaint> {
    let folder = store.ssh_folder()?;
    let key = folder.join(KEY);
    if key.is_file() {
        return Ok(());
    }
    let draft = folder.join(format!(".{KEY}.new"));
    let public_draft = openssh::public_path(&draft);
    for left in [&draft, &public_draft] {
        store.remove(left)?;
    }
    openssh::make_key(&draft, &credential.facts.identity).await?;
    store.adopt([&draft, &public_draft], [&key, &openssh::public_path(&key)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pki::{Identity, KeyAlgorithm, SoftwareKey, SshCa, SshDraft};

    use super::*;

    const ADA: &str = "spiffe://td.example/person/ada";
    const HOUR: u64 = 3_600;

    fn key() -> SshKey {
        SshCa::new(SshKind::User, Arc::new(SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap().0))
            .unwrap()
            .public()
            .clone()
    }

    /// Issued at 100,000 for an hour.
    fn cert(key: &SshKey, identity: &str) -> SshCertificate {
        let (software, _) = SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap();
        let identity = Identity::parse(identity).unwrap();
        let (now, until) = (UnixTime::new(100_000), UnixTime::new(100_000 + HOUR));
        let (kind, draft) = match identity.role {
            pki::Role::Machine => (SshKind::Host, SshDraft::host(key.clone(), &identity, until, [1; 8], now)),
            _ => (SshKind::User, SshDraft::user(key.clone(), &identity, vec!["ada".into()], until, [1; 8], now)),
        };
        let ca = SshCa::new(kind, Arc::new(software)).unwrap();
        SshCertificate::parse(&draft.unwrap().issue(&ca, [2; 32]).unwrap().line).unwrap()
    }

    #[test]
    fn a_certificate_is_kept_while_more_than_a_third_of_it_is_left() {
        let (ours, other) = (key(), key());
        let cert_of_ada = cert(&ours, ADA);
        for (at, want) in [
            (99_699, false),
            (99_700, true),
            (100_000, true),
            (100_000 + HOUR * 2 / 3 - 1, true),
            (100_000 + HOUR * 2 / 3, false),
            (100_000 + HOUR, false),
            (u64::MAX, false),
        ] {
            assert_eq!(is_fresh(&cert_of_ada, &ours, ADA, UnixTime::new(at)), want, "{at}");
        }
        let now = UnixTime::new(100_000);
        assert!(!is_fresh(&cert_of_ada, &other, ADA, now), "of another key");
        assert!(!is_fresh(&cert_of_ada, &ours, "spiffe://td.example/person/ad", now), "of somebody else");
        let machines = cert(&ours, "spiffe://td.example/machine/ada");
        assert!(!is_fresh(&machines, &ours, "spiffe://td.example/machine/ada", now), "of a machine");
    }
}
