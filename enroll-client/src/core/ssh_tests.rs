//! Replies about SSH that are accepted and refused, and the lines printed from them.

use std::sync::Arc;

use pki::{Identity, KeyAlgorithm, SoftwareKey, SshCa, SshDraft, UnixTime};

use super::*;
use crate::testing::Authority;

fn ca(kind: SshKind) -> SshCa {
    SshCa::new(kind, Arc::new(SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap().0)).unwrap()
}

const NOW: UnixTime = UnixTime::new(100_000);

/// A client that trusts `authority` reads this reply.
fn read(authority: &Authority, reply: &SshCaReply) -> Result<Cas, Complaint> {
    let credential = authority.credential("person/alice", NOW);
    Cas::read(reply, credential.domain(), &credential.roots, Order::default(), NOW)
}

fn said(authority: &Authority, user: &[&str], host: &[&str]) -> SshCaReply {
    authority.ssh_cas(user, host, Role::Gateway)
}

#[test]
fn what_is_printed_for_ssh_and_sshd() {
    let [user, host, next] = [SshKind::User, SshKind::Host, SshKind::Host].map(|kind| ca(kind).public().line());
    let authority = Authority::new();
    let cas = read(&authority, &said(&authority, &[&user], &[&host, &next])).unwrap();
    assert_eq!(
        cas.known_hosts(&[]),
        [
            format!("@cert-authority *.machine.td.example {host}"),
            format!("@cert-authority *.machine.td.example {next}")
        ]
    );
    let also = ["edge-*", "[::1]:2222"].map(|text| Pattern::parse(text).unwrap());
    assert_eq!(cas.known_hosts(&also)[0], format!("@cert-authority *.machine.td.example,edge-*,[::1]:2222 {host}"));
    assert_eq!(cas.trusted_user_ca(), [format!("{user} lychgate@td.example")]);
}

#[test]
fn a_reply_cannot_smuggle_lines() {
    let good = ca(SshKind::User).public().line();
    let smuggled = format!("{good}\n@cert-authority * {good}");
    let authority = Authority::new();
    let said = |user: &[&str], host: &[&str]| said(&authority, user, host);
    for (reply, why) in [
        (said(&[&good], &[&smuggled]), "one of its SSH CAs cannot be used"),
        (said(&[&good], &["* ssh-ed25519 AAAA"]), "one of its SSH CAs cannot be used"),
        (said(&[], &[&good]), "it names no SSH CA"),
        (said(&[&good], &[]), "it names no SSH CA"),
        (SshCaReply { trust_domain: "other".into(), ..said(&[&good], &[&good]) }, "it speaks of another trust domain"),
    ] {
        let complaint = read(&authority, &reply).unwrap_err();
        assert!(complaint.what.contains(why), "{reply:?}: {complaint}");
    }
    // The comment is dropped.
    let cas = read(&authority, &said(&[&good], &[&format!("{good} * x")])).unwrap();
    assert_eq!(cas.known_hosts(&[]), [format!("@cert-authority *.machine.td.example {good}")]);
}

#[test]
fn cas_are_believed_on_the_word_of_a_ca_alone() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let (good, evil) = (ca(SshKind::User).public().line(), ca(SshKind::User).public().line());
    let signed = said(&ours, &[&good], &[&good]);
    let leaf = ours.credential("gateway/gw", NOW);
    let by_the_leaf = {
        let statement = wire::ssh::ca_statement("td.example", &signed.user, &signed.host);
        let signature = STANDARD.encode(leaf.key.sign(&statement).unwrap());
        SshCaReply { ca: pki::to_pem("CERTIFICATE", &leaf.leaf), signature, ..signed.clone() }
    };
    let swapped =
        |user: &str, host: &str| SshCaReply { user: vec![user.into()], host: vec![host.into()], ..signed.clone() };
    for (what, reply, want) in [
        ("as it is", signed.clone(), true),
        ("with another CA of people", swapped(&evil, &good), false),
        ("with another CA of machines", swapped(&good, &evil), false),
        ("with one more", SshCaReply { host: vec![good.clone(), evil.clone()], ..signed.clone() }, false),
        ("not signed", SshCaReply { ca: String::new(), signature: String::new(), ..signed.clone() }, false),
        ("signed by a foreign CA of our name", said(&foreign, &[&good], &[&good]), false),
        ("signed by our CA for machines", ours.ssh_cas(&[&good], &[&good], Role::Machine), false),
        ("signed by the gateway's own certificate", by_the_leaf, false),
    ] {
        let got = read(&ours, &reply).map_err(|complaint| complaint.exit);
        assert_eq!(got.as_ref().err(), (!want).then_some(&Exit::Untrusted), "{what}");
    }
}

/// An older reply has a valid signature and is refused by its order.
#[test]
fn cas_that_were_replaced_do_not_come_back() {
    let ours = Authority::new();
    let key = ca(SshKind::User).public().line();
    let credential = ours.credential("person/alice", NOW);
    let with_another_number = SshCaReply { order: 9, ..ours.ssh_cas_in_order(7, &key) };
    let without = ours.ssh_cas(&[&key], &[&key], Role::Gateway);
    for (what, reply, before, want) in [
        ("the first that is heard", ours.ssh_cas_in_order(7, &key), 0, true),
        ("the same again", ours.ssh_cas_in_order(7, &key), 7, true),
        ("a later one", ours.ssh_cas_in_order(8, &key), 7, true),
        ("an earlier one", ours.ssh_cas_in_order(6, &key), 7, false),
        ("an earlier one with a number that was not signed", with_another_number, 8, false),
        ("a gateway that knows no order, and none was heard", without.clone(), 0, true),
        ("a signature without order, and one was heard", without, 7, false),
    ] {
        let got = Cas::read(&reply, credential.domain(), &credential.roots, Order::new(before), NOW)
            .map_err(|complaint| complaint.exit);
        assert_eq!(got.err(), (!want).then_some(Exit::Untrusted), "{what}");
    }
}

#[test]
fn patterns() {
    for good in ["edge-7", "*.lab", "[10.0.0.?]:2222", "::1"] {
        assert_eq!(Pattern::parse(good).unwrap().to_string(), good);
    }
    for bad in ["", "a b", "a,b", "!a", "a\nb", "@cert-authority", "|1|x"] {
        assert!(Pattern::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_certificate_is_taken_only_for_this_key_and_purpose() {
    let [users, hosts] = [SshKind::User, SshKind::Host].map(ca);
    let (ours, other) = (ca(SshKind::User).public().clone(), ca(SshKind::User).public().clone());
    let identity = Identity::parse("spiffe://td.example/machine/edge-7").unwrap();
    let draft = SshDraft::host(ours.clone(), &identity, UnixTime::new(9_000), [1; 8], UnixTime::new(1_000)).unwrap();
    let reply = SshReply {
        certificate: draft.issue(&hosts, [1; 32]).unwrap().line,
        serial: "0".into(),
        key_id: "something else".into(),
        principals: vec![],
        not_before: 0,
        not_after: 0,
        ca: hosts.public().line(),
        time: 0,
    };
    let taken = check(reply.clone(), SshKind::Host, &ours).unwrap();
    assert_eq!((taken.not_before, taken.not_after), (700, 9_000), "what stands in the certificate counts");
    assert_eq!(taken.principals, ["edge-7", "edge-7.machine.td.example"]);
    assert!(check(reply.clone(), SshKind::Host, &other).is_err());
    assert!(check(reply.clone(), SshKind::User, &ours).is_err());
    assert!(check(SshReply { ca: users.public().line(), ..reply.clone() }, SshKind::Host, &ours).is_err());
    assert!(check(SshReply { certificate: ours.line(), ..reply }, SshKind::Host, &ours).is_err());
}
