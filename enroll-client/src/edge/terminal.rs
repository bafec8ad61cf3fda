//! The terminal: messages go to standard error, results to standard output, and prompts appear only on a terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::Value;

use crate::{platform, text};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Prints a result as JSON or text. A closed pipe is not an error. Control characters of the text other than newline and tab are
/// escaped.
pub fn result(format: Format, json: &Value, text: &str) {
    let mut out = io::stdout().lock();
    let _ = match format {
        Format::Json => writeln!(out, "{}", text::json(json)),
        Format::Text if text.is_empty() || text.ends_with('\n') => write!(out, "{}", text::block(text)),
        Format::Text => writeln!(out, "{}", text::block(text)),
    };
    let _ = out.flush();
}

/// Prints a list for people, with state words in colour if standard output supports it.
pub fn list(text: &str) {
    let shown = text::block(text);
    let mut out = io::stdout().lock();
    let _ = if colours() { write!(out, "{}", text::coloured(&shown)) } else { write!(out, "{shown}") };
    let _ = out.flush();
}

/// Writes bytes for a program to standard output, unless it is a terminal. Returns whether they were written.
pub fn to_program(bytes: &[u8]) -> bool {
    let mut out = io::stdout().lock();
    !out.is_terminal() && out.write_all(bytes).and_then(|()| out.flush()).is_ok()
}

/// Waits up to `at_most` until the program at the other end of standard input has closed it. A program that is still writing when we
/// exit would get a broken pipe and not read our last output.
pub async fn until_program_leaves(at_most: Duration) {
    let (done, left) = tokio::sync::oneshot::channel();
    // In a thread, because a blocking read of standard input cannot be cancelled; it ends with the process.
    let reader = move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = done.send(());
    };
    if std::thread::Builder::new().spawn(reader).is_ok() {
        let _ = tokio::time::timeout(at_most, left).await;
    }
}

/// Prints a message to standard error, prefixed with the program's name.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "lychgate: {}", text::safe(line));
}

/// Prints a block to standard error. Control characters other than newline and tab are escaped.
pub fn show(block: &str) {
    let _ = write!(io::stderr().lock(), "{}", text::block(block));
}

/// Whether standard error is a terminal, so that a line may be rewritten in place.
#[must_use]
pub fn is_live() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether standard output supports colours: a terminal, and `NO_COLOR` (<https://no-color.org>) is not set.
#[must_use]
pub fn colours() -> bool {
    let said = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    io::stdout().is_terminal() && said("NO_COLOR").is_none() && said("TERM").is_none_or(|term| term != "dumb")
}

/// Characters per line if standard output is a terminal. Output to a pipe or file is not cut.
#[must_use]
pub fn width() -> Option<usize> {
    io::stdout().is_terminal().then(platform::terminal_width).flatten()
}

/// Whether a prompt can be answered: standard input and standard error are terminals.
#[must_use]
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Rewrites the progress line. Only for [`is_live`] terminals.
pub fn progress(line: &str) {
    let mut err = io::stderr().lock();
    let _ = write!(err, "\r\x1b[2K{line}");
    let _ = err.flush();
}

/// Removes the progress line.
pub fn end_progress() {
    let mut err = io::stderr().lock();
    let _ = write!(err, "\r\x1b[2K");
    let _ = err.flush();
}

/// Prompts for a line. `None` without a terminal, or at end of input.
#[must_use]
pub fn ask(question: &str) -> Option<String> {
    if !can_ask() {
        return None;
    }
    let mut err = io::stderr().lock();
    let _ = write!(err, "{question}");
    let _ = err.flush();
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(read) if read > 0 => Some(line.trim().to_owned()),
        Ok(_) | Err(_) => None,
    }
}

/// Everything on standard input, up to `limit` bytes.
///
/// # Errors
/// When it cannot be read or is longer.
pub fn read_stdin(limit: u64) -> io::Result<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let utf_16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || bytes.contains(&0);
    String::from_utf8(bytes).ok().filter(|_| !utf_16).ok_or_else(|| {
        let what = if utf_16 { "it is UTF-16; save it as UTF-8 or plain ASCII" } else { "it is no UTF-8" };
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}
