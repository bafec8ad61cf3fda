//! Certificate revocation lists (RFC 5280 5), for third parties; our own listeners use locks.

use std::collections::BTreeSet;

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams};
use thiserror::Error;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::ca::{CertifiedKey, IssuingCa, Root};
use crate::cert::Certificate;
use crate::draft::IssueError;
use crate::key::KeyDigest;
use crate::name::{BadName, GatewayName};
use crate::serial::Serial;
use crate::time::UnixTime;

/// Longest address under which lists are found, in bytes: it stands in every certificate.
const LISTS_URL_MAX: usize = 200;

/// Where third parties find the lists, as it is written into certificates (RFC 5280 4.2.1.13): that of a CA lies at
/// `<this>/<digest of the CA's key>`, so that each CA a role has had keeps its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListsUrl(String);

impl ListsUrl {
    /// Reads `http://HOST[:PORT][/PATH]` or the same with `https`. A slash at its end is dropped.
    pub fn parse(text: &str) -> Result<Self, BadListsUrl> {
        let url = text.strip_suffix('/').unwrap_or(text);
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or(BadListsUrl::Scheme)?;
        if url.len() > LISTS_URL_MAX {
            return Err(BadListsUrl::TooLong { max: LISTS_URL_MAX });
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // The colons of an IPv6 address stand before its bracket.
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                port.parse::<u16>().map_err(|_| BadListsUrl::Port)?;
                host
            }
            Some(_) | None => authority,
        };
        match GatewayName::parse(host)? {
            GatewayName::Dns(name) if name.starts_with('*') => return Err(BadListsUrl::Wildcard),
            GatewayName::Dns(_) | GatewayName::Ip(_) => {}
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        if !path.bytes().all(plain) {
            return Err(BadListsUrl::Path);
        }
        Ok(Self(url.to_owned()))
    }

    /// The address of the list of the CA with this key.
    #[must_use]
    pub fn of(&self, issuer: &KeyDigest) -> String {
        format!("{}/{}", self.0, issuer.hex())
    }
}

/// Why a text is no address of lists.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadListsUrl {
    /// Neither `http` nor `https`.
    #[error("it does not begin with `http://` or `https://`")]
    Scheme,
    /// Too long for something that stands in every certificate.
    #[error("it is longer than {max} bytes")]
    TooLong {
        /// The longest.
        max: usize,
    },
    /// Not a number from 0 to 65535.
    #[error("its port is not a port")]
    Port,
    /// The host is none.
    #[error("its host is not one: {0}")]
    Host(#[from] BadName),
    /// A pattern of names.
    #[error("a name with `*` is no place to fetch from")]
    Wildcard,
    /// Anything but plain characters in the path.
    #[error("its path has characters other than letters, digits and `-._~/`")]
    Path,
}

/// Why a certificate was revoked (RFC 5280 5.3.1). The reasons left out there mean nothing for leaves that live a day.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RevocationReason {
    /// Not said; the extension is then left out, as the RFC asks.
    Unspecified,
    /// The key, or the machine that holds it, is in other hands.
    KeyCompromise,
    /// It belongs to somebody else now.
    AffiliationChanged,
    /// A newer certificate took its place.
    Superseded,
    /// The machine is gone.
    CessationOfOperation,
    /// A lock that may be lifted.
    CertificateHold,
    /// It may no longer do what it was admitted for.
    PrivilegeWithdrawn,
}

impl RevocationReason {
    const fn for_encoder(self) -> Option<rcgen::RevocationReason> {
        Some(match self {
            Self::Unspecified => return None,
            Self::KeyCompromise => rcgen::RevocationReason::KeyCompromise,
            Self::AffiliationChanged => rcgen::RevocationReason::AffiliationChanged,
            Self::Superseded => rcgen::RevocationReason::Superseded,
            Self::CessationOfOperation => rcgen::RevocationReason::CessationOfOperation,
            Self::CertificateHold => rcgen::RevocationReason::CertificateHold,
            Self::PrivilegeWithdrawn => rcgen::RevocationReason::PrivilegeWithdrawn,
        })
    }
}

/// One line of a list.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RevokedEntry {
    /// Which certificate.
    pub serial: Serial,
    /// Since when.
    pub at: UnixTime,
    /// Why.
    pub reason: RevocationReason,
}

/// The complete list of one issuing CA. `number` must grow from list to list (RFC 5280 5.2.3). There is no issuing
/// distribution point: the list covers everything its issuer signed.
pub fn crl(
    ca: &IssuingCa,
    entries: &[RevokedEntry],
    number: u64,
    this_update: UnixTime,
    next_update: UnixTime,
) -> Result<Vec<u8>, IssueError> {
    list(ca.authority(), entries, number, this_update, next_update)
}

/// The list of a root, which revokes no issuing CA: servers that check lists want one for every CA of the chain, the root's
/// too (`unable to get certificate CRL`, they say otherwise).
pub fn root_crl(root: &Root, number: u64, this_update: UnixTime, next_update: UnixTime) -> Result<Vec<u8>, IssueError> {
    list(root.authority(), &[], number, this_update, next_update)
}

/// What a list says of itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ListInfo {
    /// Its number.
    pub number: u64,
    /// When it was made.
    pub this_update: UnixTime,
    /// Until when it is good; for ever when it does not say.
    pub next_update: Option<UnixTime>,
    /// How many certificates stand on it.
    pub entries: usize,
}

/// Why a list is not the one of a CA.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum BadList {
    /// Not a list in DER, or its CA is none.
    #[error("it is not a revocation list")]
    Malformed,
    /// Somebody else's.
    #[error("it was not signed by that CA")]
    Foreign,
}

/// Reads the list of a CA whose certificate is given.
///
/// # Errors
/// [`BadList`].
pub fn read_crl(der: &[u8], ca: &[u8]) -> Result<ListInfo, BadList> {
    let ca = Certificate::read(ca).map_err(|_| BadList::Malformed)?;
    let (rest, list) = CertificateRevocationList::from_der(der).map_err(|_| BadList::Malformed)?;
    if !rest.is_empty() {
        return Err(BadList::Malformed);
    }
    if !ca.signed_list(&list) {
        return Err(BadList::Foreign);
    }
    Ok(ListInfo {
        number: list.crl_number().and_then(|number| number.try_into().ok()).unwrap_or(0),
        this_update: UnixTime::from_signed(list.last_update().timestamp()),
        next_update: list.next_update().map(|at| UnixTime::from_signed(at.timestamp())),
        entries: list.iter_revoked_certificates().count(),
    })
}

fn list(
    ca: &CertifiedKey,
    entries: &[RevokedEntry],
    number: u64,
    this_update: UnixTime,
    next_update: UnixTime,
) -> Result<Vec<u8>, IssueError> {
    if next_update <= this_update {
        return Err(IssueError::NextUpdate);
    }
    let date = |at: UnixTime| at.to_datetime().ok_or(IssueError::Date { at });
    let mut seen = BTreeSet::new();
    let mut revoked_certs = Vec::with_capacity(entries.len());
    for entry in entries {
        if !seen.insert(entry.serial) {
            return Err(IssueError::DuplicateEntry { serial: entry.serial });
        }
        revoked_certs.push(RevokedCertParams {
            serial_number: rcgen::SerialNumber::from_slice(entry.serial.as_bytes()),
            revocation_time: date(entry.at)?,
            reason_code: entry.reason.for_encoder(),
            invalidity_date: None,
        });
    }
    ca.sign_list(&CertificateRevocationListParams {
        this_update: date(this_update)?,
        next_update: date(next_update)?,
        crl_number: number.into(),
        issuing_distribution_point: None,
        revoked_certs,
        // RFC 5280 5.2.1. The encoder would hash the key by a method of its own, which an imported CA need not have used.
        key_identifier_method: KeyIdMethod::PreSpecified(ca.key_identifier().to_vec()),
    })
}

#[cfg(test)]
mod tests;
