//! `join-token`: the body is the token. The gateway binds it to the key of the request when it redeems it.

use super::{Binding, Prover, Proving};

/// The token as given to `join`.
pub struct JoinToken(pub String);

impl Prover for JoinToken {
    fn kind(&self) -> &'static str {
        wire::evidence::JOIN_TOKEN
    }

    fn body<'a>(&'a self, _: Binding<'a>, _: Option<&'a str>) -> Proving<'a> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}
