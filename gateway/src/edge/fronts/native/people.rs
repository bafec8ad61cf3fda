//! Approvers and requests.

use axum::http::StatusCode;
use wire::admin::{ApproveRequest, ReasonRequest, RequestEvents, RequestView};

use crate::{
    core::{
        approve::{Approve, CodeCheck, Wish},
        given::GivenReason,
        refusal::{Either, Malformed, Refusal},
    },
    edge::{
        fronts::native::{Boxed, boxed, done, listed, said},
        http::{HolderCall, json},
    },
    flow::people,
};

/// `GET /v1/requests?all=true&after=ID&limit=N`.
pub fn list(call: HolderCall) -> Boxed {
    boxed(async move {
        let all = call.query.get("all").is_some_and(|value| value == "true");
        let after = call.query.get("after").map(String::as_str);
        listed::<RequestView, _>(people::list(&call.shell, &call.caller, all, after, call.limit()?).await?)
    })
}

/// `GET /v1/request-events?seen=&wait=`: who waits, a long poll.
pub fn watch(call: HolderCall) -> Boxed {
    boxed(async move {
        let wait: u64 = call.number("wait")?.unwrap_or(0).min(wire::limits::WAIT_MAX_SECS);
        let seen = call.query.get("seen").map(String::as_str);
        let watching = people::watch(&call.shell, &call.caller, seen, std::time::Duration::from_secs(wait));
        tokio::select! {
            events = watching => said::<RequestEvents, _>(StatusCode::OK, events?),
            // Whoever is told to end looks again elsewhere: what they saw is not what is here.
            _ = call.conn.told_to_end() => json(StatusCode::OK, &wire::admin::RequestEvents::default()),
        }
    })
}

/// `GET /v1/requests/{id}`.
pub fn show(call: HolderCall) -> Boxed {
    boxed(async move {
        said::<RequestView, _>(StatusCode::OK, people::show(&call.shell, &call.caller, call.param("id")).await?)
    })
}

/// `POST /v1/requests/{id}/approve`.
pub fn approve(call: HolderCall) -> Boxed {
    boxed(async move {
        let body: ApproveRequest = call.json()?;
        let code = match (body.code, body.unchecked) {
            (Some(code), false) => CodeCheck::Typed(code),
            (None, true) => CodeCheck::NotChecked,
            (Some(_), true) | (None, false) => {
                return Err(Refusal::Malformed(Malformed::Either(Either::CodeOrUnchecked)));
            }
        };
        body.owner.as_deref().map_or(Ok(()), |owner| word("owner", owner))?;
        let own = body.name.is_some() || !body.labels.is_empty() || body.owner.is_some();
        let wish = match body.same_as {
            None => Wish::Own { name: body.name, labels: body.labels, owner: body.owner },
            Some(_) if own => {
                return Err(Refusal::Malformed(Malformed::Either(Either::SameAsOrOwn)));
            }
            Some(digest) => Wish::SameAs(digest),
        };
        let asked = Approve { code, wish };
        let view = people::approve(&call.shell, &call.caller, call.param("id"), &asked, &call.instance).await?;
        said::<RequestView, _>(StatusCode::OK, view)
    })
}

/// `POST /v1/requests/{id}/deny`.
pub fn deny(call: HolderCall) -> Boxed {
    boxed(async move {
        let body: ReasonRequest = call.json()?;
        let reason = GivenReason::wanted(&body.reason)?;
        people::deny(&call.shell, &call.caller, call.param("id"), reason.as_str(), &call.instance).await?;
        done(&call)
    })
}

/// `POST /v1/requests/{id}/reopen`.
pub fn reopen(call: HolderCall) -> Boxed {
    boxed(async move {
        let view = people::reopen(&call.shell, &call.caller, call.param("id"), &call.instance).await?;
        said::<RequestView, _>(StatusCode::OK, view)
    })
}

/// A word that a person gives: neither empty nor long, without what a terminal or a log reads as something else.
///
/// # Errors
/// [`Refusal::Malformed`].
pub fn word(what: &str, text: &str) -> Result<(), Refusal> {
    let most = wire::limits::WORD_MAX;
    if text.is_empty() || text.len() > most || text.trim() != text || text.chars().any(char::is_control) {
        return Err(Refusal::Malformed(Malformed::Word(what.to_owned())));
    }
    Ok(())
}
