//! The native front: JSON over HTTPS. Wire types in, a sequence called, wire types out.

pub mod admin;
pub mod enroll;
pub mod own;
pub mod people;
pub mod problem;
pub mod sessions;
pub mod ssh;

use std::{future::Future, pin::Pin};

use crate::edge::http::{Answer, Call, json};

/// A boxed answer, as the table wants it.
type Boxed = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Boxes a handler's future.
fn boxed(future: impl Future<Output = Answer> + Send + 'static) -> Boxed {
    Box::pin(future)
}

/// The answer of an act that has nothing to say.
fn done(call: &Call) -> Answer {
    json(axum::http::StatusCode::OK, &wire::manage::Done { instance: call.instance.clone() })
}
