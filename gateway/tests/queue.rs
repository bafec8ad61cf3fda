//! Stories of the queue over several gateways: no more wait than may, whoever let them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::{
    core::{
        keys,
        refusal::{QueueFull, Refusal},
    },
    flow,
    store::Key,
};
use story::{Answer, IN_ALL, PER_PREFIX, Story, all};

impl Story {
    async fn keys(&self, prefix: &str) -> usize {
        self.shell.store.scan(&Key::from(prefix), None, 1000).await.unwrap().rows.len()
    }
}

/// Requests at two gateways in turn, none of which hears of another before it has decided.
async fn at_once(one: &Story, other: &Story, nets: &[u8]) -> Vec<Result<Answer, Refusal>> {
    let gateways = [one, other];
    let strangers =
        nets.iter().enumerate().map(|(at, net)| (gateways[at % 2].stranger().from(*net), format!("edge-{at}")));
    let strangers: Vec<_> = strangers.collect();
    all(strangers.iter().map(|(stranger, name)| stranger.try_ask(name))).await
}

#[tokio::test]
async fn two_gateways_let_no_more_wait_from_a_network_than_one() {
    let one = Story::new().await;
    let other = one.another();
    let answers = at_once(&one, &other, &[1; 12]).await;
    let (waiting, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(waiting.len(), PER_PREFIX);
    for refused in refused.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, Refusal::QueueFull(QueueFull::Network)), "{refused:?}");
    }
    assert_eq!(one.keys(keys::WAITING).await, PER_PREFIX);
    assert_eq!(one.keys("queue/192.0.1.0/24/").await, PER_PREFIX);
}

#[tokio::test]
async fn two_gateways_let_no_more_wait_in_all_than_one() {
    let one = Story::new().await;
    let other = one.another();
    let nets: Vec<u8> = (1..=20).collect();
    let answers = at_once(&one, &other, &nets).await;
    assert!(answers.iter().filter(|answer| answer.is_ok()).count() >= IN_ALL);
    assert_eq!(one.keys(keys::WAITING).await, IN_ALL);
    assert_eq!(one.keys("queue/all/").await, IN_ALL);
    assert_eq!(one.keys(keys::QUEUE_NUMBERS).await, 2 * IN_ALL, "one of all and one of its network for each");
}

/// A number is free again when its request is decided, at whichever gateway.
#[tokio::test]
async fn what_is_decided_at_one_gateway_makes_room_at_the_other() {
    let one = Story::new().await;
    let other = one.another();
    let alice = one.first_person().await;
    let caller = alice.caller(&one).await;
    for _ in 0..3 {
        let mut waiting = Vec::new();
        for at in 0..PER_PREFIX {
            waiting.push(one.stranger().ask(&format!("edge-{at}")).await.waiting().id);
        }
        let refused = other.stranger().try_ask("edge-9").await.unwrap_err();
        assert!(matches!(refused, Refusal::QueueFull(QueueFull::Network)), "{refused:?}");
        flow::people::deny(&one.shell, &caller, &waiting[0], "no", "i").await.unwrap();
        // The other gateway hears of it a moment later.
        for _ in 0..9 {
            tokio::task::yield_now().await;
        }
        let late = other.stranger();
        let last = late.ask("edge-9").await.waiting().id;
        // Denied and taken back it waits again, if there is room.
        let full = flow::people::reopen(&one.shell, &caller, &waiting[0], "i").await.unwrap_err();
        assert!(matches!(full, Refusal::QueueFull(QueueFull::Network)), "{full:?}");
        flow::people::deny(&one.shell, &caller, &last, "no", "i").await.unwrap();
        flow::people::reopen(&one.shell, &caller, &waiting[0], "i").await.unwrap();
        for id in waiting {
            flow::people::deny(&one.shell, &caller, &id, "no", "i").await.unwrap();
        }
        assert_eq!((one.keys(keys::WAITING).await, one.keys(keys::QUEUE_NUMBERS).await), (0, 0));
    }
}
