//! Sequences of requests, checks and writes that several commands use.

pub mod access;
pub mod enroll;
pub mod keys;
pub mod pool;
pub mod sshcert;
pub mod upkeep;
