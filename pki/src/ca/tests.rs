//! Which pairs of certificate and key make a CA.

use super::*;
use crate::key::{KeyAlgorithm, SoftwareKey};
use crate::testing::{HOUR, NOW, key, leaf_params, serial, world};

fn soft(algorithm: KeyAlgorithm) -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(algorithm).unwrap().0)
}

#[test]
fn every_software_key_makes_a_root_and_a_ca() {
    let domain = TrustDomain::parse("lab").unwrap();
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Ed25519] {
        let (root_key, ca_key) = (soft(algorithm), soft(algorithm));
        let root = Root::create(&domain, root_key.clone(), serial(1), NOW, 10).unwrap();
        let again = Root::from_parts(root.cert_der(), root_key).unwrap();
        assert_eq!((again.pin(), again.domain(), again.not_after()), (root.pin(), &domain, root.not_after()));
        for role in Role::ALL {
            let ca = again.issue_ca(role, ca_key.clone(), serial(2), NOW).unwrap();
            let again = IssuingCa::from_parts(ca.cert_der(), ca_key.clone()).unwrap();
            assert_eq!((again.role(), again.domain(), again.key_digest()), (role, &domain, ca.key_digest()));
        }
    }
}

#[test]
fn validity() {
    let world = world();
    let ca = world.ca(Role::Machine);
    assert_eq!(ca.not_before(), NOW.minus(BACKDATE));
    assert_eq!(ca.not_after(), NOW.plus(ISSUING_CA_LIFETIME));
    assert_eq!(world.root.not_after(), NOW.plus(Duration::from_secs(10 * YEAR)));
    // An issuing CA never outlives its root.
    let late = world.root.issue_ca(Role::Machine, key(), serial(3), NOW.plus(8 * ISSUING_CA_LIFETIME / 5)).unwrap();
    assert_eq!(late.not_after(), world.root.not_after());
    let far = UnixTime::LAST_IN_CERTIFICATES;
    let created = Root::create(&world.domain, key(), serial(1), far, 10);
    assert!(matches!(created, Err(IssueError::Date { .. })));
}

#[track_caller]
fn check(der: &[u8], key: &Arc<SoftwareKey>, want: &CaError) {
    assert_eq!(&IssuingCa::from_parts(der, key.clone()).unwrap_err(), want);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let world = world();
    let ca_key = key();
    let ca = world.root.issue_ca(Role::Machine, ca_key.clone(), serial(2), NOW).unwrap();
    check(ca.cert_der(), &key(), &CaError::KeyMismatch);
    check(ca.cert_der(), &soft(KeyAlgorithm::Ed25519), &CaError::KeyMismatch);
    check(world.root.cert_der(), &ca_key, &CaError::NoRole { found: 0 });
    check(&world.issue("spiffe://lab/machine/m").der, &ca_key, &CaError::NoRole { found: 0 });
    check(&[], &ca_key, &CaError::Certificate(CertFault::Malformed));
}

/// A device that shows one public key and signs with another.
struct Crossed(Arc<SoftwareKey>, Arc<SoftwareKey>);

impl CaKey for Crossed {
    fn algorithm(&self) -> KeyAlgorithm {
        self.0.algorithm()
    }
    fn public_key(&self) -> &[u8] {
        self.0.public_key()
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.1.sign(message)
    }
}

#[test]
fn a_key_that_signs_with_another_is_found_out() {
    let world = world();
    let ca_key = key();
    let ca = world.root.issue_ca(Role::Machine, ca_key.clone(), serial(2), NOW).unwrap();
    let crossed = Arc::new(Crossed(ca_key, key()));
    assert_eq!(IssuingCa::from_parts(ca.cert_der(), crossed.clone()).unwrap_err(), CaError::KeyMismatch);
    let root = Root::create(&world.domain, crossed, serial(1), NOW, 1);
    assert!(matches!(root, Err(IssueError::Ca(_))), "{root:?}");
}

/// A CA certificate by the world's root with changed fields.
fn bent(ca_key: &Arc<SoftwareKey>, bend: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let world = world();
    let subject = ca_key.subject_key().unwrap();
    let mut params = ca_params(&world.domain, "machines", &subject, serial(9)).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    set_validity(&mut params, NOW, NOW.plus(HOUR)).unwrap();
    let marker = oid::policies(&[&Role::Machine.oid(), &oid::ANY_POLICY]);
    params.custom_extensions = vec![CustomExtension::from_oid_content(&oid::CERTIFICATE_POLICIES, marker)];
    bend(&mut params);
    world.root.0.sign(&params, &subject).unwrap()
}

#[test]
fn imported_cas() {
    let ca_key = key();
    let ok = bent(&ca_key, |_| ());
    assert!(IssuingCa::from_parts(&ok, ca_key.clone()).is_ok());
    let two = oid::policies(&[&Role::Machine.oid(), &Role::Person.oid()]);
    let two = CustomExtension::from_oid_content(&oid::CERTIFICATE_POLICIES, two);
    check(&bent(&ca_key, |p| p.custom_extensions = vec![two]), &ca_key, &CaError::NoRole { found: 2 });
    let no_list = |p: &mut CertificateParams| p.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    check(&bent(&ca_key, no_list), &ca_key, &CaError::CannotSignLists);
    let no_sign = |p: &mut CertificateParams| p.key_usages = vec![KeyUsagePurpose::CrlSign];
    check(&bent(&ca_key, no_sign), &ca_key, &CaError::Certificate(CertFault::KeyUsage));
    check(&bent(&ca_key, |p| p.subject_alt_names.clear()), &ca_key, &CaError::NoDomain);
    check(&bent(&ca_key, |p| p.is_ca = IsCa::ExplicitNoCa), &ca_key, &CaError::Certificate(CertFault::NotCa));
    let nameless = |p: &mut CertificateParams| p.distinguished_name = DistinguishedName::new();
    check(&bent(&ca_key, nameless), &ca_key, &CaError::Certificate(CertFault::NoSubject));
}

/// A subject with a multi-valued RDN, which the encoder's map of names cannot represent.
#[test]
fn a_name_that_cannot_be_copied_is_refused() {
    let ca_key = key();
    let mut der = bent(&ca_key, |p| {
        p.distinguished_name.push(DnType::OrganizationName, "first");
        p.distinguished_name.push(DnType::OrganizationalUnitName, "other");
    });
    // Turns the organisational unit (2.5.4.11) into a second organisation (2.5.4.10). The signature becomes invalid, which is not
    // checked here: the operator has chosen the file.
    let at = der.windows(5).position(|w| w == [0x06, 0x03, 0x55, 0x04, 0x0b]).unwrap();
    der[at + 4] = 0x0a;
    let got = IssuingCa::from_parts(&der, ca_key).unwrap_err();
    assert!(matches!(got, CaError::Name(_)), "{got:?}");
}

#[test]
fn common_names_stay_within_64() {
    let long = TrustDomain::parse(&["abcdefgh"; 20].join(".")).unwrap();
    for what in ["root", "machines", "people", "gateways"] {
        assert!(common_name(&long, what).len() <= COMMON_NAME_MAX);
    }
    assert_eq!(common_name(&TrustDomain::parse("lab").unwrap(), "people"), "lab people CA");
}

#[test]
fn debug_shows_no_key() {
    let world = world();
    let shown = format!("{:?} {:?} {:?}", world.root, world.ca(Role::Person), key());
    assert!(shown.starts_with("Root(lab ") && shown.ends_with("SoftwareKey(P-256)"), "{shown}");
    let _ = leaf_params("spiffe://lab/person/p");
}
