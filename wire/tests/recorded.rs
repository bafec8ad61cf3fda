//! Compatibility with an earlier version of the protocol: today's types read its messages, and its rules accept what today's types
//! write. `recorded/README.md` says where the samples come from.
//!
//! Every public type that is serialized needs a sample, or stands inside a type whose samples contain it. From then on it reads the
//! sample without loss.
//!
//! A new member of a message that the other side reads strictly needs an entry in this table that says how the sender knows that
//! the reader accepts it: an older reader refuses a message with an unknown member.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use wire::admin::*;
use wire::enroll::*;
use wire::evidence::*;
use wire::manage::*;
use wire::problem::Problem;
use wire::ssh::*;
use wire::tunnel::*;

/// A type and its samples.
struct Row {
    /// Its name, in `types.json` for structs.
    name: &'static str,
    /// A JSON list.
    samples: &'static str,
    /// Reads a value with today's type, and writes it again.
    again: fn(&Value) -> Result<Value, String>,
    /// Members added since to a type that is read strictly, each with how the sender knows that the reader accepts it.
    added: &'static [(&'static str, &'static str)],
}

fn again<T: Serialize + DeserializeOwned>(value: &Value) -> Result<Value, String> {
    let read: T = wire::strict::from_slice(value.to_string().as_bytes()).map_err(|error| error.to_string())?;
    serde_json::to_value(read).map_err(|error| error.to_string())
}

macro_rules! row {
    ($file:literal, $type:ty) => {
        row!($file, $type, &[])
    };
    ($file:literal, $type:ty, $added:expr) => {
        Row {
            name: stringify!($type),
            samples: include_str!(concat!("recorded/0.1.0/", $file, ".json")),
            again: again::<$type>,
            added: $added,
        }
    };
}

/// Requests. The gateway refuses unknown members in them.
fn requests() -> Vec<Row> {
    vec![
        row!(
            "approve-request",
            ApproveRequest,
            &[("same_as", "only by who asks for it: `requests approve --same-as`")]
        ),
        row!("can-i-request", CanIRequest),
        row!(
            "enroll-request",
            EnrollRequest,
            &[
                ("ticket", "a challenge gave it, which an older gateway never sends"),
                ("pin", "`GET /v1/gateway` names another pin, which a gateway that has one root for ever never does"),
            ]
        ),
        row!("lock-request", LockRequest),
        row!("prior-certificate", PriorCertificate),
        row!("reason-request", ReasonRequest),
        row!(
            "renew-request",
            RenewRequest,
            &[
                ("name", "`renaming` in `GET /v1/self` told it, which an older gateway never says"),
                ("evidence", "`evidence` in `GET /v1/self` names the kinds, which an older gateway never says"),
                ("ticket", "a challenge gave it, which an older gateway never sends"),
            ]
        ),
        row!("renewals-request", RenewalsRequest),
        row!("report-request", ReportRequest),
        row!("sealed-request", SealedRequest),
        row!("ssh-request", SshRequest),
        row!("token-request", TokenRequest),
    ]
}

/// Every message, and every JSON text that another message contains as a string.
fn table() -> Vec<Row> {
    let others = vec![
        // Contents of proofs and tokens.
        row!("join-token-claims", JoinTokenClaims),
        row!("proof-claims", ProofClaims),
        // Replies.
        row!("can-i-reply", CanIReply),
        row!("done", Done),
        row!("gateway-info", GatewayInfo),
        row!("issued-reply", IssuedReply),
        row!("lock-view", LockView),
        row!("page-of-audit-view", Page<AuditView>),
        row!("page-of-lock-view", Page<LockView>),
        row!("page-of-request-view", Page<RequestView>),
        row!("page-of-session-view", Page<SessionView>),
        row!("page-of-subject-view", Page<SubjectView>),
        row!("page-of-token-view", Page<TokenView>),
        row!("problem", Problem),
        row!("request-view", RequestView),
        row!("self-reply", SelfReply),
        row!("session-events", SessionEvents),
        row!("session-view", SessionView),
        row!("ssh-ca-reply", SshCaReply),
        row!("ssh-reply", SshReply),
        row!("subject-view", SubjectView),
        row!("token-reply", TokenReply),
        row!("waiting-reply", WaitingReply),
        // Frames.
        row!("dial-back", DialBack),
        row!("dialed-back", DialedBack),
        row!("from-machine", FromMachine),
        row!("open", Open),
        row!("opened", Opened),
        row!("reach", Reach),
        row!("reached", Reached),
        row!("to-machine", ToMachine),
    ];
    requests().into_iter().chain(others).collect()
}

/// A row with samples of a version that is not released yet.
macro_rules! next {
    ($file:literal, $type:ty) => {
        next!($file, $type, &[])
    };
    ($file:literal, $type:ty, $added:expr) => {
        Row {
            name: stringify!($type),
            samples: include_str!(concat!("recorded/next/", $file, ".json")),
            again: again::<$type>,
            added: $added,
        }
    };
}

/// Types that 0.1.0 does not have, which the gateway reads: it refuses unknown members in them.
fn later_requests() -> Vec<Row> {
    vec![
        next!("cloud-evidence", CloudEvidence),
        next!("machine-change", MachineChange),
        next!("offboard-request", OffboardRequest),
        next!("person-change", PersonChange),
        next!("read-back-evidence", ReadBackEvidence),
        next!("ssh-host-key", SshHostKey),
        next!("tpm-evidence", TpmEvidence),
        next!("x509-evidence", X509Evidence),
    ]
}

/// Types that 0.1.0 does not have, which clients read: they ignore unknown members in them.
fn later_replies() -> Vec<Row> {
    vec![
        next!("challenge-reply", ChallengeReply),
        next!("cloud-challenge", CloudChallenge),
        next!("read-back-challenge", ReadBackChallenge),
        next!("removed-view", RemovedView),
        next!("request-events", RequestEvents),
        next!("set-reply", SetReply),
        next!("tpm-challenge", TpmChallenge),
    ]
}

/// Messages with members that earlier readers ignore, each with what a reader without it does.
fn newer() -> Vec<Row> {
    vec![
        next!(
            "lock-view",
            LockView,
            &[("hits", "the locks on the lineages are in the list of locks"), ("suspended", "nothing is said of them")]
        ),
        next!("open", Open, &[("dial_back_at", "the connection is made where the tunnel is, and refused elsewhere")]),
        next!("reached", Reached, &[("dial_back_at", "the same")]),
        next!("request-view", RequestView, &[("same_device", "nothing is said of it")]),
        next!(
            "session-events",
            SessionEvents,
            &[("cursor", "`number` and `next` go on"), ("gap", "what is missing is not noticed, as before")]
        ),
    ]
}

#[test]
fn what_was_added_is_ignored_by_earlier_readers() {
    let types = types();
    for row in newer() {
        let earlier = types.get(row.name);
        assert!(earlier.is_none_or(|earlier| earlier["refuses_unknown"] == json!(false)), "{}", row.name);
        for sample in samples(&row) {
            let now = (row.again)(&sample).unwrap();
            let mut found = Vec::new();
            lost(&sample, &now, "", &mut found);
            assert_eq!(found, [""; 0], "{}: {sample} is written as {now}", row.name);
            let mut told = vec![];
            names(&sample, &mut told);
            let mut without = sample.clone();
            for (name, _) in row.added {
                assert!(told.iter().any(|one| one == name), "{}: no sample has `{name}`", row.name);
                strip(&mut without, name);
            }
            // What an earlier reader gets.
            (row.again)(&without).unwrap_or_else(|error| panic!("{}: {error}: {without}", row.name));
        }
    }
}

/// Takes a member away, wherever it stands.
fn strip(value: &mut Value, name: &str) {
    match value {
        Value::Object(members) => {
            members.remove(name);
            members.values_mut().for_each(|value| strip(value, name));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| strip(value, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Types of the earlier version that occur only inside other messages; the samples above contain each.
const PARTS: [&str; 14] = [
    "ApprovalView",
    "AuditView",
    "Closing",
    "ConvergenceView",
    "EndedView",
    "Evidence",
    "Hello",
    "Page",
    "Reauthenticate",
    "ServiceOffer",
    "SessionEventView",
    "TokenView",
    "TunnelView",
    "Welcome",
];

fn types() -> Map<String, Value> {
    serde_json::from_str(include_str!("recorded/0.1.0/types.json")).unwrap()
}

fn samples(row: &Row) -> Vec<Value> {
    let samples: Vec<Value> = serde_json::from_str(row.samples).unwrap();
    assert!(!samples.is_empty(), "{}", row.name);
    samples
}

fn list(of: &Value, what: &str) -> Vec<String> {
    serde_json::from_value(of[what].clone()).unwrap()
}

/// Where `now` lacks or changes what `earlier` has. `now` may have more members.
fn lost(earlier: &Value, now: &Value, at: &str, found: &mut Vec<String>) {
    match (earlier, now) {
        (Value::Object(earlier), Value::Object(now)) => {
            for (name, value) in earlier {
                let at = format!("{at}/{name}");
                match now.get(name) {
                    Some(other) => lost(value, other, &at, found),
                    // An empty member means the same as an absent one.
                    None if value.is_null() || *value == json!([]) || *value == json!({}) || *value == json!("") => {}
                    None => found.push(at),
                }
            }
        }
        (Value::Array(earlier), Value::Array(now)) if earlier.len() == now.len() => {
            for (number, (one, other)) in earlier.iter().zip(now).enumerate() {
                lost(one, other, &format!("{at}/{number}"), found);
            }
        }
        (earlier, now) if earlier == now => {}
        _ => found.push(at.to_owned()),
    }
}

#[test]
fn what_was_written_is_read_and_nothing_of_it_is_lost() {
    for row in table().into_iter().chain(later_requests()).chain(later_replies()) {
        for sample in samples(&row) {
            let now = (row.again)(&sample).unwrap_or_else(|error| panic!("{}: {error}: {sample}", row.name));
            let mut found = Vec::new();
            lost(&sample, &now, "", &mut found);
            assert_eq!(found, [""; 0], "{}: {sample} is written as {now}", row.name);
        }
    }
}

#[test]
fn what_earlier_readers_demand_is_written() {
    let types = types();
    for row in table() {
        let Some(earlier) = types.get(row.name) else { continue };
        for name in list(earlier, "required") {
            // A member that the earlier type required is written by today's type too.
            let mut without = samples(&row).swap_remove(0);
            without.as_object_mut().unwrap().remove(&name);
            assert!((row.again)(&without).is_err(), "{}: `{name}` may be absent today", row.name);
        }
    }
}

#[test]
fn what_earlier_readers_refuse_is_not_sent_to_them() {
    let types = types();
    for row in table() {
        let strict = types.get(row.name).is_some_and(|earlier| earlier["refuses_unknown"] == json!(true));
        let mut with = samples(&row).swap_remove(0);
        with.as_object_mut().unwrap().insert("never-a-member".to_owned(), json!(1));
        let told = (row.again)(&with);
        if !strict {
            assert!(told.is_ok(), "{}: an older program must go on reading what newer ones write", row.name);
            assert_eq!(row.added, [], "{}: nobody refuses these", row.name);
            continue;
        }
        // The error text of serde lists all members that a strict reader knows.
        let told = told.expect_err(row.name);
        let known: Vec<&str> = told.split('`').skip(3).step_by(2).collect();
        let earlier = list(&types[row.name], "fields");
        let added: Vec<&str> = row.added.iter().map(|(name, _)| *name).collect();
        let new: Vec<&str> = known.iter().copied().filter(|name| !earlier.iter().any(|old| old == name)).collect();
        assert_eq!(new, added, "{}: how does whoever sends a new member know that it is understood?", row.name);
        let gone: Vec<&String> = earlier.iter().filter(|old| !known.contains(&old.as_str())).collect();
        assert!(gone.is_empty(), "{}: older programs send {gone:?}", row.name);
        for sample in samples(&row) {
            let now = (row.again)(&sample).unwrap();
            let unasked: Vec<&String> =
                now.as_object().unwrap().keys().filter(|name| !earlier.contains(name)).collect();
            assert!(unasked.is_empty(), "{}: {unasked:?} is written unasked", row.name);
        }
    }
}

#[test]
fn later_requests_are_read_strictly_and_later_replies_are_not() {
    let with_another = |row: &Row| {
        let mut with = samples(row).swap_remove(0);
        with.as_object_mut().unwrap().insert("never-a-member".to_owned(), json!(1));
        (row.again)(&with)
    };
    for row in later_requests() {
        assert!(with_another(&row).is_err(), "{}: a condition that the gateway does not know is lost", row.name);
    }
    for row in later_replies() {
        assert!(with_another(&row).is_ok(), "{}: nothing can be added to it any more", row.name);
    }
}

/// A public type that is serialized.
struct Declared {
    /// The lines between its braces.
    body: String,
    /// The names of its members, for structs, each with its type as text.
    members: Vec<(String, String)>,
}

/// All files below a folder.
#[expect(clippy::disallowed_methods, reason = "this test reads the sources of the crate")]
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

/// The public types of the crate that derive `Serialize` or `Deserialize`, by name.
#[expect(clippy::disallowed_methods, reason = "this test reads the sources of the crate")]
fn declared() -> BTreeMap<String, Declared> {
    let mut found = BTreeMap::new();
    for path in below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut is_serialized = false;
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.starts_with("#[derive(") {
                is_serialized = line.contains("Serialize") || line.contains("Deserialize");
            }
            let item = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "));
            let Some(item) = item else {
                // The attributes of an item stand directly above it.
                is_serialized &= line.starts_with("#[") || line.starts_with("///");
                continue;
            };
            if std::mem::take(&mut is_serialized) {
                let name = item.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
                let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "}").collect();
                let members = body.iter().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "));
                let members = members.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
                found.insert(name, Declared { body: body.join("\n"), members });
            }
        }
    }
    found
}

/// The words of a text that may be names of types.
fn type_names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The names of all members with a value, wherever they stand.
fn with_values(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            let given = |value: &Value| !value.is_null() && *value != json!([]) && *value != json!({});
            into.extend(members.iter().filter(|(_, value)| given(value)).map(|(name, _)| name.clone()));
            members.values().for_each(|value| with_values(value, into));
        }
        Value::Array(values) => values.iter().for_each(|value| with_values(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_public_type_has_a_sample_or_stands_inside_one() {
    let declared = declared();
    assert!(declared.len() > 50, "{:?}", declared.keys());
    let rows: Vec<Row> = table().into_iter().chain(newer()).chain(later_requests()).chain(later_replies()).collect();
    let mut shown: BTreeSet<String> = BTreeSet::new();
    rows.iter().flat_map(samples).for_each(|sample| with_values(&sample, &mut shown));
    let mut reached: BTreeSet<String> = rows.iter().flat_map(|row| type_names(row.name)).collect();
    let mut open: Vec<String> = reached.iter().cloned().collect();
    while let Some(of) = open.pop() {
        let Some(outer) = declared.get(&of) else { continue };
        // A member whose type is declared here counts only if some sample has it.
        let absent: BTreeSet<String> = outer
            .members
            .iter()
            .filter(|(name, _)| !shown.contains(name))
            .flat_map(|(_, kind)| type_names(kind))
            .collect();
        let code = outer.body.lines().filter(|line| !line.trim_start().starts_with("//"));
        let inside = code.flat_map(type_names).filter(|name| !absent.contains(name) && declared.contains_key(name));
        for name in inside.collect::<BTreeSet<String>>() {
            if reached.insert(name.clone()) {
                open.push(name);
            }
        }
    }
    let missing: Vec<&String> = declared.keys().filter(|name| !reached.contains(*name)).collect();
    assert_eq!(missing, [""; 0], "record samples of these in `recorded/next/`, and add their rows");
}

#[test]
fn every_type_of_the_earlier_version_is_here() {
    let table = table();
    for name in types().keys() {
        assert!(table.iter().any(|row| row.name == name) || PARTS.contains(&name.as_str()), "no row for {name}");
    }
}

#[test]
fn no_frame_is_taken_for_one_of_a_later_version() {
    for row in table().iter().filter(|row| matches!(row.name, "FromMachine" | "ToMachine")) {
        for sample in samples(row) {
            assert_ne!((row.again)(&sample).unwrap()["type"], "unknown", "{sample}");
        }
    }
}

/// Objects whose member names are free.
const FREE: [&str; 6] = ["attributes", "claimed", "detail", "labels", "values", "verified"];

fn names(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                into.push(name.clone());
                if !FREE.contains(&name.as_str()) {
                    names(value, into);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, into)),
        _ => {}
    }
}

#[test]
fn the_document_names_every_member() {
    let document = include_str!("../../docs/protocol.md");
    for row in table().into_iter().chain(newer()).chain(later_requests()).chain(later_replies()) {
        let mut found: Vec<String> = row.added.iter().map(|(name, _)| (*name).to_owned()).collect();
        for sample in samples(&row) {
            names(&(row.again)(&sample).unwrap(), &mut found);
        }
        let is_named =
            |name: &String| document.contains(&format!("`{name}`")) || document.contains(&format!("\"{name}\""));
        found.retain(|name| !is_named(name));
        assert_eq!(found, [""; 0], "{}: docs/protocol.md does not say what these are", row.name);
    }
}
