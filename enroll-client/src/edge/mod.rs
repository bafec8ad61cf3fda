//! The only modules that use the clock, random numbers, the disk, the network, the terminal and other programs. Wire types are
//! converted only here, except by commands that print the gateway's reply.

pub mod client_key;
pub mod clock;
pub mod crypto;
pub mod dial_back;
pub mod enroll;
pub mod entropy;
pub mod first_bytes;
pub mod hooks;
pub mod keystore;
pub mod link;
pub mod live_credential;
pub mod manage;
pub mod net;
pub mod notices;
pub mod openssh;
pub mod program;
pub mod proxy;
pub mod reach;
pub mod relay;
pub mod sealed;
pub mod serve;
pub mod terminal;
pub mod tunnel;
pub mod verifier;
pub mod web;
