//! Both ends of the tunnel in one process, with the clock and the network in the test's hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is reported by panicking"
)]

mod nonsense;
mod sim;
mod stories;
