//! The log: one line for each event, on standard error or in a file, for people or as JSON.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal},
    path::Path,
};

use serde::Serialize;
use thiserror::Error;
use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter, Layer,
    field::MakeExt as _,
    fmt::{
        format::{Writer, debug_fn},
        writer::BoxMakeWriter,
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::ports::files::{self, FileError};

/// Settings of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Of each line.
    pub format: LogFormat,
    /// A level, or levels by module, as [`parse_level`] accepts.
    pub level: String,
}

/// Format of the log.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Human,
    /// One JSON object per line.
    Json,
}

/// Why the log could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The log file cannot be opened.
    #[error("the log {0}")]
    File(#[from] FileError),
    /// The process has a log already, for example of a program that embeds the gateway.
    #[error("the log is set up already")]
    Twice,
    /// The level does not parse. [`crate::config`] checks it before.
    #[error("`{level}` is not a log level; write `info` or `gateway=debug,info`")]
    Level {
        /// The value in the configuration.
        level: String,
    },
}

/// Parses a level such as `info` or `gateway=debug,info`.
///
/// # Errors
/// [`LogError::Level`] if it does not parse.
pub fn parse_level(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder().parse(level).map_err(|_| LogError::Level { level: level.to_owned() })
}

/// Starts the log of this process, on standard error.
pub fn init(log: &Log) -> Result<(), LogError> {
    let colour = io::stderr().is_terminal();
    start(log, BoxMakeWriter::new(io::stderr), colour)
}

/// Starts the log of this process, appended to a file.
pub fn init_file(log: &Log, path: &Path) -> Result<(), LogError> {
    start(log, BoxMakeWriter::new(files::append(path)?), false)
}

fn start(log: &Log, to: BoxMakeWriter, colour: bool) -> Result<(), LogError> {
    let filter = parse_level(&log.level)?;
    let layer = lines(log.format, to, colour);
    tracing_subscriber::registry().with(filter).with(layer).try_init().map_err(|_| LogError::Twice)
}

fn lines<S>(format: LogFormat, to: BoxMakeWriter, colour: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(to).with_ansi(colour);
    match format {
        LogFormat::Human => lines.with_target(false).fmt_fields(debug_fn(field).delimited(" ")).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    }
}

/// A list or map as a field of a log line: JSON, formatted only if the line is written.
#[derive(Debug)]
pub struct AsJson<'a, T>(pub &'a T);

impl<T: Serialize> fmt::Display for AsJson<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

/// One field of a line for people. Many fields have text from clients, so control characters are escaped: a name with a line break must
/// not forge a line of the log, nor an escape sequence move the reader's cursor.
fn field(to: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(to, "{}=", field.name())?;
    }
    write!(Escaping(to), "{value:?}")
}

struct Escaping<'a, 'b>(&'a mut Writer<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        text.chars().try_for_each(|c| match c {
            ' '..='~' => self.0.write_char(c),
            _ => write!(self.0, "{}", c.escape_debug()),
        })
    }
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

    /// The line of one event, without its time.
    fn written(format: LogFormat, event: impl FnOnce()) -> String {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("log");
        let layer = lines(format, BoxMakeWriter::new(files::append(&path).unwrap()), false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), event);
        files::read_text(&path).unwrap()
    }

    #[test]
    fn what_others_wrote_makes_no_line_of_its_own() {
        let name = "a\nINFO forged\u{1b}[2J\u{9b}\u{202e}ü\"";
        let text = written(LogFormat::Human, || tracing::info!(%name, other = name, "refused {name}"));
        let shown = r#"a\nINFO forged\u{1b}[2J\u{9b}\u{202e}ü""#;
        let want = format!("  INFO refused {shown} name={shown} other=\"{}\"\n", shown.replace('"', "\\\""));
        assert!(text.ends_with(&want), "{text}\n{want}");
    }

    #[test]
    fn lists_and_maps_are_json_in_their_field() {
        let (rules, detail) = (["admins", "owner"], std::collections::BTreeMap::from([("why", "say \"so\"\n")]));
        let event = || tracing::info!(rules = %AsJson(&rules), detail = %AsJson(&detail));
        let line: serde_json::Value = serde_json::from_str(&written(LogFormat::Json, event)).unwrap();
        let inner = |name: &str| -> serde_json::Value { serde_json::from_str(line[name].as_str().unwrap()).unwrap() };
        assert_eq!(inner("rules"), serde_json::json!(["admins", "owner"]));
        assert_eq!(inner("detail"), serde_json::json!({ "why": "say \"so\"\n" }));
        let text = written(LogFormat::Human, event);
        assert!(text.ends_with("rules=[\"admins\",\"owner\"] detail={\"why\":\"say \\\"so\\\"\\n\"}\n"), "{text}");
    }

    #[test]
    fn a_file_gets_one_json_object_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.log");
        let log = Log { format: LogFormat::Json, level: "info".into() };
        let line = || tracing::info!(name = "a\nb\u{1b}[31m", "an event");
        // the process has one log, which another test may have started
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
