//! An identity in use.

use pki::{Identity, KeyDigest, Order, Serial, TrustDomain};

use crate::core::key::PrivateKey;
use crate::core::receive::KnownGateway;
use crate::core::record::Facts;
use crate::core::renew::Life;
use crate::core::target::Address;
use crate::core::trust::Expected;

/// An identity as it lies in the folder: a certificate with its key and whom it trusts.
#[derive(Clone, Debug)]
pub struct Credential {
    /// What its file says.
    pub facts: Facts,
    /// Who we are.
    pub identity: Identity,
    /// Its serial number.
    pub serial: Serial,
    /// Its validity and when to renew it.
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
    /// The root that the certificate leads to: the one pinned at first contact, or one that it vouched for since.
    pub pin: KeyDigest,
    /// The greatest order of what the gateway vouches for that was heard.
    pub order: Order,
}

impl Credential {
    /// The trust domain.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.identity.domain
    }

    /// Whom its holder believes: the roots of the bundle.
    #[must_use]
    pub fn expected(&self) -> Expected {
        Expected::Roots { domain: self.domain().clone(), roots: self.roots.clone() }
    }

    /// What was taken of the gateway so far.
    #[must_use]
    pub fn known_gateway(&self) -> KnownGateway {
        KnownGateway { order: self.order, manage: Some(self.manage.clone()) }
    }
}
