//! The identity in the folder.

use pki::{Identity, KeyDigest, Order, Serial, TrustDomain};

use crate::core::key::PrivateKey;
use crate::core::receive::KnownGateway;
use crate::core::record::Facts;
use crate::core::renew::Life;
use crate::core::target::Address;
use crate::core::trust::Expected;

/// The identity in the folder: a certificate with its key, and the trusted roots.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The contents of `identity.json`.
    pub facts: Facts,
    /// Its SPIFFE ID.
    pub identity: Identity,
    /// Its serial number.
    pub serial: Serial,
    /// Its validity and renewal times.
    pub life: Life,
    /// The private key of the certificate.
    pub key: PrivateKey,
    /// The leaf, DER.
    pub leaf: Vec<u8>,
    /// The issuing CA, DER.
    pub chain: Vec<Vec<u8>>,
    /// The trusted roots, DER.
    pub roots: Vec<Vec<u8>>,
    /// The enroll face.
    pub gateway: Address,
    /// The manage face.
    pub manage: Address,
    /// The root that the certificate chains to: the one pinned at first contact, or one that has replaced it.
    pub pin: KeyDigest,
    /// The greatest order accepted from the gateway.
    pub order: Order,
}

impl Credential {
    /// The trust domain.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.identity.domain
    }

    /// How the gateway is verified: by the roots of the bundle.
    #[must_use]
    pub fn expected(&self) -> Expected {
        Expected::Roots { domain: self.domain().clone(), roots: self.roots.clone() }
    }

    /// What was accepted from the gateway so far.
    #[must_use]
    pub fn known_gateway(&self) -> KnownGateway {
        KnownGateway { order: self.order, manage: Some(self.manage.clone()) }
    }
}
