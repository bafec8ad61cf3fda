//! SSH certificates: who gets them, with which names and for how long, and who does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod ssh_key;
#[allow(dead_code, reason = "the cast of the stories; not all of it appears here")]
mod story;

use gateway::edge::fronts::native::ssh::reply;
use gateway::{
    core::{
        proof::BadProof,
        refusal::Refusal,
        ssh::{ProvenSshKey, prove},
    },
    flow,
    limits::SSH_CERTIFICATES_PER_LIFE,
    store::Key,
};
use pki::{BACKDATE, BadSshSignature, SshCertificate, SshKey, SshKind};
use ssh_key::SshHolder;
use story::{Member, Story, minutes};
use wire::ssh::{HOST_NAMESPACE, SshReply, USER_NAMESPACE};

const HERE: [u8; 32] = [7; 32];
const ELSEWHERE: [u8; 32] = [8; 32];

fn proven(key: &SshHolder, namespace: &str) -> ProvenSshKey {
    prove(&key.line(), &key.proof(namespace, HERE), namespace, &HERE).unwrap()
}

async fn user(story: &Story, member: &Member, key: &SshHolder) -> Result<SshReply, Refusal> {
    let caller = member.caller(story).await;
    flow::ssh::user(&story.shell, &caller, proven(key, USER_NAMESPACE), "story")
        .await
        .map(|issued| reply(&story.shell, issued))
        .map_err(story::refused)
}

async fn host(story: &Story, member: &Member, key: &SshHolder) -> Result<SshReply, Refusal> {
    let caller = member.caller(story).await;
    flow::ssh::host(&story.shell, &caller, proven(key, HOST_NAMESPACE), "story")
        .await
        .map(|issued| reply(&story.shell, issued))
        .map_err(story::refused)
}

/// The certificate in a reply, checked against what the reply says of it.
#[track_caller]
fn certificate(story: &Story, reply: &SshReply, key: &SshHolder, kind: SshKind) -> SshCertificate {
    let cert = SshCertificate::parse(&reply.certificate).unwrap();
    let authority = story.shell.ca();
    let ca = authority.ssh(kind);
    assert_eq!(cert.check_signed_by(ca), Ok(()));
    assert_eq!(ca.line(), reply.ca);
    assert!(cert.certifies(&SshKey::parse(&key.line()).unwrap()));
    assert_eq!(
        (cert.kind(), cert.serial().to_string(), cert.key_id()),
        (kind, reply.serial.clone(), reply.key_id.as_str())
    );
    assert_eq!(cert.principals(), reply.principals);
    assert_eq!((cert.valid_after().secs(), cert.valid_before().secs()), (reply.not_before, reply.not_after));
    cert
}

#[tokio::test]
async fn a_machines_sshd_gets_the_machines_names_for_as_long_as_the_machine_has_its_own() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.machine("edge-7").await;
    story.clock.advance(minutes(60));
    let key = SshHolder::new();
    let reply = host(&story, &machine, &key).await.unwrap();
    let cert = certificate(&story, &reply, &key, SshKind::Host);
    assert_eq!(cert.principals(), ["edge-7", "edge-7.machine.test.example"]);
    assert_eq!(cert.valid_before().secs(), machine.issued.not_after);
    assert_eq!(cert.valid_after(), story.shell.now().minus(BACKDATE));
    assert_eq!(cert.key_id(), format!("spiffe://test.example/machine/edge-7#{:016x}", cert.serial()));

    let again = host(&story, &machine, &key).await.unwrap();
    assert_ne!(again.serial, reply.serial, "asking again takes nothing from anybody");
    let events = story.events(&alice).await;
    let issued: Vec<_> = events.iter().filter(|event| event.event == "ssh.issued").collect();
    assert_eq!(issued.len(), 2);
    let event = issued.iter().find(|event| event.detail["serial"] == reply.serial).unwrap();
    assert_eq!(event.subject, "spiffe://test.example/machine/edge-7");
    assert_eq!(event.actor, event.subject);
    assert_eq!(event.detail["principals"], "edge-7,edge-7.machine.test.example");
    assert_eq!(event.detail["key"], SshKey::parse(&key.line()).unwrap().fingerprint());
    assert_eq!((&event.detail["certificate"], event.detail["kind"].as_str()), (&machine.issued.serial, "host"));
}

#[tokio::test]
async fn a_person_gets_the_logins_and_the_time_of_the_policy() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let key = SshHolder::new();
    let reply = user(&story, &alice, &key).await.unwrap();
    let cert = certificate(&story, &reply, &key, SshKind::User);
    assert_eq!(cert.principals(), ["alice", "root"]);
    assert_eq!(cert.valid_before(), story.shell.now().plus(minutes(60)));
    let events = story.events(&alice).await;
    let event = events.iter().find(|event| event.event == "ssh.issued").unwrap();
    assert_eq!(event.rules, ["admins-login"]);
    assert_eq!(event.detail["key_id"], reply.key_id);

    // Never past the person's own certificate, which lives for twelve hours.
    story.clock.advance(minutes(11 * 60 + 30));
    assert_eq!(user(&story, &alice, &key).await.unwrap().not_after, alice.issued.not_after);
    story.set_policy(|text| text.replace("@lifetime(\"1h\")", ""));
    assert_eq!(user(&story, &alice, &key).await.unwrap().not_after, alice.issued.not_after);
    // In the last second of that there is nothing to give.
    let last = std::time::Duration::from_secs(alice.issued.not_after - story.shell.now().secs());
    story.clock.advance(last);
    assert_eq!(user(&story, &alice, &key).await.unwrap_err(), Refusal::Expired);
}

#[tokio::test]
async fn what_the_policy_does_not_give() {
    let story = Story::new().await;
    let _ = story.first_person().await;
    let bob = story.person("bob", &["staff"]).await;
    let denied = |rules: &[&str]| {
        let rules = rules.iter().map(|&rule| rule.to_owned()).collect();
        Err(Refusal::Denied { rules, action: "login" })
    };
    let ask = async || user(&story, &bob, &SshHolder::new()).await.map(|reply| reply.principals);
    // Its certificate is in use already, so that a refusal has nothing to write.
    let _ = bob.caller(&story).await;
    let records = story.everything().await;
    assert_eq!(ask().await, denied(&[]));
    story.set_policy(|text| format!("{text}\n@id(\"all\") permit(principal, action, resource);"));
    assert_eq!(ask().await, denied(&["all"]), "a rule that names no login gives none");
    assert_eq!(story.everything().await, records, "nothing was written");
    let staff = "@id(\"staff\") @principals(\"{name}\") permit(principal is Lychgate::Person in \
                 Lychgate::Group::\"staff\", action == Lychgate::Action::\"login\", resource);";
    story.set_policy(|text| format!("{text}\n{staff}"));
    assert_eq!(ask().await, Ok(vec!["bob".to_owned()]));
}

#[tokio::test]
async fn the_locked_get_none() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let (bob, machine) = (story.person("bob", &["admins"]).await, story.machine("edge-7").await);
    for (member, kind, name) in [(&bob, "person", "bob"), (&machine, "machine", "edge-7")] {
        story.lock(&alice, kind, name).await.unwrap();
        let refused = story.admit(&story.peer(&member.issued)).await.unwrap_err();
        assert!(matches!(refused, Refusal::Locked { .. }), "{refused}");
    }
}

/// A machine asks for a person's certificate, or a person for a machine's: the table says no, and so does the draft.
#[tokio::test]
async fn nobody_gets_what_is_for_the_other_kind() {
    let story = Story::with_policy(|text| {
        text.replace(
            "principal is Lychgate::Person in Lychgate::Group::\"admins\",\n  action == Lychgate::Action::\"login\"",
            "principal,\n  action == Lychgate::Action::\"login\"",
        )
    })
    .await;
    let (alice, machine) = (story.first_person().await, story.machine("edge-7").await);
    let key = SshHolder::new();
    assert!(matches!(host(&story, &alice, &key).await, Err(Refusal::Ours(_))));
    assert!(matches!(user(&story, &machine, &key).await, Err(Refusal::Denied { .. })));
}

#[track_caller]
fn check(public_key: &str, signature: &str, want: Refusal) {
    assert_eq!(prove(public_key, signature, HOST_NAMESPACE, &HERE).unwrap_err(), want);
}

#[test]
fn a_proof_is_for_one_key_one_connection_and_one_purpose() {
    let bad = |what| Refusal::BadProof(BadProof::Ssh(what));
    let (key, other) = (SshHolder::new(), SshHolder::new());
    let good = key.proof(HOST_NAMESPACE, HERE);
    drop(prove(&key.line(), &good, HOST_NAMESPACE, &HERE).unwrap());
    check(&other.line(), &good, bad(BadSshSignature::OtherKey));
    check(&key.line(), &key.proof(HOST_NAMESPACE, ELSEWHERE), bad(BadSshSignature::Wrong));
    let namespace = |found: &str| bad(BadSshSignature::Namespace { found: found.to_owned() });
    check(&key.line(), &key.proof(USER_NAMESPACE, HERE), namespace(USER_NAMESPACE));
    check(&key.line(), &key.proof("git", HERE), namespace("git"));
    check(&key.line(), &key.sign(HOST_NAMESPACE, &HERE), bad(BadSshSignature::Wrong));
    for public_key in ["", "ssh-dss AAAA", "ssh-ed25519 AAAA"] {
        let refused = prove(public_key, &good, HOST_NAMESPACE, &HERE).unwrap_err();
        assert!(matches!(refused, Refusal::BadSshKey(_)), "{refused}");
    }
}

/// Each leaves an event, so they are counted like the others; the rest of its life goes on.
#[tokio::test]
async fn a_lineage_has_so_many_in_a_life_of_them() {
    let story = Story::new().await;
    let alice = story.first_person().await;
    let machine = story.machine("edge-7").await;
    let key = SshHolder::new();
    for (who, member) in [("a person", &alice), ("a machine", &machine)] {
        let ask = async || {
            if who == "a person" { user(&story, member, &key).await } else { host(&story, member, &key).await }
        };
        for count in 0..SSH_CERTIFICATES_PER_LIFE {
            assert!(ask().await.is_ok(), "{who}: {count}");
        }
        let before = story.shell.store.scan(&Key::from("audit/"), None, 1000).await.unwrap().rows.len();
        let refused = ask().await.unwrap_err();
        let Refusal::CertificateLimit { retry_after } = refused else { panic!("{who}: {refused:?}") };
        assert_eq!(story.shell.store.scan(&Key::from("audit/"), None, 1000).await.unwrap().rows.len(), before, "{who}");
        // Its own certificates are another budget.
        member.fresh().renew(&story).await.unwrap();
        story.clock.advance(retry_after);
        assert!(ask().await.is_ok(), "{who}: after {retry_after:?}");
    }
}
