//! Seconds since the Unix epoch, with arithmetic that cannot wrap.

use std::fmt;
use std::time::Duration;

use ::time::OffsetDateTime;
use ::time::format_description::well_known::Rfc3339;

/// A time in whole seconds since 1970-01-01T00:00:00Z, the resolution of certificates (RFC 5280 4.1.2.5).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The last second a certificate can express: 9999-12-31T23:59:59Z (RFC 5280 4.1.2.5).
    pub const LAST_IN_CERTIFICATES: Self = Self(253_402_300_799);

    /// That many seconds after the epoch.
    #[must_use]
    pub const fn new(secs: u64) -> Self {
        Self(secs)
    }

    /// Seconds since the epoch.
    #[must_use]
    pub const fn secs(self) -> u64 {
        self.0
    }

    /// Reads RFC 3339, without fractions of a second that would be kept; `None` for anything else, and for a time before the epoch.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        u64::try_from(at.unix_timestamp()).ok().map(Self)
    }

    /// Later by the whole seconds of `by`; saturates.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_secs()))
    }

    /// Earlier by the whole seconds of `by`; not before the epoch.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by.as_secs()))
    }

    /// Time from `earlier` to this; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// The date of HTTP (RFC 9110 5.6.7), such as `Sun, 06 Nov 1994 08:49:37 GMT`; `None` beyond the year 9999.
    #[must_use]
    pub fn http_date(self) -> Option<String> {
        let at = self.to_datetime()?;
        let (day, month) = (at.weekday().to_string(), at.month().to_string());
        let (day, month) = (day.get(..3)?, month.get(..3)?);
        let (hour, minute, second) = at.to_hms();
        Some(format!("{day}, {:02} {month} {:04} {hour:02}:{minute:02}:{second:02} GMT", at.day(), at.year()))
    }

    /// From a parsed certificate time; a time before the epoch becomes the epoch.
    pub(crate) fn from_signed(secs: i64) -> Self {
        Self(u64::try_from(secs).unwrap_or(0))
    }

    /// The encoder's calendar type; `None` beyond the year 9999.
    pub(crate) fn to_datetime(self) -> Option<OffsetDateTime> {
        if self > Self::LAST_IN_CERTIFICATES {
            return None;
        }
        OffsetDateTime::from_unix_timestamp(i64::try_from(self.0).ok()?).ok()
    }
}

/// RFC 3339 in UTC, such as `2026-03-01T12:00:00Z`; beyond the year 9999 the plain number of seconds after an `@`.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_datetime().and_then(|at| at.format(&Rfc3339).ok()) {
            Some(text) => f.write_str(&text),
            None => write!(f, "@{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_display(secs: u64, want: &str) {
        assert_eq!(UnixTime::new(secs).to_string(), want);
    }

    #[test]
    fn display_is_rfc_3339() {
        check_display(0, "1970-01-01T00:00:00Z");
        check_display(1_772_366_400, "2026-03-01T12:00:00Z");
        check_display(253_402_300_799, "9999-12-31T23:59:59Z");
        check_display(253_402_300_800, "@253402300800");
        check_display(u64::MAX, "@18446744073709551615");
    }

    #[test]
    fn dates_of_http() {
        assert_eq!(UnixTime::new(784_111_777).http_date().as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(UnixTime::new(u64::MAX).http_date(), None);
    }

    #[test]
    fn arithmetic_stops_at_both_ends() {
        let day = Duration::from_secs(86_400);
        assert_eq!(UnixTime::new(u64::MAX).plus(day), UnixTime::new(u64::MAX));
        assert_eq!(UnixTime::new(5).minus(day), UnixTime::new(0));
        assert_eq!(UnixTime::new(5).since(UnixTime::new(9)), Duration::ZERO);
        assert_eq!(UnixTime::new(9).since(UnixTime::new(5)), Duration::from_secs(4));
        assert_eq!(UnixTime::from_signed(-1), UnixTime::new(0));
        assert_eq!(UnixTime::new(10).plus(Duration::from_millis(1999)), UnixTime::new(11));
    }
}
