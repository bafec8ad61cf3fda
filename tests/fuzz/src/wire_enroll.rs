//! The JSON that crosses the network, in both directions. What is read is written again as what reads the same; what a
//! client may not send is refused; and a client installs no reply but one that was made for its key.

use std::fmt::Debug;

use enroll_client::core::receive::{Expect, KnownGateway, accept, pending_approval};
use enroll_client::core::target::Address;
use enroll_client::core::trust::Expected;
use pki::{KeyDigest, Order, Role};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use wire::{
    admin::{
        ApproveRequest, AuditView, CanIReply, CanIRequest, LockRequest, LockView, Page, ReasonRequest, RequestView,
        SubjectView, TokenReply, TokenRequest, TokenView,
    },
    enroll::{EnrollRequest, Evidence, GatewayInfo, IssuedReply, WaitingReply},
    evidence::{JoinTokenClaims, PriorCertificate, ProofClaims},
    manage::{Done, RenewRequest, SelfReply},
    problem::Problem,
};

use crate::{
    Outcome,
    parts::{mode, with_mode},
    world::{LEAF_KEY, NOW, WORLD, key, leaf, serial},
};

/// The kinds of messages, in the order of the first byte.
const KINDS: &[fn(&[u8]) -> bool] = &[
    request::<EnrollRequest>,
    request::<RenewRequest>,
    request::<ApproveRequest>,
    request::<ReasonRequest>,
    request::<LockRequest>,
    request::<TokenRequest>,
    request::<CanIRequest>,
    request::<PriorCertificate>,
    issued,
    waiting,
    reply::<GatewayInfo>,
    reply::<SelfReply>,
    reply::<Done>,
    reply::<Problem>,
    reply::<Page<RequestView>>,
    reply::<Page<SubjectView>>,
    reply::<Page<AuditView>>,
    reply::<Vec<LockView>>,
    reply::<Vec<TokenView>>,
    reply::<TokenReply>,
    reply::<CanIReply>,
    reply::<JoinTokenClaims>,
    reply::<ProofClaims>,
];

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let Some((mode, json)) = mode(data) else { return Outcome::Refused };
    Outcome::any(&[KINDS[usize::from(mode) % KINDS.len()](json)])
}

/// Reads, writes, reads again.
fn read<T: Serialize + DeserializeOwned>(json: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(json).ok()?;
    let written = serde_json::to_vec(&value).expect("our own types can be written");
    let again: T = serde_json::from_slice(&written).expect("what we write we can read");
    assert_eq!(serde_json::to_vec(&again).expect("our own types can be written"), written);
    Some(value)
}

fn reply<T: Serialize + DeserializeOwned>(json: &[u8]) -> bool {
    read::<T>(json).is_some()
}

/// Unknown fields of a request are refused: a caller must not believe it was understood.
fn request<T: Serialize + DeserializeOwned + Debug>(json: &[u8]) -> bool {
    let Some(value) = read::<T>(json) else { return false };
    if let Ok(Value::Object(mut fields)) = serde_json::from_slice(json) {
        fields.insert("fuzz_unknown".to_owned(), Value::Null);
        let more = serde_json::to_vec(&fields).expect("JSON can be written");
        assert!(serde_json::from_slice::<T>(&more).is_err(), "{value:?} with an unknown field");
    }
    if let Ok(request) = serde_json::from_slice::<EnrollRequest>(json) {
        // Refused or not, it comes to an end.
        let _ = gateway::edge::fronts::native::csr(&request.csr);
    }
    true
}

fn issued(json: &[u8]) -> bool {
    let Some(reply) = read::<IssuedReply>(json) else { return false };
    let ours = key(LEAF_KEY).subject_key().expect("its public key").digest();
    // No handshake has shown a certificate, so the address of the manage face is the one from before: a reply without an order keeps it.
    let before = KnownGateway { order: Order::new(1), manage: Address::parse("gate.example:8444", 443).ok() };
    let (believed, stranger) = (Expected::Pin(WORLD.root.pin()), Expected::Pin(KeyDigest::from_spki_der(b"another")));
    let expect = Expect { key: &ours, believed: &believed, shown: None, before: &before, now: NOW };
    let Ok(issued) = accept(&reply, expect) else { return false };
    assert_eq!(issued.key, ours);
    assert_eq!(issued.identity.domain, WORLD.domain);
    assert_eq!(Some(issued.manage), before.manage);
    assert!(issued.life.renew_after <= issued.life.not_after && issued.life.renew_by <= issued.life.not_after);
    let other = KeyDigest::from_spki_der(b"another");
    assert!(accept(&reply, Expect { key: &other, ..expect }).is_err(), "for another key");
    assert!(accept(&reply, Expect { believed: &stranger, ..expect }).is_err(), "under another pin");
    true
}

fn waiting(json: &[u8]) -> bool {
    read::<WaitingReply>(json).is_some_and(|reply| pending_approval(&reply).is_ok_and(|ticket| ticket.id == reply.id))
}

fn issued_reply() -> IssuedReply {
    IssuedReply {
        id: "0a1b2c3d4e5f".to_owned(),
        identity: "spiffe://lab.example/machine/edge-07".to_owned(),
        certificate: pki::to_pem("CERTIFICATE", &leaf(Role::Machine)),
        chain: pki::to_pem("CERTIFICATE", WORLD.machines.cert_der()),
        bundle: pki::to_pem("CERTIFICATE", WORLD.root.cert_der()),
        cross: String::new(),
        serial: serial(42).hex(),
        not_before: NOW.secs() - 300,
        not_after: NOW.secs() + 86_399,
        renew_after: NOW.secs() + 40_000,
        renew_by: NOW.secs() + 60_000,
        manage: "gate.example:8444".to_owned(),
        order: 0,
        time: NOW.secs(),
    }
}

/// One good message of most kinds.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let csr = pki::csr::request(&key(LEAF_KEY)).expect("a request");
    let csr = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, csr);
    let evidence = vec![Evidence { kind: "join-token".to_owned(), body: "eyJ.e30.AA".to_owned() }];
    let attributes = [("os".to_owned(), "linux".to_owned())].into();
    let enroll = EnrollRequest {
        csr: csr.clone(),
        wanted_name: Some("edge-07".to_owned()),
        evidence,
        ticket: None,
        attributes,
        pin: None,
    };
    let waiting = WaitingReply {
        id: "0a1b2c3d4e5f".to_owned(),
        poll_after: 5,
        nonce: "00".repeat(16),
        expires: NOW.secs() + 86_400,
        approvals_missing: 1,
        time: NOW.secs(),
    };
    let json = |value: &dyn erased::Json| value.json();
    let mut seeds = vec![
        with_mode(0, &json(&enroll)),
        with_mode(1, &json(&RenewRequest { csr, name: None, evidence: vec![], ticket: None })),
        with_mode(8, &json(&issued_reply())),
        with_mode(9, &json(&waiting)),
    ];
    let texts: &[(u8, &str)] = &[
        (2, r#"{"code":"ABCD-EFGH","unchecked":false,"name":"edge-08","labels":{"site":"oslo"},"owner":"olga"}"#),
        (3, r#"{"reason":"not ours"}"#),
        (4, r#"{"kind":"machine","target":"edge-07","reason":"stolen"}"#),
        (5, r#"{"role":"machine","uses":3,"ttl":3600,"names":["edge-*"],"labels":{},"groups":[],"owner":"olga"}"#),
        (6, r#"{"action":"approve","resource":"machine/edge-07"}"#),
        (7, r#"{"certificate":"-----BEGIN CERTIFICATE-----","signature":"AA"}"#),
        (10, r#"{"trust_domain":"lab.example","pin":"00","time":1,"manage":"gate.example:8444","version":"0.1.0"}"#),
        (11, r#"{"identity":"i","lineage":"l","serial":"01","not_after":9,"renew_after":5,"time":1,"notices":["n"]}"#),
        (
            13,
            r#"{"type":"urn:lychgate:error:denied","title":"t","status":403,"detail":"d","hint":"h","retry_after":5}"#,
        ),
        (14, r#"{"items":[],"next":"x"}"#),
        (19, r#"{"id":"t","token":"eyJ","expires":9}"#),
    ];
    seeds.extend(texts.iter().map(|(kind, text)| with_mode(*kind, text.as_bytes())));
    seeds
}

/// Anything that can be written as JSON.
mod erased {
    /// See above.
    pub trait Json {
        /// As JSON.
        fn json(&self) -> Vec<u8>;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> Vec<u8> {
            serde_json::to_vec(self).expect("our own types can be written")
        }
    }
}
