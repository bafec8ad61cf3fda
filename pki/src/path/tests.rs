//! Paths that hold, and each way in which one does not.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CidrSubnet, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints, RevokedCertParams, SanType, SerialNumber,
};
use time::OffsetDateTime;

use super::*;
use crate::pem::to_pem;
use crate::testing::{HOUR, NOW};

/// A CA or a device: what its certificate says, and its key.
struct Party {
    params: CertificateParams,
    key: KeyPair,
}

fn date(at: UnixTime) -> OffsetDateTime {
    at.to_datetime().unwrap()
}

fn party(name: &str, is_ca: IsCa) -> Party {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date(NOW.minus(HOUR)), date(NOW.plus(HOUR)));
    params.is_ca = is_ca;
    params.use_authority_key_identifier_extension = true;
    Party { params, key: KeyPair::generate().unwrap() }
}

fn ca(name: &str) -> Party {
    let mut ca = party(name, IsCa::Ca(BasicConstraints::Unconstrained));
    ca.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca
}

/// An IDevID: with a serial number, for ever.
fn device() -> Party {
    let mut device = party("router", IsCa::NoCa);
    device.params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), "SN 0042");
    device.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    device.params.not_after = date(UnixTime::LAST_IN_CERTIFICATES);
    device.params.serial_number = Some(SerialNumber::from_slice(&[0x42]));
    device
}

impl Party {
    fn with(mut self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        change(&mut self.params);
        self
    }

    fn signed_by(&self, issuer: &Self) -> Vec<u8> {
        let issuer = Issuer::from_params(&issuer.params, &issuer.key);
        self.params.signed_by(&self.key, &issuer).unwrap().der().to_vec()
    }

    fn root(&self) -> Vec<u8> {
        self.params.self_signed(&self.key).unwrap().der().to_vec()
    }

    fn list(&self, change: impl FnOnce(&mut CertificateRevocationListParams)) -> Vec<u8> {
        let mut params = CertificateRevocationListParams {
            this_update: date(NOW.minus(HOUR)),
            next_update: date(NOW.plus(HOUR)),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: vec![],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut params);
        params.signed_by(&Issuer::from_params(&self.params, &self.key)).unwrap().der().to_vec()
    }
}

fn anchors(ders: &[&[u8]]) -> PathAnchors {
    PathAnchors::from_pem(&ders.iter().map(|der| to_pem("CERTIFICATE", der)).collect::<String>()).unwrap()
}

fn owned(given: &[&[u8]]) -> Vec<Vec<u8>> {
    given.iter().map(|der| der.to_vec()).collect()
}

#[track_caller]
fn holds(given: &[&[u8]], roots: &[&[u8]]) -> PathLeaf {
    verify_path(&owned(given), &anchors(roots), NOW).unwrap().leaf()
}

#[track_caller]
fn refused(given: &[&[u8]], roots: &[&[u8]], want: &str) {
    let error = verify_path(&owned(given), &anchors(roots), NOW).map(|path| path.leaf()).unwrap_err().to_string();
    assert_eq!(error, want);
}

fn oid_extension(oid: &[u64], critical: bool, content: Vec<u8>) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content);
    extension.set_criticality(critical);
    extension
}

/// 1.2.3.N, content octets.
const fn policy(number: u8) -> [u8; 3] {
    [0x2a, 3, number]
}

fn policies(numbers: &[u8]) -> CustomExtension {
    let oids: Vec<[u8; 3]> = numbers.iter().map(|number| policy(*number)).collect();
    let oids: Vec<&[u8]> = oids.iter().map(|oid| &oid[..]).collect();
    oid_extension(&crate::oid::CERTIFICATE_POLICIES, true, crate::oid::policies(&oids))
}

fn any_policy() -> CustomExtension {
    oid_extension(&crate::oid::CERTIFICATE_POLICIES, true, crate::oid::policies(&[&crate::oid::ANY_POLICY]))
}

#[test]
fn an_idevid_leads_to_its_maker_in_whatever_order() {
    let (root, middle, device) = (ca("maker"), ca("factory"), device());
    let (top, factory, leaf) = (root.root(), middle.signed_by(&root), device.signed_by(&middle));
    for given in [&[&leaf[..], &factory][..], &[&leaf, &factory, &top], &[&leaf, &top, &factory]] {
        let found = holds(given, &[&top]);
        assert_eq!(
            (found.serial_number.as_deref(), found.not_after),
            (Some("SN 0042"), UnixTime::LAST_IN_CERTIFICATES)
        );
        assert!(found.subject.contains("router"), "{}", found.subject);
    }
    // An intermediate CA may be trusted by itself.
    holds(&[&leaf], &[&factory]);
    let path = (owned(&[&leaf, &top, &factory]), anchors(&[&top]));
    let path = verify_path(&path.0, &path.1, NOW).unwrap();
    assert_eq!(path.below_anchor(), [leaf.clone(), factory.clone()]);
    assert_eq!(path.issuer_keys().len(), 2);
    refused(&[&leaf], &[&top], "no trusted CA has the name `CN=factory`");
    refused(&[], &[&top], "there is no certificate");
    refused(&[&factory, &leaf], &[&top], "the first certificate is of a CA and cannot speak for a device");
    // A CA of the same name and another key is not the issuer.
    let other = ca("factory").signed_by(&root);
    holds(&[&leaf, &other, &factory], &[&top]);
    refused(&[&leaf, &other], &[&top], "no trusted CA has the name `CN=factory`");
}

#[test]
fn what_has_ended_or_not_begun_is_named() {
    let (root, device) = (ca("maker"), device());
    let (top, leaf) = (root.root(), device.signed_by(&root));
    let at = |now| verify_path(&owned(&[&leaf]), &anchors(&[&top]), now).map(|_| ()).unwrap_err().to_string();
    let late = NOW.plus(HOUR + HOUR);
    assert_eq!(at(late), format!("the certificate of `CN=maker` expired at {}", NOW.plus(HOUR)));
    let early = at(NOW.minus(HOUR + HOUR));
    assert!(early.ends_with(&format!("is not valid before {}", NOW.minus(HOUR))), "{early}");
    let brief = device.with(|params| params.not_after = date(NOW.minus(HOUR / 2)));
    let ended = verify_path(&owned(&[&brief.signed_by(&root)]), &anchors(&[&top]), NOW).map(|_| ()).unwrap_err();
    assert!(matches!(&ended, PathError::Expired { subject, .. } if subject.contains("router")), "{ended}");
    let middle = ca("factory").with(|params| params.not_after = date(NOW.minus(HOUR / 2)));
    let leaf = super::tests::device().signed_by(&middle);
    let ended = format!("the certificate of `CN=factory` expired at {}", NOW.minus(HOUR / 2));
    refused(&[&leaf, &middle.signed_by(&root)], &[&top], &ended);
}

#[test]
fn whoever_may_not_certify_does_not() {
    let (root, device) = (ca("maker"), device());
    let top = root.root();
    let not_ca = party("factory", IsCa::NoCa);
    let given = [&device.signed_by(&not_ca)[..], &not_ca.signed_by(&root)];
    refused(&given, &[&top], "`CN=factory` is not a CA that may sign certificates");
    let no_sign = ca("factory").with(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let given = [&device.signed_by(&no_sign)[..], &no_sign.signed_by(&root)];
    refused(&given, &[&top], "`CN=factory` is not a CA that may sign certificates");
    // The maker certified another factory of the name.
    let (forged, real) = (ca("factory"), ca("factory"));
    let forged_key_id = forged.with(|params| params.key_identifier_method = KeyIdMethod::PreSpecified(vec![7; 20]));
    let real = real.with(|params| params.key_identifier_method = KeyIdMethod::PreSpecified(vec![7; 20]));
    let given = [&device.signed_by(&forged_key_id)[..], &real.signed_by(&root)];

    let error = verify_path(&owned(&given), &anchors(&[&top]), NOW).map(|_| ()).unwrap_err();
    assert!(matches!(&error, PathError::Signature { .. }), "{error}");
    let short = ca("maker").with(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let middle = ca("factory");
    let given = [&device.signed_by(&middle)[..], &middle.signed_by(&short)];
    refused(&given, &[&short.root()], "`CN=maker` may not have 1 CAs below it");
    holds(&[&device.signed_by(&short)], &[&short.root()]);
}

#[test]
fn a_path_is_no_longer_than_that() {
    let root = ca("0");
    let (mut cas, mut ders) = (vec![root], vec![]);
    for at in 1..=7 {
        let next = ca(&at.to_string());
        ders.push(next.signed_by(&cas[at - 1]));
        cas.push(next);
    }
    let top = cas[0].root();
    let chain = |length: usize| {
        let leaf = device().signed_by(&cas[length]);
        let given: Vec<Vec<u8>> = std::iter::once(leaf).chain(ders.iter().take(length).rev().cloned()).collect();
        verify_path(&given, &anchors(&[&top]), NOW).map(|path| path.leaf())
    };
    assert!(chain(DEPTH_MAX - 1).is_ok());
    assert_eq!(chain(DEPTH_MAX), Err(PathError::TooDeep));
    let many = vec![device().signed_by(&cas[0]); PATH_CERTIFICATES_MAX + 1];
    let many = verify_path(&many, &anchors(&[&top]), NOW).map(|_| ()).unwrap_err();
    assert_eq!(many, PathError::TooMany { found: PATH_CERTIFICATES_MAX + 1 });
    // Whoever sends many CAs of one name does not make us check many signatures.
    let same = |number: u8| {
        let method = KeyIdMethod::PreSpecified(vec![number; 4]);
        ca("same").with(|params| {
            params.use_authority_key_identifier_extension = false;
            params.key_identifier_method = method;
        })
    };
    let loops: Vec<Vec<u8>> = (0..7).map(|at| same(at).signed_by(&same(at))).collect();
    let leaf = device().with(|params| params.use_authority_key_identifier_extension = false).signed_by(&same(9));
    let given: Vec<Vec<u8>> = std::iter::once(leaf).chain(loops).collect();
    let error = verify_path(&given, &anchors(&[&top]), NOW).map(|_| ()).unwrap_err();
    assert!(matches!(error, PathError::Signature { .. }), "{error}");
}

#[test]
fn single_certificates_that_cannot_be_judged() {
    let root = ca("maker");
    let (top, leaf) = (root.root(), device().signed_by(&root));
    refused(&[b"no certificate"], &[&top], "certificate 1 is not an X.509 certificate of version 3 in DER");
    refused(&[&[&leaf[..], &[0]].concat()], &[&top], "1 bytes follow certificate 1");
    refused(
        &[&leaf, &[0x30; CERT_MAX + 1]],
        &[&top],
        &format!("certificate 2 has {} bytes and at most {CERT_MAX} are read", CERT_MAX + 1),
    );
    let unknown = |critical| {
        let extension = oid_extension(&[1, 2, 3, 4], critical, vec![5, 0]);
        device().with(|params| params.custom_extensions = vec![extension]).signed_by(&root)
    };
    holds(&[&unknown(false)], &[&top]);
    let error = verify_path(&owned(&[&unknown(true)]), &anchors(&[&top]), NOW).map(|_| ()).unwrap_err();
    assert!(matches!(&error, PathError::UnknownCritical { oid, .. } if oid == "1.2.3.4"), "{error}");
    let twice = vec![oid_extension(&[1, 2, 3, 4], false, vec![5, 0]), oid_extension(&[1, 2, 3, 4], false, vec![5, 0])];
    let twice = device().with(|params| params.custom_extensions = twice).signed_by(&root);
    refused(&[&twice], &[&top], "extension 1.2.3.4 of certificate 1 is there twice or cannot be read");
    let many = (0..33).map(|at| oid_extension(&[1, 2, 3, at], false, vec![5, 0])).collect();
    let many = device().with(|params| params.custom_extensions = many).signed_by(&root);
    let error = verify_path(&owned(&[&many]), &anchors(&[&top]), NOW).map(|_| ()).unwrap_err();
    assert!(matches!(error, PathError::Extensions { at: 1, .. }), "{error}");
    let empty = vec![oid_extension(&[2, 5, 29, 37], false, vec![0x30, 0])];
    let empty = device().with(|params| params.custom_extensions = empty).signed_by(&root);
    refused(&[&empty], &[&top], "extension 2.5.29.37 of certificate 1 is there twice or cannot be read");
    let constraints = vec![oid_extension(&[2, 5, 29, 30], true, vec![0x30, 6, 0xa0, 4, 0x30, 2, 0x82, 0])];
    for change in [
        |params: &mut CertificateParams, _| params.key_usages.push(KeyUsagePurpose::KeyCertSign),
        |params: &mut CertificateParams, constraints| params.custom_extensions = constraints,
    ] {
        let leaf = device().with(|params| change(params, constraints.clone())).signed_by(&root);
        refused(&[&leaf], &[&top], "the first certificate is of a CA and cannot speak for a device");
    }
    let encrypts = device().with(|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]).signed_by(&root);
    refused(&[&encrypts], &[&top], "the key usage of the first certificate does not allow signatures");
}

#[test]
fn names_outside_of_the_constraints_are_refused() {
    let named = |names: &[&str]| {
        let names = names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())).collect::<Vec<_>>();
        device().with(|params| params.subject_alt_names = names)
    };
    let check = |permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>, device: &Party| {
        let constraints = NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded };
        let root = ca("maker").with(|params| params.name_constraints = Some(constraints));
        verify_path(&owned(&[&device.signed_by(&root)]), &anchors(&[&root.root()]), NOW).map(|_| ())
    };
    let dns = |name: &str| GeneralSubtree::DnsName(name.to_owned());
    let barred = |name: &str| Err(PathError::Constrained { by: "CN=maker".into(), name: name.to_owned() });
    let unsure = |name: &str| Err(PathError::ConstraintForm { by: "CN=maker".into(), name: name.to_owned() });
    let inside = || vec![dns("example.com")];
    assert_eq!(check(inside(), vec![], &named(&["web1.EXAMPLE.com", "example.com"])), Ok(()));
    assert_eq!(check(inside(), vec![], &named(&["web1.example.com", "badexample.com"])), barred("badexample.com"));
    assert_eq!(check(vec![], inside(), &named(&["web1.example.com"])), barred("web1.example.com"));
    assert_eq!(check(vec![], inside(), &named(&["web1.other.example"])), Ok(()));
    assert_eq!(check(inside(), vec![dns("db.example.com")], &named(&["a.db.example.com"])), barred("a.db.example.com"));
    assert_eq!(check(vec![], inside(), &named(&["*.com"])), unsure("*.com"));
    // A device without names of the form is not concerned.
    assert_eq!(check(inside(), vec![], &device()), Ok(()));
    let address =
        |bytes: [u8; 4]| device().with(|params| params.subject_alt_names = vec![SanType::IpAddress(bytes.into())]);
    let net = || vec![GeneralSubtree::IpAddress(CidrSubnet::V4([10, 0, 0, 0], [255, 0, 0, 0]))];
    assert_eq!(check(net(), vec![], &address([10, 1, 2, 3])), Ok(()));
    assert!(matches!(check(net(), vec![], &address([11, 1, 2, 3])), Err(PathError::Constrained { .. })));
    assert!(matches!(check(vec![], net(), &address([10, 1, 2, 3])), Err(PathError::Constrained { .. })));
    let mail = || vec![GeneralSubtree::Rfc822Name("example.com".to_owned())];
    let mailed = device()
        .with(|params| params.subject_alt_names = vec![SanType::Rfc822Name("a@example.com".try_into().unwrap())]);
    assert_eq!(check(mail(), vec![], &mailed), unsure("a@example.com"));
    let own = || device().params.distinguished_name;
    assert_eq!(check(vec![GeneralSubtree::DirectoryName(own())], vec![], &device()), Ok(()));
    let other = ca("other").params.distinguished_name;
    assert!(matches!(
        check(vec![GeneralSubtree::DirectoryName(other)], vec![], &device()),
        Err(PathError::Constrained { .. })
    ));
    assert!(matches!(
        check(vec![], vec![GeneralSubtree::DirectoryName(own())], &device()),
        Err(PathError::ConstraintForm { .. })
    ));
    // What cannot be read is no permission: an empty list, and a subtree that is no name.
    for content in [vec![0x30, 0], vec![0x30, 4, 0xa0, 2, 5, 0], vec![0x30, 7, 0xa0, 5, 0x30, 3, 0x82, 1, b'a', 5, 0]] {
        let root =
            ca("maker").with(|params| params.custom_extensions = vec![oid_extension(&[2, 5, 29, 30], true, content)]);
        let (given, anchors) = (owned(&[&device().signed_by(&root)]), anchors(&[&root.root()]));
        let error = verify_path(&given, &anchors, NOW).map(|_| ()).unwrap_err();
        assert!(matches!(error, PathError::Constraints { .. } | PathError::BadExtension { .. }), "{error}");
    }
    // A CA above the CA constrains, too.
    let constraints = NameConstraints { permitted_subtrees: inside(), excluded_subtrees: vec![] };
    let root = ca("maker").with(|params| params.name_constraints = Some(constraints));
    let (middle, leaf) = (ca("factory"), named(&["web1.other.example"]));
    let given = owned(&[&leaf.signed_by(&middle), &middle.signed_by(&root)]);
    let error = verify_path(&given, &anchors(&[&root.root()]), NOW).map(|_| ());
    assert_eq!(error, barred("web1.other.example"));
}

#[test]
fn usages_are_stated_by_the_leaf_and_not_barred_above() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, Other, ServerAuth};
    let check = |ca_usages: Vec<ExtendedKeyUsagePurpose>, usages: Vec<ExtendedKeyUsagePurpose>, wanted: &str| {
        let root = ca("maker").with(|params| params.extended_key_usages = ca_usages);
        let leaf = device().with(|params| params.extended_key_usages = usages).signed_by(&root);
        let (given, anchors) = (owned(&[&leaf]), anchors(&[&root.root()]));
        verify_path(&given, &anchors, NOW).unwrap().require_usage(wanted)
    };
    let client = "1.3.6.1.5.5.7.3.2";
    assert_eq!(check(vec![], vec![ServerAuth, ClientAuth], client), Ok(()));
    assert_eq!(check(vec![Any], vec![ClientAuth], client), Ok(()));
    assert_eq!(check(vec![], vec![Other(vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 2])], "1.3.6.1.4.1.311.20.2.2"), Ok(()));
    let missing = Err(PathError::UsageMissing { oid: client.to_owned() });
    for usages in [vec![], vec![Any], vec![ServerAuth]] {
        assert_eq!(check(vec![], usages, client), missing);
    }
    let barred = Err(PathError::UsageBarred { subject: "CN=maker".to_owned(), oid: client.to_owned() });
    assert_eq!(check(vec![CodeSigning], vec![ClientAuth], client), barred);
}

#[test]
fn policies_are_valid_for_the_whole_path_or_not() {
    let check = |middle: Vec<CustomExtension>, leaf: Vec<CustomExtension>| {
        let (root, factory) = (ca("maker"), ca("factory").with(|params| params.custom_extensions = middle));
        let leaf = device().with(|params| params.custom_extensions = leaf).signed_by(&factory);
        let (given, anchors) = (owned(&[&leaf, &factory.signed_by(&root)]), anchors(&[&root.root()]));
        verify_path(&given, &anchors, NOW).map(|path| path.leaf().policies)
    };
    let valid = |numbers: &[u8]| Ok(numbers.iter().map(|number| format!("1.2.3.{number}")).collect::<Vec<_>>());
    assert_eq!(check(vec![policies(&[1, 2])], vec![policies(&[2, 3])]), valid(&[2]));
    assert_eq!(check(vec![any_policy()], vec![policies(&[2, 3])]), valid(&[2, 3]));
    assert_eq!(check(vec![], vec![policies(&[2])]), valid(&[]), "a CA without any ends them");
    assert_eq!(check(vec![policies(&[2])], vec![any_policy()]), valid(&[]));
    let inhibit = || oid_extension(&[2, 5, 29, 54], true, vec![2, 1, 0]);
    assert_eq!(check(vec![any_policy(), inhibit()], vec![policies(&[2])]), valid(&[]));
    let explicit = || oid_extension(&[2, 5, 29, 36], true, vec![0x30, 3, 0x80, 1, 0]);
    assert_eq!(check(vec![policies(&[2]), explicit()], vec![policies(&[2])]), valid(&[2]));
    assert_eq!(check(vec![policies(&[2]), explicit()], vec![policies(&[3])]), Err(PathError::NoPolicy));
    let mapping: Vec<u8> = [&[0x30, 12, 0x30, 10, 6, 3][..], &policy(2), &[6, 3], &policy(9)].concat();
    let mapped = || oid_extension(&[2, 5, 29, 33], true, mapping.clone());
    assert_eq!(check(vec![policies(&[2]), mapped()], vec![policies(&[2])]), valid(&[]));
    let (root, leaf) = (ca("maker"), device().with(|params| params.custom_extensions = vec![policies(&[2])]));
    let (given, anchors) = (owned(&[&leaf.signed_by(&root)]), anchors(&[&root.root()]));
    let path = verify_path(&given, &anchors, NOW).unwrap();
    assert_eq!(path.require_policy("1.2.3.2"), Ok(()));
    assert_eq!(path.require_policy("1.2.3.3"), Err(PathError::PolicyMissing { oid: "1.2.3.3".to_owned() }));
}

fn entry(serial: u8) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from_slice(&[serial]),
        revocation_time: date(NOW.minus(HOUR)),
        reason_code: None,
        invalidity_date: None,
    }
}

#[test]
fn lists_are_the_issuers_from_now_or_nothing_is_known() {
    let (root, factory) =
        (ca("maker"), ca("factory").with(|params| params.serial_number = Some(SerialNumber::from_slice(&[7]))));
    let (top, middle, leaf) = (root.root(), factory.signed_by(&root), device().signed_by(&factory));
    let (given, anchors) = (owned(&[&leaf, &middle]), anchors(&[&top]));
    let path = verify_path(&given, &anchors, NOW).unwrap();
    let check = |lists: &[Vec<u8>], max_age: Option<Duration>| {
        let lists: Vec<RevocationList> = lists.iter().flat_map(|der| RevocationList::read(der).unwrap()).collect();
        path.check_revocation(&lists.iter().collect::<Vec<_>>(), max_age, NOW)
    };
    let issuer = || "CN=factory".to_owned();
    let good = || factory.list(|_| {});
    assert_eq!(check(&[good()], None), Ok(()));
    assert_eq!(check(&[], None), Err(RevocationError::Missing { issuer: issuer() }));
    assert_eq!(check(&[root.list(|_| {})], None), Err(RevocationError::Missing { issuer: issuer() }));
    assert_eq!(check(&[ca("factory").list(|_| {})], None), Err(RevocationError::Unsigned { issuer: issuer() }));
    let revoked = |der: Vec<u8>| assert!(matches!(check(&[good(), der], None), Err(RevocationError::Revoked { .. })));
    revoked(factory.list(|list| list.revoked_certs = vec![entry(1), entry(0x42)]));
    // The CA itself, by the list of the one above.
    revoked(root.list(|list| list.revoked_certs = vec![entry(7)]));
    assert_eq!(check(&[factory.list(|list| list.revoked_certs = vec![entry(1)]), root.list(|_| {})], None), Ok(()));
    let stale = || factory.list(|list| list.next_update = date(NOW.minus(HOUR / 2)));
    assert_eq!(check(&[stale()], None), Err(RevocationError::Stale { issuer: issuer(), until: NOW.minus(HOUR / 2) }));
    assert_eq!(check(&[stale(), good()], None), Ok(()));
    assert_eq!(
        check(&[good()], Some(HOUR / 2)),
        Err(RevocationError::Stale { issuer: issuer(), until: NOW.minus(HOUR / 2) })
    );
    let stale_ca = root.list(|list| list.next_update = date(NOW.minus(HOUR / 2)));
    assert!(matches!(check(&[good(), stale_ca], None), Err(RevocationError::Stale { .. })), "of the CA");
    let early = factory.list(|list| list.this_update = date(NOW.plus(HOUR / 2)));
    assert_eq!(check(&[early], None), Err(RevocationError::Early { issuer: issuer(), at: NOW.plus(HOUR / 2) }));
    // Without the right to sign lists.
    let mute = ca("factory").with(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    let list =
        Party { params: ca("factory").params, key: KeyPair::try_from(mute.key.serialize_der()).unwrap() }.list(|_| {});
    let (given, lists) =
        (owned(&[&device().signed_by(&mute), &mute.signed_by(&root)]), RevocationList::read(&list).unwrap());
    let path = verify_path(&given, &anchors, NOW).unwrap();
    let unsigned = path.check_revocation(&[&lists[0]], None, NOW);
    assert_eq!(unsigned, Err(RevocationError::Unsigned { issuer: issuer() }));
}

#[test]
fn lists_that_are_about_some_certificates_only() {
    let root = ca("maker");
    let place = |uri: &str| CrlDistributionPoint { uris: vec![uri.to_owned()] };
    let leaf = device().with(|params| params.crl_distribution_points = vec![place("http://maker.example/1.crl")]);
    let (given, anchors) = (owned(&[&leaf.signed_by(&root)]), anchors(&[&root.root()]));
    let path = verify_path(&given, &anchors, NOW).unwrap();
    let check = |uri: &str, scope: Option<CrlScope>| {
        let point = CrlIssuingDistributionPoint { distribution_point: place(uri), scope };
        let der = root.list(|list| list.issuing_distribution_point = Some(point));
        let lists = RevocationList::read(&der).unwrap();
        path.check_revocation(&[&lists[0]], None, NOW)
    };
    let missing = Err(RevocationError::Missing { issuer: "CN=maker".to_owned() });
    assert_eq!(check("http://maker.example/1.crl", None), Ok(()));
    assert_eq!(check("http://maker.example/1.crl", Some(CrlScope::UserCertsOnly)), Ok(()));
    assert_eq!(check("http://maker.example/1.crl", Some(CrlScope::CaCertsOnly)), missing);
    assert_eq!(check("http://maker.example/2.crl", None), missing);
}

#[test]
fn lists_that_cannot_be_read() {
    let der = ca("maker").list(|_| {});
    assert_eq!(RevocationList::read(&der).unwrap()[0].issuer(), "CN=maker");
    let pem = [to_pem("X509 CRL", &der), to_pem("X509 CRL", &ca("other").list(|_| {}))].concat();
    assert_eq!(RevocationList::read(pem.as_bytes()).unwrap().len(), 2);
    let error = |bytes: &[u8]| RevocationList::read(bytes).map(|_| ()).unwrap_err();
    assert_eq!(error(&[0xff]), RevocationListError::Malformed);
    assert_eq!(error(&[&der[..], &[0]].concat()), RevocationListError::Malformed);
    assert_eq!(error(&der[..der.len() - 1]), RevocationListError::Malformed);
    // An entry without a date: of such a list nothing after it is read.
    let entries = ca("maker").list(|list| list.revoked_certs = vec![entry(1)]);
    let at = entries.windows(5).position(|part| part[0] == 0x17 && part[1] == 13).unwrap();
    let last = entries.windows(2).rposition(|part| part == [0x17, 13]).unwrap();
    assert!(last > at, "the date of the entry is the last one");
    let mut odd = entries;
    odd[last] = 0x04;
    assert_eq!(error(&odd), RevocationListError::Malformed);
    assert!(matches!(error(b"text"), RevocationListError::Pem(_)));
    assert!(matches!(error(pem.repeat(9).as_bytes()), RevocationListError::TooMany { found: 18 }));
}

#[test]
fn anchors_are_cas() {
    let (root, leaf) = (ca("maker").root(), device().signed_by(&ca("maker")));
    let pem = |ders: &[&[u8]]| ders.iter().map(|der| to_pem("CERTIFICATE", der)).collect::<String>();
    assert!(PathAnchors::from_pem(&pem(&[&root])).is_ok());
    assert_eq!(PathAnchors::from_pem(&pem(&[&root, &leaf])), Err(PathAnchorError::NotCa { at: 2 }));
    assert_eq!(PathAnchors::from_pem(&pem(&[b"x"])), Err(PathAnchorError::NotCa { at: 1 }));
    assert!(matches!(PathAnchors::from_pem(""), Err(PathAnchorError::Pem(_))));
    assert_eq!(PathAnchors::from_pem(&pem(&[&root]).repeat(257)), Err(PathAnchorError::TooMany { found: 257 }));
}

#[test]
fn only_the_key_in_the_certificate_signs() {
    let (root, device) = (ca("maker"), device());
    let given = owned(&[&device.signed_by(&root)]);
    let leaf = UnprovenLeaf::first(&given).unwrap();
    let sign = |key: &KeyPair, text: &[u8]| rcgen::SigningKey::sign(key, text).unwrap();
    assert_eq!(leaf.signed(b"text", &sign(&device.key, b"text")), Ok(()));
    assert_eq!(leaf.signed(b"text", &sign(&root.key, b"text")), Err(BadSignature));
    assert_eq!(leaf.signed(b"other", &sign(&device.key, b"text")), Err(BadSignature));
    assert_eq!(leaf.signed(b"text", b""), Err(BadSignature));
    assert_eq!(UnprovenLeaf::first(&[root.root()]).map(|_| ()), Err(PathError::LeafIsCa));
    assert_eq!(UnprovenLeaf::first(&[]).map(|_| ()), Err(PathError::Empty));
}
