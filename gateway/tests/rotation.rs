//! Stories of CAs and roots that take each other's place: nobody is left behind, and what was signed goes on to be believed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use std::sync::Arc;

use gateway::{
    core::{
        slots::SlotStep,
        stranded::{Holders, Usage},
    },
    flow::{self, asked::TokenWish},
    ports::files,
    signer::{
        Authority, CaBuilder, GatewayLeaf, LeafKey, SignError, Signer,
        offline::{self, root_certificate},
        rotation,
    },
};
use pki::{GatewayName, KeyDigest, Name, Role, TrustAnchors};
use story::{DAY, Member, Story, minutes};
use wire::enroll::IssuedReply;

const HOST: &str = "gate.test.example";

/// Runs one of the commands that make keys, with the active root's.
fn prepare(story: &Story, role: Option<Role>) -> String {
    let shell = &story.shell;
    let builder = CaBuilder {
        data_dir: story.room.path().to_owned(),
        domain: shell.domain.clone(),
        passphrase: story.passphrase.clone(),
        clock: shell.clock.clone(),
        entropy: shell.entropy.clone(),
    };
    let key = offline::root_key(story.room.path()).unwrap();
    let root = offline::open_root(&root_certificate(story.room.path()).unwrap(), &key, &story.passphrase).unwrap();
    role.map_or_else(|| builder.root(&root), |role| builder.issuing(role, &root)).unwrap()
}

/// Takes a step, and reloads the gateway.
fn step(story: &Story, name: &str, step: SlotStep) {
    rotation::step(story.room.path(), name, step).unwrap();
    reload(story);
}

fn reload(story: &Story) {
    let shell = &story.shell;
    let ca = Authority::load(story.room.path(), &shell.domain, &story.passphrase, &shell.clock).unwrap();
    shell.authority.store(Arc::new(ca));
}

fn ders(pem: &str) -> Vec<Vec<u8>> {
    pki::parse_pem("CERTIFICATE", pem).unwrap()
}

/// The CA that signed a certificate, as it is sent along.
fn issuer(issued: &IssuedReply) -> KeyDigest {
    pki::ca_info(&ders(&issued.chain)[0]).unwrap().key
}

fn named(story: &Story, name: &str) -> KeyDigest {
    let ca = story.shell.ca();
    ca.slots().issuing().iter().find(|slot| slot.name == name).unwrap().key
}

/// How many certificates are on the list of a CA, which its certificate verifies.
async fn listed(story: &Story, name: &str) -> usize {
    story.clock.advance(flow::crl::KEPT);
    let list = flow::crl::list(&story.shell, &named(story, name)).await.unwrap();
    let path = story.room.path().join(format!("ca/{name}.pem"));
    let ca = ders(&files::read_text(&path).unwrap()).remove(0);
    pki::read_crl(&list.der, &ca).unwrap().entries
}

async fn usage(story: &Story) -> Usage {
    flow::authority::usage(&story.shell).await.unwrap()
}

fn names(holders: &Holders) -> Vec<&str> {
    holders.names.iter().map(String::as_str).collect()
}

/// Whom somebody believes who holds these roots.
fn believing(story: &Story, roots: &str) -> TrustAnchors {
    let roots = ders(roots);
    let roots: Vec<&[u8]> = roots.iter().map(Vec::as_slice).collect();
    TrustAnchors::new(&story.shell.domain, &roots, story.shell.now()).unwrap()
}

/// Whether a certificate leads to what somebody believes by what came with it.
fn leads(story: &Story, issued: &IssuedReply, believed: &TrustAnchors) -> bool {
    let (leaf, chain) = (ders(&issued.certificate), ders(&issued.chain));
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    pki::verify_peer(&leaf[0], &chain, believed, &[Role::Machine, Role::Person], story.shell.now()).is_ok()
}

/// The gateway's own certificate, as a new connection shows it.
async fn shown(story: &Story) -> GatewayLeaf {
    let shell = &story.shell;
    let names = vec![GatewayName::Dns(HOST.to_owned())];
    let ca = shell.ca();
    let (key, plan) =
        LeafKey::plan(&ca, &Name::parse("gateway").unwrap(), names, &shell.clock, &shell.entropy).unwrap();
    let signed = shell.signer.sign(plan).await.unwrap();
    let (certificate, _) = signed.commit(async |_| Ok::<_, ()>(1)).await.unwrap().release();
    key.with(&ca, certificate)
}

async fn is_the_gateway(story: &Story, believed: &TrustAnchors) -> bool {
    let chain = shown(story).await.chain();
    let chain: Vec<&[u8]> = chain.iter().map(AsRef::as_ref).collect();
    pki::verify_gateway(chain[0], &chain[1..], believed, HOST, story.shell.now()).is_ok()
}

async fn uses(story: &Story, member: Member, issued: IssuedReply) -> Member {
    story.admit(&story.peer(&issued)).await.unwrap();
    member.moved(issued)
}

#[tokio::test]
async fn another_issuing_ca_takes_over() {
    let story = Story::new().await;
    let (machine, away) = (story.machine("m-1").await, story.machine("m-2").await);
    for member in [&machine, &away] {
        member.caller(&story).await;
    }
    assert_eq!(prepare(&story, Some(Role::Machine)), "machine-2");
    reload(&story);
    let unpublished = story.shell.ca().slots().issuing().last().unwrap().key;
    assert!(flow::crl::list(&story.shell, &unpublished).await.is_err(), "nobody is shown what is prepared");
    step(&story, "machine-2", SlotStep::Publish);
    assert_eq!(listed(&story, "machine-2").await, 0, "its list is there before its first certificate");
    let issued = machine.renew(&story).await.unwrap();
    assert_eq!(issuer(&issued), named(&story, "machine"), "it does not sign yet");
    let machine = uses(&story, machine, issued).await;

    step(&story, "machine-2", SlotStep::Activate);
    let issued = machine.renew(&story).await.unwrap();
    assert_eq!(issuer(&issued), named(&story, "machine-2"));
    let before = believing(&story, &machine.issued.bundle);
    assert!(leads(&story, &issued, &before), "to the root that everybody has");
    // The certificate of the other CA is good until this one is used, and for others after that.
    machine.caller(&story).await;
    let machine = uses(&story, machine, issued).await;
    away.caller(&story).await;
    story.clock.advance(minutes(3));
    assert_eq!((listed(&story, "machine").await, listed(&story, "machine-2").await), (2, 0));

    // Who is away still depends on the first.
    let (slots, counted) = (story.shell.ca(), usage(&story).await);
    assert_eq!(names(&counted.signed_by(slots.slots(), "machine")), ["machine m-2"]);
    assert_eq!(counted.without_any_other(slots.slots(), "machine"), Holders::default());
    step(&story, "machine", SlotStep::Retire);
    assert_eq!(listed(&story, "machine").await, 2, "its list goes on");
    let issued = away.renew(&story).await.unwrap();
    assert_eq!(issuer(&issued), named(&story, "machine-2"), "and so does who comes with a certificate of it");
    let away = uses(&story, away, issued).await;
    assert_eq!(usage(&story).await.signed_by(story.shell.ca().slots(), "machine"), Holders::default());
    assert_eq!(usage(&story).await.signed_by(story.shell.ca().slots(), "machine-2").count, 2);
    // Its key may go then. What it signed is known as before.
    files::remove(&story.room.path().join("ca/machine.key")).unwrap();
    reload(&story);
    story.clock.advance(flow::crl::KEPT);
    assert!(flow::crl::list(&story.shell, &named(&story, "machine")).await.is_err());
    for member in [&machine, &away] {
        member.caller(&story).await;
    }
}

#[tokio::test]
async fn a_reply_that_was_lost_before_comes_with_the_chain_it_leads_to() {
    let story = Story::new().await;
    let machine = story.machine("m-1").await;
    machine.caller(&story).await;
    prepare(&story, Some(Role::Machine));
    step(&story, "machine-2", SlotStep::Publish);
    let lost = machine.renew(&story).await.unwrap();
    step(&story, "machine-2", SlotStep::Activate);
    let again = machine.renew(&story).await.unwrap();
    assert_eq!(
        (&again.certificate, &again.chain),
        (&lost.certificate, &lost.chain),
        "the same key, the same certificate"
    );
    assert!(leads(&story, &again, &believing(&story, &again.bundle)));
    let machine = uses(&story, machine, again).await;
    let next = machine.renew(&story).await.unwrap();
    assert_eq!(issuer(&next), named(&story, "machine-2"));
}

#[tokio::test]
async fn what_was_planned_for_one_ca_is_not_signed_by_another() {
    let story = Story::new().await;
    let (shell, before) = (&story.shell, story.shell.ca());
    let names = vec![GatewayName::Dns(HOST.to_owned())];
    let name = Name::parse("gateway").unwrap();
    let plan = || LeafKey::plan(&before, &name, names.clone(), &shell.clock, &shell.entropy).unwrap().1;
    prepare(&story, Some(Role::Gateway));
    step(&story, "gateway-2", SlotStep::Publish);
    assert!(shell.signer.sign(plan()).await.is_ok());
    step(&story, "gateway-2", SlotStep::Activate);
    assert!(matches!(shell.signer.sign(plan()).await, Err(SignError::Superseded)));
    assert!(Signer::of(Arc::clone(&before)).sign(plan()).await.is_ok(), "by the one that it was planned for");
}

#[tokio::test]
async fn another_root_takes_over_while_somebody_is_away() {
    let story = Story::new().await;
    let (here, away) = (story.machine("here").await, story.machine("away").await);
    for member in [&here, &away] {
        member.caller(&story).await;
    }
    let first = believing(&story, &here.issued.bundle);
    assert_eq!(prepare(&story, None), "root-2");
    reload(&story);
    assert_eq!(story.shell.ca().bundle_pem(), here.issued.bundle);
    step(&story, "root-2", SlotStep::Publish);

    // Who renews now is told of both, by the one that it has.
    let issued = here.renew(&story).await.unwrap();
    let roots = ders(&issued.bundle);
    assert_eq!(roots.len(), 2);
    let vouched = |root: &[u8], by: &TrustAnchors| {
        ders(&issued.cross).iter().any(|cross| pki::verify_cross(root, cross, by, story.shell.now()).is_ok())
    };
    assert!(vouched(&roots[1], &first));
    assert!(leads(&story, &issued, &first) && is_the_gateway(&story, &first).await);
    let here = uses(&story, here, issued.clone()).await;
    let ca = story.shell.ca();
    assert_eq!(names(&usage(&story).await.without(ca.slots(), "root-2")), ["machine away"]);

    step(&story, "root-2", SlotStep::Activate);
    let both = believing(&story, &here.issued.bundle);
    let second = believing(&story, &pki::to_pem("CERTIFICATE", &roots[1]));
    for believed in [&first, &both, &second] {
        assert!(is_the_gateway(&story, believed).await, "whoever believes either");
    }
    here.caller(&story).await;
    let ca = story.shell.ca();
    assert_eq!(names(&usage(&story).await.without_any_other(ca.slots(), "root")), ["machine away"]);
    // Who was away comes back with the first root alone, and gets what it can believe by that.
    let issued = away.renew(&story).await.unwrap();
    assert_eq!(issuer(&issued), named(&story, "machine-2"));
    assert!(leads(&story, &issued, &first) && leads(&story, &issued, &second));
    let new = &ders(&issued.bundle)[1];
    assert!(ders(&issued.cross).iter().any(|cross| pki::verify_cross(new, cross, &first, story.shell.now()).is_ok()));
    let away = uses(&story, away, issued).await;
    let here = {
        let issued = here.renew(&story).await.unwrap();
        uses(&story, here, issued).await
    };
    let ca = story.shell.ca();
    assert_eq!(usage(&story).await.without_any_other(ca.slots(), "root"), Holders::default());
    assert_eq!(usage(&story).await.signed_by(ca.slots(), "root"), Holders::default());

    step(&story, "root", SlotStep::Retire);
    let last = here.renew(&story).await.unwrap();
    assert_eq!((ders(&last.bundle), last.cross.as_str()), (vec![roots[1].clone()], ""));
    assert!(is_the_gateway(&story, &second).await && is_the_gateway(&story, &both).await);
    assert!(!is_the_gateway(&story, &first).await, "nothing leads there any more");
    away.caller(&story).await;
}

/// A certificate of a root that was retired is good as long as it would have been.
#[tokio::test]
async fn what_a_retired_root_signed_is_accepted_until_it_ends() {
    let story = Story::new().await;
    let (machine, late) = (story.machine("m-1").await, story.machine("m-2").await);
    for member in [&machine, &late] {
        member.caller(&story).await;
    }
    prepare(&story, None);
    step(&story, "root-2", SlotStep::Publish);
    step(&story, "root-2", SlotStep::Activate);
    step(&story, "root", SlotStep::Retire);
    machine.caller(&story).await;
    let issued = machine.renew(&story).await.unwrap();
    uses(&story, machine, issued).await;
    // Past its end it is evidence as ever.
    story.clock.advance(DAY + DAY);
    let issued = late.rejoin(&story).await.unwrap().issued();
    assert!(leads(&story, &issued, &believing(&story, story.shell.ca().bundle_pem())));
}

#[tokio::test]
async fn the_code_on_show_stays_when_another_root_takes_over() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    alice.caller(&story).await;
    let old_token = story.token(TokenWish::default()).await;
    let (early, told_before) = (story.stranger(), story.stranger());
    let waiting = early.ask("m-1").await.waiting();
    let code = early.code(&waiting);
    prepare(&story, None);
    step(&story, "root-2", SlotStep::Publish);
    step(&story, "root-2", SlotStep::Activate);

    assert_eq!(early.code(&early.ask("m-1").await.waiting()), code, "asked again");
    story.approve(&alice, &waiting.id, &code).await.unwrap();
    assert!(early.poll(&waiting.id).await.unwrap().issued().identity.ends_with("/m-1"));
    // Who was given the first pin and comes after it shows a code by that one.
    let waiting = told_before.ask("m-2").await.waiting();
    let by_the_first = told_before.code(&waiting);
    story.approve(&alice, &waiting.id, &by_the_first).await.unwrap();
    // And who is given the pin of today, one by that.
    let (today, guess) = (story.stranger(), story.stranger());
    let waiting = today.ask("m-3").await.waiting();
    assert!(story.approve(&alice, &waiting.id, &guess.code(&waiting)).await.is_err());
    story.approve(&alice, &waiting.id, &today.code(&waiting)).await.unwrap();
    assert!(story.stranger().join(&old_token, "m-4").await.unwrap().issued().identity.ends_with("/m-4"));
}
