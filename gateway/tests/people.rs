//! Stories of people and what they may do to each other: making, correcting, removing, handing over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::flow::asked::{MachineCorrection, PersonCorrection, TokenWish};
use gateway::flow::views::{MadeToken, Removal};
use gateway::{
    core::{
        records::Subject,
        refusal::{Missing, Refusal},
        subjects::Agreement,
        token::TokenError,
    },
    flow,
    store::{Batch, Key},
};
use pki::Role;
use story::{Member, Story};

const HELPDESK: &str = r#"
@id("helpdesk") permit (principal is Lychgate::Person in Lychgate::Group::"helpdesk",
  action in [Lychgate::Action::"administer", Lychgate::Action::"read"], resource is Lychgate::Token)
  when { resource.role == Lychgate::Role::"machine" || !resource.groups.contains("operators") };
@id("helpdesk-people") permit (principal is Lychgate::Person in Lychgate::Group::"helpdesk",
  action in [Lychgate::Action::"administer", Lychgate::Action::"read"], resource is Lychgate::Person);
"#;

fn with_helpdesk(text: &str) -> String {
    format!("{text}\n{HELPDESK}")
}

async fn make(story: &Story, by: &Member, asked: TokenWish) -> Result<MadeToken, Refusal> {
    flow::tokens::create(&story.shell, &by.caller(story).await, &asked, "i").await
}

async fn remove(story: &Story, by: &Member, name: &str) -> Result<Removal, Refusal> {
    flow::admin::remove(&story.shell, &by.caller(story).await, Role::Person, name, "i").await
}

async fn groups(story: &Story, by: &Member, name: &str, add: &[&str], take: &[&str]) -> Result<Vec<String>, Refusal> {
    let items = |items: &[&str]| items.iter().map(|&word| word.to_owned()).collect();
    let asked = PersonCorrection { groups: items(add), no_groups: items(take) };
    let reply = flow::set::person(&story.shell, &by.caller(story).await, name, &asked, "i").await?;
    Ok(reply.subject.groups)
}

fn person(groups: &[&str]) -> TokenWish {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    TokenWish { role: Some("person".into()), groups, uses: Some(5), ..TokenWish::default() }
}

/// Whether a machine names an owner of this name.
async fn is_owners(story: &Story, name: &str) -> bool {
    story.shell.look::<_, Refusal>(|look| Ok(flow::owners::is_owners(look, name))).await.unwrap()
}

/// What became of the maker of a token, and what the token is then: for one who comes first, for one who redeemed it before,
/// and in the listing.
#[tokio::test]
async fn a_token_is_worth_what_its_maker_could_give_now() {
    for (what, want, state) in [
        ("nothing", None, "live"),
        ("locked", Some(TokenError::Suspended), "suspended"),
        ("unlocked", None, "live"),
        ("lineage locked", Some(TokenError::Suspended), "suspended"),
        ("no admin any more", Some(TokenError::Suspended), "suspended"),
        ("removed", Some(TokenError::Revoked), "revoked"),
        ("came back", Some(TokenError::Revoked), "revoked"),
    ] {
        let story = Story::new().await;
        let (alice, bob) = (story.first_person().await, story.person("bob", &["admins"]).await);
        let token = make(&story, &bob, person(&["admins"])).await.unwrap();
        let early = story.stranger();
        early.join(&token.token, "mallory").await.unwrap().issued();
        let lineage = bob.caller(&story).await.lineage.record.id.clone();
        match what {
            "locked" => drop(story.lock(&alice, "person", "bob").await.unwrap()),
            "unlocked" => {
                story.lock(&alice, "person", "bob").await.unwrap();
                let caller = alice.caller(&story).await;
                flow::admin::unlock(&story.shell, &caller, "person", "bob", "i").await.unwrap();
            }
            "lineage locked" => drop(story.lock(&alice, "lineage", &lineage).await.unwrap()),
            "no admin any more" => drop(groups(&story, &alice, "bob", &["staff"], &["admins"]).await.unwrap()),
            "removed" => drop(remove(&story, &alice, "bob").await.unwrap()),
            "came back" => {
                remove(&story, &alice, "bob").await.unwrap();
                story.person("bob", &["admins"]).await;
            }
            _ => {}
        }
        let came = story.stranger().join(&token.token, "late").await.err();
        assert_eq!(came, want.map(|error| Refusal::Evidence(error.into())), "{what}");
        let listed = flow::tokens::list(&story.shell, &alice.caller(&story).await, None, 100).await.unwrap();
        let listed = listed.items.iter().find(|row| row.id == token.id).unwrap();
        assert_eq!(listed.state, state, "{what}");
    }
}

#[tokio::test]
async fn what_ends_with_a_person_is_told() {
    let story = Story::with_policy(|text| text.replace("@approvals(\"1\")", "@approvals(\"2\")")).await;
    let (alice, bob) = (story.first_person().await, story.person("bob", &["admins"]).await);
    let token = make(&story, &bob, TokenWish { owner: Some("bob".into()), ..TokenWish::default() }).await.unwrap();
    story.stranger().join(&token.token, "bobbox").await.unwrap().issued();
    let machine = story.stranger();
    let waiting = machine.ask("edge-07").await.waiting();
    story.approve(&bob, &waiting.id, &machine.code(&waiting)).await.unwrap();
    let locked = story.lock(&alice, "person", "bob").await.unwrap().suspended.unwrap();
    assert_eq!((&locked.approvals, &locked.machines), (&vec![waiting.id.clone()], &vec!["bobbox".to_owned()]));
    let ended = remove(&story, &alice, "bob").await.unwrap().ended.unwrap();
    assert_eq!(ended.tokens, [token.id]);
    assert_eq!(ended, locked);
}

#[tokio::test]
async fn machines_are_handed_over_and_the_person_is_gone() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    for name in ["bob", "carol"] {
        story.person(name, &[]).await;
    }
    let token = TokenWish { owner: Some("bob".into()), uses: Some(3), ..TokenWish::default() };
    let token = make(&story, &alice, token).await.unwrap();
    for name in ["edge-1", "edge-2"] {
        story.stranger().join(&token.token, name).await.unwrap().issued();
    }
    let caller = alice.caller(&story).await;
    for (to, ok) in [("bob", false), ("nobody", false), ("carol", true)] {
        let done = flow::offboard::offboard(&story.shell, &caller, "bob", to, "offboarding").await;
        assert_eq!(done.is_ok(), ok, "{to}: {done:?}");
        let Ok(done) = done else { continue };
        assert_eq!(done.handed_over, ["edge-1", "edge-2"]);
        assert_eq!(done.ended.unwrap().machines, Vec::<String>::new());
    }
    for name in ["edge-1", "edge-2"] {
        let row = flow::admin::subject(&story.shell, &caller, Role::Machine, name).await.unwrap();
        assert_eq!((row.owner.as_deref(), row.owner_gone), (Some("carol"), false));
    }
    let gone = flow::admin::subject(&story.shell, &caller, Role::Person, "bob").await.unwrap_err();
    assert_eq!(gone, Refusal::NotFound(Missing::Person));
    // One trail: all of it under one id, by her.
    let events = story.events(&alice).await;
    let mut trail: Vec<&str> =
        events.iter().filter(|event| event.instance == "offboarding").map(|event| event.event.as_str()).collect();
    trail.sort_unstable();
    assert_eq!(trail, ["subject.removed", "subject.set", "subject.set"]);
}

/// Each way in which nobody would be left who may administer, or somebody would remove themselves.
#[tokio::test]
async fn somebody_who_may_administer_is_always_left() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let refused = |outcome: Result<(), Refusal>| assert!(matches!(outcome.unwrap_err(), Refusal::Conflict(_)));
    refused(remove(&story, &alice, "alice").await.map(drop));
    refused(flow::admin::leave(&story.shell, &alice.caller(&story).await, "i").await);
    refused(groups(&story, &alice, "alice", &[], &["admins"]).await.map(drop));
    story.person("carol", &["staff"]).await;
    refused(flow::offboard::offboard(&story.shell, &alice.caller(&story).await, "alice", "carol", "i").await.map(drop));
    refused(groups(&story, &alice, "alice", &["staff"], &["admins"]).await.map(drop));
    // Whoever is locked is not somebody who is left.
    let bob = story.person("bob", &["admins"]).await;
    story.lock(&alice, "person", "bob").await.unwrap();
    refused(groups(&story, &alice, "alice", &[], &["admins"]).await.map(drop));
    flow::admin::unlock(&story.shell, &alice.caller(&story).await, "person", "bob", "i").await.unwrap();
    refused(remove(&story, &alice, "alice").await.map(drop));
    groups(&story, &alice, "alice", &[], &["admins"]).await.unwrap();
    refused(remove(&story, &bob, "bob").await.map(drop));
    remove(&story, &bob, "alice").await.unwrap();
}

/// What a token would give is what is judged, and whoever makes it gives nothing beyond.
#[tokio::test]
async fn a_token_is_judged_by_what_it_would_give() {
    let story = Story::with_policy(with_helpdesk).await;
    let alice = story.first_person().await;
    let helper = story.person("helper", &["helpdesk"]).await;
    for (asked, who, ok) in [
        (TokenWish::default(), &helper, true),
        (person(&["staff"]), &helper, true),
        (person(&["operators"]), &helper, false),
        (person(&["admins"]), &helper, false),
        (person(&["staff", "admins"]), &helper, false),
        (person(&["admins"]), &alice, true),
    ] {
        let made = make(&story, who, asked.clone()).await;
        assert_eq!(made.is_ok(), ok, "{asked:?}");
        assert!(ok || matches!(made, Err(Refusal::Denied { .. })), "{asked:?}");
    }
    // Nor by changing who is what.
    for (name, add, take, ok) in [
        ("helper", vec!["admins"], vec![], false),
        ("alice", vec![], vec!["admins"], false),
        ("alice", vec!["staff"], vec![], false),
        ("helper", vec!["staff"], vec![], true),
    ] {
        let set = groups(&story, &helper, name, &add, &take).await;
        assert_eq!(set.is_ok(), ok, "{name} {add:?} {take:?}: {set:?}");
    }
}

#[tokio::test]
async fn nobody_owns_by_a_typing_error_and_groups_without_rules_are_told() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let owned = |owner: &str| TokenWish { owner: Some(owner.into()), ..TokenWish::default() };
    assert!(matches!(make(&story, &alice, owned("noone")).await, Err(Refusal::Malformed(_))));
    make(&story, &alice, owned("alice")).await.unwrap();
    story.machine("edge-07").await;
    let asked = MachineCorrection { owner: Some("noone".into()), ..MachineCorrection::default() };
    let set = flow::set::machine(&story.shell, &alice.caller(&story).await, "edge-07", &asked, "i").await;
    assert!(matches!(set, Err(Refusal::Malformed(_))));
    assert_eq!(make(&story, &alice, person(&["admins"])).await.unwrap().warnings, Vec::<String>::new());
    let warned = make(&story, &alice, person(&["admins", "helpdesc"])).await.unwrap().warnings;
    assert_eq!(warned, ["no rule of the policy names the group `helpdesc`; those that are named: admins"]);
    let named = TokenWish { names: vec!["alice".into(), "bob".into(), "a*".into()], ..person(&["admins"]) };
    let warned = make(&story, &alice, named).await.unwrap().warnings;
    assert_eq!(
        warned,
        ["a person `alice` is there already: nobody else joins by that name before that one is removed"]
    );
}

#[tokio::test]
async fn what_was_given_can_be_corrected() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let bob = story.person("bob", &[]).await;
    story.machine("edge-07").await;
    let caller = alice.caller(&story).await;
    let set = async |asked: MachineCorrection| flow::set::machine(&story.shell, &caller, "edge-07", &asked, "i").await;
    let label = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let row =
        set(MachineCorrection { labels: label("env", "lab"), owner: Some("bob".into()), ..Default::default() }).await;
    assert_eq!(row.unwrap().subject.owner.as_deref(), Some("bob"));
    let bobs = flow::admin::subjects(&story.shell, &bob.caller(&story).await, Role::Machine, None, 10).await.unwrap();
    assert_eq!(bobs.items.len(), 1, "it is his now");
    let row =
        set(MachineCorrection { labels: label("env", "prod"), no_owner: true, ..Default::default() }).await.unwrap();
    assert_eq!((row.subject.labels, row.subject.owner), (label("env", "prod"), None));
    set(MachineCorrection { no_labels: vec!["env".into()], ..Default::default() }).await.unwrap();
    for bad in ["Bad Key", "", "a=b"] {
        assert!(set(MachineCorrection { labels: label(bad, "x"), ..Default::default() }).await.is_err(), "{bad}");
    }
    let events = story.events(&alice).await;
    let mut told: Vec<String> = events
        .iter()
        .filter(|event| event.event == "subject.set")
        .map(|event| {
            format!("{:?}", event.detail.iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>())
        })
        .collect();
    told.sort();
    let want = [
        r#"["labels +env=lab", "owner nobody -> bob"]"#,
        r#"["labels +env=prod", "owner bob -> nobody"]"#,
        r#"["labels -env"]"#,
    ];
    assert_eq!(told, want);
}

/// The machines of an owner are found by an index: whatever gives, takes or ends a machine keeps it as the records say.
#[tokio::test]
async fn the_index_of_machines_by_owner_agrees_with_their_records() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    for name in ["bob", "carol"] {
        story.person(name, &[]).await;
    }
    let owned = async || {
        let rows = story.shell.store.scan(&Key::from(""), None, 1000).await.unwrap().rows;
        let mut agreement = Agreement::default();
        rows.iter().for_each(|(key, entry)| agreement.note(&key.to_string(), &entry.value));
        assert_eq!(agreement.disagree().collect::<Vec<_>>(), [""; 0]);
        let keys = rows.iter().map(|(key, _)| key.to_string());
        keys.filter_map(|key| key.strip_prefix("owned/").map(str::to_owned)).collect::<Vec<_>>()
    };
    let caller = alice.caller(&story).await;
    let owner =
        |name: Option<&str>| MachineCorrection { owner: name.map(str::to_owned), ..MachineCorrection::default() };
    let token = TokenWish { owner: Some("bob".into()), uses: Some(2), ..TokenWish::default() };
    let token = make(&story, &alice, token).await.unwrap().token;
    let first = story.stranger().join(&token, "edge-1").await.unwrap().issued();
    story.stranger().join(&token, "edge-2").await.unwrap().issued();
    story.machine("edge-3").await;
    assert_eq!(owned().await, ["bob/edge-1", "bob/edge-2"]);
    for name in ["edge-1", "edge-3"] {
        flow::set::machine(&story.shell, &caller, name, &owner(Some("carol")), "i").await.unwrap();
    }
    assert_eq!(owned().await, ["bob/edge-2", "carol/edge-1", "carol/edge-3"]);
    assert!(is_owners(&story, "carol").await);
    flow::offboard::offboard(&story.shell, &caller, "carol", "bob", "i").await.unwrap();
    assert_eq!(owned().await, ["bob/edge-1", "bob/edge-2", "bob/edge-3"]);
    assert!(!is_owners(&story, "carol").await);
    flow::admin::remove(&story.shell, &caller, Role::Machine, "edge-2", "i").await.unwrap();
    let leaving = story.admit(&story.peer(&first)).await.unwrap();
    flow::admin::leave(&story.shell, &leaving, "i").await.unwrap();
    assert_eq!(owned().await, ["bob/edge-3"]);
}

/// A store that is older than the index, or has lost some of it, is as good as any other from the next start on.
#[tokio::test]
async fn the_index_of_machines_by_owner_is_completed() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    story.person("bob", &[]).await;
    // As many as fill more than one batch.
    let machines = 251;
    let token = TokenWish { owner: Some("bob".into()), uses: Some(1), ..TokenWish::default() };
    let token = make(&story, &alice, token).await.unwrap().token;
    story.stranger().join(&token, "edge-0").await.unwrap().issued();
    let record = story.shell.get::<Subject>("subject/machine/edge-0".into()).await.unwrap().unwrap().record;
    let mut batch = Batch::default().delete("owned/bob/edge-0");
    for number in 1..machines {
        let name = format!("edge-{number}");
        let key = Key::from(format!("subject/machine/{name}"));
        batch = batch.put(key, serde_json::to_vec(&Subject { name, ..record.clone() }).unwrap());
    }
    story.shell.store.commit(batch).await.unwrap();
    assert!(!is_owners(&story, "bob").await);
    for _ in 0..2 {
        flow::owners::complete(&story.shell).await.unwrap();
        let rows = story.shell.store.scan(&Key::from("owned/bob/"), None, 1000).await.unwrap().rows;
        assert_eq!(rows.len(), machines);
    }
    assert!(is_owners(&story, "bob").await);
}
