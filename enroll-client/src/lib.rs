//! The library of the `lychgate` command, which machines and people run.
//!
//! Layers; each uses only those below it:
//!
//! - [`dispatch`]: calls the function of the parsed command.
//! - [`commands`]: the subcommands.
//! - [`flow`]: sequences that several commands use.
//! - [`edge`]: clock, disk, network, terminal and other programs.
//! - [`evidence`], [`platform`]: the kinds of evidence, one file per kind; functions that depend on the operating system.
//! - [`cli`]: the command line.
//! - [`core`]: decisions and values without I/O; time, random numbers and keys are arguments.
//! - [`text`]: text for people: escaping, tables, errors and exit codes.

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
