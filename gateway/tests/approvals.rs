//! Stories of approvals: what counts together, who still counts at the end, and two who decide at the same moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::flow::views::RequestDetails;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use gateway::{
    core::{
        approve::{Approve, CodeCheck, UNCHECKED, Wish},
        refusal::{Conflict, Refusal},
    },
    flow,
    store::{Batch, BoxFuture, CommitError, Key, LeaseId, ReadError, ScanPage, Snapshot, Store, Version, Watch},
};
use story::{Member, Story, Stranger};
use tokio::sync::Notify;
use wire::enroll::WaitingReply;

/// What an approver gives.
#[derive(Clone, Copy, Default)]
struct Gives {
    name: Option<&'static str>,
    label: Option<&'static str>,
    owner: Option<&'static str>,
    unchecked: bool,
}

const PLAIN: Gives = Gives { name: None, label: None, owner: None, unchecked: false };

/// A gateway where two must approve, three administrators, and a machine at the gate.
struct Gate {
    story: Story,
    people: BTreeMap<&'static str, Member>,
    machine: Stranger,
    waiting: WaitingReply,
}

fn two(text: &str) -> String {
    text.replace("@approvals(\"1\")", "@approvals(\"2\")")
}

impl Gate {
    async fn with_policy(change: impl Fn(&str) -> String) -> Self {
        let story = Story::with_policy(change).await;
        let mut people = BTreeMap::from([("alice", story.first_person().await)]);
        for name in ["bob", "carol"] {
            people.insert(name, story.person(name, &["admins"]).await);
        }
        let machine = story.stranger();
        let waiting = machine.ask("edge-07").await.waiting();
        Self { story, people, machine, waiting }
    }

    async fn approve(&self, by: &str, wish: Wish, unchecked: bool) -> Result<RequestDetails, Refusal> {
        let code = if unchecked { CodeCheck::NotChecked } else { CodeCheck::Typed(self.machine.code(&self.waiting)) };
        let caller = self.people[by].caller(&self.story).await;
        flow::people::approve(&self.story.shell, &caller, &self.waiting.id, &Approve { code, wish }, "i").await
    }

    async fn give(&self, by: &str, gives: Gives) -> Result<RequestDetails, Refusal> {
        let labels = gives.label.map(|value| ("env".to_owned(), value.to_owned())).into_iter().collect();
        let wish = Wish::Own { name: gives.name.map(str::to_owned), labels, owner: gives.owner.map(str::to_owned) };
        self.approve(by, wish, gives.unchecked).await
    }

    async fn shown(&self) -> RequestDetails {
        let carol = self.people["carol"].caller(&self.story).await;
        flow::people::show(&self.story.shell, &carol, &self.waiting.id).await.unwrap()
    }
}

/// Each row: what alice gives, what bob gives, and whether that is one content.
#[tokio::test]
async fn two_approve_the_same_or_nothing() {
    let unchecked = Gives { unchecked: true, ..PLAIN };
    let label = |label| Gives { label: Some(label), ..PLAIN };
    let owner = |owner| Gives { owner: Some(owner), ..PLAIN };
    let name = |name| Gives { name: Some(name), ..PLAIN };
    for (index, (first, second, same)) in [
        (PLAIN, PLAIN, true),
        (name("edge-07"), PLAIN, true),
        (unchecked, unchecked, true),
        (label("lab"), label("lab"), true),
        (owner("carol"), owner("carol"), true),
        (PLAIN, name("prod-db"), false),
        (PLAIN, label("prod"), false),
        (PLAIN, owner("bob"), false),
        (PLAIN, unchecked, false),
        (unchecked, PLAIN, false),
        (label("lab"), PLAIN, false),
        (label("lab"), label("prod"), false),
        (owner("bob"), owner("carol"), false),
    ]
    .into_iter()
    .enumerate()
    {
        // Without the rule that two type the code, which is not what is tried here.
        let gate = Gate::with_policy(|text| {
            two(text).replace("!resource.approval.code_checked", "resource.approval.name == \"nobody\"")
        })
        .await;
        assert_eq!(gate.give("alice", first).await.unwrap().state, "waiting", "{index}");
        let after = gate.give("bob", second).await.unwrap();
        assert_eq!(after.state == "approved", same, "{index}");
        if same {
            continue;
        }
        // Both are shown, and a third completes either of them by what it is.
        let shown = gate.shown().await;
        let given: Vec<(&str, &str)> =
            shown.approvals.iter().map(|one| (one.by.as_str(), one.content.as_deref().unwrap())).collect();
        let [("alice", of_alice), ("bob", of_bob)] = given[..] else { panic!("{index}: {given:?}") };
        assert_ne!(of_alice, of_bob, "{index}");
        let unchecked = first.unchecked;
        let done = gate.approve("carol", Wish::SameAs(of_alice.to_owned()), unchecked).await.unwrap();
        assert_eq!(done.state, "approved", "{index}");
        assert_eq!(done.name.as_deref(), first.name.or(Some("edge-07")), "{index}");
        let who: Vec<&str> = done.approvals.iter().map(|one| one.by.as_str()).collect();
        assert_eq!(who, ["alice", "carol"], "{index}: what bob gave is not in it");
        let last = &done.approvals[1];
        let labels = first.label.map(|value| ("env".to_owned(), value.to_owned())).into_iter().collect();
        assert_eq!((&last.labels, last.owner.as_deref()), (&labels, first.owner), "{index}");
    }
}

#[tokio::test]
async fn a_person_counts_once_and_may_change_their_mind() {
    let gate = Gate::with_policy(two).await;
    let lab = Gives { label: Some("lab"), ..PLAIN };
    gate.give("alice", PLAIN).await.unwrap();
    assert!(matches!(gate.give("alice", PLAIN).await.unwrap_err(), Refusal::Conflict(_)));
    assert_eq!(gate.give("alice", lab).await.unwrap().approvals.len(), 1);
    assert_eq!(gate.give("bob", PLAIN).await.unwrap().state, "waiting", "alice has taken that back");
    let gone = gate.approve("carol", Wish::SameAs("0".repeat(32)), false).await.unwrap_err();
    assert!(matches!(gone, Refusal::Conflict(_)), "{gone:?}");
    assert_eq!(gate.give("bob", lab).await.unwrap().state, "approved");
    let shown = gate.shown().await;
    assert_eq!(shown.approvals.len(), 2);
}

/// Where two must approve, the default policy has each of them type the code.
#[tokio::test]
async fn two_need_the_code() {
    let gate = Gate::with_policy(two).await;
    let refused = gate.give("alice", Gives { unchecked: true, ..PLAIN }).await.unwrap_err();
    assert_eq!(refused, Refusal::Denied { rules: vec!["two-check-the-code".into()], action: UNCHECKED });
    gate.give("alice", PLAIN).await.unwrap();
    assert!(gate.give("bob", Gives { unchecked: true, ..PLAIN }).await.is_err());
    // Whoever turns it away needs none.
    let bob = gate.people["bob"].caller(&gate.story).await;
    flow::people::deny(&gate.story.shell, &bob, &gate.waiting.id, "not ours", "i").await.unwrap();
}

/// Whose approval counts no more when the last one comes.
#[tokio::test]
async fn earlier_approvals_are_judged_again() {
    for what in ["nothing", "locked", "lineage locked", "key locked", "removed", "came back", "no longer permitted"] {
        let gate = Gate::with_policy(two).await;
        gate.give("alice", PLAIN).await.unwrap();
        let (story, carol) = (&gate.story, &gate.people["carol"]);
        let alice = gate.people["alice"].caller(story).await;
        let remove = async || {
            let by = carol.caller(story).await;
            flow::admin::remove(&story.shell, &by, pki::Role::Person, "alice", "i").await.unwrap();
        };
        match what {
            "locked" => drop(story.lock(carol, "person", "alice").await.unwrap()),
            "lineage locked" => drop(story.lock(carol, "lineage", &alice.lineage.record.id).await.unwrap()),
            "key locked" => drop(story.lock(carol, "key", &alice.key.hex()).await.unwrap()),
            "removed" => remove().await,
            "came back" => {
                remove().await;
                story.person("alice", &["admins"]).await;
            }
            "no longer permitted" => story.set_policy(|text| {
                let alice = "principal.name == \"alice\"";
                let rule = format!("permit(principal is Lychgate::Person, action == Lychgate::Action::\"approve\", resource) when {{ {alice} }};");
                format!("{}\n@id(\"not-alice\") {}", two(text), rule.replace("permit", "forbid"))
            }),
            _ => {}
        }
        let after = gate.give("bob", PLAIN).await.unwrap();
        assert_eq!(after.state == "approved", what == "nothing", "{what}");
        if what != "nothing" {
            let who: Vec<&str> = after.approvals.iter().map(|one| one.by.as_str()).collect();
            assert_eq!(who, ["bob"], "{what}");
            let events = story.events(&gate.people["bob"]).await;
            let fallen = |name: &str| {
                events.iter().filter(|event| event.detail.get("fallen").is_some_and(|who| who == name)).count()
            };
            assert_eq!(fallen("alice"), 1, "{what}");
        }
    }
}

/// A store that stops once before its `at`th step, until it is told to go on.
struct Stopping {
    inner: Arc<dyn Store>,
    left: AtomicUsize,
    reached: Notify,
    go: Notify,
}

impl Stopping {
    async fn step(&self) {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left == Ok(1) {
            self.reached.notify_one();
            self.go.notified().await;
        }
    }
}

/// The same, where two hold it.
struct Shared(Arc<Stopping>);

impl Store for Shared {
    fn read<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Snapshot, ReadError>> {
        Box::pin(async move {
            self.0.step().await;
            self.0.inner.read(keys).await
        })
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a Key,
        after: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<ScanPage, ReadError>> {
        self.0.inner.scan(prefix, after, limit)
    }

    fn scan_back<'a>(
        &'a self,
        prefix: &'a Key,
        before: Option<&'a Key>,
        limit: usize,
    ) -> BoxFuture<'a, Result<ScanPage, ReadError>> {
        self.0.inner.scan_back(prefix, before, limit)
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Version, CommitError>> {
        let both = Arc::clone(&self.0);
        Box::pin(async move {
            both.step().await;
            both.inner.commit(batch).await
        })
    }

    fn lease(&self, ttl: Duration, now: Duration) -> BoxFuture<'static, Result<LeaseId, CommitError>> {
        self.0.inner.lease(ttl, now)
    }

    fn keep_alive(&self, lease: LeaseId, now: Duration) -> BoxFuture<'static, Result<(), CommitError>> {
        self.0.inner.keep_alive(lease, now)
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'static, Result<(), CommitError>> {
        self.0.inner.revoke(lease)
    }

    fn lapse(&self, now: Duration) -> BoxFuture<'static, Result<(), CommitError>> {
        self.0.inner.lapse(now)
    }

    fn watch(&self, prefixes: Vec<Key>) -> Watch {
        self.0.inner.watch(prefixes)
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.0.inner.close()
    }
}

/// One of two approvers is stopped before each step it takes in turn, and the other approves meanwhile. Whoever comes second
/// hears what became of the request, never that its own machine has the name.
#[tokio::test]
async fn two_approvers_at_the_same_moment() {
    for (stopped, other) in [("alice", "bob"), ("bob", "alice")] {
        let mut steps = 0;
        loop {
            steps += 1;
            let gate = Gate::with_policy(str::to_owned).await;
            // Admitted before, so that what is stopped is the approval alone.
            let (first, second) =
                (gate.people[stopped].caller(&gate.story).await, gate.people[other].caller(&gate.story).await);
            let asked = Approve {
                code: CodeCheck::Typed(gate.machine.code(&gate.waiting)),
                wish: Wish::Own { name: None, labels: BTreeMap::new(), owner: None },
            };
            let Gate { mut story, people, machine, waiting } = gate;
            // Nobody else may hold the gateway while its store is changed.
            drop(machine);
            for task in [&mut story.enforcer, &mut story.queue] {
                task.abort();
                let _ = task.await;
            }
            let shell = Arc::get_mut(&mut story.shell).unwrap();
            let stopping = Arc::new(Stopping {
                inner: Arc::clone(&shell.store),
                left: AtomicUsize::new(steps),
                reached: Notify::new(),
                go: Notify::new(),
            });
            shell.store = Arc::new(Shared(Arc::clone(&stopping)));
            let shell = &*story.shell;
            let mut late = Box::pin(flow::people::approve(shell, &first, &waiting.id, &asked, "i"));
            let ended = tokio::select! {
                biased;
                ended = &mut late => Some(ended),
                () = stopping.reached.notified() => None,
            };
            if let Some(ended) = ended {
                assert_eq!(ended.unwrap().state, "approved");
                break;
            }
            let what = format!("{stopped} stopped before step {steps}");
            let won = flow::people::approve(shell, &second, &waiting.id, &asked, "i").await.unwrap();
            assert_eq!(won.state, "approved", "{what}");
            stopping.go.notify_one();
            let lost = late.await.unwrap_err();
            assert_eq!(lost, Refusal::Conflict(Conflict::Approved(other.to_owned())), "{what}");
            let events = story.events(&people["carol"]).await;
            assert_eq!(events.iter().filter(|event| event.event == "enrollment.approved").count(), 1, "{what}");
        }
        // Two rounds of reads and the commit, and once more than there are.
        assert!(steps > 3, "only {steps} steps were seen");
    }
}

/// An approval that is not the last is news for whoever watches, at once and not at the end of the wait.
#[tokio::test]
async fn an_approval_wakes_whoever_watches() {
    let gate = Gate::with_policy(two).await;
    let carol = gate.people["carol"].caller(&gate.story).await;
    let shell = &gate.story.shell;
    let seen = flow::people::watch(shell, &carol, None, Duration::ZERO).await.unwrap().seen;
    let watching = flow::people::watch(shell, &carol, Some(&seen), Duration::from_secs(5));
    let (events, _) = tokio::join!(watching, gate.give("alice", PLAIN));
    let counts: Vec<usize> = events.unwrap().items.iter().map(|row| row.approvals.len()).collect();
    assert_eq!(counts, [1]);
}

/// That a name is taken is told to whoever decides, wherever they look, and to nobody who is not in; and the machine that waits
/// gets the name it is given instead.
#[tokio::test]
async fn whoever_decides_is_told_that_the_name_is_taken() {
    let gate = Gate::with_policy(str::to_owned).await;
    let (story, shell) = (&gate.story, &gate.story.shell);
    story.machine("edge-07").await;
    let alice = gate.people["alice"].caller(story).await;
    let listed = flow::people::list(shell, &alice, false, None, 10).await.unwrap().items;
    let watched = flow::people::watch(shell, &alice, None, Duration::ZERO).await.unwrap().items;
    let shown = gate.shown().await;
    for (what, view) in [("list", &listed[0]), ("watch", &watched[0]), ("show", &shown)] {
        assert_eq!(view.taken.as_deref(), Some("active"), "{what}");
    }
    // Whoever is not in hears the same for a name that is taken and for one that is free.
    let heard = |name: &'static str| async move {
        let waiting = story.stranger().ask(name).await.waiting();
        let members = serde_json::to_value(waiting).unwrap();
        members.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(heard("edge-07").await, heard("free-1").await);
    let refused = gate.give("alice", PLAIN).await.unwrap_err();
    assert_eq!(refused, Refusal::NameTaken { name: "edge-07".to_owned() });
    let done = gate.give("alice", Gives { name: Some("edge-08"), ..PLAIN }).await.unwrap();
    assert_eq!((done.state, done.name.as_deref()), ("approved", Some("edge-08")));
    let issued = gate.machine.poll(&gate.waiting.id).await.unwrap().issued();
    assert!(issued.identity.ends_with("/machine/edge-08"), "{}", issued.identity);
}

#[tokio::test]
async fn whoever_wants_no_name_is_called_by_its_key() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.stranger();
    let waiting = machine.ask_for_any_name().await.waiting();
    story.approve(&alice, &waiting.id, &machine.code(&waiting)).await.unwrap();
    let issued = machine.poll(&waiting.id).await.unwrap().issued();
    let name = format!("m-{}", &machine.digest()[..10]);
    assert!(issued.identity.ends_with(&format!("/machine/{name}")), "{}", issued.identity);
}
