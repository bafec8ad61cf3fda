//! Stories of requests that whoever made them takes back, of denials that an approver takes back, and of what whoever waits
//! hears of a lock that is not theirs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::flow::asked::TokenWish;
use gateway::flow::views::RequestDetails;
use gateway::{
    core::{
        refusal::{Conflict, Refusal},
        token::TokenError,
    },
    flow,
    store::Batch,
};
use pki::Role;
use story::{DAY, Member, Story, Stranger, minutes};
use wire::enroll::WaitingReply;

async fn withdraw(story: &Story, id: &str) -> Result<(), Refusal> {
    flow::enroll::withdraw(&story.shell, id, "story").await
}

async fn requests(story: &Story, by: &Member) -> Vec<RequestDetails> {
    flow::people::list(&story.shell, &by.caller(story).await, false, None, 10).await.unwrap().items
}

async fn deny(story: &Story, by: &Member, id: &str) {
    flow::people::deny(&story.shell, &by.caller(story).await, id, "not ours", "story").await.unwrap();
}

async fn reopen(story: &Story, by: &Member, id: &str) -> Result<RequestDetails, Refusal> {
    flow::people::reopen(&story.shell, &by.caller(story).await, id, "story").await
}

async fn happened(story: &Story, by: &Member, event: &str) -> usize {
    story.events(by).await.iter().filter(|told| told.event == event).count()
}

/// A gateway with an administrator and somebody who waits.
async fn gate() -> (Story, Member, Stranger, WaitingReply) {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let stranger = story.stranger();
    let waiting = stranger.ask("edge-07").await.waiting();
    (story, alice, stranger, waiting)
}

#[tokio::test]
async fn a_request_that_is_taken_back_is_no_rival_of_the_next() {
    let (story, alice, stranger, waiting) = gate().await;
    withdraw(&story, &waiting.id).await.unwrap();
    assert!(requests(&story, &alice).await.is_empty());
    assert_eq!(stranger.poll(&waiting.id).await.unwrap_err(), Refusal::Withdrawn);
    let refused = story.approve(&alice, &waiting.id, &stranger.code(&waiting)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Conflict(_)), "{refused:?}");
    // Again, it is over already.
    withdraw(&story, &waiting.id).await.unwrap();
    assert_eq!(happened(&story, &alice, "enrollment.withdrawn").await, 1);
    // The honest second attempt looks like one, and the same key may ask as well.
    let second = story.stranger().ask("edge-07").await.waiting();
    assert!(requests(&story, &alice).await[0].rivals.is_empty());
    withdraw(&story, &second.id).await.unwrap();
    assert_ne!(stranger.ask("edge-07").await.waiting().id, waiting.id);
}

/// Whoever asks and takes it back, over and over, writes no more than who asks and waits: what was taken back counts for as long as
/// it might have waited.
#[tokio::test]
async fn taking_back_makes_no_room_for_another() {
    for same_key in [true, false] {
        let story = Story::new().await;
        let alice = story.first_person().await;
        let mut stranger = story.stranger();
        let mut asked = 0;
        let refused = loop {
            match stranger.try_ask("edge-07").await {
                Ok(answer) => withdraw(&story, &answer.waiting().id).await.unwrap(),
                Err(refused) => break refused,
            }
            asked += 1;
            assert!(asked <= story::PER_PREFIX, "same key: {same_key}");
            if !same_key {
                stranger = story.stranger();
            }
        };
        assert!(matches!(refused, Refusal::QueueFull(_)), "{refused:?}");
        assert!(requests(&story, &alice).await.is_empty());
        story.clock.advance(DAY + minutes(1));
        flow::sweep::sweep(&story.shell).await.unwrap();
        let alice = story.renewed(alice).await;
        assert_eq!(happened(&story, &alice, "enrollment.expired").await, 0);
        stranger.ask("edge-07").await.waiting();
        assert_eq!(requests(&story, &alice).await.len(), 1);
    }
}

/// What an approval has begun ends with it: the name is free at once, and not after a week.
#[tokio::test]
async fn whoever_was_let_in_and_goes_away_frees_the_name() {
    let (story, alice, stranger, waiting) = gate().await;
    story.approve(&alice, &waiting.id, &stranger.code(&waiting)).await.unwrap();
    withdraw(&story, &waiting.id).await.unwrap();
    assert!(matches!(stranger.poll(&waiting.id).await.unwrap_err(), Refusal::Retired { .. }));
    assert_eq!(happened(&story, &alice, "subject.left").await, 1);
    story.machine("edge-07").await;
}

/// The record of whoever was let in was damaged and put aside, and somebody else has the name since.
#[tokio::test]
async fn nobody_elses_machine_ends_with_a_request() {
    let (story, alice, stranger, waiting) = gate().await;
    story.approve(&alice, &waiting.id, &stranger.code(&waiting)).await.unwrap();
    story.shell.store.commit(Batch::default().delete("subject/machine/edge-07")).await.unwrap();
    let other = story.machine("edge-07").await;
    withdraw(&story, &waiting.id).await.unwrap();
    other.caller(&story).await;
}

/// With the certificate of a request one leaves as its holder; and who is locked does not slip away.
#[tokio::test]
async fn what_is_more_than_a_request_is_not_taken_back() {
    let (story, alice, stranger, waiting) = gate().await;
    story.approve(&alice, &waiting.id, &stranger.code(&waiting)).await.unwrap();
    story.lock(&alice, "machine", "edge-07").await.unwrap();
    assert!(matches!(withdraw(&story, &waiting.id).await.unwrap_err(), Refusal::Locked { .. }));
    flow::admin::unlock(&story.shell, &alice.caller(&story).await, "machine", "edge-07", "story").await.unwrap();
    stranger.poll(&waiting.id).await.unwrap().issued();
    assert!(matches!(withdraw(&story, &waiting.id).await.unwrap_err(), Refusal::Conflict(_)));
}

#[tokio::test]
async fn a_denial_that_is_taken_back_leaves_the_request_as_it_was_made() {
    let (story, alice, stranger, waiting) = gate().await;
    let code = stranger.code(&waiting);
    assert!(matches!(reopen(&story, &alice, &waiting.id).await.unwrap_err(), Refusal::Conflict(_)), "it waits");
    deny(&story, &alice, &waiting.id).await;
    assert!(matches!(stranger.poll(&waiting.id).await.unwrap_err(), Refusal::DeniedByPerson { .. }));
    // Whoever may not approve it may not do this either, and does not learn that it is there.
    let bob = story.person("bob", &[]).await;
    assert!(matches!(reopen(&story, &bob, &waiting.id).await.unwrap_err(), Refusal::NotFound(_)));
    let view = reopen(&story, &alice, &waiting.id).await.unwrap();
    assert_eq!((view.state, view.reason, view.expires), ("waiting", None, waiting.expires));
    assert_eq!(requests(&story, &alice).await.len(), 1);
    assert_eq!(stranger.poll(&waiting.id).await.unwrap().waiting().nonce, waiting.nonce);
    story.approve(&alice, &waiting.id, &code).await.unwrap();
    stranger.poll(&waiting.id).await.unwrap().issued();
    assert_eq!(happened(&story, &alice, "enrollment.reopened").await, 1);
}

#[tokio::test]
async fn a_denial_is_not_taken_back_after_the_request_would_have_lapsed() {
    let (story, alice, _, waiting) = gate().await;
    deny(&story, &alice, &waiting.id).await;
    story.clock.advance(DAY + minutes(1));
    let alice = story.renewed(alice).await;
    let refused = reopen(&story, &alice, &waiting.id).await.unwrap_err();
    assert_eq!(refused, Refusal::Conflict(Conflict::Lapsed));
}

/// Why the maker of a token is locked is nothing to whoever holds it, on whichever way they ask; why they are locked themselves
/// is.
#[tokio::test]
async fn the_reason_of_anothers_lock_is_not_told() {
    // Where a token alone lets no machine in.
    let enough = "principal.role == Lychgate::Role::\"machine\" && principal.claims has token_id";
    let story = Story::with_policy(|text| text.replace(enough, "principal.assurance > 9")).await;
    let alice = story.first_person().await;
    let maker = story.person("maker", &["admins"]).await;
    let by = maker.caller(&story).await;
    let actor = flow::shell::Actor { who: &by.identity.to_string(), instance: "story" };
    let asked = TokenWish { uses: Some(9), ..TokenWish::default() };
    let token = flow::tokens::make(&story.shell, &asked, flow::tokens::By::Person(&by), &actor).await.unwrap().token;
    let waits = story.stranger();
    let waiting = waits.join(&token, "edge-07").await.unwrap().waiting();
    story.lock(&alice, Role::Person.as_str(), "maker").await.unwrap();
    let suspended = Refusal::Evidence(TokenError::Suspended.into());
    for (what, refused) in [
        ("who comes", story.stranger().join(&token, "edge-08").await.unwrap_err()),
        ("who comes again", waits.join(&token, "edge-07").await.unwrap_err()),
        ("who asks as before", waits.try_ask("edge-07").await.unwrap_err()),
        ("who waits", waits.poll(&waiting.id).await.unwrap_err()),
        ("who goes away", withdraw(&story, &waiting.id).await.unwrap_err()),
    ] {
        assert_eq!(refused, suspended, "{what}");
        let said = refused.to_string();
        assert!(!said.contains("stolen") && !said.contains("maker"), "{what}: {said}");
    }
    // Their own lock is told.
    let bob = story.person("bob", &[]).await;
    story.lock(&alice, "person", "bob").await.unwrap();
    let refused = bob.rejoin(&story).await.unwrap_err();
    assert!(matches!(&refused, Refusal::Locked { reason, .. } if reason == "stolen"), "{refused:?}");
}

/// Nor of a lock on a name that a newcomer asks for: it is taken, whoever holds it, or held it once.
#[tokio::test]
async fn the_reason_of_a_lock_on_a_name_is_not_told() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    story.machine("edge-07").await;
    story.lock(&alice, "machine", "edge-07").await.unwrap();
    for removed in [false, true] {
        if removed {
            flow::admin::remove(&story.shell, &alice.caller(&story).await, Role::Machine, "edge-07", "story")
                .await
                .unwrap();
        }
        let token = story.token(TokenWish::default()).await;
        let refused = story.stranger().join(&token, "edge-07").await.unwrap_err();
        assert_eq!(refused, Refusal::NameTaken { name: "edge-07".into() }, "removed: {removed}");
    }
}
