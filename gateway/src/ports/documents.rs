//! Documents that are maintained outside the gateway, such as the keys of a token issuer or the CRL of a manufacturer: read or fetched
//! when an attestor needs one, cached, limited in size and time, and returned with their age.

#![expect(clippy::disallowed_methods, reason = "a document has an age, which is told by the clock of its files")]

use std::{
    collections::BTreeMap,
    future::Future,
    io::Read as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::{
    core::evidence::{Document, DocumentSource, Freshness, HttpsUrl, OF_NAME_AGE},
    ports::files::{self, FileError},
};

/// Largest file, in bytes: a manufacturer's CRL of some twenty thousand entries.
const DOCUMENT_MAX: usize = 1024 * 1024;

/// How long a file is cached, so that many machines that join at the same time cause one read.
const CACHE_TIME: Duration = Duration::from_secs(5);

/// How long a read may take: a network file system that hangs must not block a request forever.
const DOCUMENT_TIME: Duration = Duration::from_secs(5);

/// How long what was fetched is used before it is fetched again. Issuers announce a new key hours before they sign with it, and what
/// they say of caching is nothing, or to do none.
const FETCHED_TIME: Duration = Duration::from_secs(600);

/// Least time between two fetches of one URL, whoever asks for what: tokens with invented key ids must not become requests.
const FETCH_PAUSE: Duration = Duration::from_secs(30);

/// Most files and most URLs in the cache: each attestor's configuration names a few.
const DOCUMENTS_MAX: usize = 64;

/// Most documents about one machine alone that are sought within [`OF_NAME_AGE`], for all names together: so many owners write at the same
/// time, and so often a server of theirs is asked because of strangers. Beyond that there is none.
const OF_NAMES_MAX: usize = 64;

/// Fetches a URL: its contents, or why there are none.
pub type Fetch = dyn Fn(HttpsUrl) -> Fetching + Send + Sync;

/// A fetch under way.
pub type Fetching = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>>;

/// Cache of documents.
#[derive(Default)]
pub struct Documents {
    files: Mutex<BTreeMap<PathBuf, LastRead>>,
    urls: Mutex<BTreeMap<HttpsUrl, Arc<tokio::sync::Mutex<FetchedUrl>>>>,
    of_names: Mutex<BTreeMap<DocumentSource, SoughtDocument>>,
    fetch: std::sync::OnceLock<Box<Fetch>>,
}

/// When a file was last read, and what came of it: nothing if it could not be read. That is cached, too, so that a file that is gone is
/// neither read nor complained of for every request.
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

/// A document about one machine alone: since when it is sought, and what came of it.
struct SoughtDocument {
    since: Instant,
    found: Arc<tokio::sync::OnceCell<Option<Document>>>,
}

/// What is known of a URL. Whoever holds its lock fetches, so that many who need it cause one request.
#[derive(Default)]
struct FetchedUrl {
    /// When it was fetched last, and what came.
    fetched: Option<(Instant, Arc<[u8]>)>,
    /// When a fetch was last tried, and whether it failed.
    tried: Option<(Instant, bool)>,
}

impl FetchedUrl {
    /// Whether to fetch it now.
    fn due(&self, freshness: Freshness, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        let old = match freshness {
            Freshness::Kept => self.fetched.as_ref().is_none_or(|(at, _)| since(*at) >= FETCHED_TIME),
            Freshness::Newest | Freshness::OfName => true,
        };
        old && self.tried.is_none_or(|(at, _)| since(at) >= FETCH_PAUSE)
    }

    /// What there is. One that should be the newest and could not be fetched is none.
    fn document(&self, freshness: Freshness, now: Instant) -> Option<Document> {
        let failed = self.tried.is_some_and(|(_, failed)| failed);
        let (at, bytes) = self.fetched.as_ref().filter(|_| freshness == Freshness::Kept || !failed)?;
        Some(Document { bytes: Arc::clone(bytes), age: now.saturating_duration_since(*at) })
    }
}

impl Documents {
    /// Sets how URLs are fetched; to be called once. Without it none can be.
    pub fn fetch_with(&self, fetch: Box<Fetch>) {
        let _ = self.fetch.set(fetch);
    }

    /// Reads or fetches a document. If that fails, logs the error and returns what is kept of a URL, or `None`. `is_new` is told the
    /// contents if they are others than before.
    pub async fn get(
        &self,
        source: &DocumentSource,
        freshness: Freshness,
        is_new: impl FnOnce(&[u8]),
    ) -> Option<Document> {
        match (freshness, source) {
            (Freshness::OfName, DocumentSource::File(_) | DocumentSource::Url(_)) => self.of_name(source).await,
            (Freshness::Kept | Freshness::Newest, DocumentSource::File(path)) => self.file(path, is_new).await,
            (Freshness::Kept | Freshness::Newest, DocumentSource::Url(url)) => self.url(url, freshness, is_new).await,
        }
    }

    /// A document about one machine alone. However many ask for it, it is read or fetched once in [`OF_NAME_AGE`]. That there is none is
    /// usual, and is not complained of.
    async fn of_name(&self, source: &DocumentSource) -> Option<Document> {
        let now = Instant::now();
        let found = {
            let mut sought = self.of_names.lock().unwrap_or_else(PoisonError::into_inner);
            sought.retain(|_, one| now.saturating_duration_since(one.since) < OF_NAME_AGE);
            if sought.len() >= OF_NAMES_MAX && !sought.contains_key(source) {
                tracing::debug!(%source, "a document of a name is not read: too many are asked for");
                return None;
            }
            let new = || SoughtDocument { since: now, found: Arc::default() };
            Arc::clone(&sought.entry(source.clone()).or_insert_with(new).found)
        };
        let seek = async || match source {
            DocumentSource::File(path) => read_in_time(path).await.map(document),
            DocumentSource::Url(url) => {
                let bytes = self.fetch_in_time(url).await?.into();
                Ok(Document { bytes, age: Duration::ZERO })
            }
        };
        let found = found.get_or_init(async || {
            seek().await.inspect_err(|error| tracing::debug!(%source, error, "a document of a name is not there")).ok()
        });
        found.await.clone()
    }

    async fn fetch_in_time(&self, url: &HttpsUrl) -> Result<Vec<u8>, String> {
        match self.fetch.get() {
            Some(fetch) => tokio::time::timeout(DOCUMENT_TIME, fetch(url.clone()))
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {} s", DOCUMENT_TIME.as_secs()))),
            None => Err("this program fetches nothing".to_owned()),
        }
    }

    async fn url(&self, url: &HttpsUrl, freshness: Freshness, is_new: impl FnOnce(&[u8])) -> Option<Document> {
        let known = {
            let mut urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
            if urls.len() >= DOCUMENTS_MAX && !urls.contains_key(url) {
                urls.clear();
            }
            Arc::clone(urls.entry(url.clone()).or_default())
        };
        let mut known = known.lock().await;
        if known.due(freshness, Instant::now()) {
            let outcome = self.fetch_in_time(url).await;
            let now = Instant::now();
            known.tried = Some((now, outcome.is_err()));
            match outcome {
                Ok(bytes) => {
                    if known.fetched.as_ref().is_none_or(|(_, before)| **before != *bytes) {
                        is_new(&bytes);
                    }
                    known.fetched = Some((now, bytes.into()));
                }
                Err(error) => tracing::error!(%url, error, "a document cannot be fetched"),
            }
        }
        known.document(freshness, Instant::now())
    }

    async fn file(&self, path: &Path, is_new: impl FnOnce(&[u8])) -> Option<Document> {
        let now = Instant::now();
        if let Some(last) = self.lock().get(path)
            && now.saturating_duration_since(last.at) < CACHE_TIME
        {
            return last.text.clone().map(document);
        }
        let text = read_in_time(path).await;
        let text =
            text.inspect_err(|error| tracing::error!(error, "a document cannot be read: nobody is trusted by it"));
        let text = text.ok();
        let before = self.keep(path, LastRead { at: now, text: text.clone() });
        if let Some(text) = text.as_ref().filter(|text| before.is_none_or(|before| before.bytes != text.bytes)) {
            is_new(&text.bytes);
        }
        text.map(document)
    }

    /// Caches what was read, and gives what was read before.
    fn keep(&self, path: &Path, read: LastRead) -> Option<CachedText> {
        let mut kept = self.lock();
        if kept.len() >= DOCUMENTS_MAX && !kept.contains_key(path) {
            kept.clear();
        }
        kept.insert(path.to_owned(), read).and_then(|before| before.text)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, LastRead>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_in_time(path: &Path) -> Result<CachedText, String> {
    let wanted = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || read(&wanted));
    match tokio::time::timeout(DOCUMENT_TIME, reading).await {
        Ok(Ok(read)) => read.map_err(|error| error.to_string()),
        Ok(Err(_)) | Err(_) => Err(format!("`{}` did not come in time", path.display())),
    }
}

/// The age of a document with a modification time in the future is 0.
fn document(text: CachedText) -> Document {
    let age = SystemTime::now().duration_since(text.written).unwrap_or_default();
    Document { bytes: text.bytes, age }
}

/// Reads a file now, past the cache, for a check by the operator.
///
/// # Errors
/// It cannot be read, or is too large.
pub fn read_now(path: &Path) -> Result<Vec<u8>, FileError> {
    read(path).map(|text| text.bytes.to_vec())
}

fn read(path: &Path) -> Result<CachedText, FileError> {
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
    use std::{collections::VecDeque, sync::atomic::AtomicUsize, sync::atomic::Ordering};

    use super::*;
    use crate::core::evidence::Reach;

    #[tokio::test(start_paused = true)]
    async fn a_document_is_read_kept_and_read_again() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("keys.json");
        let (documents, source) = (Documents::default(), DocumentSource::File(path.clone()));
        let told = Mutex::new(Vec::new());
        let is_new = |bytes: &[u8]| told.lock().unwrap().push(bytes.to_vec());
        let get = async || documents.get(&source, Freshness::Kept, is_new).await;
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

    /// Documents whose URL answers with these, one after the other; then the fetch hangs. Counts the fetches.
    fn answering(answers: &[Result<&str, &str>]) -> (Documents, DocumentSource, Arc<AtomicUsize>) {
        let (documents, count) = (Documents::default(), Arc::new(AtomicUsize::new(0)));
        let answers = answers.iter().map(|one| one.map(|text| text.as_bytes().to_vec()).map_err(str::to_owned));
        let answers: Mutex<VecDeque<_>> = Mutex::new(answers.collect());
        let counted = Arc::clone(&count);
        documents.fetch_with(Box::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            let next = answers.lock().unwrap().pop_front();
            Box::pin(async move {
                // as long as a request takes, so that others ask meanwhile
                tokio::time::sleep(Duration::from_millis(10)).await;
                match next {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            })
        }));
        let url = HttpsUrl::parse("https://issuer.example/keys", None, Reach::Public).unwrap();
        (documents, DocumentSource::Url(url), count)
    }

    /// What is there, with its age in seconds.
    async fn got(documents: &Documents, source: &DocumentSource, freshness: Freshness) -> Option<(String, u64)> {
        let document = documents.get(source, freshness, |_| {}).await?;
        Some((String::from_utf8(document.bytes.to_vec()).unwrap(), document.age.as_secs()))
    }

    fn is(text: &str, age: u64) -> Option<(String, u64)> {
        Some((text.to_owned(), age))
    }

    #[tokio::test(start_paused = true)]
    async fn a_url_is_fetched_once_for_all_who_ask() {
        let (documents, source, count) = answering(&[Ok("one"), Ok("two")]);
        let asked = futures::future::join_all((0..20).map(|_| got(&documents, &source, Freshness::Kept))).await;
        assert!(asked.iter().all(|one| *one == is("one", 0)), "{asked:?}");
        tokio::time::advance(FETCHED_TIME - Duration::from_secs(1)).await;
        assert_eq!(got(&documents, &source, Freshness::Kept).await, is("one", 599));
        assert_eq!(count.load(Ordering::Relaxed), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(got(&documents, &source, Freshness::Kept).await, is("two", 0));
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    /// A flood of tokens with invented key ids is one request every half minute.
    #[tokio::test(start_paused = true)]
    async fn what_is_sought_in_vain_is_fetched_anew_at_a_limited_rate() {
        let (documents, source, count) = answering(&[Ok("one"), Ok("two"), Ok("three")]);
        assert_eq!(got(&documents, &source, Freshness::Kept).await, is("one", 0));
        for _ in 0..100 {
            assert!(got(&documents, &source, Freshness::Newest).await.is_some_and(|(text, _)| text == "one"));
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
        tokio::time::advance(FETCH_PAUSE).await;
        for _ in 0..100 {
            assert!(got(&documents, &source, Freshness::Newest).await.is_some_and(|(text, _)| text == "two"));
        }
        assert_eq!(count.load(Ordering::Relaxed), 2);
        assert!(got(&documents, &source, Freshness::Kept).await.is_some_and(|(text, _)| text == "two"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_fetched_outlives_an_error_and_tells_its_age() {
        let (documents, source, count) = answering(&[Ok("one"), Err("refused"), Err("refused"), Ok("two")]);
        assert_eq!(got(&documents, &source, Freshness::Kept).await, is("one", 0));
        tokio::time::advance(FETCHED_TIME).await;
        assert_eq!(got(&documents, &source, Freshness::Kept).await, is("one", 600));
        // not asked again at once, and a newer one cannot be had
        assert_eq!(got(&documents, &source, Freshness::Newest).await, None);
        assert_eq!(got(&documents, &source, Freshness::Kept).await, is("one", 600));
        assert_eq!(count.load(Ordering::Relaxed), 2);
        tokio::time::advance(Duration::from_secs(40_000)).await;
        assert_eq!(got(&documents, &source, Freshness::Kept).await, is("one", 40_600));
        tokio::time::advance(FETCH_PAUSE).await;
        assert_eq!(got(&documents, &source, Freshness::Newest).await, is("two", 0));
    }

    /// Strangers who ask for many names are few requests, and do not push out what others need.
    #[tokio::test(start_paused = true)]
    async fn documents_of_names_are_sought_apart_and_at_a_limited_rate() {
        let (documents, keys, count) = answering(&[Ok("keys"), Ok("one"), Err("404 Not Found"), Ok("two")]);
        assert_eq!(got(&documents, &keys, Freshness::Kept).await, is("keys", 0));
        let of = |name: &str| {
            DocumentSource::Url(HttpsUrl::parse(&format!("https://owner.example/{name}"), None, Reach::Public).unwrap())
        };
        let asked = futures::future::join_all(
            (0..20).map(|_| async { got(&documents, &of("web-1"), Freshness::OfName).await }),
        );
        assert!(asked.await.iter().all(|one| *one == is("one", 0)));
        assert_eq!(got(&documents, &of("web-2"), Freshness::OfName).await, None);
        assert_eq!(got(&documents, &of("web-2"), Freshness::OfName).await, None);
        assert_eq!(count.load(Ordering::Relaxed), 3, "each once, also what is not there");
        tokio::time::advance(OF_NAME_AGE).await;
        assert_eq!(got(&documents, &of("web-2"), Freshness::OfName).await, is("two", 0));
        let flood = (0..1000).map(|n| of(&format!("m-{n}"))).collect::<Vec<_>>();
        let flood = flood.iter().map(|source| got(&documents, source, Freshness::OfName));
        assert!(futures::future::join_all(flood).await.iter().all(Option::is_none));
        assert_eq!(count.load(Ordering::Relaxed), 3 + OF_NAMES_MAX);
        assert!(got(&documents, &keys, Freshness::Kept).await.is_some_and(|(text, _)| text == "keys"));
        assert_eq!(count.load(Ordering::Relaxed), 3 + OF_NAMES_MAX, "what others need is still there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_of_a_name_is_read_again_soon() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("web-1");
        let (documents, source) = (Documents::default(), DocumentSource::File(path.clone()));
        let get = async || documents.get(&source, Freshness::OfName, |_| panic!("nobody is told")).await;
        assert!(get().await.is_none());
        std::fs::write(&path, "text").unwrap();
        assert!(get().await.is_none());
        tokio::time::advance(OF_NAME_AGE).await;
        assert_eq!(&*get().await.unwrap().bytes, b"text");
    }

    #[tokio::test(start_paused = true)]
    async fn a_url_that_hangs_or_cannot_be_fetched_is_none() {
        let (documents, source, count) = answering(&[]);
        for _ in 0..20 {
            assert_eq!(got(&documents, &source, Freshness::Kept).await, None);
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert_eq!(got(&Documents::default(), &source, Freshness::Kept).await, None);
    }
}
