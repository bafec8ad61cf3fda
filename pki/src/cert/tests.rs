//! Reading never panics, whatever the bytes. The rules themselves are exercised in `anchor`, `chain` and `verify`.

use proptest::prelude::{any, proptest};

use super::*;
use crate::testing::world;

#[test]
fn sizes() {
    assert_eq!(Certificate::read(&[]).unwrap_err(), CertFault::Malformed);
    assert_eq!(Certificate::read(&[0x30; CERT_MAX]).unwrap_err(), CertFault::Malformed);
    let long = CertFault::TooLong { len: CERT_MAX + 1 };
    assert_eq!(Certificate::read(&[0x30; CERT_MAX + 1]).unwrap_err(), long);
}

#[test]
fn serials() {
    for (content, good) in [(&[1_u8][..], true), (&[0, 0x80], true), (&[1; 20], true)] {
        assert_eq!(check_serial(content).is_ok(), good);
    }
    for content in [&[][..], &[0], &[0, 0], &[0x80], &[1; 21]] {
        assert_eq!(check_serial(content), Err(CertFault::Serial));
    }
}

/// A good certificate, truncated at every length.
#[test]
fn truncated() {
    let leaf = world().issue("spiffe://lab/gateway/g").der;
    for len in 0..leaf.len() {
        assert!(Certificate::read(&leaf[..len]).is_err());
    }
}

proptest! {
    #[test]
    fn never_panics(bytes: Vec<u8>) { let _ = Certificate::read(&bytes); }

    #[test]
    fn mutations_never_panic(changes: Vec<(proptest::sample::Index, u8)>, cut in any::<proptest::sample::Index>()) {
        thread_local!(static LEAF: Vec<u8> = world().issue("spiffe://lab/machine/m").der);
        let mut der = LEAF.with(Clone::clone);
        for (at, value) in changes { let at = at.index(der.len()); der[at] = value; }
        let _ = Certificate::read(&der[..cut.index(der.len())]);
        if let Ok(cert) = Certificate::read(&der) {
            let _ = (cert.check_leaf(Eku::ClientAuth, Unstated::Taken), cert.check_issuer(), cert.check_anchor(crate::testing::NOW));
            let _ = (cert.uris(), cert.role_markers(), cert.assurances(), cert.ca_domain(), cert.is_self_signed());
        }
    }
}
