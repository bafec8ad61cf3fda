//! Peers: a good leaf with one change per case, and CAs that claim more than they may.

use std::time::Duration;

use proptest::prelude::{any, proptest};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};

use super::*;
use crate::ca::IssuingCa;
use crate::cert::{CERT_MAX, CertFault};
use crate::key::SubjectKey;
use crate::profile::AssuranceOf;
use crate::testing::{HOUR, NOW, World, key, leaf_params, serial, world, world_named};
use crate::{Role, draft, oid};

const MACHINE: &str = "spiffe://lab/machine/m";
const PERSON: &str = "spiffe://lab/person/p";
const GATEWAY: &str = "spiffe://lab/gateway/g";
const BOTH: &[Role] = &[Role::Machine, Role::Person];

fn custom(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[test]
fn machines_and_people() {
    let world = world();
    for (text, role) in [(MACHINE, Role::Machine), (PERSON, Role::Person)] {
        let issued = world.issue(text);
        let ca = world.ca(role).cert_der();
        let peer = verify_peer(&issued.der, &[ca], &world.anchors(), BOTH, NOW).unwrap();
        assert_eq!(peer.identity.to_string(), text);
        assert_eq!((peer.serial, peer.key), (issued.serial, issued.key));
        assert_eq!((peer.not_before, peer.not_after), (issued.not_before, issued.not_after));
        assert_eq!(peer.assurance, Assurance::SOFTWARE);
        assert_eq!(SubjectKey::from_spki_der(&peer.spki).unwrap().digest(), issued.key);
        let root = world.root.cert_der();
        assert_eq!(verify_peer(&issued.der, &[root, ca], &world.anchors(), &[role], NOW), Ok(peer));
        assert_eq!(
            verify_peer(&issued.der, &[ca], &world.anchors(), &[Role::Gateway], NOW),
            Err(PeerError::WrongRole { found: role })
        );
        assert_eq!(
            verify_peer(&issued.der, &[ca; 6], &world.anchors(), BOTH, NOW),
            Err(PeerError::TooManyCertificates { found: 7 })
        );
    }
}

#[test]
fn gateways() {
    let world = world();
    let issued = world.issue(GATEWAY);
    let ca = world.ca(Role::Gateway).cert_der();
    let verify = |host| verify_gateway(&issued.der, &[ca], &world.anchors(), host, NOW);
    assert_eq!(verify("gate.lab.example").unwrap().identity.to_string(), GATEWAY);
    assert!(verify("192.0.2.7").is_ok());
    assert_eq!(verify("lab.example"), Err(PeerError::WrongHost { host: "lab.example".to_owned() }));
    assert_eq!(verify("g.gateway.lab"), Err(PeerError::WrongHost { host: "g.gateway.lab".to_owned() }));
    // A gateway is refused as client, and a client as gateway.
    let wrong = |wanted| PeerError::Chain(ChainError::Leaf(CertFault::ExtendedKeyUsage { wanted }));
    let all = &Role::ALL;
    assert_eq!(verify_peer(&issued.der, &[ca], &world.anchors(), all, NOW), Err(wrong(Eku::ClientAuth)));
    let machine = world.issue(MACHINE).der;
    let ca = world.ca(Role::Machine).cert_der();
    let posing = verify_gateway(&machine, &[ca], &world.anchors(), "m.machine.lab", NOW);
    assert_eq!(posing, Err(wrong(Eku::ServerAuth)));
}

#[test]
fn sealed_services() {
    let world = world();
    let ca = world.ca(Role::Machine);
    let request = crate::testing::leaf_request(MACHINE);
    let issued = draft(request, NOW).for_sealed_services().lint().unwrap().issue(ca).unwrap();
    let (name, other) = (Name::parse("m").unwrap(), Name::parse("n").unwrap());
    let verify = |leaf: &[u8], name| verify_sealed(leaf, &[ca.cert_der()], &world.anchors(), name, NOW);
    let peer = verify(&issued.der, &name).unwrap();
    assert_eq!((peer.identity.to_string().as_str(), peer.key), (MACHINE, issued.key));
    assert_eq!(verify(&issued.der, &other), Err(PeerError::WrongMachine { wanted: "n".to_owned() }));
    // The certificate of a sealed service is refused as client and as gateway, and a client's as sealed service.
    let wrong = |wanted| PeerError::Chain(ChainError::Leaf(CertFault::ExtendedKeyUsage { wanted }));
    let as_client = verify_peer(&issued.der, &[ca.cert_der()], &world.anchors(), &Role::ALL, NOW);
    assert_eq!(as_client, Err(wrong(Eku::ClientAuth)));
    let as_gateway = verify_gateway(&issued.der, &[ca.cert_der()], &world.anchors(), "m.machine.lab", NOW);
    assert_eq!(as_gateway, Err(PeerError::WrongRole { found: Role::Machine }));
    assert_eq!(verify(&world.issue(MACHINE).der, &name), Err(wrong(Eku::ServerAuth)));
    let gateway = world.issue(GATEWAY);
    let as_sealed = verify_sealed(
        &gateway.der,
        &[world.ca(Role::Gateway).cert_der()],
        &world.anchors(),
        &Name::parse("g").unwrap(),
        NOW,
    );
    assert_eq!(as_sealed, Err(PeerError::WrongRole { found: Role::Gateway }));
}

/// A machine's leaf with one thing changed, signed by the machines CA.
#[track_caller]
fn bent(bend: impl FnOnce(&mut CertificateParams), want: Result<(), PeerError>) {
    let world = world();
    let (mut params, key) = leaf_params(MACHINE);
    bend(&mut params);
    let leaf = world.authority(Role::Machine).sign(&params, &key).unwrap();
    let ca = world.ca(Role::Machine).cert_der();
    assert_eq!(verify_peer(&leaf, &[ca], &world.anchors(), BOTH, NOW).map(|_| ()), want);
}

fn leaf_fault(fault: CertFault) -> Result<(), PeerError> {
    Err(PeerError::Chain(ChainError::Leaf(fault)))
}

#[test]
fn identities() {
    bent(|_| (), Ok(()));
    bent(|p| p.subject_alt_names.push(uri(PERSON)), Err(PeerError::IdentityCount { found: 2 }));
    bent(|p| p.subject_alt_names.push(uri(MACHINE)), Err(PeerError::IdentityCount { found: 2 }));
    bent(|p| drop(p.subject_alt_names.remove(0)), Err(PeerError::IdentityCount { found: 0 }));
    bent(|p| p.subject_alt_names.clear(), Err(PeerError::IdentityCount { found: 0 }));
    let bad = |error| Err(PeerError::BadIdentity(error));
    bent(|p| p.subject_alt_names[0] = uri("https://lab/machine/m"), bad(BadName::NotSpiffe));
    bent(|p| p.subject_alt_names[0] = uri("spiffe://lab"), bad(BadName::NotThreeParts));
    bent(
        |p| p.subject_alt_names[0] = uri("spiffe://lab/machine/M"),
        bad(BadName::ForbiddenCharacter { at: 0, found: 'M' }),
    );
    bent(
        |p| p.subject_alt_names[0] = uri("spiffe://other/machine/m"),
        Err(PeerError::ForeignDomain { identity: "spiffe://other/machine/m".to_owned(), domain: "lab".to_owned() }),
    );
    for other in [PERSON, GATEWAY] {
        let want = PeerError::WrongIssuer { identity: other.to_owned(), ca: Role::Machine };
        bent(|p| p.subject_alt_names[0] = uri(other), Err(want));
    }
    // The common name is not read.
    bent(|p| p.distinguished_name.push(DnType::CommonName, "somebody-else"), Ok(()));
}

#[test]
fn usages() {
    let chain = leaf_fault(CertFault::ExtendedKeyUsage { wanted: Eku::ClientAuth });
    let alone = Err(PeerError::ExtendedKeyUsage { wanted: Eku::ClientAuth });
    let set = |usages: &'static [ExtendedKeyUsagePurpose]| {
        move |p: &mut CertificateParams| p.extended_key_usages = usages.to_vec()
    };
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, ServerAuth};
    bent(set(&[]), chain.clone());
    bent(set(&[Any]), chain.clone());
    bent(set(&[ClientAuth, Any]), chain.clone());
    bent(set(&[ServerAuth]), chain);
    bent(set(&[ClientAuth, ServerAuth]), alone.clone());
    bent(set(&[ClientAuth, CodeSigning]), alone.clone());
    bent(|p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::Other(vec![1, 2, 3])), alone);

    let key_usage = leaf_fault(CertFault::KeyUsage);
    bent(|p| p.key_usages.clear(), Err(PeerError::KeyUsage));
    bent(|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement], key_usage.clone());
    bent(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign), key_usage.clone());
    bent(|p| p.key_usages.push(KeyUsagePurpose::CrlSign), key_usage);
    // digitalSignature, not critical.
    let bits = custom(&[2, 5, 29, 15], false, &[3, 2, 7, 0x80]);
    bent(|p| (p.key_usages, p.custom_extensions) = (Vec::new(), vec![bits]), Err(PeerError::KeyUsage));
}

#[test]
fn shapes() {
    bent(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), leaf_fault(CertFault::CaAsLeaf));
    bent(|p| p.use_authority_key_identifier_extension = false, leaf_fault(CertFault::AuthorityKeyIdentifier));
    bent(|p| p.distinguished_name = DistinguishedName::new(), Ok(()));
    let san = [&[0x30, 24, 0x86, 22][..], MACHINE.as_bytes()].concat();
    bent(
        |p| {
            p.distinguished_name = DistinguishedName::new();
            p.subject_alt_names.clear();
            p.custom_extensions = vec![custom(&[2, 5, 29, 17], false, &san)];
        },
        leaf_fault(CertFault::NoName),
    );
    let constraints = custom(&[2, 5, 29, 30], true, &[0x30, 8, 0xa0, 6, 0x30, 4, 0x82, 2, b'a', b'b']);
    bent(|p| p.custom_extensions = vec![constraints], leaf_fault(CertFault::NameConstraints));
    let twice = vec![custom(&[1, 2, 3], false, &[5, 0]); 2];
    bent(|p| p.custom_extensions = twice, leaf_fault(CertFault::DuplicateExtension { oid: "1.2.3".to_owned() }));
    bent(|p| p.custom_extensions = vec![custom(&[1, 2, 3], false, &[5, 0])], Ok(()));
    let big = custom(&[1, 2, 3], false, &[&[0x04, 0x82, 0x20, 0x00][..], &[0; 8192]].concat());
    let (mut params, key) = leaf_params(MACHINE);
    params.custom_extensions = vec![big];
    let world = world();
    let leaf = world.authority(Role::Machine).sign(&params, &key).unwrap();
    let want = leaf_fault(CertFault::TooLong { len: leaf.len() });
    assert!(leaf.len() > CERT_MAX);
    let ca = world.ca(Role::Machine).cert_der();
    assert_eq!(verify_peer(&leaf, &[ca], &world.anchors(), BOTH, NOW).map(|_| ()), want);
}

#[test]
fn unknown_critical_extension() {
    let world = world();
    let (mut params, key) = leaf_params(MACHINE);
    params.custom_extensions.push(custom(&[1, 2, 3], true, &[5, 0]));
    let leaf = world.authority(Role::Machine).sign(&params, &key).unwrap();
    let got = verify_peer(&leaf, &[world.ca(Role::Machine).cert_der()], &world.anchors(), BOTH, NOW);
    assert!(matches!(got, Err(PeerError::Chain(ChainError::Leaf(_) | ChainError::Path { .. }))), "{got:?}");
}

#[test]
fn serials_and_assurance() {
    bent(|p| p.serial_number = Some(SerialNumber::from_slice(&[1; 20])), Err(PeerError::Serial));
    bent(|p| p.serial_number = Some(SerialNumber::from_slice(&[0])), leaf_fault(CertFault::Serial));
    bent(|p| p.serial_number = Some(SerialNumber::from_slice(&[1; 21])), leaf_fault(CertFault::Serial));
    let levels = |levels: &[AssuranceLevel]| {
        let oids: Vec<_> = levels.iter().map(|level| level.oid()).collect();
        let oids: Vec<&[u8]> = oids.iter().map(<[u8; oid::LEN]>::as_slice).collect();
        vec![custom(&oid::CERTIFICATE_POLICIES, false, &oid::policies(&oids))]
    };
    let two = levels(&[AssuranceLevel::None, AssuranceLevel::Measured]);
    bent(|p| p.custom_extensions = two, Err(PeerError::Assurance { found: 2 }));
    bent(|p| p.custom_extensions = Vec::new(), Ok(()));
    let (hard, soft) = (AssuranceLevel::Hardware.oid(), AssuranceLevel::Software.oid());
    let [host, key] = AssuranceOf::ALL.map(AssuranceOf::oid);
    for (oids, want) in [
        (&[&hard[..]] as &[&[u8]], Ok(())),
        (&[&hard, &host], Ok(())),
        (&[&key, &hard], Ok(())),
        (&[&hard, &host, &key], Err(PeerError::AssuranceOf)),
        (&[&hard, &host, &host], Err(PeerError::AssuranceOf)),
        (&[&soft, &key], Err(PeerError::AssuranceOf)),
        (&[&host], Err(PeerError::AssuranceOf)),
    ] {
        let policies = vec![custom(&oid::CERTIFICATE_POLICIES, false, &oid::policies(oids))];
        bent(|p| p.custom_extensions = policies, want);
    }
}

/// A CA below the world's root or below another CA, bent.
fn bent_ca(
    above: &crate::ca::CertifiedKey,
    bend: impl FnOnce(&mut CertificateParams),
) -> (Vec<u8>, crate::ca::CertifiedKey) {
    let ca_key = key();
    let subject = ca_key.subject_key().unwrap();
    let mut params = CertificateParams::default();
    params.serial_number = Some(5_u64.into());
    params.not_before = NOW.minus(HOUR).to_datetime().unwrap();
    params.not_after = NOW.plus(48 * HOUR).to_datetime().unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("bent {}", subject.digest()).split_off(40));
    params.subject_alt_names = vec![uri("spiffe://lab")];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.custom_extensions = vec![role_policies(&[Role::Machine])];
    bend(&mut params);
    let der = above.sign(&params, &subject).unwrap();
    // To sign below it, a CA of the same name that our own loader accepts.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.custom_extensions = vec![role_policies(&[Role::Machine])];
    let loadable = above.sign(&params, &subject).unwrap();
    (der, IssuingCa::from_parts(&loadable, ca_key).unwrap().into_authority())
}

fn role_policies(roles: &[Role]) -> CustomExtension {
    let oids: Vec<_> = roles.iter().map(|role| role.oid()).collect();
    let mut all: Vec<&[u8]> = oids.iter().map(<[u8; oid::LEN]>::as_slice).collect();
    all.push(&oid::ANY_POLICY);
    custom(&oid::CERTIFICATE_POLICIES, false, &oid::policies(&all))
}

#[track_caller]
fn under_bent_ca(leaf: &str, bend: impl FnOnce(&mut CertificateParams), want: Result<(), PeerError>) {
    let world = world();
    let (der, authority) = bent_ca(&world.root.0, bend);
    let (params, key) = leaf_params(leaf);
    let leaf = authority.sign(&params, &key).unwrap();
    assert_eq!(verify_peer(&leaf, &[&der], &world.anchors(), BOTH, NOW).map(|_| ()), want);
}

#[test]
fn issuing_cas() {
    let role =
        |roles: &'static [Role]| move |p: &mut CertificateParams| p.custom_extensions = vec![role_policies(roles)];
    let none = Err(PeerError::NoIssuingRole);
    under_bent_ca(MACHINE, |_| (), Ok(()));
    under_bent_ca(MACHINE, role(&[]), none.clone());
    under_bent_ca(MACHINE, role(&[Role::Machine, Role::Person]), none.clone());
    under_bent_ca(MACHINE, |p| p.custom_extensions.clear(), none.clone());
    under_bent_ca(MACHINE, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), none.clone());
    under_bent_ca(MACHINE, |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)), none);
    let ca = Role::Person;
    under_bent_ca(MACHINE, role(&[Role::Person]), Err(PeerError::WrongIssuer { identity: MACHINE.to_owned(), ca }));
    under_bent_ca(PERSON, role(&[Role::Person]), Ok(()));
    let issuer = |fault| Err(PeerError::Chain(ChainError::Issuer(fault)));
    let no_aki = |p: &mut CertificateParams| p.use_authority_key_identifier_extension = false;
    under_bent_ca(MACHINE, no_aki, issuer(CertFault::AuthorityKeyIdentifier));
    // What the path builder refuses by itself.
    let world = world();
    for bend in [
        (|p| p.is_ca = IsCa::ExplicitNoCa) as fn(&mut CertificateParams),
        |p| p.key_usages = vec![KeyUsagePurpose::CrlSign],
        |p| p.not_after = NOW.minus(HOUR / 2).to_datetime().unwrap(),
        |p| p.not_before = NOW.plus(HOUR).to_datetime().unwrap(),
        |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        |p| p.custom_extensions.push(custom(&[1, 2, 3], true, &[5, 0])),
    ] {
        let (der, authority) = bent_ca(&world.root.0, bend);
        let (params, key) = leaf_params(MACHINE);
        let leaf = authority.sign(&params, &key).unwrap();
        let got = verify_peer(&leaf, &[&der], &world.anchors(), BOTH, NOW);
        assert!(matches!(got, Err(PeerError::Chain(_))), "{got:?}");
    }
}

#[test]
fn a_root_does_not_vouch_for_peers_itself() {
    let world = world();
    let (params, key) = leaf_params(MACHINE);
    let leaf = world.root.0.sign(&params, &key).unwrap();
    assert_eq!(verify_peer(&leaf, &[], &world.anchors(), BOTH, NOW), Err(PeerError::NoIssuingRole));
}

/// The holder of one issuing key makes a CA for another role below it.
#[test]
fn a_ca_for_one_role_cannot_make_one_for_another() {
    let world = world();
    let (below, authority) = bent_ca(world.authority(Role::Machine), |p| {
        p.custom_extensions = vec![role_policies(&[Role::Person])];
    });
    let (params, key) = leaf_params(PERSON);
    let leaf = authority.sign(&params, &key).unwrap();
    let chain = [&below[..], world.ca(Role::Machine).cert_der()];
    let got = verify_peer(&leaf, &chain, &world.anchors(), BOTH, NOW);
    assert!(matches!(got, Err(PeerError::Chain(ChainError::Path { .. }))), "path length: {got:?}");
}

#[test]
fn another_domains_peer_is_unknown() {
    let (world, other) = (world(), world_named("other"));
    let leaf = other.issue("spiffe://other/machine/m").der;
    let ca = other.ca(Role::Machine).cert_der();
    let unknown = Err(PeerError::Chain(ChainError::UnknownIssuer));
    assert_eq!(verify_peer(&leaf, &[ca], &world.anchors(), BOTH, NOW), unknown);
    assert_eq!(verify_peer(&leaf, &[ca, other.root.cert_der()], &world.anchors(), BOTH, NOW), unknown);
}

#[test]
fn an_anchor_that_expired_since_no_longer_counts() {
    let world = world();
    let short = crate::Root::create(&world.domain, key(), serial(1), NOW, 1).unwrap();
    let ca = short.issue_ca(Role::Machine, key(), serial(2), NOW).unwrap();
    let anchors = TrustAnchors::new(&world.domain, &[short.cert_der()], NOW).unwrap();
    let late = short.not_after().minus(HOUR);
    let mut request = crate::testing::leaf_request(MACHINE);
    request.lifetime = HOUR;
    let leaf = draft(request, late).lint().unwrap().issue(&ca).unwrap();
    assert!(verify_peer(&leaf.der, &[ca.cert_der()], &anchors, BOTH, late).is_ok());
    let (mut params, key) = leaf_params(MACHINE);
    params.not_after = late.plus(9 * HOUR).to_datetime().unwrap();
    let outliving = ca.authority().sign(&params, &key).unwrap();
    let now = short.not_after().plus(Duration::from_secs(1));
    let got = verify_peer(&outliving, &[ca.cert_der()], &anchors, BOTH, now);
    assert_eq!(got, Err(PeerError::Chain(ChainError::NoValidAnchor { now })));
}

thread_local!(static WORLD: (World, Vec<u8>, TrustAnchors) = {
    let world = world();
    let leaf = world.issue(MACHINE).der;
    let anchors = world.anchors();
    (world, leaf, anchors)
});

proptest! {
    #[test]
    fn never_panics(leaf: Vec<u8>, sent: Vec<Vec<u8>>, now: u64) {
        WORLD.with(|(_, _, anchors)| {
            let sent: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
            assert!(verify_peer(&leaf, &sent, anchors, BOTH, UnixTime::new(now)).is_err());
        });
    }

    /// One byte of leaf or CA changed: refused, but for the CA's own bytes that change nothing (there are none).
    #[test]
    fn mutations_are_refused(in_ca: bool, at in any::<proptest::sample::Index>(), flip in 1..=255_u8) {
        WORLD.with(|(world, leaf, anchors)| {
            let mut leaf = leaf.clone();
            let mut ca = world.ca(Role::Machine).cert_der().to_vec();
            let target = if in_ca { &mut ca } else { &mut leaf };
            let at = at.index(target.len());
            target[at] ^= flip;
            assert!(verify_peer(&leaf, &[&ca], anchors, BOTH, NOW).is_err(), "byte {at} of {in_ca}");
            assert!(verify_gateway(&leaf, &[&ca], anchors, "m.machine.lab", NOW).is_err());
        });
    }
}
