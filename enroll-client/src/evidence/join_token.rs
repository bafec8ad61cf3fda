//! `join-token`: the token itself is the body. It is bound to nothing by us; the gateway redeems it for the key that the
//! request proves.

use super::{Binding, Prover, Proving};

/// A join token, whole.
pub struct JoinToken(pub String);

impl Prover for JoinToken {
    fn kind(&self) -> &'static str {
        wire::enroll::JOIN_TOKEN
    }

    fn body<'a>(&'a self, _: Binding<'a>, _: Option<&'a str>) -> Proving<'a> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}
