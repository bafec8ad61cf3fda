//! The gateway: enrolment, approval, issuing, renewal, locks, and the faces that serve them.
//!
//! Reading order: [`core`] decides, [`flow`] carries out, [`edge`] speaks to the network, [`store`] remembers, [`attest`]
//! judges evidence. `main` only wires.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod attest;
pub mod cli;
pub mod commands;
pub mod config;
pub mod core;
pub mod edge;
pub mod flow;
pub mod limits;
pub mod rules;
pub mod server;
pub mod store;
