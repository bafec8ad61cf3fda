//! Waiting for something to become true, with a deadline: no test sleeps for luck.

use std::time::{Duration, Instant};

/// The deadline of an ordinary wait: a hundred times what the step takes on a quiet machine, so that only a step that
/// does not happen passes it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks. Short, so that the product's own speed decides how long a test takes.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` has an answer, and panics when `patience` has passed without one.
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

/// Looks for as long as `span` and panics at once when `look` has an answer: for what must not happen.
#[track_caller]
pub fn never<T>(what: &str, span: Duration, mut look: impl FnMut() -> Option<T>) {
    let began = Instant::now();
    while began.elapsed() < span {
        assert!(look().is_none(), "{what}: happened after {:?}", began.elapsed());
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Measures what the product promises in seconds. A busy machine keeps a program waiting for a processor or a disk, which no
/// program can promise anything about: that time is left out, as far as the kernel tells it (pressure stall information).
#[derive(Debug)]
pub struct Stopwatch {
    began: Instant,
    stalled: Duration,
}

impl Stopwatch {
    /// Begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { began: Instant::now(), stalled: stalled() }
    }

    /// Panics when more than `promised` has passed, the time left out in which something on this machine could have gone on
    /// and was not let.
    #[track_caller]
    pub fn assert_within(&self, promised: Duration, what: &str) {
        self.assert_took(self.began.elapsed(), promised, what);
    }

    /// Panics when less than `least` has passed.
    #[track_caller]
    pub fn assert_lasted(&self, least: Duration) {
        assert!(self.began.elapsed() >= least, "after {:?} already", self.began.elapsed());
    }

    /// [`Self::assert_within`] for a time that somebody else measured since this one began.
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

/// How far the kernel's counters of stalls may be behind.
const COUNTERS_LAG: Duration = Duration::from_millis(2_100);

/// For how long something on this machine has waited for a processor or a disk since it was started; none where the kernel
/// does not tell.
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
