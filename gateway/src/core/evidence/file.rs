//! The files that attestors are configured to read: parsed once for as long as they stay the same.

use std::{sync::Arc, time::Duration};

use super::{super::refusal::Fault, DocumentSource, Found, Parsed};

/// How long a client waits until a file of this gateway may be usable again.
const FILE_PATIENCE: Duration = Duration::from_secs(30);

/// The fault when a file of this gateway is not usable now. The client is told only to come again. `section` is the attestor's.
#[must_use]
pub fn unavailable(section: &str, why: &str) -> Fault {
    Fault::Document { retry_after: FILE_PATIENCE, why: format!("`[attest.{section}]`: {why}") }
}

/// A file, and what it holds.
pub struct DocumentFile<T> {
    source: DocumentSource,
    parsed: Parsed<Result<Arc<T>, String>>,
}

impl<T> DocumentFile<T> {
    /// The file of this source.
    #[must_use]
    pub fn at(source: DocumentSource) -> Self {
        Self { source, parsed: Parsed::default() }
    }

    /// Where it is.
    #[must_use]
    pub const fn source(&self) -> &DocumentSource {
        &self.source
    }

    /// What the document at this index holds.
    ///
    /// # Errors
    /// Why it cannot be used, for the operator.
    pub fn read(
        &self,
        found: &Found,
        at: usize,
        parse: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<Arc<T>, String> {
        let bad = |why: &str| format!("{}: {why}", self.source);
        let document = found.document(at).ok_or_else(|| bad("it cannot be read"))?;
        let parsed = self.parsed.of(document, |bytes| parse(bytes).map(Arc::new));
        parsed.as_ref().as_ref().map(Arc::clone).map_err(|why| bad(why))
    }
}
