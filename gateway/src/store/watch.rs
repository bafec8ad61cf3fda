//! Watches: streams of the commits under some prefixes.

use std::{collections::VecDeque, fmt, pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _, stream};
use tokio::sync::broadcast;

use super::batch::{Key, Version};

/// Groups of changes kept for a slow watcher before it receives [`Change::Lagged`]: some hundred milliseconds of full load.
pub(super) const WATCH_BACKLOG: usize = 256;

/// An item of a [`Watch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// One commit put or deleted these keys; the end of a lease deletes by commits too. Read the keys for their values.
    Written {
        /// Number of the commit.
        version: Version,
        /// Its keys under the watched prefixes, in the order of its writes.
        keys: Vec<Key>,
    },
    /// Changes were skipped, because the watcher was too slow or the store could not be reached: it must scan its prefixes again.
    Lagged,
}

/// A stream of changes under some prefixes.
///
/// - A commit is reported only after it is durable; reading its keys then shows that commit or a later one.
/// - Commits come in order, each once with all its keys. A key may be reported although its value is the same.
/// - To follow a prefix without a gap: watch first, then scan, then act on changes; scan again on [`Change::Lagged`].
pub struct Watch(Pin<Box<dyn Stream<Item = Change> + Send>>);

impl Watch {
    /// A watch over an engine's own stream, which is not polled again once it has ended.
    pub fn new(changes: impl Stream<Item = Change> + Send + 'static) -> Self {
        Self(Box::pin(changes.fuse()))
    }

    /// The next change; `None` when the store has closed. Safe to cancel: a dropped call loses no change.
    pub async fn next(&mut self) -> Option<Change> {
        self.0.next().await
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// A commit and its keys.
pub(super) type Commit = (Version, Vec<Key>);

/// The sending side of all watches of one store in this process.
#[derive(Clone)]
pub(super) struct Announcer(broadcast::Sender<Arc<[Commit]>>);

impl Announcer {
    pub(super) fn new() -> Self {
        Self(broadcast::Sender::new(WATCH_BACKLOG))
    }

    /// A watch on a store that is already closed: it ends at once.
    pub(super) fn closed() -> Watch {
        Watch::new(stream::empty())
    }

    pub(super) fn watch(&self, prefixes: Vec<Key>) -> Watch {
        let state = (self.0.subscribe(), prefixes, VecDeque::new());
        Watch::new(stream::unfold(state, |(mut commits, prefixes, mut pending)| async move {
            loop {
                if let Some(change) = pending.pop_front() {
                    return Some((change, (commits, prefixes, pending)));
                }
                match commits.recv().await {
                    Ok(group) => pending.extend(group.iter().filter_map(|commit| under(&prefixes, commit))),
                    Err(broadcast::error::RecvError::Lagged(_)) => pending.push_back(Change::Lagged),
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        }))
    }

    pub(super) fn announce(&self, commits: Vec<Commit>) {
        if !commits.is_empty() && self.0.receiver_count() > 0 {
            // the only error is that the last watcher has been dropped meanwhile
            let _ = self.0.send(commits.into());
        }
    }
}

/// The keys of a commit under the prefixes; `None` if there are none.
fn under(prefixes: &[Key], (version, keys): &Commit) -> Option<Change> {
    let watched = |key: &&Key| prefixes.iter().any(|prefix| key.starts_with(prefix));
    let keys: Vec<Key> = keys.iter().filter(watched).cloned().collect();
    (!keys.is_empty()).then_some(Change::Written { version: *version, keys })
}
