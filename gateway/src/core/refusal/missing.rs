//! What is not there, or not for the caller to know; whom an endpoint is for; which queue is full.

use crate::core::records::LockKind;

/// What was asked for and is not there.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// A path.
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
    /// A key that is locked.
    #[error("key")]
    Key,
    /// A lock.
    #[error("lock")]
    Lock,
    /// A join token.
    #[error("token")]
    Token,
    /// A request, for whoever decides it.
    #[error("request")]
    Request,
    /// A request, for whoever made it.
    #[error("request; it may have lapsed, ask to join again")]
    OwnRequest,
    /// A request whose certificate is not the newest any more.
    #[error("request; its certificate was replaced since")]
    ReplacedRequest,
    /// A request to approve, by its id or the name that it wants.
    #[error(
        "request: `approve` takes one that waits, by its id or the name that it asks for; `lychgate requests list` shows them"
    )]
    WaitingRequest,
    /// A session.
    #[error("session that is open or ended recently; the audit has all of them")]
    Session,
    /// A stream that a connection would carry.
    #[error("stream for this connection")]
    Stream,
    /// A certificate revocation list.
    #[error("revocation list")]
    RevocationList,
}

impl Missing {
    /// What a lock of that kind is about.
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

/// Whom an endpoint is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForWhom {
    /// Whoever has a certificate.
    #[error("holders of a certificate")]
    Holders,
    /// Machines.
    #[error("machines")]
    Machines,
    /// Machines, by their tunnel.
    #[error("machines, which hold tunnels; people connect to the proxy face")]
    Tunnels,
    /// People.
    #[error("people")]
    People,
    /// People, on the proxy face.
    #[error("people; a machine's own programs reach other machines with `lychgate run --reach`")]
    PeopleOnProxy,
    /// Connections that came in by a listener.
    #[error("connections of this gateway")]
    Connections,
}

/// Which queue has no room.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueFull {
    /// Of all.
    #[error("too many requests wait for approval already")]
    All,
    /// Of the caller's network.
    #[error("too many requests from your network wait for approval already")]
    Network,
}

/// Why a certificate request is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCsr {
    /// It is not there as it should be.
    #[error("the field `csr` is not standard base64 of a PKCS#10 in DER")]
    Encoding,
    /// It does not prove a key that we take.
    #[error(transparent)]
    Request(#[from] pki::csr::CsrError),
}
