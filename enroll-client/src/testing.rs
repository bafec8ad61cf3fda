//! CAs and replies of a gateway for the tests of this crate.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::{
    AdmittedBy, Assurance, BACKDATE, GatewayName, Identity, IssuingCa, KeyAlgorithm, LeafRequest, Role, Root, Serial,
    SoftwareKey, SubjectKey, TrustDomain, UnixTime,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use wire::enroll::IssuedReply;
use wire::ssh::{SshCaReply, ca_statement, ordered_ca_statement};

use crate::core::key::PrivateKey;
use crate::core::receive::{self, Expect, Issued, KnownGateway};
use crate::core::record::Facts;
use crate::core::renew::Life;
use crate::core::target::Address;
use crate::core::trust::{Expected, GatewayCertificate};
use crate::edge::entropy;
use crate::edge::keystore::Credential;

/// Start of the CAs' validity, before all times in the tests.
const BEGINNING: UnixTime = UnixTime::new(50_000);

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

/// A root with its issuing CAs.
pub struct Authority {
    pub root: Root,
    made: UnixTime,
    machines: IssuingCa,
    people: IssuingCa,
    gateways: IssuingCa,
}

/// Chain and key of a TLS server.
pub struct ServerChain {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

fn serial() -> Serial {
    Serial::from_entropy(entropy::unique().unwrap())
}

pub fn private_key() -> PrivateKey {
    entropy::private_key().unwrap()
}

fn software_key() -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(KeyAlgorithm::P256).unwrap().0)
}

fn request(key: &PrivateKey, identity: &Identity, names: &[&str]) -> LeafRequest {
    LeafRequest {
        key: pki::csr::verify(&key.csr().unwrap()).unwrap().into_key(),
        identity: identity.clone(),
        serial: serial(),
        lifetime: DAY,
        assurance: Assurance::SOFTWARE,
        admitted_by: AdmittedBy::Policy,
        gateway_names: names.iter().map(|name| GatewayName::parse(name).unwrap()).collect(),
    }
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
        let (machines, people, gateways) = (ca(Role::Machine), ca(Role::Person), ca(Role::Gateway));
        Self { root, made: now, machines, people, gateways }
    }

    pub fn ca(&self, role: Role) -> &IssuingCa {
        match role {
            Role::Machine => &self.machines,
            Role::Person => &self.people,
            Role::Gateway => &self.gateways,
        }
    }

    /// The credential of `who` (`machine/NAME`, `person/NAME`), admitted at `now`.
    pub fn credential(&self, who: &str, now: UnixTime) -> Credential {
        let key = private_key();
        let identity = Identity::parse(&format!("spiffe://td.example/{who}")).unwrap();
        let names = if identity.role == Role::Gateway { vec!["gw.example"] } else { vec![] };
        let ca = self.ca(identity.role);
        let issued = pki::draft(request(&key, &identity, &names), now).lint().unwrap().issue(ca).unwrap();
        let times = pki::schedule(&issued.serial, issued.not_before, issued.not_after);
        let address = || Address::parse("gw.example", 443).unwrap();
        Credential {
            facts: Facts::example(),
            identity,
            serial: issued.serial,
            life: Life {
                not_before: issued.not_before,
                not_after: issued.not_after,
                renew_after: times.renew_after,
                renew_by: times.renew_by,
            },
            key,
            leaf: issued.der,
            chain: vec![ca.cert_der().to_vec()],
            roots: vec![self.root.cert_der().to_vec()],
            gateway: address(),
            manage: address(),
            pin: pki::KeyDigest::from_spki_der(&[]),
            order: pki::Order::default(),
        }
    }

    /// Chain and key of a machine's sealed services, issued at `now`.
    pub fn sealed(&self, machine: &Identity, now: UnixTime) -> (Vec<Vec<u8>>, PrivateKey) {
        let key = private_key();
        let draft = pki::draft(request(&key, machine, &[]), now).for_sealed_services();
        let issued = draft.lint().unwrap().issue(&self.machines).unwrap();
        (vec![issued.der, self.machines.cert_der().to_vec()], key)
    }

    /// The gateway's reply that certifies `key` at `now`.
    pub fn reply(&self, key: &PrivateKey, name: &str, now: u64) -> IssuedReply {
        self.certify(pki::csr::verify(&key.csr().unwrap()).unwrap().into_key(), name, now)
    }

    /// That reply, checked by a client that trusts this authority.
    pub fn issued(&self, key: &PrivateKey, name: &str, now: u64) -> Issued {
        let (believed, shown) = (self.believed(), self.shown());
        let (digest, before, now_there) = (key.digest(), KnownGateway::default(), UnixTime::new(now));
        let expect = Expect { key: &digest, believed: &believed, shown: Some(&shown), before: &before, now: now_there };
        receive::accept(&self.reply(key, name, now), expect).unwrap()
    }

    /// Verification by this root.
    pub fn believed(&self) -> Expected {
        let domain = TrustDomain::parse("td.example").unwrap();
        Expected::Roots { domain, roots: vec![self.root.cert_der().to_vec()] }
    }

    /// The certificate of a gateway of this authority, with the names in its replies.
    pub fn shown(&self) -> GatewayCertificate {
        GatewayCertificate::of(&self.server("gw.example", self.made))
    }

    /// The gateway's reply about its SSH CAs, signed by the CA for `role`.
    pub fn ssh_cas(&self, user: &[&str], host: &[&str], role: Role) -> SshCaReply {
        let owned = |lines: &[&str]| -> Vec<String> { lines.iter().map(|&line| line.to_owned()).collect() };
        let (user, host) = (owned(user), owned(host));
        let signature = self.ca(role).sign_statement(&ca_statement("td.example", &user, &host)).unwrap();
        SshCaReply {
            trust_domain: "td.example".into(),
            user,
            host,
            ca: pki::to_pem("CERTIFICATE", self.ca(role).cert_der()),
            signature: STANDARD.encode(signature),
            order: 0,
            ordered_signature: String::new(),
        }
    }

    /// The same with an order.
    pub fn ssh_cas_in_order(&self, order: u64, key: &str) -> SshCaReply {
        let reply = self.ssh_cas(&[key], &[key], Role::Gateway);
        let statement = ordered_ca_statement("td.example", order, &reply.user, &reply.host);
        let signature = self.ca(Role::Gateway).sign_statement(&statement).unwrap();
        SshCaReply { order, ordered_signature: STANDARD.encode(signature), ..reply }
    }

    /// A certificate that the CA for gateways signed for a machine's key, which the issuing code does not allow.
    pub fn by_the_wrong_ca(&self, key: SubjectKey) -> Vec<u8> {
        let request = LeafRequest {
            key,
            identity: Identity::parse("spiffe://td.example/machine/edge-07").unwrap(),
            serial: serial(),
            lifetime: DAY,
            assurance: Assurance::SOFTWARE,
            admitted_by: AdmittedBy::Policy,
            gateway_names: vec![],
        };
        // A gateway's certificate, which the reply calls a machine's.
        let request = LeafRequest {
            identity: Identity::parse("spiffe://td.example/gateway/gw").unwrap(),
            gateway_names: vec![GatewayName::parse("gw.example").unwrap()],
            ..request
        };
        pki::draft(request, UnixTime::new(100_000)).lint().unwrap().issue(&self.gateways).unwrap().der
    }

    /// As [`Authority::reply`], for a key from a request.
    pub fn certify(&self, key: SubjectKey, name: &str, now: u64) -> IssuedReply {
        let now = UnixTime::new(now);
        let identity = Identity::parse(&format!("spiffe://td.example/machine/{name}")).unwrap();
        let request = LeafRequest {
            key,
            identity: identity.clone(),
            serial: serial(),
            lifetime: DAY,
            assurance: Assurance::SOFTWARE,
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
            cross: String::new(),
            serial: issued.serial.hex(),
            not_before: issued.not_before.secs(),
            not_after: issued.not_after.secs(),
            renew_after: times.renew_after.secs(),
            renew_by: times.renew_by.secs(),
            manage: "gw.example:8443".into(),
            order: 0,
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
            assurance: Assurance::SOFTWARE,
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
