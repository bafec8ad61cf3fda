//! Stories of a clock that is wrong, of records that are damaged, and of what goes when it is old.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use std::time::Duration;

use gateway::{
    core::{refusal::Refusal, timekeeping},
    edge::fronts::native::ssh::ca_reply,
    flow::{clock, order, sweep::sweep},
    store::{Batch, Key},
};
use story::{DAY, Member, Story, minutes};

impl Story {
    /// The wall clock is set so many days ahead, or behind.
    fn jump(&self, days: i64) {
        let now = self.shell.now().secs();
        self.clock.set(pki::UnixTime::new(now.saturating_add_signed(days * 24 * 3600)));
    }

    /// So many rounds of housekeeping, a minute apart.
    async fn rounds(&self, count: u32) {
        for _ in 0..count {
            self.clock.advance(minutes(1));
            sweep(&self.shell).await.unwrap();
        }
    }

    /// As after a restart: what is kept in memory is gone.
    fn restarts(&self) {
        *self.shell.counted.lock().unwrap() = None;
    }

    /// Keys under a prefix.
    async fn keys(&self, prefix: &str) -> Vec<String> {
        let rows = self.shell.store.scan(&Key::from(prefix), None, 1000).await.unwrap().rows;
        rows.into_iter().map(|(key, _)| key.to_string()).collect()
    }

    async fn all_but_events(&self) -> Vec<String> {
        let mut keys = self.keys("").await;
        keys.retain(|key| !key.starts_with("audit/") && key != "meta/clock");
        keys
    }

    async fn names(&self, by: &Member) -> Vec<&'static str> {
        let known = ["clock.doubted", "clock.believed"];
        let events = self.events(by).await;
        known.into_iter().filter(|name| events.iter().any(|event| event.event == *name)).collect()
    }
}

/// Nobody loses an identity, a request, a token or a lock by a clock that runs away and comes back, however far and
/// whichever way, with or without a restart in between.
#[tokio::test]
async fn a_clock_that_jumps_and_comes_back_destroys_nothing() {
    for days in [500, 401, 40, 8, 2, -2, -8, -500, -20_000] {
        for restarts in [false, true] {
            let story = Story::new().await;
            let alice = story.first_person().await;
            let machine = story.machine("edge-01").await;
            let _locked = story.machine("edge-09").await;
            let newcomer = story.stranger();
            let waiting = newcomer.ask("edge-02").await.waiting();
            story.token(Default::default()).await;
            story.lock(&alice, "machine", "edge-09").await.unwrap();
            story.rounds(2).await;
            let (records, events) = (story.all_but_events().await, story.keys("audit/").await);

            story.jump(days);
            story.rounds(2).await;
            assert!(clock::doubt(&story.shell).is_some(), "{days}");
            if restarts {
                story.restarts();
                story.rounds(2).await;
            }
            story.jump(-days);
            story.rounds(2).await;
            assert_eq!(clock::doubt(&story.shell), None, "{days} {restarts}");
            assert_eq!(story.all_but_events().await, records, "{days} {restarts}");
            let kept = story.keys("audit/").await;
            assert!(events.iter().all(|key| kept.contains(key)), "{days} {restarts}");
            story.admit(&story.peer(&machine.issued)).await.unwrap();
            assert_eq!(story.names(&alice).await, ["clock.doubted", "clock.believed"], "{days} {restarts}");
            story.approve(&alice, &waiting.id, &newcomer.code(&waiting)).await.unwrap();
            newcomer.poll(&waiting.id).await.unwrap().issued();
        }
    }
}

/// A gateway that was off, or suspended with its clocks, is no reason for doubt; one that wakes far ahead is.
#[tokio::test]
async fn a_start_after_a_rest() {
    for (days, doubted) in [(0, false), (29, false), (31, true), (500, true), (-20_000, true)] {
        let story = Story::new().await;
        story.machine("edge-01").await;
        story.rounds(2).await;
        let before = story.keys("cert/").await;
        story.jump(days);
        story.restarts();
        story.rounds(2).await;
        assert_eq!(clock::doubt(&story.shell).is_some(), doubted, "{days}");
        assert_eq!(story.keys("cert/").await, before, "{days}");
    }
    // Suspended: time passed by both clocks.
    let story = Story::new().await;
    story.rounds(1).await;
    story.clock.advance(DAY * 8);
    story.rounds(1).await;
    assert_eq!(clock::doubt(&story.shell), None);
}

/// The doubt lasts. After a day what is short-lived lapses by the time that was counted; all else waits for a person.
#[tokio::test]
async fn what_is_short_lived_lapses_after_a_day_and_the_rest_at_an_operators_word() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let newcomer = story.stranger();
    newcomer.ask("edge-02").await.waiting();
    story.token(Default::default()).await;
    story.rounds(1).await;
    let before = story.all_but_events().await;
    story.jump(500);
    story.rounds(1).await;
    story.clock.advance(Duration::from_secs(timekeeping::EVERYTHING_STOPS) - minutes(10));
    story.rounds(1).await;
    assert_eq!(story.all_but_events().await, before);
    story.clock.advance(minutes(20));
    story.rounds(1).await;
    assert_eq!(story.keys("waiting/").await, [""; 0]);
    let mut after = before.clone();
    after.retain(|key| !key.starts_with("waiting/") && !key.starts_with("queue/"));
    assert_eq!(story.all_but_events().await, after, "requests stay, marked as lapsed; nothing else goes");
    assert!(story.shell.metrics.render().contains("lychgate_clock_suspect 1"));

    // An operator says that the clock is right: what is old goes.
    clock::accept(&story.shell).await.unwrap();
    story.rounds(1).await;
    assert!(story.shell.metrics.render().contains("lychgate_clock_suspect 0"));
    assert_eq!(story.keys("cert/").await, [""; 0]);
    assert_eq!(story.keys("token/").await, [""; 0]);
    assert_eq!(story.keys("subject/").await, ["subject/person/alice"], "no clock takes a name");
    drop(alice);
}

/// Whoever is gone leaves nothing behind for ever.
#[tokio::test]
async fn what_the_gone_leave_behind_goes_with_their_last_certificate() {
    let story = Story::new().await;
    for count in 0..3 {
        let machine = story.machine(&format!("edge-0{count}")).await;
        let caller = machine.caller(&story).await;
        gateway::flow::admin::leave(&story.shell, &caller, "i").await.unwrap();
    }
    let stays = story.machine("edge-10").await;
    story.rounds(1).await;
    assert_eq!(story.keys("lineage/").await.len(), 4);
    story.clock.advance(DAY * 402);
    story.rounds(2).await;
    let lineage = format!(
        "lineage/{}",
        story
            .shell
            .get::<gateway::core::records::Subject>("subject/machine/edge-10".into())
            .await
            .unwrap()
            .unwrap()
            .record
            .lineage
    );
    assert_eq!(story.keys("lineage/").await, [lineage]);
    for prefix in ["enrkey/", "enr/", "cert/", "certend/", "convergence/", "token/"] {
        assert_eq!(story.keys(prefix).await, [""; 0], "{prefix}");
    }
    drop(stays);
}

/// Each timer of days, held against each way in which the clock and the time that passes part. Whatever was due by the time
/// that passed has happened a minute later, and nothing else has; after a jump back and forth all is as if it had not been.
/// (The gateway's own certificate has its table in `server`, by the same clock.)
#[tokio::test]
async fn every_timer_of_days_goes_by_the_clock_and_not_by_a_sleep() {
    /// What is due after about a day, and by what is seen that it happened.
    #[derive(Copy, Clone, Debug)]
    enum Timer {
        /// A certificate on an open connection ends: the clock alone counts, and it is looked at twice a second.
        Connection,
        /// A request that waits lapses, in housekeeping.
        Request,
        /// The record of a token that nobody redeemed goes a week after it expired, in housekeeping.
        Token,
    }
    use Timer::{Connection, Request, Token};
    // Days that pass, days that the clock is set ahead; what has happened then.
    for (passed, set, happened) in [
        (8, 0, &["connection", "request", "token"][..]),
        (500, 0, &["connection", "request", "token"]),
        (0, 8, &["connection"]),
        (0, 500, &["connection"]),
        (0, -8, &[]),
        (0, -500, &[]),
        (8, -8, &["request"]),
        (2, 0, &["connection", "request"]),
    ] {
        let story = Story::new().await;
        let machine = story.machine("edge-01").await;
        let newcomer = story.stranger();
        newcomer.ask("edge-02").await.waiting();
        let token = format!("token/{}", story.token_reply(Default::default()).await.id);
        story.rounds(1).await;
        let (seat, conn) = story.seats(&machine, "edge-01");
        story.clock.advance(DAY * passed);
        story.jump(set);
        story.rounds(1).await;
        if passed > 0 && set < 0 {
            // Doubted, and so a day later what is short-lived lapses.
            story.clock.advance(DAY + minutes(2));
            story.jump(-1);
            story.rounds(1).await;
        }
        story.shell.live.cut_expired(story.shell.now());
        let mut got = Vec::new();
        for timer in [Connection, Request, Token] {
            let (name, due) = match timer {
                Connection => ("connection", conn.conn().reason().is_some()),
                Request => ("request", story.keys("waiting/").await.is_empty()),
                Token => ("token", story.keys(&token).await.is_empty()),
            };
            got.extend(due.then_some(name));
        }
        assert_eq!(got, happened, "{passed} days passed, set by {set}");
        drop(seat);
    }
}

/// What is vouched for goes forward with every start: with a store from a backup too, and by no clock that is doubted.
#[tokio::test]
async fn the_order_of_what_is_vouched_for_only_goes_forward() {
    let story = Story::new().await;
    story.first_person().await;
    let advance = async || {
        order::advance(&story.shell).await.unwrap();
        order::now(&story.shell).number()
    };
    let first = advance().await;
    assert_eq!(first, story.shell.now().secs(), "the first is the time");
    let second = advance().await;
    assert_eq!(second, first + 1);

    // As when a backup from before both is restored, and it is a minute later.
    story.shell.store.commit(Batch::default().delete("meta/order")).await.unwrap();
    story.clock.advance(minutes(1));
    let restored = advance().await;
    assert!(restored > second, "{second} {restored}");
    assert_eq!(ca_reply(&story.shell).await.unwrap().order, restored);

    // A clock far ahead would take it where no later one could follow.
    story.rounds(2).await;
    story.jump(500);
    story.rounds(1).await;
    assert!(clock::doubt(&story.shell).is_some());
    assert_eq!(advance().await, restored + 1);

    // A damaged one is as good as none.
    story.jump(-500);
    story.rounds(2).await;
    story.shell.store.commit(Batch::default().put("meta/order", "{")).await.unwrap();
    assert!(advance().await >= story.shell.now().secs());
}

/// The gateway goes on issuing by a clock that it doubts, which may be the right one. What it issues then is as short as ever; by the
/// true time it is nothing yet, or nothing any more; it takes nothing from those who were there, and a lock ends it.
#[tokio::test]
async fn what_is_issued_while_the_clock_is_doubted() {
    for days in [500, 40, -40] {
        let story = Story::new().await;
        // Its CAs are older than the jump.
        story.clock.advance(DAY * 60);
        let alice = story.first_person().await;
        let machine = story.machine("edge-01").await;
        story.rounds(2).await;
        story.jump(days);
        story.rounds(2).await;
        assert!(clock::doubt(&story.shell).is_some(), "{days}");
        let late = story.machine("edge-02").await;
        let (from, until) = (late.issued.not_before, late.issued.not_after);
        assert!(until - from <= (DAY + pki::BACKDATE).as_secs(), "{days}: no longer than ever");
        story.jump(-days);
        story.rounds(2).await;
        assert_eq!(clock::doubt(&story.shell), None, "{days}");
        let now = story.shell.now().secs();
        assert!(now < from || until <= now, "{days}: it is not good by the true time");
        story.admit(&story.peer(&machine.issued)).await.unwrap();
        story.lock(&alice, "machine", "edge-02").await.unwrap();
        let refused = story.admit(&story.peer_at(&late.issued, from + 600)).await.unwrap_err();
        assert!(matches!(refused, Refusal::Locked { .. } | Refusal::Expired), "{days}: {refused:?}");
    }
}
