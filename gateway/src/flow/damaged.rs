//! Records that do not read as what they should be: each is named once in the log, and counted. What a kind of record is taken for
//! then, [`Stored::unreadable`](crate::core::kinds::Stored::unreadable) says.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use super::shell::Shell;
use crate::{
    core::{keys, kinds, refusal::Fault},
    limits::DAMAGED_NAMED,
    ports::metrics::Metrics,
    store::{self, Key},
};

/// Those seen since the start.
#[derive(Debug)]
pub struct Damaged {
    seen: Mutex<BTreeSet<Key>>,
    metrics: Arc<Metrics>,
}

impl Damaged {
    /// None seen yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { seen: Mutex::default(), metrics }
    }

    /// One was read.
    pub fn note(&self, key: &Key, fault: &Fault) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < DAMAGED_NAMED && seen.insert(key.clone()) {
            self.metrics.damaged(seen.len());
            tracing::error!(
                %key, %fault,
                "a record is damaged and is left out; with the gateway stopped, `lychgate-gateway store check` names all, \
                 and `store quarantine` puts one aside"
            );
        }
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Names what is damaged already when the gateway starts, and finds what it must not start with: a record that may have been a
/// lock, of which its key does not tell on what. Whatever could have been meant would go unlocked.
///
/// # Errors
/// When the store fails, or such a record is there: [`Fault::Record`] names it.
pub async fn at_start(shell: &Shell) -> Result<(), Fault> {
    let may_lock = |key: &Key| {
        let text = key.to_string();
        text.starts_with(keys::LOCKS) && keys::locked(&text).is_none()
    };
    let untold =
        |key: &Key| Fault::Record(format!("{key}: it may have been a lock, and its key does not tell of what"));
    for key in shell.store.damaged() {
        shell.damaged.note(key, &Fault::Record(format!("{key}: its checksum is wrong")));
        // The checksum is of the key as well: one that belongs to no kind may have belonged to any.
        if may_lock(key) || kinds::of(&key.to_string()).is_none() {
            return Err(untold(key));
        }
    }
    let (prefix, mut after) = (Key::from(keys::LOCKS), None::<Key>);
    loop {
        let page = shell.store.scan(&prefix, after.as_ref(), store::SCAN_MAX).await;
        let page = page.map_err(|error| shell.fault(error))?;
        if let Some((key, _)) = page.rows.iter().find(|(key, _)| may_lock(key)) {
            return Err(untold(key));
        }
        if !page.more {
            return Ok(());
        }
        after = page.rows.into_iter().next_back().map(|(key, _)| key);
    }
}
