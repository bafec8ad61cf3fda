//! SSH certificates.

use axum::http::StatusCode;
use wire::ssh::{HOST_NAMESPACE, SshRequest, USER_NAMESPACE};

use crate::{
    core::{
        refusal::{ForWhom, Refusal},
        ssh::{Proven, prove},
    },
    edge::{
        fronts::native::{Boxed, boxed},
        http::{Call, json},
    },
    flow::{self, admit::admit, shell::retrying},
};

/// `GET /v1/ssh/ca`.
pub fn cas(call: Call) -> Boxed {
    boxed(async move { json(StatusCode::OK, &flow::ssh::cas(&call.shell).await?) })
}

/// `POST /v1/ssh/host`.
pub fn host(call: Call) -> Boxed {
    boxed(async move {
        let peer = call.conn.peer().ok_or(Refusal::WrongCaller(ForWhom::Machines))?;
        let reply = retrying(|| async {
            let caller = admit(&call.shell, peer, call.intent, &call.instance).await?;
            let key = proven(&call, HOST_NAMESPACE)?;
            flow::ssh::host(&call.shell, &caller, key, &call.instance).await
        })
        .await?;
        json(StatusCode::OK, &reply)
    })
}

/// `POST /v1/ssh/user`.
pub fn user(call: Call) -> Boxed {
    boxed(async move {
        let peer = call.conn.peer().ok_or(Refusal::WrongCaller(ForWhom::People))?;
        let reply = retrying(|| async {
            let caller = admit(&call.shell, peer, call.intent, &call.instance).await?;
            let key = proven(&call, USER_NAMESPACE)?;
            flow::ssh::user(&call.shell, &caller, key, &call.instance).await
        })
        .await?;
        json(StatusCode::OK, &reply)
    })
}

fn proven(call: &Call, namespace: &str) -> Result<Proven, Refusal> {
    let request: SshRequest = call.json()?;
    prove(&request.public_key, &request.signature, namespace, call.conn.exporter())
}
