//! Renews the gateway's own certificate, and warns before a CA expires.

use std::{sync::Arc, time::Duration};

use pki::Role;

use crate::{
    complaint::Complaint,
    core::{
        ca_end::{Nearness, Notice},
        face::{Face, FaceNames, FaceRow},
        own_leaf::{CHECK_INTERVAL, OwnLeaf},
    },
    edge::tls::{TlsSwap, TlsTable},
    flow::shell::{Actor, Shell},
    signer::{Authority, LeafKey, Signer},
};

/// Interval of the log line about a certificate that clients refuse, in checks of a minute each.
const TROUBLE_AGAIN: u32 = 60;

/// Interval of the warning about a CA that expires soon.
const END_AGAIN: Duration = Duration::from_hours(24);

/// Issues the gateway's own certificate with the loaded authority, records it, and makes the TLS configuration.
///
/// # Errors
/// Signing, the commit or the TLS configuration failed; the old certificate stays in use.
pub async fn table(shell: &Shell, names: &FaceNames) -> Result<TlsTable, Complaint> {
    table_by(shell, &shell.signer, &shell.ca(), names).await
}

/// As [`table`], with an authority that is not in use yet.
pub async fn table_by(
    shell: &Shell,
    signer: &Signer,
    ca: &Authority,
    names: &FaceNames,
) -> Result<TlsTable, Complaint> {
    table_of(shell, signer, ca, names, Face::Enroll.row()).await
}

/// The same, with another row for the enroll face.
pub async fn table_of(
    shell: &Shell,
    signer: &Signer,
    ca: &Authority,
    names: &FaceNames,
    enroll: &FaceRow,
) -> Result<TlsTable, Complaint> {
    let name = &shell.replica.name;
    let (key, plan) = LeafKey::plan(ca, name, names.all(), &shell.clock, &shell.entropy).map_err(Complaint::failed)?;
    let signed = signer.sign(plan).await.map_err(Complaint::failed)?;
    let actor = Actor { who: "gateway", instance: "start" };
    let committed = signed.commit(|changes| shell.commit(changes, &actor)).await;
    let (certificate, _) = committed.map_err(|error| Complaint::store(format!("{error:?}")))?.release();
    let leaf = key.with(ca, certificate);
    shell.metrics.leaf(leaf.validity().until);
    TlsTable::build(&leaf, ca.anchors(), names.clone(), enroll, &shell.clock).map_err(Complaint::failed)
}

/// Checks the gateway's own certificate each minute by the wall clock, and renews it at half of its lifetime, or if by the clock it
/// has expired or is not valid yet.
pub async fn own_leaf(shell: Arc<Shell>, tls: Arc<TlsSwap>) {
    let mut leaf = OwnLeaf::new(tls.load().leaf);
    let mut logged: Option<(&'static str, u32)> = None;
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        leaf.set_current(tls.load().leaf);
        if leaf.is_due(shell.ca().validity(Role::Gateway), shell.now()) {
            // the names in use, which a reload may have changed
            let names = tls.load().names.clone();
            match table(&shell, &names).await {
                Ok(table) => {
                    leaf.set_current(table.leaf);
                    tracing::info!(until = %table.leaf.until, "the gateway's own certificate was renewed");
                    tls.swap(table);
                }
                Err(complaint) => {
                    leaf.failed();
                    tracing::error!(%complaint, "the gateway's own certificate could not be renewed; it is tried again");
                }
            }
        }
        logged = match (leaf.trouble(shell.now()), logged) {
            (None, _) => None,
            (Some(why), Some((before, checks))) if before == why && checks < TROUBLE_AGAIN => Some((why, checks + 1)),
            (Some(why), _) => {
                tracing::error!("clients refuse the gateway's own certificate: {why}");
                Some((why, 0))
            }
        };
    }
}

/// Logs once a day, and at each stage of [`Nearness`], that a CA expires soon.
pub async fn ca_ends(shell: Arc<Shell>) {
    let mut logged: Vec<Notice> = Vec::new();
    let mut at = shell.now();
    loop {
        let (now, ca) = (shell.now(), shell.ca());
        for (name, end) in ca.ends().all() {
            shell.metrics.ca_end(name, end);
        }
        let notices = ca.ends().notices(now);
        let known = |notice: &Notice| logged.iter().any(|one| (one.ca, one.nearness) == (notice.ca, notice.nearness));
        // after the clock was set back, log again
        if !notices.iter().all(known) || now >= at.plus(END_AGAIN) || now < at {
            for notice in &notices {
                match notice.nearness {
                    Nearness::Quarter | Nearness::Month => tracing::warn!("{notice}"),
                    Nearness::Week | Nearness::Ended => tracing::error!("{notice}"),
                }
            }
            (logged, at) = (notices, now);
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests;
