//! Waits for a condition with a deadline, so that no test needs a fixed sleep.

use std::time::{Duration, Instant};

/// Deadline of an ordinary wait: a hundred times the duration of the step on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Interval of checks. Short, so that it does not dominate the duration of a test.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Calls `look` until it returns a value; panics after `patience`.
#[track_caller]
pub fn eventually<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < patience, "{what}: not within {patience:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Calls `look` for the time `span` and panics when it returns a value: for events that must not happen.
#[track_caller]
pub fn never<T>(what: &str, span: Duration, mut look: impl FnMut() -> Option<T>) {
    let began = Instant::now();
    while began.elapsed() < span {
        assert!(look().is_none(), "{what}: happened after {:?}", began.elapsed());
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Measures a time that the product promises. The time in which processes waited for a processor or disk on a busy machine is left out,
/// as far as the kernel reports it (pressure stall information).
#[derive(Debug)]
pub struct Stopwatch {
    began: Instant,
    stalled: Duration,
}

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { began: Instant::now(), stalled: stalled() }
    }

    /// Panics when more than `promised` has passed, without the time in which processes were stalled.
    #[track_caller]
    pub fn assert_within(&self, promised: Duration, what: &str) {
        self.assert_took(self.began.elapsed(), promised, what);
    }

    /// Panics when less than `least` has passed.
    #[track_caller]
    pub fn assert_lasted(&self, least: Duration) {
        assert!(self.began.elapsed() >= least, "after {:?} already", self.began.elapsed());
    }

    /// [`Self::assert_within`] for a time that another program measured after this one was started.
    #[track_caller]
    pub fn assert_took(&self, took: Duration, promised: Duration, what: &str) {
        if took <= promised {
            return;
        }
        std::thread::sleep(COUNTERS_LAG);
        let waited = stalled().saturating_sub(self.stalled).min(took);
        assert!(took - waited <= promised, "{what}: {took:?}, of which the machine was busy for {waited:?}");
    }
}

/// Largest delay of the kernel's stall counters.
const COUNTERS_LAG: Duration = Duration::from_millis(2_100);

/// Time since boot in which processes waited for a processor or disk; zero if the kernel does not report it.
fn stalled() -> Duration {
    let total = |of: &str| {
        let text = std::fs::read_to_string(format!("/proc/pressure/{of}")).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("some")).unwrap_or_default();
        line.split("total=").nth(1).and_then(|micros| micros.trim().parse().ok()).unwrap_or(0)
    };
    Duration::from_micros(total("cpu") + total("io"))
}

/// Seconds since the Unix epoch.
#[must_use]
pub fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
