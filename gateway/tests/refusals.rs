//! What whoever is refused reads: status, code, text and hint of every refusal, each beside the others in
//! `golden/refusals.txt`. A variant without a row fails. `UPDATE_GOLDEN=1` writes the file anew; read the difference then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

use std::{collections::BTreeSet, time::Duration};

use gateway::{
    core::{
        approve::UNCHECKED,
        evidence::Reject,
        proof::BadProof,
        refusal::{
            BadCsr, Conflict, Either, Fault, ForWhom, Malformed, Missing, NameRule, QueueFull, REMOVED, Refusal,
            Unreached,
        },
    },
    edge::fronts::native::problem,
};

/// The enums whose variants must all have a row, with the source that lists them.
const ENUMS: [(&str, &str); 11] = [
    ("Refusal", include_str!("../src/core/refusal.rs")),
    ("Unreached", include_str!("../src/core/refusal.rs")),
    ("Fault", include_str!("../src/core/refusal.rs")),
    ("Malformed", include_str!("../src/core/refusal/malformed.rs")),
    ("Either", include_str!("../src/core/refusal/malformed.rs")),
    ("Conflict", include_str!("../src/core/refusal/conflict.rs")),
    ("Missing", include_str!("../src/core/refusal/missing.rs")),
    ("ForWhom", include_str!("../src/core/refusal/missing.rs")),
    ("QueueFull", include_str!("../src/core/refusal/missing.rs")),
    ("BadCsr", include_str!("../src/core/refusal/missing.rs")),
    ("BadProof", include_str!("../src/core/proof.rs")),
];

/// The variants of an enum in a source: the words that begin a line with one indentation.
fn variants(source: &str, name: &str) -> Vec<String> {
    let (_, rest) = source.split_once(&format!("pub enum {name} {{\n")).expect(name);
    let (body, _) = rest.split_once("\n}\n").expect(name);
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let starts = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    starts.map(|line| line.split(['(', ' ', ',']).next().unwrap_or_default().to_owned()).collect()
}

fn s(text: &str) -> String {
    text.to_owned()
}

/// How a sample is written: `Malformed(Json(...))` is a row for `Malformed` of `Refusal`, and for `Json` of `Malformed`.
fn samples() -> Vec<Refusal> {
    let mut all: Vec<Refusal> = malformed().into_iter().map(Refusal::from).collect();
    all.extend(conflicts().into_iter().map(Refusal::from));
    all.extend(missing().into_iter().map(Refusal::from));
    all.extend(proofs().into_iter().map(Refusal::from));
    all.extend(unreached().into_iter().map(Refusal::from));
    all.extend(faults().into_iter().map(Refusal::from));
    let whom = [ForWhom::Holders, ForWhom::Machines, ForWhom::Tunnels, ForWhom::People, ForWhom::PeopleOnProxy];
    all.extend(whom.map(Refusal::from));
    all.push(ForWhom::Connections.into());
    all.extend([QueueFull::All, QueueFull::Network].map(Refusal::from));
    all.extend([BadCsr::Encoding, BadCsr::Request(pki::csr::CsrError::Signature)].map(Refusal::from));
    // Whatever an attestor may say has a row of its own.
    all.extend(
        gateway::attest::ALL
            .iter()
            .filter(|row| !is_for_tests(row.kind))
            .flat_map(|row| (row.rejections)())
            .map(Refusal::from),
    );
    all.extend(Reject::common().into_iter().map(Refusal::from));
    all.extend(others());
    all
}

/// Whether an attestor is one that debug builds alone have.
fn is_for_tests(kind: &str) -> bool {
    let list = include_str!("../src/attest/mod.rs");
    list.contains(&format!("#[cfg(debug_assertions)]\nmod {};", kind.replace('-', "_")))
}

fn others() -> Vec<Refusal> {
    let retry_after = Duration::from_secs(7);
    let name = |whose, why: &str| Refusal::NameIllegal { name: s("web"), why: s(why), whose };
    let denied = |action, rules: &[&str]| Refusal::Denied { rules: rules.iter().map(|rule| s(rule)).collect(), action };
    vec![
        Refusal::BadSshKey(pki::SshKeyError::Unsupported { found: s("ssh-dss") }),
        denied("enroll or request", &[]),
        denied(UNCHECKED, &["r1"]),
        denied("connect", &["r1", "r2"]),
        Refusal::Unverifiable { what: s("the keys of the issuer `ci` cannot be fetched"), retry_after },
        Refusal::DeniedByPerson { reason: s("not ours") },
        Refusal::Lapsed,
        Refusal::Withdrawn,
        Refusal::NameTaken { name: s("web") },
        name(NameRule::Form, "it has a dot"),
        name(NameRule::Token, "the token is not for it"),
        name(NameRule::Kept, "`db` is rejoining and keeps its name"),
        Refusal::TooFast { retry_after },
        Refusal::Locked { what: s("the machine `edge-1`"), reason: s("stolen") },
        Refusal::Forked { what: s("machine/edge-1") },
        Refusal::Retired { why: REMOVED },
        Refusal::Retired { why: "this gateway has no record of it" },
        Refusal::Replaced,
        Refusal::CertificateLimit { retry_after },
        Refusal::SignerUnavailable,
        Refusal::Expired,
        Refusal::SignerUnavailable,
        Refusal::WrongCode,
        Refusal::WrongMedia { wanted: "application/json" },
        Refusal::CrossSite,
        Refusal::TooLarge { max: 1024 },
        Refusal::TooSlow(30),
        Refusal::Unfinished,
        Refusal::HttpVersion,
        Refusal::HeadTooLarge { bytes: 16_384, fields: 100 },
        Refusal::Method,
    ]
}

fn malformed() -> Vec<Malformed> {
    use Malformed as M;
    vec![
        M::Framing(s("no `Host`")),
        M::HeaderTwice(s("DPoP")),
        M::Path,
        M::Query,
        M::QueryUnknown { name: s("machin"), instead: s("did you mean `machine`?") },
        M::QueryTwice(s("after")),
        M::Number(s("limit")),
        M::TrueOrFalse("online"),
        M::NoneOf { name: "state", allowed: &["active", "locked"] },
        M::Place,
        M::Body,
        M::Json(s("expected value at line 1 column 1")),
        M::Either(Either::CodeOrUnchecked),
        M::Either(Either::SameAsOrOwn),
        M::Either(Either::OwnerOrNone),
        M::Either(Either::MachinesOrAll),
        M::Entries { what: "names", max: 16 },
        M::Word(s("owner")),
        M::Reason,
        M::NoReason,
        M::Labels,
        M::LabelKey(s("a b")),
        M::LabelValue(s("env")),
        M::Groups,
        M::Group(s("a b")),
        M::UnknownOwner(s("bob")),
        M::Evidence { max: 4 },
        M::Attributes,
        M::SameKey,
        M::OwnKeySealed,
        M::Renewed(s("is missing")),
        M::ServiceName(s("a b")),
        M::Target(s("`192.0.2.1:22` is an address; CONNECT names a service of a machine here")),
        M::NotConnect,
        M::ReportTool,
        M::ReportWord("version"),
        M::ReportPlay,
        M::ReportOrder,
        M::ReportTime,
        M::TokenRole(s("gateway")),
        M::TokenUses,
        M::TokenLife,
        M::TokenNames,
        M::TokenKey,
        M::Renewals,
        M::LockKind(s("door")),
        M::LockKey,
        M::Event { name: s("lok"), known: s("lock.set, lock.lifted") },
        M::Action { name: s("ssh"), meant: "; `connect` is what it takes", known: s("connect, read") },
        M::Concern { action: "report", concerns: "concerns a machine: give its name" },
        M::SeveralRequests { name: s("web"), ids: s("1a, 2b") },
    ]
}

fn conflicts() -> Vec<Conflict> {
    vec![
        Conflict::SessionEnded(s("1a")),
        Conflict::Renaming { name: s("web"), becomes: s("www") },
        Conflict::SameName(s("web")),
        Conflict::RenameLocked(s("web")),
        Conflict::LastAdministrator(s("alice")),
        Conflict::RemovesSelf,
        Conflict::HeirLeaves(s("bob")),
        Conflict::HeirLocked(s("bob")),
        Conflict::Locked { by: s("alice"), reason: s("stolen") },
        Conflict::Issued,
        Conflict::ApprovalChanged,
        Conflict::ApprovedByCaller,
        Conflict::NoAgreement,
        Conflict::NotDenied("waiting"),
        Conflict::Lapsed,
        Conflict::Approved(s("alice, bob")),
        Conflict::Denied,
        Conflict::Withdrawn,
        Conflict::Removed,
    ]
}

fn missing() -> Vec<Missing> {
    vec![
        Missing::Endpoint,
        Missing::Machine,
        Missing::OneOfMachines,
        Missing::Person,
        Missing::Lineage,
        Missing::Key,
        Missing::Lock,
        Missing::Token,
        Missing::Request,
        Missing::OwnRequest,
        Missing::ReplacedRequest,
        Missing::WaitingRequest,
        Missing::Session,
        Missing::Stream,
        Missing::RevocationList,
    ]
}

fn proofs() -> Vec<BadProof> {
    vec![
        BadProof::Missing,
        BadProof::Shape,
        BadProof::TooLong,
        BadProof::Address,
        BadProof::Critical,
        BadProof::Claims(s("missing field `htm`")),
        BadProof::Algorithm,
        BadProof::Signature,
        BadProof::OtherRequest,
        BadProof::OtherGateway,
        BadProof::OtherConnection,
        BadProof::Unbound,
        BadProof::Challenge,
        BadProof::Ssh(pki::BadSshSignature::OtherKey),
        BadProof::Stale(301),
    ]
}

fn unreached() -> Vec<Unreached> {
    let (machine, service) = (s("edge-1"), s("ssh"));
    let detail = s("connection refused");
    vec![
        Unreached::Offline { machine: machine.clone() },
        Unreached::Elsewhere { machine: machine.clone(), gateway: pki::Name::parse("b").unwrap() },
        Unreached::StreamElsewhere { gateway: pki::Name::parse("b").unwrap() },
        Unreached::NotExposed { machine: machine.clone(), service: service.clone(), exposed: vec![] },
        Unreached::NotExposed { machine: machine.clone(), service, exposed: vec![s("http")] },
        Unreached::ByMachine { machine: machine.clone(), detail: detail.clone() },
        Unreached::TargetClosed { machine: machine.clone(), detail: detail.clone() },
        Unreached::TargetSlow { machine: machine.clone(), detail },
        Unreached::Silent { machine, seconds: 10 },
        Unreached::TooMany(s("the machine has 64 streams open already")),
    ]
}

fn faults() -> Vec<Fault> {
    vec![
        Fault::Read(s("secret")),
        Fault::Commit(s("secret")),
        Fault::Unavailable { retry_after: Duration::from_secs(7), why: s("secret") },
        Fault::Document { retry_after: Duration::from_secs(7), why: s("secret") },
        Fault::Contention,
        Fault::Issue(s("secret")),
        Fault::CaEnded { role: "machine", end: pki::UnixTime::new(0) },
        Fault::Record(s("secret")),
    ]
}

/// The variant's name, and the name of what it holds if that is one of [`ENUMS`]: `Malformed::Json`.
fn label(refusal: &Refusal) -> String {
    let text = format!("{refusal:?}");
    let names: Vec<&str> = text.split(['(', ' ', '{', ',', ')']).filter(|part| !part.is_empty()).take(3).collect();
    let held =
        ["Malformed", "BadCsr", "BadProof", "QueueFull", "NotFound", "Conflict", "WrongCaller", "Service", "Ours"];
    match names.as_slice() {
        ["Malformed", "Either", which, ..] => format!("Malformed::Either::{which}"),
        [outer, inner, ..] if held.contains(outer) => format!("{outer}::{inner}"),
        [outer, ..] => (*outer).to_owned(),
        [] => String::new(),
    }
}

fn golden() -> String {
    let mut text = String::new();
    for refusal in samples() {
        let problem = problem::problem(&refusal, "i");
        let retry = problem.retry_after.map_or_else(String::new, |seconds| format!(" retry after {seconds} s"));
        text.push_str(&format!("{} {} {}{retry}\n", label(&refusal), problem.status, problem.code()));
        text.push_str(&format!("    {}\n", problem.detail));
        if let Some(hint) = problem.hint {
            text.push_str(&format!("    hint: {hint}\n"));
        }
    }
    text
}

#[test]
fn every_refusal_reads_as_written_down() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/refusals.txt");
    let now = golden();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    for (number, (want, got)) in written.lines().zip(now.lines()).enumerate() {
        assert_eq!(got, want, "line {} of golden/refusals.txt", number + 1);
    }
    assert_eq!(written.lines().count(), now.lines().count(), "golden/refusals.txt has other rows");
}

#[test]
fn every_variant_has_a_row() {
    let labels: BTreeSet<String> = samples().iter().map(label).collect();
    let words: BTreeSet<&str> = labels.iter().flat_map(|label| label.split("::")).collect();
    let held = |name: &str, variant: &str| {
        let outer = match name {
            "Refusal" => return labels.iter().any(|label| label.split("::").next() == Some(variant)),
            "Missing" => "NotFound",
            "ForWhom" => "WrongCaller",
            "Unreached" => "Service",
            "Fault" => "Ours",
            "Either" => "Malformed::Either",
            same => same,
        };
        labels
            .iter()
            .any(|label| *label == format!("{outer}::{variant}") || label.starts_with(&format!("{outer}::{variant}::")))
    };
    for (name, source) in ENUMS {
        let variants = variants(source, name);
        assert!(variants.len() > 1, "{name}: {variants:?}");
        for variant in variants {
            assert!(held(name, &variant), "{name}::{variant} has no row; known: {words:?}");
        }
    }
}
