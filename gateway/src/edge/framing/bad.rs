//! The rules about requests that can be broken, each with its code and what it is answered.

use thiserror::Error;

use crate::{
    core::refusal::{Malformed, Refusal},
    limits::{FIELDS_MAX, HEAD_MAX},
};

/// A rule of RFC 9112 (or of ours, where it leaves the choice) that a request broke.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum BadFraming {
    /// RFC 9112 2.2: lines end in CRLF; a lone LF may be taken as an end only by those who like to differ.
    #[error("a line feed without a carriage return")]
    BareLf,
    /// RFC 9112 2.2.
    #[error("a carriage return without a line feed")]
    BareCr,
    /// RFC 9110 5.5: NUL and other control characters.
    #[error("a control character in the head")]
    Control,
    /// RFC 9112 5.2: folded lines.
    #[error("a folded header line")]
    Folded,
    /// Longer than [`HEAD_MAX`].
    #[error("a head longer than the limit")]
    HeadTooLarge,
    /// RFC 9112 3: method, target and version, one space between each.
    #[error("a malformed request line")]
    RequestLine,
    /// Only HTTP/1.1 is spoken here.
    #[error("a version other than HTTP/1.1")]
    Version,
    /// RFC 9112 3.2: neither a path, nor a whole URL, nor `*` of `OPTIONS`.
    #[error("a malformed request target")]
    Target,
    /// RFC 9112 5.1: no name, or white space before the colon, or a character that names do not have.
    #[error("a malformed header name")]
    FieldName,
    /// RFC 9112 3.2.
    #[error("no `Host`")]
    NoHost,
    /// RFC 9112 3.2.
    #[error("more than one `Host`")]
    TwoHosts,
    /// RFC 9112 3.2.
    #[error("a malformed `Host`")]
    BadHost,
    /// RFC 9112 3.2.2 lets the target win over `Host`; we refuse the ambiguity.
    #[error("a target whose authority is not the `Host`")]
    HostDiffers,
    /// RFC 9112 6.3: digits and nothing else.
    #[error("a malformed `Content-Length`")]
    ContentLength,
    /// RFC 9112 6.3; also when they agree.
    #[error("more than one `Content-Length`")]
    TwoContentLengths,
    /// RFC 9112 6.3: the classic of request smuggling.
    #[error("both `Content-Length` and `Transfer-Encoding`")]
    LengthAndEncoding,
    /// RFC 9112 6.1: not allowed here, or not exactly `chunked`.
    #[error("a `Transfer-Encoding` that is not taken here")]
    TransferEncoding,
    /// RFC 9112 7.1, without extensions and trailers.
    #[error("a malformed chunk")]
    Chunk,
    /// More than [`FIELDS_MAX`].
    #[error("more header lines than the limit")]
    TooManyFields,
    /// Longer than [`LENGTH_MAX`].
    #[error("a `Content-Length` over the limit")]
    LengthTooLarge,
    /// The head did not come to its end in time. Counted as slowness and not as a malformed request.
    #[error("a head that did not end in time")]
    Slow,
}

impl From<BadFraming> for Refusal {
    fn from(why: BadFraming) -> Self {
        match why {
            BadFraming::Version => Self::HttpVersion,
            BadFraming::HeadTooLarge | BadFraming::TooManyFields => {
                Self::HeadTooLarge { bytes: HEAD_MAX, fields: FIELDS_MAX }
            }
            BadFraming::LengthTooLarge => Self::TooLarge { max: wire::limits::ENROLL_BODY_MAX },
            BadFraming::Slow => Self::Unfinished,
            why => Self::Malformed(Malformed::Framing(why.to_string())),
        }
    }
}

impl BadFraming {
    /// All there are.
    pub const ALL: [Self; 21] = [
        Self::BareLf,
        Self::BareCr,
        Self::Control,
        Self::Folded,
        Self::HeadTooLarge,
        Self::RequestLine,
        Self::Version,
        Self::Target,
        Self::FieldName,
        Self::NoHost,
        Self::TwoHosts,
        Self::BadHost,
        Self::HostDiffers,
        Self::ContentLength,
        Self::TwoContentLengths,
        Self::LengthAndEncoding,
        Self::TransferEncoding,
        Self::Chunk,
        Self::TooManyFields,
        Self::LengthTooLarge,
        Self::Slow,
    ];

    /// A short name for metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::BareLf => "bare-lf",
            Self::BareCr => "bare-cr",
            Self::Control => "control",
            Self::Folded => "folded",
            Self::HeadTooLarge => "head-too-large",
            Self::RequestLine => "request-line",
            Self::Version => "version",
            Self::Target => "target",
            Self::FieldName => "field-name",
            Self::NoHost => "no-host",
            Self::TwoHosts => "two-hosts",
            Self::BadHost => "bad-host",
            Self::HostDiffers => "host-differs",
            Self::ContentLength => "content-length",
            Self::TwoContentLengths => "two-content-lengths",
            Self::LengthAndEncoding => "length-and-encoding",
            Self::TransferEncoding => "transfer-encoding",
            Self::Chunk => "chunk",
            Self::TooManyFields => "too-many-fields",
            Self::LengthTooLarge => "length-too-large",
            Self::Slow => "slow",
        }
    }
}
