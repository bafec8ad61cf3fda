//! C2SP's x509-limbo, a corpus of path validation cases, against [`pki::verify_chain`] and for comparison against webpki alone.
//! [`KNOWN`] lists the cases that we decide otherwise, each with the reason. A listed case that passes fails this test too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test reads files and measures time"
)]

mod limbo_cases;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use limbo_cases::{Case, cases};
use pki::{AnchorSet, Eku, UnixTime, verify_chain};
use rustls_pki_types::{CertificateDer, ServerName};

/// Why we decide a case otherwise.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Why {
    /// Two profiles of the corpus contradict each other, and we follow the other profile than this case.
    OtherProfile,
    /// Stricter than the case asks, on purpose.
    Stricter,
    /// A rule of the public web (CA/Browser Forum) that does not matter here; for example, we do not read common names.
    PublicWeb,
    /// A root signed by another root is accepted as an anchor; its signature is not checked.
    CrossSigned,
    /// The limit is fixed, and the caller cannot lower it.
    FixedLimit,
    /// The path builder refuses what it does not support: mail and directory names in name constraints, self-issued CA
    /// certificates. Our CAs have neither.
    PathBuilder,
}

/// Every case that we decide otherwise than expected.
const KNOWN: &[(&str, Why)] = &[
    ("pathlen::validation-ignores-pathlen-in-leaf", Why::Stricter),
    ("pathlen::self-issued-certs-pathlen", Why::PathBuilder),
    ("pathlen::max-chain-depth-0-exhausted", Why::FixedLimit),
    ("pathlen::max-chain-depth-1-exhausted", Why::FixedLimit),
    ("rfc5280::aki::cross-signed-root-missing-aki", Why::CrossSigned),
    ("rfc5280::ca-as-leaf", Why::OtherProfile),
    ("rfc5280::eku::ee-without-eku", Why::OtherProfile),
    ("rfc5280::nc::nc-permits-email-domain", Why::PathBuilder),
    ("rfc5280::nc::nc-permits-email-exact", Why::PathBuilder),
    ("rfc5280::nc::nc-permits-email-literal-asterisk-exact-match", Why::PathBuilder),
    ("rfc5280::nc::nc-permits-email-literal-double-asterisk", Why::PathBuilder),
    ("rfc5280::nc::nc-permits-email-literal-mid-asterisk", Why::PathBuilder),
    ("rfc5280::nc::permitted-dn-match", Why::PathBuilder),
    ("rfc5280::nc::permitted-dns-match-noncritical", Why::OtherProfile),
    ("rfc5280::nc::permitted-self-issued", Why::PathBuilder),
    ("webpki::cn::case-mismatch", Why::PublicWeb),
    ("webpki::cn::ipv4-hex-mismatch", Why::PublicWeb),
    ("webpki::cn::ipv4-leading-zeros-mismatch", Why::PublicWeb),
    ("webpki::cn::ipv6-non-rfc5952-mismatch", Why::PublicWeb),
    ("webpki::cn::ipv6-uncompressed-mismatch", Why::PublicWeb),
    ("webpki::cn::ipv6-uppercase-mismatch", Why::PublicWeb),
    ("webpki::cn::not-in-san", Why::PublicWeb),
    ("webpki::cn::punycode-not-in-san", Why::PublicWeb),
    ("webpki::cn::utf8-vs-punycode-mismatch", Why::PublicWeb),
    ("webpki::eku::ee-critical-eku", Why::PublicWeb),
    ("webpki::san::public-suffix-multi-label-wildcard-san", Why::PublicWeb),
    ("webpki::san::public-suffix-private-namespace-wildcard-san", Why::PublicWeb),
    ("webpki::san::san-critical-with-nonempty-subject", Why::PublicWeb),
];

/// Cases that webpki alone decides wrongly and we must not: the reason for the rules of this crate.
const CLOSED: &[&str] = &[
    "crl::crlnumber-missing",
    "crl::crlnumber-critical",
    "crl::issuer-missing-crlsign",
    "rfc5280::leaf-ku-keycertsign",
    "rfc5280::root-missing-basic-constraints",
    "rfc5280::root-inconsistent-ca-extensions",
    "rfc5280::unknown-critical-extension-root",
    "rfc5280::validity::expired-root",
    "rfc5280::san::noncritical-with-empty-subject",
    "webpki::forbidden-weak-rsa-in-leaf",
    "webpki::forbidden-weak-rsa-key-in-root",
    "webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf",
    "webpki::forbidden-rsa-not-divisible-by-8-in-root",
    "webpki::forbidden-dsa-leaf",
    "webpki::forbidden-p192-leaf",
    "webpki::eku::ee-without-eku",
    "webpki::eku::ee-anyeku",
];

fn slices(ders: &[Vec<u8>]) -> Vec<&[u8]> {
    ders.iter().map(Vec::as_slice).collect()
}

/// Our decision: `Ok`, or the reason of the refusal.
fn ours(case: &Case) -> Result<(), String> {
    let now = UnixTime::new(case.now);
    // One bad root refuses the set, and a case may contain good ones beside it, so those are selected first.
    let check = |root: &[u8]| AnchorSet::new(&[root], now).map(|_| ());
    let all = slices(&case.roots);
    let good: Vec<&[u8]> = all.iter().copied().filter(|root| check(root).is_ok()).collect();
    if good.is_empty() {
        return Err(all.first().map(|root| format!("{:?}", check(root))).unwrap_or_default());
    }
    let anchors = AnchorSet::new(&good, now).map_err(|e| e.to_string())?;
    let (intermediates, crls) = (slices(&case.intermediates), slices(&case.crls));
    let chain = verify_chain(&case.leaf, &intermediates, &anchors, case.eku, &crls, now).map_err(|e| e.to_string())?;
    match &case.host {
        Some(host) if !chain.matches_host(host) => Err(format!("not for {host}")),
        _ => Ok(()),
    }
}

/// The decision of webpki alone.
fn bare(case: &Case) -> Result<(), webpki::Error> {
    let roots: Vec<CertificateDer<'_>> = slices(&case.roots).into_iter().map(CertificateDer::from).collect();
    let intermediates: Vec<CertificateDer<'_>> =
        slices(&case.intermediates).into_iter().map(CertificateDer::from).collect();
    let anchors: Vec<_> = roots.iter().filter_map(|root| webpki::anchor_from_trusted_cert(root).ok()).collect();
    let leaf = CertificateDer::from(case.leaf.as_slice());
    let leaf = webpki::EndEntityCert::try_from(&leaf)?;
    let lists = case
        .crls
        .iter()
        .map(|der| webpki::BorrowedCertRevocationList::from_der(der).map(webpki::CertRevocationList::from))
        .collect::<Result<Vec<_>, _>>()?;
    let lists: Vec<_> = lists.iter().collect();
    let usage = match case.eku {
        Eku::ClientAuth => webpki::KeyUsage::client_auth(),
        Eku::ServerAuth => webpki::KeyUsage::server_auth(),
    };
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        &intermediates,
        rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(case.now)),
        usage,
        webpki::RevocationOptionsBuilder::new(&lists).ok().map(webpki::RevocationOptionsBuilder::build),
        None,
    )?;
    match &case.host {
        Some(host) => {
            let name = ServerName::try_from(host.as_str()).map_err(|_| webpki::Error::UnsupportedNameType)?;
            leaf.verify_is_valid_for_subject_name(&name)
        }
        None => Ok(()),
    }
}

/// Compares the decision of one case with the expected one; `None` if it is right.
fn complaint(case: &Case, known: Option<Why>) -> Option<String> {
    let id = &case.id;
    let started = Instant::now();
    let Ok(got) = catch_unwind(|| ours(case)) else {
        return Some(format!("{id}: panicked"));
    };
    let took = started.elapsed();
    // A thousand times the usual duration of a case, for machines under load; quadratic work would take longer still.
    if took > Duration::from_secs(5) {
        return Some(format!("{id}: took {took:?}"));
    }
    let bare_right = bare(case).is_ok() == case.accept;
    match (got.is_ok() == case.accept, known) {
        (true, None) => None,
        (true, Some(why)) => Some(format!("{id}: comes out right and is listed as {why:?}")),
        (false, Some(why)) => {
            // We may be stricter than webpki alone only on purpose.
            let on_purpose = case.accept && matches!(why, Why::OtherProfile | Why::Stricter);
            (bare_right && !on_purpose).then(|| format!("{id}: webpki alone does better: {got:?}"))
        }
        (false, None) => {
            let want = if case.accept { "accepted" } else { "refused" };
            let bare = if bare_right { "right" } else { "wrong" };
            Some(format!("{id}: should be {want}, was {got:?}, webpki alone {bare}"))
        }
    }
}

#[test]
fn every_case() {
    let Some(cases) = cases() else { return };
    let known: BTreeMap<&str, Why> = KNOWN.iter().copied().collect();
    assert_eq!(known.len(), KNOWN.len(), "a case is listed twice");
    let mut complaints: Vec<String> =
        cases.iter().filter_map(|case| complaint(case, known.get(case.id.as_str()).copied())).collect();
    let ids: BTreeSet<&str> = cases.iter().map(|case| case.id.as_str()).collect();
    complaints.extend(known.keys().filter(|id| !ids.contains(*id)).map(|id| format!("{id}: not in the corpus")));
    let right = |verdict: fn(&Case) -> bool| cases.iter().filter(|case| verdict(case) == case.accept).count();
    let (we, webpki) = (right(|case| ours(case).is_ok()), right(|case| bare(case).is_ok()));
    println!("{} cases: {we} come out as expected, {webpki} with webpki alone", cases.len());
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn the_gaps_of_webpki_stay_closed() {
    let Some(cases) = cases() else { return };
    for id in CLOSED {
        let case = cases.iter().find(|case| case.id == *id).unwrap_or_else(|| panic!("{id} is not in the corpus"));
        assert!(!case.accept, "{id} is no case to refuse");
        let got = ours(case);
        assert!(got.is_err(), "{id} is accepted");
        println!("{id}: {}", got.unwrap_err());
    }
}
