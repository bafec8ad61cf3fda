//! Looks up what a decision misses, until it misses nothing: see [`crate::core::look`].

use futures::future::{join, join_all};

use super::shell::Shell;
use crate::{
    core::{
        look::{Look, Missed, RawRecord},
        records::Seen,
        refusal::Fault,
    },
    store::{Entry, Key},
};

/// Most rounds of reads for one decision. The longest chain has four; who needs more reads what others change all the time.
const ROUNDS_MAX: usize = 8;

impl Shell {
    /// Asks a decision with all that it needs at hand. Each round reads what the round before missed, and what is known already
    /// once more: so the records that it ends with are of one moment.
    ///
    /// # Errors
    /// Those of the decision; [`Fault`] when the store fails.
    pub async fn look<T, E: From<Fault>>(&self, decide: impl Fn(&Look) -> Result<T, E>) -> Result<T, E> {
        let mut look = Look::default();
        for _ in 0..ROUNDS_MAX {
            let decided = decide(&look);
            let missed = look.missed();
            let damaged = look.damaged();
            if missed.is_empty() {
                damaged.iter().for_each(|(key, fault)| self.damaged.note(key, fault));
                return decided;
            }
            drop(decided);
            self.learn(&mut look, missed).await?;
        }
        Err(Fault::Contention.into())
    }

    async fn learn(&self, look: &mut Look, missed: Missed) -> Result<(), Fault> {
        let Missed { records, prefixes, documents } = missed;
        let known = if records.is_empty() { vec![] } else { look.known().cloned().collect() };
        let texts: Vec<String> = known.into_iter().chain(records).collect();
        let keys: Vec<Key> = texts.iter().map(|text| Key::from(text.as_str())).collect();
        let entries = async {
            if keys.is_empty() { Ok(vec![]) } else { self.store.read(&keys).await.map_err(|error| self.fault(error)) }
        };
        let filled = join_all(prefixes.iter().map(|prefix| self.filled(prefix)));
        let found = join_all(documents.iter().map(|source| self.documents.get(source)));
        let (entries, (filled, found)) = join(entries, join(filled, found)).await;
        for (text, entry) in texts.into_iter().zip(entries?) {
            look.learn(text, entry.map(raw));
        }
        for (prefix, filled) in prefixes.iter().zip(filled) {
            look.learn_filled(prefix.clone(), filled?);
        }
        for (source, document) in documents.iter().zip(found) {
            look.learn_document(source.clone(), document);
        }
        Ok(())
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
