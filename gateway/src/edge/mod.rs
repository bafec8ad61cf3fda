//! Sockets and protocols. What the network says is turned into our own types here, and back; the sequences in
//! [`crate::flow`] do the rest.

pub mod carry;
pub mod content;
pub mod dial_back;
pub mod endpoints;
pub mod fetch;
pub mod frames;
pub mod framing;
pub mod fronts;
pub mod headers;
pub mod http;
pub mod listen;
pub mod movable;
pub mod proxied;
pub mod proxy;
pub mod reauth;
pub mod relay;
pub mod series;
pub mod tls;
pub mod tunnel;
