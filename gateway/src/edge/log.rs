//! The log: one line for each event, on standard error or in a file, for people or as JSON.

use std::{
    io::{self, IsTerminal},
    path::Path,
};

use thiserror::Error;
use tracing_subscriber::{EnvFilter, Layer, fmt::writer::BoxMakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

use super::files::{self, FileError};
use crate::config::{Log, LogFormat};

/// Why the log could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The file to log to.
    #[error("the log {0}")]
    File(#[from] FileError),
    /// A program that embeds the gateway has one already.
    #[error("the log is set up already")]
    Twice,
    /// Cannot happen to a level that came through [`crate::config`].
    #[error("`{level}` is not a log level; write `info` or `gateway=debug,info`")]
    Level {
        /// What was asked for.
        level: String,
    },
}

/// Reads a level such as `info` or `gateway=debug,info`.
///
/// # Errors
/// [`LogError::Level`].
pub fn parse_level(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder().parse(level).map_err(|_| LogError::Level { level: level.to_owned() })
}

/// Sets the log up for this process, on standard error.
///
/// # Errors
/// [`LogError`].
pub fn init(log: &Log) -> Result<(), LogError> {
    let colour = io::stderr().is_terminal();
    start(log, BoxMakeWriter::new(io::stderr), colour)
}

/// Sets the log up for this process, at the end of a file.
///
/// # Errors
/// [`LogError`].
pub fn init_file(log: &Log, path: &Path) -> Result<(), LogError> {
    start(log, BoxMakeWriter::new(files::append(path)?), false)
}

fn start(log: &Log, to: BoxMakeWriter, colour: bool) -> Result<(), LogError> {
    let lines = tracing_subscriber::fmt::layer().with_writer(to).with_ansi(colour);
    let layer = match log.format {
        LogFormat::Human => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    let filter = parse_level(&log.level)?;
    tracing_subscriber::registry().with(filter).with(layer).try_init().map_err(|_| LogError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(level: &str, want: Result<(), &str>) {
        assert_eq!(
            parse_level(level).map(drop).map_err(|error| error.to_string()),
            want.map_err(str::to_owned),
            "{level}"
        );
    }

    #[test]
    fn levels() {
        check("info", Ok(()));
        check("gateway=debug,info", Ok(()));
        check("gateway=loud", Err("`gateway=loud` is not a log level; write `info` or `gateway=debug,info`"));
    }

    #[test]
    fn a_file_gets_one_json_object_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.log");
        let log = Log { format: LogFormat::Json, level: "info".into() };
        let line = || tracing::info!(name = "a\nb\u{1b}[31m", "an event");
        // The process has one log, which another test of this process may have set up.
        match init_file(&log, &path) {
            Ok(()) => line(),
            Err(error) => return assert_eq!(error.to_string(), "the log is set up already"),
        }
        let text = files::read_text(&path).unwrap();
        let value: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!((value["message"].as_str(), value["name"].as_str()), (Some("an event"), Some("a\nb\u{1b}[31m")));
        assert!(matches!(init_file(&log, &path), Err(LogError::Twice)));
    }
}
