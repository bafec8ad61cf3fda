//! Roots that are accepted and refused, and the search for the pinned one.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod};
use rcgen::{KeyUsagePurpose, SanType, SerialNumber};

use super::*;
use crate::testing::{HOUR, NOW, World, key, serial, world, world_named};
use crate::{BACKDATE, Root};

#[track_caller]
fn check(world: &World, roots: &[&[u8]], now: UnixTime, want: Result<usize, AnchorError>) {
    let got = TrustAnchors::new(&world.domain, roots, now);
    assert_eq!(got.map(|anchors| anchors.roots().count()), want);
}

fn fault(fault: CertFault) -> Result<usize, AnchorError> {
    Err(AnchorError::Certificate { number: 1, fault })
}

#[test]
fn roots_in_their_time() {
    let world = world();
    let root = world.root.cert_der();
    let (from, until) = (NOW.minus(BACKDATE), world.root.not_after());
    check(&world, &[root], NOW, Ok(1));
    check(&world, &[root, root], NOW, Ok(2));
    check(&world, &[root], from, Ok(1));
    check(&world, &[root], until, Ok(1));
    let second = Duration::from_secs(1);
    check(&world, &[root], from.minus(second), fault(CertFault::NotYetValid { from }));
    check(&world, &[root], until.plus(second), fault(CertFault::Expired { at: until }));
    check(&world, &[], NOW, Err(AnchorError::Empty));
    check(&world, &[root; 9], NOW, Err(AnchorError::TooMany { found: 9 }));
    check(&world, &[&[]], NOW, fault(CertFault::Malformed));
    check(&world, &[&[0; crate::CERT_MAX + 1]], NOW, fault(CertFault::TooLong { len: crate::CERT_MAX + 1 }));
    check(&world, &[&[root, &[1]].concat()], NOW, fault(CertFault::TrailingBytes(1)));
    check(&world, &[&world.issue("spiffe://lab/machine/m").der], NOW, fault(CertFault::NotCa));
}

#[test]
fn roots_of_others() {
    let (world, other) = (world(), world_named("other"));
    let foreign = AnchorError::ForeignDomain { number: 2, found: "other".to_owned(), wanted: "lab".to_owned() };
    check(&world, &[world.root.cert_der(), other.root.cert_der()], NOW, Err(foreign));
    let issuing = world.ca(crate::Role::Machine).cert_der();
    check(&world, &[issuing], NOW, Err(AnchorError::NotSelfSigned { number: 1 }));
    let mut broken = world.root.cert_der().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    check(&world, &[&broken], NOW, Err(AnchorError::NotSelfSigned { number: 1 }));
}

/// A self-signed root with changed fields.
fn bent(bend: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&[7]));
    params.not_before = NOW.to_datetime().unwrap();
    params.not_after = NOW.plus(HOUR).to_datetime().unwrap();
    params.distinguished_name.push(DnType::CommonName, "bent");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    bend(&mut params);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[track_caller]
fn check_bent(bend: impl FnOnce(&mut CertificateParams), want: Result<usize, AnchorError>) {
    check(&world(), &[&bent(bend)], NOW, want);
}

fn custom(oid: &[u64], critical: bool, content: Vec<u8>) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content);
    extension.set_criticality(critical);
    extension
}

#[test]
fn inconsistent_roots() {
    check_bent(|_| (), Ok(1));
    check_bent(|p| p.use_authority_key_identifier_extension = true, Ok(1));
    check_bent(|p| p.key_usages.clear(), Ok(1));
    check_bent(|p| p.is_ca = IsCa::NoCa, fault(CertFault::NotCa));
    check_bent(|p| p.is_ca = IsCa::ExplicitNoCa, fault(CertFault::NotCa));
    check_bent(|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature], fault(CertFault::KeyUsage));
    check_bent(
        |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        fault(CertFault::RootExtendedKeyUsage),
    );
    check_bent(|p| p.distinguished_name = rcgen::DistinguishedName::new(), fault(CertFault::NoIssuer));
    check_bent(|p| p.serial_number = Some(SerialNumber::from_slice(&[0])), fault(CertFault::Serial));
    check_bent(|p| p.serial_number = Some(SerialNumber::from_slice(&[1; 21])), fault(CertFault::Serial));
}

#[test]
fn roots_with_odd_extensions() {
    let unknown = |critical| custom(&[1, 2, 3, 4], critical, vec![5, 0]);
    check_bent(|p| p.custom_extensions = vec![unknown(false)], Ok(1));
    check_bent(
        |p| p.custom_extensions = vec![unknown(true)],
        fault(CertFault::UnknownCritical { oid: "1.2.3.4".to_owned() }),
    );
    // policyConstraints (RFC 5280 4.2.1.11), critical: the path builder does not enforce it.
    let constraints = custom(&[2, 5, 29, 36], true, vec![0x30, 3, 0x80, 1, 0]);
    check_bent(
        |p| p.custom_extensions = vec![constraints],
        fault(CertFault::UnknownCritical { oid: "2.5.29.36".to_owned() }),
    );
    let twice = vec![unknown(false), unknown(false)];
    check_bent(|p| p.custom_extensions = twice, fault(CertFault::DuplicateExtension { oid: "1.2.3.4".to_owned() }));
    let bad = custom(&[2, 5, 29, 32], false, vec![5, 0]);
    check_bent(|p| p.custom_extensions = vec![bad], fault(CertFault::BadExtension { oid: "2.5.29.32".to_owned() }));
}

#[test]
fn roots_with_odd_constraints_and_identifiers() {
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    // basicConstraints CA:TRUE, not critical; and the key identifier rcgen writes with it.
    let basic = custom(&[2, 5, 29, 19], false, vec![0x30, 3, 1, 1, 0xff]);
    check_bent(
        |p| (p.is_ca, p.custom_extensions) = (IsCa::NoCa, vec![basic.clone()]),
        fault(CertFault::Criticality { oid: "2.5.29.19", must: true }),
    );
    let mut basic = basic;
    basic.set_criticality(true);
    check_bent(|p| (p.is_ca, p.custom_extensions) = (IsCa::NoCa, vec![basic]), fault(CertFault::SubjectKeyIdentifier));
    // An authority key identifier that names another key, or nothing.
    let aki = |content: &[u8]| custom(&[2, 5, 29, 35], false, content.to_vec());
    check_bent(|p| p.custom_extensions = vec![aki(&[0x30, 3, 0x80, 1, 9])], fault(CertFault::AuthorityKeyIdentifier));
    check_bent(|p| p.custom_extensions = vec![aki(&[0x30, 0])], fault(CertFault::AuthorityKeyIdentifier));
    let mut critical = aki(&[0x30, 3, 0x80, 1, 9]);
    critical.set_criticality(true);
    check_bent(
        |p| (p.key_identifier_method, p.custom_extensions) = (KeyIdMethod::PreSpecified(vec![9]), vec![critical]),
        fault(CertFault::Criticality { oid: "2.5.29.35", must: false }),
    );
    check_bent(|p| p.subject_alt_names = vec![uri("spiffe://lab")], Ok(1));
    for name in ["spiffe://lab/x", "https://lab"] {
        check_bent(|p| p.subject_alt_names = vec![uri(name)], Err(AnchorError::NoDomain));
    }
    check_bent(|p| p.subject_alt_names = vec![uri("spiffe://lab"); 2], Err(AnchorError::NoDomain));
}

#[test]
fn pins() {
    let world = world();
    let root = world.root.cert_der();
    let issuing = world.ca(crate::Role::Gateway).cert_der();
    let leaf = world.issue("spiffe://lab/gateway/g").der;
    let pin = world.root.pin();
    assert_eq!(root_pin(root), Ok(pin));
    assert_eq!(root_domain(root), Ok(world.domain.clone()));
    assert_eq!(world.anchors().pins().collect::<Vec<_>>(), [pin]);
    assert_eq!(find_pinned_root(&[&leaf, issuing, root], &pin), Some(root));
    assert_eq!(find_pinned_root(&[&leaf, issuing, &[0xff], root], &pin), Some(root));
    assert_eq!(find_pinned_root(&[&leaf, issuing], &pin), None);
    assert_eq!(find_pinned_root(&[], &pin), None);
    assert_eq!(find_pinned_root(&[root], &world_named("other").root.pin()), None);
    // Neither an issuing CA nor a leaf can be pinned.
    assert_eq!(find_pinned_root(&[issuing], &world.ca(crate::Role::Gateway).key_digest()), None);
    assert!(root_pin(issuing).is_err() && root_pin(&leaf).is_err() && root_pin(&[]).is_err());
}

/// A man in the middle puts the pinned public key into another certificate.
#[test]
fn a_forged_root_around_the_pinned_key_is_not_found() {
    let world = world();
    let forger = Root::create(&world.domain, key(), serial(1), NOW, 50).unwrap();
    let root = Certificate::read(world.root.cert_der()).unwrap();
    let mut params = CertificateParams::default();
    params.serial_number = Some(1_u64.into());
    params.not_before = NOW.to_datetime().unwrap();
    params.not_after = NOW.plus(HOUR).to_datetime().unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "lab root CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let forged = forger.0.sign(&params, root.key()).unwrap();
    assert_eq!(Certificate::read(&forged).unwrap().key().digest(), world.root.pin());
    assert_eq!(find_pinned_root(&[&forged], &world.root.pin()), None);
    check(&world, &[&forged], NOW, Err(AnchorError::NotSelfSigned { number: 1 }));
}
