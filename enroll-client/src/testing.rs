//! A small gateway's worth of CAs for the tests in this crate.

use std::sync::Arc;
use std::time::Duration;

use pki::{
    AdmittedBy, AssuranceLevel, BACKDATE, GatewayName, Identity, IssuingCa, KeyAlgorithm, LeafRequest, Role, Root,
    Serial, SoftwareKey, SubjectKey, TrustDomain, UnixTime,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use wire::enroll::IssuedReply;

use crate::edge::entropy;
use crate::key::PrivateKey;

/// The moment at which everything here was made, so that tests with times of their own have their past covered.
const BEGINNING: UnixTime = UnixTime::new(50_000);

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

/// A root with its issuing CAs.
pub struct Authority {
    pub root: Root,
    machines: IssuingCa,
    gateways: IssuingCa,
}

/// What a TLS server shows.
pub struct ServerChain {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

fn serial() -> Serial {
    Serial::from_entropy(entropy::unique().unwrap())
}

fn software_key() -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(KeyAlgorithm::P256).unwrap().0)
}

impl Authority {
    /// Valid from 1970, so that tests can use small numbers as times.
    pub fn new() -> Self {
        Self::from(BEGINNING)
    }

    /// Valid from `now`.
    pub fn from(now: UnixTime) -> Self {
        let domain = TrustDomain::parse("td.example").unwrap();
        let root = Root::create(&domain, software_key(), serial(), now, 10).unwrap();
        let ca = |role| root.issue_ca(role, software_key(), serial(), now).unwrap();
        let (machines, gateways) = (ca(Role::Machine), ca(Role::Gateway));
        Self { root, machines, gateways }
    }

    /// What the gateway answers when it certifies `key` at `now`.
    pub fn reply(&self, key: &PrivateKey, name: &str, now: u64) -> IssuedReply {
        self.certify(pki::csr::verify(&key.csr().unwrap()).unwrap().into_key(), name, now)
    }

    /// The same for a key that came in a request.
    pub fn certify(&self, key: SubjectKey, name: &str, now: u64) -> IssuedReply {
        let now = UnixTime::new(now);
        let identity = Identity::parse(&format!("spiffe://td.example/machine/{name}")).unwrap();
        let request = LeafRequest {
            key,
            identity: identity.clone(),
            serial: serial(),
            lifetime: DAY,
            assurance: AssuranceLevel::Software,
            admitted_by: AdmittedBy::Policy,
            gateway_names: vec![],
        };
        let issued = pki::draft(request, now).lint().unwrap().issue(&self.machines).unwrap();
        let times = pki::schedule(&issued.serial, issued.not_before, issued.not_after);
        assert_eq!(issued.not_before, now.minus(BACKDATE));
        IssuedReply {
            id: "e1".into(),
            identity: identity.to_string(),
            certificate: pki::to_pem("CERTIFICATE", &issued.der),
            chain: pki::to_pem("CERTIFICATE", self.machines.cert_der()),
            bundle: pki::to_pem("CERTIFICATE", self.root.cert_der()),
            serial: issued.serial.hex(),
            not_before: issued.not_before.secs(),
            not_after: issued.not_after.secs(),
            renew_after: times.renew_after.secs(),
            renew_by: times.renew_by.secs(),
            manage: "gw.example:8443".into(),
            time: now.secs(),
        }
    }

    /// The gateway's own chain for a name or address, with the root at its end as the gateway sends it.
    pub fn server(&self, host: &str, now: UnixTime) -> ServerChain {
        let (key, pkcs8) = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        let request = LeafRequest {
            key: SubjectKey::from_raw(KeyAlgorithm::P256, key.subject_key().unwrap().raw_public_key()).unwrap(),
            identity: Identity::parse("spiffe://td.example/gateway/gw").unwrap(),
            serial: serial(),
            lifetime: DAY,
            assurance: AssuranceLevel::Software,
            admitted_by: AdmittedBy::Policy,
            gateway_names: vec![GatewayName::parse(host).unwrap()],
        };
        let issued = pki::draft(request, now).lint().unwrap().issue(&self.gateways).unwrap();
        let chain = [&issued.der[..], self.gateways.cert_der(), self.root.cert_der()];
        ServerChain {
            chain: chain.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec())),
        }
    }
}
