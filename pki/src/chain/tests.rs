//! Chains: length, order, unrelated intermediates, revocation lists.

use std::time::Duration;

use super::*;
use crate::crl::{RevocationReason, RevokedEntry, crl};
use crate::name::Role;
use crate::testing::{HOUR, NOW, World, serial, world, world_named};

const MACHINE: &str = "spiffe://lab/machine/m";

fn verify(
    world: &World,
    leaf: &[u8],
    intermediates: &[&[u8]],
    crls: &[&[u8]],
    now: UnixTime,
) -> Result<usize, ChainError> {
    verify_chain(leaf, intermediates, &world.anchors().set, Eku::ClientAuth, crls, now).map(|chain| {
        assert_eq!(chain.leaf_der(), leaf);
        assert_eq!(chain.anchor(), world.root.pin());
        chain.len()
    })
}

#[test]
fn order_and_strangers_do_not_matter() {
    let (world, other) = (world(), world_named("other"));
    let leaf = world.issue(MACHINE).der;
    let ca = world.ca(Role::Machine).cert_der();
    let (people, root) = (world.ca(Role::Person).cert_der(), world.root.cert_der());
    let alien = other.ca(Role::Machine).cert_der();
    assert_eq!(verify(&world, &leaf, &[ca], &[], NOW), Ok(3));
    assert_eq!(verify(&world, &leaf, &[ca, root], &[], NOW), Ok(3));
    assert_eq!(verify(&world, &leaf, &[root, people, alien, ca], &[], NOW), Ok(3));
    assert_eq!(verify(&world, &leaf, &[&[0xff; 9], &[], ca], &[], NOW), Ok(3));
    assert_eq!(verify(&world, &leaf, &[], &[], NOW), Err(ChainError::UnknownIssuer));
    assert_eq!(verify(&world, &leaf, &[people, root], &[], NOW), Err(ChainError::UnknownIssuer));
    assert_eq!(verify(&other, &leaf, &[ca, root], &[], NOW), Err(ChainError::UnknownIssuer));
    let many = ChainError::TooManyIntermediates { found: 13 };
    assert_eq!(verify(&world, &leaf, &[ca; 13], &[], NOW), Err(many));
}

#[test]
fn times() {
    let world = world();
    let issued = world.issue(MACHINE);
    let second = Duration::from_secs(1);
    let at = |now| verify(&world, &issued.der, &[world.ca(Role::Machine).cert_der()], &[], now);
    assert_eq!(at(issued.not_before), Ok(3));
    assert_eq!(at(issued.not_after), Ok(3));
    let early = CertFault::NotYetValid { from: issued.not_before };
    assert_eq!(at(issued.not_before.minus(second)), Err(ChainError::Leaf(early)));
    let late = CertFault::Expired { at: issued.not_after };
    assert_eq!(at(issued.not_after.plus(second)), Err(ChainError::Leaf(late)));
    assert_eq!(at(UnixTime::new(u64::MAX)).map_err(|e| matches!(e, ChainError::Leaf(_))), Err(true));
}

#[test]
fn signatures() {
    let world = world();
    let ca = world.ca(Role::Machine).cert_der();
    let mut leaf = world.issue(MACHINE).der;
    *leaf.last_mut().unwrap() ^= 1;
    assert!(verify(&world, &leaf, &[ca], &[], NOW).is_err());
    let mut broken = ca.to_vec();
    *broken.last_mut().unwrap() ^= 1;
    assert!(verify(&world, &world.issue(MACHINE).der, &[&broken], &[], NOW).is_err());
}

fn entry(at: u64) -> RevokedEntry {
    RevokedEntry { serial: serial(7), at: UnixTime::new(at), reason: RevocationReason::KeyCompromise }
}

#[test]
fn lists() {
    let world = world();
    let leaf = world.issue(MACHINE).der;
    let ca = world.ca(Role::Machine);
    let chain = [ca.cert_der()];
    let list = |entries: &[RevokedEntry], role, from: UnixTime| {
        crl(world.ca(role), entries, 1, from, from.plus(HOUR)).unwrap()
    };
    let refused = |reason| Err(ChainError::List { reason });
    let empty = list(&[], Role::Machine, NOW);
    assert_eq!(verify(&world, &leaf, &chain, &[&empty], NOW), Ok(3));
    let revoked = list(&[entry(1)], Role::Machine, NOW);
    assert_eq!(verify(&world, &leaf, &chain, &[&revoked], NOW), Err(ChainError::Revoked));
    let people = list(&[entry(1)], Role::Person, NOW);
    assert_eq!(verify(&world, &leaf, &chain, &[&empty, &people], NOW), Ok(3));
    assert_eq!(verify(&world, &leaf, &chain, &[&people], NOW), refused("none of them covers the certificate"));
    let stale = list(&[], Role::Machine, NOW.minus(2 * HOUR));
    assert_eq!(verify(&world, &leaf, &chain, &[&stale], NOW), refused("it is out of date"));
    let future = list(&[], Role::Machine, NOW.plus(HOUR));
    assert_eq!(verify(&world, &leaf, &chain, &[&future], NOW), refused("it is from the future"));
    assert_eq!(verify(&world, &leaf, &chain, &[&[]], NOW), refused("it cannot be read"));
    assert_eq!(verify(&world, &leaf, &chain, &[&[&empty[..], &[0]].concat()], NOW), refused("bytes follow it"));
    let mut forged = empty.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(verify(&world, &leaf, &chain, &[&forged], NOW).is_err());
}

#[test]
fn hosts() {
    let world = world();
    let leaf = world.issue("spiffe://lab/gateway/g").der;
    let anchors = world.anchors();
    let ca = world.ca(Role::Gateway).cert_der();
    let chain = verify_chain(&leaf, &[ca], &anchors.set, Eku::ServerAuth, &[], NOW).unwrap();
    for (host, want) in [
        ("gate.lab.example", true),
        ("GATE.lab.example", true),
        ("ssh--m.gate.lab.example", true),
        ("192.0.2.7", true),
        ("2001:db8::7", true),
        ("[2001:db8::7]", true),
        ("a.b.gate.lab.example", false),
        ("lab.example", false),
        ("192.0.2.8", false),
        ("g", false),
        ("gate.lab.example:443", false),
        ("", false),
        ("..", false),
    ] {
        assert_eq!(chain.matches_host(host), want, "{host}");
    }
}
