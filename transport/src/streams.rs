//! The number of open streams of a connection, and a wait until it is zero.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Number of open streams of one connection; clones share it.
#[derive(Clone, Debug, Default)]
pub struct StreamCount(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    open: AtomicUsize,
    none: Notify,
}

/// Counts as one open stream until it is dropped.
#[derive(Debug)]
#[must_use = "a stream counts for as long as its guard is held"]
pub struct StreamGuard(Arc<Count>);

impl StreamCount {
    /// The number of open streams.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::SeqCst)
    }

    /// Adds one, unless `most` are open already.
    #[must_use]
    pub fn take(&self, most: usize) -> Option<StreamGuard> {
        let more = |open| (open < most).then_some(open + 1);
        let taken = self.0.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        taken.is_ok().then(|| StreamGuard(Arc::clone(&self.0)))
    }

    /// Waits until no stream is open.
    pub async fn none(&self) {
        loop {
            let mut none = pin!(self.0.none.notified());
            // Registered before the count is read, so that an end in between is not missed.
            none.as_mut().enable();
            if self.open() == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn the_end_of_the_last_is_heard() {
        let count = StreamCount::default();
        count.none().await;
        let (first, second) = (count.take(2).unwrap(), count.take(2).unwrap());
        assert!(count.take(2).is_none());
        assert_eq!(count.open(), 2);
        let waiting = tokio::spawn({
            let count = count.clone();
            async move { count.none().await }
        });
        drop(first);
        yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
        assert!(count.take(1).is_some());
    }
}
