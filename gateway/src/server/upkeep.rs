//! What keeps the gateway's own certificates good: its leaf, renewed by the wall clock, and a word in time before a CA ends.

use std::{sync::Arc, time::Duration};

use pki::Role;

use crate::{
    complaint::Complaint,
    core::{
        ca_end::{Nearness, Notice},
        face::FaceNames,
        own_leaf::{CHECK_INTERVAL, OwnLeaf},
    },
    edge::tls::{TlsSwap, TlsTable},
    flow::shell::{Actor, Shell},
    signer::{Authority, LeafKey, Signer},
};

/// How often the same thing is said again, in looks: once an hour of a certificate that nobody accepts.
const TROUBLE_AGAIN: u32 = 60;

/// How often an end that is near is said again.
const END_AGAIN: Duration = Duration::from_hours(24);

/// The gateway's own certificate by the authority in force, recorded like any other, in a TLS table.
///
/// # Errors
/// What failed: the keys, the store, TLS.
pub async fn table(shell: &Shell, names: &FaceNames) -> Result<TlsTable, Complaint> {
    table_by(shell, &shell.signer, &shell.ca(), names).await
}

/// The same by an authority that is not in force yet.
///
/// # Errors
/// As [`table`].
pub async fn table_by(
    shell: &Shell,
    signer: &Signer,
    ca: &Authority,
    names: &FaceNames,
) -> Result<TlsTable, Complaint> {
    let name = &shell.replica.name;
    let (key, plan) = LeafKey::plan(ca, name, names.all(), &shell.clock, &shell.entropy).map_err(Complaint::failed)?;
    let signed = signer.sign(plan).await.map_err(Complaint::failed)?;
    let actor = Actor { who: "gateway", instance: "start" };
    let committed = signed.commit(|changes| shell.commit(changes, &actor)).await;
    let (certificate, _) = committed.map_err(|error| Complaint::store(format!("{error:?}")))?.release();
    let leaf = key.with(ca, certificate);
    shell.metrics.leaf(leaf.validity().until);
    TlsTable::build(&leaf, Arc::clone(ca.anchors()), names.clone(), shell.clock.clone()).map_err(Complaint::failed)
}

/// Looks at the gateway's own certificate each minute by the wall clock, and puts another in its place when half of its life
/// is over, or when the clock says that it has ended or not begun.
pub async fn own_leaf(shell: Arc<Shell>, tls: Arc<TlsSwap>) {
    let mut leaf = OwnLeaf::new(tls.load().leaf);
    let mut said: Option<(&'static str, u32)> = None;
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        leaf.set_current(tls.load().leaf);
        if leaf.is_due(shell.ca().validity(Role::Gateway), shell.now()) {
            // The names in force: a reload may have changed them.
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
        said = match (leaf.trouble(shell.now()), said) {
            (None, _) => None,
            (Some(why), Some((before, looks))) if before == why && looks < TROUBLE_AGAIN => Some((why, looks + 1)),
            (Some(why), _) => {
                tracing::error!("nobody accepts the gateway's own certificate: {why}");
                Some((why, 0))
            }
        };
    }
}

/// Says once a day, and whenever it comes nearer, that a CA is about to end.
pub async fn ca_ends(shell: Arc<Shell>) {
    let mut said: Vec<Notice> = Vec::new();
    let mut at = shell.now();
    loop {
        let (now, ca) = (shell.now(), shell.ca());
        for (name, end) in ca.ends().all() {
            shell.metrics.ca_end(name, end);
        }
        let notices = ca.ends().notices(now);
        let known = |notice: &Notice| said.iter().any(|one| (one.ca, one.nearness) == (notice.ca, notice.nearness));
        // A clock that was set back counts as a day that has passed.
        if !notices.iter().all(known) || now >= at.plus(END_AGAIN) || now < at {
            for notice in &notices {
                match notice.nearness {
                    Nearness::Quarter | Nearness::Month => tracing::warn!("{notice}"),
                    Nearness::Week | Nearness::Ended => tracing::error!("{notice}"),
                }
            }
            (said, at) = (notices, now);
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests;
