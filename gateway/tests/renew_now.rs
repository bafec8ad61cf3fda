//! Stories of the call to renew now: who is reached by it, until when, and who may make it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use std::time::Duration;

use gateway::{
    core::refusal::{Missing, Refusal},
    flow::renew_now::{self, Whom},
};
use story::{Member, Story, minutes};
use wire::enroll::IssuedReply;

fn named(names: &[&str]) -> Whom {
    Whom::Named(names.iter().map(|&name| name.to_owned()).collect())
}

async fn ask(story: &Story, by: &Member, whom: Whom) -> Result<(), Refusal> {
    renew_now::ask(&story.shell, &by.caller(story).await, &whom, "new authority", "story").await
}

/// What `/v1/self` tells them.
async fn wanted(story: &Story, certificates: &[&IssuedReply]) -> Vec<bool> {
    let mut told = Vec::new();
    for issued in certificates {
        let peer = story.peer(issued);
        let caller = story.admit(&peer).await.unwrap();
        told.push(renew_now::is_wanted(&story.shell, &caller, peer.not_before).await.unwrap());
    }
    told
}

#[tokio::test]
async fn a_machine_that_is_asked_renews_once() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let (one, two) = (story.machine("edge-1").await, story.machine("edge-2").await);
    story.clock.advance(minutes(5));
    assert_eq!(wanted(&story, &[&one.issued, &two.issued]).await, [false, false]);
    ask(&story, &alice, named(&["edge-1"])).await.unwrap();
    assert_eq!(wanted(&story, &[&one.issued, &two.issued]).await, [true, false]);
    story.clock.advance(Duration::from_secs(1));
    let renewed = one.renew(&story).await.unwrap();
    assert_eq!(wanted(&story, &[&renewed, &two.issued]).await, [false, false]);
    // Asked again, it renews again.
    story.clock.advance(minutes(5));
    ask(&story, &alice, named(&["edge-1", "edge-2"])).await.unwrap();
    assert_eq!(wanted(&story, &[&renewed, &two.issued]).await, [true, true]);
    let asked: Vec<_> = story.events(&alice).await.into_iter().filter(|row| row.event == "renewal.asked").collect();
    let whom: Vec<&str> = asked.iter().map(|row| row.subject.as_str()).collect();
    let spiffe = |name: &str| format!("spiffe://test.example/machine/{name}");
    assert_eq!(whom, [spiffe("edge-2"), spiffe("edge-1"), spiffe("edge-1")]);
    assert_eq!((asked[0].actor.as_str(), asked[0].rules.as_slice()), (&*alice.issued.identity, &["admins".into()][..]));
    assert_eq!(asked[0].detail["reason"], "new authority");
}

#[tokio::test]
async fn all_machines_are_asked_by_one_record_and_people_are_not() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let (one, two) = (story.machine("edge-1").await, story.machine("edge-2").await);
    story.clock.advance(minutes(5));
    alice.caller(&story).await;
    let before = story.everything().await;
    ask(&story, &alice, Whom::All).await.unwrap();
    assert_eq!(story.everything().await, before + 2, "the record and its event");
    assert_eq!(wanted(&story, &[&one.issued, &two.issued, &alice.issued]).await, [true, true, false]);
    story.clock.advance(Duration::from_secs(1));
    let (renewed, new) = (one.renew(&story).await.unwrap(), story.machine("edge-3").await);
    assert_eq!(wanted(&story, &[&renewed, &two.issued, &new.issued]).await, [false, true, false]);
}

#[tokio::test]
async fn who_may_not_asks_nobody() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let (bob, one) = (story.person("bob", &[]).await, story.machine("edge-1").await);
    story.clock.advance(minutes(5));
    let denied = Refusal::Denied { rules: vec![], action: "administer" };
    let hidden = Refusal::NotFound(Missing::Machine);
    assert_eq!(ask(&story, &bob, Whom::All).await.unwrap_err(), denied);
    assert_eq!(ask(&story, &bob, named(&["edge-1"])).await.unwrap_err(), hidden);
    assert_eq!(ask(&story, &alice, named(&["edge-9"])).await.unwrap_err(), hidden);
    // All or none: the one that exists is not asked either.
    let none = Refusal::NotFound(Missing::OneOfMachines);
    assert_eq!(ask(&story, &alice, named(&["edge-1", "edge-9"])).await.unwrap_err(), none);
    assert_eq!(wanted(&story, &[&one.issued]).await, [false]);
    assert!(!story.events(&alice).await.iter().any(|row| row.event == "renewal.asked"));
}
