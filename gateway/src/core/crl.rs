//! The entries of the CRLs (RFC 5280 5). They are computed from certificates, lineages and locks; locking, removing, forking or
//! replacing writes nothing else for them.

use std::collections::BTreeMap;

use pki::{BACKDATE, RevocationReason, RevokedEntry, Role, UnixTime};

use super::{
    admission,
    records::{CertificateEnd, LastList, Lineage, Lock, LockKind, UnixSecs},
};

/// When each locked target was locked.
#[derive(Clone, Debug, Default)]
pub struct StandingLocks(BTreeMap<(LockKind, String), UnixSecs>);

impl StandingLocks {
    /// From all locks in the store.
    pub fn of(locks: impl IntoIterator<Item = Lock>) -> Self {
        Self(locks.into_iter().map(|lock| ((lock.kind, lock.target), lock.at)).collect())
    }

    /// The time of the earliest lock on the certificate's subject, lineage or key.
    fn since(&self, cert: &CertificateEnd) -> Option<UnixSecs> {
        let at = |kind, target: &str| self.0.get(&(kind, target.to_owned())).copied();
        [
            at(admission::lock_kind(cert.role), &cert.name),
            at(LockKind::Lineage, &cert.lineage),
            at(LockKind::Key, &cert.key.hex()),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// The CRL entry of a certificate; `None` if it is not revoked. A permanent reason takes precedence over `certificateHold`.
#[must_use]
pub fn entry(
    cert: &CertificateEnd,
    lineage: Option<&Lineage>,
    locks: &StandingLocks,
    now: UnixTime,
) -> Option<RevokedEntry> {
    let hold = locks.since(cert).map(|at| (at, RevocationReason::CertificateHold));
    let (at, reason) = permanent(cert, lineage, now).or(hold)?;
    // the date must not be in the future, by our clock set back or a verifier's slow clock: Java and NSS accept the certificate
    // until their own clock has reached it
    Some(RevokedEntry { serial: cert.serial, at: UnixTime::from(at).min(now.minus(BACKDATE)), reason })
}

fn permanent(cert: &CertificateEnd, lineage: Option<&Lineage>, now: UnixTime) -> Option<(UnixSecs, RevocationReason)> {
    let Some(lineage) = lineage else {
        // the gateway's own certificates have no lineage; any other certificate without one is orphaned
        return (cert.role != Role::Gateway).then_some((cert.not_before, RevocationReason::CessationOfOperation));
    };
    let changed = lineage.activated.max(lineage.created);
    if lineage.ended {
        return Some((lineage.ended_at.unwrap_or(changed), RevocationReason::CessationOfOperation));
    }
    if lineage.forked {
        return Some((changed, RevocationReason::KeyCompromise));
    }
    let is = |other: &super::records::CertRef| other.serial == cert.serial;
    let good = [&lineage.current, &lineage.pending].into_iter().flatten().chain(&lineage.sealed).any(is);
    if good || in_grace(cert, lineage, now) {
        return None;
    }
    Some((changed, RevocationReason::Superseded))
}

/// Whether a certificate was replaced so recently that it is not listed yet, as our own listeners accept it: programs may have read
/// the files just before they were replaced.
fn in_grace(cert: &CertificateEnd, lineage: &Lineage, now: UnixTime) -> bool {
    let life = UnixTime::from(cert.not_after).since(cert.not_before.into());
    let replaced = UnixTime::from(lineage.activated);
    lineage.retired.as_ref().is_some_and(|retired| retired.serial == cert.serial)
        && now <= replaced.plus(admission::grace(life))
}

/// The record of the next CRL. Its number increases even if the clock was set back (RFC 5280 5.2.3).
#[must_use]
pub fn next(last: Option<LastList>, now_ms: u64) -> LastList {
    let number = last.map_or(now_ms, |last| now_ms.max(last.number.saturating_add(1)));
    LastList { number, this_update: UnixSecs(now_ms / 1000) }
}

/// Certificates with an earlier `notAfter` need no entry in the next CRL: an entry must stay until it was on one CRL issued after the
/// certificate expired (RFC 5280 3.3).
#[must_use]
pub fn looks_from(last: Option<LastList>, now: UnixTime) -> UnixSecs {
    let now = UnixSecs::from(now);
    last.map_or(now, |last| last.this_update.min(now))
}

/// Truncates a CRL to `max` entries. Superseded certificates are dropped first, then those that expire soonest. Returns the number of
/// dropped entries.
pub fn bound(entries: &mut Vec<(UnixSecs, RevokedEntry)>, max: usize) -> usize {
    let over = entries.len().saturating_sub(max);
    if over > 0 {
        entries.sort_by_key(|(end, entry)| (entry.reason == RevocationReason::Superseded, std::cmp::Reverse(*end)));
        entries.truncate(max);
    }
    over
}

#[cfg(test)]
mod tests;
