//! The tunnels' ends on this side: [`crate::core::tunnel`] decides what is said, [`driver`] says it. The table of those that are up
//! is [`crate::registry::tunnels`].

mod driver;

pub use self::driver::{Parts, drive};
