//! Reads the records that a decision asks for, in rounds: see [`crate::core::look`].

use std::collections::BTreeSet;

use futures::future::{join, join_all};
use pki::SshKind;

use super::shell::{Shell, raw};
use crate::{
    core::{
        evidence::{Document, DocumentSource, Freshness},
        look::{Look, Missed},
        refusal::Fault,
    },
    store::{Key, Snapshot, Version},
};

/// Most rounds for one decision. The longest chain of look-ups has six, of a machine that comes back by its TPM; more means that
/// others change the records all the time.
const ROUNDS_MAX: usize = 8;

impl Shell {
    /// Evaluates a decision with all records that it needs. Each round reads the records that the round before lacked. If there was a
    /// commit meanwhile, the known ones are read again, so that all records are from one moment.
    ///
    /// # Errors
    /// Those of the decision; [`Fault`] if the store fails.
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
        let found = join_all(documents.iter().map(|(source, freshness)| self.document(source, *freshness)));
        let (read, (filled, found)) = join(self.learn_records(look, at, records), join(filled, found)).await;
        read?;
        for (prefix, filled) in prefixes.iter().zip(filled) {
            look.learn_filled(prefix.clone(), filled?);
        }
        for (wanted, document) in documents.into_iter().zip(found) {
            look.learn_document(wanted, document);
        }
        Ok(())
    }

    /// A document. What is wrong with it is told once, when it is new: an operator's change counts without a reload.
    async fn document(&self, source: &DocumentSource, freshness: Freshness) -> Option<Document> {
        let complain = |text: &[u8]| {
            let (ca, settings) = (self.ca(), self.settings.load());
            for complaint in settings.attestors.complaints_of(source, text, Some(ca.ssh(SshKind::Host)), self.now()) {
                tracing::error!("{complaint}");
            }
        };
        self.documents.get(source, freshness, complain).await
    }

    /// Reads these records; and all known ones again, if there was a commit since they were read.
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
