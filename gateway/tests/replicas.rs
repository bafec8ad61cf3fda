//! Stories of two gateways over one store: what one says of itself there, and for how long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use std::{net::IpAddr, sync::Arc, time::Duration};

use gateway::{
    core::{
        refusal::{Refusal, Unreached},
        session::{EndReason, Mode, Offer},
    },
    flow::{
        self,
        admin::MachineFilter,
        asked::MachineCorrection,
        connect::{Allowed, StreamOpener, WantedService},
        lease,
        locate::{Located, locate},
        renew_now::{self, Whom},
        tunnel_records,
        views::TunnelDetails,
    },
    registry::{
        sessions::EntryPoint,
        tunnels::{COMMANDS, NewTunnel, Tunnel, TunnelCommand},
    },
    store::{Batch, Change, Key, Store as _},
};
use story::{Member, Story, minutes, store::Health};
use tokio::{sync::mpsc, time::timeout};
use transport::{mux::LastHeard, streams::StreamCount};

/// How long a test waits for what happens beside it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something is so, in the time of the test.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..400 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within 20 s");
}

async fn stands(story: &Story, key: &str) -> bool {
    story.store.inner().read(&[Key::from(key)]).await.unwrap().entries[0].is_some()
}

/// A minute passes for both gateways, in steps in which each keeps its lease.
async fn a_minute(story: &Story) {
    for _ in 0..12 {
        story.clock.advance(Duration::from_secs(5));
        tokio::time::sleep(Duration::from_secs(5)).await;
        story.store.inner().lapse(story.shell.clock.uptime()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_under_a_gateways_lease_goes_with_it() {
    let one = Story::new().await;
    let other = one.another();
    let keeping = [&one, &other].map(|story| lease::start(&story.shell));
    until("both have a lease", async || [&one, &other].iter().all(|story| story.shell.lease.current().is_some())).await;
    for (story, key) in [(&one, "meta/order"), (&other, "meta/clock")] {
        let lease = story.shell.lease.current().unwrap();
        story.store.commit(Batch::default().put_leased(key, *b"0", lease)).await.unwrap();
    }
    a_minute(&one).await;
    assert!(stands(&one, "meta/order").await && stands(&one, "meta/clock").await, "both are kept");

    // One hangs, and takes up another lease when it goes on.
    let before = other.shell.lease.current();
    other.store.becomes(Health::Away);
    a_minute(&one).await;
    assert_eq!(other.shell.lease.current(), before, "it cannot know");
    assert!(stands(&one, "meta/order").await && !stands(&one, "meta/clock").await);
    other.store.becomes(Health::Well);
    until("it has another", async || ![before, None].contains(&other.shell.lease.current())).await;

    // One stops in order.
    keeping.iter().for_each(tokio::task::JoinHandle::abort);
    lease::give_up(&one.shell).await;
    assert!(!stands(&one, "meta/order").await);
    assert_eq!(one.shell.lease.current(), None);
}

/// A tunnel of a machine at one gateway, without a connection.
struct Up {
    tunnel: Arc<Tunnel>,
    commands: mpsc::Receiver<TunnelCommand>,
}

impl Up {
    fn at(story: &Story, machine: &Member, source: [u8; 4]) -> Self {
        Self::of(story, story.peer(&machine.issued), &machine.issued.id, source)
    }

    fn of(story: &Story, peer: pki::Peer, lineage: &str, source: [u8; 4]) -> Self {
        let (to, commands) = mpsc::channel(COMMANDS);
        let new = NewTunnel {
            number: story.shell.tunnels.number(),
            lineage: lineage.to_owned(),
            source: IpAddr::from(source),
            since: story.shell.now(),
            peer: Arc::new(peer),
            services: vec![Offer { name: "ssh".to_owned(), mode: Mode::Raw }],
            commands: to,
            streams: StreamCount::default(),
            heard: LastHeard::new(),
        };
        let tunnel = Tunnel::new(new);
        assert!(story.shell.tunnels.enter(&tunnel).is_none());
        Self { tunnel, commands }
    }

    /// What its task is told next.
    async fn told(&mut self) -> TunnelCommand {
        timeout(PATIENCE, self.commands.recv()).await.expect("nothing is said to the tunnel").unwrap()
    }

    /// Its task is told to end, and does.
    async fn replaced_by(mut self, story: &Story, gateway: &str) {
        let TunnelCommand::End(end) = self.told().await else { panic!("not an end") };
        assert_eq!(end.reason, EndReason::Replaced);
        assert_eq!(end.detail, format!("the machine came back at the gateway `{gateway}`"));
        story.shell.tunnels.leave(&self.tunnel);
    }
}

/// Two gateways over one store, with everything that goes on beside serving.
async fn both() -> (Story, Story, Member, Member) {
    let one = Story::new().await;
    let (alice, machine) = (one.first_person().await, one.machine("edge-1").await);
    one.admit(&one.peer(&machine.issued)).await.unwrap();
    alice.caller(&one).await;
    let other = one.another();
    for story in [&one, &other] {
        drop((lease::start(&story.shell), tunnel_records::start(&story.shell), renew_now::start(&story.shell)));
    }
    (one, other, alice, machine)
}

async fn located(story: &Story, machine: &Member) -> Located {
    let identity = story.peer(&machine.issued).identity;
    story.shell.look(|look| locate(&story.shell, look, &identity)).await.unwrap()
}

/// Waits until a gateway says that the tunnel is there, or nowhere.
async fn is_at(story: &Story, machine: &Member, gateway: Option<&str>) {
    until(&format!("the tunnel is at {gateway:?}"), async || match (located(story, machine).await, gateway) {
        (Located::Remote(at), Some(gateway)) => at.as_str() == gateway,
        (Located::Nowhere, None) => true,
        (Located::Local(_) | Located::Remote(_) | Located::Nowhere, _) => false,
    })
    .await;
}

async fn shown(story: &Story, alice: &Member) -> Option<TunnelDetails> {
    let filter = MachineFilter::default();
    let page = flow::admin::machines(&story.shell, &alice.caller(story).await, &filter, None, 10).await.unwrap();
    page.items.into_iter().next().unwrap().tunnel
}

async fn connect(story: &Story, alice: &Member) -> Result<Allowed, Refusal> {
    let (_session, conn) = story.seats(alice, "edge-1");
    let lineage = &alice.caller(story).await.lineage.record.id;
    let caller = StreamOpener { peer: Arc::new(story.peer(&alice.issued)), conn: conn.conn(), lineage, tunnel: None };
    let wanted = WantedService { service: "ssh".to_owned(), machine: "edge-1".to_owned() };
    flow::connect::allow(&story.shell, &caller, EntryPoint::Connect, &wanted).await
}

#[tokio::test]
async fn each_gateway_knows_where_a_tunnel_is() {
    let (one, other, alice, machine) = both().await;
    let offline = Refusal::Service(Unreached::Offline { machine: "edge-1".to_owned() });
    assert_eq!(connect(&other, &alice).await.unwrap_err(), offline);
    let up = Up::at(&one, &machine, [192, 0, 2, 1]);
    assert!(matches!(located(&one, &machine).await, Located::Local(tunnel) if Arc::ptr_eq(&tunnel, &up.tunnel)));
    connect(&one, &alice).await.unwrap();
    is_at(&other, &machine, Some("a")).await;
    let elsewhere = Unreached::Elsewhere { machine: "edge-1".to_owned(), gateway: one.shell.replica.name.clone() };
    assert_eq!(connect(&other, &alice).await.unwrap_err(), elsewhere.into());
    let (here, there) = (shown(&one, &alice).await.unwrap(), shown(&other, &alice).await.unwrap());
    assert_eq!((there.since, there.source, there.services.len()), (here.since, here.source, 1));

    // Another service, and then no tunnel any more.
    let services = ["ssh", "web"].map(|name| Offer { name: name.to_owned(), mode: Mode::Sealed });
    one.shell.tunnels.exposes(&up.tunnel, services.to_vec());
    until("both services are shown", async || {
        shown(&other, &alice).await.unwrap().services.iter().filter(|service| service.sealed).count() == 2
    })
    .await;
    one.shell.tunnels.leave(&up.tunnel);
    is_at(&other, &machine, None).await;
    assert!(shown(&other, &alice).await.is_none());
    assert_eq!(connect(&other, &alice).await.unwrap_err(), offline);

    // It is up again, and its gateway stops.
    let again = Up::at(&one, &machine, [192, 0, 2, 1]);
    is_at(&other, &machine, Some("a")).await;
    lease::give_up(&one.shell).await;
    is_at(&other, &machine, None).await;
    drop(again);
}

#[tokio::test]
async fn the_newest_tunnel_wins_at_whichever_gateway() {
    let (one, other, alice, machine) = both().await;
    let first = Up::at(&one, &machine, [192, 0, 2, 1]);
    is_at(&other, &machine, Some("a")).await;
    let second = Up::at(&other, &machine, [192, 0, 2, 1]);
    first.replaced_by(&one, "b").await;
    is_at(&one, &machine, Some("b")).await;
    assert!(one.events(&alice).await.iter().all(|event| event.event != "tunnel.twice"), "from the same address");
    // From another address it may be a copy.
    let third = Up::at(&one, &machine, [198, 51, 100, 7]);
    second.replaced_by(&other, "a").await;
    is_at(&other, &machine, Some("a")).await;
    until("it is noted", async || one.events(&alice).await.iter().any(|event| event.event == "tunnel.twice")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(matches!(located(&one, &machine).await, Located::Local(_)));
    is_at(&other, &machine, Some("a")).await;
    drop(third);
}

/// What the watch does not tell is found by looking at everything.
#[tokio::test(start_paused = true)]
async fn a_newer_tunnel_that_was_not_heard_of_is_found() {
    let (one, other, _alice, machine) = both().await;
    let first = Up::at(&one, &machine, [192, 0, 2, 1]);
    is_at(&other, &machine, Some("a")).await;
    one.store.becomes(Health::Hangs);
    let _second = Up::at(&other, &machine, [192, 0, 2, 1]);
    until("it is written", async || stands(&other, "tunnel/edge-1").await).await;
    for n in 0..400 {
        other.store.commit(Batch::default().delete(format!("subject/machine/nobody-{n}"))).await.unwrap();
    }
    one.store.becomes(Health::Well);
    first.replaced_by(&one, "b").await;
}

/// Who holds a machine's tunnel, as the store has it.
async fn written(story: &Story) -> Option<String> {
    let found = story.store.inner().read(&[Key::from("tunnel/edge-1")]).await.unwrap().entries.remove(0)?;
    let record: serde_json::Value = serde_json::from_slice(&found.value).unwrap();
    Some(record["gateway"].as_str().unwrap().to_owned())
}

/// The other gateway's tunnel came and went while this one heard nothing: the one here is still up, and is to be found.
#[tokio::test(start_paused = true)]
async fn a_tunnel_whose_record_was_overwritten_is_written_down_again() {
    let (one, other, _alice, machine) = both().await;
    let _first = Up::at(&one, &machine, [192, 0, 2, 1]);
    is_at(&other, &machine, Some("a")).await;
    one.store.becomes(Health::Hangs);
    let second = Up::at(&other, &machine, [192, 0, 2, 1]);
    until("the other wrote its own", async || written(&other).await.as_deref() == Some("b")).await;
    other.shell.tunnels.leave(&second.tunnel);
    until("it is gone", async || written(&other).await.is_none()).await;
    one.store.becomes(Health::Well);
    is_at(&other, &machine, Some("a")).await;
}

/// What ends older tunnels may have looked before this one came up.
#[tokio::test(start_paused = true)]
async fn a_tunnel_that_cannot_be_written_down_is_ended() {
    let (one, other, _alice, machine) = both().await;
    one.enforcer.abort();
    let _newer = Up::at(&other, &machine, [192, 0, 2, 1]);
    until("the other wrote its own", async || written(&other).await.as_deref() == Some("b")).await;
    Up::at(&one, &machine, [192, 0, 2, 1]).replaced_by(&one, "b").await;
    assert_eq!(written(&one).await.as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_stays_up_while_the_store_is_away() {
    let (one, other, _alice, machine) = both().await;
    until("it has a lease", async || one.shell.lease.current().is_some()).await;
    one.store.becomes(Health::Away);
    let mut up = Up::at(&one, &machine, [192, 0, 2, 1]);
    a_minute(&one).await;
    assert!(matches!(located(&one, &machine).await, Located::Local(_)));
    assert!(matches!(located(&other, &machine).await, Located::Nowhere));
    one.store.becomes(Health::Well);
    is_at(&other, &machine, Some("a")).await;
    // Its lease lapses while it is up, and it takes up another.
    one.store.becomes(Health::Away);
    a_minute(&one).await;
    assert!(matches!(located(&other, &machine).await, Located::Nowhere));
    one.store.becomes(Health::Well);
    is_at(&other, &machine, Some("a")).await;
    assert!(up.commands.try_recv().is_err(), "it was told nothing");
}

/// Whoever comes back does not wait for the store, and a fleet is no fleet of commits.
#[tokio::test(start_paused = true)]
async fn a_fleet_that_comes_back_is_written_down_together() {
    let (one, other, _alice, machine) = both().await;
    until("it has a lease", async || one.shell.lease.current().is_some()).await;
    let mut watch = other.store.watch(vec![Key::from("tunnel/")]);
    let ups: Vec<Up> = (0..1_000)
        .map(|n| {
            let mut peer = one.peer(&machine.issued);
            peer.identity.name = pki::Name::parse(&format!("m-{n}")).unwrap();
            Up::of(&one, peer, "l", [192, 0, 2, 1])
        })
        .collect();
    let (mut commits, mut keys) = (0, 0);
    while keys < ups.len() {
        match timeout(PATIENCE, watch.next()).await.unwrap() {
            Some(Change::Written { keys: some, .. }) => (commits, keys) = (commits + 1, keys + some.len()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((commits, keys), (10, 1_000));
}

#[tokio::test]
async fn a_call_to_renew_reaches_tunnels_at_the_other_gateway() {
    let (one, other, alice, machine) = both().await;
    let mut up = Up::at(&other, &machine, [192, 0, 2, 1]);
    for whom in [Whom::Named(["edge-1".to_owned()].into()), Whom::All] {
        one.clock.advance(minutes(6));
        renew_now::ask(&one.shell, &alice.caller(&one).await, &whom, "new authority", "story").await.unwrap();
        assert!(matches!(up.told().await, TunnelCommand::RenewNow), "{whom:?}");
    }
    one.clock.advance(minutes(6));
    let asked = MachineCorrection { name: Some("edge-9".to_owned()), ..MachineCorrection::default() };
    flow::set::machine(&one.shell, &alice.caller(&one).await, "edge-1", &asked, "i").await.unwrap();
    assert!(matches!(up.told().await, TunnelCommand::RenewNow), "to be called otherwise");
    // What else is written of the machine is no call.
    let renewed = machine.renew(&one).await.unwrap();
    one.admit(&one.peer(&renewed)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(up.commands.try_recv().is_err());
}
