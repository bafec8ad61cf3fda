//! The gateway: enrolment, approval, issuing, renewal, locks, and the faces that serve them.
//!
//! Reading order: [`core`] has the decisions, [`flow`] the sequences of I/O, [`edge`] the network protocols, [`attest`] the evidence.
//! [`store`] has the records, [`signer`] the keys, [`registry`] the open connections and sessions, [`ports`] clock, files and other
//! interfaces to the machine. `main` only starts a command.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod attest;
pub mod cli;
pub mod commands;
pub mod complaint;
pub mod config;
pub mod core;
pub mod edge;
pub mod flow;
pub mod limits;
pub mod ports;
pub mod registry;
pub mod rules;
pub mod server;
pub mod signer;
pub mod store;
