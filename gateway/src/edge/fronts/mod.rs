//! Fronts: one protocol each by which certificates are asked for. A front turns requests of its protocol into our own types,
//! calls [`crate::flow`], and says the outcome, or the refusal, in its own dialect. What all have in common, the endpoint
//! table, rates, sizes, callers and what browsers may send, is in [`super::endpoints`], [`super::headers`] and [`super::http`].
//!
//! Adding one means a folder here with its [`Front`] and its rows, a line below, and its rows in [`super::endpoints::all`].

pub mod native;

use axum::{
    body::Body,
    http::{HeaderMap, Response},
};

use crate::{core::refusal::Refusal, registry::live::CloseReason};

/// The rules in which one protocol differs from another.
pub trait Front: Sync {
    /// Its name in the log.
    fn name(&self) -> &'static str;

    /// The media types as which a request that changes something is declared, the usual one first. None that a page can make
    /// a browser send without asking first (WHATWG Fetch, CORS-safelisted request-header).
    fn media(&self) -> &'static [&'static str];

    /// What the protocol demands of the headers beyond what is demanded of every request.
    ///
    /// # Errors
    /// What is wrong with them.
    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal>;

    /// A refusal in the protocol's dialect.
    fn refused(&self, refusal: &Refusal, instance: &str) -> Response<Body>;

    /// The answer on a connection that is being cut.
    fn ended(&self, reason: CloseReason, instance: &str) -> Response<Body>;
}

/// Every front there is, alphabetical.
pub static ALL: &[&dyn Front] = &[&native::Native];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_front_takes_what_a_form_can_send() {
        for front in ALL {
            assert!(!front.media().is_empty(), "{}", front.name());
            for kind in front.media() {
                for simple in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
                    assert!(!kind.starts_with(simple), "{} takes {kind}", front.name());
                }
            }
        }
    }
}
