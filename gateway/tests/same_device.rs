//! Stories of machines that are wiped and come back by their device, and of those that do not. The device is that of the attestor for
//! tests, which debug builds alone have; the end-to-end tests have emulated TPMs.
#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "these stories need few of the cast")]
mod story;

use std::path::Path;

use aws_lc_rs::hmac;
use gateway::{
    core::{evidence::Challenge, refusal::Refusal},
    flow::{self, asked::TokenWish, views::RequestDetails},
};
use pki::{Role, SoftwareKey};
use story::{Answer, DAY, Member, Story, Stranger, Told, minutes};
use wire::enroll::WaitingReply;

const SECRET: &str = "sixteen bytes or more";

/// Lets a machine come back by its device.
const RETURNS: &str = r#"
@id("returns")
@lifetime("24h")
permit (principal is Lychgate::Newcomer, action == Lychgate::Action::"enroll", resource)
when { principal.same_device && principal.claims has reference_device };
"#;

async fn story(more: &str) -> Story {
    let story = Story::with_policy(|text| format!("{text}\n{more}")).await;
    story.attests_by("reference", &format!("secret = \"{SECRET}\""), Path::new("/"));
    story
}

fn first(device: &str) -> Vec<(String, String)> {
    vec![("reference".to_owned(), device.to_owned())]
}

fn answer(device: &str, challenge: &Challenge, key: &SoftwareKey) -> Vec<(String, String)> {
    let [(kind, nonce)] = challenge.asks.as_slice() else { panic!("{challenge:?}") };
    let signed = [hex::decode(nonce).unwrap(), story::digest(key).as_bytes().to_vec()].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), &signed);
    vec![(kind.clone(), format!("{device} {}", hex::encode(tag)))]
}

/// Asks with a device, and other evidence beside it.
async fn asks(machine: &Stranger, name: &str, device: &str, other: Vec<(String, String)>) -> Result<Answer, Refusal> {
    let with = |mut evidence: Vec<(String, String)>| {
        evidence.extend(other.clone());
        evidence
    };
    let challenge = machine.with(name, with(first(device))).await?.challenge();
    machine.answer(name, with(answer(device, &challenge, machine.key())), &challenge.ticket).await
}

/// A machine that waited with its device, and was approved.
async fn approved(story: &Story, by: &Member, name: &str, device: &str) -> Member {
    let machine = story.stranger();
    let waiting = asks(&machine, name, device, vec![]).await.unwrap().waiting();
    story.approve(by, &waiting.id, &machine.code(&waiting)).await.unwrap();
    let issued = machine.poll(&waiting.id).await.unwrap().issued();
    let machine = machine.into_member(issued);
    machine.caller(story).await;
    machine
}

async fn renewed(story: &Story, machine: &Member, device: &str) -> Result<(), Refusal> {
    let Told::Challenge(challenge) = machine.renew_with(story, first(device), None).await? else { panic!() };
    let next = machine.next_key().await;
    machine.renew_with(story, answer(device, &challenge, &next), Some(&challenge.ticket)).await.map(drop)
}

async fn requests(story: &Story, by: &Member) -> Vec<RequestDetails> {
    flow::people::list(&story.shell, &by.caller(story).await, false, None, 10).await.unwrap().items
}

async fn lineage(story: &Story, machine: &Member) -> String {
    machine.caller(story).await.lineage.record.id
}

async fn happened(story: &Story, by: &Member, event: &str) -> usize {
    story.events(by).await.iter().filter(|told| told.event == event).count()
}

async fn waits(story: &Story, name: &str, device: &str) -> (Stranger, WaitingReply) {
    let machine = story.stranger();
    let waiting = asks(&machine, name, device, vec![]).await.unwrap().waiting();
    (machine, waiting)
}

#[tokio::test]
async fn a_machine_that_was_wiped_comes_back_by_its_device_alone() {
    let story = story(RETURNS).await;
    let alice = story.first_person().await;
    let before = approved(&story, &alice, "edge-a", "@tpm-a:1").await;
    let was = lineage(&story, &before).await;
    // The new system has another host name: it is the same machine all the same.
    let wiped = story.stranger();
    let issued = asks(&wiped, "ubuntu", "@tpm-a:2", vec![]).await.unwrap().issued();
    let after = wiped.into_member(issued);
    assert_eq!(story.peer(&after.issued).identity.name.as_str(), "edge-a");
    // Until the new certificate is used, the machine has the old one.
    before.caller(&story).await;
    assert_eq!(lineage(&story, &after).await, was);
    assert_eq!(happened(&story, &alice, "device.returned").await, 1);
    let subject = after.caller(&story).await.subject.record;
    assert_eq!(subject.claims["reference_count"].text(), "2", "what was shown is known");
    // And again, after a renewal with the device.
    renewed(&story, &after, "@tpm-a:3").await.unwrap();
    let again = story.stranger();
    let issued = asks(&again, "edge-a", "@tpm-a:4", vec![]).await.unwrap().issued();
    assert_eq!(lineage(&story, &again.into_member(issued)).await, was);
}

/// Whoever copied the disk and the state of the TPM is a second holder, like whoever copied the disk.
#[tokio::test]
async fn a_copy_that_comes_back_is_noticed() {
    let story = story(RETURNS).await;
    let alice = story.first_person().await;
    let original = approved(&story, &alice, "edge-a", "@tpm-a:1").await;
    let copy = story.stranger();
    let issued = asks(&copy, "edge-a", "@tpm-a:1", vec![]).await.unwrap().issued();
    let copy = copy.into_member(issued);
    copy.caller(&story).await;
    let forked = original.renew(&story).await.unwrap_err();
    assert!(matches!(forked, Refusal::Forked { .. }), "{forked:?}");
    assert!(story.admit(&story.peer(&copy.issued)).await.is_err(), "neither goes on");
    let refused = asks(&story.stranger(), "edge-a", "@tpm-a:1", vec![]).await.unwrap_err();
    assert!(matches!(refused, Refusal::Locked { .. }), "{refused:?}");
}

#[tokio::test]
async fn without_a_rule_a_person_decides_and_sees_whose_device_it_is() {
    let story = story("").await;
    let alice = story.first_person().await;
    let before = approved(&story, &alice, "edge-a", "@tpm-a:7").await;
    let was = lineage(&story, &before).await;
    let (wiped, waiting) = waits(&story, "ubuntu", "@tpm-a:5").await;
    let [row] = requests(&story, &alice).await.try_into().unwrap();
    let same = row.same_device.unwrap();
    assert_eq!((same.machine.as_str(), same.state), ("edge-a", "active"));
    assert!(same.comes_back && same.counted_back);
    assert_eq!((row.wanted_name.as_deref(), row.taken), (Some("edge-a"), None));
    // Another name is not to be had.
    let code = wiped.code(&waiting);
    let refused = story.approve_as(&alice, &waiting.id, &code, "edge-b").await.unwrap_err();
    assert!(matches!(refused, Refusal::NameIllegal { .. }), "{refused:?}");
    story.approve(&alice, &waiting.id, &code).await.unwrap();
    let after = wiped.poll(&waiting.id).await.unwrap().issued();
    let after = wiped.into_member(after);
    assert_eq!(lineage(&story, &after).await, was);
    assert_eq!(happened(&story, &alice, "device.returned").await, 1);
    assert_eq!(happened(&story, &alice, "device.counted-back").await, 1);
    let notices = flow::notices::of(&story.shell, &alice.caller(&story).await).await.unwrap();
    let told = "machine `edge-a`: its device counted back, `reference_count` from 7 to 5";
    assert!(notices.iter().any(|notice| notice.starts_with(told)), "{notices:?}");
    assert_eq!(after.caller(&story).await.subject.record.claims["reference_count"].text(), "5");
}

#[tokio::test]
async fn a_count_that_went_back_is_told_at_a_renewal() {
    let story = story("").await;
    let alice = story.first_person().await;
    let machine = approved(&story, &alice, "edge-a", "@tpm-a:7").await;
    renewed(&story, &machine, "@tpm-a:6").await.unwrap();
    assert_eq!(happened(&story, &alice, "device.counted-back").await, 1);
    // For a while.
    let notices = async |by: &Member| flow::notices::of(&story.shell, &by.caller(&story).await).await.unwrap().len();
    assert_eq!(notices(&alice).await, 1);
    story.clock.advance(DAY * 7 + minutes(1));
    let alice = story.renewed(alice).await;
    assert_eq!(notices(&alice).await, 0);
}

#[tokio::test]
async fn who_is_locked_or_was_removed_does_not_come_back() {
    for kind in ["machine", "lineage", "key"] {
        let story = story(RETURNS).await;
        let alice = story.first_person().await;
        let machine = approved(&story, &alice, "edge-a", "@tpm-a:1").await;
        let target = match kind {
            "machine" => "edge-a".to_owned(),
            "lineage" => lineage(&story, &machine).await,
            _ => machine.digest(),
        };
        story.lock(&alice, kind, &target).await.unwrap();
        let refused = asks(&story.stranger(), "edge-b", "@tpm-a:2", vec![]).await.unwrap_err();
        assert!(matches!(&refused, Refusal::Locked { reason, .. } if reason.contains("stolen")), "{kind}: {refused:?}");
    }
    let story = story(RETURNS).await;
    let alice = story.first_person().await;
    approved(&story, &alice, "edge-a", "@tpm-a:1").await;
    flow::admin::remove(&story.shell, &alice.caller(&story).await, Role::Machine, "edge-a", "story").await.unwrap();
    let (machine, waiting) = waits(&story, "edge-b", "@tpm-a:2").await;
    let [row] = requests(&story, &alice).await.try_into().unwrap();
    let same = row.same_device.unwrap();
    assert_eq!((same.machine.as_str(), same.state, same.comes_back), ("edge-a", "removed", false));
    // It is a new machine, and from now on the device is that one's.
    story.approve(&alice, &waiting.id, &machine.code(&waiting)).await.unwrap();
    machine.poll(&waiting.id).await.unwrap().issued();
    let again = story.stranger();
    let issued = asks(&again, "edge-c", "@tpm-a:3", vec![]).await.unwrap().issued();
    assert_eq!(story.peer(&issued).identity.name.as_str(), "edge-b");
}

/// A request that waits when its machine is locked or removed leads nowhere.
#[tokio::test]
async fn what_waits_stands_on_the_machine_that_it_would_be() {
    let story = story("").await;
    let alice = story.first_person().await;
    approved(&story, &alice, "edge-a", "@tpm-a:1").await;
    let (wiped, waiting) = waits(&story, "edge-a", "@tpm-a:2").await;
    story.lock(&alice, "machine", "edge-a").await.unwrap();
    let refused = story.approve(&alice, &waiting.id, &wiped.code(&waiting)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Locked { .. }), "{refused:?}");
    flow::admin::unlock(&story.shell, &alice.caller(&story).await, "machine", "edge-a", "story").await.unwrap();
    flow::admin::remove(&story.shell, &alice.caller(&story).await, Role::Machine, "edge-a", "story").await.unwrap();
    assert!(matches!(wiped.poll(&waiting.id).await.unwrap_err(), Refusal::Retired { .. }));
}

#[tokio::test]
async fn another_device_is_another_machine() {
    let story = story(RETURNS).await;
    let alice = story.first_person().await;
    let machine = approved(&story, &alice, "edge-a", "@tpm-a:1").await;
    // A copy of the disk.
    let refused = renewed(&story, &machine, "@tpm-b:1").await.unwrap_err();
    assert!(matches!(&refused, Refusal::Evidence(reject) if reject.code.name == "evidence-conflict"), "{refused:?}");
    // One that wants the name competes for it.
    waits(&story, "edge-a", "@tpm-b:1").await;
    let [row] = requests(&story, &alice).await.try_into().unwrap();
    assert_eq!((row.taken.as_deref(), row.same_device), (Some("active"), None));
}

/// What admits by itself admits as what it says. The device stays with the machine that has it.
#[tokio::test]
async fn a_token_takes_no_device_from_its_machine() {
    let story = story(RETURNS).await;
    let alice = story.first_person().await;
    let before = approved(&story, &alice, "edge-a", "@tpm-a:1").await;
    let token = story.token(TokenWish::default()).await;
    let second = story.stranger();
    let issued = asks(&second, "edge-b", "@tpm-a:2", vec![("join-token".to_owned(), token)]).await.unwrap().issued();
    assert_eq!(story.peer(&issued).identity.name.as_str(), "edge-b");
    let wiped = story.stranger();
    let issued = asks(&wiped, "edge-b", "@tpm-a:3", vec![]).await.unwrap().issued();
    assert_eq!(lineage(&story, &wiped.into_member(issued)).await, lineage(&story, &before).await);
}

/// A machine that came by a token is known by the device that it shows at a renewal.
#[tokio::test]
async fn a_device_that_is_shown_at_a_renewal_is_the_machines() {
    let story = story(RETURNS).await;
    let machine = story.machine("edge-a").await;
    renewed(&story, &machine, "@tpm-a:1").await.unwrap();
    let wiped = story.stranger();
    let issued = asks(&wiped, "edge-b", "@tpm-a:2", vec![]).await.unwrap().issued();
    assert_eq!(story.peer(&issued).identity.name.as_str(), "edge-a");
}

/// Two keys of one device at once are one machine: the second request decides again.
#[tokio::test]
async fn two_at_once_are_one_machine() {
    let both = format!("{RETURNS}{}", RETURNS.replace("returns", "new").replace("principal.same_device && ", ""));
    let story = story(&both).await;
    let (one, two) = (story.stranger(), story.stranger());
    let answers =
        story::all([asks(&one, "edge-a", "@tpm-a:1", vec![]), asks(&two, "edge-b", "@tpm-a:1", vec![])]).await;
    let names: Vec<String> =
        answers.into_iter().map(|answer| story.peer(&answer.unwrap().issued()).identity.name.to_string()).collect();
    assert_eq!(names[0], names[1]);
}
