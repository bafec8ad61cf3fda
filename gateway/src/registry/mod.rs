//! What lives in memory while the gateway runs: open connections, tunnels, the sessions that cross them, and the streams of those
//! that may move; who waits, the newest revocation lists, and which records are damaged; what has been enforced.

pub mod damaged;
pub mod dial_back;
pub mod enforcer;
pub mod lead;
pub mod lease;
pub mod lists;
pub mod live;
pub mod queue;
pub mod sessions;
pub mod tunnel_table;
pub mod tunnels;
