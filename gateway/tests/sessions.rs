//! The listing of open sessions: whole, by pages, and by the words of whoever asks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::flow::views::SessionDetails;
use std::time::Duration;

use gateway::core::session::EndReason;
use gateway::{
    core::refusal::{Malformed, Refusal},
    flow::sessions::{self, Filter},
    limits,
};
use story::{Member, Story};
use wire::limits::PAGE_MAX;

/// The rows of all pages of this size, and how many pages they are.
async fn walk(story: &Story, by: &Member, filter: &Filter, limit: usize) -> (Vec<SessionDetails>, usize) {
    let (mut rows, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let caller = by.caller(story).await;
        let page = sessions::list(&story.shell, &caller, filter, after.as_deref(), limit).await.unwrap();
        assert!(page.items.len() <= limit);
        rows.extend(page.items);
        pages += 1;
        assert!(pages < 100, "it never ends");
        match page.next {
            Some(next) => after = Some(next),
            None => return (rows, pages),
        }
    }
}

#[tokio::test]
async fn a_listing_goes_on_after_its_first_page() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    story.machine("edge-1").await;
    let mut want = Vec::new();
    for at in 0..PAGE_MAX + 5 {
        want.push(story.session(&alice, "edge-1"));
        // Some begin in the same millisecond.
        if at % 3 == 0 {
            story.clock.advance(std::time::Duration::from_millis(1));
        }
    }
    want.sort();
    for (limit, pages) in [(PAGE_MAX, 2), (100, 11), (PAGE_MAX + 5, 1), (201, 5)] {
        let (rows, found) = walk(&story, &alice, &Filter::default(), limit).await;
        assert!(rows.is_sorted_by_key(|row| row.started_ms), "oldest first");
        let mut ids: Vec<String> = rows.into_iter().map(|row| row.id).collect();
        ids.sort();
        assert_eq!(ids, want, "pages of {limit}");
        assert_eq!(found, pages, "pages of {limit}");
    }
}

#[tokio::test]
async fn a_place_in_the_listing_outlives_its_session() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    story.machine("edge-1").await;
    for _ in 0..3 {
        story.session(&alice, "edge-1");
        story.clock.advance(std::time::Duration::from_millis(1));
    }
    let caller = alice.caller(&story).await;
    let all = Filter::default();
    let first = sessions::list(&story.shell, &caller, &all, None, 2).await.unwrap();
    let gone = story.shell.sessions.get(&first.items[1].id).unwrap();
    gone.cut(EndReason::Killed);
    gone.ended().await;
    let rest = sessions::list(&story.shell, &caller, &all, first.next.as_deref(), 2).await.unwrap();
    assert_eq!(rest.items.len(), 1);
    assert!(rest.items[0].started_ms > first.items[1].started_ms && rest.next.is_none());
    for bad in ["", "x", "7", "x-y", "-"] {
        let refused = sessions::list(&story.shell, &caller, &all, Some(bad), 2).await.unwrap_err();
        let Refusal::Malformed(what) = refused else { panic!("{bad}: {refused}") };
        assert_eq!(what, Malformed::Place);
    }
}

#[tokio::test]
async fn a_person_is_no_machine_of_the_same_name() {
    let story = Story::new().await;
    let (alice, machine) = (story.first_person().await, story.machine("alice").await);
    story.machine("edge-1").await;
    let (by_person, by_machine) = (story.session(&alice, "edge-1"), story.session(&machine, "edge-1"));
    let to_machine = story.session(&alice, "alice");
    let named = |name: &str| Some(name.to_owned());
    let person = Filter { person: named("alice"), ..Filter::default() };
    let leads = Filter { machine: named("alice"), ..Filter::default() };
    for (filter, want) in [
        (Filter::default(), vec![&by_person, &by_machine, &to_machine]),
        (person, vec![&by_person, &to_machine]),
        (leads, vec![&to_machine]),
        (Filter { person: named("edge-1"), ..Filter::default() }, vec![]),
    ] {
        let (rows, _) = walk(&story, &alice, &filter, PAGE_MAX).await;
        let mut found: Vec<String> = rows.into_iter().map(|row| row.id).collect();
        let mut want: Vec<String> = want.into_iter().cloned().collect();
        found.sort();
        want.sort();
        assert_eq!(found, want, "{filter:?}");
    }
}

/// What happens to sessions that somebody may not see moves nothing that they do see: no answer comes for it, and two places are
/// as far apart with it as without.
#[tokio::test]
async fn events_say_nothing_of_sessions_that_are_not_shown() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let bob = story.person("bob", &[]).await;
    story.machine("edge-01").await;
    let (sees, blind) = (alice.caller(&story).await, bob.caller(&story).await);
    let ask = async |caller, after: Option<u64>| {
        let after = after.map(|after| after.to_string());
        sessions::events(&story.shell, caller, after.as_deref(), Duration::ZERO).await.unwrap()
    };
    let begun = [ask(&sees, None).await.next, ask(&blind, None).await.next];
    for _ in 0..3 {
        story.session(&alice, "edge-01");
    }
    let seen = ask(&sees, Some(begun[0])).await;
    assert_eq!(seen.items.len(), 3);
    assert!(ask(&sees, Some(seen.next)).await.items.is_empty());
    assert_eq!(ask(&sees, Some(seen.items[0].number)).await.items.len(), 2);
    let mut nexts = vec![begun[1]];
    for _ in 0..20 {
        let unseen = ask(&blind, nexts.last().copied()).await;
        assert!(unseen.items.is_empty());
        nexts.push(unseen.next);
    }
    nexts.sort_unstable();
    nexts.dedup();
    assert_eq!(nexts.len(), 21, "no two are the same, whether something happened or not");
    assert!(nexts.iter().all(|next| *next > 1_000), "{nexts:?}");

    // Nobody is woken by what they may not see; and a place of another process is now.
    let first = nexts[0].to_string();
    let waits = sessions::events(&story.shell, &blind, Some(&first), Duration::from_secs(3600));
    tokio::pin!(waits);
    for _ in 0..10 {
        assert!(tokio::time::timeout(Duration::ZERO, &mut waits).await.is_err());
        story.session(&alice, "edge-01");
        tokio::task::yield_now().await;
    }
    assert!(ask(&sees, Some(7)).await.items.is_empty());
}

/// A place is good at the process that gave it. Another one begins with what it has, and says that there is a gap.
#[tokio::test]
async fn a_place_of_another_process_is_known_as_such() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let bob = story.person("bob", &[]).await;
    story.machine("edge-01").await;
    let other = story.another();
    let ask = async |at: &Story, who: &Member, after: Option<&str>| {
        sessions::events(&at.shell, &who.caller(at).await, after, Duration::ZERO).await
    };
    let begun = ask(&story, &alice, None).await.unwrap().cursor;
    story.session(&alice, "edge-01");
    let news = ask(&story, &alice, Some(&begun)).await.unwrap();
    assert_eq!((news.items.len(), news.gap), (1, false));
    assert!(ask(&story, &alice, Some(&news.items[0].cursor)).await.unwrap().items.is_empty());

    for _ in 0..2 {
        other.session(&alice, "edge-01");
    }
    let elsewhere = ask(&other, &alice, Some(&news.cursor)).await.unwrap();
    assert_eq!((elsewhere.items.len(), elsewhere.gap), (2, true), "all that it has");
    let again = ask(&other, &alice, Some(&elsewhere.cursor)).await.unwrap();
    assert_eq!((again.items.len(), again.gap), (0, false));
    // Who waits there hears of the gap at once, also without anything to see.
    let hour = Duration::from_secs(3600);
    let told = sessions::events(&other.shell, &bob.caller(&other).await, Some(&news.cursor), hour).await.unwrap();
    assert_eq!((told.items.len(), told.gap), (0, true));

    // What is not kept any more is missing too, for whoever would have seen it.
    let blind = ask(&other, &bob, None).await.unwrap().cursor;
    for _ in 0..=limits::SESSION_EVENTS_KEPT {
        other.session(&alice, "edge-01");
    }
    let late = ask(&other, &alice, Some(&elsewhere.cursor)).await.unwrap();
    assert!(late.gap && late.items.len() == limits::SESSION_EVENTS_KEPT);
    let unseen = ask(&other, &bob, Some(&blind)).await.unwrap();
    assert!(!unseen.gap && unseen.items.is_empty());

    for bad in ["", "x", "-7", "0123-7", &"7".repeat(100)] {
        let Err(Refusal::Malformed(Malformed::Place)) = ask(&story, &alice, Some(bad)).await else { panic!("{bad}") };
    }
}
