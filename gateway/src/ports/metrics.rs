//! What the gateway counts, in the OpenMetrics text format. Labels come from fixed sets only, so that nobody can make
//! the table grow from outside.

use std::{fmt, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    core::timekeeping::Doubt,
    edge::{
        endpoints,
        framing::{BadFraming, Stage},
        tls::Face,
    },
    ports::rate::Class,
    registry::live::Reason,
};

/// The media type of [`Metrics::render`].
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    face: &'static str,
    /// The route's pattern, never the path itself.
    endpoint: String,
    /// `2xx` and so on.
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaceLabel {
    face: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CaLabel {
    ca: &'static str,
}

/// What has an end among the authority's files, as [`crate::core::ca_end::CaEnds`] calls it.
const CA_ENDS: [&str; 5] = ["root", "root-crl", "machine", "person", "gateway"];

/// How a handshake ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum HandshakeOutcome {
    /// A connection came of it.
    Done,
    /// It took longer than allowed.
    TooSlow,
    /// Not TLS, or no version, cipher or protocol in common.
    Refused,
    /// The client's certificate was missing or not good.
    Certificate,
    /// The client named a host that is not ours.
    UnknownName,
    /// The peer went away.
    Gone,
    /// A balancer's connection without a good PROXY protocol header.
    Header,
}

impl HandshakeOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::TooSlow => "too-slow",
            Self::Refused => "refused",
            Self::Certificate => "certificate",
            Self::UnknownName => "unknown-name",
            Self::Gone => "gone",
            Self::Header => "proxy-header",
        }
    }
}

/// Why a socket was closed before its handshake.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum TurnedAway {
    /// Too many connections in total.
    Total,
    /// Too many from one prefix.
    Prefix,
    /// Too many handshakes from one prefix.
    Handshakes,
    /// Too many on the enroll face.
    Enroll,
    /// Too many on the enroll face from one prefix.
    EnrollPrefix,
}

impl TurnedAway {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Prefix => "prefix",
            Self::Handshakes => "handshakes",
            Self::Enroll => "enroll",
            Self::EnrollPrefix => "enroll-prefix",
        }
    }

    /// All there are.
    pub const ALL: [Self; 5] = [Self::Total, Self::Prefix, Self::Handshakes, Self::Enroll, Self::EnrollPrefix];

    /// What in the configuration would let more in.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Total => "connections",
            Self::Prefix => "connections_per_prefix",
            Self::Handshakes => "handshakes_per_prefix",
            Self::Enroll => "connections_enroll",
            Self::EnrollPrefix => "connections_enroll_per_prefix",
        }
    }
}

impl HandshakeOutcome {
    /// All there are.
    pub const ALL: [Self; 7] =
        [Self::Done, Self::TooSlow, Self::Refused, Self::Certificate, Self::UnknownName, Self::Gone, Self::Header];
}

/// How something of ours went.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Done,
    /// Not.
    Failed,
}

impl Outcome {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Done, Self::Failed];

    /// That of a result.
    pub const fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Done } else { Self::Failed }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// What becomes of enrollments.
const ENROLLMENTS: [&str; 4] = ["issued", "waiting", "approved", "denied"];

/// What becomes of renewals that are not refused.
const RENEWALS: [&str; 1] = ["issued"];

/// What becomes of locks.
const LOCKS: [&str; 3] = ["set", "lifted", "forked"];

/// What becomes of streams that ask for a connection of their own.
const DIAL_BACKS: [&str; 2] = ["done", "refused"];

/// Upper bounds of a commit's and a request's time, in seconds: from a fast disk to a hanging one.
const SECONDS: [f64; 10] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<FaceLabel, Histogram, fn() -> Histogram>,
    connections: Family<FaceLabel, Gauge>,
    turned_away: Family<ReasonLabel, Counter>,
    handshakes: Family<OutcomeLabel, Counter>,
    cuts: Family<ReasonLabel, Counter>,
    framing: Family<ReasonLabel, Counter>,
    timeouts: Family<ReasonLabel, Counter>,
    limited: Family<ClassLabel, Counter>,
    enrollments: Family<OutcomeLabel, Counter>,
    renewals: Family<OutcomeLabel, Counter>,
    locks: Family<OutcomeLabel, Counter>,
    commit_seconds: Histogram,
    commit_failures: Counter,
    waiting: Gauge,
    tunnels: Gauge,
    sessions: Gauge,
    sessions_ended: Family<ReasonLabel, Counter>,
    dial_backs: Family<OutcomeLabel, Counter>,
    leaf_not_after: Gauge<f64, AtomicU64>,
    build_info: Family<VersionLabel, Gauge>,
    accept_failures: Counter,
    reloads: Family<OutcomeLabel, Counter>,
    housekeeping: Family<OutcomeLabel, Counter>,
    ca_not_after: Family<CaLabel, Gauge<f64, AtomicU64>>,
    crl_entries: Family<CaLabel, Gauge>,
    crl_left_out: Family<CaLabel, Gauge>,
    clock_suspect: Gauge,
    damaged: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    /// Everything at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut this = Self {
            registry: Registry::with_prefix("lychgate"),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            connections: Family::default(),
            turned_away: Family::default(),
            handshakes: Family::default(),
            cuts: Family::default(),
            framing: Family::default(),
            timeouts: Family::default(),
            limited: Family::default(),
            enrollments: Family::default(),
            renewals: Family::default(),
            locks: Family::default(),
            commit_seconds: seconds(),
            commit_failures: Counter::default(),
            waiting: Gauge::default(),
            tunnels: Gauge::default(),
            sessions: Gauge::default(),
            sessions_ended: Family::default(),
            dial_backs: Family::default(),
            leaf_not_after: Gauge::default(),
            build_info: Family::default(),
            accept_failures: Counter::default(),
            reloads: Family::default(),
            housekeeping: Family::default(),
            ca_not_after: Family::default(),
            crl_entries: Family::default(),
            crl_left_out: Family::default(),
            clock_suspect: Gauge::default(),
            damaged: Gauge::default(),
        };
        let r = &mut this.registry;
        r.register("requests", "Requests answered", this.requests.clone());
        r.register("request_seconds", "Time to answer, long polls included", this.request_seconds.clone());
        r.register("connections", "Open connections", this.connections.clone());
        r.register("turned_away", "Sockets closed before their handshake", this.turned_away.clone());
        r.register("handshakes", "TLS handshakes by outcome", this.handshakes.clone());
        r.register("cuts", "Connections cut", this.cuts.clone());
        r.register("malformed", "Malformed requests by the rule they broke", this.framing.clone());
        r.register("timeouts", "Connections ended for slowness", this.timeouts.clone());
        r.register("rate_limited", "Requests over a rate", this.limited.clone());
        r.register("enrollments", "Enrollments by outcome", this.enrollments.clone());
        r.register("renewals", "Renewals by outcome", this.renewals.clone());
        r.register("locks", "Locks set and lifted, lineages forked", this.locks.clone());
        r.register("commit_seconds", "Time to a durable commit", this.commit_seconds.clone());
        r.register("commit_failures", "Commits that failed or are in doubt", this.commit_failures.clone());
        r.register("waiting", "Enrollments that wait for a person", this.waiting.clone());
        r.register("tunnels", "Machines that hold a tunnel", this.tunnels.clone());
        r.register("sessions", "Open connections to services", this.sessions.clone());
        r.register("sessions_ended", "Connections to services that ended, by reason", this.sessions_ended.clone());
        r.register("dial_backs", "Streams that asked for a connection of their own", this.dial_backs.clone());
        r.register("leaf_not_after", "End of the gateway's own certificate", this.leaf_not_after.clone());
        r.register("ca_not_after", "End of the root, of its list, of an issuing CA", this.ca_not_after.clone());
        r.register("crl_entries", "Entries of the newest revocation list", this.crl_entries.clone());
        r.register("crl_left_out", "Entries for which that list has no room", this.crl_left_out.clone());
        r.register(
            "clock_suspect",
            "1 while the clock is not believed and nothing is deleted",
            this.clock_suspect.clone(),
        );
        r.register("damaged_records", "Damaged records met since the start", this.damaged.clone());
        r.register("build_info", "The version, as a label of 1", this.build_info.clone());
        r.register("accept_failures", "Sockets that could not be accepted", this.accept_failures.clone());
        r.register("reloads", "Reloads of policy and configuration", this.reloads.clone());
        r.register("housekeeping", "Rounds of housekeeping", this.housekeeping.clone());
        this.start_at_zero();
        this
    }

    /// Every series there can be, at zero: of a counter that appears with its first event, that event is no increase.
    fn start_at_zero(&self) {
        self.build_info.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        for row in endpoints::all() {
            // Only a list can be told to be the newest already.
            let kept = (row.path == "/v1/crl/{list}").then_some("3xx");
            for status in ["2xx", "4xx", "5xx"].into_iter().chain(kept) {
                let labels = RequestLabels { face: row.face.as_str(), endpoint: row.path.to_owned(), status };
                drop(self.requests.get_or_create(&labels));
            }
        }
        for ca in CA_ENDS {
            drop(self.ca_not_after.get_or_create(&CaLabel { ca }));
        }
        for face in Face::ALL {
            let face = FaceLabel { face: face.as_str() };
            drop(self.connections.get_or_create(&face));
            drop(self.request_seconds.get_or_create(&face));
        }
        let outcomes = |family: &Family<OutcomeLabel, Counter>, outcomes: &[&'static str]| {
            for &outcome in outcomes {
                drop(family.get_or_create(&OutcomeLabel { outcome }));
            }
        };
        outcomes(&self.handshakes, &HandshakeOutcome::ALL.map(HandshakeOutcome::as_str));
        outcomes(&self.enrollments, &ENROLLMENTS);
        outcomes(&self.renewals, &RENEWALS);
        outcomes(&self.locks, &LOCKS);
        outcomes(&self.dial_backs, &DIAL_BACKS);
        outcomes(&self.reloads, &Outcome::ALL.map(Outcome::as_str));
        outcomes(&self.housekeeping, &Outcome::ALL.map(Outcome::as_str));
        let reasons = |family: &Family<ReasonLabel, Counter>, reasons: &[&'static str]| {
            for &reason in reasons {
                drop(family.get_or_create(&ReasonLabel { reason }));
            }
        };
        reasons(&self.turned_away, &TurnedAway::ALL.map(TurnedAway::as_str));
        reasons(&self.cuts, &Reason::ALL.map(Reason::as_str));
        // What is slow is counted as that.
        let framing: Vec<_> = BadFraming::ALL.into_iter().filter(|why| *why != BadFraming::Slow).collect();
        reasons(&self.framing, &framing.into_iter().map(BadFraming::code).collect::<Vec<_>>());
        reasons(&self.timeouts, &Stage::ALL.map(Stage::as_str));
        reasons(&self.sessions_ended, &wire::tunnel::Reason::ALL.map(wire::tunnel::Reason::as_str));
        for class in Class::ALL {
            drop(self.limited.get_or_create(&ClassLabel { class: class.as_str() }));
        }
        for role in [pki::Role::Machine, pki::Role::Person, pki::Role::Gateway] {
            self.revocation_list(role, 0, 0);
        }
    }

    /// A socket could not be accepted.
    pub fn accept_failed(&self) {
        self.accept_failures.inc();
    }

    /// Policy and configuration were read again.
    pub fn reload(&self, outcome: Outcome) {
        self.reloads.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
    }

    /// A round of housekeeping is over.
    pub fn housekeeping(&self, outcome: Outcome) {
        self.housekeeping.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
    }

    /// A request was answered. `endpoint` is the route's pattern.
    pub fn request(&self, face: Face, endpoint: &str, status: u16, took: Duration) {
        let status = match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        let face = face.as_str();
        self.requests.get_or_create(&RequestLabels { face, endpoint: endpoint.to_owned(), status }).inc();
        self.request_seconds.get_or_create(&FaceLabel { face }).observe(took.as_secs_f64());
    }

    /// A connection was opened.
    pub fn opened(&self, face: Face) {
        self.connections.get_or_create(&FaceLabel { face: face.as_str() }).inc();
    }

    /// A connection ended.
    pub fn closed(&self, face: Face) {
        self.connections.get_or_create(&FaceLabel { face: face.as_str() }).dec();
    }

    /// A socket was closed before its handshake.
    pub fn turned_away(&self, why: TurnedAway) {
        self.turned_away.get_or_create(&ReasonLabel { reason: why.as_str() }).inc();
    }

    /// A handshake ended.
    pub fn handshake(&self, outcome: HandshakeOutcome) {
        self.handshakes.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
    }

    /// A connection was told to end.
    pub fn cut(&self, reason: Reason) {
        self.cuts.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    }

    /// A malformed request was refused.
    pub fn framing_refused(&self, why: BadFraming) {
        self.framing.get_or_create(&ReasonLabel { reason: why.code() }).inc();
    }

    /// A connection was too slow.
    pub fn timed_out(&self, stage: Stage) {
        self.timeouts.get_or_create(&ReasonLabel { reason: stage.as_str() }).inc();
    }

    /// A request was over a rate.
    pub fn rate_limited(&self, class: Class) {
        self.limited.get_or_create(&ClassLabel { class: class.as_str() }).inc();
    }

    /// An enrollment came to `outcome`: `issued`, `waiting`, or a refusal's code.
    pub fn enrollment(&self, outcome: &'static str) {
        self.enrollments.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A renewal came to `outcome`: `issued` or a refusal's code.
    pub fn renewal(&self, outcome: &'static str) {
        self.renewals.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A lock was `set` or `lifted`, or a lineage `forked`.
    pub fn lock(&self, outcome: &'static str) {
        self.locks.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A commit is durable.
    pub fn commit(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// A commit failed, or nobody knows.
    pub fn commit_failed(&self) {
        self.commit_failures.inc();
    }

    /// So many enrollments wait for a person.
    pub fn waiting(&self, count: usize) {
        self.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many machines hold a tunnel.
    pub fn tunnels(&self, count: usize) {
        self.tunnels.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many sessions are open.
    pub fn sessions(&self, count: usize) {
        self.sessions.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A session ended.
    pub fn session_ended(&self, reason: wire::tunnel::Reason) {
        self.sessions_ended.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    }

    /// A stream asked for a connection of its own, which came to `outcome`: `done` or `refused`.
    pub fn dial_back(&self, outcome: &'static str) {
        self.dial_backs.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// The gateway's own certificate ends then.
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit 53 bits")]
    pub fn leaf(&self, not_after: pki::UnixTime) {
        self.leaf_not_after.set(not_after.secs() as f64);
    }

    /// The root, its revocation list (`root-crl`) or the CA of a role ends then.
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit 53 bits")]
    pub fn ca_end(&self, ca: &'static str, end: pki::UnixTime) {
        self.ca_not_after.get_or_create(&CaLabel { ca }).set(end.secs() as f64);
    }

    /// The revocation list of an issuing CA has so many entries, and no room for so many more.
    pub fn revocation_list(&self, issuer: pki::Role, entries: usize, left_out: usize) {
        let set = |gauge: &Family<CaLabel, Gauge>, count: usize| {
            gauge.get_or_create(&CaLabel { ca: issuer.as_str() }).set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        set(&self.crl_entries, entries);
        set(&self.crl_left_out, left_out);
    }

    /// Whether the clock is believed.
    pub fn clock(&self, doubt: Option<Doubt>) {
        self.clock_suspect.set(i64::from(doubt.is_some()));
    }

    /// So many damaged records were met.
    pub fn damaged(&self, count: usize) {
        self.damaged.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Everything as text, of type [`METRICS_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails never; and half a page is better than none.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(act: impl FnOnce(&Metrics), want: &str) {
        let metrics = Metrics::new();
        act(&metrics);
        let text = metrics.render();
        assert!(text.lines().any(|line| line == want), "{want} is not in:\n{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    /// The names and labels in a page of metrics: what `# TYPE` says, and of each series the labels' names and values.
    fn series(page: &str) -> std::collections::BTreeSet<String> {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series.to_owned())).collect()
    }

    /// Nothing that happens later makes a series that was not there before.
    #[test]
    fn every_series_is_there_from_the_start() {
        let metrics = Metrics::new();
        let before = series(&metrics.render());
        let _ = ENROLLMENTS.map(|outcome| metrics.enrollment(outcome));
        let _ = RENEWALS.map(|outcome| metrics.renewal(outcome));
        let _ = LOCKS.map(|outcome| metrics.lock(outcome));
        let _ = DIAL_BACKS.map(|outcome| metrics.dial_back(outcome));
        let _ = HandshakeOutcome::ALL.map(|outcome| metrics.handshake(outcome));
        let _ = TurnedAway::ALL.map(|why| metrics.turned_away(why));
        let _ = Reason::ALL.map(|why| metrics.cut(why));
        let _ = Stage::ALL.map(|stage| metrics.timed_out(stage));
        let _ = Class::ALL.map(|class| metrics.rate_limited(class));
        let _ = wire::tunnel::Reason::ALL.map(|why| metrics.session_ended(why));
        metrics.framing_refused(BadFraming::Chunk);
        metrics.commit_failed();
        metrics.accept_failed();
        let _ = Outcome::ALL.map(|outcome| (metrics.reload(outcome), metrics.housekeeping(outcome)));
        metrics.request(Face::Manage, "/v1/self", 403, Duration::ZERO);
        metrics.request(Face::Enroll, "/v1/crl/{list}", 304, Duration::ZERO);
        let end = pki::UnixTime::new(1);
        let ends =
            crate::core::ca_end::CaEnds { root: end, root_list: Some(end), machine: end, person: end, gateway: end };
        ends.all().into_iter().for_each(|(ca, end)| metrics.ca_end(ca, end));
        assert_eq!(series(&metrics.render()), before);
        assert!(before.contains(r#"lychgate_locks_total{outcome="forked"}"#));
    }

    /// The operator's guide names every metric and, of those whose values it lists, every label's value.
    #[test]
    fn the_guide_names_every_metric() {
        let guide = include_str!("../../../docs/operator.md");
        let page = Metrics::new().render();
        for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let name = if kind == "counter" { format!("`{name}_total`") } else { format!("`{name}`") };
            assert!(guide.contains(&name), "docs/operator.md does not name {name}");
        }
        for named in guide.split('`').filter(|word| word.starts_with("lychgate_") && !word.contains(['{', '*'])) {
            let base = named.trim_end_matches("_total");
            assert!(page.contains(&format!("# TYPE {base} ")), "docs/operator.md names `{named}`, which is not there");
        }
        for series in series(&page) {
            let Some((name, labels)) = series.split_once('{') else { continue };
            let name = name.trim_end_matches("_sum").trim_end_matches("_count");
            if ["lychgate_requests_total", "lychgate_build_info"].contains(&name) || labels.contains("le=") {
                continue;
            }
            // By the row that names the metric; reasons of sessions stand in a table of their own.
            let row =
                guide.lines().find(|line| line.starts_with("| `") && line.contains(&format!("`{name}`"))).unwrap();
            for value in labels.split('"').skip(1).step_by(2) {
                let documented = row.contains(&format!("`{value}`")) || name == "lychgate_sessions_ended_total";
                assert!(documented, "docs/operator.md does not say that {name} has `{value}`");
            }
        }
    }

    #[test]
    fn each_counter_shows() {
        check(
            |m| m.request(Face::Enroll, "/v1/enrollments/{id}", 202, Duration::from_millis(3)),
            r#"lychgate_requests_total{face="enroll",endpoint="/v1/enrollments/{id}",status="2xx"} 1"#,
        );
        check(|m| m.opened(Face::Manage), r#"lychgate_connections{face="manage"} 1"#);
        check(|m| m.closed(Face::Manage), r#"lychgate_connections{face="manage"} -1"#);
        check(|m| m.turned_away(TurnedAway::Prefix), r#"lychgate_turned_away_total{reason="prefix"} 1"#);
        check(|m| m.handshake(HandshakeOutcome::Certificate), r#"lychgate_handshakes_total{outcome="certificate"} 1"#);
        check(|m| m.cut(Reason::Locked), r#"lychgate_cuts_total{reason="locked"} 1"#);
        check(|m| m.framing_refused(BadFraming::BareLf), r#"lychgate_malformed_total{reason="bare-lf"} 1"#);
        check(|m| m.timed_out(Stage::Head), r#"lychgate_timeouts_total{reason="head"} 1"#);
        check(|m| m.rate_limited(Class::Poll), r#"lychgate_rate_limited_total{class="poll"} 1"#);
        check(|m| m.enrollment("issued"), r#"lychgate_enrollments_total{outcome="issued"} 1"#);
        check(|m| m.renewal("issued"), r#"lychgate_renewals_total{outcome="issued"} 1"#);
        check(|m| m.lock("set"), r#"lychgate_locks_total{outcome="set"} 1"#);
        check(|m| m.commit(Duration::from_millis(3)), r#"lychgate_commit_seconds_bucket{le="0.005"} 1"#);
        check(Metrics::commit_failed, "lychgate_commit_failures_total 1");
        check(|m| m.waiting(3), "lychgate_waiting 3");
        check(|m| m.tunnels(2), "lychgate_tunnels 2");
        check(|m| m.sessions(1), "lychgate_sessions 1");
        check(|m| m.ca_end("root", pki::UnixTime::new(1000)), r#"lychgate_ca_not_after{ca="root"} 1000.0"#);
        check(|m| m.revocation_list(pki::Role::Machine, 7, 0), r#"lychgate_crl_entries{ca="machine"} 7"#);
        check(|m| m.revocation_list(pki::Role::Person, 7, 2), r#"lychgate_crl_left_out{ca="person"} 2"#);
        check(|m| m.dial_back("done"), r#"lychgate_dial_backs_total{outcome="done"} 1"#);
        check(|m| m.session_ended(wire::tunnel::Reason::Locked), r#"lychgate_sessions_ended_total{reason="locked"} 1"#);
    }
}
