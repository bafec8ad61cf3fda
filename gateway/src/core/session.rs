//! Properties of a session: who can read its traffic, and why it ended.

/// Who can read the traffic of a service.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The stream's bytes are the service's. The gateway could read them, unless the service encrypts by itself.
    Raw,
    /// Mutual TLS between the caller and the machine's agent: the gateway carries ciphertext.
    Sealed,
}

impl Mode {
    /// `raw` or `sealed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Sealed => "sealed",
        }
    }
}

/// A service that a machine exposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its name.
    pub name: String,
    /// Who can read its traffic.
    pub mode: Mode,
}

/// Why a stream, a session or a tunnel ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// One of its two ends closed it.
    Peer,
    /// The gateway stops.
    Drained,
    /// A certificate came to its end.
    Expired,
    /// A lock stands against one of its ends.
    Locked,
    /// The policy no longer allows it.
    Policy,
    /// Somebody ended it by hand.
    Killed,
    /// A limit was reached.
    Limit,
    /// Another tunnel of the same machine took its place.
    Replaced,
    /// The machine's connection broke, or it is silent.
    Lost,
    /// The machine is there, and its connection to the service, or the stream to the machine, broke before its end.
    Broken,
}

impl EndReason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 10] = [
        Self::Peer,
        Self::Drained,
        Self::Expired,
        Self::Locked,
        Self::Policy,
        Self::Killed,
        Self::Limit,
        Self::Replaced,
        Self::Lost,
        Self::Broken,
    ];

    /// The word for logs, views and the audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Drained => "drained",
            Self::Expired => "expired",
            Self::Locked => "locked",
            Self::Policy => "policy",
            Self::Killed => "killed",
            Self::Limit => "limit",
            Self::Replaced => "replaced",
            Self::Lost => "lost",
            Self::Broken => "broken",
        }
    }
}
