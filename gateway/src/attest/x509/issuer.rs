//! An issuer in the configuration: its anchors, what it must have certified, and its revocation lists.

use std::{path::PathBuf, time::Duration};

use pki::{KeyDigest, PathAnchors, PathError, PathLeaf, RevocationError, RevocationList, UnixTime};
use serde::Deserialize;

use super::reject::{is_other_issuer, is_revoked, revoked};
use crate::{
    core::{
        evidence::{BadSection, DocumentFile, DocumentSource, Found, Reject, Section},
        name,
    },
    limits::CONFIG_DURATION_MAX,
};

/// `[attest.x509.issuers.NAME]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuerSettings {
    /// A PEM file with its CAs.
    anchors: PathBuf,
    /// The extended key usages that the certificate must have.
    #[serde(default)]
    extended_key_usages: Vec<String>,
    /// The certificate policies that must be valid for the path.
    #[serde(default)]
    certificate_policies: Vec<String>,
    /// Files with its revocation lists, DER or PEM.
    #[serde(default)]
    crls: Vec<PathBuf>,
    /// How old a list may be, although it says that it is good for longer.
    crl_max_age: Option<String>,
    /// Whether it certifies only keys that cannot leave their hardware.
    #[serde(default)]
    hardware: bool,
    /// Where the machine's name is taken from.
    name: Option<NameSetting>,
    /// The DNS domain whose hosts are machines of the same name.
    domain: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NameSetting {
    Dns,
    SerialNumber,
}

/// Where a machine's name is taken from.
pub(super) enum NameSource {
    /// It is not: any may be asked for.
    None,
    /// From the DNS names in a domain.
    Dns { domain: String },
    /// From the serial number of the device.
    SerialNumber,
}

pub(super) struct Issuer {
    pub(super) name: String,
    pub(super) hardware: bool,
    pub(super) name_source: NameSource,
    anchors: DocumentFile<PathAnchors>,
    lists: Vec<DocumentFile<Vec<RevocationList>>>,
    max_age: Option<Duration>,
    usages: Vec<String>,
    policies: Vec<String>,
}

/// A certificate that an issuer stands for.
pub(super) struct IssuedDevice {
    pub(super) leaf: PathLeaf,
    pub(super) issuer_keys: Vec<KeyDigest>,
    /// The certificates below the anchor.
    pub(super) path: Vec<Vec<u8>>,
}

/// Why an issuer does not stand for a certificate.
#[derive(Clone)]
pub(super) enum IssuerFault {
    /// It is the certificate's fault.
    Rejected(Box<Reject>),
    /// A file of this gateway cannot be used; why, for the operator.
    Unusable(String),
}

impl IssuerFault {
    pub(super) fn is_revocation(&self) -> bool {
        matches!(self, Self::Rejected(reject) if is_revoked(reject))
    }

    /// What to tell of two: a file of ours first, since a certificate may be good; an unknown issuer last.
    pub(super) fn more_telling(before: Option<Self>, now: Self) -> Option<Self> {
        let rank = |fault: &Self| match fault {
            Self::Unusable(_) => 2,
            Self::Rejected(reject) => u8::from(!is_other_issuer(reject)),
        };
        match before {
            Some(before) if rank(&before) >= rank(&now) => Some(before),
            Some(_) | None => Some(now),
        }
    }
}

impl From<PathError> for IssuerFault {
    fn from(error: PathError) -> Self {
        Self::Rejected(Box::new(error.into()))
    }
}

impl Issuer {
    pub(super) fn build(name: String, settings: IssuerSettings, section: &Section) -> Result<Self, BadSection> {
        let bad = |what: String| BadSection::new(format!("`issuers.{name}`: {what}"));
        if name::known(&name).is_err() {
            return Err(bad("a name of an issuer has lower-case letters, digits and inner hyphens".to_owned()));
        }
        let oids = settings.extended_key_usages.iter().chain(&settings.certificate_policies);
        if let Some(oid) = oids.into_iter().find(|oid| !is_oid(oid)) {
            return Err(bad(format!("`{oid}` is not an object identifier such as \"1.3.6.1.5.5.7.3.2\"")));
        }
        let max_age = settings.crl_max_age.as_deref().map(|text| {
            let age = humantime::parse_duration(text).ok().filter(|age| !age.is_zero() && *age <= CONFIG_DURATION_MAX);
            age.ok_or_else(|| bad("`crl_max_age` must be a time span such as \"7d\"".to_owned()))
        });
        let max_age = max_age.transpose()?;
        if max_age.is_some() && settings.crls.is_empty() {
            return Err(bad("`crl_max_age` is for `crls`, and there are none".to_owned()));
        }
        let is_domain = |domain: &String| domain.split('.').all(|label| name::known(label).is_ok());
        let name_source = match (settings.name, settings.domain) {
            (None, None) => NameSource::None,
            (Some(NameSetting::SerialNumber), None) => NameSource::SerialNumber,
            (Some(NameSetting::Dns), Some(domain)) if is_domain(&domain) => NameSource::Dns { domain },
            (Some(NameSetting::Dns), _) => {
                return Err(bad(
                    "`name = \"dns\"` needs `domain`, a lower-case DNS domain such as \"example.com\"".into()
                ));
            }
            (None | Some(NameSetting::SerialNumber), Some(_)) => {
                return Err(bad("`domain` is for `name = \"dns\"`".to_owned()));
            }
        };
        let source = |path: &PathBuf| DocumentSource::File(section.path(path));
        Ok(Self {
            anchors: DocumentFile::at(source(&settings.anchors)),
            lists: settings.crls.iter().map(|path| DocumentFile::at(source(path))).collect(),
            hardware: settings.hardware,
            usages: settings.extended_key_usages,
            policies: settings.certificate_policies,
            name_source,
            max_age,
            name,
        })
    }

    /// Its files, in the order in which they are looked up.
    pub(super) fn files(&self) -> impl Iterator<Item = &DocumentSource> {
        std::iter::once(self.anchors.source()).chain(self.lists.iter().map(DocumentFile::source))
    }

    /// What in one of its files cannot be used.
    pub(super) fn complaint(&self, source: &DocumentSource, text: &[u8]) -> Option<String> {
        let anchors = (self.anchors.source() == source).then(|| read_anchors(text).err()).flatten();
        let is_list = self.lists.iter().any(|list| list.source() == source);
        anchors.or_else(|| is_list.then(|| read_lists(text).err()).flatten())
    }

    /// Whether it stands for the first of some certificates. Its documents are found from `first` on.
    pub(super) fn judge(
        &self,
        given: &[Vec<u8>],
        first: usize,
        found: &Found,
        now: UnixTime,
    ) -> Result<IssuedDevice, IssuerFault> {
        let anchors = self.anchors.read(found, first, read_anchors).map_err(IssuerFault::Unusable)?;
        let path = pki::verify_path(given, &anchors, now)?;
        if !self.lists.is_empty() {
            let mut lists = Vec::new();
            for (file, at) in self.lists.iter().zip(first + 1..) {
                lists.push(file.read(found, at, read_lists).map_err(IssuerFault::Unusable)?);
            }
            let lists: Vec<&RevocationList> = lists.iter().flat_map(|read| read.iter()).collect();
            path.check_revocation(&lists, self.max_age, now).map_err(|error| match error {
                RevocationError::Revoked { .. } => IssuerFault::Rejected(Box::new(revoked(&error))),
                RevocationError::Missing { .. }
                | RevocationError::Unsigned { .. }
                | RevocationError::Early { .. }
                | RevocationError::Stale { .. }
                | RevocationError::Endless { .. } => {
                    IssuerFault::Unusable(format!("`crls` of the issuer `{}`: {error}", self.name))
                }
            })?;
        }
        for usage in &self.usages {
            path.require_usage(usage)?;
        }
        for policy in &self.policies {
            path.require_policy(policy)?;
        }
        Ok(IssuedDevice { leaf: path.leaf(), issuer_keys: path.issuer_keys(), path: path.below_anchor() })
    }
}

fn is_oid(text: &str) -> bool {
    let arcs: Vec<&str> = text.split('.').collect();
    arcs.len() > 1 && arcs.iter().all(|arc| !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit()))
}

fn read_anchors(text: &[u8]) -> Result<PathAnchors, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
    PathAnchors::from_pem(text).map_err(|error| error.to_string())
}

fn read_lists(text: &[u8]) -> Result<Vec<RevocationList>, String> {
    RevocationList::read(text).map_err(|error| error.to_string())
}
