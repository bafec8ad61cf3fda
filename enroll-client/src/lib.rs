//! What machines and people run: the library behind the `lychgate` command.
//!
//! In reading order: what a person may say ([`cli`], [`target`]), what a conversation with the gateway decides
//! ([`flow`], [`renew`], [`plan`]; pure, time and randomness are arguments), what is proven ([`key`], [`proof`],
//! [`evidence`], [`trust`], [`receive`]), the drivers that join the two ([`join`], [`upkeep`], [`daemon`], [`own`], [`people`],
//! [`sshcert`]), and
//! the only parts that touch the clock, the disk, the network and the terminal ([`edge`], [`platform`]).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod cli;
pub mod connect;
pub mod daemon;
pub mod disconnect;
pub mod dispatch;
pub mod edge;
pub mod ending;
pub mod evidence;
mod examples;
pub mod flow;
pub mod followed;
pub mod helper;
pub mod inventory;
pub mod join;
pub mod key;
pub mod offset;
pub mod own;
pub mod people;
pub mod people_text;
pub mod plan;
pub mod platform;
pub mod proof;
pub mod receive;
pub mod record;
pub mod render;
pub mod renew;
pub mod report;
pub mod requests;
pub mod services;
pub mod set;
pub mod sshcert;
pub mod sshconfig;
pub mod sshline;
pub mod status;
#[cfg(test)]
mod stolen;
#[cfg(test)]
mod stories;
pub mod table;
pub mod target;
#[cfg(test)]
mod testing;
pub mod text;
pub mod trust;
pub mod tunnel;
pub mod upkeep;
