//! What the service manager's watchdog is told rests on the store: one that hangs, or fails, is no sign of life.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use std::sync::Arc;

use gateway::{
    server::store_answers,
    store::{Batch, BoxFuture, CommitError, Entry, Key, ReadError, Rows, Store, Version, Watch},
};
use story::Story;

/// A store whose reads never end, and one whose reads fail.
#[derive(Copy, Clone)]
enum Ill {
    Hangs,
    Fails,
}

impl Ill {
    async fn answer<T>(self) -> Result<T, ReadError> {
        match self {
            Self::Hangs => std::future::pending().await,
            Self::Fails => Err(ReadError::Closed),
        }
    }
}

impl Store for Ill {
    fn read<'a>(&'a self, _: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Entry>>, ReadError>> {
        Box::pin(self.answer())
    }

    fn scan<'a>(&'a self, _: &'a Key, _: Option<&'a Key>, _: usize) -> BoxFuture<'a, Result<Rows, ReadError>> {
        Box::pin(self.answer())
    }

    fn scan_back<'a>(&'a self, _: &'a Key, _: Option<&'a Key>, _: usize) -> BoxFuture<'a, Result<Rows, ReadError>> {
        Box::pin(self.answer())
    }

    fn commit(&self, _: Batch) -> BoxFuture<'static, Result<Version, CommitError>> {
        Box::pin(std::future::ready(Err(CommitError::Closed)))
    }

    fn watch(&self, _: Key) -> Watch {
        unreachable!("nobody watches here")
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

async fn answers(ill: Option<Ill>) -> bool {
    let mut story = Story::new().await;
    if let Some(ill) = ill {
        Arc::get_mut(&mut story.shell).unwrap().store = Arc::new(ill);
    }
    store_answers(story.shell).await
}

#[tokio::test]
async fn a_store_that_answers_is_a_sign_of_life() {
    assert!(answers(None).await);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_none() {
    assert!(!answers(Some(Ill::Hangs)).await);
    assert!(!answers(Some(Ill::Fails)).await);
}
