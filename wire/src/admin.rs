//! The manage face as people use it for others. Times are seconds since the Unix epoch.

mod locks;
mod record;
mod requests;
mod sessions;
mod subjects;
mod tokens;

use serde::{Deserialize, Serialize};

pub use locks::{EndedView, LockRequest, LockView};
pub use record::{AuditView, CanIReply, CanIRequest};
pub use requests::{ApprovalView, ApproveRequest, ReasonRequest, RequestEvents, RequestView};
pub use sessions::{SessionEventView, SessionEvents, SessionView};
pub use subjects::{
    ConvergenceView, MachineChange, MadeView, OffboardRequest, PersonChange, RemovedView, RenewalsRequest,
    ReportRequest, SetReply, SubjectView, TunnelView,
};
pub use tokens::{TokenReply, TokenRequest, TokenView};

/// A page of a listing. `next` is given back as `after` to go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page starts; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
