//! The asynchronous sequences: read, decide, commit, sign, record, reply. One short function each; every decision is in
//! `core`.

pub mod admin;
pub mod admit;
pub mod asked;
mod attest;
pub mod audit;
pub mod authority;
pub mod can_i;
pub mod clock;
pub mod connect;
pub mod crl;
pub mod damaged;
pub mod departure;
pub mod enforcer;
pub mod enroll;
pub mod issue;
pub mod locks;
pub mod notices;
pub mod offboard;
pub mod order;
pub mod owners;
pub mod page;
pub mod people;
pub mod queue;
pub mod removal;
pub mod renew;
pub mod renew_now;
pub mod reports;
pub mod sealed;
pub mod sessions;
pub mod set;
pub mod shell;
pub mod ssh;
pub mod subjects;
pub mod sweep;
pub mod tokens;
pub mod views;
