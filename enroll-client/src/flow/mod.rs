//! The sequences: what is asked, verified, stored and reported, in which order.

pub mod access;
pub mod enroll;
pub mod pool;
pub mod sshcert;
pub mod upkeep;
