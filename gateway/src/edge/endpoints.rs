//! The one table of endpoints: who may call what, how large, how often. A test walks every cell.

use axum::http::Method;

use super::{
    content::Content,
    fronts::{Front, native::Native},
    headers::Effect,
    http::{Boxed, Call, Handler, HolderCall},
};
use crate::{
    core::{admission::Use, face::Face},
    edge::fronts::native,
    ports::rate::Class,
};

/// Who may call an endpoint.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Anybody who can connect.
    Anyone,
    /// Whoever proves a key in the request.
    KeyHolder,
    /// A machine or a person with a certificate in use.
    Holder,
    /// A machine with a certificate in use.
    Machine,
    /// A person with a certificate in use.
    Person,
}

/// What a request may carry beside its own members.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Nothing.
    Nothing,
    /// Evidence: its body may be as large as the attestors that are switched on want it.
    Evidence,
}

/// One row.
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The path, with `{parameters}`.
    pub path: &'static str,
    /// The face it is on.
    pub face: Face,
    /// The protocol it belongs to: how its requests are declared, and how it refuses.
    pub front: &'static dyn Front,
    /// What it answers with, and so what a browser may do with that.
    pub content: Content,
    /// Whether it changes something: then pages of other sites are kept out, and the body is declared as the front wants it.
    pub changes: Effect,
    /// What may stand in the query; anything else is refused.
    pub query: &'static [&'static str],
    /// Largest body, in bytes.
    pub body_max: usize,
    /// What may make it larger.
    pub carries: Carries,
    /// The rate it counts against.
    pub rate: Class,
    /// What a certificate is used for here: `GET` reads, and so does a question or a report; all else changes.
    pub intent: Use,
    /// What it does, and for whom.
    pub run: Handler,
}

impl Endpoint {
    /// Who may call it.
    #[must_use]
    pub const fn callers(&self) -> Callers {
        self.run.callers()
    }
}

/// Every endpoint there is.
#[must_use]
pub fn all() -> Vec<Endpoint> {
    let mut all = enroll();
    all.extend(own());
    all.extend(ssh());
    all.extend(requests());
    all.extend(admin());
    all.extend(sessions());
    all
}

fn open(path: &'static str, rate: Class, run: fn(Call) -> Boxed) -> Endpoint {
    Endpoint {
        method: Method::GET,
        path,
        face: Face::Enroll,
        front: &Native,
        content: Content::Data,
        changes: Effect::Nothing,
        query: &[],
        body_max: 0,
        carries: Carries::Nothing,
        rate,
        intent: Use::Read,
        run: Handler::Anyone(run),
    }
}

fn keyed(path: &'static str, rate: Class, run: fn(Call) -> Boxed) -> Endpoint {
    Endpoint { run: Handler::KeyHolder(run), ..open(path, rate, run) }
}

fn enroll() -> Vec<Endpoint> {
    use native::enroll::{bundle, crl, enroll, gateway, health, poll, ready, withdraw};
    vec![
        open("/healthz", Class::Health, health),
        open("/readyz", Class::Health, ready),
        open("/v1/gateway", Class::Poll, gateway),
        open("/v1/bundle", Class::Poll, bundle),
        open("/v1/ssh/ca", Class::Poll, native::ssh::cas),
        open("/.well-known/ssh-known-hosts", Class::Poll, native::ssh::known_hosts),
        open("/v1/crl/{list}", Class::Poll, crl),
        Endpoint {
            method: Method::POST,
            changes: Effect::State,
            body_max: wire::limits::ENROLL_BODY_MAX,
            carries: Carries::Evidence,
            ..keyed("/v1/enrollments", Class::Anonymous, enroll)
        },
        Endpoint { query: &["wait"], ..keyed("/v1/enrollments/{id}", Class::Poll, poll) },
        Endpoint {
            method: Method::DELETE,
            changes: Effect::State,
            ..keyed("/v1/enrollments/{id}", Class::Anonymous, withdraw)
        },
    ]
}

fn held(method: Method, path: &'static str, run: fn(HolderCall) -> Boxed) -> Endpoint {
    let body_max = if [Method::POST, Method::PATCH].contains(&method) { wire::limits::REQUEST_BODY_MAX } else { 0 };
    let intent = if method == Method::GET { Use::Read } else { Use::Change };
    // Whatever does not only fetch may change something (RFC 9110 9.2.1).
    let changes = if method == Method::GET { Effect::Nothing } else { Effect::State };
    Endpoint {
        method,
        path,
        face: Face::Manage,
        front: &Native,
        content: Content::Data,
        changes,
        query: &[],
        body_max,
        carries: Carries::Nothing,
        rate: Class::Machine,
        intent,
        run: Handler::Holder(run),
    }
}

fn machine(method: Method, path: &'static str, run: fn(HolderCall) -> Boxed) -> Endpoint {
    Endpoint { run: Handler::Machine(run), ..held(method, path, run) }
}

fn own() -> Vec<Endpoint> {
    use native::own::{leave, myself, renew, sealed};
    vec![
        held(Method::GET, "/v1/self", myself),
        Endpoint { intent: Use::Renewal, carries: Carries::Evidence, ..held(Method::POST, "/v1/renew", renew) },
        held(Method::POST, "/v1/leave", leave),
        machine(Method::POST, "/v1/sealed", sealed),
    ]
}

fn ssh() -> Vec<Endpoint> {
    use native::ssh::{host, user};
    vec![machine(Method::POST, "/v1/ssh/host", host), person(Method::POST, "/v1/ssh/user", user)]
}

fn person(method: Method, path: &'static str, run: fn(HolderCall) -> Boxed) -> Endpoint {
    Endpoint { run: Handler::Person(run), rate: Class::Person, ..held(method, path, run) }
}

/// A listing, page by page.
fn listing(path: &'static str, query: &'static [&'static str], run: fn(HolderCall) -> Boxed) -> Endpoint {
    Endpoint { query, ..person(Method::GET, path, run) }
}

/// What every listing takes.
const PAGE: &[&str] = &["after", "limit"];

fn requests() -> Vec<Endpoint> {
    use native::people::{approve, deny, list, reopen, show, watch};
    vec![
        listing("/v1/requests", &["all", "after", "limit"], list),
        listing("/v1/request-events", &["seen", "wait"], watch),
        person(Method::GET, "/v1/requests/{id}", show),
        person(Method::POST, "/v1/requests/{id}/approve", approve),
        person(Method::POST, "/v1/requests/{id}/deny", deny),
        person(Method::POST, "/v1/requests/{id}/reopen", reopen),
    ]
}

fn sessions() -> Vec<Endpoint> {
    use native::sessions::{events, kill, list, show};
    vec![
        listing("/v1/sessions", &["machine", "person", "service", "rule", "after", "limit"], list),
        person(Method::GET, "/v1/sessions/{id}", show),
        person(Method::DELETE, "/v1/sessions/{id}", kill),
        listing("/v1/session-events", &["after", "wait"], events),
    ]
}

fn admin() -> Vec<Endpoint> {
    use native::admin as to;
    vec![
        listing("/v1/machines", &["state", "label", "owner", "online", "name", "after", "limit"], to::machines),
        person(Method::GET, "/v1/machines/{name}", to::machine),
        person(Method::PATCH, "/v1/machines/{name}", to::set_machine),
        person(Method::DELETE, "/v1/machines/{name}", to::remove_machine),
        // A machine may report about itself, and whoever runs a tool over many of them reports about all at once.
        Endpoint {
            body_max: wire::limits::REPORT_BODY_MAX,
            intent: Use::Read,
            ..held(Method::POST, "/v1/machines/{name}/reports", to::report)
        },
        person(Method::POST, "/v1/renewals", to::ask_to_renew),
        listing("/v1/people", PAGE, to::people),
        person(Method::GET, "/v1/people/{name}", to::one_person),
        person(Method::PATCH, "/v1/people/{name}", to::set_person),
        person(Method::DELETE, "/v1/people/{name}", to::remove_person),
        person(Method::POST, "/v1/people/{name}/offboard", to::offboard),
        person(Method::POST, "/v1/people/invite", to::invite),
        listing("/v1/locks", PAGE, to::locks),
        person(Method::POST, "/v1/locks", to::lock),
        person(Method::DELETE, "/v1/locks/{kind}/{target}", to::unlock),
        listing("/v1/tokens", PAGE, to::tokens),
        person(Method::POST, "/v1/tokens", to::create_token),
        person(Method::DELETE, "/v1/tokens/{id}", to::revoke_token),
        listing("/v1/audit", &["event", "subject", "actor", "since", "until", "after", "limit"], to::audit),
        Endpoint { intent: Use::Read, ..person(Method::POST, "/v1/can-i", to::can_i) },
        Endpoint { rate: Class::Person, ..held(Method::GET, "/metrics", to::metrics) },
    ]
}
