//! The native front: JSON over HTTPS. Wire types in, a sequence called, wire types out.

pub mod admin;
pub mod enroll;
pub mod own;
pub mod people;
pub mod problem;
pub mod sessions;
pub mod ssh;
pub mod views;

use std::future::Future;

use axum::{
    body::Body,
    http::{HeaderMap, Response, StatusCode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::VerifiedCsr;

use crate::{
    core::refusal::{BadCsr, Refusal},
    edge::{
        fronts::Front,
        http::{Answer, Boxed, Call, json},
    },
    flow::views::Page,
    registry::live::CloseReason,
};

/// JSON over HTTPS, refused with problem documents (RFC 9457).
#[derive(Copy, Clone, Debug)]
pub struct Native;

impl Front for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    /// RFC 8259.
    fn media(&self) -> &'static [&'static str] {
        &["application/json"]
    }

    fn check(&self, _headers: &HeaderMap) -> Result<(), Refusal> {
        Ok(())
    }

    fn refused(&self, refusal: &Refusal, instance: &str) -> Response<Body> {
        problem::response(refusal, instance)
    }

    fn ended(&self, reason: CloseReason, instance: &str) -> Response<Body> {
        problem::ended(reason, instance)
    }
}

/// A certificate request in base64.
///
/// # Errors
/// [`Refusal::BadCsr`].
pub fn csr(base64: &str) -> Result<VerifiedCsr, Refusal> {
    let der = STANDARD.decode(base64).map_err(|_| Refusal::BadCsr(BadCsr::Encoding))?;
    pki::csr::verify(&der).map_err(|error| Refusal::BadCsr(error.into()))
}

/// Boxes a handler's future.
fn boxed(future: impl Future<Output = Answer> + Send + 'static) -> Boxed {
    Box::pin(future)
}

/// A value of the sequences, in the words of the wire.
fn said<W: serde::Serialize + From<T>, T>(status: StatusCode, value: T) -> Answer {
    json(status, &W::from(value))
}

/// A page of such values.
fn listed<W: serde::Serialize + From<T>, T>(page: Page<T>) -> Answer {
    json(StatusCode::OK, &views::page::<T, W>(page))
}

/// The answer of an act that has nothing to say.
fn done(call: &Call) -> Answer {
    json(StatusCode::OK, &wire::manage::Done { instance: call.instance.clone() })
}
