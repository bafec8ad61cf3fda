//! `lychgate`: wiring, and nothing else.

use std::ffi::OsString;
use std::process::ExitCode;

use enroll_client::cli;
use enroll_client::dispatch;
use enroll_client::edge::program;
use enroll_client::edge::terminal::{self, Format};
use enroll_client::text::report::{self, Exit};

fn main() -> ExitCode {
    let words = program::words(std::env::args_os());
    let cli = match cli::read(&words) {
        Ok(cli) => cli,
        Err(error) => return misused(&words, &error),
    };
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

/// An invalid command line, or one that asks for help. With `--json` the error is JSON.
fn misused(words: &[OsString], error: &clap::Error) -> ExitCode {
    // clap selects standard output or standard error.
    let _ = error.print();
    if error.use_stderr() && words.iter().any(|word| word == "--json") {
        terminal::result(Format::Json, &report::misuse(&error.to_string()).json(), "");
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()))
}
