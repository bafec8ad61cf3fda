//! Interfaces to the machine: clock, entropy, files, log, metrics, rate limits, notifications.

pub mod clock;
pub mod documents;
pub mod entropy;
pub mod files;
pub mod home;
pub mod local;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod rate;
