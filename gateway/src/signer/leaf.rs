//! The gateway's own certificate: a fresh key in memory each time, so that there is no key of it to steal from a disk.

use std::fmt;

use pki::{
    AdmittedBy, AssuranceLevel, BACKDATE, GatewayName, Identity, KeyAlgorithm, LeafRequest, Name, Role, Serial,
    SoftwareKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::{
    core::own_leaf::Validity,
    ports::{clock::Clock, entropy::Entropy},
    signer::{CaSet, SignerError},
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
        let ca = set.issuing(Role::Gateway);
        let validity = Validity::of_new(Validity { from: ca.not_before(), until: ca.not_after() }, clock.now());
        let at = validity.from.plus(BACKDATE);
        let request = LeafRequest {
            key: key.subject_key().map_err(SignerError::Generate)?,
            identity: Identity { domain: set.domain().clone(), role: Role::Gateway, name: name.clone() },
            serial: Serial::from_entropy(entropy.bytes()),
            lifetime: validity.until.since(at),
            assurance: AssuranceLevel::Software,
            admitted_by: AdmittedBy::Bootstrap,
            gateway_names: names,
        };
        let issued = pki::draft(request, at).lint()?.issue(ca)?;
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

    /// When it is valid.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        Validity { from: self.issued.not_before, until: self.issued.not_after }
    }
}
