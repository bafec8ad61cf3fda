//! Certification paths of others. Whoever is taken is no CA, lives now, and leads to an anchor; and whoever is on a list of its issuer is
//! not taken.

use std::{sync::LazyLock, time::Duration};

use pki::{
    PathAnchors, RevocationError, RevocationList, RevocationReason, RevokedEntry, Role, Serial, UnixTime, UnprovenLeaf,
    to_pem, verify_path,
};
use x509_parser::{prelude::FromDer as _, revocation_list::CertificateRevocationList};

use crate::{
    Outcome,
    parts::{inner, join, mode, pieces, signed, with_mode},
    world::{NOW, WORLD, leaf},
};

/// The leaf is the part that is signed; the CA of the machines signs it here.
const SIGN_LEAF: u8 = 1;
/// The second certificate is the part that is signed; the root signs it here.
const SIGN_CA: u8 = 2;
/// The last piece is the signed part of a revocation list; the CA of the machines signs it here.
const SIGN_LIST: u8 = 4;

/// More than is read, so that this limit is met too.
const PIECES_MAX: usize = 12;

static ANCHORS: LazyLock<PathAnchors> =
    LazyLock::new(|| PathAnchors::from_pem(&to_pem("CERTIFICATE", WORLD.root.cert_der())).expect("our root"));

/// Judges one input: certificates, the leaf first, and in one mode a list behind them.
pub fn check(data: &[u8]) -> Outcome {
    let Some((mode, rest)) = mode(data) else { return Outcome::Refused };
    let mut sent: Vec<Vec<u8>> = pieces(rest, PIECES_MAX).into_iter().map(<[u8]>::to_vec).collect();
    let list = (mode & SIGN_LIST != 0).then(|| sent.pop().map(|list| signed(&list, &WORLD.machines_key))).flatten();
    if let Some(leaf) = sent.first_mut().filter(|_| mode & SIGN_LEAF != 0) {
        *leaf = signed(leaf, &WORLD.machines_key);
    }
    if let Some(ca) = sent.get_mut(1).filter(|_| mode & SIGN_CA != 0) {
        *ca = signed(ca, &WORLD.root_key);
    }
    let Ok(path) = verify_path(&sent, &ANCHORS, NOW) else { return Outcome::Refused };
    let leaf = path.leaf();
    assert!(leaf.not_after >= NOW);
    assert!(UnprovenLeaf::first(&sent).is_ok(), "a leaf that is good only with a path");
    let late = UnixTime::new(leaf.not_after.secs().saturating_add(1));
    assert!(verify_path(&sent, &ANCHORS, late).is_err(), "after its end");
    assert!(verify_path(&sent, &PathAnchors::default(), NOW).is_err(), "without an anchor");
    let below = path.below_anchor();
    assert!(verify_path(&below, &ANCHORS, NOW).is_ok_and(|again| again.leaf() == leaf), "its own path");
    assert!(matches!(path.check_revocation(&[], None, NOW), Err(RevocationError::Missing { .. })));
    let trailing: Vec<Vec<u8>> = [[&sent[0][..], &[0]].concat()].into_iter().chain(sent[1..].to_vec()).collect();
    assert!(verify_path(&trailing, &ANCHORS, NOW).is_err(), "with a byte after it");
    if let Some(der) = list
        && let Ok(lists) = RevocationList::read(&der)
        && path.check_revocation(&lists.iter().collect::<Vec<_>>(), None, NOW).is_ok()
    {
        let (_, list) = CertificateRevocationList::from_der(&der).expect("what was taken can be read");
        let (_, cert) = x509_parser::certificate::X509Certificate::from_der(&sent[0]).expect("as was the leaf");
        assert!(list.iter_revoked_certificates().all(|entry| entry.serial() != &cert.serial), "it is on the list");
        assert_eq!(list.issuer().as_raw(), cert.issuer().as_raw(), "the list is another CA's");
    }
    Outcome::Taken
}

/// A machine, whole and in the parts that are signed, and lists.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let (machine, machines) = (leaf(Role::Machine), WORLD.machines.cert_der());
    let root = WORLD.root.cert_der();
    let list = |serial: u8| {
        let entry =
            RevokedEntry { serial: Serial::from_entropy([serial; 16]), at: NOW, reason: RevocationReason::Unspecified };
        pki::crl(&WORLD.machines, &[entry], 1, NOW, NOW.plus(Duration::from_secs(3600))).expect("a list")
    };
    vec![
        with_mode(0, &join(&[&machine, machines])),
        with_mode(0, &join(&[&machine, root, machines])),
        with_mode(SIGN_LEAF, &join(&[inner(&machine), machines])),
        with_mode(SIGN_CA, &join(&[&machine, inner(machines)])),
        with_mode(SIGN_LEAF | SIGN_CA, &join(&[inner(&machine), inner(machines)])),
        with_mode(SIGN_LIST, &join(&[&machine, machines, inner(&list(77))])),
        with_mode(SIGN_LIST, &join(&[&machine, machines, inner(&list(42))])),
    ]
}
