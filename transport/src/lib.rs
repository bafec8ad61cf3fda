//! Connections shared by the gateway and its clients: many streams in one connection ([`mux`]), a control stream of frames among them
//! ([`control`]), the two driven together ([`link`]), a count of open streams ([`streams`]), and the verification of a TLS peer
//! ([`verifier`]).
//!
//! Both ends of a tunnel run this code. It decides nothing: admission and the contents of frames are state machines elsewhere. It
//! makes no socket and reads no wall clock.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod control;
pub mod frame;
pub mod link;
pub mod mux;
pub mod streams;
pub mod verifier;
