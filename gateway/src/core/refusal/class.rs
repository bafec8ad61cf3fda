//! Kinds of refusals, for protocols with few codes of their own: the tunnel's closing, and RFC 9209 of the proxy.

use std::time::Duration;

use super::{Refusal, Unreached};

/// A kind of refusal.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RefusalClass<'a> {
    /// A lock stands on the caller.
    Locked,
    /// The caller's certificate is not the newest, or has expired.
    Ended,
    /// The caller exceeded a rate limit.
    TooFast {
        /// Time until the next request is allowed.
        retry_after: Duration,
    },
    /// It does not exist, or the caller may not see it.
    NotFound,
    /// The bytes are not a request that we can read.
    Unreadable,
    /// The service cannot be reached.
    Unreached(&'a Unreached),
    /// A fault of the gateway.
    Ours,
    /// Anything else.
    Denied,
}

impl Refusal {
    /// Its class.
    #[must_use]
    pub const fn class(&self) -> RefusalClass<'_> {
        match self {
            Self::Locked { .. } | Self::Forked { .. } => RefusalClass::Locked,
            Self::Expired | Self::Replaced => RefusalClass::Ended,
            Self::TooFast { retry_after } => RefusalClass::TooFast { retry_after: *retry_after },
            Self::NotFound(_) => RefusalClass::NotFound,
            Self::Malformed(_) | Self::HttpVersion | Self::HeadTooLarge { .. } | Self::Unfinished => {
                RefusalClass::Unreadable
            }
            Self::Service(unreached) => RefusalClass::Unreached(unreached),
            Self::Ours(_) => RefusalClass::Ours,
            Self::BadCsr(_)
            | Self::BadSshKey(_)
            | Self::BadProof(_)
            | Self::Evidence(_)
            | Self::Unverifiable { .. }
            | Self::Denied { .. }
            | Self::DeniedByPerson { .. }
            | Self::Lapsed
            | Self::Withdrawn
            | Self::NameTaken { .. }
            | Self::NameIllegal { .. }
            | Self::QueueFull(_)
            | Self::Retired { .. }
            | Self::CertificateLimit { .. }
            | Self::WrongCode
            | Self::Conflict(_)
            | Self::WrongCaller(_)
            | Self::WrongMedia { .. }
            | Self::CrossSite
            | Self::TooLarge { .. }
            | Self::TooSlow(_)
            | Self::Method
            | Self::SignerUnavailable => RefusalClass::Denied,
        }
    }
}
