//! Which certificates stand on the revocation lists. Nothing is written when something is locked, removed, forked or
//! replaced: what the lists say is computed from certificates, lineages and locks, which say it already.

use std::collections::BTreeMap;

use pki::{BACKDATE, RevocationReason, RevokedEntry, Role, UnixTime};

use super::{
    admission,
    records::{CertificateEnd, LastList, Lineage, Lock, LockKind, UnixSecs},
};

/// The locks that stand, by what they hit.
#[derive(Clone, Debug, Default)]
pub struct StandingLocks(BTreeMap<(LockKind, String), UnixSecs>);

impl StandingLocks {
    /// Of these locks.
    pub fn of(locks: impl IntoIterator<Item = Lock>) -> Self {
        Self(locks.into_iter().map(|lock| ((lock.kind, lock.target), lock.at)).collect())
    }

    /// Since when a certificate is locked, by its subject's name, its lineage or its key.
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

/// What the list says of one certificate, if anything. What is for good comes before what may be lifted.
#[must_use]
pub fn entry(
    cert: &CertificateEnd,
    lineage: Option<&Lineage>,
    locks: &StandingLocks,
    now: UnixTime,
) -> Option<RevokedEntry> {
    let held = locks.since(cert).map(|at| (at, RevocationReason::CertificateHold));
    let (at, reason) = for_good(cert, lineage, now).or(held)?;
    // Neither a clock of ours that was set back nor one of a reader that is slow may make the date lie in the future: Java
    // and NSS let the certificate in until their own clock has reached it.
    Some(RevokedEntry { serial: cert.serial, at: UnixTime::from(at).min(now.minus(BACKDATE)), reason })
}

fn for_good(cert: &CertificateEnd, lineage: Option<&Lineage>, now: UnixTime) -> Option<(UnixSecs, RevocationReason)> {
    let Some(lineage) = lineage else {
        // The gateway's own certificates have no lineage. Any other without one is nobody's.
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

/// A certificate that was in use until just now is forgiven for a while, here as on our own listeners: programs have read
/// the files before they were replaced.
fn in_grace(cert: &CertificateEnd, lineage: &Lineage, now: UnixTime) -> bool {
    let life = UnixTime::from(cert.not_after).since(cert.not_before.into());
    let replaced = UnixTime::from(lineage.activated);
    lineage.retired.as_ref().is_some_and(|retired| retired.serial == cert.serial)
        && now <= replaced.plus(admission::grace(life))
}

/// The record of the list that follows another. Its number grows whatever the clock does (RFC 5280 5.2.3).
#[must_use]
pub fn next(last: Option<LastList>, now_ms: u64) -> LastList {
    let number = last.map_or(now_ms, |last| now_ms.max(last.number.saturating_add(1)));
    LastList { number, this_update: UnixSecs(now_ms / 1000) }
}

/// The earliest end of a certificate that the next list has to look at: an entry stays until it stood on a list that was
/// made after the certificate ended (RFC 5280 3.3).
#[must_use]
pub fn looks_from(last: Option<LastList>, now: UnixTime) -> UnixSecs {
    let now = UnixSecs::from(now);
    last.map_or(now, |last| last.this_update.min(now))
}

/// Cuts a list to its bound. First goes what was merely replaced, then what ends soonest. Gives how many entries were left
/// out.
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
