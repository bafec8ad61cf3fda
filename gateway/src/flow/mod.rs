//! The asynchronous sequences: read, decide, commit, sign, record, reply. One short function each; every decision is in
//! `core`.

pub mod admin;
pub mod admit;
pub mod can_i;
pub mod enroll;
pub mod issue;
pub mod notices;
pub mod people;
pub mod renew;
pub mod renew_now;
pub mod sealed;
pub mod shell;
pub mod ssh;
pub mod sweep;
