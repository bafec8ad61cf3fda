//! Replies that must be refused, one row each.

use super::*;
use crate::testing::Authority;

const NOW: UnixTime = UnixTime::new(100_000);

#[track_caller]
fn check(spoil: impl FnOnce(&mut IssuedReply, &Authority), want: &str) {
    let (authority, key) = (Authority::new(), crate::testing::private_key());
    let mut reply = authority.reply(&key, "edge-07", 100_000);
    spoil(&mut reply, &authority);
    let (believed, shown) = (Expected::Pin(authority.root.pin()), authority.shown());
    let expect = Expect {
        key: &key.digest(),
        believed: &believed,
        shown: Some(&shown),
        before: &KnownGateway::default(),
        now: NOW,
    };
    let got = match accept(&reply, expect) {
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
            let other = crate::testing::private_key();
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
        "the expected root is not in its bundle",
    );
}

#[test]
fn another_issuer() {
    check(
        |reply, _| {
            let key = crate::testing::private_key();
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
    let (authority, key) = (Authority::new(), crate::testing::private_key());
    let mut reply = authority.reply(&key, "edge-07", 100_000);
    reply.renew_after = u64::MAX;
    reply.renew_by = u64::MAX;
    let (believed, shown) = (authority.believed(), authority.shown());
    let expect = Expect {
        key: &key.digest(),
        believed: &believed,
        shown: Some(&shown),
        before: &KnownGateway::default(),
        now: NOW,
    };
    let issued = accept(&reply, expect).unwrap();
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
    assert_eq!(pending_approval(&reply(&"0a".repeat(16))).unwrap().nonce, [10; 16]);
    for nonce in ["", "0a", &"0a".repeat(17), &"zz".repeat(16)] {
        assert!(pending_approval(&reply(nonce)).is_err(), "{nonce}");
    }
}

/// A reply that would change roots or address, and its results.
struct Row {
    what: &'static str,
    /// Changes the reply. Arguments: our authority, a foreign one of the same name, the reply.
    spoil: fn(&Authority, &Authority, &mut IssuedReply),
    /// The results for a client with a pin, and for one with roots.
    want: [&'static str; 2],
}

const UNKNOWN: &str = "the certificate does not verify";

const ROWS: [Row; 9] = [
    Row { what: "the right root", spoil: |_, _, _| (), want: ["ours", "ours"] },
    Row {
        what: "a foreign root of our name in place of ours",
        spoil: |_, foreign, reply| reply.bundle = pem(foreign.root.cert_der()),
        want: ["the expected root is not in its bundle", "it names the root"],
    },
    Row {
        what: "a foreign root beside ours",
        spoil: |_, foreign, reply| reply.bundle.push_str(&pem(foreign.root.cert_der())),
        want: ["it names the root", "it names the root"],
    },
    Row {
        what: "a foreign root that vouches for itself",
        spoil: |_, foreign, reply| {
            reply.bundle.push_str(&pem(foreign.root.cert_der()));
            reply.cross = pem(foreign.root.cert_der());
        },
        want: ["it names the root", "it names the root"],
    },
    Row {
        what: "everything of a foreign authority",
        spoil: |_, foreign, reply| *reply = foreign.certify(key_of(reply), "edge-07", 100_000),
        want: ["the expected root is not in its bundle", UNKNOWN],
    },
    Row {
        what: "a foreign certificate with our root",
        spoil: |ours, foreign, reply| {
            *reply = foreign.certify(key_of(reply), "edge-07", 100_000);
            reply.bundle = pem(ours.root.cert_der());
        },
        want: [UNKNOWN, UNKNOWN],
    },
    Row {
        what: "our root, and the CA for gateways in place of the one for machines",
        spoil: |ours, _, reply| {
            reply.certificate = pem(&ours.by_the_wrong_ca(key_of(reply)));
            reply.chain = pem(ours.ca(Role::Gateway).cert_der());
        },
        want: [UNKNOWN, UNKNOWN],
    },
    Row {
        what: "another address than the gateway's certificate names",
        spoil: |_, _, reply| reply.manage = "elsewhere.example:443".into(),
        want: ["`manage` leads to elsewhere.example"; 2],
    },
    Row {
        what: "another port of the same gateway",
        spoil: |_, _, reply| reply.manage = "gw.example:9".into(),
        want: ["ours", "ours"],
    },
];

fn pem(der: &[u8]) -> String {
    pki::to_pem("CERTIFICATE", der)
}

/// The key in the certificate of a reply.
fn key_of(reply: &IssuedReply) -> pki::SubjectKey {
    let leaf = pki::parse_pem("CERTIFICATE", &reply.certificate).unwrap().remove(0);
    pki::SubjectKey::from_spki_der(x509_parser::parse_x509_certificate(&leaf).unwrap().1.public_key().raw).unwrap()
}

#[test]
fn what_is_believed_is_replaced_only_by_what_it_has_signed() {
    let (ours, foreign, key) = (Authority::new(), Authority::new(), crate::testing::private_key());
    let shown = ours.shown();
    for Row { what, spoil, want } in ROWS {
        let mut reply = ours.reply(&key, "edge-07", 100_000);
        spoil(&ours, &foreign, &mut reply);
        for (believed, want) in [Expected::Pin(ours.root.pin()), ours.believed()].iter().zip(want) {
            let expect = Expect {
                key: &key.digest(),
                believed,
                shown: Some(&shown),
                before: &KnownGateway::default(),
                now: NOW,
            };
            let got = match accept(&reply, expect) {
                Ok(issued) => {
                    assert_eq!((issued.pin, &issued.bundle), (ours.root.pin(), &pem(ours.root.cert_der())), "{what}");
                    "ours".to_owned()
                }
                Err(bad) => bad.to_string(),
            };
            assert!(got.starts_with(want), "{what}, {believed:?}: {got}");
        }
    }
}

/// A change of a reply.
type Spoil<'a> = dyn Fn(&mut IssuedReply) + 'a;

/// A replayed older reply is refused, and a gateway that sends no order cannot change roots or address.
#[test]
fn what_changes_whom_is_believed_goes_forward() {
    let (ours, next, key) = (Authority::new(), Authority::new(), crate::testing::private_key());
    let (believed, shown) = (ours.believed(), ours.shown());
    let held = Address::parse("gw.example:8443", 443).unwrap();
    let another_root = |reply: &mut IssuedReply| {
        reply.bundle.push_str(&pem(next.root.cert_der()));
        reply.cross = pem(&ours.root.cross_certify(next.root.cert_der(), Serial::from_entropy([9; 16])).unwrap());
    };
    let another_address = |reply: &mut IssuedReply| reply.manage = "gw.example:9".into();
    let nothing = |_: &mut IssuedReply| ();
    let rows: [(u64, u64, &Spoil<'_>, &str); 10] = [
        (0, 0, &another_root, "2 roots, gw.example:8443, order 0"),
        (0, 0, &another_address, "1 roots, gw.example:9, order 0"),
        (0, 7, &another_root, "2 roots, gw.example:8443, order 7"),
        (7, 7, &another_address, "1 roots, gw.example:9, order 7"),
        (7, 8, &another_root, "2 roots, gw.example:8443, order 8"),
        (8, 7, &nothing, "it is older than one accepted before (order 7, accepted 8)"),
        (8, 7, &another_root, "it is older"),
        (8, 7, &another_address, "it is older"),
        (8, 0, &another_root, "it names the root"),
        (8, 0, &another_address, "1 roots, gw.example:8443, order 8"),
    ];
    for (heard, order, spoil, want) in rows {
        let before = KnownGateway { order: Order::new(heard), manage: Some(held.clone()) };
        let mut reply = IssuedReply { order, ..ours.reply(&key, "edge-07", 100_000) };
        spoil(&mut reply);
        let digest = key.digest();
        let expect = Expect { key: &digest, believed: &believed, shown: Some(&shown), before: &before, now: NOW };
        let got = match accept(&reply, expect) {
            Ok(issued) => {
                let roots = pki::parse_pem("CERTIFICATE", &issued.bundle).unwrap().len();
                format!("{roots} roots, {}, order {}", issued.manage, issued.order.number())
            }
            Err(bad) => bad.to_string(),
        };
        assert!(got.starts_with(want), "heard {heard}, said {order}: {got}");
    }
}

#[test]
fn a_root_that_ours_vouches_for_is_taken_and_then_leads_on() {
    let (ours, next, key) = (Authority::new(), Authority::new(), crate::testing::private_key());
    let shown = ours.shown();
    let mut reply = ours.reply(&key, "edge-07", 100_000);
    reply.bundle = pem(next.root.cert_der());
    reply.cross = pem(&ours.root.cross_certify(next.root.cert_der(), pki::Serial::from_entropy([9; 16])).unwrap());
    let believed = ours.believed();
    let expect = Expect {
        key: &key.digest(),
        believed: &believed,
        shown: Some(&shown),
        before: &KnownGateway::default(),
        now: NOW,
    };
    let issued = accept(&reply, expect).unwrap();
    // Our root is kept until it expires, although the gateway does not send it.
    assert_eq!(issued.bundle, pem(next.root.cert_der()) + &pem(ours.root.cert_der()));
    assert_eq!(issued.pin, ours.root.pin());

    let roots = pki::parse_pem("CERTIFICATE", &issued.bundle).unwrap();
    let believed = Expected::Roots { domain: issued.identity.domain, roots };
    let reply = next.reply(&key, "edge-07", 100_000);
    let expect = Expect {
        key: &key.digest(),
        believed: &believed,
        shown: Some(&shown),
        before: &KnownGateway::default(),
        now: NOW,
    };
    assert_eq!(accept(&reply, expect).unwrap().pin, next.root.pin());
}
