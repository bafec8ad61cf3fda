//! Stories of housekeeping by several gateways over one store: one of them does it, and when that one is gone another does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::{
    core::{change::Changes, keys},
    flow::{
        lead::{give_up, lead},
        shell::{Actor, Retry},
        sweep::sweep,
    },
    limits::LEAD_LEASE,
    store::{Batch, Key, StoreLimits},
};
use serde_json::json;
use story::{DAY, Story, minutes};

impl Story {
    async fn keys(&self, prefix: &str) -> usize {
        self.shell.store.scan(&Key::from(prefix), None, 1000).await.unwrap().rows.len()
    }

    /// Whether a round of housekeeping on this gateway ends the request that has lapsed.
    async fn sweeps(&self) -> bool {
        let before = self.keys(keys::WAITING).await;
        sweep(&self.shell).await.unwrap();
        self.keys(keys::WAITING).await < before
    }

    /// Time passes, for whoever opened the store too.
    async fn passes(&self, time: std::time::Duration) {
        self.clock.advance(time);
        self.shell.store.lapse(self.shell.clock.uptime()).await.unwrap();
    }

    /// An entry of a request that has lapsed.
    async fn lapsed(&self, id: &str) {
        let expires = self.shell.now().secs() - 1;
        let entry = json!({ "wanted_name": null, "source": "192.0.2.0/24", "expires": expires });
        self.shell.store.commit(Batch::default().put(keys::waiting(id), entry.to_string())).await.unwrap();
    }
}

#[tokio::test]
async fn one_of_two_gateways_sweeps() {
    let one = Story::new().await;
    let other = one.another();
    sweep(&one.shell).await.unwrap();
    one.lapsed("edge-1").await;
    assert!(!other.sweeps().await, "the other has the lease");
    assert!(one.sweeps().await);
    assert!(lead(&other.shell).await.unwrap().is_none());
}

#[tokio::test]
async fn another_takes_over_from_one_that_is_gone() {
    let one = Story::new().await;
    let other = one.another();
    sweep(&one.shell).await.unwrap();
    one.lapsed("edge-1").await;
    one.passes(LEAD_LEASE - minutes(1)).await;
    assert!(!other.sweeps().await, "it may only be slow");
    one.passes(minutes(1)).await;
    assert!(other.sweeps().await, "nothing was heard of it for the time of the lease");

    // It was suspended, and goes on where it was.
    one.lapsed("edge-2").await;
    assert!(!one.sweeps().await, "its turn is over");
    assert!(other.sweeps().await);
}

#[tokio::test]
async fn one_that_stops_is_not_waited_for() {
    let one = Story::new().await;
    let other = one.another();
    sweep(&one.shell).await.unwrap();
    one.lapsed("edge-1").await;
    give_up(&one.shell).await;
    assert!(other.sweeps().await);
    assert!(lead(&one.shell).await.unwrap().is_none());
}

/// Between the look at the lease and the commit any time may pass.
#[tokio::test]
async fn what_was_decided_in_a_turn_that_is_over_does_not_happen() {
    let one = Story::new().await;
    let other = one.another();
    let turn = lead(&one.shell).await.unwrap().unwrap();
    one.passes(LEAD_LEASE).await;
    assert!(lead(&other.shell).await.unwrap().is_some());
    let mut changes = Changes::new();
    changes.put(keys::ORDER.to_owned(), &7);
    turn.guards(&mut changes);
    let late = one.shell.commit(changes, &Actor { who: "gateway", instance: "sweep" }).await;
    assert!(matches!(late, Err(Retry::Conflict)), "{late:?}");
}

/// A store may take much less at once than there is to do.
#[tokio::test]
async fn as_much_as_the_store_takes_at_once() {
    let story = Story::small(StoreLimits { batch_items: 8, ..StoreLimits::EMBEDDED }).await;
    for _ in 0..40 {
        story.token(Default::default()).await;
    }
    sweep(&story.shell).await.unwrap();
    story.clock.advance(DAY * 20);
    sweep(&story.shell).await.unwrap();
    assert_eq!(story.keys(keys::TOKENS).await, 0);
}
