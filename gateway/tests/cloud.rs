//! Stories of evidence by documents of clouds. What makes a document good or bad stands beside the attestor; here the one without a nonce
//! meets races, restarts of its instance, renewals, locks and other instances.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

#[allow(dead_code, reason = "these stories need few of the cast")]
mod story;

use std::process::Command;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gateway::{core::refusal::Refusal, flow::sweep};
use pki::{KeyDigest, UnixTime};
use serde_json::json;
use story::{Answer, DAY, Member, Story, Stranger, Told, all, minutes};
use wire::evidence::{CLOUD, CloudEvidence};

/// What is in the policy of these stories beside the default one.
const RULES: &str = r#"
@id("instances")
@lifetime("24h")
permit (principal is Lychgate::Newcomer, action == Lychgate::Action::"enroll", resource)
when { principal.claims has cloud_account && principal.claims.cloud_account == "111122223333" };
"#;

/// A gateway, and a region of AWS whose documents it accepts.
struct Stage {
    story: Story,
    room: tempfile::TempDir,
}

impl Stage {
    async fn set() -> Self {
        let story = Story::with_policy(|text| format!("{text}\n{RULES}")).await;
        let stage = Self { story, room: tempfile::tempdir().unwrap() };
        stage.openssl("req -x509 -newkey rsa:2048 -noenc -keyout region.key -out region.pem -days 1 -subj /CN=region");
        let values = "[aws-identity]\naccounts = ['111122223333']\nregions.lab-1 = 'region.pem'\nmax_age = '15m'\n";
        stage.story.attests_by(CLOUD, values, stage.room.path());
        stage
    }

    #[track_caller]
    fn openssl(&self, line: &str) {
        let mut command = Command::new("openssl");
        let done = command.args(line.split_whitespace()).current_dir(self.room.path()).output().unwrap();
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// The document of an instance that was started then.
    fn document(&self, instance: &str, started: UnixTime) -> String {
        let document = json!({
            "accountId": "111122223333", "imageId": "ami-5fb8c835", "instanceId": instance,
            "pendingTime": started.to_string(), "region": "lab-1",
        });
        std::fs::write(self.room.path().join("document"), document.to_string()).unwrap();
        let by = "-indef -nocerts -signer region.pem -inkey region.key";
        self.openssl(&format!("smime -sign -nodetach -binary -outform DER -in document -out signed {by}"));
        STANDARD.encode(std::fs::read(self.room.path().join("signed")).unwrap())
    }

    fn started_now(&self, instance: &str) -> String {
        self.document(instance, self.story.shell.now())
    }

    async fn joined(&self, instance: &str, name: &str) -> Member {
        let machine = self.story.stranger();
        let issued = shows(&machine, name, &self.started_now(instance)).await.unwrap().issued();
        let machine = machine.into_member(issued);
        machine.caller(&self.story).await;
        machine
    }

    async fn renewed(&self, machine: &Member, document: &str) -> Result<Told, Refusal> {
        let Told::Challenge(challenge) = machine.renew_with(&self.story, evidence(None), None).await? else { panic!() };
        machine.renew_with(&self.story, evidence(Some(document)), Some(&challenge.ticket)).await
    }
}

fn evidence(document: Option<&str>) -> Vec<(String, String)> {
    let body = CloudEvidence { has: vec!["aws-identity".to_owned()], document: document.map(str::to_owned) };
    vec![(CLOUD.to_owned(), serde_json::to_string(&body).unwrap())]
}

async fn shows(machine: &Stranger, name: &str, document: &str) -> Result<Answer, Refusal> {
    let challenge = machine.with(name, evidence(None)).await?.challenge();
    machine.answer(name, evidence(Some(document)), &challenge.ticket).await
}

#[track_caller]
fn code<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> &'static str {
    match outcome {
        Err(Refusal::Evidence(reject)) => reject.code.name,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn of_many_who_show_one_document_one_is_admitted() {
    let stage = Stage::set().await;
    let document = stage.started_now("i-1");
    let crowd: Vec<Stranger> = (0..16).map(|_| stage.story.stranger()).collect();
    let asked = crowd.iter().zip(0..).map(|(machine, at)| {
        let (name, document) = (format!("edge-{at}"), &document);
        async move { shows(machine, &name, document).await }
    });
    let (admitted, others): (Vec<_>, Vec<_>) = all(asked).await.into_iter().partition(Result::is_ok);
    assert_eq!(admitted.len(), 1);
    for other in others {
        assert_eq!(code(other), "cloud-used");
    }
}

#[tokio::test]
async fn a_lost_reply_is_repeated_and_a_thief_comes_too_late() {
    let stage = Stage::set().await;
    let (machine, document) = (stage.story.stranger(), stage.started_now("i-1"));
    let first = shows(&machine, "edge-1", &document).await.unwrap().issued();
    let again = shows(&machine, "edge-1", &document).await.unwrap().issued();
    assert_eq!(first.certificate, again.certificate);
    assert_eq!(code(shows(&stage.story.stranger(), "edge-2", &document).await), "cloud-used");
}

#[tokio::test]
async fn an_instance_that_was_started_again_is_still_its_machine_and_nobody_becomes_it() {
    let stage = Stage::set().await;
    let machine = stage.joined("i-1", "edge-1").await;
    // What it used up is forgotten when its document is too old; that it is a machine is not.
    stage.story.clock.advance(minutes(120));
    sweep::sweep(&stage.story.shell).await.unwrap();
    let restarted = stage.started_now("i-1");
    assert_eq!(code(shows(&stage.story.stranger(), "edge-1", &restarted).await), "cloud-used");
    // The machine itself shows it, also the old one, and no other instance's.
    let started = stage.story.shell.now().minus(DAY);
    stage.renewed(&machine, &stage.document("i-1", started)).await.unwrap().issued();
    let other = stage.renewed(&stage.joined("i-2", "edge-2").await, &stage.started_now("i-3")).await;
    assert_eq!(code(other), "evidence-conflict");
}

#[tokio::test]
async fn a_document_that_came_too_late_admits_nobody() {
    let stage = Stage::set().await;
    let document = stage.started_now("i-1");
    stage.story.clock.advance(minutes(16));
    assert_eq!(code(shows(&stage.story.stranger(), "edge-1", &document).await), "cloud-time");
}

#[tokio::test]
async fn a_lock_on_the_key_of_a_region_stops_its_documents() {
    let stage = Stage::set().await;
    let alice = stage.story.first_person().await;
    stage.openssl("pkey -in region.key -pubout -outform DER -out public");
    let key = KeyDigest::from_spki_der(&std::fs::read(stage.room.path().join("public")).unwrap()).hex();
    stage.story.lock(&alice, "key", &key).await.unwrap();
    let refused = shows(&stage.story.stranger(), "edge-1", &stage.started_now("i-1")).await.unwrap_err();
    assert!(matches!(refused, Refusal::Locked { .. }), "{refused:?}");
}
