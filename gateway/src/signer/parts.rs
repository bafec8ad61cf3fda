//! The parts of an [`Authority`](super::Authority), either created now or read from its files.

use std::sync::Arc;

use pki::{CaKey, KeyPlace, ListInfo};

use super::SshCas;
use crate::core::{
    slots::{IssuingSlot, RootSlot, Slots},
    ticket::TicketKey,
};

/// Input of `Authority::assemble`.
pub(super) struct AuthorityParts {
    pub slots: Slots,
    pub roots: Vec<RootParts>,
    pub issuing: Vec<IssuingParts>,
    pub token: Arc<dyn CaKey>,
    pub tickets: TicketKey,
    pub ssh: SshCas,
}

impl AuthorityParts {
    /// Where the keys are: in memory only if all of them are. Those of the SSH CAs are in files always, and so in memory.
    pub fn keys_in(&self) -> KeyPlace {
        let mut keys = self.issuing.iter().filter_map(|parts| parts.key.as_ref()).chain([&self.token]);
        if keys.all(|key| key.place() == KeyPlace::Memory) { KeyPlace::Memory } else { KeyPlace::Device }
    }
}

pub(super) struct RootParts {
    pub slot: RootSlot,
    pub der: Vec<u8>,
    pub list: Option<(Vec<u8>, ListInfo)>,
    pub cross: Vec<Vec<u8>>,
}

pub(super) struct IssuingParts {
    pub slot: IssuingSlot,
    pub der: Vec<u8>,
    pub key: Option<Arc<dyn CaKey>>,
}
