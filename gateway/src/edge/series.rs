//! Every series of the metrics whose labels the faces know, for [`Metrics::expect`](crate::ports::metrics::Metrics::expect).

use super::{
    endpoints,
    framing::{BadFraming, IoStage},
};
use crate::{
    core::{face::Face, session::EndReason},
    ports::{metrics::Series, rate::Class},
    registry::live::CloseReason,
};

/// Every series there can be.
#[must_use]
pub fn series() -> Series {
    let requests = endpoints::all().into_iter().flat_map(|row| {
        // Only a list can be told to be the newest already.
        let kept = (row.path == "/v1/crl/{list}").then_some("3xx");
        ["2xx", "4xx", "5xx"].into_iter().chain(kept).map(move |status| (row.face.as_str(), row.path, status))
    });
    Series {
        requests: requests.collect(),
        faces: Face::ALL.map(Face::as_str).into(),
        limited: Class::ALL.map(Class::as_str).into(),
        cuts: CloseReason::ALL.map(CloseReason::as_str).into(),
        // What is slow is counted as that.
        malformed: BadFraming::ALL.into_iter().filter(|why| *why != BadFraming::Slow).map(BadFraming::code).collect(),
        timeouts: IoStage::ALL.map(IoStage::as_str).into(),
        sessions_ended: EndReason::ALL.map(EndReason::as_str).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        core::ca_end::CaEnds,
        ports::metrics::{
            DIAL_BACKS, ENROLLMENTS, HandshakeOutcome, LOCKS, Metrics, RENEWALS, TaskOutcome, TurnedAway,
        },
    };

    fn started() -> Metrics {
        let metrics = Metrics::new();
        metrics.expect(&super::series());
        metrics
    }

    /// The names and labels in a page of metrics: what `# TYPE` says, and of each series the labels' names and values.
    fn series(page: &str) -> std::collections::BTreeSet<String> {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series.to_owned())).collect()
    }

    /// Nothing that happens later makes a series that was not there before.
    #[test]
    fn every_series_is_there_from_the_start() {
        let metrics = started();
        let before = series(&metrics.render());
        let _ = ENROLLMENTS.map(|outcome| metrics.enrollment(outcome));
        let _ = RENEWALS.map(|outcome| metrics.renewal(outcome));
        let _ = LOCKS.map(|outcome| metrics.lock(outcome));
        let _ = DIAL_BACKS.map(|outcome| metrics.dial_back(outcome));
        let _ = HandshakeOutcome::ALL.map(|outcome| metrics.handshake(outcome));
        let _ = TurnedAway::ALL.map(|why| metrics.turned_away(why));
        let _ = CloseReason::ALL.map(|why| metrics.cut(why.as_str()));
        let _ = IoStage::ALL.map(|stage| metrics.timed_out(stage.as_str()));
        let _ = Class::ALL.map(|class| metrics.rate_limited(class.as_str()));
        let _ = EndReason::ALL.map(|why| metrics.session_ended(why.as_str()));
        metrics.framing_refused(BadFraming::Chunk.code());
        metrics.commit_failed();
        metrics.accept_failed();
        let _ = TaskOutcome::ALL.map(|outcome| (metrics.reload(outcome), metrics.housekeeping(outcome)));
        metrics.request(Face::Manage.as_str(), "/v1/self", 403, Duration::ZERO);
        metrics.request(Face::Enroll.as_str(), "/v1/crl/{list}", 304, Duration::ZERO);
        let end = pki::UnixTime::new(1);
        let ends = CaEnds { root: end, root_list: Some(end), machine: end, person: end, gateway: end };
        ends.all().into_iter().for_each(|(ca, end)| metrics.ca_end(ca, end));
        assert_eq!(series(&metrics.render()), before);
        assert!(before.contains(r#"lychgate_locks_total{outcome="forked"}"#));
    }

    /// The operator's guide names every metric and, of those whose values it lists, every label's value.
    #[test]
    fn the_guide_names_every_metric() {
        let guide = include_str!("../../../docs/operator.md");
        let page = started().render();
        for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let name = if kind == "counter" { format!("`{name}_total`") } else { format!("`{name}`") };
            assert!(guide.contains(&name), "docs/operator.md does not name {name}");
        }
        let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        for named in guide.split('`').filter(|word| word.starts_with("lychgate_")).filter(is_name) {
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
}
