//! Peers' certificates. Whoever is taken has one identity in our domain, lives now, is no CA, and is taken by the path
//! builder alone as well: our rules only ever refuse more.

use pki::{Eku, Peer, Role, UnixTime, verify_peer};
use rustls_pki_types::CertificateDer;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::{
    Outcome,
    parts::{inner, join, mode, pieces, signed, with_mode},
    world::{NOW, WORLD, leaf},
};

/// The leaf is the part that is signed; the CA of the machines signs it here.
const SIGN_LEAF: u8 = 1;
/// The first intermediate is the part that is signed; the root signs it here.
const SIGN_CA: u8 = 2;

/// More than the product looks at, so that this limit is met too.
const PIECES_MAX: usize = 16;

const ROLES: [Role; 2] = [Role::Machine, Role::Person];

/// Judges one input: a leaf, and what was sent after it.
pub fn check(data: &[u8]) -> Outcome {
    let Some((mode, rest)) = mode(data) else { return Outcome::Refused };
    let mut sent: Vec<Vec<u8>> = pieces(rest, PIECES_MAX).into_iter().map(<[u8]>::to_vec).collect();
    if let Some(leaf) = sent.first_mut().filter(|_| mode & SIGN_LEAF != 0) {
        *leaf = signed(leaf, &WORLD.machines_key);
    }
    if let Some(ca) = sent.get_mut(1).filter(|_| mode & SIGN_CA != 0) {
        *ca = signed(ca, &WORLD.root_key);
    }
    let Some((leaf, intermediates)) = sent.split_first() else { return Outcome::Refused };
    let intermediates: Vec<&[u8]> = intermediates.iter().map(Vec::as_slice).collect();
    // A gateway is judged by other rules. Unless the root signs whatever it is given, nothing here is one.
    let gateway = pki::verify_gateway(leaf, &intermediates, &WORLD.anchors, "gate.example", NOW);
    assert!(gateway.is_err() || mode & SIGN_CA != 0, "a gateway that nobody certified");
    match verify_peer(leaf, &intermediates, &WORLD.anchors, &ROLES, NOW) {
        Ok(peer) => {
            promises(&peer, leaf, &intermediates);
            Outcome::Taken
        }
        Err(_) => Outcome::Refused,
    }
}

fn promises(peer: &Peer, leaf: &[u8], intermediates: &[&[u8]]) {
    let again = |leaf: &[u8], roles: &[Role], now| verify_peer(leaf, intermediates, &WORLD.anchors, roles, now);
    let (rest, parsed) = X509Certificate::from_der(leaf).expect("what was taken can be read");
    assert!(rest.is_empty());
    let names = parsed.subject_alternative_name().ok().flatten().expect("a name").value;
    let uris: Vec<&str> = names
        .general_names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    assert_eq!(uris, [peer.identity.to_string()]);
    assert_eq!(peer.identity.domain, WORLD.domain);
    assert!(ROLES.contains(&peer.identity.role));
    assert!(!parsed.is_ca());
    assert_eq!(parsed.public_key().raw, peer.spki);
    let secs = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    assert_eq!(secs(parsed.validity().not_before), peer.not_before.secs());
    assert_eq!(secs(parsed.validity().not_after), peer.not_after.secs());
    let serial: Vec<u8> = peer.serial.as_bytes().iter().copied().skip_while(|byte| *byte == 0).collect();
    let raw: Vec<u8> = parsed.raw_serial().iter().copied().skip_while(|byte| *byte == 0).collect();
    assert_eq!(serial, raw);

    // Only now, only in this role, only with its issuer, only in this form.
    assert!((peer.not_before..=peer.not_after).contains(&NOW));
    assert!(again(leaf, &ROLES, UnixTime::new(peer.not_after.secs().saturating_add(1))).is_err(), "after its end");
    let before = peer.not_before.secs().checked_sub(1);
    assert!(before.is_none_or(|secs| again(leaf, &ROLES, UnixTime::new(secs)).is_err()), "before its start");
    let others: Vec<Role> = Role::ALL.into_iter().filter(|role| *role != peer.identity.role).collect();
    assert!(again(leaf, &others, NOW).is_err(), "in another role");
    assert!(verify_peer(leaf, &[], &WORLD.anchors, &ROLES, NOW).is_err(), "without an issuing CA");
    assert!(again(&[leaf, &[0]].concat(), &ROLES, NOW).is_err(), "with a byte after it");
    path_builder_agrees(leaf, intermediates);
}

fn path_builder_agrees(leaf: &[u8], intermediates: &[&[u8]]) {
    let root = CertificateDer::from(WORLD.root.cert_der());
    let anchor = webpki::anchor_from_trusted_cert(&root).expect("our root");
    let leaf = CertificateDer::from(leaf);
    let intermediates: Vec<CertificateDer<'_>> = intermediates.iter().map(|der| CertificateDer::from(*der)).collect();
    let time = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.secs()));
    let taken = EndEntityCert::try_from(&leaf).and_then(|leaf| {
        let usage = KeyUsage::client_auth();
        leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[anchor], &intermediates, time, usage, None, None)
            .map(drop)
    });
    assert_eq!(taken, Ok(()), "taken by us and not by the path builder");
    // The same question without identities.
    let anchors = pki::AnchorSet::new(&[WORLD.root.cert_der()], NOW).expect("our root");
    let slices: Vec<&[u8]> = intermediates.iter().map(AsRef::as_ref).collect();
    assert!(pki::verify_chain(&leaf, &slices, &anchors, Eku::ClientAuth, &[], NOW).is_ok());
}

/// A machine and a person as they connect, whole and in the parts that are signed.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let (machine, person) = (leaf(Role::Machine), leaf(Role::Person));
    let (machines, people, root) = (WORLD.machines.cert_der(), WORLD.people.cert_der(), WORLD.root.cert_der());
    vec![
        with_mode(0, &join(&[&machine, machines])),
        with_mode(0, &join(&[&machine, root, people, machines])),
        with_mode(0, &join(&[&person, people])),
        with_mode(0, &join(&[&person, machines])),
        with_mode(SIGN_LEAF, &join(&[inner(&machine), machines])),
        with_mode(SIGN_LEAF, &join(&[inner(&person), machines])),
        with_mode(SIGN_CA, &join(&[&machine, inner(machines)])),
        with_mode(SIGN_CA, &join(&[&machine, inner(root), machines])),
        with_mode(SIGN_LEAF | SIGN_CA, &join(&[inner(&machine), inner(machines)])),
    ]
}
