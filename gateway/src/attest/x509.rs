//! `x509`: a certificate of another CA (a manufacturer's IDevID by IEEE 802.1AR, a company's, a cloud's), whose key signs for the key to
//! be certified.
//!
//! Evidence: JSON [`X509Evidence`], with a signature over the trust domain, the connection's exporter value and the new key's digest.
//! Without an issuer in the configuration the attestor is off. Claims: see [`ROW`]; all of them are what the configured CA certified.
//! It does not establish where the certificate's key is stored, unless the operator says of the issuer that it certifies only keys in
//! hardware; nor that the new key is on the same machine: whoever can use the certificate's key can send this.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{Assurance, AssuranceOf, KeyDigest, PathLeaf, Role, SshKey, UnixTime, UnprovenLeaf};
use serde::Deserialize;
use wire::evidence::{X509, X509Evidence, x509_message};

use self::{
    issuer::{IssuedDevice, Issuer, IssuerFault, IssuerSettings, NameSource},
    reject::{is_other_issuer, malformed, no_name, other_issuer, rejections, signature, unchecked},
};
use super::{Attestor, Built, Case, DeviceRow, Renewal, Row};
use crate::core::{
    change::Changes,
    evidence::{
        BadSection, ClaimKind, Claims, Cleared, Context, DocumentSource, Found, Message, Need, Purpose, Reject,
        Rejected, RestsOn, Section, Step, Vouched, unavailable,
    },
    name,
    records::{Claim, LockKind},
    refusal::Refusal,
};

mod issuer;
mod reject;
#[cfg(test)]
mod tests;

/// Row of [`super::ALL`].
pub static ROW: Row = Row {
    kind: X509,
    prefix: "x509",
    claims: &[
        ("issuer", ClaimKind::Text),
        ("device", ClaimKind::Text),
        ("subject", ClaimKind::Text),
        ("serial_number", ClaimKind::Text),
        ("names", ClaimKind::Text),
        ("usages", ClaimKind::Text),
        ("policies", ClaimKind::Text),
        ("fingerprint", ClaimKind::Text),
        ("key", ClaimKind::Text),
        ("not_after", ClaimKind::Number),
    ],
    renewal: Renewal::Proves,
    asks: false,
    device: Some(DeviceRow { claim: "device", counts: &[] }),
    rejections,
    build,
};

/// Most files of all issuers together, which is what is looked up at once.
const FILES_MAX: usize = 32;

/// `[attest.x509]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct X509Settings {
    #[serde(default = "enabled")]
    enabled: bool,
    /// The issuers, by the names that rules know them by.
    #[serde(default)]
    issuers: BTreeMap<String, IssuerSettings>,
}

const fn enabled() -> bool {
    true
}

fn build(section: Option<&Section>) -> Built {
    let Some(section) = section else { return Ok(None) };
    let X509Settings { enabled, issuers } = section.read()?;
    let issuers: Vec<Issuer> = issuers
        .into_iter()
        .map(|(name, settings)| Issuer::build(name, settings, section))
        .collect::<Result<_, BadSection>>()?;
    if !enabled {
        return Ok(None);
    }
    if issuers.is_empty() {
        return Err(BadSection::new("there is no issuer; write a section `[attest.x509.issuers.NAME]`"));
    }
    let files: usize = issuers.iter().map(|issuer| issuer.files().count()).sum();
    if files > FILES_MAX {
        return Err(BadSection::new(format!("the issuers have {files} files, and at most {FILES_MAX} are read")));
    }
    Ok(Some(Box::new(X509Attestor { issuers: Arc::new(issuers) })))
}

struct X509Attestor {
    /// By their names.
    issuers: Arc<Vec<Issuer>>,
}

impl Attestor for X509Attestor {
    fn open(&self, message: &Message<'_>, context: &Context<'_>) -> Result<Box<dyn Case>, Reject> {
        let body: X509Evidence =
            wire::strict::from_slice(message.body.as_bytes()).map_err(|_| malformed("its JSON is malformed"))?;
        let given = certificates(&body.certificates)?;
        let leaf = UnprovenLeaf::first(&given)?;
        let value = STANDARD.decode(&body.signature).map_err(|_| malformed("the signature is not base64"))?;
        let signed = x509_message(context.domain.as_str(), message.exporter, message.for_key.as_bytes());
        leaf.signed(&signed, &value).map_err(|_| signature())?;
        let key = KeyDigest::from_spki_der(leaf.spki_der());
        let purpose = match message.purpose {
            Purpose::Join { .. } => CertificatePurpose::Join,
            Purpose::Renewal { .. } => CertificatePurpose::Renewal,
        };
        let (for_key, issuers) = (message.for_key, Arc::clone(&self.issuers));
        Ok(Box::new(ProvenCertificate { key, for_key, given, purpose, issuers, judged: OnceLock::new() }))
    }

    fn documents(&self) -> Vec<DocumentSource> {
        documents(&self.issuers)
    }

    fn complaints(&self, source: &DocumentSource, text: &[u8], _: Option<&SshKey>, _: UnixTime) -> Vec<String> {
        self.issuers.iter().filter_map(|issuer| issuer.complaint(source, text)).collect()
    }

    fn recheck_needs(&self, _: &str, found: &Found) -> Vec<Need> {
        needs(&self.issuers, found)
    }

    fn recheck(
        &self,
        reference: &str,
        _: &KeyDigest,
        found: &Found,
        context: &Context<'_>,
    ) -> Result<Changes, Refusal> {
        let (name, pem) = reference.split_once('\n').ok_or_else(|| malformed("its record is not one of ours"))?;
        let given = certificates(pem)?;
        let mut first = 0;
        for issuer in &*self.issuers {
            if issuer.name == name {
                return match issuer.judge(&given, first, found, context.now) {
                    Ok(_) => Ok(Changes::new()),
                    Err(IssuerFault::Rejected(reject)) => Err((*reject).into()),
                    Err(IssuerFault::Unusable(_)) => Err(unchecked().into()),
                };
            }
            first += issuer.files().count();
        }
        Err(other_issuer(&format!("the issuer `{name}`, which is not configured any more")).into())
    }
}

/// The certificates in PEM, the leaf first.
fn certificates(pem: &str) -> Result<Vec<Vec<u8>>, Reject> {
    pki::parse_pem("CERTIFICATE", pem).map_err(|error| malformed(&error.to_string()))
}

fn documents(issuers: &[Issuer]) -> Vec<DocumentSource> {
    issuers.iter().flat_map(Issuer::files).cloned().collect()
}

fn needs(issuers: &[Issuer], found: &Found) -> Vec<Need> {
    if found.is_empty() { documents(issuers).into_iter().map(Need::Document).collect() } else { vec![] }
}

/// [`Purpose`], as far as it matters.
#[derive(Copy, Clone, PartialEq, Eq)]
enum CertificatePurpose {
    Join,
    Renewal,
}

/// A certificate whose key has signed for this connection and key.
struct ProvenCertificate {
    /// The digest of the certificate's key.
    key: KeyDigest,
    /// That of the key to be certified.
    for_key: KeyDigest,
    given: Vec<Vec<u8>>,
    purpose: CertificatePurpose,
    issuers: Arc<Vec<Issuer>>,
    /// Found once, although a decision is asked for several times.
    judged: OnceLock<Result<Arc<Certified>, IssuerFault>>,
}

/// A certificate with a path to an issuer.
struct Certified {
    /// Which one, of the configured ones.
    issuer: usize,
    device: IssuedDevice,
}

impl ProvenCertificate {
    /// What the issuers say. It is kept once all files are there: before, not all look-ups may have been made.
    fn certified(&self, found: &Found, context: &Context<'_>) -> Result<Arc<Certified>, IssuerFault> {
        let files: usize = self.issuers.iter().map(|issuer| issuer.files().count()).sum();
        if (0..files).all(|at| found.document(at).is_some()) {
            return self.judged.get_or_init(|| self.judge(found, context)).clone();
        }
        self.judge(found, context)
    }

    /// The first issuer, by name, whose requirements all hold. One that has revoked the certificate decides for all.
    fn judge(&self, found: &Found, context: &Context<'_>) -> Result<Arc<Certified>, IssuerFault> {
        let (mut first, mut good, mut fault) = (0, None, None::<IssuerFault>);
        for (at, issuer) in self.issuers.iter().enumerate() {
            match issuer.judge(&self.given, first, found, context.now) {
                Ok(device) => good = good.or(Some(Arc::new(Certified { issuer: at, device }))),
                Err(worse) if worse.is_revocation() => return Err(worse),
                Err(other) => fault = IssuerFault::more_telling(fault, other),
            }
            first += issuer.files().count();
        }
        good.ok_or_else(|| fault.unwrap_or_else(|| IssuerFault::Unusable("there is no issuer".to_owned())))
    }
}

impl Case for ProvenCertificate {
    fn needs(&self, found: &Found) -> Result<Vec<Need>, Reject> {
        Ok(needs(&self.issuers, found))
    }

    fn rests_on(&self, found: &Found, context: &Context<'_>) -> Result<RestsOn, Reject> {
        let mut keys = vec![self.key];
        if let Ok(certified) = self.certified(found, context) {
            keys.extend(&certified.device.issuer_keys);
        }
        let targets: Vec<_> = keys.iter().map(|key| (LockKind::Key, key.hex())).collect();
        Ok(RestsOn { own: targets.clone(), targets })
    }

    fn step(&self, found: &Found, context: &Context<'_>, _: &Cleared) -> Result<Step, Rejected> {
        let certified = match self.certified(found, context) {
            Ok(certified) => certified,
            // The machine is in: that an issuer is not known any more must not strand it.
            Err(IssuerFault::Rejected(reject))
                if is_other_issuer(&reject) && self.purpose == CertificatePurpose::Renewal =>
            {
                return Ok(Step::Done(Box::new(Vouched::claims(Claims::of_a_key()))));
            }
            Err(IssuerFault::Rejected(reject)) => return Err((*reject).into()),
            Err(IssuerFault::Unusable(why)) => return Err(Refusal::from(unavailable(X509, &why)).into()),
        };
        let Certified { issuer, device } = &*certified;
        let issuer = self.issuers.get(*issuer).ok_or_else(|| Rejected::from(malformed("there is no such issuer")))?;
        let names = match self.purpose {
            CertificatePurpose::Join => machines(issuer, &device.leaf)?,
            // A machine may have been renamed.
            CertificatePurpose::Renewal => vec![],
        };
        // The key that cannot be copied is the one of that certificate.
        let of = if device.leaf.key == self.for_key { AssuranceOf::Key } else { AssuranceOf::Host };
        let assurance = if issuer.hardware { Assurance::hardware(of) } else { Assurance::SOFTWARE };
        let values = values(issuer, &device.leaf);
        let claims = Claims { values, assurance, role: Some(Role::Machine), names, grants: None };
        let pem: String = device.path.iter().map(|der| pki::to_pem("CERTIFICATE", der)).collect();
        let reference = Some(format!("{}\n{pem}", issuer.name));
        Ok(Step::Done(Box::new(Vouched { reference, ..Vouched::claims(claims) })))
    }
}

fn values(issuer: &Issuer, leaf: &PathLeaf) -> BTreeMap<String, Claim> {
    let listed = |all: &[String]| (!all.is_empty()).then(|| all.join(","));
    let texts = [
        ("issuer", Some(issuer.name.clone())),
        ("device", Some(device(issuer, leaf))),
        ("subject", leaf.subject_digest.as_ref().map(|_| leaf.subject.clone())),
        ("serial_number", leaf.serial_number.clone()),
        ("names", listed(&leaf.names)),
        ("usages", listed(&leaf.usages)),
        ("policies", listed(&leaf.policies)),
        ("fingerprint", Some(leaf.fingerprint.clone())),
        ("key", Some(leaf.key.hex())),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Claim::Text(text?))));
    let not_after = Claim::Number(i64::try_from(leaf.not_after.secs()).unwrap_or(i64::MAX));
    texts.chain([("not_after".to_owned(), not_after)]).collect()
}

/// Which device it is. An IDevID names it by its serial number (IEEE 802.1AR), whichever of its keys is certified. A company's
/// certificate is replaced with another key under the same subject, and such a machine must go on renewing.
fn device(issuer: &Issuer, leaf: &PathLeaf) -> String {
    match (&leaf.serial_number, &leaf.subject_digest) {
        (Some(number), _) => format!("{} serial-number {number}", issuer.name),
        (None, Some(digest)) => format!("{} subject {digest}", issuer.name),
        (None, None) => format!("{} key {}", issuer.name, leaf.key),
    }
}

/// The machines that a certificate is for; any if the issuer's names are not taken.
fn machines(issuer: &Issuer, leaf: &PathLeaf) -> Result<Vec<String>, Reject> {
    let (found, said): (Vec<String>, Vec<String>) = match &issuer.name_source {
        NameSource::None => return Ok(vec![]),
        NameSource::Dns { domain } => {
            let inside = |name: &String| name.strip_suffix(domain.as_str())?.strip_suffix('.').map(str::to_owned);
            (leaf.names.iter().filter_map(inside).collect(), leaf.names.clone())
        }
        NameSource::SerialNumber => {
            let number = leaf.serial_number.clone();
            (number.iter().map(|number| number.to_ascii_lowercase()).collect(), number.into_iter().collect())
        }
    };
    let names: Vec<String> =
        found.iter().filter_map(|text| name::legal(text).ok()).map(|name| name.to_string()).collect();
    if names.is_empty() { Err(no_name(&said)) } else { Ok(names) }
}
