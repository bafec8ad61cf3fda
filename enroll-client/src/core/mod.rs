//! Decisions and values without a clock, a disk, a socket or a terminal: time and random numbers are arguments.

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
