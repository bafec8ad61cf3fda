//! `lychgate`: wiring, and nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use enroll_client::cli::Cli;
use enroll_client::dispatch;
use enroll_client::edge::program;
use enroll_client::edge::terminal::{self, Format};

fn main() -> ExitCode {
    let cli = Cli::parse_from(program::words(std::env::args_os()));
    let format = if cli.json { Format::Json } else { Format::Text };
    match dispatch::run(cli, format) {
        Ok(exit) => exit.into(),
        Err(complaint) => {
            terminal::show(&complaint.lines());
            if format == Format::Json {
                terminal::result(format, &complaint.json(), "");
            }
            complaint.exit.into()
        }
    }
}
