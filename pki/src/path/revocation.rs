//! Revocation lists of other CAs (RFC 5280 5), held against a path.

use std::collections::BTreeSet;
use std::time::Duration;

use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{
    DistributionPointName, GeneralName, IssuingDistributionPoint, ParsedExtension, X509Extension,
};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::{CertificationPath, elements, subject};
use crate::pem::{PemError, parse_pem};
use crate::shown::shown;
use crate::signature;
use crate::time::UnixTime;

/// Most lists in one text.
const LISTS_MAX: usize = 16;

/// How far the clock of a CA may be ahead of ours.
const CLOCKS: Duration = Duration::from_secs(300);

/// Extensions of lists that are understood: number, issuing distribution point, authority key identifier.
const UNDERSTOOD: [&str; 3] = ["2.5.29.20", "2.5.29.28", "2.5.29.35"];

/// Extensions of entries that are understood: reason, invalidity date.
const UNDERSTOOD_IN_ENTRIES: [&str; 2] = ["2.5.29.21", "2.5.29.24"];

/// A list that was read. Its signature is checked when it is held against a path.
#[derive(Clone, Debug)]
pub struct RevocationList {
    issuer: Vec<u8>,
    issuer_text: String,
    this_update: UnixTime,
    next_update: Option<UnixTime>,
    serials: BTreeSet<Vec<u8>>,
    scope: Scope,
    /// The list as it came, from which the signature is checked.
    der: Vec<u8>,
}

/// Which certificates of its issuer a list is about.
#[derive(Clone, Debug, Default)]
struct Scope {
    only_leaves: bool,
    only_cas: bool,
    /// Addresses, one of which must be in the certificate (RFC 5280 6.3.3 (b)(2)(i)).
    places: Option<Vec<String>>,
}

/// Why a list cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum RevocationListError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("there are {found} lists and at most {LISTS_MAX} are read")]
    TooMany { found: usize },
    #[error("it is neither a certificate revocation list in DER nor PEM of such lists")]
    Malformed,
    #[error("the list of `{issuer}` has the extension {oid}, which is critical and not understood")]
    UnknownCritical { issuer: String, oid: String },
    #[error(
        "the list of `{issuer}` is only about some reasons, about attribute certificates, or about other CAs' certificates"
    )]
    Partial { issuer: String },
}

/// Why it is not known that no certificate of a path was revoked, or that one was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum RevocationError {
    #[error("the certificate of `{subject}` was revoked by its issuer")]
    Revoked { subject: String },
    #[error("there is no list by `{issuer}`")]
    Missing { issuer: String },
    #[error("the list of `{issuer}` is not signed by that CA, or the CA may not sign lists")]
    Unsigned { issuer: String },
    #[error("the list of `{issuer}` is from {at}, which is in the future")]
    Early { issuer: String, at: UnixTime },
    #[error("the list of `{issuer}` was good until {until}")]
    Stale { issuer: String, until: UnixTime },
    #[error("the list of `{issuer}` does not say when the next one comes, and no greatest age is set for it")]
    Endless { issuer: String },
}

impl RevocationList {
    /// Reads a list in DER, or all lists in PEM.
    ///
    /// # Errors
    /// The lists cannot be read, or are of a kind that is not understood.
    pub fn read(bytes: &[u8]) -> Result<Vec<Self>, RevocationListError> {
        if bytes.first() == Some(&0x30) {
            return Ok(vec![Self::from_der(bytes.to_vec())?]);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| RevocationListError::Malformed)?;
        let ders = parse_pem("X509 CRL", text)?;
        if ders.len() > LISTS_MAX {
            return Err(RevocationListError::TooMany { found: ders.len() });
        }
        ders.into_iter().map(Self::from_der).collect()
    }

    fn from_der(der: Vec<u8>) -> Result<Self, RevocationListError> {
        let (rest, list) = CertificateRevocationList::from_der(&der).map_err(|_| RevocationListError::Malformed)?;
        // A list of which the end was not read has no revoked certificates there.
        let is_read = elements(list.tbs_cert_list.as_ref()).is_some();
        if !rest.is_empty() || !is_read || list.signature_algorithm != list.tbs_cert_list.signature {
            return Err(RevocationListError::Malformed);
        }
        let issuer_text = shown(&list.issuer().to_string());
        let critical = |extensions: &[X509Extension<'_>], known: &[&str]| {
            let unread = |extension: &&X509Extension<'_>| {
                extension.critical && !known.contains(&extension.oid.to_id_string().as_str())
                    || matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. })
            };
            match extensions.iter().find(unread) {
                Some(extension) => {
                    let (issuer, oid) = (issuer_text.clone(), extension.oid.to_id_string());
                    Err(RevocationListError::UnknownCritical { issuer, oid })
                }
                None => Ok(()),
            }
        };
        critical(list.extensions(), &UNDERSTOOD)?;
        let mut serials = BTreeSet::new();
        for entry in list.iter_revoked_certificates() {
            critical(entry.extensions(), &UNDERSTOOD_IN_ENTRIES)?;
            serials.insert(significant(entry.raw_serial()));
        }
        let scope = Scope::of(&list).ok_or_else(|| RevocationListError::Partial { issuer: issuer_text.clone() })?;
        let time = |at: x509_parser::time::ASN1Time| UnixTime::from_signed(at.timestamp());
        let (issuer, this_update) = (list.issuer().as_raw().to_vec(), time(list.last_update()));
        let next_update = list.next_update().map(time);
        Ok(Self { issuer, issuer_text, this_update, next_update, serials, scope, der })
    }

    /// The name of its CA.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer_text
    }

    /// Whether the CA signed it and may sign lists (RFC 5280 6.3.3 (f), (g)).
    fn is_signed_by(&self, ca: &X509Certificate<'_>) -> bool {
        let may = ca.extensions().iter().all(|extension| match extension.parsed_extension() {
            ParsedExtension::KeyUsage(usage) => usage.crl_sign(),
            _ => true,
        });
        // It was read before.
        let Ok((_, list)) = CertificateRevocationList::from_der(&self.der) else { return false };
        let (signed, value) = (list.tbs_cert_list.as_ref(), &list.signature_value.data);
        let sha1 = signature::is_sha1(&list.signature_algorithm);
        may && !sha1 && signature::verify_signed(&list.signature_algorithm, signed, value, ca.public_key()).is_ok()
    }

    /// Whether it is from now.
    fn check_time(&self, max_age: Option<Duration>, now: UnixTime) -> Result<(), RevocationError> {
        let issuer = || self.issuer_text.clone();
        if self.this_update > now.plus(CLOCKS) {
            return Err(RevocationError::Early { issuer: issuer(), at: self.this_update });
        }
        let by_age = max_age.map(|age| self.this_update.plus(age));
        let until = [by_age, self.next_update].into_iter().flatten().min();
        let until = until.ok_or_else(|| RevocationError::Endless { issuer: issuer() })?;
        if now > until { Err(RevocationError::Stale { issuer: issuer(), until }) } else { Ok(()) }
    }
}

impl Scope {
    /// `None` for lists from which nothing follows for a certificate that is not on them.
    fn of(list: &CertificateRevocationList<'_>) -> Option<Self> {
        let found = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::IssuingDistributionPoint(point) => Some((extension.value, point)),
            _ => None,
        });
        let Some((der, point)) = found else { return Some(Self::default()) };
        let IssuingDistributionPoint { only_contains_user_certs, only_contains_ca_certs, .. } = point;
        if point.only_some_reasons.is_some() || point.indirect_crl || point.only_contains_attribute_certs {
            return None;
        }
        let flags = [point.only_contains_user_certs, point.only_contains_ca_certs].into_iter().filter(|set| *set);
        if elements(der) != Some(flags.count() + usize::from(point.distribution_point.is_some())) {
            return None;
        }
        let places = match &point.distribution_point {
            None => None,
            Some(DistributionPointName::FullName(names)) => Some(addresses(names).collect()),
            Some(DistributionPointName::NameRelativeToCRLIssuer(_)) => return None,
        };
        Some(Self { only_leaves: *only_contains_user_certs, only_cas: *only_contains_ca_certs, places })
    }

    fn covers(&self, cert: &X509Certificate<'_>, is_leaf: bool) -> bool {
        if is_leaf && self.only_cas || !is_leaf && self.only_leaves {
            return false;
        }
        let Some(places) = &self.places else { return true };
        cert.extensions().iter().any(|extension| match extension.parsed_extension() {
            ParsedExtension::CRLDistributionPoints(points) => {
                points.iter().any(|point| match &point.distribution_point {
                    Some(DistributionPointName::FullName(names)) => {
                        addresses(names).any(|place| places.contains(&place))
                    }
                    Some(DistributionPointName::NameRelativeToCRLIssuer(_)) | None => false,
                })
            }
            _ => false,
        })
    }
}

fn addresses<'n>(names: &'n [GeneralName<'_>]) -> impl Iterator<Item = String> + use<'n> {
    let addresses: Vec<String> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(address) => Some((*address).to_owned()),
            _ => None,
        })
        .collect();
    addresses.into_iter()
}

/// Makers pad serial numbers.
fn significant(serial: &[u8]) -> Vec<u8> {
    serial.iter().copied().skip_while(|byte| *byte == 0).collect()
}

impl CertificationPath<'_> {
    /// Checks that no certificate of the path was revoked. The leaf must be covered by a list of its issuer that is signed and from now;
    /// a CA must, if there is any list of its issuer. The anchor is not looked at: whoever trusts it can take it away.
    ///
    /// # Errors
    /// [`RevocationError`].
    pub fn check_revocation(
        &self,
        lists: &[&RevocationList],
        max_age: Option<Duration>,
        now: UnixTime,
    ) -> Result<(), RevocationError> {
        for (at, pair) in self.certs.windows(2).enumerate() {
            let [cert, issuer] = pair else { continue };
            let is_leaf = at == 0;
            let covers =
                |list: &&RevocationList| list.issuer == cert.issuer().as_raw() && list.scope.covers(cert, is_leaf);
            let (mut fault, mut good) = (None, false);
            for list in lists.iter().copied().filter(covers) {
                if !list.is_signed_by(issuer) {
                    fault = fault.or(Some(RevocationError::Unsigned { issuer: list.issuer_text.clone() }));
                    continue;
                }
                if list.serials.contains(&significant(cert.raw_serial())) {
                    return Err(RevocationError::Revoked { subject: subject(cert) });
                }
                match list.check_time(max_age, now) {
                    Ok(()) => good = true,
                    Err(error) => fault = fault.or(Some(error)),
                }
            }
            match fault {
                _ if good => {}
                Some(fault) => return Err(fault),
                None if is_leaf => return Err(RevocationError::Missing { issuer: shown(&cert.issuer().to_string()) }),
                None => {}
            }
        }
        Ok(())
    }
}
