//! What the connections of the gateway and of its clients are made of: many streams in one connection ([`mux`]), a stream of frames
//! among them ([`control`]), the two driven together ([`link`]), how many streams are open ([`streams`]), and how rustls asks whether a
//! peer is believed ([`verifier`]).
//!
//! Both ends of a tunnel run this code. It decides nothing: who may come, what is said and when are state machines elsewhere. It
//! makes no socket and asks for no time of day.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod control;
pub mod frame;
pub mod link;
pub mod mux;
pub mod streams;
pub mod verifier;
