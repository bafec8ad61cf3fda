//! Looks up what a decision misses, until it misses nothing: see [`crate::core::look`].

use std::collections::BTreeSet;

use futures::future::{join, join_all};

use super::shell::Shell;
use crate::{
    core::{
        look::{Look, Missed},
        records::Seen,
        refusal::Fault,
        stored::RawRecord,
    },
    store::{Entry, Key, Snapshot, Version},
};

/// Most rounds of reads for one decision. The longest chain has four; who needs more reads what others change all the time.
const ROUNDS_MAX: usize = 8;

impl Shell {
    /// Asks a decision with all that it needs at hand. Each round reads what the round before missed; and if there was a commit
    /// meanwhile, what is known already once more: so the records that it ends with are of one moment.
    ///
    /// # Errors
    /// Those of the decision; [`Fault`] when the store fails.
    pub async fn look<T, E: From<Fault>>(&self, decide: impl Fn(&Look) -> Result<T, E>) -> Result<T, E> {
        let mut look = Look::default();
        let mut at = None;
        for _ in 0..ROUNDS_MAX {
            let decided = decide(&look);
            let missed = look.missed();
            let damaged = look.damaged();
            if missed.is_empty() {
                damaged.iter().for_each(|(key, fault)| self.damaged.note(key, fault));
                return decided;
            }
            drop(decided);
            self.learn(&mut look, &mut at, missed).await?;
        }
        Err(Fault::Contention.into())
    }

    async fn learn(&self, look: &mut Look, at: &mut Option<Version>, missed: Missed) -> Result<(), Fault> {
        let Missed { records, prefixes, documents } = missed;
        let filled = join_all(prefixes.iter().map(|prefix| self.filled(prefix)));
        let found = join_all(documents.iter().map(|source| self.documents.get(source)));
        let (read, (filled, found)) = join(self.learn_records(look, at, records), join(filled, found)).await;
        read?;
        for (prefix, filled) in prefixes.iter().zip(filled) {
            look.learn_filled(prefix.clone(), filled?);
        }
        for (source, document) in documents.iter().zip(found) {
            look.learn_document(source.clone(), document);
        }
        Ok(())
    }

    /// Reads these records. If there was a commit since what is known was read, all of it is read at once.
    async fn learn_records(
        &self,
        look: &mut Look,
        at: &mut Option<Version>,
        missed: BTreeSet<String>,
    ) -> Result<(), Fault> {
        if missed.is_empty() {
            return Ok(());
        }
        let wanted: Vec<String> = missed.into_iter().collect();
        let (wanted, read) = match (*at, self.read_all(&wanted).await?) {
            (Some(before), read) if before != read.at => {
                let all: Vec<String> = look.keys().cloned().chain(wanted).collect();
                let read = self.read_all(&all).await?;
                (all, read)
            }
            (_, read) => (wanted, read),
        };
        *at = Some(read.at);
        for (text, entry) in wanted.into_iter().zip(read.entries) {
            look.learn(text, entry.map(raw));
        }
        Ok(())
    }

    async fn read_all(&self, texts: &[String]) -> Result<Snapshot, Fault> {
        let keys: Vec<Key> = texts.iter().map(|text| Key::from(text.as_str())).collect();
        self.store.read(&keys).await.map_err(|error| self.fault(error))
    }

    async fn filled(&self, prefix: &str) -> Result<bool, Fault> {
        let page = self.store.scan(&Key::from(prefix), None, 1).await;
        page.map(|page| !page.rows.is_empty()).map_err(|error| self.fault(error))
    }
}

/// An entry as a decision reads it.
pub(super) fn raw(entry: Entry) -> RawRecord {
    let record = match entry.damage {
        None => Ok(entry.value),
        Some(why) => Err(why),
    };
    Seen { record, version: entry.version }
}
