//! `lychgate-gateway`: a wiring list.

use std::process::ExitCode;

use clap::Parser as _;
use gateway::{cli::Cli, commands};

fn main() -> ExitCode {
    commands::run(Cli::parse())
}
