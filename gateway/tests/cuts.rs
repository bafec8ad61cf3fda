//! Whatever takes a right away ends the open connections of those it hits, and of nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use std::{net::Ipv4Addr, sync::Arc};

use axum::{body::Body, http};
use gateway::core::face::Face;
use gateway::{
    edge::http::router,
    flow,
    limits::{ENFORCE_TIME, RateLimits},
};
use gateway::{
    ports::rate::Rates,
    registry::{
        enforcer::Rechecked,
        live::{CloseReason, ConnGuard, NewConn},
    },
};
use pki::Role;
use story::{DAY, Member, Story, store::Health};
use tower::ServiceExt as _;

/// An administrator, and the machines `edge-1` and `edge-2`, each with two open connections.
struct Scene {
    story: Story,
    alice: Member,
    one: Member,
    open: [[ConnGuard; 2]; 2],
}

impl Scene {
    async fn set() -> Self {
        let story = Story::new().await;
        let alice = story.first_person().await;
        let (one, two) = (story.machine("edge-1").await, story.machine("edge-2").await);
        let enter = |member: &Member| {
            let (peer, source) = (Some(story.peer(&member.issued)), Ipv4Addr::LOCALHOST.into());
            story.shell.live.enter(NewConn { face: Face::Manage, requester: peer.into(), source, exporter: [0; 32] })
        };
        let open = [&one, &two].map(|member| [enter(member), enter(member)]);
        for member in [&one, &two] {
            story.admit(&story.peer(&member.issued)).await.unwrap();
        }
        Self { story, alice, one, open }
    }

    /// Why the connections of the first machine were cut; those of the second must not be.
    #[track_caller]
    fn check(&self, what: &str, want: [Option<CloseReason>; 2]) {
        let cut = self.open.each_ref().map(|seats| seats.each_ref().map(|seat| seat.conn().cut()));
        assert_eq!(cut, [want, [None, None]], "{what}");
    }
}

#[tokio::test]
async fn locks_of_every_kind() {
    for kind in ["machine", "lineage", "key"] {
        let scene = Scene::set().await;
        let caller = scene.one.caller(&scene.story).await;
        let target = match kind {
            "machine" => "edge-1".to_owned(),
            "lineage" => caller.lineage.record.id.clone(),
            _ => caller.key.hex(),
        };
        scene.story.lock(&scene.alice, kind, &target).await.unwrap();
        scene.check(kind, [Some(CloseReason::Locked); 2]);
    }
}

#[tokio::test]
async fn a_removal() {
    let scene = Scene::set().await;
    let caller = scene.alice.caller(&scene.story).await;
    flow::admin::remove(&scene.story.shell, &caller, Role::Machine, "edge-1", "i").await.unwrap();
    scene.check("removed", [Some(CloseReason::Killed); 2]);
}

#[tokio::test]
async fn forks() {
    // A copy of the folder renews with the certificate that was replaced.
    let scene = Scene::set().await;
    let copy = scene.one.cloned(&scene.story);
    let renewed = scene.one.renew(&scene.story).await.unwrap();
    scene.story.admit(&scene.story.peer(&renewed)).await.unwrap();
    copy.renew(&scene.story).await.unwrap_err();
    scene.check("a copy renews", [Some(CloseReason::Locked); 2]);

    // The copy comes to join with a certificate that would still be good.
    let scene = Scene::set().await;
    let renewed = scene.one.renew(&scene.story).await.unwrap();
    scene.story.admit(&scene.story.peer(&renewed)).await.unwrap();
    scene.story.clock.advance(DAY / 2);
    scene.one.rejoin(&scene.story).await.unwrap_err();
    scene.check("a copy rejoins", [Some(CloseReason::Locked); 2]);

    // It comes when the certificate in it is over: that does nothing to anybody. (Nothing here looks at the end of the open
    // connections.)
    let scene = Scene::set().await;
    let renewed = scene.one.renew(&scene.story).await.unwrap();
    scene.story.admit(&scene.story.peer(&renewed)).await.unwrap();
    scene.story.clock.advance(DAY * 2);
    scene.one.rejoin(&scene.story).await.unwrap_err();
    scene.check("an old copy rejoins", [None; 2]);
}

/// The connection on which it says goodbye gets its answer and ends with it.
#[tokio::test]
async fn leaving() {
    let scene = Scene::set().await;
    let shell = &scene.story.shell;
    let rates = Arc::new(Rates::new(&RateLimits::default(), Arc::clone(&shell.metrics)));
    let conn = Arc::clone(scene.open[0][0].conn());
    let request = http::Request::post("/v1/leave")
        .header("content-type", "application/json")
        .extension(Arc::clone(&conn))
        .body(Body::empty())
        .unwrap();
    let response = router(shell, &rates, Face::Manage).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    scene.check("left", [None, Some(CloseReason::Killed)]);
    assert!(conn.closes_after_response());
}

/// The sessions of two people to a machine, under a policy that allows those of one of them no longer.
async fn under_a_new_policy(health: Health) -> (Rechecked, [Option<gateway::core::session::EndReason>; 3]) {
    let ops = "@id(\"ops\") permit(principal is Lychgate::Person in Lychgate::Group::\"ops\", \
               action == Lychgate::Action::\"connect\", resource);";
    let story = Story::with_policy(|text| format!("{text}\n{ops}")).await;
    let (alice, bob) = (story.first_person().await, story.person("bob", &["ops"]).await);
    let _machine = story.machine("edge-1").await;
    let ids = [&alice, &bob, &alice].map(|person| story.session(person, "edge-1"));
    assert_eq!(flow::sessions::recheck(&story.shell).await.ended, 0, "all of it is allowed");
    story.set_policy(str::to_owned);
    story.store.becomes(health);
    let rechecked = flow::sessions::recheck(&story.shell).await;
    let reasons = ids.map(|id| story.shell.sessions.get(&id).unwrap().reason());
    (rechecked, reasons)
}

#[tokio::test]
async fn a_new_policy() {
    let policy = Some(gateway::core::session::EndReason::Policy);
    let (rechecked, reasons) = under_a_new_policy(Health::Well).await;
    assert_eq!(reasons, [None, policy, None]);
    assert_eq!((rechecked.ended, rechecked.unasked.is_none()), (1, true));
    // A policy that cannot be asked denies, and not only what it was asked about first.
    let (rechecked, reasons) = under_a_new_policy(Health::Closed).await;
    assert_eq!(reasons, [policy; 3]);
    let (unasked, fault) = rechecked.unasked.unwrap();
    assert_eq!((rechecked.ended, unasked), (0, 3), "{fault}");
}

/// A lock says what it could not see to its end, and does not wait for ever.
#[tokio::test(start_paused = true)]
async fn what_does_not_end_is_counted() {
    for (stuck, left) in [(false, 0), (true, 1)] {
        let story = Story::new().await;
        let (alice, bob) = (story.first_person().await, story.person("bob", &[]).await);
        let _machine = story.machine("edge-1").await;
        let _ends = story.session(&bob, "edge-1");
        let hangs = stuck.then(|| story.seats(&bob, "edge-1"));
        let began = tokio::time::Instant::now();
        let ended = story.lock(&alice, "person", "bob").await.unwrap().ended.unwrap();
        let took = began.elapsed();
        assert_eq!((ended.sessions, ended.left), (1 + left, left));
        assert_eq!(took >= ENFORCE_TIME, stuck, "{took:?}");
        let enforced = story.events(&alice).await.into_iter().find(|event| event.event == "lock.enforced").unwrap();
        assert_eq!(enforced.detail["sessions"], (1 + left).to_string(), "{enforced:?}");
        assert_eq!(enforced.detail["left"], left.to_string(), "{enforced:?}");
        if let Some((session, conn)) = hangs {
            assert_eq!(session.session().reason(), Some(gateway::core::session::EndReason::Locked));
            assert_eq!(conn.conn().cut(), Some(CloseReason::Locked), "the connection under it is cut all the same");
        }
    }
}
