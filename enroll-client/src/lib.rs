//! What machines and people run: the library behind the `lychgate` command.
//!
//! In layers; each uses those below it and none above:
//!
//! - [`dispatch`]: from a parsed command line to the one function that does it.
//! - [`commands`]: what each subcommand does.
//! - [`flow`]: the sequences that several commands are made of.
//! - [`edge`]: clock, disk, network, terminal and other programs.
//! - [`evidence`], [`platform`]: what a newcomer shows to be believed, one file per kind; what differs between systems.
//! - [`cli`]: what a person may say.
//! - [`core`]: decisions and values; pure, time and random numbers are arguments.
//! - [`text`]: text for people: escaped, in tables, and with exit codes.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod cli;
pub mod commands;
pub mod core;
pub mod dispatch;
pub mod edge;
pub mod evidence;
pub mod flow;
pub mod platform;
#[cfg(test)]
mod stolen;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod testing;
pub mod text;
