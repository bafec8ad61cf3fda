//! The fields of issued leaves, read back from their DER.

use super::*;
use crate::cert::Certificate;
use crate::key::{CaKey, KeyAlgorithm, SignError, SoftwareKey};
use crate::profile::AssuranceLevel;
use crate::testing::{HOUR, NOW, key, leaf_request, serial, world, world_named};
use crate::verify_chain;

const DAY: Duration = Duration::from_secs(86_400);

#[track_caller]
fn check_lifetime(uri: &str, asked: Duration, want: Duration) {
    let drafted = draft(LeafRequest { lifetime: asked, ..leaf_request(uri) }, NOW).lint().unwrap();
    assert_eq!(drafted.not_after(), NOW.plus(want));
    assert_eq!(drafted.not_before(), NOW.minus(BACKDATE));
}

#[test]
fn lifetimes_are_cut_to_the_profile() {
    check_lifetime("spiffe://lab/machine/m", HOUR, HOUR);
    check_lifetime("spiffe://lab/machine/m", Duration::from_secs(1), Duration::from_secs(1));
    check_lifetime("spiffe://lab/machine/m", 30 * DAY, 30 * DAY);
    check_lifetime("spiffe://lab/machine/m", 31 * DAY, 30 * DAY);
    check_lifetime("spiffe://lab/machine/m", Duration::MAX, 30 * DAY);
    check_lifetime("spiffe://lab/person/p", 31 * DAY, 7 * DAY);
    check_lifetime("spiffe://lab/gateway/g", 100 * DAY, 90 * DAY);
}

#[test]
fn sealed_services_are_for_machines() {
    for (uri, role) in [("spiffe://lab/person/p", Role::Person), ("spiffe://lab/gateway/g", Role::Gateway)] {
        let refused = draft(leaf_request(uri), NOW).for_sealed_services().lint().unwrap_err();
        assert_eq!(refused, LintError::Role { profile: Role::Machine, identity: role });
    }
    let linted = draft(leaf_request("spiffe://lab/machine/m"), NOW).for_sealed_services().lint().unwrap();
    assert_eq!(linted.into_params().extended_key_usages, [rcgen::ExtendedKeyUsagePurpose::ServerAuth]);
}

#[test]
fn issued_says_what_the_bytes_say() {
    let world = world();
    for (uri, role) in [
        ("spiffe://lab/machine/m", Role::Machine),
        ("spiffe://lab/person/p", Role::Person),
        ("spiffe://lab/gateway/g", Role::Gateway),
    ] {
        let issued = world.issue(uri);
        let cert = Certificate::read(&issued.der).unwrap();
        assert_eq!(cert.serial(), Some(issued.serial));
        assert_eq!((cert.not_before(), cert.not_after()), (issued.not_before, issued.not_after));
        assert_eq!(cert.uris(), [uri]);
        assert_eq!(cert.key().digest(), issued.key);
        assert_eq!((cert.assurances(), cert.assurances_of()), (vec![AssuranceLevel::Software], vec![]));
        assert_eq!(cert.issuer(), Certificate::read(world.ca(role).cert_der()).unwrap().subject());
        assert_eq!(issued.issuer, role);
    }
}

/// A leaf says of what its assurance is, and whoever verifies it reads that.
#[test]
fn the_certificate_says_what_is_in_hardware() {
    let world = world();
    for assurance in [
        Assurance::NONE,
        Assurance::SOFTWARE,
        Assurance::hardware(AssuranceOf::Host),
        Assurance::hardware(AssuranceOf::Key),
        Assurance::measured(AssuranceOf::Host),
        Assurance::measured(AssuranceOf::Key),
        Assurance::parse("hardware").unwrap(),
    ] {
        let request = LeafRequest { assurance, ..leaf_request("spiffe://lab/machine/m") };
        let issued = draft(request, NOW).lint().unwrap().issue(world.ca(Role::Machine)).unwrap();
        let above = [world.ca(Role::Machine).cert_der()];
        let peer = crate::verify_peer(&issued.der, &above, &world.anchors(), &[Role::Machine], NOW).unwrap();
        assert_eq!(peer.assurance, assurance);
    }
}

#[test]
fn every_kind_of_key_is_certified() {
    let world = world();
    let anchors = world.anchors();
    let mut modulus = vec![0xa5; 256];
    modulus[255] = 0x0b;
    let rsa = SubjectKey::from_parts(&crate::KeyParts::Rsa { n: modulus, e: vec![1, 0, 1] }).unwrap();
    let soft = |algorithm| SoftwareKey::generate(algorithm).unwrap().0.subject_key().unwrap();
    for key in [soft(KeyAlgorithm::P256), soft(KeyAlgorithm::P384), soft(KeyAlgorithm::Ed25519), rsa] {
        let request = LeafRequest { key: key.clone(), ..leaf_request("spiffe://lab/machine/m") };
        let issued = draft(request, NOW).lint().unwrap().issue(world.ca(Role::Machine)).unwrap();
        let chain = verify_chain(
            &issued.der,
            &[world.ca(Role::Machine).cert_der()],
            &anchors.set,
            crate::Eku::ClientAuth,
            &[],
            NOW,
        );
        assert_eq!(chain.unwrap().leaf.key(), &key, "the key is copied byte for byte");
    }
}

#[track_caller]
fn check_issue(uri: &str, now: UnixTime, ca: &IssuingCa, want: &IssueError) {
    assert_eq!(draft(leaf_request(uri), now).lint().unwrap().issue(ca).unwrap_err(), *want);
}

#[test]
fn a_ca_signs_its_own_role_and_domain_and_time() {
    let world = world();
    let ca = world.ca(Role::Machine);
    check_issue("spiffe://lab/person/p", NOW, ca, &IssueError::WrongIssuer { leaf: Role::Person, ca: Role::Machine });
    let foreign = IssueError::ForeignDomain { leaf: "other".to_owned(), ca: "lab".to_owned() };
    check_issue("spiffe://other/machine/m", NOW, ca, &foreign);
    let outside = IssueError::OutsideIssuer { ca_from: ca.not_before(), ca_until: ca.not_after() };
    check_issue("spiffe://lab/machine/m", ca.not_after(), ca, &outside);
    check_issue("spiffe://lab/machine/m", NOW.minus(HOUR), ca, &outside);
}

/// A device that fails once it is asked to sign a certificate.
struct Failing(Arc<SoftwareKey>);

use std::sync::Arc;

impl CaKey for Failing {
    fn algorithm(&self) -> KeyAlgorithm {
        self.0.algorithm()
    }
    fn public_key(&self) -> &[u8] {
        self.0.public_key()
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        if message.starts_with(b"lychgate:") {
            return self.0.sign(message);
        }
        Err(SignError::Unavailable { reason: "the token was pulled out".to_owned() })
    }
}

#[test]
fn what_the_key_says_is_passed_on() {
    let world = world();
    let soft = key();
    let ca = world.root.issue_ca(Role::Machine, soft.clone(), serial(3), NOW).unwrap();
    let failing = IssuingCa::from_parts(ca.cert_der(), Arc::new(Failing(soft))).unwrap();
    let want = IssueError::Sign(SignError::Unavailable { reason: "the token was pulled out".to_owned() });
    check_issue("spiffe://lab/machine/m", NOW, &failing, &want);
    let list = crate::crl(&failing, &[], 1, NOW, NOW.plus(HOUR));
    assert_eq!(list, Err(want));
}

#[test]
fn long_domains_fit() {
    let domain = ["abcdefgh"; 20].join(".");
    let world = world_named(&domain);
    let issued = world.issue(&format!("spiffe://{domain}/machine/{}", "x".repeat(63)));
    assert!(Certificate::read(&issued.der).is_ok());
}

#[test]
fn the_place_of_the_list_is_in_the_bytes_when_there_is_one() {
    let world = world();
    let lists = crate::ListsUrl::parse("http://crl.lab.example/v1/crl").unwrap();
    for (uri, role) in [("spiffe://lab/machine/m", Role::Machine), ("spiffe://lab/person/p", Role::Person)] {
        let issuer = world.ca(role).key_digest();
        let with =
            draft(leaf_request(uri), NOW).with_list(&lists, &issuer).lint().unwrap().issue(world.ca(role)).unwrap();
        let wanted = format!("http://crl.lab.example/v1/crl/{}", issuer.hex());
        let holds = |der: &[u8]| der.windows(wanted.len()).any(|window| window == wanted.as_bytes());
        assert!(holds(&with.der) && !holds(&world.issue(uri).der));
        assert!(Certificate::read(&with.der).is_ok());
    }
}
