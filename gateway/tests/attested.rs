//! Stories of evidence in two rounds, and of evidence at renewals. They need an attestor that asks back: the one for tests, which
//! debug builds alone have.
#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "these stories need few of the cast")]
mod story;

use std::{sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use gateway::{
    attest::{self, Attestors},
    core::{
        evidence::{Challenge, Section, Sections},
        records::Lineage,
        refusal::Refusal,
    },
    flow::{asked::TokenWish, sweep},
};
use pki::SoftwareKey;
use story::{DAY, Member, Story, Told, minutes};

const SECRET: &str = "sixteen bytes or more";

/// What is in the policy of these stories beside the default one.
const RULES: &str = r#"
@id("by-reference")
@lifetime("24h")
permit (principal is Lychgate::Newcomer, action == Lychgate::Action::"enroll", resource)
when { principal.claims has reference_name && principal.assurance >= 2 };
"#;

fn attestors(secret: &str) -> Attestors {
    let values = format!("secret = \"{secret}\"").parse().unwrap();
    Attestors::from(&Sections::from([("reference".to_owned(), Section { values, folder: "/".into() })])).unwrap()
}

async fn story(more: &str) -> Story {
    let story = Story::with_policy(|text| format!("{text}\n{RULES}\n{more}")).await;
    trust(&story, attestors(SECRET));
    story
}

fn trust(story: &Story, attestors: Attestors) {
    let mut settings = (**story.shell.settings.load()).clone();
    settings.attestors = Arc::new(attestors);
    story.shell.settings.store(Arc::new(settings));
}

/// A policy whose machines renew under this annotation.
fn reattest(annotation: &'static str) -> impl Fn(&str) -> String {
    move |text| {
        let rule = "@id(\"renew-machine\")\n";
        assert!(text.contains(rule));
        format!("{}\n{RULES}", text.replace(rule, &format!("{rule}@reattest(\"{annotation}\")\n")))
    }
}

fn first(name: &str) -> Vec<(String, String)> {
    vec![("reference".to_owned(), name.to_owned())]
}

/// The answer to a challenge by whoever knows `secret`, for a key.
fn answer(name: &str, challenge: &Challenge, secret: &str, key: &SoftwareKey) -> Vec<(String, String)> {
    let [(kind, nonce)] = challenge.asks.as_slice() else { panic!("{challenge:?}") };
    let signed = [hex::decode(nonce).unwrap(), story::digest(key).as_bytes().to_vec()].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &signed);
    vec![(kind.clone(), format!("{name} {}", hex::encode(tag)))]
}

/// Joins in two rounds.
async fn joined(story: &Story, name: &str) -> Member {
    let machine = story.stranger();
    let challenge = machine.with(name, first(name)).await.unwrap().challenge();
    let answered = answer(name, &challenge, SECRET, machine.key());
    let issued = machine.answer(name, answered, &challenge.ticket).await.unwrap().issued();
    machine.into_member(issued)
}

/// Renews in two rounds, with the next key.
async fn renewed(story: &Story, machine: Member, name: &str) -> Member {
    let challenge = match machine.renew_with(story, first(name), None).await.unwrap() {
        Told::Challenge(challenge) => challenge,
        Told::Issued(issued) => panic!("{issued:?} instead of a challenge"),
    };
    let next = machine.next_key().await;
    let answered = answer(name, &challenge, SECRET, &next);
    let issued = machine.renew_with(story, answered, Some(&challenge.ticket)).await.unwrap().issued();
    machine.moved(issued)
}

async fn renewed_without(story: &Story, machine: Member) -> Member {
    let issued = machine.renew(story).await.unwrap();
    machine.moved(issued)
}

/// The assurance in a certificate's policies, and in what policy is asked about its machine.
async fn assurance(story: &Story, machine: &Member) -> &'static str {
    let caller = machine.caller(story).await;
    let lineage = story.shell.get::<Lineage>(format!("lineage/{}", caller.lineage.record.id)).await.unwrap().unwrap();
    let level = lineage.record.assurance().unwrap();
    assert_eq!(story.peer(&machine.issued).assurance, level, "in the certificate");
    level.level().as_str()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(got: Result<T, Refusal>, code: &str) {
    match got {
        Err(Refusal::Evidence(reject)) => assert_eq!(reject.code.name, code, "{reject}"),
        other => panic!("{other:?} instead of {code}"),
    }
}

#[tokio::test]
async fn no_two_challenges_are_the_same() {
    let story = story("").await;
    let machine = story.stranger();
    let one = machine.with("edge-a", first("edge-a")).await.unwrap().challenge();
    let two = machine.with("edge-a", first("edge-a")).await.unwrap().challenge();
    assert!(one.asks != two.asks && one.ticket != two.ticket, "{one:?} {two:?}");
    let stale = answer("edge-a", &one, SECRET, machine.key());
    refused(machine.answer("edge-a", stale, &two.ticket).await, "reference-wrong");
}

/// Each costs a challenge, and one can be answered.
#[tokio::test]
async fn a_second_piece_of_a_kind_that_asks_is_refused_before_the_first_is_read() {
    let story = story("").await;
    let machine = story.stranger();
    for body in ["edge-a", "?"] {
        let two = [first(body), first(body)].concat();
        refused(machine.with("edge-a", two).await, "evidence-conflict");
    }
    refused(machine.with("edge-a", first("?")).await, "reference-malformed");
}

#[tokio::test]
async fn two_rounds_and_a_lost_reply() {
    let story = story("").await;
    let alice = story.first_person().await;
    // What is written down in one millisecond has no order; of others the newest comes first.
    story.clock.advance(Duration::from_secs(1));
    let before = story.everything().await;
    let machine = story.stranger();
    let challenge = machine.with("edge-a", first("edge-a")).await.unwrap().challenge();
    assert_eq!(story.everything().await, before, "nothing is written for whoever only asks");
    let answered = answer("edge-a", &challenge, SECRET, machine.key());
    let one = machine.answer("edge-a", answered.clone(), &challenge.ticket).await.unwrap().issued();
    let again = machine.answer("edge-a", answered, &challenge.ticket).await.unwrap().issued();
    assert_eq!(one.certificate, again.certificate, "a lost reply is repeated");
    let machine = machine.into_member(one);
    assert_eq!(assurance(&story, &machine).await, "hardware");
    let admitted = story.events(&alice).await.into_iter().rfind(|row| row.event == "enrollment.admitted").unwrap();
    assert_eq!(admitted.detail.get("evidence").map(String::as_str), Some("join-token"), "alice came by a token");
    assert!(story.events(&alice).await.iter().any(|row| row.detail.get("evidence").is_some_and(|e| e == "reference")));
}

#[tokio::test]
async fn the_second_round_may_come_on_another_connection() {
    let story = story("").await;
    let machine = story.stranger();
    let challenge = machine.with("edge-a", first("edge-a")).await.unwrap().challenge();
    let answered = answer("edge-a", &challenge, SECRET, machine.key());
    let machine = machine.on_connection([9; 32]);
    machine.answer("edge-a", answered, &challenge.ticket).await.unwrap().issued();
}

#[tokio::test]
async fn tickets_that_do_not_hold() {
    let story = story("").await;
    let machine = story.stranger();
    let challenge = machine.with("edge-a", first("edge-a")).await.unwrap().challenge();
    let answered = answer("edge-a", &challenge, SECRET, machine.key());
    // Of another key.
    let thief = story.stranger();
    refused(thief.answer("edge-a", answered.clone(), &challenge.ticket).await, "ticket-invalid");
    // Of another gateway.
    let elsewhere = self::story("").await;
    let foreign = elsewhere.stranger().with("edge-a", first("edge-a")).await.unwrap().challenge();
    refused(machine.answer("edge-a", answered.clone(), &foreign.ticket).await, "ticket-invalid");
    // Of evidence that is not sent, or of other evidence.
    let token = story.token(TokenWish::default()).await;
    let other = vec![("join-token".to_owned(), token)];
    refused(machine.answer("edge-a", other, &challenge.ticket).await, "ticket-invalid");
    refused(machine.answer("edge-a", vec![], &challenge.ticket).await, "ticket-invalid");
    refused(machine.answer("edge-a", answered.clone(), "no ticket").await, "ticket-invalid");
    // The answer is wrong, or is none.
    let wrong = answer("edge-a", &challenge, "another secret, too", machine.key());
    refused(machine.answer("edge-a", wrong, &challenge.ticket).await, "reference-wrong");
    refused(machine.answer("edge-a", first("edge-a"), &challenge.ticket).await, "reference-malformed");
    // In its last second it holds, a second later it does not.
    story.clock.advance(Duration::from_secs(301));
    refused(machine.answer("edge-a", answered.clone(), &challenge.ticket).await, "ticket-expired");
    let challenge = machine.with("edge-a", first("edge-a")).await.unwrap().challenge();
    let answered = answer("edge-a", &challenge, SECRET, machine.key());
    story.clock.advance(Duration::from_secs(300));
    machine.answer("edge-a", answered, &challenge.ticket).await.unwrap().issued();
}

/// A ticket is for one use: whoever was let in by it, and taken back, does not come in by it again.
#[tokio::test]
async fn a_ticket_is_used_once() {
    let story = Story::with_policy(|text| text.to_owned()).await;
    trust(&story, attestors(SECRET));
    let machine = story.stranger();
    let challenge = machine.with("edge-a", first("edge-a")).await.unwrap().challenge();
    let answered = answer("edge-a", &challenge, SECRET, machine.key());
    let waiting = machine.answer("edge-a", answered.clone(), &challenge.ticket).await.unwrap().waiting();
    let again = machine.answer("edge-a", answered.clone(), &challenge.ticket).await.unwrap().waiting();
    assert_eq!(waiting.id, again.id, "a lost reply is repeated");
    gateway::flow::enroll::withdraw(&story.shell, &waiting.id, "story").await.unwrap();
    refused(machine.answer("edge-a", answered.clone(), &challenge.ticket).await, "ticket-spent");
    // That it was used is remembered for longer than it holds, and not for ever.
    let tickets = async || story.shell.store.scan(&"ticket/".into(), None, 10).await.unwrap().rows.len();
    assert_eq!(tickets().await, 1);
    story.clock.advance(minutes(30));
    sweep::sweep(&story.shell).await.unwrap();
    assert_eq!(tickets().await, 1);
    story.clock.advance(minutes(60));
    sweep::sweep(&story.shell).await.unwrap();
    assert_eq!(tickets().await, 0);
}

#[tokio::test]
async fn two_pieces_never_add_up() {
    let story = story("").await;
    let token = story.token(TokenWish { groups: vec!["admins".into()], ..TokenWish::default() }).await;
    let machine = story.stranger();
    let with_token = |mut evidence: Vec<(String, String)>| {
        evidence.push(("join-token".to_owned(), token.clone()));
        evidence
    };
    // The one that asks back is asked first; together they are refused, and neither is spent.
    let challenge = machine.with("edge-a", with_token(first("edge-a"))).await.unwrap().challenge();
    let answered = answer("edge-a", &challenge, SECRET, machine.key());
    refused(machine.answer("edge-a", with_token(answered.clone()), &challenge.ticket).await, "evidence-conflict");
    machine.answer("edge-a", answered, &challenge.ticket).await.unwrap().issued();
    story.stranger().join(&token, "edge-b").await.unwrap().issued();
}

#[tokio::test]
async fn a_lock_on_what_it_rests_on_comes_before_any_question() {
    let story = story("").await;
    let alice = story.first_person().await;
    joined(&story, "edge-a").await;
    story.lock(&alice, "machine", "edge-a").await.unwrap();
    let told = story.stranger().with("edge-a", first("edge-a")).await.unwrap_err();
    assert!(matches!(told, Refusal::Locked { .. }), "{told:?}");
}

#[tokio::test]
async fn an_attestor_that_is_off_is_not_there() {
    let story = story("").await;
    trust(&story, Attestors::standard().unwrap());
    refused(story.stranger().with("edge-a", first("edge-a")).await, "evidence-unknown");
}

#[tokio::test]
async fn assurance_is_what_is_proven_at_this_renewal() {
    let story = story("").await;
    let alice = story.first_person().await;
    let machine = joined(&story, "edge-a").await;
    assert_eq!(assurance(&story, &machine).await, "hardware");
    story.clock.advance(DAY / 2);
    let machine = renewed_without(&story, machine).await;
    assert_eq!(assurance(&story, &machine).await, "software", "nothing was proven of the new key");
    story.clock.advance(DAY / 4);
    let machine = renewed(&story, machine, "edge-a").await;
    assert_eq!(assurance(&story, &machine).await, "hardware");
    let taken = story.events(&story.renewed(alice).await).await;
    assert_eq!(taken.iter().filter(|row| row.event == "evidence.taken").count(), 1);
}

#[tokio::test]
async fn evidence_at_a_renewal_is_the_callers_and_its_ticket_is_for_the_new_key() {
    let story = story("").await;
    let machine = joined(&story, "edge-a").await;
    story.clock.advance(DAY / 2);
    // Another machine's.
    let Told::Challenge(challenge) = machine.renew_with(&story, first("edge-b"), None).await.unwrap() else { panic!() };
    let next = machine.next_key().await;
    let others = answer("edge-b", &challenge, SECRET, &next);
    refused(machine.renew_with(&story, others, Some(&challenge.ticket)).await, "evidence-conflict");
    // What lets in says nothing here.
    let token = story.token(TokenWish::default()).await;
    let by_token = vec![("join-token".to_owned(), token)];
    refused(machine.renew_with(&story, by_token, None).await, "evidence-unknown");
    // A ticket for one new key is none for another.
    let Told::Challenge(challenge) = machine.renew_with(&story, first("edge-a"), None).await.unwrap() else { panic!() };
    let copy = machine.copied();
    let next = copy.next_key().await;
    let answered = answer("edge-a", &challenge, SECRET, &next);
    refused(copy.renew_with(&story, answered, Some(&challenge.ticket)).await, "ticket-invalid");
}

#[tokio::test]
async fn a_rule_may_refuse_renewals_without_fresh_evidence() {
    let story = Story::with_policy(reattest("24h")).await;
    trust(&story, attestors(SECRET));
    let machine = joined(&story, "edge-a").await;
    let by_token = story.machine("edge-t").await;
    story.clock.advance(DAY / 2);
    let machine = renewed_without(&story, machine).await;
    let by_token = renewed_without(&story, by_token).await;
    story.clock.advance(DAY / 2 + minutes(1));
    refused(machine.renew(&story).await, "evidence-wanted");
    let machine = renewed(&story, machine, "edge-a").await;
    assert_eq!(assurance(&story, &machine).await, "hardware");
    // Whoever came by a token has nothing to show again.
    let by_token = renewed_without(&story, by_token).await;
    assert_eq!(assurance(&story, &by_token).await, "software");
}

#[tokio::test]
async fn a_rule_may_lower_them() {
    let story = Story::with_policy(reattest("always, lower")).await;
    trust(&story, attestors(SECRET));
    let machine = joined(&story, "edge-a").await;
    story.clock.advance(DAY / 2);
    let machine = renewed_without(&story, machine).await;
    assert_eq!(assurance(&story, &machine).await, "software");
    let caller = machine.caller(&story).await;
    let claims: Vec<&String> = caller.subject.record.claims.keys().collect();
    assert!(claims.is_empty() && caller.subject.record.evidence.is_empty(), "{claims:?}");
    let machine = renewed(&story, machine, "edge-a").await;
    let caller = machine.caller(&story).await;
    assert_eq!(caller.subject.record.claims.len(), 2, "shown again, known again");
    assert_eq!(assurance(&story, &machine).await, "hardware");
}

#[tokio::test]
async fn a_rule_may_want_what_is_proven_now() {
    let story = Story::with_policy(|text| {
        let rule = "forbid (principal is Lychgate::Machine, action == Lychgate::Action::\"renew\", resource)";
        format!("{text}\n{RULES}\n@id(\"only-hardware\")\n{rule}\nunless {{ principal.assurance >= 2 }};")
    })
    .await;
    trust(&story, attestors(SECRET));
    let machine = joined(&story, "edge-a").await;
    story.clock.advance(DAY / 2);
    let denied = machine.renew(&story).await.unwrap_err();
    assert!(matches!(denied, Refusal::Denied { action: "renew", .. }), "{denied:?}");
    let machine = renewed(&story, machine, "edge-a").await;
    assert_eq!(assurance(&story, &machine).await, "hardware");
}

#[test]
fn the_list_has_it() {
    assert!(attest::ALL.iter().any(|row| row.kind == "reference"));
}
