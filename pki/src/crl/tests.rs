//! Fields of revocation lists, read by another parser. For signatures and other tools see `tests/interop.rs`.

use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::*;
use crate::key::KeyDigest;
use crate::name::Role;
use crate::testing::{HOUR, NOW, serial, world};

fn entry(n: u8, reason: RevocationReason) -> RevokedEntry {
    RevokedEntry { serial: serial(n), at: NOW, reason }
}

#[test]
fn a_list_says_what_it_was_given() {
    let world = world();
    let entries = [
        entry(3, RevocationReason::Unspecified),
        entry(4, RevocationReason::KeyCompromise),
        entry(5, RevocationReason::AffiliationChanged),
        entry(6, RevocationReason::Superseded),
        entry(7, RevocationReason::CessationOfOperation),
        entry(8, RevocationReason::CertificateHold),
        entry(9, RevocationReason::PrivilegeWithdrawn),
    ];
    let ca = world.ca(Role::Machine);
    let der = crl(ca, &entries, 300, NOW, NOW.plus(HOUR)).unwrap();
    let (rest, list) = CertificateRevocationList::from_der(&der).unwrap();
    assert!(rest.is_empty());
    assert_eq!(list.crl_number().map(ToString::to_string).as_deref(), Some("300"));
    assert_eq!(list.last_update().timestamp(), 1_772_366_400);
    assert_eq!(list.next_update().unwrap().timestamp(), 1_772_370_000);
    let reasons: Vec<Option<u8>> =
        list.iter_revoked_certificates().map(|r| r.reason_code().map(|(_, code)| code.0)).collect();
    assert_eq!(reasons, [None, Some(1), Some(3), Some(4), Some(5), Some(6), Some(9)]);
    let serials: Vec<&[u8]> = list.iter_revoked_certificates().map(|r| r.raw_serial()).collect();
    assert_eq!(serials[0], serial(3).as_bytes());
}

#[track_caller]
fn check(entries: &[RevokedEntry], this: UnixTime, next: UnixTime, want: Result<(), IssueError>) {
    assert_eq!(crl(world().ca(Role::Person), entries, 1, this, next).map(|_| ()), want);
}

#[test]
fn refusals() {
    let far = UnixTime::new(u64::MAX);
    let one = entry(3, RevocationReason::Superseded);
    check(&[], NOW, NOW.plus(HOUR), Ok(()));
    check(&[], NOW, NOW, Err(IssueError::NextUpdate));
    check(&[], NOW, far, Err(IssueError::Date { at: far }));
    check(&[RevokedEntry { at: far, ..one }], NOW, NOW.plus(HOUR), Err(IssueError::Date { at: far }));
    check(&[one, one], NOW, NOW.plus(HOUR), Err(IssueError::DuplicateEntry { serial: serial(3) }));
}

#[track_caller]
fn url(text: &str, want: Result<&str, BadListsUrl>) {
    let got = ListsUrl::parse(text).map(|url| url.of(&KeyDigest::from_spki_der(b"ca")));
    let issuer = KeyDigest::from_spki_der(b"ca").hex();
    assert_eq!(got, want.map(|at| at.replace("ISSUER", &issuer)), "{text}");
}

#[test]
fn addresses_of_lists() {
    url("http://crl.lab.example", Ok("http://crl.lab.example/ISSUER"));
    url("http://crl.lab.example/", Ok("http://crl.lab.example/ISSUER"));
    url("https://gate.lab.example:8443/v1/crl", Ok("https://gate.lab.example:8443/v1/crl/ISSUER"));
    url("http://192.0.2.7:80/a/b", Ok("http://192.0.2.7:80/a/b/ISSUER"));
    url("http://[2001:db8::7]/crl", Ok("http://[2001:db8::7]/crl/ISSUER"));
    url("http://[2001:db8::7]:8080", Ok("http://[2001:db8::7]:8080/ISSUER"));
    url("crl.lab.example", Err(BadListsUrl::Scheme));
    url("ldap://crl.lab.example", Err(BadListsUrl::Scheme));
    url("http://crl.lab.example:http", Err(BadListsUrl::Port));
    url("http://crl.lab.example:65536/", Err(BadListsUrl::Port));
    url("http://*.lab.example", Err(BadListsUrl::Wildcard));
    url("http://:80/crl", Err(BadListsUrl::Host(BadName::Empty)));
    url("http://crl.lab.example/?role=", Err(BadListsUrl::Path));
    url("http://crl.lab.example/a b", Err(BadListsUrl::Path));
    url("http://crl.lab.example/\r\n", Err(BadListsUrl::Path));
    assert!(matches!(ListsUrl::parse("http://me@crl.lab.example"), Err(BadListsUrl::Host(_))));
    assert!(matches!(ListsUrl::parse("http://crl.lab.example\n/x"), Err(BadListsUrl::Host(_))));
    url(&format!("http://crl.lab.example/{}", "a".repeat(200)), Err(BadListsUrl::TooLong { max: 200 }));
}
