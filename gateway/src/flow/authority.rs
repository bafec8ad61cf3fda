//! Who depends on which roots and issuing CAs, counted from the store.

use super::{page::All, shell::Shell};
use crate::core::{keys, records::Lineage, refusal::Fault, stranded::Usage};

/// Counts. All lineages are read, page by page: once a minute while a root or a CA is on its way in or out, and never otherwise.
///
/// # Errors
/// When the store fails.
pub async fn usage(shell: &Shell) -> Result<Usage, Fault> {
    let mut usage = Usage::new(shell.ca().signing().generation, shell.now());
    let mut lineages = All::<Lineage>::of(shell, keys::LINEAGES, None);
    while let Some((_, seen)) = lineages.next().await? {
        usage.add(&seen.record);
    }
    Ok(usage)
}
