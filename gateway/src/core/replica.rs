//! One gateway process of several over one store: its name and its run.

use std::fmt;

use pki::Name;

/// A gateway process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its name, as configured: no two over one store have the same.
    pub name: Name,
    /// What tells it from the process before it.
    pub run: RunId,
}

/// One run of a process: drawn at its start.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RunId([u8; 8]);

impl RunId {
    /// Of these random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// From 16 hexadecimal digits, in lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes)).filter(|run| run.to_string() == text)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}
