//! What the service manager's watchdog is told rests on the store: one that hangs, or fails, is no sign of life.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::server::store_answers;
use story::{Story, store::Health};

async fn answers(health: Health) -> bool {
    let story = Story::new().await;
    story.store.becomes(health);
    store_answers(story.shell).await
}

#[tokio::test]
async fn a_store_that_answers_is_a_sign_of_life() {
    assert!(answers(Health::Well).await);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_none() {
    assert!(!answers(Health::Hangs).await);
    assert!(!answers(Health::Closed).await);
}
