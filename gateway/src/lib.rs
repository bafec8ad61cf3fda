//! The gateway: enrolment, approval, issuing, renewal, locks, and the faces that serve them.
//!
//! Reading order: [`core`] decides, [`flow`] carries out, [`edge`] speaks to the network, [`attest`] judges evidence.
//! [`store`] remembers, [`signer`] holds the keys, [`registry`] knows what is open, [`ports`] are clock, files and the like.
//! `main` only wires.
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
