//! The attested document of Azure: JSON in PKCS #7, by a certificate for `metadata.azure.com` or a name below it, whose chain leads to
//! configured anchors.
//!
//! Its nonce is made of the challenge and the key to be certified, so that it is for this key. The signer is the one that the message
//! names, and it is that certificate whose chain is followed. It establishes that somebody on this virtual machine asked for a document
//! for this key. It does not establish what runs there.

use std::{path::PathBuf, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use pki::{Assurance, KeyDigest, PathAnchors, SignedMessage, UnixTime};
use serde::Deserialize;
use wire::evidence::{CLOUD_AZURE_ATTESTED, CLOUD_AZURE_NONCE_LEN, cloud_azure_message};

use super::{AskedDocument, AttestedInstance, DocumentFault, DocumentKind, LEEWAY, ReadDocument, json, reject, texts};
use crate::core::evidence::{DocumentFile, DocumentSource, Found, Reject, Section};

/// For whom the certificate of the signer is, in Azure's public cloud.
const SIGNER: &str = "metadata.azure.com";

/// `[attest.cloud.azure-attested]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AzureSettings {
    /// A PEM file with the CAs of the signers.
    anchors: PathBuf,
    /// The names that signers have, or names above those.
    signers: Option<Vec<String>>,
    /// The subscriptions whose machines may join.
    subscriptions: Vec<String>,
}

pub(super) struct AzureDocuments {
    anchors: DocumentFile<PathAnchors>,
    signers: Vec<String>,
    subscriptions: Vec<String>,
}

impl AzureDocuments {
    pub(super) fn new(settings: AzureSettings, section: &Section) -> Result<Self, String> {
        let subscriptions: Option<Vec<_>> = settings.subscriptions.iter().map(|id| uuid(id)).collect();
        let subscriptions = subscriptions.filter(|ids| !ids.is_empty());
        let signers = settings.signers.unwrap_or_else(|| vec![SIGNER.to_owned()]);
        let is_name = |name: &String| {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
            name.contains('.') && name.split('.').all(|label| !label.is_empty()) && name.bytes().all(plain)
        };
        if signers.is_empty() || !signers.iter().all(is_name) {
            return Err("`signers` must be a list of lower-case DNS names such as \"metadata.azure.com\"".to_owned());
        }
        Ok(Self {
            anchors: DocumentFile::at(DocumentSource::File(section.path(&settings.anchors))),
            signers,
            subscriptions: subscriptions.ok_or("`subscriptions` must be a list of ids of subscriptions")?,
        })
    }

    /// Whether a certificate with these names may sign documents.
    fn is_signer(&self, names: &[String]) -> bool {
        let below =
            |name: &String, signer: &String| name.strip_suffix(signer.as_str()).is_some_and(|rest| rest.ends_with('.'));
        names.iter().any(|name| self.signers.iter().any(|signer| name == signer || below(name, signer)))
    }
}

/// An id such as `6d0a5c1e-0000-4000-8000-000000000000`, in lower case.
fn uuid(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    (lengths == [8, 4, 4, 4, 12] && parts.iter().all(is_hex)).then(|| text.to_ascii_lowercase())
}

/// A time such as `11/20/18 22:07:39 -0000`.
fn time(text: &str) -> Option<UnixTime> {
    let mut parts = text.split(' ');
    let (date, clock, offset) = (parts.next()?, parts.next()?, parts.next()?);
    let mut date = date.split('/');
    let (month, day, year) = (date.next()?, date.next()?, date.next()?);
    let (hours, minutes) = offset.split_at_checked(3)?;
    let is_all = parts.next().is_none() && date.next().is_none() && year.len() == 2;
    UnixTime::parse_rfc3339(&format!("20{year}-{month}-{day}T{clock}{hours}:{minutes}")).filter(|_| is_all)
}

fn read_anchors(text: &[u8]) -> Result<PathAnchors, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
    PathAnchors::from_pem(text).map_err(|error| error.to_string())
}

/// What is read of the document; it has other members, too.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AzureContent {
    nonce: String,
    vm_id: String,
    subscription_id: String,
    time_stamp: AzureTimes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AzureTimes {
    created_on: String,
    expires_on: String,
}

impl DocumentKind for AzureDocuments {
    fn name(&self) -> &'static str {
        CLOUD_AZURE_ATTESTED
    }

    fn files(&self) -> Vec<DocumentSource> {
        vec![self.anchors.source().clone()]
    }

    fn complaint(&self, _: &DocumentSource, text: &[u8]) -> Option<String> {
        read_anchors(text).err()
    }

    fn read(self: Arc<Self>, document: &[u8], asked: &AskedDocument) -> Result<Box<dyn ReadDocument>, Reject> {
        let message = SignedMessage::read(document)?;
        let said: AzureContent = json(message.unverified_content())?;
        let nonce = digest(&SHA256, &cloud_azure_message(&asked.nonce, asked.for_key.as_bytes()));
        if hex::encode(nonce).get(..CLOUD_AZURE_NONCE_LEN) != Some(&said.nonce) {
            return Err(reject::other_nonce());
        }
        let times = time(&said.time_stamp.created_on).zip(time(&said.time_stamp.expires_on));
        let (created, expires) = times.ok_or_else(|| reject::malformed("its `timeStamp` has no times"))?;
        if created.secs() > asked.now.secs().saturating_add(LEEWAY) {
            return Err(reject::early(created));
        }
        if expires < asked.now {
            return Err(reject::expired(expires));
        }
        let ids = uuid(&said.vm_id).zip(uuid(&said.subscription_id));
        let (machine, subscription) =
            ids.ok_or_else(|| reject::malformed("its `vmId` or `subscriptionId` is no id"))?;
        if !self.subscriptions.contains(&subscription) {
            return Err(reject::account("subscription", &subscription));
        }
        let certificates = message.certificates_of_signer()?;
        Ok(Box::new(ShownAttested { azure: self, message, certificates, machine, subscription }))
    }
}

/// A document for this challenge and key.
struct ShownAttested {
    azure: Arc<AzureDocuments>,
    message: SignedMessage,
    /// The signer's first.
    certificates: Vec<Vec<u8>>,
    machine: String,
    subscription: String,
}

impl ShownAttested {
    fn verify(&self, anchors: &PathAnchors, now: UnixTime) -> Result<Vec<KeyDigest>, Reject> {
        let path = pki::verify_path(&self.certificates, anchors, now).map_err(|error| reject::path(&error))?;
        let leaf = path.leaf();
        if !self.azure.is_signer(&leaf.names) {
            let names = if leaf.names.is_empty() { "nobody".to_owned() } else { leaf.names.join(", ") };
            return Err(reject::signature(&format!("the certificate of its signer is for {names}")));
        }
        let signer = self.certificates.first().ok_or_else(|| reject::malformed("it has no certificate"))?;
        self.message.content_signed_by(signer)?;
        Ok(std::iter::once(leaf.key).chain(path.issuer_keys()).collect())
    }
}

impl ReadDocument for ShownAttested {
    fn source(&self) -> &DocumentSource {
        self.azure.anchors.source()
    }

    fn judge(&self, found: &Found, now: UnixTime) -> Result<AttestedInstance, DocumentFault> {
        let anchors = self.azure.anchors.read(found, 0, read_anchors).map_err(DocumentFault::Unusable)?;
        let signers = self.verify(&anchors, now)?;
        let device = format!("azure {}", self.machine);
        let values = texts([
            ("document", Some(CLOUD_AZURE_ATTESTED)),
            ("bound", Some("key")),
            ("device", Some(&device)),
            ("instance", Some(&self.machine)),
            ("account", Some(&self.subscription)),
        ]);
        Ok(AttestedInstance { values, assurance: Assurance::SOFTWARE, signers, until: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, want) in [
            ("11/20/18 22:07:39 -0000", Some(1_542_751_659)),
            ("11/20/18 23:07:39 +0100", Some(1_542_751_659)),
            ("20/11/18 22:07:39 -0000", None),
            ("11/20/2018 22:07:39 -0000", None),
            ("11/20/18 22:07:39", None),
            ("11/20/18 22:07:39 -0000 x", None),
            ("11/20/18/1 22:07:39 -0000", None),
            ("", None),
        ] {
            assert_eq!(time(text), want.map(UnixTime::new), "{text}");
        }
    }

    #[test]
    fn ids() {
        assert_eq!(
            uuid("6D0A5C1E-0000-4000-8000-00000000000f").as_deref(),
            Some("6d0a5c1e-0000-4000-8000-00000000000f")
        );
        for text in ["", "6d0a5c1e", "6d0a5c1e-0000-4000-8000-00000000000g", "6d0a5c1e00004000800000000000000f"] {
            assert_eq!(uuid(text), None, "{text}");
        }
    }
}
