//! Figure 1: memory of the gateway for an idle tunnel, and whether it is freed.

use std::time::Duration;

use super::AccessSize;
use super::herd::{Herd, enroll, visit};
use crate::bench::meter::{float, resident_kib, settled_kib};
use crate::cli::Lychgate;
use crate::device::Held;
use crate::gateway::{Gateway, Setup};

/// A gateway with machines that have joined and are not connected.
pub struct Fleet {
    /// The gateway.
    pub gateway: Gateway,
    /// A person with access to every service.
    pub alice: Lychgate,
    /// The machines.
    pub machines: Vec<Held>,
}

impl Fleet {
    /// Makes one.
    pub async fn new(count: usize) -> Self {
        let gateway = Setup::default().no_limits().cheap_keys().start();
        let alice = gateway.first_person();
        let machines = enroll(&gateway, &alice, count).await;
        Self { gateway, alice, machines }
    }
}

/// Resident memory of the gateway, in KiB.
#[derive(Clone, Copy, Debug)]
pub struct TunnelMemory {
    /// Number of tunnels.
    pub tunnels: usize,
    /// After every machine has sent a request, one after the other, so that certificates are active and records are in the store's
    /// cache, which has a separate limit.
    pub before: u64,
    /// With all tunnels.
    pub with: u64,
    /// After all tunnels were closed.
    pub after: u64,
    /// After all tunnels were opened and closed again.
    pub again: u64,
}

impl TunnelMemory {
    /// KiB per tunnel.
    #[must_use]
    pub fn each(&self) -> f64 {
        float(self.with.saturating_sub(self.before)) / float(self.tunnels as u64)
    }

    /// Ratio of `after` to `before`.
    #[must_use]
    pub fn left(&self) -> f64 {
        float(self.after) / float(self.before)
    }

    /// Ratio of `again` to `after`: memory that grows each time is leaked.
    #[must_use]
    pub fn grown(&self) -> f64 {
        float(self.again) / float(self.after)
    }
}

/// Opens `tunnels` tunnels on a gateway that was just started.
pub async fn measure(fleet: &mut Fleet, tunnels: usize, size: AccessSize) -> TunnelMemory {
    let _ = fleet.gateway.stop();
    fleet.gateway.start();
    let pid = fleet.gateway.id();
    let machines = &fleet.machines[..tunnels];
    visit(&fleet.gateway, machines).await;
    let before = settled_kib(pid);
    let herd = Herd::start(&fleet.gateway, machines);
    herd.wait_up();
    std::thread::sleep(Duration::from_secs(size.hold_secs));
    let with = settled_kib(pid);
    assert_eq!(herd.seen().up, tunnels, "some left");
    drop(herd);
    let after = returned(pid, before);
    let herd = Herd::start(&fleet.gateway, machines);
    herd.wait_up();
    drop(herd);
    TunnelMemory { tunnels, before, with, after, again: returned(pid, after) }
}

/// The least resident memory within half a minute: an allocator returns free memory with a delay.
fn returned(pid: u32, baseline: u64) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..30 {
        std::thread::sleep(Duration::from_secs(1));
        least = least.min(resident_kib(pid));
        if least <= baseline + baseline / 20 {
            break;
        }
    }
    least
}
