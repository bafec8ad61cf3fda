//! C2SP's x509-limbo, a corpus of path validation cases, against [`pki::verify_path`], which judges certificates of other CAs. What the
//! corpus refuses is refused, but for [`ACCEPTED`]; what it accepts is accepted, but for [`REFUSED`]. Each has its reason, and a listed
//! case that comes out otherwise fails this test too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test reads files and measures time"
)]

mod limbo_cases;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use limbo_cases::{Case, cases};
use pki::{Eku, PathAnchors, RevocationList, UnixTime, names_host, to_pem, verify_path};

// Why a case comes out otherwise.
const NUMBER: &str = "the number of a list matters to who orders lists, and CAs leave it out";
const DEPTH: &str = "the limit is fixed";
const KEY_ID: &str = "CAs of makers leave key identifiers out; names and signatures decide";
const DOT: &str = "many CAs write a leading period";
const CRITICAL: &str = "whether an extension is marked critical changes nothing, since it is enforced";
const NAME: &str = "hosts have such names; none becomes a name of ours";
const SERIAL: &str = "makers write serial numbers as they like; they are only compared";
const USAGE: &str = "which usages are wanted is for the operator to say";
const WEB: &str = "a rule of the public web";
const MANY: &str = "fewer certificates are read";
const CA: &str = "a CA is no device";
const MAIL: &str = "mail addresses are not compared";
const WILDCARD: &str = "wildcards are not compared";

/// Cases to refuse that are accepted.
const ACCEPTED: &[(&str, &str)] = &[
    ("crl::crlnumber-critical", NUMBER),
    ("crl::crlnumber-missing", NUMBER),
    ("pathlen::max-chain-depth-0-exhausted", DEPTH),
    ("pathlen::max-chain-depth-1-exhausted", DEPTH),
    ("rfc5280::aki::cross-signed-root-missing-aki", KEY_ID),
    ("rfc5280::aki::intermediate-missing-aki", KEY_ID),
    ("rfc5280::aki::leaf-missing-aki", KEY_ID),
    ("rfc5280::nc::invalid-dnsname-leading-period", DOT),
    ("rfc5280::nc::permitted-dns-match-noncritical", CRITICAL),
    ("rfc5280::root-non-critical-basic-constraints", CRITICAL),
    ("rfc5280::san::noncritical-with-empty-subject", CRITICAL),
    ("rfc5280::san::underscore-dns", NAME),
    ("rfc5280::serial::too-long", SERIAL),
    ("rfc5280::serial::zero", SERIAL),
    ("rfc5280::ski::intermediate-missing-ski", KEY_ID),
    ("rfc5280::ski::root-missing-ski", KEY_ID),
    ("webpki::aki::root-with-aki-all-fields", WEB),
    ("webpki::aki::root-with-aki-authoritycertissuer", WEB),
    ("webpki::aki::root-with-aki-authoritycertserialnumber", WEB),
    ("webpki::aki::root-with-aki-missing-keyidentifier", WEB),
    ("webpki::aki::root-with-aki-ski-mismatch", WEB),
    ("webpki::cn::case-mismatch", WEB),
    ("webpki::cn::ipv4-hex-mismatch", WEB),
    ("webpki::cn::ipv4-leading-zeros-mismatch", WEB),
    ("webpki::cn::ipv6-non-rfc5952-mismatch", WEB),
    ("webpki::cn::ipv6-uncompressed-mismatch", WEB),
    ("webpki::cn::ipv6-uppercase-mismatch", WEB),
    ("webpki::cn::not-in-san", WEB),
    ("webpki::cn::punycode-not-in-san", WEB),
    ("webpki::cn::utf8-vs-punycode-mismatch", WEB),
    ("webpki::eku::ee-anyeku", WEB),
    ("webpki::eku::ee-critical-eku", WEB),
    ("webpki::eku::ee-without-eku", USAGE),
    ("webpki::eku::root-has-eku", WEB),
    ("webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf", WEB),
    ("webpki::forbidden-rsa-not-divisible-by-8-in-root", WEB),
    ("webpki::san::public-suffix-multi-label-wildcard-san", WEB),
    ("webpki::san::public-suffix-private-namespace-wildcard-san", WEB),
    ("webpki::san::san-critical-with-nonempty-subject", WEB),
];

/// Cases to accept that are refused.
const REFUSED: &[(&str, &str)] = &[
    ("cve::cve-2024-0567", MANY),
    ("pathlen::validation-ignores-pathlen-in-leaf", CA),
    ("rfc5280::ca-as-leaf", CA),
    ("rfc5280::nc::nc-permits-email-domain", MAIL),
    ("rfc5280::nc::nc-permits-email-exact", MAIL),
    ("rfc5280::nc::nc-permits-email-literal-asterisk-exact-match", MAIL),
    ("rfc5280::nc::nc-permits-email-literal-double-asterisk", MAIL),
    ("rfc5280::nc::nc-permits-email-literal-mid-asterisk", MAIL),
    ("webpki::nc::nc-permits-dns-san-pattern", WILDCARD),
];

/// `Ok`, or the reason of the refusal.
fn ours(case: &Case) -> Result<(), String> {
    let now = UnixTime::new(case.now);
    let read = |der: &Vec<u8>| PathAnchors::from_pem(&to_pem("CERTIFICATE", der)).is_ok();
    let roots: String = case.roots.iter().filter(|der| read(der)).map(|der| to_pem("CERTIFICATE", der)).collect();
    let anchors = PathAnchors::from_pem(&roots).map_err(|error| error.to_string())?;
    let given: Vec<Vec<u8>> = std::iter::once(&case.leaf).chain(&case.intermediates).cloned().collect();
    let path = verify_path(&given, &anchors, now).map_err(|error| error.to_string())?;
    if !path.leaf().usages.is_empty() {
        let usage = match case.eku {
            Eku::ClientAuth => "1.3.6.1.5.5.7.3.2",
            Eku::ServerAuth => "1.3.6.1.5.5.7.3.1",
        };
        path.require_usage(usage).map_err(|error| error.to_string())?;
    }
    if !case.crls.is_empty() {
        let mut lists = Vec::new();
        for der in &case.crls {
            lists.extend(RevocationList::read(der).map_err(|error| error.to_string())?);
        }
        let lists: Vec<&RevocationList> = lists.iter().collect();
        path.check_revocation(&lists, None, now).map_err(|error| error.to_string())?;
    }
    match &case.host {
        Some(host) if !names_host(&case.leaf, host) => Err(format!("not for {host}")),
        _ => Ok(()),
    }
}

#[test]
fn every_case() {
    let Some(cases) = cases() else { return };
    let (accepted, refused): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (ACCEPTED.iter().copied().collect(), REFUSED.iter().copied().collect());
    let mut complaints = Vec::new();
    for case in &cases {
        let started = Instant::now();
        let got = ours(case);
        if started.elapsed() > Duration::from_secs(5) {
            complaints.push(format!("{}: took {:?}", case.id, started.elapsed()));
        }
        let listed = if case.accept { &refused } else { &accepted }.get(case.id.as_str());
        match (got.is_ok() == case.accept, listed) {
            (true, Some(why)) => complaints.push(format!("{}: comes out right and is listed: {why}", case.id)),
            (false, None) if case.accept => complaints.push(format!("{}: refused: {}", case.id, got.unwrap_err())),
            (false, None) => complaints.push(format!("{}: accepted", case.id)),
            (true, None) | (false, Some(_)) => {}
        }
    }
    for id in accepted.keys().chain(refused.keys()).filter(|id| !cases.iter().any(|case| case.id == **id)) {
        complaints.push(format!("{id}: not in the corpus"));
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}
