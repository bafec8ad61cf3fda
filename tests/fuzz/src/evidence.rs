//! Evidence, for every attestor there is. Whatever is sent, nobody is believed without a record or a file of ours, and what is to be
//! looked up comes from something signed.

use std::sync::LazyLock;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use gateway::{
    attest::{ALL, Attestors, Case, Chosen, claims},
    core::{
        evidence::{Context, DocumentSource, ENTROPY_LEN, Found, Message, Need, Purpose, Section, Sections, Step},
        keys,
        lock::Locks,
        requester::Requester,
    },
};
use pki::{CaKey as _, KeyAlgorithm, KeyDigest, Role, SoftwareKey};
use policy::Ruleset;
use wire::evidence::{
    CLOUD, JOIN_TOKEN, JWT, PRIOR_CERTIFICATE, PRIOR_CERTIFICATE_CONTEXT, PriorCertificate, READ_BACK, SSH_HOST_KEY,
    SSH_HOST_KEY_NAMESPACE, SshHostKey, TPM, TpmEvidence, X509, X509Evidence, ssh_host_key_message, x509_message,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    Outcome, cloud, join_token, jwt,
    parts::{inner, mode, signed, with_mode},
    ssh, tpm_attest,
    world::{EXPORTER, LEAF_KEY, NOW, WORLD, key, leaf},
};

/// The input is the signed part of a prior certificate; the CA of the machines signs it, and its key the evidence, here.
const SIGN: u8 = 0x80;

/// Those that are on by default, and four that need issuers or places, whose files are not read here.
static ATTESTORS: LazyLock<Attestors> = LazyLock::new(|| {
    let section = |kind: &str, text: &str| {
        (kind.to_owned(), Section { values: text.parse().expect("a section"), folder: "/".into() })
    };
    let tokens =
        "[issuers.lab]\npreset = 'oidc'\nissuer = 'https://issuer.example'\nkeys = 'keys.json'\naudience = 'us'";
    let certificates = "[issuers.maker]\nanchors = 'anchors.pem'";
    let places = "[places.sheet]\nfile = '{name}'\nwhere = 'the sheet'";
    let sections =
        [section(CLOUD, cloud::SECTION), section(JWT, tokens), section(X509, certificates), section(READ_BACK, places)];
    Attestors::from(&Sections::from(sections)).expect("good sections")
});

static RULES: LazyLock<Ruleset> =
    LazyLock::new(|| Ruleset::load(&[], &claims().collect::<Vec<_>>()).expect("no rules"));

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let Some((mode, rest)) = mode(data) else { return Outcome::Refused };
    let for_key = key(LEAF_KEY + 1).subject_key().expect("its public key").digest();
    if mode & SIGN != 0 {
        let body = prior(&signed(rest, &WORLD.machines_key), &for_key);
        return Outcome::any(&[judge(PRIOR_CERTIFICATE, &body, for_key)]);
    }
    let row = ALL[usize::from(mode) % ALL.len()];
    Outcome::any(&[judge(row.kind, &String::from_utf8_lossy(rest), for_key)])
}

fn judge(kind: &str, body: &str, for_key: KeyDigest) -> bool {
    let Ok(chosen) = ATTESTORS.by_kind(kind) else { return false };
    let context = Context {
        domain: &WORLD.domain,
        anchors: &WORLD.anchors,
        token_key: &WORLD.token_key,
        host_ca: None,
        rules: &RULES,
        now: NOW,
    };
    let message = Message {
        body,
        kept: None,
        entropy: [3; ENTROPY_LEN],
        for_key,
        exporter: &EXPORTER,
        requester: &Requester::Nobody,
        purpose: Purpose::Join { wanted: Some("edge-07") },
    };
    let Ok(case) = chosen.open(&message, &context) else { return false };
    if kind == SSH_HOST_KEY {
        host_key(&chosen, &message, &context, case.as_ref());
        return true;
    }
    if [CLOUD, TPM].contains(&kind) {
        return asked(&*case, &context);
    }
    if kind == READ_BACK {
        unread(&chosen, &message, &context);
        return asked(&*case, &context);
    }
    if kind == JWT {
        without_keys(&*case, &context);
        return true;
    }
    if kind == X509 {
        certified(&chosen, &message, &context, case.as_ref());
        return true;
    }
    // Without what was looked up there is nothing to believe, whatever the evidence says.
    assert!(case.rests_on(&Found::default(), &context).is_err(), "believed without a record");
    let needs = case.needs(&Found::default()).expect("nothing was found yet");
    assert!(!needs.is_empty());
    if kind == PRIOR_CERTIFICATE {
        bound(&chosen, &message, &context, &needs);
    }
    true
}

/// A host key that no file names gives nothing but its fingerprint, and its signature cannot be lent.
fn host_key(chosen: &Chosen<'_>, message: &Message<'_>, context: &Context<'_>, case: &dyn Case) {
    assert!(case.needs(&Found::default()).expect("it needs no record").is_empty());
    let rests_on = case.rests_on(&Found::default(), context).expect("it rests on its key");
    let locks = Locks::new(rests_on.targets.clone(), vec![]);
    let cleared = rests_on.clear(&locks).expect("there are no locks");
    let Ok(Step::Done(vouched)) = case.step(&Found::default(), context, &cleared) else { panic!("it is a claim") };
    let claims = vouched.claims;
    assert!(claims.grants.is_none() && claims.names.is_empty() && claims.role.is_none());
    let told: Vec<&str> = claims.values.keys().map(String::as_str).collect();
    assert_eq!(told, ["fingerprint", "trust"]);
    cannot_be_lent(chosen, message, context);
}

/// A certificate is believed only with the files of an issuer, and the signature of its key cannot be lent.
fn certified(chosen: &Chosen<'_>, message: &Message<'_>, context: &Context<'_>, case: &dyn Case) {
    let needs = case.needs(&Found::default()).expect("nothing was found yet");
    assert!(matches!(&needs[..], [Need::Document(_)]), "{needs:?}");
    let rests_on = case.rests_on(&Found::default(), context).expect("it rests on its key");
    let cleared = rests_on.clear(&Locks::new(rests_on.targets.clone(), vec![])).expect("there are no locks");
    assert!(case.step(&Found::default(), context, &cleared).is_err(), "believed without an anchor");
    cannot_be_lent(chosen, message, context);
}

fn cannot_be_lent(chosen: &Chosen<'_>, message: &Message<'_>, context: &Context<'_>) {
    let other = Message { exporter: &[8; 32], ..message.clone() };
    assert!(chosen.open(&other, context).is_err(), "on another connection");
    let other = Message { for_key: KeyDigest::from_spki_der(b"another"), ..message.clone() };
    assert!(chosen.open(&other, context).is_err(), "for another key");
}

/// A token is nothing without the keys of its issuer.
fn without_keys(case: &dyn Case, context: &Context<'_>) {
    let needs = case.needs(&Found::default()).expect("nothing was found yet");
    assert!(matches!(needs.as_slice(), [Need::Document(_), Need::Record(key)] if key.starts_with(keys::SPENT_JWTS)));
    let rests_on = case.rests_on(&Found::default(), context).expect("nothing is known of its key");
    let cleared = rests_on.clear(&Locks::new(rests_on.targets.clone(), vec![])).expect("there is no lock");
    assert!(case.step(&Found::default(), context, &cleared).is_err(), "believed without a key");
}

/// Nobody is believed in a first round: a TPM must open a credential first, and a cloud's document be of the challenge.
fn asked(case: &dyn Case, context: &Context<'_>) -> bool {
    let found = Found::default();
    let rests_on = case.rests_on(&found, context).expect("the key alone");
    let cleared = rests_on.clear(&Locks::new(rests_on.targets.clone(), vec![])).expect("there is no lock");
    assert!(matches!(case.step(&found, context, &cleared), Ok(Step::Ask { .. })), "believed at once");
    true
}

/// Nobody is believed in a later round either while nothing was read, whatever a ticket kept; and only the place's file is read.
fn unread(chosen: &Chosen<'_>, message: &Message<'_>, context: &Context<'_>) {
    let kept = [&[3; 16][..], &NOW.secs().to_be_bytes(), b"edge-07"].concat();
    let again = Message { kept: Some(&kept), ..message.clone() };
    let case = chosen.open(&again, context).expect("as in the first round");
    let needs = case.needs(&Found::default()).expect("nothing was found yet");
    assert_eq!(needs, [Need::OfName(DocumentSource::File("/edge-07".into()))]);
    asked(&*case, context);
}

/// A prior certificate is bound to the connection and to the new key: neither can be lent.
fn bound(chosen: &Chosen<'_>, message: &Message<'_>, context: &Context<'_>, needs: &[Need]) {
    let text: PriorCertificate = serde_json::from_str(message.body).expect("what was taken is JSON");
    let ders = pki::parse_pem("CERTIFICATE", &text.certificate).expect("what was taken is PEM");
    let (_, parsed) = X509Certificate::from_der(&ders[0]).expect("what was taken is a certificate");
    let serial = parsed.raw_serial().strip_prefix(&[0]).unwrap_or(parsed.raw_serial());
    let serial: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(matches!(needs, [Need::Record(key)] if key.starts_with(keys::CERTIFICATES) && key.ends_with(&serial)));
    cannot_be_lent(chosen, message, context);
}

/// The evidence of whoever holds [`leaf`]'s key.
fn prior(certificate: &[u8], for_key: &KeyDigest) -> String {
    let message = [PRIOR_CERTIFICATE_CONTEXT, &EXPORTER, for_key.as_bytes()].concat();
    let signature = key(LEAF_KEY).sign(&message).expect("a key in memory signs");
    let body = PriorCertificate {
        certificate: pki::to_pem("CERTIFICATE", certificate),
        signature: URL_SAFE_NO_PAD.encode(signature),
    };
    serde_json::to_string(&body).expect("our own types can be written")
}

/// The evidence of a host with an Ed25519 key, with its certificate or without.
fn host(line: impl Fn(&SoftwareKey) -> String, for_key: &KeyDigest) -> String {
    let (key, _) = SoftwareKey::generate(KeyAlgorithm::Ed25519).expect("a key");
    let message = ssh_host_key_message(WORLD.domain.as_str(), &EXPORTER, for_key.as_bytes());
    let signature = ssh::sshsig(&key, SSH_HOST_KEY_NAMESPACE, &message);
    serde_json::to_string(&SshHostKey { public_key: line(&key), signature }).expect("our own types can be written")
}

/// The evidence of whoever holds [`leaf`]'s key, as of another CA.
fn other_ca(for_key: &KeyDigest) -> String {
    let message = x509_message(WORLD.domain.as_str(), &EXPORTER, for_key.as_bytes());
    let signature = STANDARD.encode(key(LEAF_KEY).sign(&message).expect("a key in memory signs"));
    let body = X509Evidence { certificates: pki::to_pem("CERTIFICATE", &leaf(Role::Machine)), signature };
    serde_json::to_string(&body).expect("our own types can be written")
}

/// A TPM's first round: an EK and an AK on P-256.
fn tpm() -> String {
    let [ek, ak] = tpm_attest::ek_and_ak().map(|area| STANDARD.encode(area));
    let body = TpmEvidence { certificates: vec![], ek, ak, key: None, answer: None };
    serde_json::to_string(&body).expect("our own types can be written")
}

/// Good evidence of each kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let for_key = key(LEAF_KEY + 1).subject_key().expect("its public key").digest();
    let number = |kind| {
        let at = ALL.iter().position(|row| row.kind == kind).expect("listed");
        u8::try_from(at).expect("few attestors")
    };
    let (machine, person) = (leaf(Role::Machine), leaf(Role::Person));
    let mut seeds = vec![
        with_mode(number(JOIN_TOKEN), join_token::good().as_bytes()),
        with_mode(number(PRIOR_CERTIFICATE), prior(&machine, &for_key).as_bytes()),
        with_mode(number(PRIOR_CERTIFICATE), prior(&person, &for_key).as_bytes()),
        with_mode(number(TPM), tpm().as_bytes()),
        with_mode(number(X509), other_ca(&for_key).as_bytes()),
        with_mode(number(JWT), jwt::good().as_bytes()),
        with_mode(number(CLOUD), cloud::first().as_bytes()),
        with_mode(SIGN, inner(&machine)),
        with_mode(number(SSH_HOST_KEY), host(ssh::line, &for_key).as_bytes()),
        with_mode(number(SSH_HOST_KEY), host(ssh::host_certificate, &for_key).as_bytes()),
    ];
    // An attestor that comes later starts from nothing until somebody gives it a seed.
    seeds.extend((0..u8::try_from(ALL.len()).expect("few attestors")).map(|at| with_mode(at, b"{}")));
    seeds
}
