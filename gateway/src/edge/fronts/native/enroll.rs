//! The enroll face.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::http::{
    HeaderValue, StatusCode,
    header::{IF_NONE_MATCH, WWW_AUTHENTICATE},
};
use pki::{KeyDigest, Role, SubjectKey, UnixTime, VerifiedCsr};
use wire::{
    enroll::{ChallengeReply, EnrollRequest, Evidence, EvidenceChallenge, GatewayInfo, IssuedReply, WaitingReply},
    evidence::PROOF_HEADER,
    limits,
};

use crate::{
    core::{
        enroll::Inbound,
        evidence::Challenge,
        proof::{self, BadProof, Expected},
        proven::ProvenKey,
        refusal::{Fault, Malformed, Missing, Refusal},
    },
    edge::{
        fronts::native::{Boxed, boxed, csr, done},
        http::{Answer, Call, Kept, json, kept, typed},
    },
    flow::{
        self,
        enroll::{Awaiting, EnrollOutcome},
        issue::Issued,
        order,
        shell::{Settings, Shell},
    },
};

/// `GET /healthz`: the process answers.
pub fn health(_call: Call) -> Boxed {
    boxed(async { typed(StatusCode::OK, "text/plain", "ok\n") })
}

/// `GET /readyz`: the store answers too. What an operator should look at stands on lines of its own: a clock that is not
/// believed, damaged records, a CA that is about to end.
pub fn ready(call: Call) -> Boxed {
    boxed(async move {
        let _: Option<_> = call.shell.get::<u64>(crate::core::keys::EPOCH.to_owned()).await?;
        let mut text = "ready\n".to_owned();
        if crate::flow::clock::doubt(&call.shell).is_some() {
            text.push_str("clock-suspect\n");
        }
        if call.shell.damaged.count() > 0 {
            text.push_str("damaged-records\n");
        }
        for notice in call.shell.ca().ends().notices(call.shell.now()) {
            text.push_str(&format!("{notice}\n"));
        }
        typed(StatusCode::OK, "text/plain", text)
    })
}

/// `GET /v1/gateway`.
pub fn gateway(call: Call) -> Boxed {
    boxed(async move {
        let shell = &call.shell;
        let info = GatewayInfo {
            trust_domain: shell.domain.as_str().to_owned(),
            pin: shell.ca().pin().hex(),
            time: shell.now().secs(),
            manage: shell.settings.load().public_manage.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            evidence: shell.settings.load().attestors.kinds().map(str::to_owned).collect(),
        };
        json(StatusCode::OK, &info)
    })
}

/// `GET /v1/bundle`: the roots, PEM.
pub fn bundle(call: Call) -> Boxed {
    boxed(
        async move { typed(StatusCode::OK, "application/pem-certificate-chain", call.shell.ca().bundle_pem().to_owned()) },
    )
}

/// `GET /v1/crl/{list}`: the list of the CA with this key, a root or an issuing one, DER (RFC 5280 5); or `ROLE.pem`, the lists of
/// every chain of that role as one file that servers take.
pub fn crl(call: Call) -> Boxed {
    boxed(async move {
        let asked = call.param("list");
        let unknown = || Refusal::NotFound(Missing::RevocationList);
        let file = match asked.strip_suffix(".pem") {
            Some(role) => full_chain(&call.shell, Role::parse(role).map_err(|_| unknown())?).await?,
            None => one_list(&call.shell, &KeyDigest::parse_hex(asked).map_err(|_| unknown())?).await?,
        };
        kept(file, call.header(IF_NONE_MATCH.as_str()))
    })
}

async fn one_list(shell: &Arc<Shell>, issuer: &KeyDigest) -> Result<Kept, Refusal> {
    let ca = shell.ca();
    let (body, number, modified) = match ca.root_list(issuer) {
        Some((der, list)) => (der.to_vec().into(), list.number, list.this_update),
        None => {
            let list = flow::crl::list(shell, issuer).await?;
            (list.der.clone(), list.number, list.this_update)
        }
    };
    Ok(Kept { kind: "application/pkix-crl", body, version: number.to_string(), modified, max_age: flow::crl::KEPT })
}

async fn full_chain(shell: &Arc<Shell>, role: Role) -> Result<Kept, Refusal> {
    let (mut text, mut version, mut modified) = (String::new(), Vec::new(), UnixTime::new(0));
    let mut add = |der: &[u8], number: u64, this_update: UnixTime| {
        text.push_str(&pki::to_pem("X509 CRL", der));
        version.push(number.to_string());
        modified = modified.max(this_update);
    };
    let ca = shell.ca();
    for issuer in ca.list_issuers(role, shell.now()) {
        let list = flow::crl::list(shell, &issuer).await?;
        add(&list.der, list.number, list.this_update);
    }
    let mut roots = ca.root_lists().peekable();
    roots.peek().ok_or(Refusal::NotFound(Missing::RevocationList))?;
    roots.for_each(|(der, list)| add(der, list.number, list.this_update));
    let version = version.join("-");
    Ok(Kept { kind: "application/x-pem-file", body: text.into(), version, modified, max_age: flow::crl::KEPT })
}

/// `POST /v1/enrollments`.
pub fn enroll(call: Call) -> Boxed {
    boxed(async move {
        let request: EnrollRequest = call.json()?;
        let key = proven(&call, csr(&request.csr)?)?;
        let inbound = inbound(&call, request, key)?;
        answer(&call.shell, flow::enroll::enroll(&call.shell, &inbound, &call.instance).await?)
    })
}

/// `GET /v1/enrollments/{id}?wait=SECONDS`.
pub fn poll(call: Call) -> Boxed {
    boxed(async move {
        let id = own_request(&call, "GET").await?;
        let wait: u64 = call.number("wait")?.unwrap_or(0);
        let wait = Duration::from_secs(wait.min(limits::WAIT_MAX_SECS));
        answer(&call.shell, flow::enroll::poll(&call.shell, &id, wait, &call.instance).await?)
    })
}

/// `DELETE /v1/enrollments/{id}`: takes it back.
pub fn withdraw(call: Call) -> Boxed {
    boxed(async move {
        let id = own_request(&call, "DELETE").await?;
        flow::enroll::withdraw(&call.shell, &id, &call.instance).await?;
        done(&call)
    })
}

/// The request in the path, for whoever holds its key. Others learn nothing of it, not even whether there is one: what is wrong
/// with a proof on its face is said first, and another's key is as good as an unknown id.
async fn own_request(call: &Call, method: &str) -> Result<String, Refusal> {
    let id = call.param("id");
    let settings = call.shell.settings.load_full();
    let proof = proof::read(offered(call)?, &expected(call, &settings, method), call.shell.now())?;
    let seen = flow::enroll::find(&call.shell, id).await?;
    let key = SubjectKey::from_spki_der(&seen.record.spki).map_err(|error| Fault::Record(error.to_string()))?;
    proof.signed_by(&key).map_err(|_| flow::enroll::unknown())?;
    Ok(id.to_owned())
}

fn offered(call: &Call) -> Result<&str, Refusal> {
    Ok(call.header(PROOF_HEADER).ok_or(BadProof::Missing)?)
}

fn expected<'a>(call: &'a Call, settings: &'a Settings, method: &'a str) -> Expected<'a> {
    Expected { method, path: &call.uri, hosts: &settings.hosts, exporter: call.conn.exporter() }
}

fn proven(call: &Call, csr: VerifiedCsr) -> Result<ProvenKey, Refusal> {
    let settings = call.shell.settings.load_full();
    Ok(ProvenKey::by_jwt(csr, offered(call)?, &expected(call, &settings, "POST"), call.shell.now())?)
}

/// Kind and body of each piece.
pub fn evidence(sent: Vec<Evidence>) -> Result<Vec<(String, String)>, Refusal> {
    if sent.len() > limits::EVIDENCE_MAX {
        return Err(Refusal::Malformed(Malformed::Evidence { max: limits::EVIDENCE_MAX }));
    }
    Ok(sent.into_iter().map(|evidence| (evidence.kind, evidence.body)).collect())
}

fn inbound(call: &Call, request: EnrollRequest, key: ProvenKey) -> Result<Inbound, Refusal> {
    Ok(Inbound {
        wanted_name: request.wanted_name,
        pin: request.pin.and_then(|pin| KeyDigest::parse_hex(&pin).ok()),
        evidence: evidence(request.evidence)?,
        ticket: request.ticket,
        attributes: attributes(request.attributes)?,
        ..call.inbound(key)
    })
}

fn attributes(attributes: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refusal> {
    let long = |(name, value): (&String, &String)| {
        name.contains('=') || name.len() > limits::ATTRIBUTE_NAME_MAX || value.len() > limits::ATTRIBUTE_VALUE_MAX
    };
    if attributes.len() > limits::ATTRIBUTES_MAX || attributes.iter().any(long) {
        return Err(Refusal::Malformed(Malformed::Attributes));
    }
    Ok(attributes)
}

fn answer(shell: &Shell, outcome: EnrollOutcome) -> Answer {
    match outcome {
        EnrollOutcome::Issued(made) => json(StatusCode::CREATED, &issued(shell, *made)),
        EnrollOutcome::Waiting(awaiting) => json(StatusCode::ACCEPTED, &waiting(shell, &awaiting)),
        EnrollOutcome::Challenge(challenge) => asked_back(shell, challenge),
    }
}

/// A certificate as this front says it: everything in PEM, with what the client goes on by.
#[must_use]
pub fn issued(shell: &Shell, made: Issued) -> IssuedReply {
    let ca = shell.ca();
    let Issued { id, identity, certificate, chain, schedule } = made;
    IssuedReply {
        id,
        identity,
        certificate: pki::to_pem("CERTIFICATE", &certificate.der),
        chain: chain.iter().map(|der| pki::to_pem("CERTIFICATE", der)).collect(),
        bundle: ca.bundle_pem().to_owned(),
        cross: ca.cross_pem().to_owned(),
        serial: certificate.serial.hex(),
        not_before: certificate.not_before.0,
        not_after: certificate.not_after.0,
        renew_after: schedule.renew_after.secs(),
        renew_by: schedule.renew_by.secs(),
        manage: shell.settings.load().public_manage.clone(),
        order: order::now(shell).number(),
        time: shell.now().secs(),
    }
}

/// Seconds until a client that waits asks again, when its poll is not a long one.
const POLL_AFTER: u64 = 5;

/// A wait as this front says it.
#[must_use]
pub fn waiting(shell: &Shell, awaiting: &Awaiting) -> WaitingReply {
    WaitingReply {
        id: awaiting.id.clone(),
        poll_after: POLL_AFTER,
        nonce: hex::encode(awaiting.nonce),
        expires: awaiting.expires.secs(),
        approvals_missing: awaiting.approvals_missing,
        time: shell.now().secs(),
    }
}

/// RFC 9110 15.5.2: a 401 says what would do, here the answers of these kinds.
pub fn asked_back(shell: &Shell, challenge: Challenge) -> Answer {
    let kinds: Vec<&str> = challenge.asks.iter().map(|(kind, _)| kind.as_str()).collect();
    let header = format!("Lychgate-Evidence kinds=\"{}\"", kinds.join(" "));
    let challenges = challenge.asks.into_iter().map(|(kind, body)| EvidenceChallenge { kind, body }).collect();
    let reply = ChallengeReply {
        challenges,
        ticket: challenge.ticket,
        expires: challenge.ends.secs(),
        time: shell.now().secs(),
    };
    let mut response = json(StatusCode::UNAUTHORIZED, &reply)?;
    if let Ok(value) = HeaderValue::from_str(&header) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    Ok(response)
}
