//! Stories of a store that cannot tell what became of a commit, cannot be reached, or has closed: no certificate twice, nothing lost, and
//! everybody is told what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use std::time::Duration;

use futures::FutureExt as _;
use gateway::{
    core::{keys, records::Token, refusal::Refusal},
    edge::fronts::native::problem::problem,
    flow::asked::TokenWish,
    store::Key,
};
use story::{
    Story,
    store::{AWAY, Fate, Health},
};

async fn count(story: &Story, prefix: &str) -> usize {
    story.shell.store.scan(&Key::from(prefix), None, 1000).await.unwrap().rows.len()
}

/// How a refusal reads to whoever asked: its code, and when to come again.
fn told(refusal: &Refusal) -> (String, u16, Option<u64>) {
    let problem = problem(refusal, "i");
    (problem.code().to_owned(), problem.status, problem.retry_after)
}

async fn ended_by_the_store(story: &Story) -> bool {
    story.shell.fatal.notified().now_or_never().is_some()
}

const UNTOLD: [Fate; 2] = [Fate::HappensUntold, Fate::LostUntold];

#[tokio::test]
async fn one_certificate_of_a_join_whatever_the_store_could_tell() {
    for fates in [vec![Fate::HappensUntold], vec![Fate::LostUntold], vec![Fate::LostUntold, Fate::HappensUntold]] {
        let story = Story::new().await;
        let token = story.token(TokenWish::default()).await;
        story.store.next_commits(fates.clone());
        let machine = story.stranger();
        let issued = machine.join(&token, "edge-07").await.unwrap().issued();
        assert_eq!((count(&story, keys::CERTIFICATES).await, story.store.fates_left()), (1, 0), "{fates:?}");
        let again = machine.join(&token, "edge-07").await.unwrap().issued();
        assert_eq!(again.serial, issued.serial, "{fates:?}");
        let tokens = story.shell.scan::<Token>(keys::TOKENS, None, 9).await.unwrap();
        assert_eq!(tokens[0].1.record.redeemed.len(), 1, "{fates:?}");
        assert!(story.stranger().join(&token, "edge-08").await.is_err(), "{fates:?}: the token was for one");
        assert!(!ended_by_the_store(&story).await, "{fates:?}");
    }
}

#[tokio::test]
async fn one_certificate_of_a_renewal_and_of_an_approval_whatever_the_store_could_tell() {
    for fate in UNTOLD {
        let story = Story::new().await;
        let (alice, machine) = (story.first_person().await, story.machine("edge-07").await);
        story.admit(&story.peer(&machine.issued)).await.unwrap();
        let before = count(&story, keys::CERTIFICATES).await;
        story.store.next_commits([fate]);
        let renewed = machine.renew(&story).await.unwrap();
        assert_eq!((count(&story, keys::CERTIFICATES).await, story.store.fates_left()), (before + 1, 0), "{fate:?}");
        assert_eq!(machine.renew(&story).await.unwrap().serial, renewed.serial, "{fate:?}");
        // Its first use, which makes it current.
        story.store.next_commits([fate]);
        story.admit(&story.peer(&renewed)).await.unwrap();
        assert_eq!(story.store.fates_left(), 0, "{fate:?}");

        let waits = story.stranger();
        story.store.next_commits([fate]);
        let waiting = waits.ask("edge-08").await.waiting();
        story.store.next_commits([fate]);
        story.approve(&alice, &waiting.id, &waits.code(&waiting)).await.unwrap();
        story.store.next_commits([fate]);
        let issued = waits.poll(&waiting.id).await.unwrap().issued();
        assert_eq!(waits.poll(&waiting.id).await.unwrap().issued().serial, issued.serial, "{fate:?}");
        assert_eq!((count(&story, keys::CERTIFICATES).await, story.store.fates_left()), (before + 2, 0), "{fate:?}");
        let approved = story.events(&alice).await.iter().filter(|event| event.event == "enrollment.approved").count();
        assert_eq!(approved, 1, "{fate:?}");
        assert!(!ended_by_the_store(&story).await, "{fate:?}");
    }
}

#[tokio::test]
async fn a_lock_stands_once_whatever_the_store_could_tell() {
    for fate in UNTOLD {
        let story = Story::new().await;
        let (alice, machine) = (story.first_person().await, story.machine("edge-07").await);
        story.admit(&story.peer(&machine.issued)).await.unwrap();
        alice.caller(&story).await;
        story.store.next_commits([fate]);
        story.lock(&alice, "machine", "edge-07").await.unwrap();
        assert_eq!((count(&story, keys::LOCKS).await, story.store.fates_left()), (1, 0), "{fate:?}");
        let set = story.events(&alice).await.iter().filter(|event| event.event == "lock.set").count();
        assert_eq!(set, 1, "{fate:?}");
        assert!(matches!(story.admit(&story.peer(&machine.issued)).await.unwrap_err(), Refusal::Locked { .. }));
    }
}

#[tokio::test]
async fn nothing_is_decided_while_the_store_is_away_and_all_goes_on_when_it_is_back() {
    let story = Story::new().await;
    let (alice, machine) = (story.first_person().await, story.machine("edge-07").await);
    story.admit(&story.peer(&machine.issued)).await.unwrap();
    let caller = alice.caller(&story).await;
    let token = story.token(TokenWish::default()).await;
    let newcomer = story.stranger();
    let (seat, _conn) = story.seats(&alice, "edge-07");
    let before = story.everything().await;
    story.store.becomes(Health::Away);
    let refusals = [
        newcomer.join(&token, "edge-08").await.unwrap_err(),
        newcomer.try_ask("edge-09").await.unwrap_err(),
        story.admit(&story.peer(&machine.issued)).await.unwrap_err(),
        gateway::flow::admin::subject(&story.shell, &caller, pki::Role::Machine, "edge-07").await.unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!(told(&refusal), ("unavailable".to_owned(), 503, Some(AWAY.as_secs())), "{refusal:?}");
    }
    assert_eq!(seat.session().reason(), None, "what is open goes on");
    assert!(!ended_by_the_store(&story).await);
    story.store.becomes(Health::Well);
    assert_eq!(story.everything().await, before);
    newcomer.join(&token, "edge-08").await.unwrap().issued();
    machine.renew(&story).await.unwrap();
}

/// The answer to a commit is lost, and then the store as well: whoever asks again gets what was made.
#[tokio::test]
async fn a_certificate_made_just_before_the_store_went_away_is_there_when_it_is_back() {
    let story = Story::new().await;
    let token = story.token(TokenWish::default()).await;
    let machine = story.stranger();
    story.store.next_commits([Fate::HappensUntold]);
    story.store.goes_away_with_the_next_commit();
    let refusal = machine.join(&token, "edge-07").await.unwrap_err();
    assert_eq!(told(&refusal), ("unavailable".to_owned(), 503, Some(AWAY.as_secs())));
    story.store.becomes(Health::Well);
    assert_eq!(count(&story, keys::CERTIFICATES).await, 1);
    machine.join(&token, "edge-07").await.unwrap().issued();
    assert_eq!(count(&story, keys::CERTIFICATES).await, 1);
}

#[tokio::test]
async fn a_store_that_has_closed_ends_the_process() {
    let story = Story::new().await;
    let machine = story.machine("edge-07").await;
    story.store.becomes(Health::Closed);
    let refusal = story.admit(&story.peer(&machine.issued)).await.unwrap_err();
    let (code, status, again) = told(&refusal);
    assert_eq!((code.as_str(), status, again.map(Duration::from_secs).is_some()), ("unavailable", 503, true));
    assert!(ended_by_the_store(&story).await);
}
