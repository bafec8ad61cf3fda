//! Why evidence of a text is rejected. That it is not there yet is no rejection.

use crate::core::evidence::{Reject, RejectionCode};

static MALFORMED: RejectionCode = RejectionCode::malformed("read-back-malformed", None);
static NO_NAME: RejectionCode =
    RejectionCode::refused("read-back-no-name", Some("ask for a name that machines may have"));

pub(super) fn malformed(why: &str) -> Reject {
    Reject::new(&MALFORMED, format!("the evidence of a text is malformed: {why}"))
}

pub(super) fn no_name() -> Reject {
    Reject::new(&NO_NAME, "what is read back says for which name, and the request is for none that is legal")
}

/// One example of each.
pub(super) fn rejections() -> Vec<Reject> {
    vec![malformed("its JSON is not that of such evidence"), no_name()]
}
