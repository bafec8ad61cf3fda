//! Stories of what may stand behind a certificate: owners, names, evidence, locks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod ssh_key;
#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::edge::fronts::native::enroll::issued;
use gateway::flow::asked::{PolicyQuestion, TokenWish};
use gateway::{
    core::{
        change::Changes,
        keys,
        proven::ProvenKey,
        records::{Enrollment, Seen, Subject},
        refusal::{Missing, Refusal},
        ssh::prove,
        token::TokenError,
    },
    flow::{self, shell::Actor},
};
use pki::Role;
use ssh_key::SshHolder;
use story::{DAY, Member, PER_LIFE, Story, minutes};
use wire::{
    enroll::WaitingReply,
    evidence::JOIN_TOKEN,
    ssh::{HOST_NAMESPACE, USER_NAMESPACE},
};

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
    let token = story.token(TokenWish { owner: Some(owner.to_owned()), ..TokenWish::default() }).await;
    let stranger = story.stranger();
    let issued = stranger.join(&token, name).await.unwrap().issued();
    stranger.into_member(issued)
}

/// An invitation, for a name or for any.
async fn invitation(story: &Story, names: &[&str]) -> String {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    story.token(TokenWish { role: Some("person".to_owned()), names, ..TokenWish::default() }).await
}

async fn may(story: &Story, who: &Member, action: &str, resource: &str) -> Result<bool, Refusal> {
    let asked = PolicyQuestion { action: action.to_owned(), resource: resource.to_owned() };
    Ok(flow::can_i::can_i(&story.shell, &who.caller(story).await, &asked).await?.allowed)
}

async fn shown(story: &Story, to: &Member, machine: &str) -> Option<gateway::flow::views::SubjectDetails> {
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
        assert_eq!(may(&story, &new, action, what).await, Err(Refusal::NotFound(Missing::Machine)), "{action}");
    }
    assert!(shown(&story, &alice, "olgas-pc").await.unwrap().owner_gone);
}

/// Whoever is called that later would own nothing by it (see `core::approve`), so whoever names them meant somebody else.
#[tokio::test]
async fn an_owner_who_is_not_there_yet_is_refused() {
    let story = Story::new().await;
    let asked = TokenWish { owner: Some("olga".to_owned()), ..TokenWish::default() };
    let actor = flow::shell::Actor { who: "gateway", instance: "story" };
    let refused = flow::tokens::make(&story.shell, &asked, flow::tokens::By::Gateway, &actor).await.unwrap_err();
    assert!(matches!(refused, Refusal::Malformed(_)), "{refused:?}");
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
        let token = story.token(TokenWish { role, ..TokenWish::default() }).await;
        assert!(taken(story.stranger().join(&token, name).await), "{name}");
    }
    // Whoever only wishes for the name is not told, and does not get it either.
    let machine = story.stranger();
    let waiting = machine.ask("lk").await.waiting();
    assert!(locked(story.approve(&alice, &waiting.id, &machine.code(&waiting)).await));
    story.approve_as(&alice, &waiting.id, &machine.code(&waiting), "other").await.unwrap();
    machine.poll(&waiting.id).await.unwrap().issued();
}

/// A route to a certificate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Route {
    Join,
    Collect,
    Approve,
    Renew,
    Rejoin,
    ApproveRejoin,
    Sealed,
    SshUser,
    SshHost,
}

/// What a lock hits.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Hit {
    Name,
    Lineage,
    /// The key of the certificate, or evidence, that the holder has.
    Key,
    /// The key to be certified.
    NewKey,
}

use Hit::{Key, Lineage, Name, NewKey};

/// Every way to a certificate, with what stands behind it.
const ROUTES: [(Route, Role, &[Hit]); 12] = [
    (Route::Join, Role::Machine, &[Name, NewKey]),
    (Route::Join, Role::Person, &[Name, NewKey]),
    (Route::Approve, Role::Machine, &[Name, NewKey]),
    (Route::Collect, Role::Machine, &[Name, Lineage, NewKey]),
    (Route::Renew, Role::Machine, &[Name, Lineage, Key, NewKey]),
    (Route::Renew, Role::Person, &[Name, Lineage, Key, NewKey]),
    (Route::Rejoin, Role::Machine, &[Name, Lineage, Key, NewKey]),
    (Route::Rejoin, Role::Person, &[Name, Lineage, Key, NewKey]),
    (Route::ApproveRejoin, Role::Machine, &[Name, Lineage, Key, NewKey]),
    (Route::Sealed, Role::Machine, &[Name, Lineage, Key, NewKey]),
    // Keys of SSH are not locked by themselves: their certificates rest on the one that was shown.
    (Route::SshUser, Role::Person, &[Name, Lineage, Key]),
    (Route::SshHost, Role::Machine, &[Name, Lineage, Key]),
];

/// Somebody who asks for a certificate on one of the routes, as often as wanted.
struct Applicant<'a> {
    story: &'a Story,
    alice: &'a Member,
    route: Route,
    name: String,
    token: String,
    stranger: story::Stranger,
    waiting: Option<WaitingReply>,
    member: Option<Member>,
    sealed: Member,
    ssh: SshHolder,
}

impl<'a> Applicant<'a> {
    async fn new(story: &'a Story, alice: &'a Member, route: Route, role: Role, name: &str) -> Self {
        let asked = TokenWish {
            uses: Some(2),
            role: Some(role.as_str().to_owned()),
            groups: vec!["admins".to_owned()],
            ..TokenWish::default()
        };
        let token = story.token(asked).await;
        let stranger = story.stranger();
        let (mut waiting, mut member) = (None, None);
        match route {
            Route::Join => {}
            Route::Approve | Route::Collect => waiting = Some(stranger.ask(name).await.waiting()),
            Route::Renew | Route::Rejoin | Route::ApproveRejoin | Route::Sealed | Route::SshUser | Route::SshHost => {
                let joiner = story.stranger();
                let issued = joiner.join(&token, name).await.unwrap().issued();
                member = Some(joiner.into_member(issued));
            }
        }
        if let (Route::Collect, Some(waiting)) = (route, &waiting) {
            story.approve(alice, &waiting.id, &stranger.code(waiting)).await.unwrap();
        }
        if let (Route::ApproveRejoin, Some(member)) = (route, &member) {
            waiting = Some(member.rejoin(story).await.unwrap().waiting());
        }
        let sealed = story.machine(&format!("{name}-key")).await;
        let ssh = SshHolder::new();
        Self { story, alice, route, name: name.to_owned(), token, stranger, waiting, member, sealed, ssh }
    }

    fn member(&self) -> &Member {
        self.member.as_ref().unwrap()
    }

    /// The target of a lock.
    async fn target(&self, hit: Hit, role: Role) -> (&'static str, String) {
        let story = self.story;
        match (hit, self.route) {
            (Hit::Name, _) => (role.as_str(), self.name.clone()),
            (Hit::Lineage, _) => {
                let to = self.alice.caller(story).await;
                ("lineage", flow::admin::subject(&story.shell, &to, role, &self.name).await.unwrap().lineage)
            }
            (Hit::Key, _) => ("key", self.member().digest()),
            (Hit::NewKey, Route::Join | Route::Approve | Route::Collect) => ("key", self.stranger.digest()),
            (Hit::NewKey, Route::Sealed) => ("key", self.sealed.digest()),
            (Hit::NewKey, _) => ("key", self.member().next_digest().await),
        }
    }

    async fn tries(&self) -> Result<(), Refusal> {
        let story = self.story;
        match self.route {
            Route::Join => self.stranger.join(&self.token, &self.name).await.map(drop),
            Route::Approve => {
                let waiting = self.waiting.as_ref().unwrap();
                story.approve(self.alice, &waiting.id, &self.stranger.code(waiting)).await
            }
            Route::Collect => self.stranger.poll(&self.waiting.as_ref().unwrap().id).await.map(drop),
            Route::Renew => self.member().renew(story).await.map(drop),
            Route::Rejoin => self.member().rejoin(story).await.map(drop),
            Route::ApproveRejoin => {
                let waiting = self.waiting.as_ref().unwrap();
                story.approve(self.alice, &waiting.id, &self.member().next_code(story, waiting)).await
            }
            Route::Sealed => {
                let caller = story.admit(&story.peer(&self.member().issued)).await?;
                let reply = flow::sealed::sealed(&story.shell, &caller, &self.sealed.csr(), "story").await;
                reply.map(drop).map_err(story::refused)
            }
            Route::SshUser | Route::SshHost => {
                let caller = story.admit(&story.peer(&self.member().issued)).await?;
                let user = self.route == Route::SshUser;
                let namespace = if user { USER_NAMESPACE } else { HOST_NAMESPACE };
                let exporter = [7; 32];
                let proof = self.ssh.proof(namespace, exporter);
                let key = prove(&self.ssh.line(), &proof, namespace, &exporter)?;
                let reply = if user {
                    flow::ssh::user(&story.shell, &caller, key, "story").await
                } else {
                    flow::ssh::host(&story.shell, &caller, key, "story").await
                };
                reply.map(drop).map_err(story::refused)
            }
        }
    }
}

#[tokio::test]
async fn a_lock_on_anything_behind_it_stops_every_way_to_a_certificate() {
    let usual = Story::new().await;
    let waits = Story::with_policy(|text| text.replace("prior_expired_for <= 2592000", "prior_expired_for < 0")).await;
    let (boss, other) = (usual.first_person().await, waits.first_person().await);
    for (number, (route, role, hits)) in ROUTES.into_iter().enumerate() {
        for (index, &hit) in hits.iter().enumerate() {
            let (story, alice) = if route == Route::ApproveRejoin { (&waits, &other) } else { (&usual, &boss) };
            let name = format!("t-{number}-{index}");
            let applicant = Applicant::new(story, alice, route, role, &name).await;
            let (kind, target) = applicant.target(hit, role).await;
            // Only what is there can be locked; the lock outlives it.
            let before = hit == Hit::Name && matches!(route, Route::Join | Route::Approve);
            if before {
                story.stranger().join(&applicant.token, &name).await.unwrap();
            }
            let reply = story.lock(alice, kind, &target).await.unwrap();
            if before {
                remove(story, alice, role, &name).await;
            }
            let hits = if hit == Hit::Key { vec![format!("{role}/{name}")] } else { vec![] };
            if (route, hit) != (Route::Sealed, Hit::NewKey) {
                assert_eq!(reply.hits, hits, "{route:?} {role} {hit:?}");
            }
            let refused = applicant.tries().await;
            // Of a lock on a name that is not theirs newcomers hear no more than that it is taken.
            let stopped = match (&refused, route, hit) {
                (Err(refusal), Route::Join, Hit::Name) => matches!(refusal, Refusal::NameTaken { .. }),
                _ => locked(refused.clone()),
            };
            assert!(stopped, "{route:?} of a {role}, {hit:?} locked: {refused:?}");
            let caller = alice.caller(story).await;
            flow::admin::unlock(&story.shell, &caller, kind, &target, "story").await.unwrap();
            let went = applicant.tries().await;
            assert_eq!(went, Ok(()), "{route:?} of a {role}, {hit:?} locked and unlocked");
        }
    }
}

#[tokio::test]
async fn what_was_made_with_a_key_goes_down_with_it() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.machine("edge-07").await;
    let old = machine.digest();
    let renewed = machine.renew(&story).await.unwrap();
    let machine = machine.moved(renewed);
    machine.caller(&story).await;
    // The key before the one in use still lives: whoever has it may have made the one in use.
    assert_eq!(story.lock(&alice, "key", &old).await.unwrap().hits, ["machine/edge-07"]);
    assert!(locked(story.admit(&story.peer(&machine.issued)).await));
    let caller = alice.caller(&story).await;
    flow::admin::unlock(&story.shell, &caller, "key", &old, "story").await.unwrap();
    machine.caller(&story).await;
}

fn token_evidence(token: &str) -> (String, String) {
    (JOIN_TOKEN.to_owned(), token.to_owned())
}

fn together(answer: Result<story::Answer, Refusal>) -> bool {
    matches!(answer, Err(Refusal::Evidence(reject)) if reject.code.name == "evidence-conflict")
}

#[tokio::test]
async fn evidence_that_would_add_up_is_refused_and_spends_nothing() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let role = Some("person".to_owned());
    let groups = vec!["devs".to_owned()];
    let strong = story.token(TokenWish { role: role.clone(), groups, ..TokenWish::default() }).await;
    let many = story.token(TokenWish { role, uses: Some(5), ..TokenWish::default() }).await;
    let both = vec![token_evidence(&strong), token_evidence(&many)];
    assert!(together(story.stranger().with("eve", both.clone()).await));
    assert!(together(story.stranger().with("eve", both.into_iter().rev().collect()).await));
    let machine = story.machine("edge-07").await;
    let token = story.token(TokenWish::default()).await;
    assert!(together(machine.rejoin_with(&story, vec![token_evidence(&token)]).await));
    let person = story.person("carol", &["devs"]).await;
    assert!(together(person.rejoin_with(&story, vec![token_evidence(&token)]).await));
    let tokens = flow::tokens::list(&story.shell, &alice.caller(&story).await, None, 100).await.unwrap();
    let spent = tokens.items.iter().filter(|token| !token.redeemed.is_empty()).count();
    assert_eq!(spent, 3, "alice, edge-07 and carol");
}

async fn events(story: &Story, by: &Member, name: &str) -> usize {
    story.events(by).await.iter().filter(|event| event.event == name).count()
}

async fn told(story: &Story, who: &Member) -> Vec<String> {
    flow::notices::of(&story.shell, &who.caller(story).await).await.unwrap()
}

#[tokio::test]
async fn only_a_certificate_that_would_still_be_good_makes_a_fork() {
    let story = Story::new().await;
    let (alice, olga) = (story.first_person().await, story.person("olga", &[]).await);
    let first = owned(&story, "edge-07", "olga").await;
    let old = first.copied();
    let renewed = first.renew(&story).await.unwrap();
    let second = first.moved(renewed);
    second.caller(&story).await;
    // Locked: refused, and the machine is not touched by whoever shows it.
    story.lock(&alice, "key", &old.digest()).await.unwrap();
    let refusal = old.rejoin(&story).await.unwrap_err();
    assert!(matches!(&refusal, Refusal::Evidence(reject) if reject.code.name == "prior-invalid"), "{refusal:?}");
    // Beside the lock: what is said of the old certificate says nothing of the machine that is not so.
    let notices = told(&story, &alice).await;
    assert_eq!(notices.iter().filter(|notice| notice.contains("is locked")).count(), 1, "{notices:?}");
    assert!(!notices.iter().any(|notice| notice.contains("is not locked")), "{notices:?}");
    let caller = alice.caller(&story).await;
    flow::admin::unlock(&story.shell, &caller, "key", &old.digest(), "story").await.unwrap();
    second.caller(&story).await;
    assert_eq!(
        (events(&story, &alice, "lineage.forked").await, events(&story, &alice, "certificate.stale").await),
        (0, 1)
    );
    for member in [&alice, &olga] {
        let notices = told(&story, member).await;
        assert!(notices.iter().any(|notice| notice.contains("`edge-07`: an old certificate of it")), "{notices:?}");
    }
    // Expired: the same. The machine goes on meanwhile.
    story.clock.advance(DAY / 2);
    let (alice, olga) = (story.renewed(alice).await, story.renewed(olga).await);
    let renewed = second.renew(&story).await.unwrap();
    let third = second.moved(renewed);
    third.caller(&story).await;
    story.clock.advance(DAY / 2 + minutes(1));
    let (alice, olga) = (story.renewed(alice).await, story.renewed(olga).await);
    for _ in 0..3 {
        let refusal = old.rejoin(&story).await.unwrap_err();
        assert!(matches!(&refusal, Refusal::Evidence(reject) if reject.code.name == "prior-invalid"), "{refusal:?}");
    }
    third.caller(&story).await;
    assert_eq!(
        (events(&story, &alice, "lineage.forked").await, events(&story, &alice, "certificate.stale").await),
        (0, 2)
    );
    assert_eq!((told(&story, &alice).await.len(), told(&story, &olga).await.len()), (1, 1));
    assert_eq!(events(&story, &alice, "lock.set").await, 2, "the key, and with it its lineage, by alice");
    story.clock.advance(DAY * 8);
    let alice = story.renewed(alice).await;
    flow::sweep::sweep(&story.shell).await.unwrap();
    assert_eq!(told(&story, &alice).await, [""; 0]);
}

/// Token holders wait, too.
fn tokens_wait(text: &str) -> String {
    text.replace(
        "principal.role == Lychgate::Role::\"machine\" && principal.claims has token_id",
        "principal.assurance > 9",
    )
}

async fn revoke(story: &Story, by: &Member, id: &str) {
    flow::tokens::revoke(&story.shell, &by.caller(story).await, id, "story").await.unwrap();
}

fn token_says(answer: Result<impl std::fmt::Debug, Refusal>, want: &TokenError) {
    match answer {
        Err(Refusal::Evidence(got)) => assert_eq!(got, want.clone().into()),
        other => panic!("{other:?} instead of {want:?}"),
    }
}

#[tokio::test]
async fn whoever_waits_has_redeemed_the_token() {
    let story = Story::with_policy(tokens_wait).await;
    let alice = story.first_person().await;
    let token = story.token_reply(TokenWish::default()).await;
    let (one, two) = (story.stranger(), story.stranger().from(2));
    let waiting = one.join(&token.token, "edge-07").await.unwrap().waiting();
    assert_eq!(one.join(&token.token, "edge-07").await.unwrap().waiting().id, waiting.id, "asking again is free");
    token_says(two.join(&token.token, "edge-08").await, &TokenError::Spent);
    revoke(&story, &alice, &token.id).await;
    token_says(story.approve(&alice, &waiting.id, &one.code(&waiting)).await, &TokenError::Revoked);
    token_says(one.poll(&waiting.id).await, &TokenError::Revoked);
    token_says(one.try_ask("edge-07").await, &TokenError::Revoked);
    // Revoked between the approval and the collection.
    let token = story.token_reply(TokenWish::default()).await;
    let waiting = two.join(&token.token, "edge-08").await.unwrap().waiting();
    story.approve(&alice, &waiting.id, &two.code(&waiting)).await.unwrap();
    revoke(&story, &alice, &token.id).await;
    token_says(two.poll(&waiting.id).await, &TokenError::Revoked);
}

#[tokio::test]
async fn a_token_shown_while_waiting_already_is_redeemed_too() {
    let story = Story::with_policy(tokens_wait).await;
    let token = story.token_reply(TokenWish::default()).await;
    let one = story.stranger();
    one.ask("edge-07").await.waiting();
    one.join(&token.token, "edge-07").await.unwrap().waiting();
    token_says(story.stranger().join(&token.token, "edge-08").await, &TokenError::Spent);
}

#[tokio::test]
async fn a_request_that_lapsed_is_made_again_with_the_same_key_and_token() {
    let story = Story::with_policy(tokens_wait).await;
    let alice = story.first_person().await;
    let token = story.token_reply(TokenWish { ttl: Some(60), ..TokenWish::default() }).await;
    let one = story.stranger();
    let waiting = one.join(&token.token, "edge-07").await.unwrap().waiting();
    story.clock.advance(DAY * 3);
    let alice = story.renewed(alice).await;
    assert!(matches!(one.poll(&waiting.id).await, Err(Refusal::Lapsed)));
    flow::sweep::sweep(&story.shell).await.unwrap();
    assert!(matches!(one.poll(&waiting.id).await, Err(Refusal::Lapsed)));
    // Long after the token expired, and for this key alone.
    story.clock.advance(DAY * 14);
    let alice = story.renewed(alice).await;
    flow::sweep::sweep(&story.shell).await.unwrap();
    token_says(story.stranger().join(&token.token, "edge-08").await, &TokenError::Expired(DAY.as_secs() * 17 - 60));
    let waiting = one.join(&token.token, "edge-07").await.unwrap().waiting();
    story.approve(&alice, &waiting.id, &one.code(&waiting)).await.unwrap();
    one.poll(&waiting.id).await.unwrap().issued();
}

#[tokio::test]
async fn a_removal_is_final_for_the_key_whatever_token_it_has() {
    let story = Story::new().await;
    let mut alice = story.first_person().await;
    let token = story.token_reply(TokenWish { ttl: Some(60 * 24 * 3600), ..TokenWish::default() }).await;
    let one = story.stranger();
    one.join(&token.token, "edge-07").await.unwrap().issued();
    story.clock.advance(DAY * 20);
    alice = story.renewed(alice).await;
    flow::sweep::sweep(&story.shell).await.unwrap();
    remove(&story, &alice, Role::Machine, "edge-07").await;
    for days in [0, 8, 20] {
        story.clock.advance(DAY * days);
        flow::sweep::sweep(&story.shell).await.unwrap();
        let refusal = one.join(&token.token, "edge-07").await.unwrap_err();
        assert!(matches!(refusal, Refusal::Retired { .. }), "{refusal:?}");
    }
}

#[tokio::test]
async fn a_removal_ends_what_rests_on_it() {
    let story = Story::with_policy(|text| text.replace("prior_expired_for <= 2592000", "prior_expired_for < 0")).await;
    let alice = story.first_person().await;
    for approved_first in [false, true] {
        let old = story.machine("edge-07").await;
        let waiting = old.rejoin(&story).await.unwrap().waiting();
        let code = old.next_code(&story, &waiting);
        if approved_first {
            story.approve(&alice, &waiting.id, &code).await.unwrap();
        }
        remove(&story, &alice, Role::Machine, "edge-07").await;
        let queue = flow::people::list(&story.shell, &alice.caller(&story).await, false, None, 100).await.unwrap();
        assert_eq!(queue.items.len(), 0, "{:?}", queue.items);
        story.machine("edge-07").await;
        let refusal = story.approve(&alice, &waiting.id, &code).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Conflict(_)), "{refusal:?}");
        let refusal = old.poll(&story, &waiting.id).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Retired { .. }), "{refusal:?}");
        remove(&story, &alice, Role::Machine, "edge-07").await;
    }
}

#[tokio::test]
async fn housekeeping_takes_no_name_and_no_key_that_lead_elsewhere() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let one = story.stranger();
    let waiting = one.ask("edge-07").await.waiting();
    story.approve(&alice, &waiting.id, &one.code(&waiting)).await.unwrap();
    let elsewhere = story.machine("edge-08").await.issued.id;
    // A record that is not as it should be: another lineage holds the name, and the key leads to another request.
    let seen: Seen<Enrollment> = story.shell.get(keys::enrollment(&waiting.id)).await.unwrap().unwrap();
    let mut changes = Changes::new();
    let mut other = seen.record.clone();
    other.lineage = Some("0000000000000000".to_owned());
    changes.put(keys::enrollment(&other.id), &other);
    changes.put(keys::enrollment_of_key(&other.key), &elsewhere);
    story.shell.commit(changes, &Actor { who: "gateway", instance: "story" }).await.unwrap();
    for _ in 0..2 {
        story.clock.advance(DAY * 30);
        flow::sweep::sweep(&story.shell).await.unwrap();
    }
    assert!(story.shell.get::<Enrollment>(keys::enrollment(&other.id)).await.unwrap().is_none());
    assert!(story.shell.get::<Subject>(keys::subject(Role::Machine, "edge-07")).await.unwrap().is_some());
    let index: Seen<String> = story.shell.get(keys::enrollment_of_key(&other.key)).await.unwrap().unwrap();
    assert_eq!(index.record, elsewhere);
}

fn over(answer: &Result<wire::enroll::IssuedReply, Refusal>) -> bool {
    matches!(answer, Err(Refusal::CertificateLimit { .. }))
}

#[tokio::test]
async fn a_lineage_has_a_budget_of_certificates() {
    let story = Story::new().await;
    let machine = story.machine("edge-07").await;
    // One was made when it joined. Each of these is for another key.
    for _ in 1..PER_LIFE {
        machine.fresh().renew(&story).await.unwrap();
    }
    let last = machine.renew(&story).await;
    assert!(over(&last), "{last:?}");
    assert!(matches!(machine.rejoin(&story).await, Err(Refusal::CertificateLimit { .. })));
    // What it has goes on, and its sealed services have a budget of their own.
    machine.caller(&story).await;
    let sealed = |csr: ProvenKey| {
        let (story, machine) = (&story, &machine);
        async move {
            let caller = machine.caller(story).await;
            let made = flow::sealed::sealed(&story.shell, &caller, &csr, "story").await;
            made.map(|made| issued(&story.shell, made)).map_err(story::refused)
        }
    };
    let keys: Vec<Member> = (0..=PER_LIFE).map(|_| machine.fresh()).collect();
    for key in &keys[..PER_LIFE as usize] {
        sealed(key.csr()).await.unwrap();
    }
    assert!(over(&sealed(keys[PER_LIFE as usize].csr()).await));
    // The same key is answered with the same certificate, whatever the budget.
    let again = sealed(keys[PER_LIFE as usize - 1].csr()).await.unwrap();
    assert_eq!(again.serial, sealed(keys[PER_LIFE as usize - 1].csr()).await.unwrap().serial);
    // A part of a life later there is one again.
    story.clock.advance(DAY / PER_LIFE);
    machine.renew(&story).await.unwrap();
    assert!(over(&machine.fresh().renew(&story).await));
}
