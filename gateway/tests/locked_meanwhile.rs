//! Stories of locks that are set between a decision and its commit: on what evidence rests on, and on whoever shows it. Every way to a
//! certificate, or into the queue, decides again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[allow(dead_code, reason = "these stories sign another text")]
mod ssh_key;
#[allow(dead_code, reason = "these stories need few of the cast")]
mod story;

use gateway::{
    core::{keys, records::LockKind, refusal::Refusal},
    flow::{self, asked::TokenWish},
    store::Batch,
};
use pki::SshKey;
use ssh_key::SshHolder;
use story::{Answer, DAY, EXPORTER, Member, Story, Stranger};
use wire::enroll::WaitingReply;
use wire::evidence::{JOIN_TOKEN, SSH_HOST_KEY, SSH_HOST_KEY_NAMESPACE, SshHostKey, ssh_host_key_message};

fn lock(kind: LockKind, target: &str) -> Batch {
    let lock = serde_json::json!({
        "kind": kind.as_str(), "target": target, "reason": "stolen", "by": "alice", "at": 0, "instance": "i",
    });
    Batch::default().put(keys::lock(kind, target), lock.to_string())
}

/// A lock that somebody sets just before the next commit.
fn lock_meanwhile(story: &Story, kind: LockKind, target: &str) {
    story.store.before_the_next_commit(lock(kind, target));
}

/// Where a token alone lets no machine in.
fn tokens_wait(text: &str) -> String {
    let enough = "principal.role == Lychgate::Role::\"machine\" && principal.claims has token_id";
    assert!(text.contains(enough));
    text.replace(enough, "principal.assurance > 9")
}

/// A token by a person, of whom its worth depends.
async fn token_by(story: &Story, maker: &Member) -> String {
    let by = maker.caller(story).await;
    let actor = flow::shell::Actor { who: &by.identity.to_string(), instance: "story" };
    let asked = TokenWish { uses: Some(9), ..TokenWish::default() };
    flow::tokens::make(&story.shell, &asked, flow::tokens::By::Person(&by), &actor).await.unwrap().token
}

/// An approver, and a machine that waits with a token by another person.
async fn who_waits(story: &Story) -> (Member, Stranger, WaitingReply) {
    let alice = story.first_person().await;
    let maker = story.person("maker", &["admins"]).await;
    let token = token_by(story, &maker).await;
    let machine = story.stranger();
    let waiting = machine.join(&token, "edge-07").await.unwrap().waiting();
    (alice, machine, waiting)
}

fn host_evidence(story: &Story, host: &SshHolder, key: &pki::KeyDigest) -> (String, String) {
    let message = ssh_host_key_message(story.shell.domain.as_str(), &EXPORTER, key.as_bytes());
    let body = SshHostKey { public_key: host.line(), signature: host.sign(SSH_HOST_KEY_NAMESPACE, &message) };
    (SSH_HOST_KEY.to_owned(), serde_json::to_string(&body).unwrap())
}

fn digest(host: &SshHolder) -> String {
    hex::encode(SshKey::parse(&host.line()).unwrap().sha256())
}

#[track_caller]
fn refused(story: &Story, got: Result<Answer, Refusal>) {
    assert!(story.store.rival_came());
    assert!(matches!(got, Err(Refusal::Locked { .. } | Refusal::Evidence(_))), "{got:?}");
}

#[tokio::test]
async fn who_is_issued_a_certificate() {
    let story = Story::new().await;
    let maker = story.person("maker", &["admins"]).await;
    let token = token_by(&story, &maker).await;
    let lineage = maker.caller(&story).await.lineage.record.id;
    for (kind, target) in [(LockKind::Lineage, lineage.as_str()), (LockKind::Person, "maker")] {
        lock_meanwhile(&story, kind, target);
        refused(&story, story.stranger().join(&token, "edge-07").await);
        story.shell.store.commit(Batch::default().delete(keys::lock(kind, target))).await.unwrap();
    }
    // The host key, beside a token.
    let (host, machine) = (SshHolder::new(), story.stranger());
    let evidence = [(JOIN_TOKEN.to_owned(), token), host_evidence(&story, &host, &story::digest(machine.key()))];
    lock_meanwhile(&story, LockKind::Key, &digest(&host));
    refused(&story, machine.with("edge-07", evidence.to_vec()).await);
}

#[tokio::test]
async fn who_is_to_wait() {
    let story = Story::with_policy(tokens_wait).await;
    let maker = story.person("maker", &["admins"]).await;
    let token = token_by(&story, &maker).await;
    lock_meanwhile(&story, LockKind::Person, "maker");
    refused(&story, story.stranger().join(&token, "edge-07").await);
    let (host, machine) = (SshHolder::new(), story.stranger());
    lock_meanwhile(&story, LockKind::Key, &digest(&host));
    let evidence = host_evidence(&story, &host, &story::digest(machine.key()));
    refused(&story, machine.with("edge-07", vec![evidence]).await);
    // Without evidence there is the key alone.
    let machine = story.stranger();
    lock_meanwhile(&story, LockKind::Key, &machine.digest());
    refused(&story, machine.try_ask("edge-07").await);
}

#[tokio::test]
async fn who_waited_and_comes_for_the_certificate() {
    let story = Story::with_policy(tokens_wait).await;
    let (alice, machine, waiting) = who_waits(&story).await;
    story.approve(&alice, &waiting.id, &machine.code(&waiting)).await.unwrap();
    lock_meanwhile(&story, LockKind::Person, "maker");
    refused(&story, machine.poll(&waiting.id).await);
}

#[tokio::test]
async fn who_is_approved() {
    let story = Story::with_policy(tokens_wait).await;
    let (alice, machine, waiting) = who_waits(&story).await;
    alice.caller(&story).await;
    // Whoever locks says so by the epoch, which an approval stands on.
    let epoch = (story.epoch().await + 1).to_string();
    let rival = lock(LockKind::Person, "maker").put(keys::EPOCH, epoch);
    story.store.before_the_next_commit(rival);
    let approved = story.approve(&alice, &waiting.id, &machine.code(&waiting)).await;
    assert!(story.store.rival_came());
    assert!(matches!(approved, Err(Refusal::Locked { .. })), "{approved:?}");
}

#[tokio::test]
async fn who_renews() {
    let story = Story::new().await;
    let machine = story.machine("edge-07").await;
    machine.caller(&story).await;
    story.clock.advance(DAY / 2);
    let (host, next) = (SshHolder::new(), machine.next_key().await);
    lock_meanwhile(&story, LockKind::Key, &digest(&host));
    let renewed = machine.renew_with(&story, vec![host_evidence(&story, &host, &story::digest(&next))], None).await;
    assert!(story.store.rival_came());
    assert!(matches!(renewed, Err(Refusal::Locked { .. })), "{renewed:?}");
}

#[tokio::test]
async fn who_comes_back() {
    let story = Story::new().await;
    let machine = story.machine("edge-07").await;
    story.clock.advance(DAY * 3);
    // The key of the certificate that it comes back by.
    lock_meanwhile(&story, LockKind::Key, &machine.digest());
    refused(&story, machine.rejoin(&story).await);
}
