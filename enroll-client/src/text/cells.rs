//! Cells of the tables in this folder: times, names, pairs, sorted rows. Untrusted text is escaped later, by [`crate::text`].

use std::cmp::Ordering;
use std::collections::BTreeMap;

use pki::UnixTime;

use crate::text::table::NOTHING;
use crate::text::{fields, span};

/// The heading of what evidence says and nobody vouches for.
pub(super) const STATED: &str = "\nSTATED in its evidence, proven by nobody\n";

/// A time, or a dash.
pub(super) fn time(at: Option<u64>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| UnixTime::new(at).to_string())
}

/// Text, or a dash.
pub(super) fn or_dash(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| NOTHING.to_owned())
}

/// `a=b c=d`.
pub(super) fn joined(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}

/// `key  value` lines: fixed ones, then those of a map.
pub(super) fn listed(always: &[(&str, String)], map: &BTreeMap<String, String>) -> String {
    let mut pairs = always.to_vec();
    pairs.extend(map.iter().map(|(key, value)| (key.as_str(), value.clone())));
    fields("  ", &pairs)
}

/// An assurance, and what is in the hardware: `hardware (key)`.
pub(super) fn assurance(level: &str, of: Option<&String>) -> String {
    of.map_or_else(|| level.to_owned(), |of| format!("{level} ({of})"))
}

/// A time relative to `now`.
pub(super) fn from_now(at: u64, now: UnixTime) -> String {
    let at = UnixTime::new(at);
    if at > now { format!("in {}", span(at.since(now))) } else { format!("{} ago", span(now.since(at))) }
}

/// The rows sorted by `order`.
pub(super) fn sorted<T>(rows: &[T], order: impl Fn(&T, &T) -> Ordering) -> Vec<&T> {
    let mut rows: Vec<&T> = rows.iter().collect();
    rows.sort_by(|a, b| order(a, b));
    rows
}

/// The last part of a SPIFFE ID, with its role when it is a machine's.
pub(super) fn short(identity: &str) -> String {
    let mut parts = identity.rsplit('/');
    match (parts.next(), parts.next()) {
        (Some(name), Some("machine")) => format!("machine/{name}"),
        (Some(name), _) => name.to_owned(),
        (None, _) => identity.to_owned(),
    }
}
