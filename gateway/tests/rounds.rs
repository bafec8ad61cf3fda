//! How often each kind of request goes to the store before it decides: once for each link of the longest chain in which one record names
//! the next, and never once for each record. On a store elsewhere each is one round trip.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use std::{cell::RefCell, sync::Arc};

use gateway::{
    core::{face::Face, refusal::Refusal},
    flow::{
        self,
        asked::{LockWish, MachineCorrection, PolicyQuestion, RunReport, TokenWish},
        connect::{StreamOpener, WantedService},
        tokens::By,
    },
    registry::{live::NewConn, sessions::EntryPoint},
};
use story::{Story, Stranger};

/// What was counted and is not as it is written here: all of it is told at the end.
#[derive(Default)]
struct Counted(RefCell<Vec<String>>);

impl Counted {
    /// Holds something to a number of rounds.
    async fn takes<T>(&self, story: &Story, rounds: usize, what: &str, asked: impl Future<Output = T>) -> T {
        story.store.rounds();
        let done = asked.await;
        let got = story.store.rounds();
        if got != rounds {
            self.0.borrow_mut().push(format!("{what}: {got} rounds, and not {rounds}"));
        }
        done
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let wrong = self.0.take();
        assert!(wrong.is_empty() || std::thread::panicking(), "{wrong:#?}");
    }
}

impl Story {
    /// A request that waits, and who made it.
    async fn waits(&self, name: &str, net: u8) -> (Stranger, String) {
        let stranger = self.stranger().from(net);
        let id = stranger.ask(name).await.waiting().id;
        (stranger, id)
    }
}

/// Who is there: the queue was read, so that nobody reads it for the first time in a row below.
async fn house() -> (Story, story::Member) {
    let story = Story::new().await;
    let alice = story.first_person().await;
    story.waits("first", 200).await;
    (story, alice)
}

#[tokio::test]
async fn joining() {
    let (story, alice) = house().await;
    let counted = Counted::default();
    let shell = &story.shell;
    let wish = TokenWish { uses: Some(9), ..TokenWish::default() };
    let of_gateway = story.token(wish.clone()).await;
    let by = By::Person(&alice.caller(&story).await);
    let actor = flow::shell::Actor { who: "alice", instance: "i" };
    let of_person = flow::tokens::make(shell, &wish, by, &actor).await.unwrap().token;
    let named = story.token(TokenWish { names: vec!["edge-named".into()], ..TokenWish::default() }).await;

    counted.takes(&story, 1, "a newcomer without evidence", story.stranger().ask("edge-1")).await.waiting();
    // The token; who made it, with the locks on them.
    let newcomer = story.stranger();
    counted
        .takes(&story, 2, "a newcomer with a token of the gateway", newcomer.join(&of_gateway, "edge-2"))
        .await
        .unwrap()
        .issued();
    counted
        .takes(&story, 2, "a newcomer with a token of a person", story.stranger().join(&of_person, "edge-3"))
        .await
        .unwrap();
    // The index, the request, its lineage, its certificate.
    counted.takes(&story, 4, "the same again", newcomer.join(&of_gateway, "edge-2")).await.unwrap().issued();
    // The token, who made it, and the name that it alone gives.
    counted.takes(&story, 2, "a token that names", story.stranger().join(&named, "edge-named")).await.unwrap().issued();
    let (waiting, id) = story.waits("edge-4", 7).await;
    // The index, the request.
    counted.takes(&story, 2, "one who waits, again", waiting.ask("edge-4")).await.waiting();
    counted.takes(&story, 2, "a poll that waits", waiting.poll(&id)).await.unwrap().waiting();
    let code = waiting.code(&waiting.ask("edge-4").await.waiting());
    story.approve(&alice, &id, &code).await.unwrap();
    // The request, its lineage, who has its name.
    counted.takes(&story, 3, "a poll that was approved", waiting.poll(&id)).await.unwrap().issued();
    counted.takes(&story, 3, "a poll that was issued", waiting.poll(&id)).await.unwrap().issued();

    let machine = story.machine("edge-5").await;
    story.admit(&story.peer(&machine.issued)).await.unwrap();
    story.clock.advance(story::DAY * 2);
    // The certificate, its lineage, the locks on that.
    counted.takes(&story, 3, "one who comes back by an old certificate", machine.rejoin(&story)).await.unwrap();
}

#[tokio::test]
async fn whoever_has_a_certificate() {
    let (story, alice) = house().await;
    let counted = Counted::default();
    let shell = &story.shell;
    let token = story.token(TokenWish { owner: Some("alice".into()), ..TokenWish::default() }).await;
    let newcomer = story.stranger();
    let issued = newcomer.join(&token, "edge-1").await.unwrap().issued();
    let machine = newcomer.into_member(issued);
    let peer = story.peer(&machine.issued);
    counted.takes(&story, 2, "the first use", story.admit(&peer)).await.unwrap();
    counted.takes(&story, 2, "every other", story.admit(&peer)).await.unwrap();
    counted.takes(&story, 2, "a person", story.admit(&story.peer(&alice.issued))).await.unwrap();

    // What it heard when it last looked is a read of the test's.
    counted
        .takes(&story, 1 + 2 + 1, "a renewal: admitted, then the locks on the new key", machine.renew(&story))
        .await
        .unwrap();
    let caller = machine.caller(&story).await;
    // A key that is not its own.
    let csr = story.machine("edge-2").await.csr();
    counted.takes(&story, 1, "a sealed service", flow::sealed::sealed(shell, &caller, &csr, "i")).await.unwrap();

    let conn = NewConn {
        face: Face::Proxy,
        requester: story.peer(&alice.issued).into(),
        source: [127, 0, 0, 1].into(),
        exporter: [1; 32],
    };
    let conn = shell.live.enter(conn);
    let lineage = alice.caller(&story).await.lineage.record.id;
    let opener =
        StreamOpener { peer: Arc::new(story.peer(&alice.issued)), conn: conn.conn(), lineage: &lineage, tunnel: None };
    let wanted = WantedService { service: "ssh".into(), machine: "edge-1".into() };
    // The machine, its lineage, the locks on its keys; the caller beside them.
    let opened = flow::connect::allow(shell, &opener, EntryPoint::Connect, &wanted);
    let refused = counted.takes(&story, 3, "a connection to a service", opened).await.unwrap_err();
    assert!(matches!(refused, Refusal::Service(_)), "{refused:?}: it has no tunnel");
    let caller = &alice.caller(&story).await;
    let (from, until) = (shell.now().secs(), shell.now().secs() + 1);
    let run = RunReport { tool: "ansible".into(), started: from, finished: until, ..RunReport::default() };
    counted.takes(&story, 3, "a report", flow::reports::report(shell, caller, "edge-1", &run, "i")).await.unwrap();
}

#[tokio::test]
async fn people_about_others() {
    let (story, alice) = house().await;
    let counted = Counted::default();
    let shell = &story.shell;
    story.machine("edge-1").await;
    story.person("bob", &["staff"]).await;
    let caller = &alice.caller(&story).await;

    let subject = |role, name| flow::admin::subject(shell, caller, role, name);
    counted.takes(&story, 3, "a machine", subject(pki::Role::Machine, "edge-1")).await.unwrap();
    counted.takes(&story, 3, "a person", subject(pki::Role::Person, "bob")).await.unwrap();
    let asked = |action: &str, resource: &str| PolicyQuestion { action: action.into(), resource: resource.into() };
    let connect = asked("connect", "ssh@edge-1");
    counted.takes(&story, 3, "whether one may connect", flow::can_i::can_i(shell, caller, &connect)).await.unwrap();
    let approve = asked("approve", "first");
    counted.takes(&story, 1, "whether one may approve", flow::can_i::can_i(shell, caller, &approve)).await.unwrap();

    let wish = LockWish { kind: "machine".into(), target: "edge-1".into(), reason: "stolen".into() };
    let lock = flow::admin::lock(shell, caller, &wish, "i");
    counted.takes(&story, 3, "a lock on a machine", lock).await.unwrap();
    let unlock = flow::admin::unlock(shell, caller, "machine", "edge-1", "i");
    counted.takes(&story, 3, "lifting it", unlock).await.unwrap();
    let labels = [("site".to_owned(), "oslo".to_owned())].into();
    let set = MachineCorrection { labels, ..MachineCorrection::default() };
    // And how it stands then.
    counted.takes(&story, 3 + 1, "a label", flow::set::machine(shell, caller, "edge-1", &set, "i")).await.unwrap();
    let remove = flow::admin::remove(shell, caller, pki::Role::Machine, "edge-1", "i");
    // It, its lineage, the locks on its keys; what rests on the lineage.
    counted.takes(&story, 3 + 1, "a removal", remove).await.unwrap();

    let (newcomer, id) = story.waits("edge-2", 8).await;
    let code = newcomer.code(&newcomer.ask("edge-2").await.waiting());
    counted.takes(&story, 2, "a request", flow::people::show(shell, caller, &id)).await.unwrap();
    // Whoever approves is admitted first.
    counted.takes(&story, 2 + 2, "an approval", story.approve(&alice, &id, &code)).await.unwrap();
    let (_, id) = story.waits("edge-3", 9).await;
    counted.takes(&story, 1, "a denial", flow::people::deny(shell, caller, &id, "no", "i")).await.unwrap();
    counted.takes(&story, 1, "taking it back", flow::people::reopen(shell, caller, &id, "i")).await.unwrap();
    let made = counted
        .takes(&story, 0, "a token", flow::tokens::create(shell, caller, &TokenWish::default(), "i"))
        .await
        .unwrap();
    counted.takes(&story, 1, "revoking it", flow::tokens::revoke(shell, caller, &made.id, "i")).await.unwrap();
}

/// However many rows a page has.
#[tokio::test]
async fn lists() {
    for count in [1, 100] {
        let (story, alice) = house().await;
        let counted = Counted::default();
        let shell = &story.shell;
        let token = story.token(TokenWish { uses: Some(200), ..TokenWish::default() }).await;
        for at in 0..count {
            story.stranger().join(&token, &format!("edge-{at}")).await.unwrap().issued();
            story.token(TokenWish::default()).await;
        }
        for net in 1..4 {
            story.waits("edge-0", net).await;
        }
        let caller = &alice.caller(&story).await;
        let machines = flow::admin::subjects(shell, caller, pki::Role::Machine, None, 100);
        // The page; the lineages; the locks on their keys.
        let page = counted.takes(&story, 3, "machines", machines).await.unwrap();
        assert_eq!((page.items.len(), page.next.is_some()), (count, false));
        let people = flow::admin::subjects(shell, caller, pki::Role::Person, None, 100);
        counted.takes(&story, 3, "people", people).await.unwrap();
        let filter = flow::admin::MachineFilter { name: Some("edge-*".into()), ..Default::default() };
        let machines = flow::admin::machines(shell, caller, &filter, None, 100);
        counted.takes(&story, 3, "some machines", machines).await.unwrap();
        // The page, the requests, who has their names: whole.
        let requests = flow::people::list(shell, caller, false, None, 100);
        counted.takes(&story, 5, "requests", requests).await.unwrap();
        let tokens = flow::tokens::list(shell, caller, None, 100);
        counted.takes(&story, 1, "tokens", tokens).await.unwrap();
        counted.takes(&story, 1, "locks", flow::admin::list_locks(shell, caller, None, 100)).await.unwrap();
    }
}
