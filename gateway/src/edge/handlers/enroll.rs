//! The enroll face.

use std::{collections::BTreeMap, time::Duration};

use axum::http::StatusCode;
use pki::{Role, SubjectKey};
use wire::{
    enroll::{EnrollRequest, GatewayInfo},
    limits,
};

use super::{Boxed, boxed};
use crate::{
    core::{
        enroll::Inbound,
        proof::{self, BadProof, Expected},
        refusal::{Fault, Refusal},
    },
    edge::{
        http::{Answer, Call, Kept, json, kept, typed},
        rate::Prefix,
    },
    flow::{self, enroll::Reply, shell::Settings},
};

/// `GET /healthz`: the process answers.
pub fn health(_call: Call) -> Boxed {
    boxed(async { typed(StatusCode::OK, "text/plain", "ok\n") })
}

/// `GET /readyz`: the store answers too. What an operator should look at stands on lines of its own.
pub fn ready(call: Call) -> Boxed {
    boxed(async move {
        let _: Option<_> = call.shell.get::<u64>(crate::core::keys::EPOCH.to_owned()).await?;
        let suspect = crate::flow::clock::doubt(&call.shell).is_some();
        let damaged = call.shell.damaged.count() > 0;
        let text = match (suspect, damaged) {
            (false, false) => "ready\n",
            (true, false) => "ready\nclock-suspect\n",
            (false, true) => "ready\ndamaged-records\n",
            (true, true) => "ready\nclock-suspect\ndamaged-records\n",
        };
        typed(StatusCode::OK, "text/plain", text)
    })
}

/// `GET /v1/gateway`.
pub fn gateway(call: Call) -> Boxed {
    boxed(async move {
        let shell = &call.shell;
        let info = GatewayInfo {
            trust_domain: shell.ca.domain().as_str().to_owned(),
            pin: shell.pin.hex(),
            time: shell.now().secs(),
            manage: shell.settings.load().public_manage.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        json(StatusCode::OK, &info)
    })
}

/// `GET /v1/bundle`: the roots, PEM.
pub fn bundle(call: Call) -> Boxed {
    boxed(
        async move { typed(StatusCode::OK, "application/pem-certificate-chain", call.shell.ca.bundle_pem().to_owned()) },
    )
}

/// `GET /v1/crl/{role}`: the CRL of one issuing CA, DER (RFC 5280 5).
pub fn crl(call: Call) -> Boxed {
    boxed(async move {
        let role = Role::parse(call.param("role")).map_err(|_| Refusal::NotFound("issuing CA"))?;
        let list = flow::crl::list(&call.shell, role).await?;
        let file = Kept {
            kind: "application/pkix-crl",
            body: list.der.clone(),
            version: list.number.to_string(),
            modified: list.this_update,
            max_age: flow::crl::KEPT,
        };
        kept(file, call.if_none_match.as_deref())
    })
}

/// `POST /v1/enrollments`.
pub fn enroll(call: Call) -> Boxed {
    boxed(async move {
        let request: EnrollRequest = call.json()?;
        let csr = flow::renew::csr(&request.csr)?;
        let key = csr.into_key();
        prove(&call, &key, "POST")?;
        let inbound = inbound(&call, request, key)?;
        answer(flow::enroll::enroll(&call.shell, &inbound, call.conn.exporter(), &call.instance).await?)
    })
}

/// `GET /v1/enrollments/{id}?wait=SECONDS`. Whoever does not hold the key of the request learns nothing of it, not even
/// whether there is one: what is wrong with a proof on its face is said first, and another's key is as good as an unknown id.
pub fn poll(call: Call) -> Boxed {
    boxed(async move {
        let id = call.param("id");
        let settings = call.shell.settings.load_full();
        let proof = proof::read(offered(&call)?, &expected(&call, &settings, "GET"), call.shell.now())?;
        let seen = flow::enroll::find(&call.shell, id).await?;
        let key = SubjectKey::from_spki_der(&seen.record.spki).map_err(|error| Fault::Record(error.to_string()))?;
        proof.signed_by(&key).map_err(|_| flow::enroll::unknown())?;
        let wait: u64 = call.number("wait")?.unwrap_or(0);
        let wait = Duration::from_secs(wait.min(limits::WAIT_MAX_SECS));
        answer(flow::enroll::poll(&call.shell, id, wait, &call.instance).await?)
    })
}

fn offered(call: &Call) -> Result<&str, Refusal> {
    Ok(call.proof.as_deref().ok_or(BadProof::Missing)?)
}

fn expected<'a>(call: &'a Call, settings: &'a Settings, method: &'a str) -> Expected<'a> {
    Expected { method, path: &call.uri, hosts: &settings.hosts, exporter: call.conn.exporter() }
}

fn prove(call: &Call, key: &SubjectKey, method: &str) -> Result<(), Refusal> {
    let settings = call.shell.settings.load_full();
    Ok(proof::check(offered(call)?, key, &expected(call, &settings, method), call.shell.now())?)
}

fn inbound(call: &Call, request: EnrollRequest, key: SubjectKey) -> Result<Inbound, Refusal> {
    if request.evidence.len() > limits::EVIDENCE_MAX {
        return Err(Refusal::Malformed(format!("more than {} pieces of evidence", limits::EVIDENCE_MAX)));
    }
    Ok(Inbound {
        key,
        wanted_name: request.wanted_name,
        evidence: request.evidence.into_iter().map(|evidence| (evidence.kind, evidence.body)).collect(),
        attributes: attributes(request.attributes)?,
        source: call.conn.source(),
        prefix: Prefix::of(call.conn.source()).to_string(),
    })
}

fn attributes(attributes: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refusal> {
    let long = |(name, value): (&String, &String)| {
        name.contains('=') || name.len() > limits::ATTRIBUTE_NAME_MAX || value.len() > limits::ATTRIBUTE_VALUE_MAX
    };
    if attributes.len() > limits::ATTRIBUTES_MAX || attributes.iter().any(long) {
        return Err(Refusal::Malformed(format!(
            "attributes: at most {}, names without `=` up to {} bytes, values up to {} bytes",
            limits::ATTRIBUTES_MAX,
            limits::ATTRIBUTE_NAME_MAX,
            limits::ATTRIBUTE_VALUE_MAX
        )));
    }
    Ok(attributes)
}

fn answer(reply: Reply) -> Answer {
    match reply {
        Reply::Issued(issued) => json(StatusCode::CREATED, &issued),
        Reply::Waiting(waiting) => json(StatusCode::ACCEPTED, &waiting),
    }
}
