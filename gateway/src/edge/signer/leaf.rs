//! The gateway's own certificate: a fresh key in memory each time, so that there is no key of it to steal from a disk.

use std::fmt;

use pki::{
    AdmittedBy, AssuranceLevel, GatewayName, Identity, KeyAlgorithm, LeafRequest, Name, Role, Serial, SoftwareKey,
    UnixTime,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::{CaSet, SignerError};
use crate::{
    edge::{clock::Clock, entropy::Entropy},
    limits::GATEWAY_LEAF_LIFE,
};

/// A certificate of the gateway with its key and chain.
pub struct GatewayLeaf {
    chain: Vec<CertificateDer<'static>>,
    pkcs8: Zeroizing<Vec<u8>>,
    issued: pki::Issued,
}

impl fmt::Debug for GatewayLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GatewayLeaf({} {})", self.issued.identity, self.issued.serial.hex())
    }
}

impl GatewayLeaf {
    /// Makes a key and issues a certificate for it, by the public names of both faces.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn issue(
        set: &CaSet,
        name: &Name,
        names: Vec<GatewayName>,
        clock: &Clock,
        entropy: &Entropy,
    ) -> Result<Self, SignerError> {
        let (key, pkcs8) = SoftwareKey::generate(KeyAlgorithm::P256).map_err(SignerError::Generate)?;
        let request = LeafRequest {
            key: key.subject_key().map_err(SignerError::Generate)?,
            identity: Identity { domain: set.domain().clone(), role: Role::Gateway, name: name.clone() },
            serial: Serial::from_entropy(entropy.bytes()),
            lifetime: GATEWAY_LEAF_LIFE,
            assurance: AssuranceLevel::Software,
            admitted_by: AdmittedBy::Bootstrap,
            gateway_names: names,
        };
        let ca = set.issuing(Role::Gateway);
        let issued = pki::draft(request, clock.now()).lint()?.issue(ca)?;
        // The root as well: a client that knows no more than its pin finds it there.
        let chain = [&issued.der, ca.cert_der(), set.root_der()].map(|der| CertificateDer::from(der.to_vec())).into();
        Ok(Self { chain, pkcs8, issued })
    }

    /// Leaf, issuing CA, root.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()))
    }

    /// The certificate as it was issued, for the record.
    #[must_use]
    pub const fn issued(&self) -> &pki::Issued {
        &self.issued
    }

    /// When to put another in its place.
    #[must_use]
    pub fn renew_after(&self) -> UnixTime {
        pki::schedule(&self.issued.serial, self.issued.not_before, self.issued.not_after).renew_after
    }
}
