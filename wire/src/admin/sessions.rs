//! Sessions: connections to services on machines.

use serde::{Deserialize, Serialize};

/// One connection to a service on a machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id: opaque text.
    pub id: String,
    /// Who opened it: a SPIFFE ID.
    pub caller: String,
    /// The address that the caller came from.
    pub source: String,
    /// The machine it leads to, by name.
    pub machine: String,
    /// The service, by name.
    pub service: String,
    /// `raw` or `sealed`.
    pub mode: String,
    /// `connect`, `raw`, `helper` or `tunnel`.
    pub door: String,
    /// The rules that allowed it.
    pub rules: Vec<String>,
    /// When it began, milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// When it ended, milliseconds since the Unix epoch; absent while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// Why it ended: a word of [`crate::tunnel::Reason`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes carried to the machine so far.
    pub to_machine: u64,
    /// Bytes carried from the machine so far.
    pub from_machine: u64,
    /// At how many of its ends (0 to 2) it has a connection of its own, because it carries much.
    #[serde(default)]
    pub dial_backs: u32,
}

/// Something that happened to a session, as `GET /v1/session-events` tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionEventView {
    /// As `cursor`, for clients that know none.
    pub number: u64,
    /// Give it as `after` to go on from here. Opaque: it says nothing of how many there are, nor which came first. An older gateway gives
    /// `number` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// `opened` or `closed`.
    pub event: String,
    /// The session, as it stands now.
    pub session: SessionView,
}

/// `GET /v1/session-events`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionEvents {
    /// What happened, oldest first.
    pub items: Vec<SessionEventView>,
    /// As `cursor`, for clients that know none.
    pub next: u64,
    /// Give it as `after` next time. An older gateway gives `next` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// `after` was of another process, or is too long ago: what happened before `items` is missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gap: bool,
}
