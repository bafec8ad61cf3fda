//! The revocation lists of the issuing CAs. A list is kept and reused: it is made anew after a revocation or its reversal and once a
//! minute, not for each request.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pki::{KeyDigest, RevokedEntry, UnixTime};

use super::{
    page::All,
    shell::{Actor, Retry, Shell, readable, retrying},
};
use crate::{
    core::{
        change::Changes,
        crl::{self, StandingLocks},
        keys,
        look::Look,
        records::{Certificate, CertificateEnd, LastList, Lineage, Lock, Seen, UnixSecs},
        refusal::{Fault, Missing, Refusal},
    },
    limits,
    registry::lists::{List, Newest},
    store,
};

/// Validity of a list: its readers can do without the gateway for a day.
const GOOD_FOR: Duration = Duration::from_hours(24);

/// Greatest age of a list if there was no lock, unlock, fork or removal since. Certificates that were replaced meanwhile are in the
/// next one.
pub const KEPT: Duration = Duration::from_mins(1);

/// The list of the issuing CA with this key.
///
/// # Errors
/// [`Refusal::NotFound`] when there is no such CA; when the store or the key fails.
pub async fn list(shell: &Arc<Shell>, issuer: &KeyDigest) -> Result<Arc<List>, Refusal> {
    shell.ca().role_of(issuer).ok_or(Refusal::NotFound(Missing::RevocationList))?;
    let newest = shell.lists.of(issuer);
    if let Some(list) = fresh(shell, &newest).await? {
        return Ok(list);
    }
    let _making = newest.making.lock().await;
    if let Some(list) = fresh(shell, &newest).await? {
        return Ok(list);
    }
    let made = Arc::new(make(shell, issuer).await?);
    newest.list.store(Some(Arc::clone(&made)));
    Ok(made)
}

/// The kept list, if it is recent enough.
async fn fresh(shell: &Shell, newest: &Newest) -> Result<Option<Arc<List>>, Refusal> {
    let Some(list) = newest.list.load_full() else { return Ok(None) };
    let now = shell.now();
    let young = list.this_update <= now && now < list.this_update.plus(KEPT);
    Ok((young && epoch(shell).await? == list.epoch).then_some(list))
}

async fn epoch(shell: &Shell) -> Result<u64, Fault> {
    Ok(shell.get::<u64>(keys::EPOCH.to_owned()).await?.map_or(0, |seen| seen.record))
}

async fn make(shell: &Arc<Shell>, issuer: &KeyDigest) -> Result<List, Refusal> {
    // Read before everything else: any change after this makes the list outdated.
    let epoch = epoch(shell).await?;
    let (this, entries) = retrying(|| number(shell, issuer)).await?;
    let this_update = UnixTime::from(this.this_update);
    // As for certificates: the reader's clock may be a little slow.
    let times = (this_update.minus(pki::BACKDATE), this_update.plus(GOOD_FOR));
    let number = this.number;
    let der = shell.signer.list(*issuer, entries, number, times).await?;
    Ok(List { der: der.into(), number, this_update, epoch })
}

/// Collects the entries, and makes the number of their list durable before the list is signed.
async fn number(shell: &Shell, issuer: &KeyDigest) -> Result<(LastList, Vec<RevokedEntry>), Retry> {
    // A damaged record is replaced: the next number is derived from the clock.
    let last: Option<Seen<LastList>> = readable(shell.get(keys::last_list(issuer)).await)?.flatten();
    let was = last.as_ref().map(|seen| seen.record);
    let now_ms = shell.clock.now_ms();
    let entries = entries(shell, issuer, crl::looks_from(was, UnixTime::new(now_ms / 1000))).await?;
    let next = crl::next(was, now_ms);
    let mut changes = Changes::new();
    match &last {
        Some(seen) => changes.update(keys::last_list(issuer), seen, &next),
        None => changes.put(keys::last_list(issuer), &next),
    }
    shell.commit(changes, &Actor { who: "gateway", instance: "crl" }).await?;
    Ok((next, entries))
}

async fn entries(shell: &Shell, issuer: &KeyDigest, from: UnixSecs) -> Result<Vec<RevokedEntry>, Refusal> {
    let role = shell.ca().role_of(issuer).ok_or(Refusal::NotFound(Missing::RevocationList))?;
    // All locks: people set them one by one, and they are read once for each list, not for each request.
    let (mut all, mut locks) = (All::<Lock>::of(shell, keys::LOCKS, None), Vec::new());
    while let Some((_, seen)) = all.next().await? {
        locks.push(seen.record);
    }
    let locks = StandingLocks::of(locks);
    let now = shell.now();
    let prefix = keys::certificate_ends(issuer);
    let mut after = keys::ending_from(issuer, from);
    let mut entries = Vec::new();
    let mut left_out = 0;
    loop {
        let rows: Vec<(String, Seen<CertificateEnd>)> = shell.scan(&prefix, Some(&after), store::SCAN_MAX).await?;
        let Some((last, _)) = rows.last() else { break };
        after.clone_from(last);
        let ends = completed(shell, rows).await?;
        let lineages = lineages(shell, ends.iter().map(|end| end.lineage.as_str())).await?;
        for end in ends {
            // Set for unreadable rows too: a CA signs for one role.
            let cert = CertificateEnd { role, ..end };
            let entry = crl::entry(&cert, lineages.get(&cert.lineage), &locks, now);
            entries.extend(entry.map(|entry| (cert.not_after, entry)));
        }
        // Checked while reading, so that a list that is too long does not use up the memory first.
        if entries.len() > 2 * limits::CRL_ENTRIES_MAX {
            left_out += crl::bound(&mut entries, limits::CRL_ENTRIES_MAX);
        }
    }
    left_out += crl::bound(&mut entries, limits::CRL_ENTRIES_MAX);
    let ca = shell.ca();
    let name = ca.name_of(issuer).unwrap_or_default();
    shell.metrics.revocation_list(name, entries.len(), left_out);
    if left_out > 0 {
        tracing::error!(
            ca = name,
            listed = entries.len(),
            left_out,
            "the revocation list has reached its bound and is not complete: find out who gets so many certificates"
        );
    } else if entries.len() > limits::CRL_ENTRIES_MANY {
        tracing::warn!(ca = name, listed = entries.len(), "the revocation list is growing long");
    }
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

/// Rows of the index of certificates by expiry. If a row is unreadable, the certificate's own record is used; without that the
/// certificate has no owner.
///
/// # Errors
/// When the store fails.
pub(super) async fn completed(
    shell: &Shell,
    rows: Vec<(String, Seen<CertificateEnd>)>,
) -> Result<Vec<CertificateEnd>, Fault> {
    let complete = |look: &Look, end: &CertificateEnd| -> Result<CertificateEnd, Fault> {
        let found = match end.lineage.as_str() {
            "" => readable(look.get::<Certificate>(&keys::certificate(&end.serial)))?.flatten(),
            _ => None,
        };
        Ok(found.map_or_else(|| end.clone(), |found| CertificateEnd::from(&found.record)))
    };
    shell.look(|look| rows.iter().map(|(_, seen)| complete(look, &seen.record)).collect()).await
}

async fn lineages(shell: &Shell, ids: impl Iterator<Item = &str>) -> Result<BTreeMap<String, Lineage>, Fault> {
    let ids: BTreeSet<&str> = ids.collect();
    let of = |look: &Look, id: &str| {
        // A damaged lineage counts as missing: its certificates are listed.
        let found = readable(look.get::<Lineage>(&keys::lineage(id)))?.flatten();
        Ok(found.map(|seen| (id.to_owned(), seen.record)))
    };
    let found: Vec<Option<(String, Lineage)>> =
        shell.look::<_, Fault>(|look| ids.iter().map(|id| of(look, id)).collect()).await?;
    Ok(found.into_iter().flatten().collect())
}
