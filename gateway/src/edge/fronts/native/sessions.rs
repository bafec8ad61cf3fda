//! Sessions: list, show, watch, end.

use std::time::Duration;

use axum::http::StatusCode;
use wire::admin::{SessionEvents, SessionView};

use crate::{
    core::event_cursor::EventCursor,
    edge::{
        fronts::native::{Boxed, boxed, listed, said},
        http::{HolderCall, json},
    },
    flow::sessions::{self, Filter},
};

/// `GET /v1/sessions?machine=&person=&service=&rule=&after=&limit=`.
pub fn list(call: HolderCall) -> Boxed {
    boxed(async move {
        let text = |name: &str| call.query.get(name).cloned();
        let filter =
            Filter { machine: text("machine"), person: text("person"), service: text("service"), rule: text("rule") };
        let after = text("after");
        let page = sessions::list(&call.shell, &call.caller, &filter, after.as_deref(), call.limit()?).await?;
        listed::<SessionView, _>(page)
    })
}

/// `GET /v1/sessions/{id}`.
pub fn show(call: HolderCall) -> Boxed {
    boxed(async move {
        said::<SessionView, _>(StatusCode::OK, sessions::show(&call.shell, &call.caller, call.param("id")).await?)
    })
}

/// `DELETE /v1/sessions/{id}`.
pub fn kill(call: HolderCall) -> Boxed {
    boxed(async move {
        let id = call.param("id");
        said::<SessionView, _>(StatusCode::OK, sessions::kill(&call.shell, &call.caller, id, &call.instance).await?)
    })
}

/// `GET /v1/session-events?after=&wait=`: what happened since, a long poll.
pub fn events(call: HolderCall) -> Boxed {
    boxed(async move {
        let wait: u64 = call.number("wait")?.unwrap_or(0).min(wire::limits::WAIT_MAX_SECS);
        let after = call.query.get("after").cloned();
        let wait = Duration::from_secs(wait);
        let watching = sessions::events(&call.shell, &call.caller, after.as_deref(), wait);
        tokio::select! {
            events = watching => said::<SessionEvents, _>(StatusCode::OK, events?),
            // Whoever is told to end gets what there is: nothing.
            _ = call.conn.told_to_end() => {
                let next = after.as_deref().and_then(EventCursor::parse).map_or(0, EventCursor::place);
                json(StatusCode::OK, &SessionEvents { items: vec![], next, cursor: after, gap: false })
            }
        }
    })
}
