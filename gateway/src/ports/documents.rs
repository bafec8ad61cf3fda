//! Documents that are maintained outside the gateway, such as the keys of a token issuer or the CRL of a manufacturer: read when an
//! attestor needs one, cached for a few seconds, limited in size and time, and returned with their age.

#![expect(clippy::disallowed_methods, reason = "a document has an age, which is told by the clock of its files")]

use std::{
    collections::BTreeMap,
    io::Read as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::{
    core::evidence::{Document, DocumentSource},
    ports::files::{self, FileError},
};

/// Largest document, in bytes: a manufacturer's CRL of some twenty thousand entries.
const DOCUMENT_MAX: usize = 1024 * 1024;

/// How long a document is cached, so that many machines that join at the same time cause one read.
const CACHE_TIME: Duration = Duration::from_secs(5);

/// How long a read may take: a network file system that hangs must not block a request forever.
const DOCUMENT_TIME: Duration = Duration::from_secs(5);

/// Most documents in the cache: each attestor's configuration names a few.
const DOCUMENTS_MAX: usize = 64;

/// Cache of documents.
#[derive(Default)]
pub struct Documents {
    kept: Mutex<BTreeMap<DocumentSource, LastRead>>,
}

/// When a document was last read, and what came of it: nothing if it could not be read. That is cached, too, so that a file that is
/// gone is neither read nor complained of for every request.
struct LastRead {
    at: Instant,
    text: Option<CachedText>,
}

/// A document and its modification time.
#[derive(Clone)]
struct CachedText {
    bytes: Arc<[u8]>,
    written: SystemTime,
}

impl Documents {
    /// Reads a document. If that fails, logs the error and returns `None`. `is_new` is told the contents if they are others than before.
    pub async fn get(&self, source: &DocumentSource, is_new: impl FnOnce(&[u8])) -> Option<Document> {
        let now = Instant::now();
        if let Some(last) = self.lock().get(source)
            && now.saturating_duration_since(last.at) < CACHE_TIME
        {
            return last.text.clone().map(document);
        }
        let wanted = source.clone();
        let reading = tokio::task::spawn_blocking(move || read(&wanted));
        let text = match tokio::time::timeout(DOCUMENT_TIME, reading).await {
            Ok(Ok(Ok(text))) => Some(text),
            Ok(Ok(Err(error))) => {
                tracing::error!(%error, "a document cannot be read: nobody is trusted by it");
                None
            }
            Ok(Err(_)) | Err(_) => {
                tracing::error!(?source, "a document did not come in time: nobody is trusted by it");
                None
            }
        };
        let before = self.keep(source, LastRead { at: now, text: text.clone() });
        if let Some(text) = text.as_ref().filter(|text| before.is_none_or(|before| before.bytes != text.bytes)) {
            is_new(&text.bytes);
        }
        text.map(document)
    }

    /// Caches what was read, and gives what was read before.
    fn keep(&self, source: &DocumentSource, read: LastRead) -> Option<CachedText> {
        let mut kept = self.lock();
        if kept.len() >= DOCUMENTS_MAX && !kept.contains_key(source) {
            kept.clear();
        }
        kept.insert(source.clone(), read).and_then(|before| before.text)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<DocumentSource, LastRead>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The age of a document with a modification time in the future is 0.
fn document(text: CachedText) -> Document {
    let age = SystemTime::now().duration_since(text.written).unwrap_or_default();
    Document { bytes: text.bytes, age }
}

/// Reads a document now, past the cache, for a check by the operator.
///
/// # Errors
/// It cannot be read, or is too large.
pub fn read_now(source: &DocumentSource) -> Result<Vec<u8>, FileError> {
    read(source).map(|text| text.bytes.to_vec())
}

fn read(source: &DocumentSource) -> Result<CachedText, FileError> {
    let DocumentSource::File(path) = source;
    let failed = |error| FileError::io("read", path, error);
    let mut file = files::open(path)?;
    let written = file.metadata().and_then(|about| about.modified()).map_err(failed)?;
    let mut bytes = Vec::new();
    let max = u64::try_from(DOCUMENT_MAX).unwrap_or(u64::MAX);
    std::io::Read::by_ref(&mut file).take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > DOCUMENT_MAX {
        return Err(failed(std::io::Error::other(format!("it is larger than {DOCUMENT_MAX} bytes"))));
    }
    Ok(CachedText { bytes: bytes.into(), written })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_document_is_read_kept_and_read_again() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("keys.json");
        let (documents, source) = (Documents::default(), DocumentSource::File(path.clone()));
        let told = Mutex::new(Vec::new());
        let get = async || documents.get(&source, |bytes| told.lock().unwrap().push(bytes.to_vec())).await;
        assert!(get().await.is_none());
        std::fs::write(&path, "one").unwrap();
        assert!(get().await.is_none(), "that it could not be read is kept, too");
        tokio::time::advance(CACHE_TIME).await;
        let first = get().await.unwrap();
        assert_eq!((&*first.bytes, first.age < Duration::from_secs(60)), (&b"one"[..], true));
        std::fs::write(&path, "two").unwrap();
        assert_eq!(&*get().await.unwrap().bytes, b"one");
        tokio::time::advance(CACHE_TIME).await;
        assert_eq!(&*get().await.unwrap().bytes, b"two");
        tokio::time::advance(CACHE_TIME).await;
        get().await.unwrap();
        assert_eq!(*told.lock().unwrap(), [b"one", b"two"], "each once");
        std::fs::write(&path, vec![b'x'; DOCUMENT_MAX + 1]).unwrap();
        tokio::time::advance(CACHE_TIME).await;
        assert!(get().await.is_none());
    }
}
