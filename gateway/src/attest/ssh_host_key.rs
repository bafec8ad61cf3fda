//! `ssh-host-key`: the machine's sshd has a host key, or a host certificate, and that key signs for the key to be certified.
//!
//! Evidence: JSON [`SshHostKey`](Body), with an SSHSIG (OpenSSH's PROTOCOL.sshsig) over the trust domain, the connection's exporter
//! value and the new key's digest, as `ssh-keygen -Y sign` makes it. Claims: `sshhost_fingerprint`, `sshhost_trust` (`authority`,
//! `pinned` or `none`), `sshhost_names`, `sshhost_key_id`. Names and key id are there only where the operator's files vouch for them.
//! It does not establish where the host key is stored, nor that the new key is on the same machine as the host key: whoever reads the
//! host key can send this. Without trust it does not establish that an sshd has that key at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use pki::{Assurance, ForeignSshCertificate, KeyDigest, SshKey, SshKind, UnixTime};
use serde::Deserialize;
use wire::evidence::{SSH_HOST_KEY, SSH_HOST_KEY_NAMESPACE, SshHostKey as Body, ssh_host_key_message};

use self::{
    known_hosts::{HostFile, KeyHash, Mark},
    reject::{
        FOR_EVERY_HOST, IS_FOR_A_USER, certificate, expired, malformed, no_name, not_yet, options, other_authority,
        rejections, revoked, unusable,
    },
};
use super::{Attestor, Built, Case, Renewal, Row};
use crate::core::{
    change::Changes,
    evidence::{
        BadSection, ClaimKind, Claims, Cleared, Context, DocumentSource, Found, Message, Need, Parsed, Purpose, Reject,
        Rejected, RestsOn, Section, Step, Vouched,
    },
    name,
    records::{Claim, LockKind},
    refusal::{Fault, Refusal},
};

mod known_hosts;
mod reject;
#[cfg(test)]
mod tests;

/// Row of [`super::ALL`].
pub static ROW: Row = Row {
    kind: SSH_HOST_KEY,
    prefix: "sshhost",
    claims: &[
        ("fingerprint", ClaimKind::Text),
        ("trust", ClaimKind::Text),
        ("names", ClaimKind::Text),
        ("key_id", ClaimKind::Text),
    ],
    renewal: Renewal::Proves,
    asks: false,
    device: None,
    rejections,
    build,
};

/// `[attest.ssh-host-key]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SshHostKeySettings {
    enabled: bool,
    /// The CAs whose host certificates are trusted.
    authorities: Option<PathBuf>,
    /// The host keys that are trusted by themselves.
    known_hosts: Option<PathBuf>,
    /// The DNS domain whose hosts are machines of the same name.
    domain: Option<String>,
}

impl Default for SshHostKeySettings {
    fn default() -> Self {
        Self { enabled: true, authorities: None, known_hosts: None, domain: None }
    }
}

fn build(section: Option<&Section>) -> Built {
    let settings = section.map_or_else(|| Ok(SshHostKeySettings::default()), Section::read)?;
    let SshHostKeySettings { enabled, authorities, known_hosts, domain } = settings;
    let file = |path: PathBuf, mark: Mark| TrustedFile {
        source: DocumentSource::File(section.map_or(path.clone(), |section| section.path(&path))),
        mark,
        parsed: Parsed::default(),
    };
    if let Some(domain) = &domain
        && !domain.split('.').all(|label| name::known(label).is_ok())
    {
        return Err(BadSection::new("`domain` must be a lower-case DNS domain such as \"example.com\""));
    }
    let authorities = authorities.map(|path| file(path, Mark::Authority));
    let files = authorities.into_iter().chain(known_hosts.map(|path| file(path, Mark::Pin))).collect();
    Ok(enabled.then(|| Box::new(SshHostKey { files, domain }) as Box<dyn Attestor>))
}

struct SshHostKey {
    files: Arc<[TrustedFile]>,
    domain: Option<String>,
}

/// One of the operator's files, and what it is read for.
struct TrustedFile {
    source: DocumentSource,
    mark: Mark,
    parsed: Parsed<HostFile>,
}

/// The files, each as it is now; `None` for one that cannot be read.
type TrustedReadings = Vec<(Mark, Option<Arc<HostFile>>)>;

/// Reads the files, which were looked up in their order.
fn reading(files: &[TrustedFile], found: &Found) -> TrustedReadings {
    let read = |(at, file): (usize, &TrustedFile)| {
        let document = found.document(at);
        (file.mark, document.map(|document| file.parsed.of(document, HostFile::parse)))
    };
    files.iter().enumerate().map(read).collect()
}

/// The look-ups for [`reading`].
fn needs(files: &[TrustedFile], found: &Found) -> Vec<Need> {
    let all = files.iter().filter(|_| found.is_empty());
    all.map(|file| Need::Document(file.source.clone())).collect()
}

/// Whether a file revokes one of the keys. What cannot be read revokes nothing, so its caller asks [`is_clear`], too.
fn is_revoked(reading: &TrustedReadings, keys: &[KeyHash]) -> bool {
    let mut files = reading.iter().filter_map(|(_, file)| file.as_ref());
    files.any(|file| keys.iter().any(|key| file.revokes(key)))
}

/// Whether it is known what is revoked.
fn is_clear(reading: &TrustedReadings) -> bool {
    reading.iter().all(|(_, file)| file.as_ref().is_some_and(|file| file.unclear().is_none()))
}

/// What a waiting request is known by: the hashes of the host key and of its CA.
fn reference(keys: &[KeyHash]) -> String {
    keys.iter().map(hex::encode).collect::<Vec<_>>().join(",")
}

/// The hashes in a [`reference`].
fn referred(reference: &str) -> Vec<KeyHash> {
    let hash = |text: &str| hex::decode(text).ok()?.try_into().ok();
    reference.split(',').filter_map(hash).collect()
}

/// How long a client that waits goes on waiting until an operator's file may be usable again.
const FILE_PATIENCE: Duration = Duration::from_secs(30);

impl Attestor for SshHostKey {
    fn open(&self, message: &Message<'_>, context: &Context<'_>) -> Result<Box<dyn Case>, Reject> {
        let body: Body =
            wire::strict::from_slice(message.body.as_bytes()).map_err(|_| malformed("its JSON is malformed"))?;
        let line = body.public_key.as_str();
        let certificate = ForeignSshCertificate::is_line(line).then(|| ForeignSshCertificate::parse(line));
        let certificate = certificate.transpose()?;
        let key = match &certificate {
            Some(certificate) => certificate.key.clone(),
            None => SshKey::parse(line).map_err(|error| unusable(&error))?,
        };
        let signed = ssh_host_key_message(context.domain.as_str(), message.exporter, message.for_key.as_bytes());
        key.verify(SSH_HOST_KEY_NAMESPACE, &signed, &body.signature)?;
        if let Some(certificate) = &certificate {
            valid(certificate, context.now)?;
        }
        let purpose = match message.purpose {
            Purpose::Join { wanted } => HostPurpose::Join(wanted.map(str::to_owned)),
            Purpose::Renewal { name, known } => {
                HostPurpose::Renewal { name: name.to_owned(), trusted: trusted_before(known) }
            }
        };
        let (files, domain) = (Arc::clone(&self.files), self.domain.clone());
        Ok(Box::new(ProvenHostKey { key, certificate, purpose, files, domain }))
    }

    fn documents(&self) -> Vec<DocumentSource> {
        self.files.iter().map(|file| file.source.clone()).collect()
    }

    fn complaints(&self, source: &DocumentSource, text: &[u8], own: Option<&SshKey>, _: UnixTime) -> Vec<String> {
        let (read, own) = (HostFile::parse(text), own.map(SshKey::sha256));
        let of = self.files.iter().filter(|file| file.source == *source);
        let all: BTreeSet<String> = of.flat_map(|file| read.complaints(file.mark, own.as_ref())).collect();
        all.into_iter().collect()
    }

    fn recheck_needs(&self, _: &str, found: &Found) -> Vec<Need> {
        needs(&self.files, found)
    }

    /// A key that is revoked while its machine waits lets nobody in. Pins and CAs that are gone are not looked at again: what they
    /// vouched for is what the approver sees.
    fn recheck(&self, reference: &str, _: &KeyDigest, found: &Found, _: &Context<'_>) -> Result<Changes, Refusal> {
        let reading = reading(&self.files, found);
        if is_revoked(&reading, &referred(reference)) {
            return Err(revoked().into());
        }
        if is_clear(&reading) {
            return Ok(Changes::new());
        }
        let why = "a file of `[attest.ssh-host-key]` cannot be used, so it is not known which host keys are revoked";
        Err(Fault::Document { retry_after: FILE_PATIENCE, why: why.to_owned() }.into())
    }
}

/// The fingerprint of the host key that was trusted when the machine last showed one.
fn trusted_before(known: &BTreeMap<String, Claim>) -> Option<String> {
    let claim = |name: &str| known.get(&ROW.named(name)).map(Claim::text);
    let trust = claim("trust")?;
    claim("fingerprint").filter(|_| trust != HostTrust::None.as_str())
}

/// Checks what a certificate says of itself. Its signature is checked already.
fn valid(read: &ForeignSshCertificate, now: UnixTime) -> Result<(), Reject> {
    match read.kind {
        SshKind::Host => {}
        SshKind::User => return Err(certificate(IS_FOR_A_USER)),
    }
    if !read.critical_options.is_empty() {
        return Err(certificate(&options(&read.critical_options)));
    }
    if read.principals.is_empty() {
        return Err(certificate(FOR_EVERY_HOST));
    }
    if now < read.valid_after {
        return Err(not_yet(read.valid_after));
    }
    if now >= read.valid_before {
        return Err(expired(read.valid_before));
    }
    Ok(())
}

/// [`Purpose`], owned.
enum HostPurpose {
    Join(Option<String>),
    Renewal {
        /// The machine's.
        name: String,
        /// See [`trusted_before`].
        trusted: Option<String>,
    },
}

/// A host key whose holder has signed for this connection and key.
struct ProvenHostKey {
    key: SshKey,
    /// Signed by the CA in it, for a host, valid now.
    certificate: Option<ForeignSshCertificate>,
    purpose: HostPurpose,
    files: Arc<[TrustedFile]>,
    domain: Option<String>,
}

/// What the operator's files say of the key.
enum HostTrust {
    /// A known CA has certified it for these hosts.
    Authority { names: Vec<String>, key_id: String },
    /// It is pinned for these hosts.
    Pinned { names: Vec<String> },
    /// Nothing.
    None,
}

impl Case for ProvenHostKey {
    fn needs(&self, found: &Found) -> Result<Vec<Need>, Reject> {
        Ok(needs(&self.files, found))
    }

    fn rests_on(&self, _: &Found, _: &Context<'_>) -> Result<RestsOn, Reject> {
        let lock = |key: &KeyHash| (LockKind::Key, hex::encode(key));
        // the CA is somebody else's: why that is locked is not told
        Ok(RestsOn { targets: self.keys().iter().map(lock).collect(), own: vec![lock(&self.key.sha256())] })
    }

    fn step(&self, found: &Found, context: &Context<'_>, _: &Cleared) -> Result<Step, Rejected> {
        let reading = reading(&self.files, found);
        if is_revoked(&reading, &self.keys()) {
            return Err(revoked().into());
        }
        // A file that cannot be used vouches for nobody, and neither does the other one: it is not known what is revoked.
        let trust = if is_clear(&reading) { self.trust(&reading, context)? } else { HostTrust::None };
        let trust = if self.is_of_the_machine(&trust) { trust } else { HostTrust::None };
        let mut values = BTreeMap::from([
            ("fingerprint".to_owned(), Claim::Text(self.key.fingerprint())),
            ("trust".to_owned(), Claim::Text(trust.as_str().to_owned())),
        ]);
        if let HostTrust::Authority { key_id, .. } = &trust {
            values.insert("key_id".to_owned(), Claim::Text(key_id.clone()));
        }
        let hosts = trust.hosts();
        if !hosts.is_empty() {
            values.insert("names".to_owned(), Claim::Text(hosts.join(",")));
        }
        let names = match (&self.purpose, &trust) {
            // at a renewal the machine has its name
            (HostPurpose::Renewal { .. }, _) | (_, HostTrust::None) => vec![],
            (HostPurpose::Join(_), HostTrust::Authority { .. } | HostTrust::Pinned { .. }) => {
                let names: BTreeSet<String> = hosts.iter().filter_map(|host| self.machine(host)).collect();
                if names.is_empty() {
                    return Err(no_name(hosts).into());
                }
                names.into_iter().collect()
            }
        };
        let assurance = Assurance::SOFTWARE;
        let vouched = Vouched::claims(Claims { values, assurance, role: None, names, grants: None });
        // without files nothing is ever revoked
        let reference = (!self.files.is_empty()).then(|| reference(&self.keys()));
        Ok(Step::Done(Box::new(Vouched { reference, ..vouched })))
    }
}

impl HostTrust {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Authority { .. } => "authority",
            Self::Pinned { .. } => "pinned",
            Self::None => "none",
        }
    }

    fn hosts(&self) -> &[String] {
        match self {
            Self::Authority { names, .. } | Self::Pinned { names } => names,
            Self::None => &[],
        }
    }
}

/// Most names of a host that are told; sshd has no more than a few.
const NAMES_MAX: usize = 32;

impl ProvenHostKey {
    /// The hashes of the host key and of its CA.
    fn keys(&self) -> Vec<KeyHash> {
        let ca = self.certificate.as_ref().map(|certificate| certificate.ca.sha256());
        std::iter::once(self.key.sha256()).chain(ca).collect()
    }

    fn trust(&self, reading: &TrustedReadings, context: &Context<'_>) -> Result<HostTrust, Rejected> {
        let of = |wanted: Mark| reading.iter().find(|(mark, _)| *mark == wanted).and_then(|(_, file)| file.as_ref());
        let lines =
            |mark: Mark, key: &SshKey| of(mark).map_or_else(Vec::new, |file| file.with_key(mark, &key.sha256()));
        // A certificate that this gateway made says what this gateway believed: by it who was removed would come back.
        let foreign = self.certificate.as_ref().filter(|certificate| context.host_ca != Some(&certificate.ca));
        if let Some(certificate) = foreign {
            let lines = lines(Mark::Authority, &certificate.ca);
            if !lines.is_empty() {
                let covered = |name: &&String| lines.iter().any(|line| line.covers(name));
                let names = listed(certificate.principals.iter().filter(covered).cloned());
                return Ok(HostTrust::Authority { names, key_id: certificate.key_id.clone() });
            }
        }
        let lines = lines(Mark::Pin, &self.key);
        if !lines.is_empty() {
            let plain = lines.iter().flat_map(|line| line.names());
            let compared = self.possible().into_iter().filter(|name| lines.iter().any(|line| line.covers(name)));
            return Ok(HostTrust::Pinned { names: listed(plain.chain(compared)) });
        }
        match (&self.certificate, of(Mark::Authority), &self.purpose) {
            (Some(certificate), Some(_), HostPurpose::Join(_)) => {
                Err(other_authority(&certificate.ca.fingerprint()).into())
            }
            // Without any authority a certificate is worth no more than its key. At a renewal the machine is in: that a CA is not
            // known any more must not strand it.
            _ => Ok(HostTrust::None),
        }
    }

    /// Whether the trust is in this machine. At a renewal anybody may show a host key that they hold: it counts for the machine of that
    /// name, and for one of another name if it counted for that before it was renamed.
    fn is_of_the_machine(&self, trust: &HostTrust) -> bool {
        let HostPurpose::Renewal { name, trusted } = &self.purpose else { return true };
        let fits = trust.hosts().iter().filter_map(|host| self.machine(host)).any(|machine| machine == *name);
        fits || *trusted == Some(self.key.fingerprint())
    }

    /// The name that a host could have which is or becomes the machine, to compare with hashed ones.
    fn possible(&self) -> Option<String> {
        let name = match &self.purpose {
            HostPurpose::Join(wanted) => wanted.as_ref()?,
            HostPurpose::Renewal { name, .. } => name,
        };
        Some(match &self.domain {
            Some(domain) => format!("{name}.{domain}"),
            None => name.clone(),
        })
    }

    /// The machine that a host is: in the configured domain the one of its first label, without a domain the one of the same name. With
    /// a domain a name without any may be one of another domain.
    fn machine(&self, host: &str) -> Option<String> {
        let host = host.to_ascii_lowercase();
        let label = match &self.domain {
            Some(domain) => host.strip_suffix(domain)?.strip_suffix('.')?,
            None => &host,
        };
        name::legal(label).ok().map(|name| name.to_string())
    }
}

/// Names of hosts in lower case, each once. A name with a comma or a blank is no host's, and would be read as two.
fn listed(names: impl Iterator<Item = String>) -> Vec<String> {
    let names = names.map(|name| name.to_ascii_lowercase());
    let names = names.filter(|name| !name.contains(|c: char| c == ',' || c.is_whitespace()));
    let names: BTreeSet<String> = names.collect();
    names.into_iter().take(NAMES_MAX).collect()
}
