//! Decisions and values without clock, disk, socket or terminal: time, random numbers and keys are arguments.

pub mod attestation;
pub mod ek_server;
pub mod ending;
pub mod enrollment;
pub mod helper;
pub mod key;
pub mod offset;
pub mod place;
pub mod plan;
pub mod proof;
pub mod receive;
pub mod record;
pub mod render;
pub mod renew;
pub mod services;
pub mod ssh;
pub mod sshline;
pub mod target;
pub mod trust;
pub mod tunnel;
