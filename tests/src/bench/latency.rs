//! Figure 6: latency of a renewal at half the saturating load.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::fleet::keys;
use crate::device::{self, Key, Outcome};
use crate::http::Connection;

/// Latencies of renewals.
pub struct Latency {
    /// Number of renewals.
    pub count: usize,
    /// Median.
    pub p50: Duration,
    /// 99th percentile.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// Renews at a constant rate over the connections. The latency of a renewal is counted from the time when it was due, so that it
/// includes waiting while the gateway stalls.
pub async fn steady(connections: Vec<Connection>, per_second: f64, time: Duration) -> Latency {
    let workers = connections.len();
    let gap = Duration::from_secs_f64(crate::bench::meter::float(workers as u64) / per_second);
    let each = usize::try_from(time.as_millis() / gap.as_millis().max(1)).unwrap().max(1);
    let mut all = keys(each * workers);
    let begin = Instant::now() + Duration::from_millis(100);
    let mut tasks = JoinSet::new();
    for (i, connection) in connections.into_iter().enumerate() {
        let keys = all.split_off(all.len() - each);
        // The first renewals are spread over the interval.
        let first =
            begin + gap.mul_f64(crate::bench::meter::float(i as u64) / crate::bench::meter::float(workers as u64));
        tasks.spawn(worker(connection, keys, first, gap));
    }
    let mut took: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    took.sort();
    let at = |hundredths: usize| took[(took.len() * hundredths / 100).min(took.len() - 1)];
    Latency { count: took.len(), p50: at(50), p99: at(99), max: at(100) }
}

async fn worker(mut connection: Connection, keys: Vec<Key>, first: Instant, gap: Duration) -> Vec<Duration> {
    let mut took = Vec::with_capacity(keys.len());
    for (i, key) in keys.into_iter().enumerate() {
        let due = first + gap * u32::try_from(i).unwrap();
        tokio::time::sleep_until(due.into()).await;
        let outcome = device::renew_on(&mut connection, &key).await.unwrap();
        assert!(matches!(outcome, Outcome::Issued(_)), "renewal refused: {outcome:?}");
        took.push(due.elapsed());
    }
    took
}
