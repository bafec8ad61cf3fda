//! Figure 1: what an idle tunnel costs the gateway in memory, and whether it is given back.

use std::time::Duration;

use super::Size;
use super::herd::{Herd, enroll};
use crate::bench::meter::{float, resident_kib, settled_kib};
use crate::cli::Lychgate;
use crate::device::Held;
use crate::gateway::{Gateway, Setup};

/// A gateway with machines that have joined and are not there.
pub struct Fleet {
    /// The gateway.
    pub gateway: Gateway,
    /// Somebody who may go everywhere.
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

/// Resident memory of the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// How many tunnels.
    pub tunnels: usize,
    /// After a start, before they came, in KiB.
    pub before: u64,
    /// With all of them, in KiB.
    pub with: u64,
    /// After they left, in KiB.
    pub after: u64,
    /// With all of them once more, in KiB.
    pub again: u64,
}

impl Memory {
    /// KiB of each tunnel.
    #[must_use]
    pub fn each(&self) -> f64 {
        float(self.with.saturating_sub(self.before)) / float(self.tunnels as u64)
    }

    /// KiB of each tunnel that stay when they leave: records that were read are kept in memory.
    #[must_use]
    pub fn left(&self) -> f64 {
        float(self.after.saturating_sub(self.before)) / float(self.tunnels as u64)
    }

    /// KiB of each tunnel when they came once more, from where they had left it.
    #[must_use]
    pub fn each_again(&self) -> f64 {
        float(self.again.saturating_sub(self.after)) / float(self.tunnels as u64)
    }
}

/// Holds so many tunnels on a gateway that was just started, twice.
pub fn measure(fleet: &mut Fleet, tunnels: usize, size: Size) -> Memory {
    let _ = fleet.gateway.stop();
    fleet.gateway.start();
    let pid = fleet.gateway.id();
    let before = settled_kib(pid);
    let hold = |secs| {
        let herd = Herd::start(&fleet.gateway, &fleet.machines[..tunnels]);
        herd.wait_up();
        std::thread::sleep(Duration::from_secs(secs));
        let with = settled_kib(pid);
        assert_eq!(herd.seen().up, tunnels, "some left");
        with
    };
    let with = hold(size.hold_secs);
    let after = returned(pid, before);
    let again = hold(0);
    let _ = returned(pid, before);
    Memory { tunnels, before, with, after, again }
}

/// The least that is resident within half a minute: an allocator gives back what is free only after a while.
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
