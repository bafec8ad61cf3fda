//! The only place with clock, entropy, files and sockets. What the network says is turned into our own types here, and
//! back.

pub mod clock;
pub mod dial_back;
pub mod endpoints;
pub mod entropy;
pub mod files;
pub mod framing;
pub mod handlers;
pub mod headers;
pub mod home;
pub mod http;
pub mod listen;
pub mod live;
pub mod local;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod problem;
pub mod proxied;
pub mod proxy;
pub mod rate;
pub mod sessions;
pub mod signer;
pub mod tls;
pub mod tunnel;
