//! Both ends of the tunnel in one process, with a simulated clock and network.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is reported by panicking"
)]

mod nonsense;
mod sim;
mod stories;
