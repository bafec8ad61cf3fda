//! The leaf for a machine's sealed services: it serves, and is good for nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::edge::fronts::native::enroll::issued;
use gateway::{
    core::{
        proven::ProvenKey,
        refusal::{Malformed, Refusal},
    },
    flow::{self, shell::Retry},
};
use pki::{KeyAlgorithm, Name, Role, SoftwareKey, UnixTime};
use story::{Member, Story, minutes};
use wire::enroll::IssuedReply;

fn key() -> SoftwareKey {
    SoftwareKey::generate(KeyAlgorithm::P256).unwrap().0
}

async fn ask(story: &Story, machine: &Member, key: &SoftwareKey) -> Result<IssuedReply, Refusal> {
    let caller = machine.caller(story).await;
    let csr = pki::csr::verify(&pki::csr::request(key).unwrap()).unwrap();
    let holder = story.peer(&machine.issued).into();
    let key = ProvenKey::by_request(csr, &holder, &[0; 32]).unwrap();
    let made = flow::sealed::sealed(&story.shell, &caller, &key, "story").await;
    made.map(|made| issued(&story.shell, made)).map_err(|retry| match retry {
        Retry::Refused(refusal) => refusal,
        Retry::Conflict => panic!("nobody else is here"),
    })
}

fn ders(text: &str) -> Vec<Vec<u8>> {
    pki::parse_pem("CERTIFICATE", text).unwrap()
}

#[tokio::test]
async fn it_serves_for_as_long_as_the_machine_has_its_own_certificate() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.machine("edge-7").await;
    story.clock.advance(minutes(60));
    let sealed_key = key();
    let reply = ask(&story, &machine, &sealed_key).await.unwrap();
    assert_eq!(reply.not_after, machine.issued.not_after);
    let (leaf, chain) = (ders(&reply.certificate), ders(&reply.chain));
    let (ca, name) = (story.shell.ca(), Name::parse("edge-7").unwrap());
    let anchors = ca.anchors();
    let peer = pki::verify_sealed(&leaf[0], &[&chain[0]], anchors, &name, story.shell.now()).unwrap();
    assert_eq!(peer.identity.to_string(), "spiffe://test.example/machine/edge-7");
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf[0]).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert!(format!("{names:?}").contains("edge-7.machine.test.example"), "{names:?}");

    // A lost reply is repeatable; another key is another certificate.
    assert_eq!(ask(&story, &machine, &sealed_key).await.unwrap().serial, reply.serial);
    assert_ne!(ask(&story, &machine, &key()).await.unwrap().serial, reply.serial);
    let events = story.events(&alice).await;
    assert_eq!(events.iter().filter(|event| event.event == "certificate.sealed").count(), 2);
}

#[tokio::test]
async fn it_is_no_certificate_of_the_lineage() {
    let story = Story::new().await;
    let machine = story.machine("edge-7").await;
    let before = machine.caller(&story).await.lineage.record;
    let sealed = ask(&story, &machine, &key()).await.unwrap();
    // Nobody takes it from a client: no listener, and no attestor either, since both verify alike.
    let (leaf, chain) = (ders(&sealed.certificate), ders(&sealed.chain));
    let roles = [Role::Machine, Role::Person, Role::Gateway];
    let refused = pki::verify_peer(&leaf[0], &[&chain[0]], story.shell.ca().anchors(), &roles, story.shell.now());
    assert!(refused.unwrap_err().to_string().contains("client"), "refused for its usage");
    // The machine goes on as if nothing had been: the same current, nothing pending, and it renews.
    let after = machine.caller(&story).await.lineage.record;
    assert_eq!((&after.current, &after.pending), (&before.current, &before.pending));
    assert_eq!(after.sealed.len(), 1);
    let renewed = machine.renew(&story).await.unwrap();
    story.admit(&story.peer(&renewed)).await.unwrap();
}

/// The serials on the list of the machines' CA.
async fn listed(story: &Story) -> Vec<String> {
    let crl = flow::crl::list(&story.shell, &story.shell.ca().signing().machine).await.unwrap();
    let (_, parsed) = x509_parser::parse_x509_crl(&crl.der).unwrap();
    parsed.iter_revoked_certificates().map(|entry| format!("{:032x}", entry.serial())).collect()
}

#[tokio::test]
async fn it_is_revoked_with_the_machine_and_when_it_was_replaced_twice() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.machine("edge-7").await;
    let mut serials = Vec::new();
    for _ in 0..3 {
        serials.push(ask(&story, &machine, &key()).await.unwrap().serial);
    }
    assert_eq!(listed(&story).await, serials[..1]);
    story.lock(&alice, "machine", "edge-7").await.unwrap();
    let held = listed(&story).await;
    assert!(serials.iter().all(|serial| held.contains(serial)), "{serials:?} {held:?}");
    flow::admin::unlock(&story.shell, &alice.caller(&story).await, "machine", "edge-7", "story").await.unwrap();
    assert_eq!(listed(&story).await, serials[..1]);
}

#[tokio::test]
async fn what_is_refused() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let person = ask(&story, &alice, &key()).await.unwrap_err();
    assert!(matches!(person, Refusal::Ours(_)), "the table keeps people out, and so does the lint: {person}");
    let machine = story.machine("edge-7").await;
    let own = flow::sealed::sealed(&story.shell, &machine.caller(&story).await, &machine.csr(), "story").await;
    let Err(Retry::Refused(Refusal::Malformed(why))) = own else { panic!("its own key: {own:?}") };
    assert_eq!(why, Malformed::OwnKeySealed);
    // In the last second there is nothing to give.
    let rest = UnixTime::new(machine.issued.not_after).since(story.shell.now());
    story.clock.advance(rest);
    assert_eq!(ask(&story, &machine, &key()).await.unwrap_err(), Refusal::Expired);
}
