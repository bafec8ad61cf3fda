//! Certificate revocation lists (RFC 5280 5), for third parties; our own listeners use locks.

use std::collections::BTreeSet;

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams};

use crate::ca::IssuingCa;
use crate::draft::IssueError;
use crate::serial::Serial;
use crate::time::UnixTime;

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
    ca.authority().sign_list(&CertificateRevocationListParams {
        this_update: date(this_update)?,
        next_update: date(next_update)?,
        crl_number: number.into(),
        issuing_distribution_point: None,
        revoked_certs,
        // RFC 5280 5.2.1. The encoder would hash the key by a method of its own, which an imported CA need not have used.
        key_identifier_method: KeyIdMethod::PreSpecified(ca.authority().key_identifier().to_vec()),
    })
}

#[cfg(test)]
mod tests;
