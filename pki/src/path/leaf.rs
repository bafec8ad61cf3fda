//! What the leaf of a path says, in words.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::CertificationPath;
use crate::key::KeyDigest;
use crate::parsed::extended_key_usage;
use crate::shown::shown;
use crate::time::UnixTime;

/// anyExtendedKeyUsage (RFC 5280 4.2.1.12).
pub(super) const ANY_USAGE: &str = "2.5.29.37.0";

/// serialNumber (X.520 6.2.9), by which IEEE 802.1AR names a device.
const SERIAL_NUMBER: &str = "2.5.4.5";

/// Longest serial number of a device that is taken, in bytes: X.520 allows 64.
const SERIAL_NUMBER_MAX: usize = 64;

/// Most names of a device that are told.
const NAMES_MAX: usize = 32;

/// The leaf of a verified path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathLeaf {
    /// The whole subject, for people; cut at 200 characters.
    pub subject: String,
    /// SHA-256 of the subject in DER, hex; `None` if there is no subject.
    pub subject_digest: Option<String>,
    /// The one `serialNumber` in the subject, if it is printable.
    pub serial_number: Option<String>,
    /// The DNS names among the alternative names, in lower case.
    pub names: Vec<String>,
    /// The extended key usages, as object identifiers.
    pub usages: Vec<String>,
    /// The certificate policies that are valid for the whole path, as object identifiers.
    pub policies: Vec<String>,
    /// SHA-256 of the certificate, hex.
    pub fingerprint: String,
    /// The digest of its key.
    pub key: KeyDigest,
    /// The end of its validity.
    pub not_after: UnixTime,
}

impl PathLeaf {
    pub(super) fn of(path: &CertificationPath<'_>) -> Self {
        let empty = Self {
            subject: String::new(),
            subject_digest: None,
            serial_number: None,
            names: vec![],
            usages: vec![],
            policies: vec![],
            fingerprint: String::new(),
            key: KeyDigest::from_bytes([0; 32]),
            not_after: UnixTime::new(0),
        };
        // A path has a leaf.
        let Some(leaf) = path.certs.first() else { return empty };
        let name = leaf.subject();
        let has_name = name.iter_rdn().next().is_some();
        Self {
            subject: shown(&name.to_string()),
            // The same hash, of other bytes.
            subject_digest: has_name.then(|| KeyDigest::from_spki_der(name.as_raw()).hex()),
            serial_number: serial_number(leaf),
            names: names(leaf),
            usages: usages(leaf),
            policies: path.policies.clone(),
            fingerprint: KeyDigest::from_spki_der(leaf.as_raw()).hex(),
            key: KeyDigest::from_spki_der(leaf.public_key().raw),
            not_after: UnixTime::from_signed(leaf.validity().not_after.timestamp()),
        }
    }
}

/// Of two it would not be known which is the device's.
fn serial_number(cert: &X509Certificate<'_>) -> Option<String> {
    let attributes = cert.subject().iter_attributes();
    let mut found = attributes.filter(|attribute| attribute.attr_type().to_id_string() == SERIAL_NUMBER);
    let text = found.next()?.as_str().ok()?;
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    (found.next().is_none() && !text.is_empty() && text.len() <= SERIAL_NUMBER_MAX && printable)
        .then(|| text.to_owned())
}

/// Names that could be read as two, or that are patterns, are left out.
fn names(cert: &X509Certificate<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for extension in cert.extensions() {
        let ParsedExtension::SubjectAlternativeName(found) = extension.parsed_extension() else { continue };
        for name in &found.general_names {
            if let GeneralName::DNSName(name) = name
                && !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
            {
                names.push(name.to_ascii_lowercase());
            }
        }
    }
    names.sort();
    names.dedup();
    names.truncate(NAMES_MAX);
    names
}

/// The extended key usages in a certificate.
pub(super) fn usages(cert: &X509Certificate<'_>) -> Vec<String> {
    let Some(usage) = extended_key_usage(cert) else { return vec![] };
    let named = [
        (usage.any, ANY_USAGE),
        (usage.server_auth, "1.3.6.1.5.5.7.3.1"),
        (usage.client_auth, "1.3.6.1.5.5.7.3.2"),
        (usage.code_signing, "1.3.6.1.5.5.7.3.3"),
        (usage.email_protection, "1.3.6.1.5.5.7.3.4"),
        (usage.time_stamping, "1.3.6.1.5.5.7.3.8"),
        (usage.ocsp_signing, "1.3.6.1.5.5.7.3.9"),
    ];
    let named = named.into_iter().filter(|(stated, _)| *stated).map(|(_, oid)| oid.to_owned());
    named.chain(usage.other.iter().map(|oid| oid.to_id_string())).collect()
}
