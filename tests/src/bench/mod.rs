//! The benchmark: six figures, each a ratio or a bound measured in one run on one machine, so that they can be compared
//! between machines.
//!
//! Work is divided by the CPU time of the process under test, never by the clock on the wall: the load generator and
//! whatever else runs here do not count.

pub mod access;
pub mod compare;
pub mod connections;
pub mod crypto;
pub mod fleet;
pub mod latency;
pub mod memory;
pub mod meter;
pub mod nginx;
pub mod report;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Rounds of which the median counts.
    pub rounds: usize,
    /// Certificates issued in memory, a round.
    pub issues: usize,
    /// Renewals over kept connections, a round.
    pub renewals: usize,
    /// New connections, a round: handshakes, enrollments, renewals on a new connection.
    pub connections: usize,
    /// Idle connections held.
    pub idle: usize,
    /// Seconds of load at half the saturating rate.
    pub steady_secs: u64,
}

impl Size {
    /// What the published figures come from: some five minutes.
    pub const FULL: Self =
        Self { rounds: 5, issues: 4_000, renewals: 6_000, connections: 1_500, idle: 5_000, steady_secs: 15 };

    /// To see that it works: some seconds.
    pub const QUICK: Self = Self { rounds: 3, issues: 300, renewals: 300, connections: 100, idle: 200, steady_secs: 3 };
}

/// Workers of the load generator: enough that the gateway's group commit and handshakes overlap as they do under load,
/// few enough that two cores hold them all.
pub const WORKERS: usize = 32;
