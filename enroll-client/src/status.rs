//! What `lychgate status` says: who we are, until when, by whom, and what will happen next. Pure; the folder has been read.

use pki::UnixTime;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::edge::keystore::Credential;
use crate::offset::Offset;
use crate::record::{Pending, RequestAtGate, State};
use crate::renew::{Life, Worry};
use crate::report::Exit;
use crate::text;

/// Everything to be shown of an identity.
pub struct Standing<'a> {
    /// The folder.
    pub dir: &'a str,
    /// The identity.
    pub credential: &'a Credential,
    /// What was last known.
    pub state: &'a State,
    /// The request that waits at the gate: of a machine that was off for too long to come back at once.
    pub waiting: Option<&'a RequestAtGate>,
    /// Now, by the local clock.
    pub local: UnixTime,
}

/// What will happen next, in one sentence. `now` is the gateway's time.
#[must_use]
pub fn outlook(life: &Life, state: &State, now: UnixTime) -> String {
    let left = text::span(life.not_after.since(now));
    if let Some(trouble) = state.trouble.as_ref().filter(|trouble| trouble.locked) {
        return format!(
            "the gateway refuses this identity ({}); `lychgate run` asks again from time to time",
            trouble.what
        );
    }
    match life.worry(now) {
        Worry::Expired => format!(
            "expired {} ago; `lychgate run` or `lychgate join` rejoins with it as evidence",
            text::span(now.since(life.not_after))
        ),
        Worry::Late => {
            format!("should have been renewed by {}; {left} left; `lychgate renew` tries now", life.renew_by)
        }
        Worry::None if now >= life.renew_after => format!("due for renewal; `lychgate run` renews it; {left} left"),
        Worry::None => {
            format!("`lychgate run` renews it at {} (in {})", life.renew_after, text::span(life.renew_after.since(now)))
        }
    }
}

/// The exit code that goes with how things stand.
#[must_use]
pub fn exit(life: &Life, state: &State, now: UnixTime) -> Exit {
    if life.is_over(now) {
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

impl Standing<'_> {
    fn now(&self) -> UnixTime {
        Offset::from_secs(self.state.clock_offset).gateway_time(self.local)
    }

    /// The word for how things stand.
    fn word(&self) -> &'static str {
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

    /// The request that waits; while the certificate is good there is none worth a word.
    fn at_gate(&self) -> Option<&RequestAtGate> {
        self.waiting.filter(|_| self.exit() == Exit::Expired)
    }

    /// What will happen next.
    fn next(&self) -> String {
        match self.at_gate() {
            Some(request) => format!(
                "request {} with the code {} waits at the gate for a person; `lychgate run` or `lychgate join` goes on \
                 with it",
                request.id, request.code
            ),
            None => outlook(&self.credential.life, self.state, self.now()),
        }
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut value = serde_json::to_value(self.state).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            let pins: Vec<String> =
                self.credential.roots.iter().filter_map(|der| Some(pki::root_pin(der).ok()?.hex())).collect();
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
            ("serial", credential.facts.serial.clone()),
            ("key", format!("SHA-256 {}", credential.facts.key)),
        ];
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

/// Seconds by which clocks may differ before it is worth a word.
const CLOCK_TOLERANCE: u64 = 60;

/// An unfinished request, for programs.
#[must_use]
pub fn pending_json(pending: &Pending, dir: &str) -> Value {
    json!({
        "state": "waiting",
        "directory": dir,
        "gateway": pending.gateway,
        "pin": pending.pin,
        "wanted_name": pending.name,
        "id": pending.request.as_ref().map(|request| &request.id),
        "code": pending.request.as_ref().map(|request| &request.code),
        "expires": pending.request.as_ref().map(|request| request.expires),
        "next": "`lychgate join` goes on with this request",
    })
}

/// An unfinished request, for people.
#[must_use]
pub fn pending_text(pending: &Pending, dir: &str) -> String {
    let mut pairs = vec![("state", "waiting for approval".to_owned()), ("gateway", pending.gateway.clone())];
    if let Some(request) = &pending.request {
        pairs.push(("request", request.id.clone()));
        pairs.push(("code", request.code.clone()));
        pairs.push(("lapses", UnixTime::new(request.expires).to_string()));
    }
    pairs.push(("next", "`lychgate join` goes on with this request".to_owned()));
    pairs.push(("folder", dir.to_owned()));
    text::fields("", &pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Facts, Trouble};

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
        State { facts: Facts::example(), clock_offset: 0, last_contact: None, trouble, proxy: None }
    }

    #[track_caller]
    fn check(now: u64, locked: Option<bool>, want_exit: Exit, want: &str) {
        let state = state(locked);
        let now = UnixTime::new(now);
        assert_eq!(exit(&life(), &state, now), want_exit);
        assert_eq!(outlook(&life(), &state, now), want);
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
}
