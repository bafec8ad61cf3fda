//! Operating system dependent functions: one file for Unix, one for all others, with the same functions.

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub use unix::*;

#[cfg(not(unix))]
mod other;
#[cfg(not(unix))]
pub use other::*;

/// Who may read a file we create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only its owner.
    Secret,
    /// Anybody who can reach the folder.
    Public,
}
