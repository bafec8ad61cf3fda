//! Metrics in the OpenMetrics text format. Labels come only from fixed sets, so that clients cannot add time series.

use std::{fmt, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::core::timekeeping::Doubt;

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
    ca: String,
}

/// The CAs and CRLs of [`crate::core::ca_end::CaEnds::all`].
const CA_ENDS: [&str; 5] = ["root", "root-crl", "machine", "person", "gateway"];

/// How a handshake ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum HandshakeOutcome {
    /// The handshake succeeded.
    Done,
    /// It exceeded the time limit.
    TooSlow,
    /// Not TLS, or no version, cipher or protocol in common.
    Refused,
    /// The client's certificate was missing or invalid.
    Certificate,
    /// The SNI is not a configured name (alert `unrecognized_name`, RFC 6066 3).
    UnknownName,
    /// The peer closed the connection.
    Gone,
    /// A load balancer's connection without a valid PROXY protocol header.
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

    /// All variants.
    pub const ALL: [Self; 5] = [Self::Total, Self::Prefix, Self::Handshakes, Self::Enroll, Self::EnrollPrefix];

    /// The configuration key of the limit.
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
    /// All variants.
    pub const ALL: [Self; 7] =
        [Self::Done, Self::TooSlow, Self::Refused, Self::Certificate, Self::UnknownName, Self::Gone, Self::Header];
}

/// Result of a background task.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TaskOutcome {
    /// It succeeded.
    Done,
    /// It failed; the log has the error.
    Failed,
}

impl TaskOutcome {
    /// All variants.
    pub const ALL: [Self; 2] = [Self::Done, Self::Failed];

    /// `Done` for `Ok`, `Failed` for `Err`.
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

/// Outcomes of enrollments, without the codes of refusals.
pub const ENROLLMENTS: [&str; 4] = ["issued", "waiting", "approved", "denied"];

/// Outcomes of renewals, without the codes of refusals.
pub const RENEWALS: [&str; 1] = ["issued"];

/// Outcomes of [`Metrics::lock`].
pub const LOCKS: [&str; 3] = ["set", "lifted", "forked"];

/// Outcomes of dial-backs, which are streams that get a connection of their own.
pub const DIAL_BACKS: [&str; 2] = ["done", "refused"];

/// Histogram buckets for the durations of commits and requests, in seconds: from a fast disk to one that hangs.
const SECONDS: [f64; 10] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// Label values that are defined in other modules.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Face, endpoint and class of status, such as `2xx`.
    pub requests: Vec<(&'static str, &'static str, &'static str)>,
    /// Names of faces.
    pub faces: Vec<&'static str>,
    /// Classes of rate limits.
    pub limited: Vec<&'static str>,
    /// Reasons for cutting connections.
    pub cuts: Vec<&'static str>,
    /// Rules of HTTP/1.1 that a request can break.
    pub malformed: Vec<&'static str>,
    /// Stages in which a connection can time out.
    pub timeouts: Vec<&'static str>,
    /// Reasons for the end of sessions.
    pub sessions_ended: Vec<&'static str>,
}

/// All counters, gauges and histograms.
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
    /// With the series of this module at zero; see [`Metrics::expect`] for the others.
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
        this.register();
        this.start_at_zero();
        this
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("requests", "Requests answered", self.requests.clone());
        r.register("request_seconds", "Time to answer, long polls included", self.request_seconds.clone());
        r.register("connections", "Open connections", self.connections.clone());
        r.register("turned_away", "Sockets closed before their handshake", self.turned_away.clone());
        r.register("handshakes", "TLS handshakes by outcome", self.handshakes.clone());
        r.register("cuts", "Connections cut", self.cuts.clone());
        r.register("malformed", "Malformed requests by the rule they broke", self.framing.clone());
        r.register("timeouts", "Connections ended for slowness", self.timeouts.clone());
        r.register("rate_limited", "Requests over a rate", self.limited.clone());
        r.register("enrollments", "Enrollments by outcome", self.enrollments.clone());
        r.register("renewals", "Renewals by outcome", self.renewals.clone());
        r.register("locks", "Locks set and lifted, lineages forked", self.locks.clone());
        r.register("commit_seconds", "Time to a durable commit", self.commit_seconds.clone());
        r.register("commit_failures", "Commits that failed or are in doubt", self.commit_failures.clone());
        r.register("waiting", "Enrollments that wait for a person", self.waiting.clone());
        r.register("tunnels", "Machines that hold a tunnel", self.tunnels.clone());
        r.register("sessions", "Open connections to services", self.sessions.clone());
        r.register("sessions_ended", "Connections to services that ended, by reason", self.sessions_ended.clone());
        r.register("dial_backs", "Streams that asked for a connection of their own", self.dial_backs.clone());
        r.register("leaf_not_after", "End of the gateway's own certificate", self.leaf_not_after.clone());
        r.register("ca_not_after", "End of the root, of its list, of an issuing CA", self.ca_not_after.clone());
        r.register("crl_entries", "Entries of the newest revocation list", self.crl_entries.clone());
        r.register("crl_left_out", "Entries for which that list has no room", self.crl_left_out.clone());
        r.register(
            "clock_suspect",
            "1 while the clock is not believed and nothing is deleted",
            self.clock_suspect.clone(),
        );
        r.register("damaged_records", "Damaged records met since the start", self.damaged.clone());
        r.register("build_info", "The version, as a label of 1", self.build_info.clone());
        r.register("accept_failures", "Sockets that could not be accepted", self.accept_failures.clone());
        r.register("reloads", "Reloads of policy and configuration", self.reloads.clone());
        r.register("housekeeping", "Rounds of housekeeping", self.housekeeping.clone());
    }

    /// Creates these series at zero: Prometheus sees no increase in the first event of a counter that appears with it.
    pub fn expect(&self, series: &Series) {
        for &(face, endpoint, status) in &series.requests {
            drop(self.requests.get_or_create(&RequestLabels { face, endpoint: endpoint.to_owned(), status }));
        }
        for &face in &series.faces {
            drop(self.connections.get_or_create(&FaceLabel { face }));
            drop(self.request_seconds.get_or_create(&FaceLabel { face }));
        }
        for &class in &series.limited {
            drop(self.limited.get_or_create(&ClassLabel { class }));
        }
        let families = [
            (&self.cuts, &series.cuts),
            (&self.framing, &series.malformed),
            (&self.timeouts, &series.timeouts),
            (&self.sessions_ended, &series.sessions_ended),
        ];
        for (family, reasons) in families {
            for &reason in reasons {
                drop(family.get_or_create(&ReasonLabel { reason }));
            }
        }
    }

    fn start_at_zero(&self) {
        self.build_info.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        for ca in CA_ENDS {
            drop(self.ca_not_after.get_or_create(&CaLabel { ca: ca.to_owned() }));
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
        outcomes(&self.reloads, &TaskOutcome::ALL.map(TaskOutcome::as_str));
        outcomes(&self.housekeeping, &TaskOutcome::ALL.map(TaskOutcome::as_str));
        for reason in TurnedAway::ALL.map(TurnedAway::as_str) {
            drop(self.turned_away.get_or_create(&ReasonLabel { reason }));
        }
        for role in [pki::Role::Machine, pki::Role::Person, pki::Role::Gateway] {
            self.revocation_list(role.as_str(), 0, 0);
        }
    }

    /// A socket could not be accepted.
    pub fn accept_failed(&self) {
        self.accept_failures.inc();
    }

    /// Policy and configuration were reloaded.
    pub fn reload(&self, outcome: TaskOutcome) {
        self.reloads.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
    }

    /// A housekeeping run ended.
    pub fn housekeeping(&self, outcome: TaskOutcome) {
        self.housekeeping.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
    }

    /// A request was answered. `endpoint` is the route's pattern.
    pub fn request(&self, face: &'static str, endpoint: &str, status: u16, took: Duration) {
        let status = match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&RequestLabels { face, endpoint: endpoint.to_owned(), status }).inc();
        self.request_seconds.get_or_create(&FaceLabel { face }).observe(took.as_secs_f64());
    }

    /// A connection was opened.
    pub fn opened(&self, face: &'static str) {
        self.connections.get_or_create(&FaceLabel { face }).inc();
    }

    /// A connection ended.
    pub fn closed(&self, face: &'static str) {
        self.connections.get_or_create(&FaceLabel { face }).dec();
    }

    /// A socket was closed before its handshake.
    pub fn turned_away(&self, why: TurnedAway) {
        self.turned_away.get_or_create(&ReasonLabel { reason: why.as_str() }).inc();
    }

    /// A handshake ended.
    pub fn handshake(&self, outcome: HandshakeOutcome) {
        self.handshakes.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
    }

    /// A connection was cut.
    pub fn cut(&self, reason: &'static str) {
        self.cuts.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A malformed request was refused.
    pub fn framing_refused(&self, reason: &'static str) {
        self.framing.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A connection timed out in this stage.
    pub fn timed_out(&self, stage: &'static str) {
        self.timeouts.get_or_create(&ReasonLabel { reason: stage }).inc();
    }

    /// A request exceeded a rate limit.
    pub fn rate_limited(&self, class: &'static str) {
        self.limited.get_or_create(&ClassLabel { class }).inc();
    }

    /// An enrollment ended with `outcome`: one of [`ENROLLMENTS`] or a refusal's code.
    pub fn enrollment(&self, outcome: &'static str) {
        self.enrollments.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A renewal ended with `outcome`: `issued` or a refusal's code.
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

    /// A commit failed, or its outcome is unknown.
    pub fn commit_failed(&self) {
        self.commit_failures.inc();
    }

    /// Sets the number of enrollments that wait for approval.
    pub fn waiting(&self, count: usize) {
        self.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the number of open tunnels.
    pub fn tunnels(&self, count: usize) {
        self.tunnels.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the number of open sessions.
    pub fn sessions(&self, count: usize) {
        self.sessions.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A session ended.
    pub fn session_ended(&self, reason: &'static str) {
        self.sessions_ended.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A dial-back ended with `outcome`: one of [`DIAL_BACKS`].
    pub fn dial_back(&self, outcome: &'static str) {
        self.dial_backs.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Sets the end of the gateway's own certificate.
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit 53 bits")]
    pub fn leaf(&self, not_after: pki::UnixTime) {
        self.leaf_not_after.set(not_after.secs() as f64);
    }

    /// Sets the end of the root, its CRL (`root-crl`) or the CA of a role.
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit 53 bits")]
    pub fn ca_end(&self, ca: &'static str, end: pki::UnixTime) {
        self.ca_not_after.get_or_create(&CaLabel { ca: ca.to_owned() }).set(end.secs() as f64);
    }

    /// Sets the size of the CRL of an issuing CA, and the number of entries left out because of its limit.
    pub fn revocation_list(&self, ca: &str, entries: usize, left_out: usize) {
        let set = |gauge: &Family<CaLabel, Gauge>, count: usize| {
            gauge.get_or_create(&CaLabel { ca: ca.to_owned() }).set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        set(&self.crl_entries, entries);
        set(&self.crl_left_out, left_out);
    }

    /// Sets whether the clock is doubted, and by how much it is off.
    pub fn clock(&self, doubt: Option<Doubt>) {
        self.clock_suspect.set(i64::from(doubt.is_some()));
    }

    /// Sets the number of damaged records found.
    pub fn damaged(&self, count: usize) {
        self.damaged.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// All metrics as text of type [`METRICS_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // writing to a string does not fail
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

    #[test]
    fn each_counter_shows() {
        check(
            |m| m.request("enroll", "/v1/enrollments/{id}", 202, Duration::from_millis(3)),
            r#"lychgate_requests_total{face="enroll",endpoint="/v1/enrollments/{id}",status="2xx"} 1"#,
        );
        check(|m| m.opened("manage"), r#"lychgate_connections{face="manage"} 1"#);
        check(|m| m.closed("manage"), r#"lychgate_connections{face="manage"} -1"#);
        check(|m| m.turned_away(TurnedAway::Prefix), r#"lychgate_turned_away_total{reason="prefix"} 1"#);
        check(|m| m.handshake(HandshakeOutcome::Certificate), r#"lychgate_handshakes_total{outcome="certificate"} 1"#);
        check(|m| m.cut("locked"), r#"lychgate_cuts_total{reason="locked"} 1"#);
        check(|m| m.framing_refused("bare-lf"), r#"lychgate_malformed_total{reason="bare-lf"} 1"#);
        check(|m| m.timed_out("head"), r#"lychgate_timeouts_total{reason="head"} 1"#);
        check(|m| m.rate_limited("poll"), r#"lychgate_rate_limited_total{class="poll"} 1"#);
        check(|m| m.enrollment("issued"), r#"lychgate_enrollments_total{outcome="issued"} 1"#);
        check(|m| m.renewal("issued"), r#"lychgate_renewals_total{outcome="issued"} 1"#);
        check(|m| m.lock("set"), r#"lychgate_locks_total{outcome="set"} 1"#);
        check(|m| m.commit(Duration::from_millis(3)), r#"lychgate_commit_seconds_bucket{le="0.005"} 1"#);
        check(Metrics::commit_failed, "lychgate_commit_failures_total 1");
        check(|m| m.waiting(3), "lychgate_waiting 3");
        check(|m| m.tunnels(2), "lychgate_tunnels 2");
        check(|m| m.sessions(1), "lychgate_sessions 1");
        check(|m| m.ca_end("root", pki::UnixTime::new(1000)), r#"lychgate_ca_not_after{ca="root"} 1000.0"#);
        check(|m| m.revocation_list("machine", 7, 0), r#"lychgate_crl_entries{ca="machine"} 7"#);
        check(|m| m.revocation_list("person", 7, 2), r#"lychgate_crl_left_out{ca="person"} 2"#);
        check(|m| m.dial_back("done"), r#"lychgate_dial_backs_total{outcome="done"} 1"#);
        check(|m| m.session_ended("locked"), r#"lychgate_sessions_ended_total{reason="locked"} 1"#);
    }
}
