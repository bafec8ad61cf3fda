//! What the program says before it exits for a fault, and with which exit code.

use std::{fmt, process::ExitCode};

/// Exit code of a general failure.
const FAILED: u8 = 1;

/// Exit code when what was written down is wrong: configuration, policy, cases.
const WRONG: u8 = 3;

/// Exit code when the store cannot be used.
const STORE: u8 = 4;

/// What is said before exiting.
#[derive(Debug)]
pub struct Complaint {
    what: String,
    hint: Option<String>,
    code: u8,
}

impl Complaint {
    /// A failure.
    #[must_use]
    pub fn failed(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), hint: None, code: FAILED }
    }

    /// Something written down wrongly.
    #[must_use]
    pub fn wrong(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), hint: None, code: WRONG }
    }

    /// A store that cannot be used.
    #[must_use]
    pub fn store(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), hint: None, code: STORE }
    }

    /// With a way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says it and gives the exit code.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        eprintln!("lychgate-gateway: error: {}", self.what);
        if let Some(hint) = &self.hint {
            eprintln!("lychgate-gateway: hint: {hint}");
        }
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
