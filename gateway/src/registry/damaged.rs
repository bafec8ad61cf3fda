//! Records that do not read as what they should be: each is named once in the log, and counted. What a kind of record is taken for
//! then, [`Stored::unreadable`](crate::core::stored::Stored::unreadable) says.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{core::refusal::Fault, limits::DAMAGED_NAMED, ports::metrics::Metrics};

/// Those seen since the start.
#[derive(Debug)]
pub struct DamagedRecords {
    seen: Mutex<BTreeSet<String>>,
    metrics: Arc<Metrics>,
}

impl DamagedRecords {
    /// None seen yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { seen: Mutex::default(), metrics }
    }

    /// One was read.
    pub fn note(&self, key: &str, fault: &Fault) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < DAMAGED_NAMED && seen.insert(key.to_owned()) {
            self.metrics.damaged(seen.len());
            tracing::error!(
                key, %fault,
                "a record is damaged and is left out; with the gateway stopped, `lychgate-gateway store check` names all, \
                 and `store quarantine` quarantines one"
            );
        }
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
