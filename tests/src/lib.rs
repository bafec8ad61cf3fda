//! Shared code of the end-to-end tests and the benchmark: runners for the programs, and an independent in-process client of the
//! protocol, which detects a mistake made at both ends of the product.
//!
//! In reading order: [`wait`], [`program`], [`port`], [`gateway`], [`cli`], [`disk`], [`ssh`], [`swtpm`] run programs; [`boot`] is what
//! a firmware measures; [`tls`], [`raw`], [`http`], [`device`] are clients; [`load`] is load from many clients while the gateway is
//! killed; [`bench`] measures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness fails by panicking: the test's name and the message are the report"
)]

pub mod bench;
pub mod boot;
pub mod cli;
pub mod cloud;
pub mod device;
pub mod disk;
pub mod gateway;
pub mod http;
pub mod issuer;
pub mod load;
pub mod port;
pub mod program;
pub mod raw;
pub mod ssh;
pub mod swtpm;
pub mod tls;
pub mod wait;
