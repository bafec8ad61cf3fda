//! The sequences: what is asked, verified, stored and reported, in which order.

pub mod upkeep;
