//! Stories of two gateways over one store: what one says of itself there, and for how long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use std::time::Duration;

use gateway::{
    flow::lease,
    store::{Batch, Key, Store as _},
};
use story::{Story, store::Health};

/// Waits until something is so, in the time of the test.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..400 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within 20 s");
}

async fn stands(story: &Story, key: &str) -> bool {
    story.store.inner().read(&[Key::from(key)]).await.unwrap()[0].is_some()
}

/// A minute passes for both gateways, in steps in which each keeps its lease.
async fn a_minute(story: &Story) {
    for _ in 0..12 {
        story.clock.advance(Duration::from_secs(5));
        tokio::time::sleep(Duration::from_secs(5)).await;
        story.store.inner().lapse(story.shell.clock.uptime()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_under_a_gateways_lease_goes_with_it() {
    let one = Story::new().await;
    let other = one.another();
    let keeping = [&one, &other].map(|story| lease::start(&story.shell));
    until("both have a lease", async || [&one, &other].iter().all(|story| story.shell.lease.current().is_some())).await;
    for (story, key) in [(&one, "meta/order"), (&other, "meta/clock")] {
        let lease = story.shell.lease.current().unwrap();
        story.store.commit(Batch::default().put_leased(key, *b"0", lease)).await.unwrap();
    }
    a_minute(&one).await;
    assert!(stands(&one, "meta/order").await && stands(&one, "meta/clock").await, "both are kept");

    // One hangs, and takes up another lease when it goes on.
    let before = other.shell.lease.current();
    other.store.becomes(Health::Away);
    a_minute(&one).await;
    assert_eq!(other.shell.lease.current(), before, "it cannot know");
    assert!(stands(&one, "meta/order").await && !stands(&one, "meta/clock").await);
    other.store.becomes(Health::Well);
    until("it has another", async || ![before, None].contains(&other.shell.lease.current())).await;

    // One stops in order.
    keeping.iter().for_each(tokio::task::JoinHandle::abort);
    lease::give_up(&one.shell).await;
    assert!(!stands(&one, "meta/order").await);
    assert_eq!(one.shell.lease.current(), None);
}
