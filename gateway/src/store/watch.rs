//! Watches: streams of the commits under some prefixes.

use std::{collections::VecDeque, fmt, pin::Pin, sync::Arc};

use futures::{FutureExt as _, Stream, StreamExt as _, stream};
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

/// A commit and its keys, as in [`Change::Written`].
pub type Commit = (Version, Vec<Key>);

/// Changes that are acted on together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// The commits, in order.
    pub commits: Vec<Commit>,
    /// Whether changes were skipped after them, as in [`Change::Lagged`].
    pub lagged: bool,
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

    /// A change that [`Watch::next`] gave, and those after it that are reported already: up to `most` commits, or until changes were
    /// skipped. Does not wait.
    pub fn with_ready(&mut self, first: Change, most: usize) -> Reported {
        let (mut reported, mut next) = (Reported::default(), Some(first));
        while let Some(change) = next {
            match change {
                Change::Written { version, keys } => reported.commits.push((version, keys)),
                Change::Lagged => {
                    reported.lagged = true;
                    break;
                }
            }
            let full = reported.commits.len() >= most;
            next = if full { None } else { self.next().now_or_never().flatten() };
        }
        reported
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(version: Version) -> Commit {
        (version, vec![Key::from("a")])
    }

    fn written(version: Version) -> Change {
        let (version, keys) = commit(version);
        Change::Written { version, keys }
    }

    /// What is taken at most three at once, of a watch that has these changes ready; and what it gives next.
    #[track_caller]
    fn check(changes: &[Change], open: bool, want: (&[Version], bool), next: Option<Option<Change>>) {
        let ready = stream::iter(changes.to_vec());
        let mut watch = if open { Watch::new(ready.chain(stream::pending())) } else { Watch::new(ready) };
        let first = watch.next().now_or_never().flatten().unwrap();
        let (commits, lagged) = (want.0.iter().copied().map(commit).collect(), want.1);
        assert_eq!(watch.with_ready(first, 3), Reported { commits, lagged }, "{changes:?}");
        assert_eq!(watch.next().now_or_never(), next, "{changes:?}");
    }

    #[test]
    fn takes_what_is_ready_up_to_a_number_or_a_gap() {
        let lagged = || Change::Lagged;
        for open in [true, false] {
            let end = (!open).then_some(None);
            check(&[written(1)], open, (&[1], false), end.clone());
            check(&[written(1), written(2), written(3)], open, (&[1, 2, 3], false), end.clone());
            check(&[written(1), written(2), written(3), written(4)], open, (&[1, 2, 3], false), Some(Some(written(4))));
            check(&[written(1), written(2), written(3), lagged()], open, (&[1, 2, 3], false), Some(Some(lagged())));
            check(&[written(1), lagged(), written(3)], open, (&[1], true), Some(Some(written(3))));
            check(&[lagged(), written(2)], open, (&[], true), Some(Some(written(2))));
            check(&[lagged()], open, (&[], true), end);
        }
    }
}
