//! Parses raw values; every error names file, line, key and remedy.

use std::{
    fmt::Display,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    ConfigError,
    raw::{Count, RawText},
};
use crate::limits::{CONFIG_DURATION_MAX, Quota};

/// The configuration file, for errors and relative paths.
pub(super) struct SourceFile<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

impl SourceFile<'_> {
    /// The line number, from 1.
    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// The error for one of the TOML parser.
    pub fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let line = error.span().map_or(1, |span| self.line(&span));
        let shown = self.text.lines().nth(line - 1).unwrap_or_default().trim();
        // without the value: the file should have no secrets, but if it has one it must not reach a log
        let shown = shown.split_once('=').map_or(shown, |(key, _)| key.trim());
        ConfigError::Syntax {
            file: self.path.to_owned(),
            line,
            near: shown.to_owned(),
            message: error.message().trim().replace('\n', "; "),
        }
    }

    /// The error for an invalid value.
    pub fn bad(&self, key: &'static str, span: &Range<usize>, what: impl Display, fix: &'static str) -> ConfigError {
        let (file, line) = (self.path.to_owned(), self.line(span));
        ConfigError::Value { file, line, key, what: what.to_string(), fix }
    }

    /// The error for a missing key.
    pub fn missing(&self, key: &'static str, fix: &'static str) -> ConfigError {
        ConfigError::Missing { file: self.path.to_owned(), key, fix }
    }

    /// Parses a string.
    pub fn parse<T, E: Display>(
        &self,
        key: &'static str,
        raw: &RawText,
        parse: impl FnOnce(&str) -> Result<T, E>,
        fix: &'static str,
    ) -> Result<T, ConfigError> {
        let text = raw.get_ref();
        parse(text).map_err(|error| self.bad(key, &raw.span(), format!("`{text}`: {error}"), fix))
    }

    /// Parses a string, with a default.
    pub fn parse_or<T, E: Display>(
        &self,
        key: &'static str,
        raw: Option<&RawText>,
        parse: impl FnOnce(&str) -> Result<T, E>,
        fix: &'static str,
        default: T,
    ) -> Result<T, ConfigError> {
        raw.map_or(Ok(default), |raw| self.parse(key, raw, parse, fix))
    }

    /// Parses each string of a list.
    pub fn list<T, E: Display>(
        &self,
        key: &'static str,
        raw: &[RawText],
        parse: impl Fn(&str) -> Result<T, E>,
        fix: &'static str,
    ) -> Result<Vec<T>, ConfigError> {
        raw.iter().map(|raw| self.parse(key, raw, &parse, fix)).collect()
    }

    /// Parses a time span such as `30s`, above zero and up to [`CONFIG_DURATION_MAX`](crate::limits::CONFIG_DURATION_MAX).
    pub fn duration(
        &self,
        key: &'static str,
        raw: Option<&RawText>,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        const FIX: &str = "write a time span such as \"30s\", \"10m\", \"24h\" or \"30d\"";
        let Some(raw) = raw else { return Ok(default) };
        let span = self.parse(key, raw, humantime::parse_duration, FIX)?;
        if span.is_zero() || span > CONFIG_DURATION_MAX {
            return Err(self.bad(key, &raw.span(), format!("`{}` is out of range", raw.get_ref()), FIX));
        }
        Ok(span)
    }

    /// Checks a number, at least 1.
    pub fn count(&self, key: &'static str, raw: Option<&Count>, default: usize) -> Result<usize, ConfigError> {
        const FIX: &str = "write a whole number from 1 to 1000000000";
        let Some(raw) = raw else { return Ok(default) };
        match usize::try_from(*raw.get_ref()) {
            Ok(count @ 1..=1_000_000_000) => Ok(count),
            Ok(_) | Err(_) => Err(self.bad(key, &raw.span(), format!("{} is out of range", raw.get_ref()), FIX)),
        }
    }

    /// Parses a rate such as `5/s burst 60`.
    pub fn quota(&self, key: &'static str, raw: Option<&RawText>, default: Quota) -> Result<Quota, ConfigError> {
        self.parse_or(key, raw, str::parse::<Quota>, "write a rate such as \"5/s burst 60\"", default)
    }

    /// Resolves a path; relative ones start at the folder of the configuration file.
    pub fn path(&self, key: &'static str, raw: &RawText) -> Result<PathBuf, ConfigError> {
        if raw.get_ref().is_empty() {
            return Err(self.bad(key, &raw.span(), "it is empty", "write a path"));
        }
        Ok(self.folder().join(raw.get_ref()))
    }

    /// The folder of the configuration file.
    pub fn folder(&self) -> PathBuf {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            Some(_) | None => PathBuf::from("."),
        }
    }
}
