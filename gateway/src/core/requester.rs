//! The requester at the other end of a connection, by the certificate that was verified in its handshake.

use std::{fmt, sync::Arc};

use pki::{ForeignPeer, KeyDigest, Peer, UnixTime};

/// The requester. On a face that requires one of our certificates it is always the second variant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Requester {
    /// Without a certificate.
    #[default]
    Nobody,
    /// A machine or person with one of our certificates.
    Ours(Arc<Peer>),
    /// The holder of a certificate that chains to another anchor.
    Foreign(Arc<ForeignPeer>),
}

impl Requester {
    /// The machine or person with one of our certificates.
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
