//! The benchmark: seven figures, each a ratio or a bound measured in one run on one machine, so that they can be compared between
//! machines.
//!
//! Rates are per CPU time of the process under test, not per wall clock time: the load generator and other processes are not counted.

pub mod access;
pub mod attested;
pub mod compare;
pub mod connections;
pub mod crypto;
pub mod fleet;
pub mod latency;
pub mod memory;
pub mod meter;
pub mod nginx;
pub mod report;

/// Sizes of the measurements.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Rounds, of which the median is reported.
    pub rounds: usize,
    /// Certificates issued in memory per round.
    pub issues: usize,
    /// Renewals over persistent connections per round.
    pub renewals: usize,
    /// New connections per round: handshakes, enrollments, renewals on a new connection.
    pub connections: usize,
    /// Idle connections held.
    pub idle: usize,
    /// Seconds of load at half the saturating rate.
    pub steady_secs: u64,
}

impl Size {
    /// For the published figures: about five minutes.
    pub const FULL: Self =
        Self { rounds: 5, issues: 4_000, renewals: 6_000, connections: 1_500, idle: 5_000, steady_secs: 15 };

    /// For a test of the benchmark: some seconds.
    pub const QUICK: Self = Self { rounds: 3, issues: 300, renewals: 300, connections: 100, idle: 200, steady_secs: 3 };
}

/// Workers of the load generator: enough for group commits and overlapping handshakes in the gateway, few enough for two cores.
pub const WORKERS: usize = 32;
