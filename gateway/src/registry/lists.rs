//! The newest revocation lists, as they were made.

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use pki::{Role, UnixTime};

/// One list.
#[derive(Debug)]
pub struct List {
    /// DER (RFC 5280 5).
    pub der: Bytes,
    /// Its number.
    pub number: u64,
    /// When it was made.
    pub this_update: UnixTime,
    /// The lock epoch it was made at.
    pub epoch: u64,
}

/// The newest list of each issuing CA.
#[derive(Debug, Default)]
pub struct Lists {
    machine: Slot,
    person: Slot,
    gateway: Slot,
}

/// The newest list of one issuing CA.
#[derive(Debug, Default)]
pub struct Slot {
    /// It, once one was made.
    pub list: ArcSwapOption<List>,
    /// Held by the one that makes the next; the others wait for what it makes.
    pub making: tokio::sync::Mutex<()>,
}

impl Lists {
    /// That of one role.
    #[must_use]
    pub const fn of(&self, role: Role) -> &Slot {
        match role {
            Role::Machine => &self.machine,
            Role::Person => &self.person,
            Role::Gateway => &self.gateway,
        }
    }
}
