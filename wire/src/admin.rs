//! The manage face as operators use it, for machines and people other than themselves. Times are seconds since the Unix epoch.

mod locks;
mod record;
mod requests;
mod sessions;
mod subjects;
mod tokens;

use serde::{Deserialize, Serialize};

pub use locks::{EndedView, LockRequest, LockView};
pub use record::{AuditView, CanIReply, CanIRequest};
pub use requests::{ApprovalView, ApproveRequest, ReasonRequest, RequestEvents, RequestView, SameDeviceView};
pub use sessions::{SessionEventView, SessionEvents, SessionView};
pub use subjects::{
    ConvergenceView, MachineChange, MadeView, OffboardRequest, PersonChange, RemovedView, RenewalsRequest,
    ReportRequest, SetReply, SubjectView, TunnelView,
};
pub use tokens::{TokenReply, TokenRequest, TokenView};

/// A page of a listing. `next` is the `after` of the following page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// At most [`crate::limits::PAGE_MAX`].
    pub items: Vec<T>,
    /// Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
