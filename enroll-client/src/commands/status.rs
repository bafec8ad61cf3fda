//! The output of `lychgate status`: the identity, its validity, its gateway, and what happens next. Without I/O.

use pki::UnixTime;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::core::attestation::KeyPlace;
use crate::core::offset::Offset;
use crate::core::record::{Denied, Pending, RequestAtGate, RunState, State, TunnelState};
use crate::core::renew::{ExpiryState, Life};
use crate::edge::keystore::Credential;
use crate::text;
use crate::text::report::Exit;

/// The input of `lychgate status` with an identity.
pub struct StatusReport<'a> {
    /// The folder.
    pub dir: &'a str,
    /// The identity.
    pub credential: &'a Credential,
    /// The contents of `state.json`.
    pub state: &'a State,
    /// The waiting request of a machine whose certificate has expired.
    pub waiting: Option<&'a RequestAtGate>,
    /// The denial of that request.
    pub denied: Option<&'a Denied>,
    /// The process id of `lychgate run`, if it runs.
    pub running: Option<u32>,
    /// Now, by the local clock.
    pub local: UnixTime,
}

/// What is said of a key besides its digest.
const fn key_text(place: KeyPlace) -> &'static str {
    match place {
        KeyPlace::File => "",
        KeyPlace::Tpm => ", in the TPM",
    }
}

/// Whether the gateway has reported that the machine or person was removed.
fn is_removed(state: &State) -> bool {
    state.trouble.as_ref().is_some_and(|trouble| trouble.code == "removed")
}

/// Whether the certificate is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewer {
    /// By a running `lychgate run`.
    Running,
    /// It is not.
    Nobody,
}

/// What will happen next, in one sentence. `now` is the gateway's time.
#[must_use]
pub fn outlook(life: &Life, state: &State, kept: Renewer, now: UnixTime) -> String {
    let left = text::span(life.not_after.since(now));
    if is_removed(state) {
        return "nothing: it was removed at the gateway, or has left; to join again: `lychgate leave --local`, then join"
            .to_owned();
    }
    if let Some(trouble) = state.trouble.as_ref().filter(|trouble| trouble.locked) {
        let next = match kept {
            Renewer::Running => "`lychgate run` asks again from time to time",
            Renewer::Nobody => "`lychgate run`, which does not run, would ask again from time to time",
        };
        return format!("the gateway refuses this identity ({}); {next}", trouble.what);
    }
    match life.expiry_state(now) {
        ExpiryState::Expired => format!(
            "expired {} ago; `lychgate run` or `lychgate join` rejoins with it as evidence",
            text::span(now.since(life.not_after))
        ),
        ExpiryState::Late => {
            format!("should have been renewed by {}; {left} left; `lychgate renew` tries now", life.renew_by)
        }
        ExpiryState::InTime if now >= life.renew_after && kept == Renewer::Running => {
            format!("due for renewal; `lychgate run` renews it; {left} left")
        }
        ExpiryState::InTime if kept == Renewer::Nobody => {
            format!("nothing renews it: `lychgate run` does not run here; {left} left")
        }
        ExpiryState::InTime => {
            format!("`lychgate run` renews it at {} (in {})", life.renew_after, text::span(life.renew_after.since(now)))
        }
    }
}

/// The exit code for this state.
#[must_use]
pub fn exit(life: &Life, state: &State, now: UnixTime) -> Exit {
    if is_removed(state) {
        Exit::Locked
    } else if life.is_over(now) {
        Exit::Expired
    } else if state.trouble.as_ref().is_some_and(|trouble| trouble.locked) {
        Exit::Locked
    } else {
        Exit::Ok
    }
}

/// Subject and end of validity of a certificate.
fn summary(der: &[u8]) -> (String, UnixTime) {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => {
            let end = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
            (certificate.subject().to_string(), UnixTime::new(end))
        }
        Err(_) => ("(unreadable)".to_owned(), UnixTime::new(0)),
    }
}

fn describe(der: &[u8]) -> Value {
    let (subject, end) = summary(der);
    json!({ "subject": subject, "not_after": end.secs() })
}

impl StatusReport<'_> {
    fn now(&self) -> UnixTime {
        Offset::from_secs(self.state.clock_offset).gateway_time(self.local)
    }

    /// The state as a word.
    fn word(&self) -> &'static str {
        if is_removed(self.state) {
            return "removed";
        }
        if self.denied.is_some() && self.credential.life.is_over(self.now()) {
            return "denied";
        }
        match exit(&self.credential.life, self.state, self.now()) {
            Exit::Expired => "expired",
            Exit::Locked => "locked",
            _ => "valid",
        }
    }

    /// The exit code of `status`.
    #[must_use]
    pub fn exit(&self) -> Exit {
        exit(&self.credential.life, self.state, self.now())
    }

    /// The waiting request; `None` while the certificate is valid.
    fn at_gate(&self) -> Option<&RequestAtGate> {
        self.waiting.filter(|_| self.exit() == Exit::Expired)
    }

    fn kept(&self) -> Renewer {
        if self.running.is_some() { Renewer::Running } else { Renewer::Nobody }
    }

    /// What `lychgate run` wrote, if it still runs.
    fn run(&self) -> Option<&RunState> {
        self.state.run.as_ref().filter(|run| self.running == Some(run.pid))
    }

    /// The state of the tunnel as text, by the local clock.
    fn tunnel(&self) -> Option<String> {
        let run = self.run()?;
        let since = |secs: u64| text::span(self.local.since(UnixTime::new(secs)));
        Some(match &run.tunnel {
            None if self.credential.identity.role == pki::Role::Person => return None,
            None => "not there yet".to_owned(),
            Some(TunnelState { up: true, since: at, .. }) => format!("up for {}", since(*at)),
            Some(TunnelState { up: false, since: at, why }) => {
                format!("down for {}: {}", since(*at), why.as_deref().unwrap_or("the reason is not known"))
            }
        })
    }

    /// What will happen next.
    fn next(&self) -> String {
        match self.at_gate() {
            Some(request) => format!(
                "request {} with the code {} waits at the gate for a person; `lychgate run` or `lychgate join` goes on \
                 with it",
                request.id, request.code
            ),
            None => match self.denied.filter(|_| self.exit() == Exit::Expired) {
                Some(denied) => {
                    let at = UnixTime::new(denied.at);
                    format!("nothing: a person turned it away at {at} ({}); `lychgate join` asks again", denied.what)
                }
                None => outlook(&self.credential.life, self.state, self.kept(), self.now()),
            },
        }
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut value = serde_json::to_value(self.state).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            let pins: Vec<String> =
                self.credential.roots.iter().filter_map(|der| Some(pki::root_pin(der).ok()?.hex())).collect();
            // The state written by an ended process is outdated.
            fields.insert("run".into(), self.run().map(|run| json!(run)).unwrap_or_default());
            fields.insert("running".into(), self.running.is_some().into());
            fields.insert("key_place".into(), self.credential.key.place().as_str().into());
            if let Some(denied) = self.denied {
                fields.insert("denied".into(), json!(denied));
            }
            fields.insert("state".into(), self.word().into());
            fields.insert("directory".into(), self.dir.into());
            fields.insert("chain".into(), self.credential.chain.iter().map(|der| describe(der)).collect());
            fields.insert("roots".into(), self.credential.roots.iter().map(|der| describe(der)).collect());
            fields.insert("root_pins".into(), pins.into());
            fields.insert("now".into(), self.now().secs().into());
            fields.insert("next".into(), self.next().into());
            if let Some(RequestAtGate { id, code, expires, .. }) = self.at_gate() {
                fields.insert("waiting".into(), json!({ "id": id, "code": code, "expires": expires }));
            }
        }
        value
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let (credential, now) = (self.credential, self.now());
        let life = &credential.life;
        let left = if life.is_over(now) {
            "over".to_owned()
        } else {
            format!("{} left", text::span(life.not_after.since(now)))
        };
        let mut pairs = vec![
            ("identity", credential.facts.identity.clone()),
            ("state", self.word().to_owned()),
            ("valid", format!("{} to {} ({left})", life.not_before, life.not_after)),
            ("next", self.next()),
            ("run", run_text(self.running)),
            ("serial", credential.facts.serial.clone()),
            ("key", format!("SHA-256 {}{}", credential.facts.key, key_text(credential.key.place()))),
        ];
        if let Some(wanted) = &credential.facts.wanted_name {
            pairs.insert(
                1,
                ("asked for", format!("the name `{wanted}`; an approver gave it `{}`", credential.facts.name)),
            );
        }
        let at = pairs.len() - 2;
        if let Some(tunnel) = self.tunnel() {
            pairs.insert(at, ("tunnel", tunnel));
        }
        for (word, services) in
            self.run().into_iter().flat_map(|run| [("exposes", &run.exposes), ("reaches", &run.reaches)])
        {
            if !services.is_empty() {
                pairs.insert(pairs.len() - 2, (word, services.join(", ")));
            }
        }
        for der in &credential.chain {
            let (subject, end) = summary(der);
            pairs.push(("issued by", format!("{subject} (until {end})")));
        }
        for der in &credential.roots {
            let (subject, end) = summary(der);
            pairs.push(("root", format!("{subject} (until {end})")));
        }
        pairs.push(("pin", credential.facts.pin.clone()));
        pairs.push(("gateway", format!("{} to enroll, {} to manage", credential.gateway, credential.manage)));
        pairs.push(("last contact", self.contact(now)));
        if let Some(trouble) = &self.state.trouble {
            let since = UnixTime::new(trouble.since);
            let tries = text::count(trouble.failures, "attempt");
            pairs.push(("trouble", format!("since {since}, {tries}: {}", trouble.what)));
        }
        if self.state.clock_offset.unsigned_abs() > CLOCK_TOLERANCE {
            let ahead = if self.state.clock_offset < 0 { "ahead of" } else { "behind" };
            let by = text::span(std::time::Duration::from_secs(self.state.clock_offset.unsigned_abs()));
            pairs.push(("clock", format!("this machine's clock is {by} {ahead} the gateway's")));
        }
        pairs.push(("folder", self.dir.to_owned()));
        text::fields("", &pairs)
    }

    fn contact(&self, now: UnixTime) -> String {
        match self.state.last_contact {
            Some(at) => {
                let at = UnixTime::new(at);
                format!("{at} ({} ago)", text::span(now.since(at)))
            }
            None => "unknown".to_owned(),
        }
    }
}

/// Difference of the clocks, in seconds, above which it is shown.
const CLOCK_TOLERANCE: u64 = 60;

/// How an unfinished request is continued.
fn pending_next(pending: &Pending, running: Option<u32>, now: UnixTime) -> &'static str {
    match (is_over(pending, now), running.is_some()) {
        (false, true) => "`lychgate run` goes on with this request",
        (false, false) => "`lychgate join`, or `lychgate run`, goes on with this request",
        (true, _) => "`lychgate run` asks again, with the same key and a new code",
    }
}

/// Whether the request has expired by the local clock.
fn is_over(pending: &Pending, now: UnixTime) -> bool {
    pending.request.as_ref().is_some_and(|request| UnixTime::new(request.expires) <= now)
}

/// An unfinished request, for programs.
#[must_use]
pub fn pending_json(pending: &Pending, dir: &str, running: Option<u32>, now: UnixTime) -> Value {
    json!({
        "state": "waiting",
        "directory": dir,
        "gateway": pending.gateway,
        "pin": pending.pin,
        "wanted_name": pending.name,
        "id": pending.request.as_ref().map(|request| &request.id),
        "code": pending.request.as_ref().map(|request| &request.code),
        "expires": pending.request.as_ref().map(|request| request.expires),
        "running": running.is_some(),
        "next": pending_next(pending, running, now),
    })
}

/// An unfinished request, for people.
#[must_use]
pub fn pending_text(pending: &Pending, dir: &str, running: Option<u32>, now: UnixTime) -> String {
    let mut pairs = vec![("state", "waiting for approval".to_owned()), ("gateway", pending.gateway.clone())];
    if let Some(request) = &pending.request {
        let (lapses, name) = (UnixTime::new(request.expires), if is_over(pending, now) { "lapsed" } else { "lapses" });
        pairs.push(("request", request.id.clone()));
        pairs.push(("code", request.code.clone()));
        pairs.push((name, lapses.to_string()));
    }
    pairs.push(("run", run_text(running)));
    pairs.push(("next", pending_next(pending, running, now).to_owned()));
    pairs.push(("folder", dir.to_owned()));
    text::fields("", &pairs)
}

/// Whether `lychgate run` runs in the folder.
fn run_text(running: Option<u32>) -> String {
    running.map_or_else(|| "not running".to_owned(), |pid| format!("running, process {pid}"))
}

/// A denied request, for programs.
#[must_use]
pub fn denied_json(pending: &Pending, dir: &str) -> Value {
    json!({
        "state": "denied",
        "directory": dir,
        "gateway": pending.gateway,
        "pin": pending.pin,
        "wanted_name": pending.name,
        "denied": pending.denied,
        "next": DENIED_NEXT,
    })
}

/// A denied request, for people.
#[must_use]
pub fn denied_text(pending: &Pending, dir: &str) -> String {
    let mut pairs = vec![("state", "denied by a person".to_owned()), ("gateway", pending.gateway.clone())];
    if let Some(denied) = &pending.denied {
        pairs.push(("denied", format!("received {}: {}", UnixTime::new(denied.at), denied.what)));
    }
    pairs.push(("next", DENIED_NEXT.to_owned()));
    pairs.push(("folder", dir.to_owned()));
    text::fields("", &pairs)
}

const DENIED_NEXT: &str = "nothing by itself; `lychgate join` asks whether it was taken back, and with the token or URL asks \
                           anew, with a new key";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::{Facts, Trouble};

    fn life() -> Life {
        let facts = Facts::example();
        Life {
            not_before: UnixTime::new(facts.not_before),
            not_after: UnixTime::new(facts.not_after),
            renew_after: UnixTime::new(facts.renew_after),
            renew_by: UnixTime::new(facts.renew_by),
        }
    }

    fn state(locked: Option<bool>) -> State {
        let trouble =
            locked.map(|locked| Trouble { code: "x".into(), what: "stolen".into(), since: 1, failures: 2, locked });
        State {
            facts: Facts::example(),
            clock_offset: 0,
            last_contact: None,
            trouble,
            proxy: None,
            renaming: None,
            evidence: vec![],
            run: None,
        }
    }

    #[test]
    fn of_a_request_at_the_gate_it_is_said_who_goes_on_with_it() {
        let request = RequestAtGate { id: "e1".into(), key: "k".into(), code: "AAAA-BBBB".into(), expires: 100 };
        let pending = Pending {
            version: 1,
            gateway: "gate:1".into(),
            pin: "p".into(),
            token: None,
            name: None,
            attributes: std::collections::BTreeMap::new(),
            created: 0,
            request: Some(request),
            denied: None,
            trouble: None,
        };
        for (now, running, time, run, next) in [
            (99, None, "lapses   1970", "not running", "`lychgate join`, or `lychgate run`, goes on with this request"),
            (99, Some(7), "lapses   1970", "running, process 7", "`lychgate run` goes on with this request"),
            (100, None, "lapsed   1970", "not running", "`lychgate run` asks again, with the same key and a new code"),
            (100, Some(7), "lapsed   1970", "running", "`lychgate run` asks again, with the same key and a new code"),
        ] {
            let now = UnixTime::new(now);
            let (text, json) = (pending_text(&pending, "d", running, now), pending_json(&pending, "d", running, now));
            assert!([time, run, next].iter().all(|part| text.contains(part)), "{text}");
            assert_eq!((json["next"].as_str(), json["running"].as_bool()), (Some(next), Some(running.is_some())));
        }
    }

    #[track_caller]
    fn check(now: u64, locked: Option<bool>, want_exit: Exit, want: &str) {
        let state = state(locked);
        let now = UnixTime::new(now);
        assert_eq!(exit(&life(), &state, now), want_exit);
        assert_eq!(outlook(&life(), &state, Renewer::Running, now), want);
    }

    #[test]
    fn what_will_happen_next() {
        check(100_000, None, Exit::Ok, "`lychgate run` renews it at 1970-01-02T15:46:40Z (in 12 h)");
        check(150_000, None, Exit::Ok, "due for renewal; `lychgate run` renews it; 10 h 6 min left");
        check(
            170_000,
            Some(false),
            Exit::Ok,
            "should have been renewed by 1970-01-02T21:46:40Z; 4 h 33 min left; `lychgate renew` tries now",
        );
        check(
            190_000,
            None,
            Exit::Expired,
            "expired 1 h ago; `lychgate run` or `lychgate join` rejoins with it as evidence",
        );
        check(
            100_000,
            Some(true),
            Exit::Locked,
            "the gateway refuses this identity (stolen); `lychgate run` asks again from time to time",
        );
    }

    /// The text says whether `lychgate run` renews the certificate.
    #[test]
    fn nobody_renews_what_nothing_runs_for() {
        let at = UnixTime::new(100_000);
        let want = "nothing renews it: `lychgate run` does not run here; 1 d left";
        assert_eq!(outlook(&life(), &state(None), Renewer::Nobody, at), want);
        assert!(outlook(&life(), &state(Some(true)), Renewer::Nobody, at).contains("which does not run"));
        let mut removed = state(Some(true));
        removed.trouble.as_mut().unwrap().code = "removed".into();
        for kept in [Renewer::Running, Renewer::Nobody] {
            assert!(outlook(&life(), &removed, kept, at).starts_with("nothing: it was removed"));
        }
        // Also with an expired certificate.
        assert_eq!(exit(&life(), &removed, UnixTime::new(500_000)), Exit::Locked);
    }
}
