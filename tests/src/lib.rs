//! What the end-to-end tests and the benchmark share: runners for the real programs, and an in-process client that
//! speaks the wire protocol on its own, so that a mistake made at both ends of the product is still seen.
//!
//! In reading order: [`wait`], [`program`], [`port`], [`gateway`], [`cli`], [`disk`], [`ssh`] run programs; [`tls`], [`raw`], [`http`],
//! [`device`] speak to them; [`load`] does so in numbers and expects the worst; [`bench`] measures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness fails by panicking: the test's name and the message are the report"
)]

pub mod bench;
pub mod cli;
pub mod device;
pub mod disk;
pub mod gateway;
pub mod http;
pub mod load;
pub mod port;
pub mod program;
pub mod raw;
pub mod ssh;
pub mod tls;
pub mod wait;
