//! Figure 5: memory of an idle gateway, of an idle connection, and of `lychgate run`.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::fleet::{Site, connect};
use super::meter::settled_kib;
use crate::cli::Lychgate;
use crate::http::Connection;

/// Resident memory, in KiB.
pub struct Memory {
    /// The gateway after its start, before the first connection.
    pub idle_gateway: u64,
    /// Each idle mTLS connection after one request.
    pub connection: f64,
    /// `lychgate run`.
    pub client: u64,
}

/// Measures all three on a gateway of its own.
pub async fn measure(idle: usize) -> Memory {
    let mut site = Site::new();
    // Restarted, so that the memory for the first person's enrollment is not counted.
    let _ = site.gateway.stop();
    site.gateway.start();
    site.enroll = site.gateway.enroll();
    site.manage = site.gateway.manage();
    let idle_gateway = settled_kib(site.id());

    let machines = site.machines(1, "idle").await;
    let config = machines[0].config();
    // One connection before, so that one-time allocations are not counted.
    let _first = connect(&site, &machines).await.unwrap();
    let before = settled_kib(site.id());
    let kept = hold(&site, &config, idle).await;
    let after = settled_kib(site.id());
    let grown = super::meter::float(after.saturating_sub(before));
    let connection = grown / super::meter::float(kept.len() as u64);
    drop(kept);
    Memory { idle_gateway, connection, client: client(&site).await }
}

/// Opens connections with one request each, and keeps them open.
async fn hold(site: &Site, config: &Arc<rustls::ClientConfig>, count: usize) -> Vec<Connection> {
    let mut openers = JoinSet::new();
    let each = count.div_ceil(super::WORKERS);
    for _ in 0..super::WORKERS {
        let (face, config) = (site.manage.clone(), Arc::clone(config));
        openers.spawn(async move {
            let mut kept = Vec::with_capacity(each);
            for _ in 0..each {
                let mut connection = Connection::open(&face, &config).await.unwrap();
                let reply = connection.get("/v1/self").await.unwrap();
                assert_eq!(reply.status, 200, "{reply}");
                kept.push(connection);
            }
            kept
        });
    }
    openers.join_all().await.into_iter().flatten().collect()
}

async fn client(site: &Site) -> u64 {
    let token = site.tokens(1).await.remove(0);
    let machine: Lychgate = site.gateway.client("runner");
    machine.ok(&["join", &token, "--name", "runner"]);
    let running = machine.start(&["run"]);
    // The client queries the gateway at once and then sleeps.
    let kib = settled_kib(running.id());
    running.stop();
    kib
}
