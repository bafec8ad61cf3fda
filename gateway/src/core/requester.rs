//! Who is at the other end of a connection, by the certificate that was verified in its handshake.

use std::{fmt, sync::Arc};

use pki::{ForeignPeer, KeyDigest, Peer, UnixTime};

/// Who asks. A face that demands a certificate of ours has the second kind alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Requester {
    /// Somebody who showed no certificate.
    #[default]
    Nobody,
    /// A machine or person of ours.
    Ours(Arc<Peer>),
    /// The holder of a certificate that leads to an anchor which is none of ours.
    Foreign(Arc<ForeignPeer>),
}

impl Requester {
    /// The machine or person of ours.
    #[must_use]
    pub const fn ours(&self) -> Option<&Arc<Peer>> {
        match self {
            Self::Ours(peer) => Some(peer),
            Self::Nobody | Self::Foreign(_) => None,
        }
    }

    /// The key of the certificate.
    #[must_use]
    pub fn key(&self) -> Option<KeyDigest> {
        match self {
            Self::Nobody => None,
            Self::Ours(peer) => Some(peer.key),
            Self::Foreign(peer) => Some(peer.key),
        }
    }

    /// The end of the certificate's validity.
    #[must_use]
    pub fn not_after(&self) -> Option<UnixTime> {
        match self {
            Self::Nobody => None,
            Self::Ours(peer) => Some(peer.not_after),
            Self::Foreign(peer) => Some(peer.not_after),
        }
    }
}

impl From<Peer> for Requester {
    fn from(peer: Peer) -> Self {
        Self::Ours(Arc::new(peer))
    }
}

impl From<Option<Peer>> for Requester {
    fn from(peer: Option<Peer>) -> Self {
        peer.map_or(Self::Nobody, Self::from)
    }
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Ours(peer) => peer.identity.fmt(f),
            Self::Foreign(peer) => write!(f, "foreign-key:{}", peer.key),
        }
    }
}
