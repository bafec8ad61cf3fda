//! What stands against a request that would have been good at another time, or about something else.

use crate::limits::APPROVALS_MAX;

/// A state that does not allow what is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// A session that is over; which.
    #[error("the session `{0}` has ended already")]
    SessionEnded(String),
    /// A machine that is to take another name already.
    #[error("`{name}` is being renamed to `{becomes}` already: it takes that name when it next renews")]
    Renaming {
        /// Its name now.
        name: String,
        /// The other.
        becomes: String,
    },
    /// A machine that has the name already.
    #[error("its name is already `{0}`")]
    SameName(String),
    /// A machine against which a lock stands, by the name it has.
    #[error("`{0}` is locked: lift the lock first, then rename it")]
    RenameLocked(String),
    /// What would leave nobody who may administer.
    #[error(
        "`{0}` is the last person who may administer this gateway: invite another first (`lychgate people invite`)"
    )]
    LastAdministrator(String),
    /// A person who would remove themselves.
    #[error("you cannot remove yourself: use `lychgate leave`, or ask another administrator")]
    RemovesSelf,
    /// Machines handed to the person who leaves; whom.
    #[error("machines cannot be handed to `{0}`, the person who leaves")]
    HeirLeaves(String),
    /// Machines handed to a person who is locked; whom.
    #[error("machines cannot be handed to `{0}`, who is locked")]
    HeirLocked(String),
    /// A lock that stands already.
    #[error("it is locked already, by {by}: {reason}")]
    Locked {
        /// Who set it.
        by: String,
        /// Why.
        reason: String,
    },
    /// A request that cannot be taken back any more.
    #[error("a certificate was issued for this request already; leave with that")]
    Issued,
    /// A request whose approvals changed.
    #[error("no approval of this request has these values any more; look at it again")]
    ApprovalChanged,
    /// An approval that is there already.
    #[error("you have already approved this request; another person must approve it")]
    ApprovedByCaller,
    /// A request about which too many do not agree.
    #[error(
        "{APPROVALS_MAX} people approved this request with different values; deny it, so that the machine asks again"
    )]
    NoAgreement,
    /// A request that was not denied; how it stands.
    #[error("this request is {0}: only one that was denied can be reopened")]
    NotDenied(&'static str),
    /// A request that lapsed.
    #[error("this request lapsed; the machine must ask again")]
    Lapsed,
    /// A request that was approved; by whom.
    #[error("this request was approved already, by {0}")]
    Approved(String),
    /// A request that was denied.
    #[error("this request was denied already; `lychgate requests reopen` takes that back")]
    Denied,
    /// A request that was taken back.
    #[error("the requester withdrew this request")]
    Withdrawn,
    /// A request that rested on what is gone.
    #[error("this request ended: something that it depended on was removed or has left")]
    Removed,
}
