//! Documents of clouds, in the second round. Nothing is believed without a file of ours; a document with a nonce is for one challenge and
//! one key; and one without is looked up by what it says of the instance.
//!
//! The input is a document, or what is signed in it: then the envelope is made here. No signature holds.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gateway::{
    attest::{Attestors, Case, claims},
    core::{
        evidence::{Context, ENTROPY_LEN, Found, Message, Need, Purpose, Section, Sections},
        keys,
        lock::Locks,
        requester::Requester,
    },
};
use pki::KeyDigest;
use policy::Ruleset;
use wire::evidence::{
    CLOUD, CLOUD_AWS_IDENTITY, CLOUD_AWS_NITRO, CLOUD_AZURE_ATTESTED, CLOUD_AZURE_NONCE_LEN, CLOUD_NONCE_LEN,
    CloudEvidence, cloud_azure_message,
};

use crate::{
    Outcome, cms,
    parts::{mode, with_mode},
    world::{EXPORTER, LEAF_KEY, NOW, WORLD, key},
};

/// The input is what is signed, and the envelope is made here.
const INSIDE: u8 = 0x80;

/// By the lower bits of the mode.
const DOCUMENTS: [&str; 3] = [CLOUD_AWS_NITRO, CLOUD_AWS_IDENTITY, CLOUD_AZURE_ATTESTED];

const NONCE: [u8; CLOUD_NONCE_LEN] = [5; CLOUD_NONCE_LEN];

/// The section of these checks.
pub const SECTION: &str = "
[aws-nitro]
root = 'root.pem'
pcrs.0 = '000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001'
[aws-identity]
accounts = ['111122223333']
regions.here-1 = 'here.pem'
[azure-attested]
anchors = 'anchors.pem'
subscriptions = ['6d0a5c1e-0000-4000-8000-000000000001']
";

static ATTESTORS: LazyLock<Attestors> = LazyLock::new(|| {
    let section = Section { values: SECTION.parse().expect("a section"), folder: "/".into() };
    Attestors::from(&Sections::from([(CLOUD.to_owned(), section)])).expect("good sections")
});

static RULES: LazyLock<Ruleset> =
    LazyLock::new(|| Ruleset::load(&[], &claims().collect::<Vec<_>>()).expect("no rules"));

fn for_key() -> KeyDigest {
    key(LEAF_KEY + 1).subject_key().expect("its public key").digest()
}

fn context() -> Context<'static> {
    let (domain, anchors, token_key) = (&WORLD.domain, &WORLD.anchors, &WORLD.token_key);
    Context { domain, anchors, token_key, host_ca: None, rules: &RULES, now: NOW }
}

/// The case of a document that was asked for with this nonce, for this key.
fn open(name: &str, document: &[u8], nonce: &[u8], for_key: KeyDigest) -> Option<Box<dyn Case>> {
    let body = CloudEvidence { has: vec![], document: Some(STANDARD.encode(document)) };
    let body = serde_json::to_string(&body).expect("our own types can be written");
    let kept = [nonce, name.as_bytes()].concat();
    let message = Message {
        body: &body,
        kept: Some(&kept),
        entropy: [3; ENTROPY_LEN],
        for_key,
        exporter: &EXPORTER,
        requester: &Requester::Nobody,
        purpose: Purpose::Join { wanted: Some("edge-07") },
    };
    ATTESTORS.by_kind(CLOUD).expect("it is configured").open(&message, &context()).ok()
}

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let Some((mode, rest)) = mode(data) else { return Outcome::Refused };
    let name = DOCUMENTS[usize::from(mode & !INSIDE) % DOCUMENTS.len()];
    let document = match (mode & INSIDE != 0, name) {
        (false, _) => rest.to_vec(),
        (true, CLOUD_AWS_NITRO) => cose(rest),
        (true, _) => cms::unsigned(rest),
    };
    let Some(case) = open(name, &document, &NONCE, for_key()) else { return Outcome::Refused };
    let context = context();
    let needs = case.needs(&Found::default()).expect("nothing was found yet");
    let rests_on = case.rests_on(&Found::default(), &context).expect("the key alone");
    let cleared = rests_on.clear(&Locks::new(rests_on.targets.clone(), vec![])).expect("there is no lock");
    assert!(case.step(&Found::default(), &context, &cleared).is_err(), "believed without a file");
    if name == CLOUD_AWS_IDENTITY {
        let [Need::Document(_), Need::Record(spent), Need::Record(holder)] = &needs[..] else { panic!("{needs:?}") };
        assert!(spent.starts_with(keys::SPENT_INSTANCES) && holder.starts_with(keys::DEVICES), "{needs:?}");
        return Outcome::Taken;
    }
    assert!(matches!(&needs[..], [Need::Document(_)]), "{needs:?}");
    assert!(open(name, &document, &[6; CLOUD_NONCE_LEN], for_key()).is_none(), "for another challenge");
    assert!(open(name, &document, &NONCE, KeyDigest::from_spki_der(b"another")).is_none(), "for another key");
    Outcome::Taken
}

/// A head of CBOR (RFC 8949 3).
fn head(major: u8, argument: usize) -> Vec<u8> {
    let argument = u16::try_from(argument).unwrap_or(u16::MAX);
    match u8::try_from(argument) {
        Ok(short @ 0..24) => vec![major << 5 | short],
        Ok(byte) => vec![major << 5 | 24, byte],
        Err(_) => [&[major << 5 | 25][..], &argument.to_be_bytes()].concat(),
    }
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [head(2, bytes.len()), bytes.to_vec()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [head(3, text.len()), text.as_bytes().to_vec()].concat()
}

/// A payload with a signature that is none.
fn cose(payload: &[u8]) -> Vec<u8> {
    [&[0x84][..], &bytes(&[0xa1, 0x01, 0x38, 0x22]), &[0xa0], &bytes(payload), &bytes(&[7; 96])].concat()
}

fn nitro() -> Vec<u8> {
    let members = [
        ("module_id", text("i-1234567890abcdef0-enc0123456789abcdef")),
        ("digest", text("SHA384")),
        ("timestamp", [&[0x1b][..], &(NOW.secs() * 1000).to_be_bytes()].concat()),
        ("pcrs", [head(5, 1), head(0, 0), bytes(&[1; 48])].concat()),
        ("certificate", bytes(b"leaf")),
        ("cabundle", [head(4, 1), bytes(b"ca")].concat()),
        ("public_key", vec![0xf6]),
        ("user_data", bytes(for_key().as_bytes())),
        ("nonce", bytes(&NONCE)),
    ];
    let members = members.map(|(name, value)| [text(name), value].concat()).concat();
    [vec![0xbf], members, vec![0xff]].concat()
}

fn azure() -> String {
    let nonce = KeyDigest::from_spki_der(&cloud_azure_message(&NONCE, for_key().as_bytes())).hex();
    let nonce = &nonce[..CLOUD_AZURE_NONCE_LEN];
    let times = r#"{"createdOn":"03/01/26 11:59:00 -0000","expiresOn":"03/01/26 18:00:00 -0000"}"#;
    let ids =
        r#""vmId":"02aab8a4-74ef-476e-8182-f6d2ba4166a6","subscriptionId":"6d0a5c1e-0000-4000-8000-000000000001""#;
    format!(r#"{{"nonce":"{nonce}","timeStamp":{times},{ids}}}"#)
}

const IDENTITY: &str = r#"{"accountId":"111122223333","region":"here-1","instanceId":"i-1234567890abcdef0",
"imageId":"ami-5fb8c835","pendingTime":"2026-03-01T11:55:00Z","kernelId":null}"#;

/// What a machine that has these documents sends first.
#[must_use]
pub fn first() -> String {
    r#"{"has":["aws-identity","of-tomorrow"]}"#.to_owned()
}

/// Documents of each kind, whole and by what is signed.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        with_mode(0, &cose(&nitro())),
        with_mode(INSIDE, &nitro()),
        with_mode(1, &cms::unsigned(IDENTITY.as_bytes())),
        with_mode(INSIDE | 1, IDENTITY.as_bytes()),
        with_mode(2, &cms::unsigned(azure().as_bytes())),
        with_mode(INSIDE | 2, azure().as_bytes()),
    ]
}
