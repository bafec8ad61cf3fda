//! `lychgate`: wiring, and nothing else.

use std::ffi::OsString;
use std::process::ExitCode;

use enroll_client::cli;
use enroll_client::dispatch;
use enroll_client::edge::program;
use enroll_client::edge::terminal::{self, Format};
use enroll_client::text::report::{self, Exit};

fn main() -> ExitCode {
    let arguments = program::arguments(std::env::args_os());
    let cli = match cli::read(&arguments) {
        Ok(cli) => cli,
        Err(error) => return misused(&arguments, &error),
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
fn misused(arguments: &[OsString], error: &clap::Error) -> ExitCode {
    // clap selects standard output or standard error.
    let _ = error.print();
    if error.use_stderr() && arguments.iter().any(|argument| argument == "--json") {
        terminal::result(Format::Json, &report::misuse(&error.to_string()).json(), "");
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()))
}
