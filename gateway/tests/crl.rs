//! The revocation lists against what the gateway itself thinks of each certificate: whatever is done, both say the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gateway::{flow, registry::lists::List};
use pki::{Role, UnixTime};
use story::{DAY, Member, Story, all, minutes};
use wire::enroll::IssuedReply;

/// Serials on a list with their reasons.
fn entries(list: &List) -> BTreeMap<String, String> {
    let (_, parsed) = x509_parser::parse_x509_crl(&list.der).unwrap();
    let reason = |entry: &x509_parser::revocation_list::RevokedCertificate<'_>| {
        entry.reason_code().map_or_else(String::new, |(_, reason)| reason.to_string())
    };
    parsed.iter_revoked_certificates().map(|entry| (format!("{:032x}", entry.serial()), reason(entry))).collect()
}

async fn list(story: &Story) -> Arc<List> {
    flow::crl::list(&story.shell, &story.shell.ca().signing().machine).await.unwrap()
}

/// What the list, made anew, says of each certificate.
async fn says(story: &Story, certificates: &[&IssuedReply]) -> Vec<Option<String>> {
    story.clock.advance(flow::crl::KEPT);
    let listed = entries(&*list(story).await);
    certificates.iter().map(|issued| listed.get(&issued.serial).cloned()).collect()
}

fn held() -> Option<String> {
    Some("CertificateHold".to_owned())
}

fn ceased() -> Option<String> {
    Some("CessationOfOperation".to_owned())
}

fn replaced() -> Option<String> {
    Some("Superseded".to_owned())
}

async fn unlock(story: &Story, by: &Member, kind: &str, target: &str) {
    flow::admin::unlock(&story.shell, &by.caller(story).await, kind, target, "story").await.unwrap();
}

async fn lineage(story: &Story, machine: &Member) -> String {
    machine.caller(story).await.lineage.record.id
}

#[tokio::test]
async fn a_locked_machine_with_everything_it_was_given() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let old = story.machine("m-1").await;
    old.caller(&story).await;
    // Renewed twice by a thief, who never uses either here; then by the machine, which uses its own.
    let stolen = [old.fresh().renew(&story).await.unwrap(), old.fresh().renew(&story).await.unwrap()];
    let new = old.renew(&story).await.unwrap();
    let everything = [&old.issued, &stolen[0], &stolen[1], &new];
    assert_eq!(says(&story, &everything).await, [None, replaced(), replaced(), None]);
    story.admit(&story.peer(&new)).await.unwrap();
    story.clock.advance(minutes(3));
    assert_eq!(says(&story, &everything).await, [replaced(), replaced(), replaced(), None]);
    story.lock(&alice, "machine", "m-1").await.unwrap();
    assert_eq!(says(&story, &everything).await, [replaced(), replaced(), replaced(), held()]);
    unlock(&story, &alice, "machine", "m-1").await;
    assert_eq!(says(&story, &everything).await, [replaced(), replaced(), replaced(), None]);
}

#[tokio::test]
async fn a_key() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.machine("m-1").await;
    let key = machine.caller(&story).await.key.hex();
    story.lock(&alice, "key", &key).await.unwrap();
    assert_eq!(says(&story, &[&machine.issued]).await, [held()]);
    unlock(&story, &alice, "key", &key).await;
    assert_eq!(says(&story, &[&machine.issued]).await, [None]);
}

#[tokio::test]
async fn of_two_locks_one_is_lifted() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.machine("m-1").await;
    let lineage = lineage(&story, &machine).await;
    story.lock(&alice, "machine", "m-1").await.unwrap();
    story.lock(&alice, "lineage", &lineage).await.unwrap();
    unlock(&story, &alice, "machine", "m-1").await;
    assert_eq!(says(&story, &[&machine.issued]).await, [held()]);
    unlock(&story, &alice, "lineage", &lineage).await;
    assert_eq!(says(&story, &[&machine.issued]).await, [None]);
}

#[tokio::test]
async fn a_machine_that_was_removed_stays_on_it_whatever_is_lifted() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.machine("m-1").await;
    let lineage = lineage(&story, &machine).await;
    story.lock(&alice, "lineage", &lineage).await.unwrap();
    let caller = alice.caller(&story).await;
    flow::admin::remove(&story.shell, &caller, Role::Machine, "m-1", "story").await.unwrap();
    assert_eq!(says(&story, &[&machine.issued]).await, [ceased()]);
    unlock(&story, &alice, "lineage", &lineage).await;
    assert_eq!(says(&story, &[&machine.issued]).await, [ceased()]);
}

#[tokio::test]
async fn a_fork() {
    let story = Story::new().await;
    let machine = story.machine("m-1").await;
    machine.caller(&story).await;
    let new = machine.renew(&story).await.unwrap();
    story.admit(&story.peer(&new)).await.unwrap();
    story.clock.advance(minutes(10));
    story.admit(&story.peer(&machine.issued)).await.unwrap_err();
    let compromised = Some("KeyCompromise".to_owned());
    assert_eq!(says(&story, &[&machine.issued, &new]).await, [compromised.clone(), compromised]);
}

#[tokio::test]
async fn a_lock_beside_a_renewal_in_any_order() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    for round in 0..10 {
        let name = format!("m-{round}");
        let machine = story.machine(&name).await;
        machine.caller(&story).await;
        let renewal = machine.fresh();
        let (renewed, locked) = if round % 2 == 0 {
            tokio::join!(renewal.renew(&story), story.lock(&alice, "machine", &name))
        } else {
            let (locked, renewed) = tokio::join!(story.lock(&alice, "machine", &name), renewal.renew(&story));
            (renewed, locked)
        };
        locked.unwrap();
        let mut everything = vec![&machine.issued];
        everything.extend(renewed.as_ref().ok());
        let listed = says(&story, &everything).await;
        assert!(listed.iter().all(|entry| *entry == held()), "round {round}: {listed:?}");
    }
}

#[tokio::test]
async fn it_is_made_once_for_all_who_ask() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.machine("m-1").await;
    let lists = all((0..50).map(|_| list(&story))).await;
    let number = lists[0].number;
    assert!(lists.iter().all(|list| list.number == number), "made once");
    story.clock.advance(flow::crl::KEPT - Duration::from_secs(1));
    assert_eq!(list(&story).await.number, number, "still young");
    // A lock does not wait for the minute, and neither does what is lifted.
    story.lock(&alice, "machine", "m-1").await.unwrap();
    let locked = list(&story).await;
    assert!(locked.number > number && entries(&locked).contains_key(&machine.issued.serial));
    unlock(&story, &alice, "machine", "m-1").await;
    assert!(!entries(&*list(&story).await).contains_key(&machine.issued.serial));
    story.clock.advance(flow::crl::KEPT);
    assert!(list(&story).await.number > locked.number);
}

#[tokio::test]
async fn its_number_grows_whatever_the_clock_does() {
    let story = Story::new().await;
    let mut last = list(&story).await.number;
    let start = story.shell.now();
    for at in [start.plus(DAY), start, start.minus(minutes(3)), start.plus(DAY * 500), start, UnixTime::new(5)] {
        story.clock.set(at);
        let number = list(&story).await.number;
        assert!(number > last, "at {at}: {number} after {last}");
        last = number;
    }
}

#[tokio::test]
async fn an_entry_stands_on_one_list_after_its_certificate_ended() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.machine("m-1").await;
    story.lock(&alice, "machine", "m-1").await.unwrap();
    assert_eq!(says(&story, &[&machine.issued]).await, [held()]);
    story.clock.set(UnixTime::new(machine.issued.not_after + 3600));
    assert_eq!(says(&story, &[&machine.issued]).await, [held()], "once more, after its end");
    assert_eq!(says(&story, &[&machine.issued]).await, [None]);
}
