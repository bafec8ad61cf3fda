//! The gateway's own certificate: a new key in memory each time, so that no key on disk can be stolen.

use std::fmt;

use pki::{
    AdmittedBy, Assurance, BACKDATE, GatewayName, Identity, KeyAlgorithm, LeafRequest, Name, Role, Serial, SoftwareKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::{
    core::{
        own_leaf::Validity,
        plan::{self, Plan},
        records::Certificate,
    },
    ports::{clock::Clock, entropy::Entropy},
    signer::{Authority, SignerError},
};

/// The key of a planned gateway certificate.
pub struct LeafKey(Zeroizing<Vec<u8>>);

impl fmt::Debug for LeafKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeafKey(..)")
    }
}

impl LeafKey {
    /// Generates a key and plans a certificate for it with the public names of all faces.
    pub fn plan(
        set: &Authority,
        name: &Name,
        names: Vec<GatewayName>,
        clock: &Clock,
        entropy: &Entropy,
    ) -> Result<(Self, Plan), SignerError> {
        let (key, pkcs8) = SoftwareKey::generate(KeyAlgorithm::P256).map_err(SignerError::Generate)?;
        let validity = Validity::of_new(set.validity(Role::Gateway), clock.now());
        let at = validity.from.plus(BACKDATE);
        let request = LeafRequest {
            key: key.subject_key().map_err(SignerError::Generate)?,
            identity: Identity { domain: set.domain().clone(), role: Role::Gateway, name: name.clone() },
            serial: Serial::from_entropy(entropy.bytes()),
            lifetime: validity.until.since(at),
            assurance: Assurance::SOFTWARE,
            admitted_by: AdmittedBy::Bootstrap,
            gateway_names: names,
        };
        Ok((Self(pkcs8), plan::own_leaf(request, set.signing().gateway, at)?))
    }

    /// Adds the issued certificate and the rest of the chain.
    #[must_use]
    pub fn with(self, set: &Authority, certificate: Certificate) -> GatewayLeaf {
        let validity = Validity { from: certificate.not_before.into(), until: certificate.not_after.into() };
        // roots included: a client that has only a pin finds the root here
        let chain = [certificate.der].into_iter().chain(set.gateway_chain()).map(CertificateDer::from).collect();
        GatewayLeaf { chain, pkcs8: self.0, validity }
    }
}

/// A certificate of the gateway with its key and chain.
pub struct GatewayLeaf {
    chain: Vec<CertificateDer<'static>>,
    pkcs8: Zeroizing<Vec<u8>>,
    validity: Validity,
}

impl fmt::Debug for GatewayLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GatewayLeaf({:?})", self.validity)
    }
}

impl GatewayLeaf {
    /// A leaf without a record in the store.
    #[cfg(test)]
    pub fn unrecorded(
        set: &Authority,
        name: &Name,
        names: Vec<GatewayName>,
        clock: &Clock,
        entropy: &Entropy,
    ) -> Result<Self, SignerError> {
        let (key, plan) = LeafKey::plan(set, name, names, clock, entropy)?;
        let (_, certificate, _) = plan.sign(set.issuing_in_test(Role::Gateway))?;
        Ok(key.with(set, certificate))
    }

    /// Leaf, issuing CA and roots, in the order for TLS.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    /// PKCS#8.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()))
    }

    /// From `notBefore` to `notAfter` of the leaf.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }
}
