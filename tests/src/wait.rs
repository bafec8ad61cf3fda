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

/// Seconds since the Unix epoch.
#[must_use]
pub fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
