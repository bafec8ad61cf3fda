//! Stories of evidence by certificates of other CAs. What makes a certificate good or bad stands beside the attestor; here it meets
//! locks, renewals and another configuration.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

#[allow(dead_code, reason = "these stories need few of the cast")]
mod story;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gateway::core::refusal::Refusal;
use pki::KeyDigest;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData as _, SigningKey as _};
use story::{DAY, EXPORTER, Member, Story, Told};
use wire::evidence::{X509, X509Evidence, x509_message};

/// What is in the policy of these stories beside the default one.
const RULES: &str = r#"
@id("devices")
@lifetime("24h")
permit (principal is Lychgate::Newcomer, action == Lychgate::Action::"enroll", resource)
when { principal.claims has x509_issuer && principal.claims.x509_issuer == "acme" };
"#;

/// A maker of devices.
struct Maker {
    params: CertificateParams,
    key: KeyPair,
}

/// A device: its certificate, and its key.
struct Device {
    pem: String,
    key: KeyPair,
}

impl Maker {
    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { params, key: KeyPair::generate().unwrap() }
    }

    fn anchors(&self) -> String {
        self.params.self_signed(&self.key).unwrap().pem()
    }

    fn device(&self, number: &str) -> Device {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), number);
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap().pem();
        Device { pem, key }
    }
}

fn digest(key: &KeyPair) -> String {
    KeyDigest::from_spki_der(&key.subject_public_key_info()).hex()
}

/// A gateway that knows the maker under one name, and another CA under another.
struct Stage {
    story: Story,
    maker: Maker,
    room: tempfile::TempDir,
}

impl Stage {
    async fn set() -> Self {
        let story = Story::with_policy(|text| format!("{text}\n{RULES}")).await;
        let (maker, room) = (Maker::named("maker"), tempfile::tempdir().unwrap());
        std::fs::write(room.path().join("acme.pem"), maker.anchors()).unwrap();
        std::fs::write(room.path().join("other.pem"), Maker::named("other").anchors()).unwrap();
        let stage = Self { story, maker, room };
        stage.configure("[issuers.acme]\nanchors = 'acme.pem'");
        stage
    }

    fn configure(&self, section: &str) {
        self.story.attests_by(X509, section, self.room.path());
    }

    fn evidence(&self, device: &Device, key: &KeyDigest) -> Vec<(String, String)> {
        let message = x509_message(self.story.shell.domain.as_str(), &EXPORTER, key.as_bytes());
        let signature = STANDARD.encode(device.key.sign(&message).unwrap());
        let body = X509Evidence { certificates: device.pem.clone(), signature };
        vec![(X509.to_owned(), serde_json::to_string(&body).unwrap())]
    }

    async fn joined(&self, device: &Device, name: &str) -> Member {
        let machine = self.story.stranger();
        let evidence = self.evidence(device, &story::digest(machine.key()));
        let issued = machine.with(name, evidence).await.unwrap().issued();
        machine.into_member(issued)
    }

    async fn renewed(&self, machine: Member, device: &Device) -> Result<Member, Refusal> {
        self.story.clock.advance(DAY / 2);
        let next = machine.next_key().await;
        let evidence = self.evidence(device, &story::digest(&next));
        match machine.renew_with(&self.story, evidence, None).await? {
            Told::Issued(issued) => Ok(machine.moved(*issued)),
            Told::Challenge(challenge) => panic!("{challenge:?}"),
        }
    }

    async fn claims(&self, machine: &Member) -> Vec<String> {
        machine.caller(&self.story).await.subject.record.claims.keys().cloned().collect()
    }
}

#[tokio::test]
async fn a_device_renews_with_another_certificate_and_no_other_device_does() {
    let stage = Stage::set().await;
    let machine = stage.joined(&stage.maker.device("7"), "edge-7").await;
    let claims = stage.claims(&machine).await;
    assert!(claims.contains(&"x509_serial_number".to_owned()), "{claims:?}");
    // The maker certified another key of the device.
    let machine = stage.renewed(machine, &stage.maker.device("7")).await.unwrap();
    let other = stage.renewed(machine.cloned(&stage.story), &stage.maker.device("8")).await.err();
    assert!(matches!(&other, Some(Refusal::Evidence(reject)) if reject.code.name == "evidence-conflict"), "{other:?}");
}

#[tokio::test]
async fn an_issuer_that_was_removed_lets_nobody_in_and_strands_nobody() {
    let stage = Stage::set().await;
    let device = stage.maker.device("7");
    let machine = stage.joined(&device, "edge-7").await;
    stage.configure("[issuers.other]\nanchors = 'other.pem'");
    let machine = stage.renewed(machine, &device).await.unwrap();
    let claims = stage.claims(&machine).await;
    assert!(!claims.iter().any(|claim| claim.starts_with("x509_")), "{claims:?}");
    let stranger = stage.story.stranger();
    let evidence = stage.evidence(&device, &story::digest(stranger.key()));
    let refused = stranger.with("edge-8", evidence).await.unwrap_err();
    assert!(matches!(&refused, Refusal::Evidence(reject) if reject.code.name == "x509-issuer"), "{refused:?}");
}

#[tokio::test]
async fn locks_on_the_key_and_on_the_ca_stop_whoever_shows_it() {
    for of_ca in [false, true] {
        let stage = Stage::set().await;
        let alice = stage.story.first_person().await;
        let device = stage.maker.device("7");
        let machine = stage.joined(&device, "edge-7").await;
        let key = if of_ca { &stage.maker.key } else { &device.key };
        stage.story.lock(&alice, "key", &digest(key)).await.unwrap();
        let thief = stage.story.stranger();
        let evidence = stage.evidence(&device, &story::digest(thief.key()));
        let locked = thief.with("edge-8", evidence).await.unwrap_err();
        assert!(matches!(locked, Refusal::Locked { .. }), "{locked:?}");
        let locked = stage.renewed(machine, &device).await.err();
        assert!(matches!(locked, Some(Refusal::Locked { .. })), "{locked:?}");
    }
}
