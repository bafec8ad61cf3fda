//! Machines, people, locks, tokens, audit.

use axum::http::StatusCode;
use pki::Role;
use wire::admin::{
    AuditView, CanIReply, CanIRequest, LockRequest, LockView, MachineChange, OffboardRequest, PersonChange,
    RemovedView, RenewalsRequest, ReportRequest, SetReply, SubjectView, TokenReply, TokenRequest, TokenView,
};

use crate::{
    core::{
        given::GivenReason,
        refusal::{Either, Malformed, Refusal},
    },
    edge::{
        fronts::native::{Boxed, boxed, done, listed, people::word, said},
        http::{Answer, HolderCall, typed},
    },
    flow::{
        admin::{self, MachineFilter},
        asked::TokenWish,
        audit::{self, AuditFilter},
        can_i, offboard,
        renew_now::{self, Whom},
        reports, set, subjects, tokens,
    },
    limits::RENEWALS_NAMED_MAX,
};

async fn list(call: &HolderCall, role: Role) -> Answer {
    let after = call.query.get("after").map(String::as_str);
    listed::<SubjectView, _>(admin::subjects(&call.shell, &call.caller, role, after, call.limit()?).await?)
}

async fn show(call: &HolderCall, role: Role) -> Answer {
    said::<SubjectView, _>(StatusCode::OK, admin::subject(&call.shell, &call.caller, role, call.param("name")).await?)
}

async fn remove(call: &HolderCall, role: Role) -> Answer {
    said::<RemovedView, _>(
        StatusCode::OK,
        admin::remove(&call.shell, &call.caller, role, call.param("name"), &call.instance).await?,
    )
}

/// `GET /v1/machines?state=&label=&owner=&online=&name=&after=&limit=`.
pub fn machines(call: HolderCall) -> Boxed {
    boxed(async move {
        let text = |name: &str| call.query.get(name).cloned();
        let online = match call.query.get("online").map(String::as_str) {
            None => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(_) => return Err(Refusal::Malformed(Malformed::TrueOrFalse("online"))),
        };
        let states = &subjects::STATES;
        if text("state").is_some_and(|state| !states.contains(&state.as_str())) {
            return Err(Refusal::Malformed(Malformed::NoneOf { name: "state", allowed: states }));
        }
        let (state, label, owner, name) = (text("state"), text("label"), text("owner"), text("name"));
        let filter = MachineFilter { state, label, owner, online, name };
        let after = text("after");
        listed::<SubjectView, _>(
            admin::machines(&call.shell, &call.caller, &filter, after.as_deref(), call.limit()?).await?,
        )
    })
}

/// `GET /v1/machines/{name}`.
pub fn machine(call: HolderCall) -> Boxed {
    boxed(async move { show(&call, Role::Machine).await })
}

/// `DELETE /v1/machines/{name}`.
pub fn remove_machine(call: HolderCall) -> Boxed {
    boxed(async move { remove(&call, Role::Machine).await })
}

/// `PATCH /v1/machines/{name}`: its labels and its owner.
pub fn set_machine(call: HolderCall) -> Boxed {
    boxed(async move {
        let asked: MachineChange = call.json()?;
        asked.owner.as_deref().map_or(Ok(()), |owner| word("owner", owner))?;
        let set = set::machine(&call.shell, &call.caller, call.param("name"), &asked.into(), &call.instance).await?;
        said::<SetReply, _>(StatusCode::OK, set)
    })
}

/// `PATCH /v1/people/{name}`: their groups.
pub fn set_person(call: HolderCall) -> Boxed {
    boxed(async move {
        let asked: PersonChange = call.json()?;
        let set = set::person(&call.shell, &call.caller, call.param("name"), &asked.into(), &call.instance).await?;
        said::<SetReply, _>(StatusCode::OK, set)
    })
}

/// `POST /v1/people/{name}/offboard`.
pub fn offboard(call: HolderCall) -> Boxed {
    boxed(async move {
        let OffboardRequest { to } = call.json()?;
        let name = call.param("name");
        said::<RemovedView, _>(
            StatusCode::OK,
            offboard::offboard(&call.shell, &call.caller, name, &to, &call.instance).await?,
        )
    })
}

/// `POST /v1/machines/{name}/reports`.
pub fn report(call: HolderCall) -> Boxed {
    boxed(async move {
        let asked: ReportRequest = call.json()?;
        reports::report(&call.shell, &call.caller, call.param("name"), &asked.into(), &call.instance).await?;
        done(&call)
    })
}

/// `POST /v1/renewals`.
pub fn ask_to_renew(call: HolderCall) -> Boxed {
    boxed(async move {
        let RenewalsRequest { machines, all, reason } = call.json()?;
        let reason = GivenReason::parse(&reason)?;
        let whom = match (machines.len(), all) {
            (0, true) => Whom::All,
            (1..=RENEWALS_NAMED_MAX, false) => Whom::Named(machines.into_iter().collect()),
            (0, false) | (_, true) => {
                return Err(Refusal::Malformed(Malformed::Either(Either::MachinesOrAll)));
            }
            (_, false) => {
                return Err(Refusal::Malformed(Malformed::Renewals));
            }
        };
        renew_now::ask(&call.shell, &call.caller, &whom, reason.as_str(), &call.instance).await?;
        done(&call)
    })
}

/// `GET /v1/people`.
pub fn people(call: HolderCall) -> Boxed {
    boxed(async move { list(&call, Role::Person).await })
}

/// `GET /v1/people/{name}`.
pub fn one_person(call: HolderCall) -> Boxed {
    boxed(async move { show(&call, Role::Person).await })
}

/// `DELETE /v1/people/{name}`.
pub fn remove_person(call: HolderCall) -> Boxed {
    boxed(async move { remove(&call, Role::Person).await })
}

/// `POST /v1/people/invite`: a join token for a person.
pub fn invite(call: HolderCall) -> Boxed {
    boxed(async move {
        let asked = TokenWish { role: Some("person".to_owned()), ..token_request(&call)? };
        said::<TokenReply, _>(
            StatusCode::CREATED,
            tokens::create(&call.shell, &call.caller, &asked, &call.instance).await?,
        )
    })
}

/// What a token shall give, with every text within its bounds.
fn token_request(call: &HolderCall) -> Result<TokenWish, Refusal> {
    let asked: TokenRequest = call.json()?;
    asked.owner.as_deref().map_or(Ok(()), |owner| word("owner", owner))?;
    asked.groups.iter().try_for_each(|group| word("groups", group))?;
    for (what, count, most) in [
        ("names", asked.names.len(), wire::limits::TOKEN_NAMES_MAX),
        ("groups", asked.groups.len(), wire::limits::GROUPS_MAX),
    ] {
        if count > most {
            return Err(Refusal::Malformed(Malformed::Entries { what, max: most }));
        }
    }
    Ok(asked.into())
}

/// `GET /v1/locks`.
pub fn locks(call: HolderCall) -> Boxed {
    boxed(async move {
        let after = call.query.get("after").map(String::as_str);
        listed::<LockView, _>(admin::list_locks(&call.shell, &call.caller, after, call.limit()?).await?)
    })
}

/// `POST /v1/locks`.
pub fn lock(call: HolderCall) -> Boxed {
    boxed(async move {
        let mut asked: LockRequest = call.json()?;
        asked.reason = GivenReason::parse(&asked.reason)?.as_str().to_owned();
        said::<LockView, _>(
            StatusCode::CREATED,
            admin::lock(&call.shell, &call.caller, &asked.into(), &call.instance).await?,
        )
    })
}

/// `DELETE /v1/locks/{kind}/{target}`.
pub fn unlock(call: HolderCall) -> Boxed {
    boxed(async move {
        let (kind, target) = (call.param("kind"), call.param("target"));
        admin::unlock(&call.shell, &call.caller, kind, target, &call.instance).await?;
        done(&call)
    })
}

/// `GET /v1/tokens`.
pub fn tokens(call: HolderCall) -> Boxed {
    boxed(async move {
        let after = call.query.get("after").map(String::as_str);
        listed::<TokenView, _>(tokens::list(&call.shell, &call.caller, after, call.limit()?).await?)
    })
}

/// `POST /v1/tokens`.
pub fn create_token(call: HolderCall) -> Boxed {
    boxed(async move {
        let asked = token_request(&call)?;
        said::<TokenReply, _>(
            StatusCode::CREATED,
            tokens::create(&call.shell, &call.caller, &asked, &call.instance).await?,
        )
    })
}

/// `DELETE /v1/tokens/{id}`.
pub fn revoke_token(call: HolderCall) -> Boxed {
    boxed(async move {
        tokens::revoke(&call.shell, &call.caller, call.param("id"), &call.instance).await?;
        done(&call)
    })
}

/// `GET /v1/audit?event=&subject=&actor=&since=&until=&after=&limit=`.
pub fn audit(call: HolderCall) -> Boxed {
    boxed(async move {
        let text = |name: &str| call.query.get(name).cloned();
        let filter = AuditFilter {
            event: text("event"),
            subject: text("subject"),
            actor: text("actor"),
            since: call.number("since")?,
            until: call.number("until")?,
            after: text("after"),
        };
        listed::<AuditView, _>(audit::audit(&call.shell, &call.caller, &filter, call.limit()?).await?)
    })
}

/// `POST /v1/can-i`.
pub fn can_i(call: HolderCall) -> Boxed {
    boxed(async move {
        let asked: CanIRequest = call.json()?;
        said::<CanIReply, _>(StatusCode::OK, can_i::can_i(&call.shell, &call.caller, &asked.into()).await?)
    })
}

/// `GET /metrics`, for whoever may read the gateway: a person or a monitoring machine.
pub fn metrics(call: HolderCall) -> Boxed {
    boxed(async move {
        admin::may_read_gateway(&call.shell, &call.caller)?;
        typed(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", call.shell.metrics.render())
    })
}
