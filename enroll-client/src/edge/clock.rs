//! The one place that reads the clock.

use std::time::UNIX_EPOCH;

use pki::UnixTime;
use rustls::time_provider::TimeProvider;

/// Now, by the local clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place where time enters")]
pub fn now() -> UnixTime {
    // A clock before 1970 counts as 1970: the error is then that certificates are not valid yet.
    UnixTime::new(std::time::SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// The same clock for rustls.
#[derive(Debug)]
pub struct LocalClock;

impl TimeProvider for LocalClock {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        Some(rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(now().secs())))
    }
}
