//! The parts of an [`Authority`](super::Authority), either created now or read from its files.

use std::sync::Arc;

use pki::{CaKey, ListInfo};

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
