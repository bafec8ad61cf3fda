//! A good draft with one change per case; the rule about the changed field refuses it.

use std::net::{IpAddr, Ipv4Addr};

use rcgen::{
    BasicConstraints, CrlDistributionPoint, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose,
    NameConstraints, SerialNumber,
};

use super::*;
use crate::profile::{AdmittedBy, AssuranceLevel, AssuranceOf};
use crate::testing::{HOUR, NOW, leaf_params};
use crate::{LeafRequest, draft};

const MACHINE: &str = "spiffe://lab/machine/m";
const PERSON: &str = "spiffe://lab/person/p";
const GATEWAY: &str = "spiffe://lab/gateway/g";

#[track_caller]
fn bent(uri: &str, bend: impl FnOnce(&mut CertificateParams), want: &LintError) {
    assert_eq!(linted(uri, bend), Err(want.clone()));
}

fn linted(uri: &str, bend: impl FnOnce(&mut CertificateParams)) -> Result<(), LintError> {
    let (mut params, key) = leaf_params(uri);
    bend(&mut params);
    let identity = Identity::parse(uri).unwrap();
    check(&Candidate {
        params: &params,
        key: &key,
        identity: &identity,
        profile: Profile::of(identity.role),
        list: None,
        not_before: NOW.minus(BACKDATE),
        not_after: NOW.plus(24 * HOUR),
    })
}

#[test]
fn serials() {
    for bytes in [&[0_u8; 16][..], &[0x80], &[], &[1; 21]] {
        bent(MACHINE, |p| p.serial_number = Some(SerialNumber::from_slice(bytes)), &LintError::Serial);
    }
    bent(MACHINE, |p| p.serial_number = None, &LintError::Serial);
}

#[test]
fn validity() {
    let wrong = LintError::Validity { not_before: NOW.minus(BACKDATE), not_after: NOW.plus(24 * HOUR) };
    bent(MACHINE, |p| p.not_after += ::time::Duration::seconds(1), &wrong);
    bent(MACHINE, |p| p.not_before += ::time::Duration::nanoseconds(1), &wrong);
}

#[test]
fn subjects() {
    bent(MACHINE, |p| p.distinguished_name = DistinguishedName::new(), &LintError::Subject);
    bent(MACHINE, |p| p.distinguished_name.push(DnType::CommonName, "other"), &LintError::Subject);
    bent(MACHINE, |p| p.distinguished_name.push(DnType::OrganizationName, "m"), &LintError::Subject);
}

#[test]
fn identities() {
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    bent(MACHINE, |p| p.subject_alt_names.push(uri(MACHINE)), &LintError::IdentityCount { found: 2 });
    bent(MACHINE, |p| p.subject_alt_names.clear(), &LintError::IdentityCount { found: 0 });
    let mismatch = LintError::IdentityMismatch { found: PERSON.to_owned(), wanted: MACHINE.to_owned() };
    bent(MACHINE, |p| p.subject_alt_names[0] = uri(PERSON), &mismatch);
}

#[test]
fn other_names() {
    let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
    let foreign = |name: &str, role| LintError::ForeignName { name: name.to_owned(), role };
    bent(PERSON, |p| p.subject_alt_names.push(dns("p.lab")), &foreign("p.lab", Role::Person));
    bent(MACHINE, |p| p.subject_alt_names.push(dns("gate.lab")), &foreign("gate.lab", Role::Machine));
    bent(MACHINE, |p| p.subject_alt_names.truncate(1), &foreign("", Role::Machine));
    bent(
        MACHINE,
        |p| p.subject_alt_names.push(dns("m.machine.lab")),
        &LintError::DuplicateName { name: "m.machine.lab".to_owned() },
    );
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    bent(MACHINE, |p| p.subject_alt_names.push(SanType::IpAddress(here)), &foreign("127.0.0.1", Role::Machine));
    let anywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    bent(GATEWAY, |p| p.subject_alt_names.push(SanType::IpAddress(anywhere)), &foreign("0.0.0.0", Role::Gateway));
    bent(GATEWAY, |p| p.subject_alt_names.push(dns("a b")), &LintError::Name { name: "a b".to_owned() });
    bent(
        GATEWAY,
        |p| p.subject_alt_names.push(dns("a_b.example")),
        &LintError::Name { name: "a_b.example".to_owned() },
    );
    bent(GATEWAY, |p| p.subject_alt_names.truncate(1), &LintError::NoGatewayName);
    let mail = SanType::Rfc822Name("a@b.example".try_into().unwrap());
    let text = format!("{mail:?}");
    bent(GATEWAY, |p| p.subject_alt_names.push(mail), &foreign(&text, Role::Gateway));
}

#[test]
fn usages() {
    bent(MACHINE, |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign), &LintError::KeyUsage);
    bent(MACHINE, |p| p.key_usages.clear(), &LintError::KeyUsage);
    let machine = LintError::ExtendedKeyUsage { role: Role::Machine };
    bent(MACHINE, |p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth), &machine);
    bent(MACHINE, |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any], &machine);
    bent(MACHINE, |p| p.extended_key_usages.clear(), &machine);
    let gateway = LintError::ExtendedKeyUsage { role: Role::Gateway };
    bent(GATEWAY, |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth], &gateway);
}

#[test]
fn nothing_of_a_ca() {
    bent(MACHINE, |p| p.is_ca = IsCa::NoCa, &LintError::Ca);
    bent(MACHINE, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), &LintError::Ca);
    let constraints = NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees: Vec::new() };
    bent(MACHINE, |p| p.name_constraints = Some(constraints), &LintError::CaExtensions);
}

#[test]
fn lists() {
    let point = |uris: &[&str]| CrlDistributionPoint { uris: uris.iter().map(|&uri| uri.to_owned()).collect() };
    let check = |points: Vec<CrlDistributionPoint>, list, want| {
        let (mut params, key) = leaf_params(MACHINE);
        params.crl_distribution_points = points;
        let identity = Identity::parse(MACHINE).unwrap();
        let got = one_list_or_none(&Candidate {
            params: &params,
            key: &key,
            identity: &identity,
            profile: Profile::of(Role::Machine),
            list,
            not_before: NOW.minus(BACKDATE),
            not_after: NOW.plus(HOUR),
        });
        assert_eq!(got, want, "{list:?}");
    };
    check(vec![], None, Ok(()));
    check(vec![point(&["http://a"])], Some("http://a"), Ok(()));
    for (points, list) in [
        (vec![], Some("http://a")),
        (vec![point(&["http://a"])], None),
        (vec![point(&["http://a"])], Some("http://b")),
        (vec![point(&["http://a", "http://b"])], Some("http://a")),
        (vec![point(&["http://a"]), point(&["http://a"])], Some("http://a")),
    ] {
        check(points, list, Err(LintError::List));
    }
}

#[test]
fn key_identifiers() {
    bent(MACHINE, |p| p.use_authority_key_identifier_extension = false, &LintError::KeyIdentifiers);
    bent(MACHINE, |p| p.key_identifier_method = KeyIdMethod::Sha256, &LintError::KeyIdentifiers);
    bent(MACHINE, |p| p.key_identifier_method = KeyIdMethod::PreSpecified(vec![0; 20]), &LintError::KeyIdentifiers);
}

#[test]
fn policies() {
    let policies = |oids: &[&[u8]]| CustomExtension::from_oid_content(&oid::CERTIFICATE_POLICIES, oid::policies(oids));
    let (level, class) = (AssuranceLevel::Software.oid(), AdmittedBy::Policy.oid());
    bent(MACHINE, |p| p.custom_extensions.clear(), &LintError::Policies);
    bent(MACHINE, |p| p.custom_extensions = vec![policies(&[&level])], &LintError::Policies);
    bent(MACHINE, |p| p.custom_extensions = vec![policies(&[&level, &level])], &LintError::Policies);
    bent(
        MACHINE,
        |p| p.custom_extensions = vec![policies(&[&level, &AssuranceLevel::None.oid()])],
        &LintError::Policies,
    );
    bent(MACHINE, |p| p.custom_extensions = vec![policies(&[&level, &class, &class])], &LintError::Policies);
    bent(MACHINE, |p| p.custom_extensions = vec![policies(&[&level, &Role::Machine.oid()])], &LintError::Policies);
    let (hard, of) = (AssuranceLevel::Hardware.oid(), AssuranceOf::ALL.map(AssuranceOf::oid));
    for (bad, oids) in [
        (false, &[&hard[..], &class] as &[&[u8]]),
        (false, &[&hard, &class, &of[0]]),
        (false, &[&AssuranceLevel::Measured.oid(), &class, &of[1]]),
        // Of nothing, of a key that is not in hardware, of both, of an unknown thing.
        (true, &[&class, &of[0]]),
        (true, &[&level, &class, &of[1]]),
        (true, &[&hard, &class, &of[0], &of[1]]),
        (true, &[&hard, &class, &of[0], &of[0]]),
        (true, &[&hard, &class, &oid::ours(oid::ASSURANCE_OF, 3)]),
        (true, &[&hard, &of[0], &of[1]]),
    ] {
        let want = if bad { Err(LintError::Policies) } else { Ok(()) };
        assert_eq!(linted(MACHINE, |p| p.custom_extensions = vec![policies(oids)]), want, "{oids:?}");
    }
    bent(MACHINE, |p| p.custom_extensions[0].set_criticality(true), &LintError::Policies);
    bent(MACHINE, |p| p.custom_extensions.push(policies(&[&level, &class])), &LintError::Policies);
}

#[test]
fn extensions_twice() {
    let (mut params, key) = leaf_params(MACHINE);
    let identity = Identity::parse(MACHINE).unwrap();
    let own = [2, 5, 29, 17];
    params.custom_extensions = vec![CustomExtension::from_oid_content(&own, vec![0x30, 0])];
    let candidate = Candidate {
        params: &params,
        key: &key,
        identity: &identity,
        profile: Profile::of(Role::Machine),
        list: None,
        not_before: NOW.minus(BACKDATE),
        not_after: NOW.plus(HOUR),
    };
    assert_eq!(no_extension_twice(&candidate), Err(LintError::DuplicateExtension));
    assert_eq!(
        role_matches_profile(&Candidate { profile: Profile::of(Role::Person), ..candidate }),
        Err(LintError::Role { profile: Role::Person, identity: Role::Machine })
    );
}

#[track_caller]
fn drafted(bend: impl FnOnce(&mut LeafRequest), now: UnixTime, want: &LintError) {
    let mut request = crate::testing::leaf_request(MACHINE);
    bend(&mut request);
    assert_eq!(draft(request, now).lint().unwrap_err(), *want);
}

#[test]
fn drafts() {
    use crate::GatewayName;
    let at = UnixTime::LAST_IN_CERTIFICATES;
    let zero = LintError::Validity { not_before: NOW.minus(BACKDATE), not_after: NOW };
    drafted(|r| r.lifetime = std::time::Duration::ZERO, NOW, &zero);
    drafted(|_| (), at, &LintError::Date { at: at.plus(24 * HOUR) });
    let foreign = LintError::ForeignName { name: "gate.lab".to_owned(), role: Role::Machine };
    drafted(|r| r.gateway_names = vec![GatewayName::Dns("gate.lab".to_owned())], NOW, &foreign);
    let name = "gät.lab".to_owned();
    drafted(|r| r.gateway_names = vec![GatewayName::Dns(name.clone())], NOW, &LintError::Name { name: name.clone() });
    let role = LintError::NoGatewayName;
    drafted(|r| r.identity = Identity::parse(GATEWAY).unwrap(), NOW, &role);
    let month = LintError::Lifetime { role: Role::Machine, secs: 30 * 86_400 + 1, max_secs: 30 * 86_400 };
    let (params, key) = leaf_params(MACHINE);
    let identity = Identity::parse(MACHINE).unwrap();
    let got = lifetime_is_within_the_profile(&Candidate {
        params: &params,
        key: &key,
        identity: &identity,
        profile: Profile::of(Role::Machine),
        list: None,
        not_before: NOW.minus(BACKDATE),
        not_after: NOW.plus(30 * 24 * HOUR).plus(std::time::Duration::from_secs(1)),
    });
    assert_eq!(got, Err(month));
}
