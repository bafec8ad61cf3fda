//! Small enums of refusals: what does not exist, who an endpoint is for, which queue is full, why a CSR is refused.

use crate::core::records::LockKind;

/// What does not exist, or may not be seen by the caller.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The path of the URL.
    #[error("endpoint")]
    Endpoint,
    /// A machine.
    #[error("machine")]
    Machine,
    /// One of several machines that were named.
    #[error("machine for at least one of these names, so none was asked")]
    OneOfMachines,
    /// A person.
    #[error("person")]
    Person,
    /// A lineage.
    #[error("lineage")]
    Lineage,
    /// A locked key.
    #[error("key")]
    Key,
    /// A lock.
    #[error("lock")]
    Lock,
    /// A join token.
    #[error("token")]
    Token,
    /// An enrollment, for an approver.
    #[error("request")]
    Request,
    /// An enrollment, for its requester.
    #[error("request; it may have lapsed, ask to join again")]
    OwnRequest,
    /// An enrollment whose certificate was replaced.
    #[error("request; its certificate was replaced since")]
    ReplacedRequest,
    /// An enrollment to approve.
    #[error(
        "request: `approve` takes one that waits, by its id or the name that it asks for; `lychgate requests list` shows them"
    )]
    WaitingRequest,
    /// A session.
    #[error("session that is open or ended recently; the audit has all of them")]
    Session,
    /// The stream that a dial-back connection is for.
    #[error("stream for this connection")]
    Stream,
    /// A certificate revocation list.
    #[error("revocation list")]
    RevocationList,
}

impl Missing {
    /// The target of a lock of this kind.
    #[must_use]
    pub const fn locked(kind: LockKind) -> Self {
        match kind {
            LockKind::Machine => Self::Machine,
            LockKind::Person => Self::Person,
            LockKind::Lineage => Self::Lineage,
            LockKind::Key => Self::Key,
        }
    }
}

/// Callers of an endpoint.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForWhom {
    /// Callers with a certificate.
    #[error("holders of a certificate")]
    Holders,
    /// Machines.
    #[error("machines")]
    Machines,
    /// Machines, on the tunnel face.
    #[error("machines, which hold tunnels; people connect to the proxy face")]
    Tunnels,
    /// People.
    #[error("people")]
    People,
    /// People, on the proxy face.
    #[error("people; a machine's own programs reach other machines with `lychgate run --reach`")]
    PeopleOnProxy,
    /// Connections accepted by a listener.
    #[error("connections of this gateway")]
    Connections,
}

/// The queue of waiting requests that is full.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueFull {
    /// All requests.
    #[error("too many requests wait for approval already")]
    All,
    /// Requests from the caller's network.
    #[error("too many requests from your network wait for approval already")]
    Network,
}

/// Why a CSR is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCsr {
    /// It cannot be decoded.
    #[error("the field `csr` is not standard base64 of a PKCS#10 in DER")]
    Encoding,
    /// It is invalid, or its key is not accepted.
    #[error(transparent)]
    Request(#[from] pki::csr::CsrError),
}
