//! SSH certificates.

use axum::http::StatusCode;
use wire::ssh::{HOST_NAMESPACE, SshRequest, USER_NAMESPACE};

use super::{Boxed, boxed};
use crate::{
    core::{
        refusal::Refusal,
        ssh::{Proven, prove},
    },
    edge::http::{Call, json},
    flow,
};

/// `GET /v1/ssh/ca`.
pub fn cas(call: Call) -> Boxed {
    boxed(async move { json(StatusCode::OK, &flow::ssh::cas(&call.shell)?) })
}

/// `POST /v1/ssh/host`.
pub fn host(call: Call) -> Boxed {
    boxed(async move {
        let key = proven(&call, HOST_NAMESPACE)?;
        json(StatusCode::OK, &flow::ssh::host(&call.shell, call.caller()?, key, &call.instance).await?)
    })
}

/// `POST /v1/ssh/user`.
pub fn user(call: Call) -> Boxed {
    boxed(async move {
        let key = proven(&call, USER_NAMESPACE)?;
        json(StatusCode::OK, &flow::ssh::user(&call.shell, call.caller()?, key, &call.instance).await?)
    })
}

fn proven(call: &Call, namespace: &str) -> Result<Proven, Refusal> {
    let request: SshRequest = call.json()?;
    prove(&request.public_key, &request.signature, namespace, call.conn.exporter())
}
