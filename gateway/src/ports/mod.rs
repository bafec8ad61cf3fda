//! What the process takes from the machine it runs on: clock, entropy, files, log, metrics, rates, notifications.

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
