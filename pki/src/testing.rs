//! A small trust domain for the unit tests, and certificates outside our profiles.

use std::sync::Arc;
use std::time::Duration;

use rcgen::CertificateParams;

use crate::anchor::TrustAnchors;
use crate::ca::{CertifiedKey, IssuingCa, Root};
use crate::draft::{Issued, LeafRequest, draft};
use crate::key::{KeyAlgorithm, SoftwareKey, SubjectKey};
use crate::name::{GatewayName, Identity, Role, TrustDomain};
use crate::profile::{AdmittedBy, Assurance};
use crate::serial::Serial;
use crate::time::UnixTime;

/// 2026-03-01T12:00:00Z.
pub(crate) const NOW: UnixTime = UnixTime::new(1_772_366_400);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct World {
    pub(crate) domain: TrustDomain,
    pub(crate) root: Root,
    cas: Vec<IssuingCa>,
}

pub(crate) fn key() -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(KeyAlgorithm::P256).unwrap().0)
}

pub(crate) fn serial(n: u8) -> Serial {
    Serial::from_entropy([n; 16])
}

/// A trust domain `lab`, its root and its three issuing CAs.
pub(crate) fn world() -> World {
    world_named("lab")
}

pub(crate) fn world_named(domain: &str) -> World {
    let domain = TrustDomain::parse(domain).unwrap();
    let root = Root::create(&domain, key(), serial(1), NOW, 10).unwrap();
    let cas = Role::ALL.into_iter().map(|role| root.issue_ca(role, key(), serial(2), NOW).unwrap()).collect();
    World { domain, root, cas }
}

impl World {
    pub(crate) fn ca(&self, role: Role) -> &IssuingCa {
        self.cas.iter().find(|ca| ca.role() == role).unwrap()
    }

    pub(crate) fn authority(&self, role: Role) -> &CertifiedKey {
        self.ca(role).authority()
    }

    pub(crate) fn anchors(&self) -> TrustAnchors {
        TrustAnchors::new(&self.domain, &[self.root.cert_der()], NOW).unwrap()
    }

    pub(crate) fn issue(&self, uri: &str) -> Issued {
        let request = leaf_request(uri);
        let role = request.identity.role;
        draft(request, NOW).lint().unwrap().issue(self.ca(role)).unwrap()
    }
}

pub(crate) fn leaf_request(uri: &str) -> LeafRequest {
    let identity = Identity::parse(uri).unwrap();
    let gateway_names = match identity.role {
        Role::Gateway => vec![
            GatewayName::parse("gate.lab.example").unwrap(),
            GatewayName::parse("*.gate.lab.example").unwrap(),
            GatewayName::parse("192.0.2.7").unwrap(),
            GatewayName::parse("2001:db8::7").unwrap(),
        ],
        Role::Machine | Role::Person => Vec::new(),
    };
    LeafRequest {
        key: key().subject_key().unwrap(),
        identity,
        serial: serial(7),
        lifetime: 24 * HOUR,
        assurance: Assurance::SOFTWARE,
        admitted_by: AdmittedBy::Policy,
        gateway_names,
    }
}

/// The fields of a good leaf, for tests that change one.
pub(crate) fn leaf_params(uri: &str) -> (CertificateParams, SubjectKey) {
    let request = leaf_request(uri);
    let key = request.key.clone();
    (draft(request, NOW).lint().unwrap().into_params(), key)
}
