//! The events of connections to services.

/// An event of a connection.
#[expect(missing_docs, reason = "each variant is documented; its fields are named for what they hold")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessEvent {
    /// A connection to a service on a machine was opened.
    SessionOpened {
        session: String,
        machine: String,
        service: String,
        door: &'static str,
        source: String,
        rules: Vec<String>,
    },
    /// A person ended a session.
    SessionKilled { session: String, machine: String, service: String, rules: Vec<String> },
    /// A session ended.
    SessionClosed {
        session: String,
        caller: String,
        machine: String,
        service: String,
        reason: &'static str,
        to_machine: u64,
        from_machine: u64,
        millis: u64,
    },
    /// A lock took effect: `sessions` ended within `millis` after the lock was accepted, `left` had not ended by then.
    LockEnforced { kind: &'static str, target: String, sessions: usize, millis: u64, left: usize },
    /// A machine opened a second tunnel from another address while the first was alive: perhaps two machines have one key.
    TunnelTwice { machine: String, before: String, now: String },
}

impl AccessEvent {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::SessionOpened { .. } => "session.opened",
            Self::SessionKilled { .. } => "session.killed",
            Self::SessionClosed { .. } => "session.closed",
            Self::LockEnforced { .. } => "lock.enforced",
            Self::TunnelTwice { .. } => "tunnel.twice",
        }
    }

    pub(super) fn parts(self) -> (String, Vec<String>, Vec<(&'static str, String)>) {
        match self {
            Self::SessionOpened { session, machine, service, door, source, rules } => (
                session,
                rules,
                vec![("machine", machine), ("service", service), ("door", door.to_owned()), ("source", source)],
            ),
            Self::SessionKilled { session, machine, service, rules } => {
                (session, rules, vec![("machine", machine), ("service", service)])
            }
            Self::SessionClosed { session, caller, machine, service, reason, to_machine, from_machine, millis } => (
                session,
                vec![],
                vec![
                    ("caller", caller),
                    ("machine", machine),
                    ("service", service),
                    ("reason", reason.to_owned()),
                    ("to_machine", to_machine.to_string()),
                    ("from_machine", from_machine.to_string()),
                    ("millis", millis.to_string()),
                ],
            ),
            Self::LockEnforced { kind, target, sessions, millis, left } => (
                target,
                vec![],
                vec![
                    ("kind", kind.to_owned()),
                    ("sessions", sessions.to_string()),
                    ("millis", millis.to_string()),
                    ("left", left.to_string()),
                ],
            ),
            Self::TunnelTwice { machine, before, now } => (machine, vec![], vec![("before", before), ("now", now)]),
        }
    }
}
