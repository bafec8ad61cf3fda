//! The tunnels' ends on this side: [`conversation`] decides what is said, [`driver`] says it. The table of those that are up
//! is [`crate::registry::tunnels`].

pub mod conversation;
mod driver;

pub use self::driver::{TunnelDeps, drive};
