//! Certificate revocation lists (RFC 5280 5), for third parties. The gateway itself uses locks.

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

/// Longest address of lists, in bytes: every certificate contains it.
const LISTS_URL_MAX: usize = 200;

/// Base of the CRL distribution points in certificates (RFC 5280 4.2.1.13). The list of a CA has the address
/// `<base>/<digest of the CA's key>`, so that each CA that a role has had keeps its own list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListsUrl(String);

impl ListsUrl {
    /// Reads `http://HOST[:PORT][/PATH]` or the same with `https`. A trailing slash is dropped.
    pub fn parse(text: &str) -> Result<Self, BadListsUrl> {
        let url = text.strip_suffix('/').unwrap_or(text);
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or(BadListsUrl::Scheme)?;
        if url.len() > LISTS_URL_MAX {
            return Err(BadListsUrl::TooLong { max: LISTS_URL_MAX });
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // A colon after the bracket of an IPv6 address precedes the port.
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

/// Why a text is not a [`ListsUrl`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum BadListsUrl {
    #[error("it does not begin with `http://` or `https://`")]
    Scheme,
    #[error("it is longer than {max} bytes")]
    TooLong { max: usize },
    #[error("its port is not a port")]
    Port,
    #[error("its host is not one: {0}")]
    Host(#[from] BadName),
    #[error("a name with `*` is no place to fetch from")]
    Wildcard,
    #[error("its path has characters other than letters, digits and `-._~/`")]
    Path,
}

/// Why a certificate was revoked (RFC 5280 5.3.1). The other reasons of the RFC do not apply to leaves valid for a day.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RevocationReason {
    /// No reason code extension is written, as the RFC recommends.
    Unspecified,
    /// The key, or the machine that has it, is under somebody else's control.
    KeyCompromise,
    /// The subject's name or owner has changed.
    AffiliationChanged,
    /// A newer certificate replaced it.
    Superseded,
    /// The machine or person was removed.
    CessationOfOperation,
    /// A lock that may be lifted.
    CertificateHold,
    /// The subject has lost the rights it was admitted with.
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

/// One entry of a list.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RevokedEntry {
    /// Serial of the revoked certificate.
    pub serial: Serial,
    /// Time of the revocation.
    pub at: UnixTime,
    /// RFC 5280 5.3.1.
    pub reason: RevocationReason,
}

/// Signs the complete list of one issuing CA. `number` must grow from list to list (RFC 5280 5.2.3). There is no issuing
/// distribution point extension (RFC 5280 5.2.5): the list covers all certificates of its issuer.
pub fn crl(
    ca: &IssuingCa,
    entries: &[RevokedEntry],
    number: u64,
    this_update: UnixTime,
    next_update: UnixTime,
) -> Result<Vec<u8>, IssueError> {
    list(ca.authority(), entries, number, this_update, next_update)
}

/// Signs the list of a root, which is empty. Servers that check lists require one for every CA of the chain, the root included
/// (otherwise OpenSSL reports `unable to get certificate CRL`).
pub fn root_crl(root: &Root, number: u64, this_update: UnixTime, next_update: UnixTime) -> Result<Vec<u8>, IssueError> {
    list(root.authority(), &[], number, this_update, next_update)
}

/// Fields of a list.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ListInfo {
    /// The CRL number (RFC 5280 5.2.3).
    pub number: u64,
    /// When it was made.
    pub this_update: UnixTime,
    /// When the next list is due; `None` when the list does not say.
    pub next_update: Option<UnixTime>,
    /// Number of revoked certificates.
    pub entries: usize,
}

/// Why a list is refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum BadList {
    /// Not a list in DER, or its CA is none.
    #[error("it is not a revocation list")]
    Malformed,
    #[error("it was not signed by that CA")]
    Foreign,
}

/// Reads a list and checks its signature by the certificate of its CA.
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
        // RFC 5280 5.2.1. The encoder's own method of hashing the key may differ from that of an imported CA.
        key_identifier_method: KeyIdMethod::PreSpecified(ca.key_identifier().to_vec()),
    })
}

#[cfg(test)]
mod tests;
