//! Replies that must not be believed, one row each.

use super::*;
use crate::key::PrivateKey;
use crate::testing::Authority;

#[track_caller]
fn check(spoil: impl FnOnce(&mut IssuedReply, &Authority), want: &str) {
    let (authority, key) = (Authority::new(), PrivateKey::generate().unwrap());
    let mut reply = authority.reply(&key, "edge-07", 100_000);
    spoil(&mut reply, &authority);
    let pin = authority.root.pin();
    let got = match accept(&reply, Expect { key: &key.digest(), pin: Some(&pin) }) {
        Ok(issued) => format!("ok: {}", issued.identity),
        Err(bad) => bad.to_string(),
    };
    assert!(got.starts_with(want), "{got}");
}

#[test]
fn an_honest_reply_is_taken() {
    check(|_, _| (), "ok: spiffe://td.example/machine/edge-07");
}

#[test]
fn another_key() {
    check(
        |reply, authority| {
            let other = PrivateKey::generate().unwrap();
            *reply = authority.reply(&other, "edge-07", 100_000);
        },
        "the certificate is for another key than ours",
    );
}

#[test]
fn another_root() {
    check(
        |reply, _| {
            let other = Authority::new();
            reply.bundle = pki::to_pem("CERTIFICATE", other.root.cert_der());
        },
        "the root we were told to expect is not in its bundle",
    );
}

#[test]
fn another_issuer() {
    check(
        |reply, _| {
            let key = PrivateKey::generate().unwrap();
            let other = Authority::new().reply(&key, "edge-07", 100_000);
            reply.certificate = other.certificate;
            reply.chain = other.chain;
        },
        "the certificate does not verify",
    );
}

#[test]
fn fields_that_disagree_with_the_certificate() {
    check(
        |reply, _| reply.identity = "spiffe://td.example/machine/other".into(),
        "the certificate disagrees with `identity`",
    );
    check(|reply, _| reply.serial = "02".repeat(16), "the certificate disagrees with `serial`");
}

#[test]
fn fields_that_make_no_sense() {
    check(|reply, _| reply.identity = "edge-07".into(), "`identity` does not parse");
    check(|reply, _| reply.manage = "no place".into(), "`manage` does not parse");
    check(|reply, _| reply.certificate = String::new(), "`certificate` is not what it should be");
    check(|reply, _| reply.chain = "junk".into(), "`chain` is not what it should be");
    check(|reply, _| reply.certificate = reply.certificate.repeat(2), "`certificate` holds the wrong number");
}

#[test]
fn times_are_kept_within_the_certificate() {
    let (authority, key) = (Authority::new(), PrivateKey::generate().unwrap());
    let mut reply = authority.reply(&key, "edge-07", 100_000);
    reply.renew_after = u64::MAX;
    reply.renew_by = u64::MAX;
    let issued = accept(&reply, Expect { key: &key.digest(), pin: None }).unwrap();
    assert_eq!(issued.life.renew_after, issued.life.not_after);
    assert_eq!(issued.life.renew_by, issued.life.not_after);
}

#[test]
fn tickets() {
    let reply = |nonce: &str| WaitingReply {
        id: "e1".into(),
        poll_after: 3,
        nonce: nonce.into(),
        expires: 9,
        approvals_missing: 2,
        time: 1,
    };
    assert_eq!(ticket(&reply(&"0a".repeat(16))).unwrap().nonce, [10; 16]);
    for nonce in ["", "0a", &"0a".repeat(17), &"zz".repeat(16)] {
        assert!(ticket(&reply(nonce)).is_err(), "{nonce}");
    }
}
