//! The instance identity document of AWS, with its RSA-2048 signature: JSON in PKCS #7, by a certificate that AWS publishes for each
//! region. That certificate is in no chain and is trusted as it is.
//!
//! The document is the same for as long as the instance runs and has neither nonce nor key. Whoever can read it, by a request that a
//! program on the instance was made to send for example, has all that it proves. So it admits an instance once, for one key, for a while
//! after the start of the instance, and never as the machine that the instance is already.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use pki::{Assurance, PinnedCertificates, SignedMessage, UnixTime};
use serde::Deserialize;
use wire::evidence::CLOUD_AWS_IDENTITY;

use super::{AskedDocument, AttestedInstance, DocumentFault, DocumentKind, LEEWAY, ReadDocument, json, reject, texts};
use crate::core::evidence::{DocumentFile, DocumentSource, Found, Reject, Section};

/// How long after its start an instance may join, if the section does not say: as long as a first start with its updates takes.
const MAX_AGE: Duration = Duration::from_secs(15 * 60);

/// Longest `max_age`. So long it is remembered that an instance was admitted.
const MAX_AGE_MOST: Duration = Duration::from_secs(30 * 24 * 3600);

/// `[attest.cloud.aws-identity]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentitySettings {
    /// The accounts whose instances may join.
    accounts: Vec<String>,
    /// For each region a PEM file with its certificate.
    regions: BTreeMap<String, PathBuf>,
    /// How long after its start an instance may join.
    max_age: Option<String>,
}

pub(super) struct IdentityDocuments {
    accounts: Vec<String>,
    regions: BTreeMap<String, DocumentFile<PinnedCertificates>>,
    max_age: Duration,
}

impl IdentityDocuments {
    pub(super) fn new(settings: IdentitySettings, section: &Section) -> Result<Self, String> {
        let is_account = |id: &String| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_digit());
        if settings.accounts.is_empty() || !settings.accounts.iter().all(is_account) {
            return Err("`accounts` must be a list of ids of accounts, of twelve digits each".to_owned());
        }
        if settings.regions.is_empty() || !settings.regions.keys().all(|name| is_id(name)) {
            return Err("`regions` must name a file for each region, such as regions.eu-central-1".to_owned());
        }
        let max_age = settings.max_age.map(|text| {
            let age = humantime::parse_duration(&text).ok();
            age.filter(|age| (Duration::from_secs(1)..=MAX_AGE_MOST).contains(age))
        });
        let max_age = max_age.unwrap_or(Some(MAX_AGE));
        let file = |path: PathBuf| DocumentFile::at(DocumentSource::File(section.path(&path)));
        Ok(Self {
            accounts: settings.accounts,
            regions: settings.regions.into_iter().map(|(name, path)| (name, file(path))).collect(),
            max_age: max_age.ok_or("`max_age` must be a time such as \"15m\", up to \"30d\"")?,
        })
    }
}

/// Ids of regions, instances and images.
fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

fn read_region(text: &[u8]) -> Result<PinnedCertificates, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
    PinnedCertificates::from_pem(text).map_err(|error| error.to_string())
}

/// What is read of the document; it has other members, too.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityContent {
    account_id: String,
    region: String,
    instance_id: String,
    image_id: String,
    pending_time: String,
}

impl DocumentKind for IdentityDocuments {
    fn name(&self) -> &'static str {
        CLOUD_AWS_IDENTITY
    }

    fn files(&self) -> Vec<DocumentSource> {
        self.regions.values().map(|file| file.source().clone()).collect()
    }

    fn complaint(&self, _: &DocumentSource, text: &[u8]) -> Option<String> {
        read_region(text).err()
    }

    /// The region says whose signature it must be; then that is verified, over the same bytes.
    fn read(self: Arc<Self>, document: &[u8], asked: &AskedDocument) -> Result<Box<dyn ReadDocument>, Reject> {
        let message = SignedMessage::read(document)?;
        let said: IdentityContent = json(message.unverified_content())?;
        if !self.regions.contains_key(&said.region) {
            return Err(reject::account("region", &said.region));
        }
        if !self.accounts.contains(&said.account_id) {
            return Err(reject::account("account", &said.account_id));
        }
        if ![&said.instance_id, &said.image_id].into_iter().all(|id| is_id(id)) {
            return Err(reject::malformed("its instance or image is no id"));
        }
        let started = UnixTime::parse_rfc3339(&said.pending_time);
        let started = started.ok_or_else(|| reject::malformed("its `pendingTime` is no time"))?;
        if started.secs() > asked.now.secs().saturating_add(LEEWAY) {
            return Err(reject::early(started));
        }
        let (device, until) = (format!("aws {}", said.instance_id), started.plus(self.max_age));
        Ok(Box::new(ShownIdentity { identity: self, message, said, device, until }))
    }
}

/// A document that was read.
struct ShownIdentity {
    identity: Arc<IdentityDocuments>,
    message: SignedMessage,
    said: IdentityContent,
    device: String,
    until: UnixTime,
}

impl ShownIdentity {
    fn region(&self) -> Option<&DocumentFile<PinnedCertificates>> {
        self.identity.regions.get(&self.said.region)
    }
}

impl ReadDocument for ShownIdentity {
    fn source(&self) -> &DocumentSource {
        static NONE: DocumentSource = DocumentSource::File(PathBuf::new());
        // It was there when the document was read.
        self.region().map_or(&NONE, DocumentFile::source)
    }

    fn judge(&self, found: &Found, _: UnixTime) -> Result<AttestedInstance, DocumentFault> {
        let region = self.region().ok_or_else(|| reject::account("region", &self.said.region))?;
        let pinned = region.read(found, 0, read_region).map_err(DocumentFault::Unusable)?;
        let (_, signer) = pinned.content(&self.message).map_err(Reject::from)?;
        let values = texts([
            ("document", Some(CLOUD_AWS_IDENTITY)),
            ("bound", Some("use")),
            ("device", Some(&self.device)),
            ("instance", Some(&self.said.instance_id)),
            ("account", Some(&self.said.account_id)),
            ("region", Some(&self.said.region)),
            ("image", Some(&self.said.image_id)),
        ]);
        let (assurance, signers, until) = (Assurance::SOFTWARE, vec![signer], Some(self.until));
        Ok(AttestedInstance { values, assurance, signers, until })
    }

    fn once(&self) -> Option<&str> {
        Some(&self.device)
    }
}
