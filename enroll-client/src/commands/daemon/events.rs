//! The output of `lychgate run`, one line per event.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::core::record::Facts;
use crate::edge::clock;
use crate::edge::terminal::{self, Format};
use crate::flow::enroll::{EnrollmentObserver, WaitingNotice};
use crate::platform;
use crate::text;
use crate::text::report::Complaint;

/// Interval of messages about a waiting request.
const REMIND_EVERY: Duration = Duration::from_secs(3_600);

/// Severity of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// No action is needed.
    Info,
    /// A problem that may disappear by itself.
    Warning,
    /// A person should act.
    Error,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Writes events, one a line.
#[derive(Clone, Copy)]
pub struct Events {
    /// Text or JSON, one line per event.
    pub format: Format,
}

impl Events {
    /// Reports that an approver has assigned another name than the requested one.
    pub fn admitted(self, facts: &Facts) {
        if let Some(wanted) = &facts.wanted_name {
            let what = format!("admitted as `{}`, the name an approver gave, and not as `{wanted}`", facts.name);
            self.tell(Level::Info, "admitted", &what, &[("wanted_name", wanted.clone())]);
        }
    }

    /// Writes an event.
    pub fn tell(self, level: Level, event: &str, what: &str, fields: &[(&str, String)]) {
        let now = clock::now();
        let mut value = Map::new();
        value.insert("time".into(), now.secs().into());
        value.insert("level".into(), level.as_str().into());
        value.insert("event".into(), event.into());
        value.insert("what".into(), what.into());
        for (name, field) in fields {
            value.insert((*name).to_owned(), field.clone().into());
        }
        let line = format!("{now} {} {event}: {}", level.as_str(), text::safe(what));
        terminal::result(self.format, &Value::Object(value), &line);
        platform::notify_status(&format!("{event}: {}", text::safe(what)));
    }
}

/// Reports the progress of an enrollment as events.
pub struct EventObserver {
    events: Events,
    notice: Option<WaitingNotice>,
    said: tokio::time::Instant,
}

impl EnrollmentObserver for EventObserver {
    fn waiting(&mut self, notice: &WaitingNotice) {
        self.say(notice);
        self.notice = Some(notice.clone());
    }

    fn evidence(&mut self, line: &str) {
        self.events.tell(Level::Info, "evidence", line, &[]);
    }

    fn tick(&mut self) {
        if let Some(notice) = self.notice.clone().filter(|_| self.said.elapsed() >= REMIND_EVERY) {
            self.say(&notice);
        }
    }

    fn retrying(&mut self, why: &Complaint, pause: Duration) {
        let what = format!("{why}; trying again in {}", text::span(pause.max(Duration::from_secs(1))));
        self.events.tell(Level::Warning, "retrying", &what, &[("code", why.code.clone())]);
    }
}

impl EventObserver {
    /// Starts without earlier messages.
    #[must_use]
    pub fn new(events: Events) -> Self {
        Self { events, notice: None, said: tokio::time::Instant::now() }
    }

    fn say(&mut self, notice: &WaitingNotice) {
        self.said = tokio::time::Instant::now();
        let what = format!(
            "the gateway {} wants an approver to let us in; read them the code {} for request {}",
            notice.gateway, notice.code, notice.id
        );
        let fields =
            [("id", notice.id.clone()), ("code", notice.code.clone()), ("expires", notice.expires.to_string())];
        self.events.tell(Level::Warning, "waiting", &what, &fields);
    }
}
