//! Stories of two gateways over one store: what is committed at one ends connections and sessions at both, and what a gateway does that
//! cannot reach its store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use gateway::core::session::EndReason;
use gateway::store::{Batch, Store as _};
use gateway::{
    core::{face::Face, records::LockKind},
    flow::{self, asked::MachineCorrection},
    limits::{ENFORCE_TIME, STORE_GRACE},
    registry::{
        live::{CloseReason, ConnGuard, NewConn},
        sessions::SessionGuard,
    },
};
use story::{DAY, Member, Story, store::Health};

/// A session of alice to `edge-1` at one gateway, over a connection of hers, and a connection of the machine.
struct Open {
    session: Option<SessionGuard>,
    hers: ConnGuard,
    its: ConnGuard,
}

impl Open {
    fn at(story: &Story, alice: &Member, machine: &Member) -> Self {
        let (session, hers) = story.seats(alice, "edge-1");
        let source = IpAddr::from(Ipv4Addr::LOCALHOST);
        let peer = Some(story.peer(&machine.issued));
        let its =
            story.shell.live.enter(NewConn { face: Face::Tunnel, requester: peer.into(), source, exporter: [0; 32] });
        Self { session: Some(session), hers, its }
    }

    fn ends(&self) -> (Option<EndReason>, Option<CloseReason>, Option<CloseReason>) {
        let session = self.session.as_ref().and_then(|seat| seat.session().reason());
        (session, self.hers.conn().reason(), self.its.conn().reason())
    }

    /// Waits until the session has been told.
    async fn told(&self) {
        let session = Arc::clone(self.session.as_ref().unwrap().session());
        tokio::time::timeout(ENFORCE_TIME, session.told()).await.expect("nobody told the session to end");
    }
}

/// Two gateways over one store, the same session open at both.
async fn both() -> (Story, Story, Member, Member, Open, Open) {
    let one = Story::new().await;
    let (alice, machine) = (one.first_person().await, one.machine("edge-1").await);
    one.admit(&one.peer(&machine.issued)).await.unwrap();
    alice.caller(&one).await;
    let other = one.another();
    let (here, there) = (Open::at(&one, &alice, &machine), Open::at(&other, &alice, &machine));
    (one, other, alice, machine, here, there)
}

#[tokio::test]
async fn a_lock_set_at_one_gateway_ends_sessions_at_the_other() {
    let (one, other, alice, machine, mut here, mut there) = both().await;
    for open in [&mut here, &mut there] {
        let seat = open.session.take().unwrap();
        let session = Arc::clone(seat.session());
        tokio::spawn(async move {
            session.told().await;
            drop(seat);
        });
    }
    let ids: Vec<_> = [&one, &other].iter().map(|story| story.shell.sessions.find(&sessions_all()).remove(0)).collect();
    let ended = one.lock(&alice, "machine", "edge-1").await.unwrap().ended.unwrap();
    assert_eq!((ended.sessions, ended.left), (1, 0), "what it ended here");
    tokio::time::timeout(ENFORCE_TIME, ids[1].ended()).await.expect("the session at the other gateway goes on");
    assert_eq!(ids.iter().map(|session| session.reason()).collect::<Vec<_>>(), [Some(EndReason::Locked); 2]);
    for open in [&here, &there] {
        assert_eq!((open.its.conn().reason(), open.hers.conn().reason()), (Some(CloseReason::Locked), None));
    }
    // Both write down how long it took them, under the id of the request that set it.
    let mut enforced = Vec::new();
    for _ in 0..200 {
        enforced = one.events(&alice).await;
        enforced.retain(|event| event.event == "lock.enforced");
        if enforced.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(enforced.len(), 2);
    assert!(enforced.iter().all(|event| event.instance == "story" && event.detail["sessions"] == "1"), "{enforced:?}");
    other.admit(&other.peer(&machine.issued)).await.unwrap_err();
}

fn sessions_all() -> gateway::registry::sessions::SessionSelector {
    gateway::registry::sessions::SessionSelector::All
}

#[tokio::test]
async fn locks_of_every_kind_and_a_fork_reach_the_other_gateway() {
    for kind in [LockKind::Machine, LockKind::Person, LockKind::Lineage, LockKind::Key] {
        let (one, _other, alice, machine, here, there) = both().await;
        let caller = machine.caller(&one).await;
        let target = match kind {
            LockKind::Machine => "edge-1".to_owned(),
            LockKind::Person => "alice".to_owned(),
            LockKind::Lineage => caller.lineage.record.id.clone(),
            LockKind::Key => caller.key.hex(),
        };
        drop(here.session);
        one.lock(&alice, kind.as_str(), &target).await.unwrap();
        there.told().await;
        let (its, hers) = match kind {
            LockKind::Person => (None, Some(CloseReason::Locked)),
            LockKind::Machine | LockKind::Lineage | LockKind::Key => (Some(CloseReason::Locked), None),
        };
        assert_eq!(there.ends(), (Some(EndReason::Locked), hers, its), "{kind:?}");
    }
    let (one, _other, _alice, machine, _here, there) = both().await;
    let copy = machine.cloned(&one);
    let renewed = machine.renew(&one).await.unwrap();
    one.admit(&one.peer(&renewed)).await.unwrap();
    copy.renew(&one).await.unwrap_err();
    there.told().await;
    assert_eq!(there.ends(), (Some(EndReason::Locked), None, Some(CloseReason::Locked)), "a fork");
}

#[tokio::test]
async fn a_removal_and_what_the_policy_no_longer_allows_reach_the_other_gateway() {
    let (one, _other, alice, _machine, here, there) = both().await;
    let caller = alice.caller(&one).await;
    flow::admin::remove(&one.shell, &caller, pki::Role::Machine, "edge-1", "i").await.unwrap();
    let killed = (Some(EndReason::Killed), None, Some(CloseReason::Killed));
    assert_eq!(here.ends(), killed, "the request has waited for it");
    there.told().await;
    assert_eq!(there.ends(), killed);

    let only_labelled = "@id(\"unlabelled\") forbid(principal, action == Lychgate::Action::\"connect\", resource) \
                         when { resource.machine.labels.contains(\"closed=1\") };";
    let (one, other, alice, _machine, here, there) = both().await;
    for story in [&one, &other] {
        story.set_policy(|text| format!("{text}\n{only_labelled}"));
    }
    let labels = [("closed".to_owned(), "1".to_owned())].into();
    let asked = MachineCorrection { labels, ..MachineCorrection::default() };
    flow::set::machine(&one.shell, &alice.caller(&one).await, "edge-1", &asked, "i").await.unwrap();
    assert_eq!(here.ends(), (Some(EndReason::Policy), None, None));
    there.told().await;
    assert_eq!(there.ends(), (Some(EndReason::Policy), None, None));
}

#[tokio::test]
async fn a_machine_that_is_renamed_ends_under_its_old_name_everywhere() {
    let (one, _other, alice, machine, here, there) = both().await;
    let asked = MachineCorrection { name: Some("edge-9".to_owned()), ..MachineCorrection::default() };
    flow::set::machine(&one.shell, &alice.caller(&one).await, "edge-1", &asked, "i").await.unwrap();
    let renewed = machine.renew(&one).await.unwrap();
    assert_eq!((here.ends().0, there.ends().0), (None, None), "it has not taken the name yet");
    one.admit(&one.peer(&renewed)).await.unwrap();
    there.told().await;
    for open in [&here, &there] {
        assert_eq!(open.ends(), (Some(EndReason::Replaced), None, Some(CloseReason::Drained)));
    }
}

/// What is written faster than it is heard is looked for when there is time.
#[tokio::test(start_paused = true)]
async fn what_the_watch_lost_is_found_by_looking() {
    let (one, other, alice, _machine, _here, there) = both().await;
    let slow = Open::at(&other, &alice, &one.machine("edge-2").await);
    other.store.becomes(Health::Hangs);
    one.lock(&alice, "machine", "edge-1").await.unwrap();
    for n in 0..400 {
        one.store.commit(Batch::default().delete(format!("subject/machine/nobody-{n}"))).await.unwrap();
    }
    assert_eq!(there.ends().0, None, "its store hangs");
    other.store.becomes(Health::Well);
    tokio::time::timeout(Duration::from_secs(20), there.session.as_ref().unwrap().session().told()).await.unwrap();
    assert_eq!(there.ends(), (Some(EndReason::Locked), None, Some(CloseReason::Locked)));
    assert_eq!(slow.its.conn().reason(), None, "nobody else is cut");
}

#[tokio::test(start_paused = true)]
async fn what_is_open_outlives_an_absence_of_the_store_and_not_more() {
    let (one, _other, _alice, _machine, here, _there) = both().await;
    one.clock.advance(DAY / 24);
    one.store.becomes(Health::Away);
    tokio::time::sleep(STORE_GRACE - Duration::from_secs(30)).await;
    assert_eq!(here.ends(), (None, None, None), "within the grace");
    one.store.becomes(Health::Well);
    tokio::time::sleep(Duration::from_secs(30)).await;
    one.store.becomes(Health::Away);
    tokio::time::sleep(STORE_GRACE - Duration::from_secs(30)).await;
    assert_eq!(here.ends(), (None, None, None), "it was back meanwhile");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let over = Some(CloseReason::Stopped);
    assert_eq!(here.ends(), (Some(EndReason::Drained), over, over), "no lock could be heard of for too long");
}
