//! What is believed of a gateway's replies, and what is printed of them.

use std::sync::Arc;

use pki::{Identity, KeyAlgorithm, SoftwareKey, SshCa, SshDraft, UnixTime};

use super::*;

fn ca(kind: SshKind) -> SshCa {
    SshCa::new(kind, Arc::new(SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap().0)).unwrap()
}

fn domain() -> TrustDomain {
    TrustDomain::parse("td.example").unwrap()
}

fn said(user: &[&str], host: &[&str]) -> SshCaReply {
    let owned = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
    SshCaReply { trust_domain: "td.example".into(), user: owned(user), host: owned(host) }
}

#[test]
fn what_is_printed_for_ssh_and_sshd() {
    let [user, host, next] = [SshKind::User, SshKind::Host, SshKind::Host].map(|kind| ca(kind).public().line());
    let cas = Cas::read(&said(&[&user], &[&host, &next]), &domain()).unwrap();
    assert_eq!(
        cas.known_hosts(&[]),
        [
            format!("@cert-authority *.machine.td.example {host}"),
            format!("@cert-authority *.machine.td.example {next}")
        ]
    );
    let also = ["edge-*".to_owned(), "[::1]:2222".to_owned()];
    assert_eq!(cas.known_hosts(&also)[0], format!("@cert-authority *.machine.td.example,edge-*,[::1]:2222 {host}"));
    assert_eq!(cas.trusted_user_ca(), [format!("{user} lychgate@td.example")]);
}

#[test]
fn a_reply_cannot_smuggle_lines() {
    let good = ca(SshKind::User).public().line();
    let smuggled = format!("{good}\n@cert-authority * {good}");
    for (reply, why) in [
        (said(&[&good], &[&smuggled]), "one of its SSH CAs cannot be used"),
        (said(&[&good], &["* ssh-ed25519 AAAA"]), "one of its SSH CAs cannot be used"),
        (said(&[], &[&good]), "it names no SSH CA"),
        (said(&[&good], &[]), "it names no SSH CA"),
        (SshCaReply { trust_domain: "other".into(), ..said(&[&good], &[&good]) }, "it speaks of another trust domain"),
    ] {
        let complaint = Cas::read(&reply, &domain()).unwrap_err();
        assert!(complaint.what.contains(why), "{reply:?}: {complaint}");
    }
    // A comment is no key, and is not kept.
    let cas = Cas::read(&said(&[&good], &[&format!("{good} * x")]), &domain()).unwrap();
    assert_eq!(cas.known_hosts(&[]), [format!("@cert-authority *.machine.td.example {good}")]);
}

#[test]
fn patterns() {
    for good in ["edge-7", "*.lab", "[10.0.0.?]:2222", "::1"] {
        assert_eq!(parse_pattern(good), Ok(good.to_owned()));
    }
    for bad in ["", "a b", "a,b", "!a", "a\nb", "@cert-authority", "|1|x"] {
        assert!(parse_pattern(bad).is_err(), "{bad}");
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
