//! The benchmark of access to services: tunnels, their streams, and programs that use them. Each figure is a ratio within one run, or a
//! bound.
//!
//! In reading order: [`stage`], [`service`] and [`person`] set up a connection from a person to a service; [`light`] and [`herd`] are
//! large numbers of machines; [`haproxy`] and [`rathole`] are for comparison; [`relay`] simulates a slow line; each other module is a
//! figure.

pub mod ansible;
pub mod haproxy;
pub mod herd;
pub mod idle;
pub mod keystrokes;
pub mod light;
pub mod opening;
pub mod person;
pub mod rathole;
pub mod relay;
pub mod service;
pub mod ssh;
pub mod stage;
pub mod storm;
pub mod throughput;

/// Sizes of the measurements.
#[derive(Clone, Copy, Debug)]
pub struct AccessSize {
    /// Rounds, of which the median is reported.
    pub rounds: usize,
    /// Idle tunnels held, the smaller and the larger number.
    pub tunnels: [usize; 2],
    /// Seconds that they are held: more than the heartbeat interval.
    pub hold_secs: u64,
    /// Bytes transferred in a round.
    pub bytes: u64,
    /// Connections opened.
    pub opened: usize,
    /// Machines that Ansible plays on.
    pub machines: usize,
    /// Bytes of the transfer during typing.
    pub bulk: u64,
    /// Seconds of typing beside a transfer over a slow line.
    pub slow_secs: u64,
    /// Number of clients of rathole.
    pub peers: usize,
}

impl AccessSize {
    /// For the published figures.
    pub const FULL: Self = Self {
        rounds: 5,
        tunnels: [5_000, 18_000],
        hold_secs: 75,
        bytes: 512 << 20,
        opened: 400,
        machines: 50,
        bulk: 2 << 30,
        slow_secs: 20,
        peers: 300,
    };

    /// For a test of the benchmark.
    pub const QUICK: Self = Self {
        rounds: 3,
        tunnels: [300, 600],
        hold_secs: 2,
        bytes: 64 << 20,
        opened: 40,
        machines: 4,
        bulk: 128 << 20,
        slow_secs: 4,
        peers: 50,
    };
}
