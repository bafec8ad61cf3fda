//! Errors that end the program: message, hint and exit code.

use std::{fmt, process::ExitCode};

/// Exit code of a general failure.
const FAILED: u8 = 1;

/// Exit code for an error in a file that the operator writes: configuration, policy, cases.
const WRONG: u8 = 3;

/// Exit code if the store cannot be used.
const STORE: u8 = 4;

/// An error that ends the program.
#[derive(Debug)]
pub struct Complaint {
    what: String,
    hint: Option<String>,
    code: u8,
}

impl Complaint {
    /// With exit code 1.
    #[must_use]
    pub fn failed(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), hint: None, code: FAILED }
    }

    /// With exit code 3: an error in the configuration, the policy or its cases.
    #[must_use]
    pub fn wrong(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), hint: None, code: WRONG }
    }

    /// With exit code 4: the store cannot be used.
    #[must_use]
    pub fn store(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), hint: None, code: STORE }
    }

    /// Adds what the operator can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints it on standard error and returns the exit code.
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
