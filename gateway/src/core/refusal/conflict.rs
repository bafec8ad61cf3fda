//! Why the present state does not allow a request.

use crate::limits::APPROVALS_MAX;

/// A state that does not allow the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Id of the session.
    #[error("the session `{0}` has ended already")]
    SessionEnded(String),
    /// The machine is being renamed already.
    #[error("`{name}` is being renamed to `{becomes}` already: it takes that name when it next renews")]
    Renaming {
        /// Its present name.
        name: String,
        /// Its future name.
        becomes: String,
    },
    /// The machine has the name already.
    #[error("its name is already `{0}`")]
    SameName(String),
    /// The machine to rename is locked; its present name.
    #[error("`{0}` is locked: lift the lock first, then rename it")]
    RenameLocked(String),
    /// Without this person nobody could administer the gateway.
    #[error(
        "`{0}` is the last person who may administer this gateway: invite another first (`lychgate people invite`)"
    )]
    LastAdministrator(String),
    /// People cannot remove themselves with `people remove`.
    #[error("you cannot remove yourself: use `lychgate leave`, or ask another administrator")]
    RemovesSelf,
    /// The new owner of the machines is the person who is removed.
    #[error("machines cannot be handed to `{0}`, the person who leaves")]
    HeirLeaves(String),
    /// The new owner of the machines is locked.
    #[error("machines cannot be handed to `{0}`, who is locked")]
    HeirLocked(String),
    /// The target is locked already.
    #[error("it is locked already, by {by}: {reason}")]
    Locked {
        /// Who set the lock.
        by: String,
        /// As given when it was set.
        reason: String,
    },
    /// A request cannot be withdrawn after its certificate was issued.
    #[error("a certificate was issued for this request already; leave with that")]
    Issued,
    /// `same_as` names no present approval.
    #[error("no approval of this request has these values any more; look at it again")]
    ApprovalChanged,
    /// A person's second approval of the same content does not count.
    #[error("you have already approved this request; another person must approve it")]
    ApprovedByCaller,
    /// The request has as many different approvals as are recorded.
    #[error(
        "{APPROVALS_MAX} people approved this request with different values; deny it, so that the machine asks again"
    )]
    NoAgreement,
    /// The request to reopen is in this state.
    #[error("this request is {0}: only one that was denied can be reopened")]
    NotDenied(&'static str),
    /// The request expired undecided.
    #[error("this request lapsed; the machine must ask again")]
    Lapsed,
    /// The request was approved, by this person.
    #[error("this request was approved already, by {0}")]
    Approved(String),
    /// The request was denied.
    #[error("this request was denied already; `lychgate requests reopen` takes that back")]
    Denied,
    /// The request was withdrawn.
    #[error("the requester withdrew this request")]
    Withdrawn,
    /// Something that the request depended on was removed.
    #[error("this request ended: something that it depended on was removed or has left")]
    Removed,
}
