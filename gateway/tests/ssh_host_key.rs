//! Stories of evidence by SSH host keys. What makes evidence good or bad stands beside the attestor; here it meets names, locks,
//! approvers and renewals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

#[allow(dead_code, reason = "these stories sign another text")]
mod ssh_key;
#[allow(dead_code, reason = "these stories need few of the cast")]
mod story;

use gateway::core::{records::Claim, refusal::Refusal};
use pki::{KeyDigest, SshKey};
use ssh_key::SshHolder;
use story::{DAY, EXPORTER, Member, Story, Told};
use wire::evidence::{SSH_HOST_KEY, SSH_HOST_KEY_NAMESPACE, SshHostKey, ssh_host_key_message};

/// What is in the policy of these stories beside the default one.
const RULES: &str = r#"
@id("pinned-hosts")
@lifetime("24h")
permit (principal is Lychgate::Newcomer, action == Lychgate::Action::"enroll", resource)
when { principal.claims has sshhost_trust && principal.claims.sshhost_trust == "pinned" };
"#;

/// A gateway, and the file with the host keys that it has pinned.
struct Stage {
    story: Story,
    room: tempfile::TempDir,
}

impl Stage {
    async fn set() -> Self {
        let (story, room) = (Story::with_policy(|text| format!("{text}\n{RULES}")).await, tempfile::tempdir().unwrap());
        std::fs::write(room.path().join("pins"), "").unwrap();
        story.attests_by(SSH_HOST_KEY, "known_hosts = 'pins'", room.path());
        Self { story, room }
    }

    /// Pins a host key before it is first asked about: a document is kept for a few seconds.
    fn pin(&self, names: &str, host: &SshHolder) {
        std::fs::write(self.room.path().join("pins"), format!("{names} {}\n", host.line())).unwrap();
    }

    fn evidence(&self, host: &SshHolder, key: &KeyDigest) -> Vec<(String, String)> {
        let message = ssh_host_key_message(self.story.shell.domain.as_str(), &EXPORTER, key.as_bytes());
        let signature = host.sign(SSH_HOST_KEY_NAMESPACE, &message);
        let body = SshHostKey { public_key: host.line(), signature };
        vec![(SSH_HOST_KEY.to_owned(), serde_json::to_string(&body).unwrap())]
    }

    async fn renewed(&self, machine: Member, host: &SshHolder) -> Result<Member, Refusal> {
        let next = machine.next_key().await;
        let evidence = self.evidence(host, &story::digest(&next));
        match machine.renew_with(&self.story, evidence, None).await? {
            Told::Issued(issued) => Ok(machine.moved(*issued)),
            Told::Challenge(challenge) => panic!("{challenge:?}"),
        }
    }

    async fn claims(&self, machine: &Member) -> Vec<(String, String)> {
        let caller = machine.caller(&self.story).await;
        let text = |(name, value): (&String, &Claim)| (name.clone(), value.text());
        caller.subject.record.claims.iter().map(text).filter(|(name, _)| name != "sshhost_fingerprint").collect()
    }
}

fn own(texts: &[(&str, &str)]) -> Vec<(String, String)> {
    texts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_pinned_host_joins_under_its_name_and_renews_under_any() {
    let stage = Stage::set().await;
    let host = SshHolder::new();
    stage.pin("web1,web1.example.com", &host);
    let machine = stage.story.stranger();
    let evidence = stage.evidence(&host, &story::digest(machine.key()));
    let refused = machine.with("db1", evidence.clone()).await.unwrap_err();
    assert!(matches!(&refused, Refusal::NameIllegal { why, .. } if why.ends_with("is for web1")), "{refused:?}");
    // On another connection, or for another key, it is nobody's.
    let lent = stage.story.stranger().with("web1", evidence.clone()).await.unwrap_err();
    assert!(matches!(&lent, Refusal::Evidence(reject) if reject.code.name == "ssh-host-signature"), "{lent:?}");
    let issued = machine.with("web1", evidence).await.unwrap().issued();
    let machine = machine.into_member(issued);
    let known = own(&[("sshhost_names", "web1,web1.example.com"), ("sshhost_trust", "pinned")]);
    assert_eq!(stage.claims(&machine).await, known);
    stage.story.clock.advance(DAY / 2);
    let machine = stage.renewed(machine, &host).await.unwrap();
    assert_eq!(stage.claims(&machine).await, known);
    // With a new host key it is the same machine with another claim.
    stage.story.clock.advance(DAY / 2);
    let machine = stage.renewed(machine, &SshHolder::new()).await.unwrap();
    assert_eq!(stage.claims(&machine).await, own(&[("sshhost_trust", "none")]));
}

#[tokio::test]
async fn an_unknown_host_waits_and_its_fingerprint_is_seen() {
    let stage = Stage::set().await;
    let host = SshHolder::new();
    let machine = stage.story.stranger();
    let evidence = stage.evidence(&host, &story::digest(machine.key()));
    let waiting = machine.with("web1", evidence).await.unwrap().waiting();
    let record = gateway::core::keys::enrollment(&waiting.id);
    let enrollment = stage.story.shell.get::<gateway::core::records::Enrollment>(record).await.unwrap().unwrap().record;
    let fingerprint = SshKey::parse(&host.line()).unwrap().fingerprint();
    assert_eq!(enrollment.claims["sshhost_fingerprint"].text(), fingerprint);
}

#[tokio::test]
async fn a_lock_on_the_host_key_stops_whoever_shows_it() {
    let stage = Stage::set().await;
    let alice = stage.story.first_person().await;
    let host = SshHolder::new();
    stage.pin("web1", &host);
    let machine = stage.story.stranger();
    let evidence = stage.evidence(&host, &story::digest(machine.key()));
    let issued = machine.with("web1", evidence).await.unwrap().issued();
    let machine = machine.into_member(issued);
    let digest = hex::encode(SshKey::parse(&host.line()).unwrap().sha256());
    stage.story.lock(&alice, "key", &digest).await.unwrap();
    let thief = stage.story.stranger();
    let evidence = stage.evidence(&host, &story::digest(thief.key()));
    let locked = thief.with("web2", evidence).await.unwrap_err();
    assert!(matches!(locked, Refusal::Locked { .. }), "{locked:?}");
    stage.story.clock.advance(DAY / 2);
    let locked = stage.renewed(machine, &host).await.err();
    assert!(matches!(locked, Some(Refusal::Locked { .. })), "{locked:?}");
}
