//! `ssh-host-key`: the machine's sshd has a host key, or a host certificate, and that key signs for the key to be certified.
//!
//! Evidence: JSON [`SshHostKey`](Body), with an SSHSIG (OpenSSH's PROTOCOL.sshsig) over the trust domain, the connection's exporter
//! value and the new key's digest, as `ssh-keygen -Y sign` makes it. Claims: `sshhost_fingerprint`, `sshhost_trust` (`authority`,
//! `pinned` or `none`), `sshhost_names`, `sshhost_key_id`. Names and key id are there only where the operator's files vouch for them.
//! It does not establish where the host key is stored, nor that the new key is on the same machine as the host key: whoever reads the
//! host key can send this. Without trust it does not establish that an sshd has that key at all.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use pki::{
    AssuranceLevel, BadSshSignature, ForeignSshCertificate, ForeignSshError, SshKey, SshKeyError, SshKind, UnixTime,
};
use serde::Deserialize;
use wire::evidence::{SSH_HOST_KEY, SSH_HOST_KEY_NAMESPACE, SshHostKey as Body, ssh_host_key_message};

use self::known_hosts::Mark;
use super::{Attestor, Built, Case, Renewal, Row};
use crate::core::{
    evidence::{
        BadSection, ClaimKind, Claims, Cleared, Context, DocumentSource, Found, Message, Need, Purpose, Reject,
        Rejected, RejectionCode, RestsOn, Section, Step, Vouched,
    },
    name,
    records::{Claim, LockKind},
    refusal::{Fault, Refusal},
};

mod known_hosts;
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
    let file = |path: PathBuf| DocumentSource::File(section.map_or(path.clone(), |section| section.path(&path)));
    if let Some(domain) = &domain
        && !domain.split('.').all(|label| name::known(label).is_ok())
    {
        return Err(BadSection::new("`domain` must be a lower-case DNS domain such as \"example.com\""));
    }
    let trusts = TrustedFiles { authorities: authorities.map(file), known_hosts: known_hosts.map(file) };
    Ok(enabled.then(|| Box::new(SshHostKey { trusts, domain }) as Box<dyn Attestor>))
}

static MALFORMED: RejectionCode = RejectionCode::malformed("ssh-host-malformed", None);
static KEY: RejectionCode = RejectionCode::refused(
    "ssh-host-key",
    Some("sign with a host key of type ed25519, ecdsa, or rsa of 2048 to 4096 bits"),
);
static SIGNATURE: RejectionCode = RejectionCode::refused(
    "ssh-host-signature",
    Some("sign the four lines for this connection and key with `ssh-keygen -Y sign -n join@lychgate`"),
);
static CERTIFICATE: RejectionCode =
    RejectionCode::refused("ssh-host-certificate", Some("have the CA sign the host key again, or send the key alone"));
static EXPIRED: RejectionCode = RejectionCode::refused("ssh-host-expired", Some(RENEW));
static NOT_YET: RejectionCode = RejectionCode::refused(
    "ssh-host-not-yet",
    Some("compare the clocks of this machine, of the CA and of the gateway"),
);
static AUTHORITY: RejectionCode = RejectionCode::refused(
    "ssh-host-authority",
    Some("send the key alone, or ask the operator whether the gateway should know this CA"),
);
static NAMES: RejectionCode = RejectionCode::refused(
    "ssh-host-names",
    Some("ask for one of these names, or ask the operator about `domain` in `[attest.ssh-host-key]`"),
);
static REVOKED: RejectionCode = RejectionCode::refused("ssh-host-revoked", Some("make a new host key"));

/// Hint for a certificate that is over.
const RENEW: &str = "have the host certificate renewed, or send the key alone";

fn malformed(why: &str) -> Reject {
    Reject::new(&MALFORMED, format!("the SSH host key cannot be judged: {why}"))
}

fn certificate(why: &str) -> Reject {
    Reject::new(&CERTIFICATE, format!("the SSH host certificate does not hold: {why}"))
}

fn unusable(error: &SshKeyError) -> Reject {
    match error {
        SshKeyError::Unreadable(why) => malformed(why),
        SshKeyError::Unsupported { .. } | SshKeyError::Key(_) => {
            Reject::new(&KEY, format!("the SSH host key is not one that is judged here: {error}"))
        }
    }
}

impl From<BadSshSignature> for Reject {
    fn from(error: BadSshSignature) -> Self {
        match &error {
            BadSshSignature::Unreadable(why) => malformed(why),
            BadSshSignature::OtherKey
            | BadSshSignature::Namespace { .. }
            | BadSshSignature::Sha1
            | BadSshSignature::Wrong => Self::new(&SIGNATURE, error.to_string()),
        }
    }
}

impl From<ForeignSshError> for Reject {
    fn from(error: ForeignSshError) -> Self {
        match &error {
            ForeignSshError::Unreadable(why) => malformed(why),
            ForeignSshError::Key(bad) => unusable(bad),
            ForeignSshError::Ca(_) | ForeignSshError::Sha1 | ForeignSshError::Signature => {
                certificate(&error.to_string())
            }
        }
    }
}

fn expired(until: UnixTime) -> Reject {
    Reject::new(&EXPIRED, format!("the SSH host certificate ended at {until}"))
}

fn not_yet(from: UnixTime) -> Reject {
    Reject::new(&NOT_YET, format!("the SSH host certificate is valid from {from}"))
}

fn other_authority(ca: &str) -> Reject {
    Reject::new(&AUTHORITY, format!("the SSH host certificate is by the CA {ca}, which this gateway does not know"))
}

fn no_name(names: &[String]) -> Reject {
    let text = if names.is_empty() {
        "the SSH host key is trusted, and for no host that a machine could be called after".to_owned()
    } else {
        format!("the SSH host key is trusted for {}, and none of these is a name for a machine here", names.join(", "))
    };
    Reject::new(&NAMES, text)
}

fn revoked() -> Reject {
    Reject::new(&REVOKED, "the SSH host key, or the CA of its certificate, is marked `@revoked` at this gateway")
}

fn rejections() -> Vec<Reject> {
    let unsupported = SshKeyError::Unsupported { found: "sk-ssh-ed25519@openssh.com".to_owned() };
    vec![
        malformed("its JSON is malformed"),
        unusable(&unsupported),
        BadSshSignature::OtherKey.into(),
        BadSshSignature::Namespace { found: "file".to_owned() }.into(),
        BadSshSignature::Sha1.into(),
        BadSshSignature::Wrong.into(),
        ForeignSshError::Sha1.into(),
        ForeignSshError::Signature.into(),
        certificate(IS_FOR_A_USER),
        certificate(&options(&["source-address".to_owned()])),
        certificate(FOR_EVERY_HOST),
        expired(UnixTime::new(1_000_000)),
        not_yet(UnixTime::new(1_000_000)),
        other_authority("SHA256:AAAA"),
        no_name(&["web1.example.com".to_owned()]),
        no_name(&[]),
        revoked(),
    ]
}

const IS_FOR_A_USER: &str = "it is a user's, and no host's";
const FOR_EVERY_HOST: &str = "it names no host, so it would be valid for all";

fn options(unknown: &[String]) -> String {
    format!("it has critical options that are not known here: {}", unknown.join(", "))
}

struct SshHostKey {
    trusts: TrustedFiles,
    domain: Option<String>,
}

/// The operator's files.
#[derive(Clone)]
struct TrustedFiles {
    authorities: Option<DocumentSource>,
    known_hosts: Option<DocumentSource>,
}

impl TrustedFiles {
    /// Each with what it is read for. The order is that of the needs.
    fn all(&self) -> impl Iterator<Item = (&DocumentSource, Mark)> {
        let authorities = self.authorities.iter().map(|source| (source, Mark::Authority));
        authorities.chain(self.known_hosts.iter().map(|source| (source, Mark::Pin)))
    }
}

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
            Purpose::Renewal => HostPurpose::Renewal,
        };
        let (trusts, domain) = (self.trusts.clone(), self.domain.clone());
        Ok(Box::new(ProvenHostKey { key, certificate, purpose, trusts, domain }))
    }

    fn documents(&self) -> Vec<DocumentSource> {
        self.trusts.all().map(|(source, _)| source.clone()).collect()
    }

    fn complaints(&self, source: &DocumentSource, text: &[u8]) -> Vec<String> {
        let of = self.trusts.all().filter(|(of, _)| *of == source);
        of.flat_map(|(_, mark)| known_hosts::complaints(&String::from_utf8_lossy(text), mark)).collect()
    }
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
    Renewal,
}

/// A host key whose holder has signed for this connection and key.
struct ProvenHostKey {
    key: SshKey,
    /// Signed by the CA in it, for a host, valid now.
    certificate: Option<ForeignSshCertificate>,
    purpose: HostPurpose,
    trusts: TrustedFiles,
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
        if !found.is_empty() {
            return Ok(vec![]);
        }
        Ok(self.trusts.all().map(|(source, _)| Need::Document(source.clone())).collect())
    }

    fn rests_on(&self, _: &Found, _: &Context<'_>) -> Result<RestsOn, Reject> {
        let keys = [Some(&self.key), self.certificate.as_ref().map(|certificate| &certificate.ca)];
        let targets: Vec<_> =
            keys.into_iter().flatten().map(|key| (LockKind::Key, hex::encode(key.sha256()))).collect();
        Ok(RestsOn { own: targets.clone(), targets })
    }

    fn step(&self, found: &Found, _: &Context<'_>, _: &Cleared) -> Result<Step, Rejected> {
        let trust = self.trust(found)?;
        let mut values = BTreeMap::from([
            ("fingerprint".to_owned(), Claim::Text(self.key.fingerprint())),
            ("trust".to_owned(), Claim::Text(trust.as_str().to_owned())),
        ]);
        let hosts = match &trust {
            HostTrust::Authority { names, key_id } => {
                values.insert("key_id".to_owned(), Claim::Text(key_id.clone()));
                names.as_slice()
            }
            HostTrust::Pinned { names } => names.as_slice(),
            HostTrust::None => &[],
        };
        if !hosts.is_empty() {
            values.insert("names".to_owned(), Claim::Text(hosts.join(",")));
        }
        let names = match (&self.purpose, &trust) {
            // A machine may have been given another name than its sshd has; at a renewal the name is not in question.
            (HostPurpose::Renewal, _) | (_, HostTrust::None) => vec![],
            (HostPurpose::Join(_), HostTrust::Authority { .. } | HostTrust::Pinned { .. }) => {
                let names: BTreeSet<String> = hosts.iter().filter_map(|host| self.machine(host)).collect();
                if names.is_empty() {
                    return Err(no_name(hosts).into());
                }
                names.into_iter().collect()
            }
        };
        let assurance = AssuranceLevel::Software;
        Ok(Step::Done(Box::new(Vouched::claims(Claims { values, assurance, role: None, names, grants: None }))))
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
}

/// How long a client waits until an operator's file may be readable again.
const FILE_PATIENCE: Duration = Duration::from_secs(30);

/// Most names of a host that are told; sshd has no more than a few.
const NAMES_MAX: usize = 32;

impl ProvenHostKey {
    /// The texts of the configured files, in the order of the needs.
    fn texts<'a>(&self, found: &'a Found) -> Result<Vec<(Mark, Cow<'a, str>)>, Rejected> {
        let mut texts = Vec::new();
        for (at, (source, mark)) in self.trusts.all().enumerate() {
            // Without the file it is not known what is revoked.
            let document = found.document(at).ok_or_else(|| unreadable(source, "it cannot be read"))?;
            let text = String::from_utf8_lossy(&document.bytes);
            let keys = [Some(&self.key), self.certificate.as_ref().map(|certificate| &certificate.ca)];
            let blobs: Vec<&[u8]> = keys.into_iter().flatten().map(SshKey::blob).collect();
            match known_hosts::is_revoked(&text, &blobs) {
                Ok(false) => texts.push((mark, text)),
                Ok(true) => return Err(revoked().into()),
                Err(bad) => return Err(unreadable(source, &bad.to_string())),
            }
        }
        Ok(texts)
    }

    fn trust(&self, found: &Found) -> Result<HostTrust, Rejected> {
        let texts = self.texts(found)?;
        let of = |wanted: Mark| texts.iter().find(|(mark, _)| *mark == wanted).map(|(_, text)| &**text);
        if let (Some(certificate), Some(text)) = (&self.certificate, of(Mark::Authority)) {
            let lines = known_hosts::with_key(text, Mark::Authority, certificate.ca.blob());
            if !lines.is_empty() {
                let covered = |name: &&String| lines.iter().any(|line| line.covers(name));
                let names = listed(certificate.principals.iter().filter(covered).cloned());
                return Ok(HostTrust::Authority { names, key_id: certificate.key_id.clone() });
            }
        }
        if let Some(text) = of(Mark::Pin) {
            let lines = known_hosts::with_key(text, Mark::Pin, self.key.blob());
            if !lines.is_empty() {
                let plain = lines.iter().flat_map(known_hosts::HostLine::names);
                let compared = self.wanted().into_iter().filter(|name| lines.iter().any(|line| line.covers(name)));
                return Ok(HostTrust::Pinned { names: listed(plain.chain(compared)) });
            }
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

    /// The names that a host could have which becomes the wanted machine, to compare with hashed ones.
    fn wanted(&self) -> Vec<String> {
        let HostPurpose::Join(Some(wanted)) = &self.purpose else { return vec![] };
        let full = self.domain.as_ref().map(|domain| format!("{wanted}.{domain}"));
        std::iter::once(wanted.clone()).chain(full).collect()
    }

    /// The machine that a host is: one of the same name, without the configured domain. Hosts of other domains are none, since hosts
    /// of two domains may have the same first label.
    fn machine(&self, host: &str) -> Option<String> {
        let host = host.to_ascii_lowercase();
        let inside = self.domain.as_ref().and_then(|domain| host.strip_suffix(domain)?.strip_suffix('.'));
        name::legal(inside.unwrap_or(&host)).ok().map(|name| name.to_string())
    }
}

/// Names of hosts in lower case, each once. A name with a comma or a blank is no host's, and would be read as two.
fn listed(names: impl Iterator<Item = String>) -> Vec<String> {
    let names = names.map(|name| name.to_ascii_lowercase());
    let names = names.filter(|name| !name.contains(|c: char| c == ',' || c.is_whitespace()));
    let names: BTreeSet<String> = names.collect();
    names.into_iter().take(NAMES_MAX).collect()
}

/// A configured file is not usable now. The client is told only to come again.
fn unreadable(DocumentSource::File(path): &DocumentSource, why: &str) -> Rejected {
    let why = format!("`[attest.ssh-host-key]`: {}: {why}", path.display());
    Refusal::Ours(Fault::Unavailable { retry_after: FILE_PATIENCE, why }).into()
}
