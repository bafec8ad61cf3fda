//! What lives in memory while the gateway runs: open connections, and the sessions that cross them.

pub mod live;
pub mod sessions;
