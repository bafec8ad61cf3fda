//! What is said inside a machine's tunnel, and on every stream that crosses the gateway.
//!
//! A machine holds one TLS connection with [`ALPN`] and yamux inside. The first stream it opens is control: frames of
//! [`FromMachine`] one way and [`ToMachine`] the other. Every other stream begins with one frame each way ([`Open`] and
//! [`Opened`], or [`Reach`] and [`Reached`]); after that its bytes are the service's.
//!
//! A frame is one byte of version, three bytes of length (big endian), and that many bytes of JSON. What a later minor
//! release adds is ignored by an earlier one: unknown fields, and unknown `type`s as `Unknown`. Another version byte is
//! another protocol.

mod frame;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use frame::{BadFrame, Frames, body_len, decode, encode};

/// The ALPN name of a machine's tunnel (RFC 7301).
pub const ALPN: &[u8] = b"lychgate-tunnel/1";

/// The ALPN name of a person's connection that carries many streams, on the proxy face: yamux, and each stream begins with
/// [`Reach`].
pub const STREAMS_ALPN: &[u8] = b"lychgate-streams/1";

/// The ALPN name of the TLS inside a stream, between a person (or machine) and the agent of a sealed service.
pub const SEALED_ALPN: &[u8] = b"lychgate-sealed/1";

/// The ALPN name of a connection that one stream of a tunnel, or of a helper, moves to: first [`DialBack`] and [`DialedBack`],
/// then the stream goes on as [`crate::moving`] says.
pub const DIAL_BACK_ALPN: &[u8] = b"lychgate-dial-back/1";

/// The version byte of every frame.
pub const VERSION: u8 = 1;

/// Bytes before the JSON.
pub const FRAME_HEAD: usize = 4;

/// Longest JSON of a frame, in bytes: a re-authentication with an RSA-4096 chain in base64 takes 9 kB, a hello with
/// [`SERVICES_MAX`] services 6 kB.
pub const FRAME_MAX: usize = 16 * 1024;

/// Most services a machine may name.
pub const SERVICES_MAX: usize = 64;

/// Longest name of a service, in bytes: with `--` and a machine's name it should fit one DNS label of 63.
pub const SERVICE_NAME_MAX: usize = 32;

/// Most streams open in one tunnel at a time, control included. Both ends hold to it.
pub const TUNNEL_STREAMS: usize = 64;

/// What each stream may be sent before it is read, in bytes; yamux's own default.
pub const STREAM_WINDOW: usize = 256 * 1024;

/// What a whole tunnel may be sent before it is read, in bytes.
pub const TUNNEL_WINDOW: usize = TUNNEL_STREAMS * STREAM_WINDOW;

/// What a machine says on the control stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromMachine {
    /// The first frame.
    Hello(Hello),
    /// The machine is alive.
    Heartbeat {
        /// A number that the answer repeats.
        number: u64,
    },
    /// The certificate was renewed: this is the new one, and the proof that its key is here.
    Reauthenticate(Reauthenticate),
    /// What it exposes has changed: the whole list.
    Services {
        /// All that are exposed from now on.
        services: Vec<ServiceOffer>,
    },
    /// The sender's end of a session is gone. A stream that was half closed before cannot say so by itself.
    Abandoned {
        /// The session's id.
        session: String,
    },
    /// Something a later version says.
    #[serde(other)]
    Unknown,
}

/// The first frame of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The client's version, for people.
    #[serde(default)]
    pub client: String,
    /// What it exposes.
    #[serde(default)]
    pub services: Vec<ServiceOffer>,
}

/// A service as the gateway learns of it: never the target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceOffer {
    /// Its name.
    pub name: String,
    /// Whether the agent wants TLS inside the stream.
    pub mode: Mode,
}

/// Who can read what a service says.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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

    /// The reverse of [`Mode::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Raw, Self::Sealed].into_iter().find(|mode| mode.as_str() == text)
    }
}

/// A renewed certificate, on a connection that was made with the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reauthenticate {
    /// The leaf and its issuing CA, DER in base64, the leaf first.
    pub chain: Vec<String>,
    /// A proof by the leaf's key in the form of [`crate::evidence::ProofClaims`], for the method [`REAUTH_METHOD`] and the
    /// path [`REAUTH_PATH`], bound to this connection by its exporter value.
    pub proof: String,
}

/// `htm` of the proof in [`Reauthenticate`].
pub const REAUTH_METHOD: &str = "REAUTHENTICATE";

/// The path in `htu` of the proof in [`Reauthenticate`].
pub const REAUTH_PATH: &str = "/lychgate-tunnel/1";

/// What the gateway says on the control stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToMachine {
    /// The answer to [`Hello`].
    Welcome(Welcome),
    /// The tunnel ends, or was never begun.
    Closing(Closing),
    /// The answer to a heartbeat.
    Heartbeat {
        /// The number that was sent.
        number: u64,
        /// The lock epoch: it grows whenever somebody's rights shrink.
        epoch: u64,
        /// The gateway's clock, seconds since the Unix epoch.
        time: u64,
        /// As in [`Welcome::reconnect_within_ms`], by what is known now.
        reconnect_within_ms: u64,
    },
    /// The renewed certificate holds from now on.
    Reauthenticated {
        /// End of its validity, seconds since the Unix epoch.
        not_after: u64,
    },
    /// The renewed certificate was not taken; the one before still holds until it ends.
    ReauthenticationRefused {
        /// A code as in [`crate::problem`].
        code: String,
        /// A description for people.
        detail: String,
    },
    /// Somebody asks for a renewal now.
    RenewNow,
    /// A stream was ended by the gateway.
    Ended {
        /// The session's id.
        session: String,
        /// Why it was ended.
        reason: Reason,
    },
    /// A stream that a program of this machine had opened is over. Not [`ToMachine::Ended`]: where a machine reaches itself, both of
    /// its ends have one session, and this one may still be handing on what came.
    ReachEnded {
        /// The session's id.
        session: String,
        /// Why: an end that is not said to be [`Reason::Peer`] is a loss.
        reason: Reason,
    },
    /// The gateway is about to stop: no new streams come, those that are open may end.
    Drain {
        /// When what is left will be cut, in milliseconds from now.
        after_ms: u64,
        /// Come back within this time, at a moment drawn at random, in milliseconds.
        reconnect_within_ms: u64,
    },
    /// Something a later version says.
    #[serde(other)]
    Unknown,
}

/// The answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// How often to send a heartbeat, in milliseconds.
    pub heartbeat_ms: u64,
    /// The lock epoch.
    pub epoch: u64,
    /// The gateway's clock, seconds since the Unix epoch.
    pub time: u64,
    /// When the tunnel is lost, come back at a moment drawn at random within this time, in milliseconds: it grows with the
    /// number of tunnels, so that all of them can return.
    pub reconnect_within_ms: u64,
}

/// Why a tunnel ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// Why it ends.
    pub reason: Reason,
    /// A description for people.
    pub detail: String,
    /// Do not come back before, in milliseconds.
    #[serde(default)]
    pub retry_after_ms: u64,
}

/// Why a stream, a session or a tunnel ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
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
    /// Something a later version says.
    #[serde(other)]
    Unknown,
}

impl Reason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 11] = [
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
        Self::Unknown,
    ];

    /// The word for logs, audit and people.
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
            Self::Unknown => "unknown",
        }
    }

    /// What it means, for whoever sat at the other end.
    #[must_use]
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Peer => "one of its ends closed it",
            Self::Drained => "the gateway closes this connection; connect again",
            Self::Expired => "a certificate came to its end",
            Self::Locked => "a lock was set",
            Self::Policy => "the policy no longer allows it",
            Self::Killed => "somebody ended it",
            Self::Limit => "a limit was reached",
            Self::Replaced => "the machine came back on another connection",
            Self::Lost => "the machine's connection was lost",
            Self::Broken => "the connection to the service broke before its end",
            Self::Unknown => "for a reason this version does not know",
        }
    }
}

/// First frame of a stream that the gateway opens to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The session's id.
    pub session: String,
    /// The service asked for.
    pub service: String,
    /// Who asks: a SPIFFE ID, as the gateway saw it in the handshake.
    pub caller: String,
    /// The groups of a person, the labels (`key=value`) of a machine.
    #[serde(default)]
    pub labels: Vec<String>,
    /// With this the machine may move the stream to a connection of its own, once. Without it the stream stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dial_back: Option<String>,
    /// Where that connection is to be made, as `host:port`; absent: where the tunnel is. An older machine goes where its tunnel is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dial_back_at: Option<String>,
}

/// The machine's answer to [`Open`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Opened {
    /// The target answered; bytes follow.
    Ok,
    /// It did not come about.
    Refused {
        /// The reason, for programs.
        why: OpenRefusal,
        /// A description for people.
        detail: String,
    },
}

/// Why a machine did not open a stream.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpenRefusal {
    /// No service of that name is exposed.
    NotExposed,
    /// The machine's owner does not let this caller in.
    NotAllowed,
    /// Nobody listens at the target.
    TargetClosed,
    /// The target did not answer in time.
    TargetSlow,
    /// Too many streams are open.
    Limit,
    /// Something a later version says.
    #[serde(other)]
    Unknown,
}

/// First frame of a stream that a person's helper, or a machine for its own programs, opens to the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// The service.
    pub service: String,
    /// The machine that exposes it.
    pub machine: String,
}

/// The gateway's answer to [`Reach`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Reached {
    /// Bytes follow.
    Ok {
        /// The session's id.
        session: String,
        /// Whether TLS with the machine's agent comes first.
        mode: Mode,
        /// As [`Open::dial_back`], for this end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dial_back: Option<String>,
        /// As [`Open::dial_back_at`], for this end; absent: where this connection is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dial_back_at: Option<String>,
        /// How the session ends is said on the control stream, by [`ToMachine::ReachEnded`] to a machine and [`ToMachine::Ended`] to a
        /// helper; from whoever does not say so nothing is to be expected.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        end_is_said: bool,
    },
    /// It did not come about.
    Refused {
        /// Why, as the gateway answers any other request.
        problem: Box<crate::problem::Problem>,
    },
}

/// First frame of a connection that a stream is to move to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialBack {
    /// What [`Open::dial_back`] or [`Reached::Ok`] gave for that stream. It counts once, and only for the same identity.
    pub ticket: String,
}

/// The gateway's answer to [`DialBack`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum DialedBack {
    /// The stream goes on here.
    Ok,
    /// It stays where it is.
    Refused {
        /// Why, as the gateway answers any other request.
        problem: Box<crate::problem::Problem>,
    },
}

/// Whether a text can be the name of a service: `[a-z0-9]` and single hyphens inside, at most [`SERVICE_NAME_MAX`] bytes. No
/// two hyphens in a row, because `<service>--<machine>` must have one reading.
#[must_use]
pub fn is_service_name(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty()
        && text.len() <= SERVICE_NAME_MAX
        && text.bytes().all(byte)
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}
