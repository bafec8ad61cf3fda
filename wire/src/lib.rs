//! What crosses the network between clients and the gateway: serde types and their size limits, and how the bytes of a
//! stream go from one connection to another.
//!
//! These types are a compatibility promise: fields are only ever added, with a safe meaning when absent, and unknown
//! fields in replies are ignored so that an older client understands a newer gateway. They are never used as domain
//! types: the gateway's `edge` and the client's `edge` convert.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod admin;
pub mod enroll;
pub mod evidence;
pub mod limits;
pub mod manage;
pub mod moving;
pub mod problem;
pub mod ssh;
pub mod strict;
pub mod tunnel;
