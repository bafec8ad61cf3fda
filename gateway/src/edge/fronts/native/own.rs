//! What machines and people do for themselves.

use axum::http::StatusCode;
use wire::manage::{RenewRequest, SealedRequest, SelfReply};

use crate::{
    core::{admission::Use, proven::ProvenKey, refusal::Refusal},
    edge::{
        fronts::native::{
            Boxed, boxed, csr, done,
            enroll::{asked_back, evidence, issued},
        },
        http::{Call, HolderCall, json},
    },
    flow::{
        self,
        admit::admit,
        renew::RenewalOutcome,
        shell::{Retry, retrying},
    },
    ports::rate::Prefix,
};

/// `GET /v1/self`.
pub fn myself(call: HolderCall) -> Boxed {
    boxed(async move {
        let caller = &call.caller;
        let subject = &caller.subject.record;
        let not_before = call.peer.not_before;
        let schedule = pki::schedule(&caller.serial, not_before, caller.not_after);
        let settings = call.shell.settings.load_full();
        let reply = SelfReply {
            identity: caller.identity.to_string(),
            lineage: caller.lineage.record.id.clone(),
            serial: caller.serial.hex(),
            not_after: caller.not_after.secs(),
            renew_after: schedule.renew_after.secs(),
            renew_now: flow::renew_now::is_wanted(&call.shell, caller, not_before).await?,
            time: call.shell.now().secs(),
            proxy: settings.public_proxy.clone(),
            services_below: settings.services_below.clone(),
            labels: subject.labels.iter().map(|(key, value)| format!("{key}={value}")).collect(),
            renaming: subject.renaming.clone(),
            owner: subject.owner.as_ref().map(|owner| owner.name.clone()),
            evidence: settings.attestors.renewing().map(str::to_owned).collect(),
            notices: flow::notices::of(&call.shell, caller).await?,
        };
        json(StatusCode::OK, &reply)
    })
}

/// `POST /v1/renew`.
pub fn renew(call: HolderCall) -> Boxed {
    boxed(async move {
        let request: RenewRequest = call.json()?;
        let key = proven(&call, &request.csr)?;
        let evidence = evidence(request.evidence)?;
        let source = Prefix::of(call.conn.source()).to_string();
        let asked = flow::renew::RenewalRequest {
            key: &key,
            takes: request.name.as_deref(),
            evidence: &evidence,
            ticket: request.ticket.as_deref(),
            requester: call.conn.requester(),
            source: &source,
        };
        let renewed = match flow::renew::renew(&call.shell, &call.caller, &asked, &call.instance).await {
            Err(Retry::Conflict) => again(&call, &asked).await?,
            Err(Retry::Refused(refusal)) => return Err(refusal),
            Ok(renewed) => renewed,
        };
        match renewed {
            RenewalOutcome::Issued(made) => json(StatusCode::OK, &issued(&call.shell, *made)),
            RenewalOutcome::Challenge(challenge) => asked_back(&call.shell, challenge),
        }
    })
}

/// The key of a request that comes from the holder of a certificate.
fn proven(call: &Call, request: &str) -> Result<ProvenKey, Refusal> {
    Ok(ProvenKey::by_request(csr(request)?, call.conn.requester(), call.conn.exporter())?)
}

/// Somebody changed the lineage meanwhile: admit afresh, then renew what is there now.
async fn again(call: &HolderCall, asked: &flow::renew::RenewalRequest<'_>) -> Result<RenewalOutcome, Refusal> {
    retrying(|| async {
        let caller = admit(&call.shell, &call.peer, Use::Renewal, &call.instance).await?;
        flow::renew::renew(&call.shell, &caller, asked, &call.instance).await
    })
    .await
}

/// `POST /v1/sealed`.
pub fn sealed(call: HolderCall) -> Boxed {
    boxed(async move {
        let request: SealedRequest = call.json()?;
        let key = proven(&call, &request.csr)?;
        // The lineage remembers the leaf, so whoever changes it meanwhile sends us back to look again.
        let made = retrying(|| async {
            let caller = admit(&call.shell, &call.peer, call.intent, &call.instance).await?;
            flow::sealed::sealed(&call.shell, &caller, &key, &call.instance).await
        })
        .await?;
        json(StatusCode::OK, &issued(&call.shell, made))
    })
}

/// `POST /v1/leave`.
pub fn leave(call: HolderCall) -> Boxed {
    boxed(async move {
        let caller = &call.caller;
        // Its other connections end when it has left, and this one with the answer.
        call.conn.close_after_response();
        flow::admin::leave(&call.shell, caller, &call.instance).await.inspect_err(|_| call.conn.stays_open())?;
        done(&call)
    })
}
