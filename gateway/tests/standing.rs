//! Stories of what may stand behind a certificate: owners, names, evidence, locks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::{core::refusal::Refusal, flow};
use pki::Role;
use story::{Member, Story};
use wire::admin::{CanIRequest, TokenRequest};

fn taken(answer: Result<story::Answer, Refusal>) -> bool {
    matches!(answer, Err(Refusal::NameTaken { .. }))
}

fn locked<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> bool {
    matches!(answer, Err(Refusal::Locked { .. }))
}

async fn remove(story: &Story, by: &Member, role: Role, name: &str) {
    flow::admin::remove(&story.shell, &by.caller(story).await, role, name, "story").await.unwrap();
}

/// A machine that comes with a token for an owner.
async fn owned(story: &Story, name: &str, owner: &str) -> Member {
    let token = story.token(TokenRequest { owner: Some(owner.to_owned()), ..TokenRequest::default() }).await;
    let stranger = story.stranger();
    let issued = stranger.join(&token, name).await.unwrap().issued();
    stranger.into_member(issued)
}

/// An invitation, for a name or for any.
async fn invitation(story: &Story, names: &[&str]) -> String {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    story.token(TokenRequest { role: Some("person".to_owned()), names, ..TokenRequest::default() }).await
}

async fn may(story: &Story, who: &Member, action: &str, resource: &str) -> Result<bool, Refusal> {
    let asked = CanIRequest { action: action.to_owned(), resource: resource.to_owned() };
    Ok(flow::can_i::can_i(&story.shell, &who.caller(story).await, &asked).await?.allowed)
}

async fn shown(story: &Story, to: &Member, machine: &str) -> Option<wire::admin::SubjectView> {
    flow::admin::subject(&story.shell, &to.caller(story).await, Role::Machine, machine).await.ok()
}

#[tokio::test]
async fn a_name_that_is_given_again_carries_no_machines_along() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let olga = story.person("olga", &[]).await;
    owned(&story, "olgas-pc", "olga").await;
    for action in ["read", "lock"] {
        assert!(may(&story, &olga, action, "olgas-pc").await.unwrap(), "{action}");
    }
    assert!(may(&story, &olga, "connect", "ssh@olgas-pc").await.unwrap());
    assert!(!shown(&story, &alice, "olgas-pc").await.unwrap().owner_gone);

    remove(&story, &alice, Role::Person, "olga").await;
    let view = shown(&story, &alice, "olgas-pc").await.unwrap();
    assert_eq!((view.owner.as_deref(), view.owner_gone), (Some("olga"), true));

    // Nobody takes an owner's name by themselves; an administrator may give it, and it is only a name.
    let (open, by_name) = (invitation(&story, &[]).await, invitation(&story, &["olga"]).await);
    assert!(taken(story.stranger().join(&open, "olga").await));
    assert!(taken(story.stranger().join(&invitation(&story, &["ol*"]).await, "olga").await));
    story.stranger().join(&open, "oscar").await.unwrap().issued();
    let stranger = story.stranger();
    let issued = stranger.join(&by_name, "olga").await.unwrap().issued();
    let new = stranger.into_member(issued);
    assert!(shown(&story, &new, "olgas-pc").await.is_none());
    for (action, what) in [("read", "olgas-pc"), ("lock", "olgas-pc"), ("connect", "ssh@olgas-pc")] {
        assert_eq!(may(&story, &new, action, what).await, Err(Refusal::NotFound("machine")), "{action}");
    }
    assert!(shown(&story, &alice, "olgas-pc").await.unwrap().owner_gone);
}

#[tokio::test]
async fn an_owner_who_is_not_there_yet_is_nobody() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    owned(&story, "box", "olga").await;
    let olga = story.stranger();
    let issued = olga.join(&invitation(&story, &["olga"]).await, "olga").await.unwrap().issued();
    let olga = olga.into_member(issued);
    assert!(shown(&story, &olga, "box").await.is_none());
    assert!(shown(&story, &alice, "box").await.unwrap().owner_gone);
}

#[tokio::test]
async fn a_lock_on_a_name_outlives_whoever_had_it() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    story.machine("lk").await;
    story.person("lp", &[]).await;
    for (role, name) in [(Role::Machine, "lk"), (Role::Person, "lp")] {
        story.lock(&alice, role.as_str(), name).await.unwrap();
        remove(&story, &alice, role, name).await;
        let role = Some(role.as_str().to_owned());
        let token = story.token(TokenRequest { role, ..TokenRequest::default() }).await;
        assert!(locked(story.stranger().join(&token, name).await), "{name}");
    }
    // Whoever only wishes for the name is not told, and does not get it either.
    let machine = story.stranger();
    let waiting = machine.ask("lk").await.waiting();
    assert!(locked(story.approve(&alice, &waiting.id, &machine.code(&waiting)).await));
    story.approve_as(&alice, &waiting.id, &machine.code(&waiting), "other").await.unwrap();
    machine.poll(&waiting.id).await.unwrap().issued();
}
