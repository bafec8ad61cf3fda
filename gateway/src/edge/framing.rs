//! A strict guard over HTTP/1.1 request framing (RFC 9112), between TLS and the HTTP library.
//!
//! The library's parser is lenient where two parsers may come to differ: it takes bare line feeds, a missing or a second
//! `Host`, and both `Content-Length` and `Transfer-Encoding`. [`Framer`] sees the bytes first, stops at the first one that
//! no correct client sends, and hands on whole heads only: so the outcome does not depend on how the bytes were cut. In
//! place of a head that is refused, [`Guarded`] gives the library a [`stand_in`], which is answered with a problem document
//! like everything else; a body that is refused is spoilt, so that whoever reads it is told. Since the framer knows where a
//! head ends, where its body ends and when nothing is under way, [`Guarded`] also holds the clock for each of them.

mod bad;
mod guarded;
#[cfg(test)]
mod tests;

use std::mem;

use http::{HeaderMap, Method, Uri};

pub use self::{
    bad::BadFraming,
    guarded::{Guarded, IoStage, Rules, Times},
};
use crate::limits::{FIELDS_MAX, HEAD_MAX, LENGTH_MAX};

/// What to do about a body whose length is not said beforehand.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Chunked {
    /// Refuse it: our own clients always know the length.
    Refused,
    /// Take it, without chunk extensions and trailers.
    Allowed,
}

/// A byte at which the request stopped being one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Index of the byte in what was fed last. No byte from here on may reach the HTTP library.
    pub at: usize,
    /// The rule it broke.
    pub why: BadFraming,
}

/// The header of a [`stand_in`] that says what was refused.
const REFUSED: &str = "lychgate-refused";

/// What the HTTP library reads in place of a head that was refused. Nobody else can send it: the target `*` is for
/// `OPTIONS` alone (RFC 9112 3.2.4), so [`Framer`] refuses it with `GET`.
#[must_use]
pub fn stand_in(why: BadFraming) -> Vec<u8> {
    format!("GET * HTTP/1.1\r\nHost: refused\r\n{REFUSED}: {}\r\nConnection: close\r\n\r\n", why.code()).into_bytes()
}

/// What was refused, if this is a [`stand_in`].
#[must_use]
pub fn refused(method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<BadFraming> {
    if *method != Method::GET || *uri != "*" {
        return None;
    }
    let code = headers.get(REFUSED).map(http::HeaderValue::as_bytes);
    BadFraming::ALL.into_iter().find(|why| code == Some(why.code().as_bytes()))
}

/// Where in the stream of requests the last byte stood.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StreamPosition {
    /// Between requests.
    Between,
    /// In a head.
    Head,
    /// In a body.
    Body,
}

/// The framing of one connection's requests, byte by byte. Pure: it holds no socket and no clock, and never panics.
#[derive(Debug)]
pub struct Framer {
    state: State,
    /// The head so far; given back when it ends, so that an idle connection holds none of it.
    head: Vec<u8>,
    /// What may reach the HTTP library and was not taken yet.
    passed: Vec<u8>,
    chunked: Chunked,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Between,
    /// After the CR of the one empty line that may stand before a request (RFC 9112 2.2).
    BlankCr,
    /// After that empty line.
    Blank,
    Head,
    Sized {
        left: u64,
    },
    Chunks(Chunk),
    /// After the one request of an older client: what follows is thrown away with the connection.
    Over,
    /// Refused: nothing is looked at any more.
    Dead(BadFraming),
}

/// RFC 9112 7.1.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Chunk {
    Size { digits: u8, value: u64 },
    SizeCr { value: u64 },
    Data { left: u64 },
    DataEnd,
    DataCr,
    LastCr,
    LastLf,
}

/// Most digits of a chunk's size: 4 GiB, more than any limit on bodies.
const CHUNK_DIGITS_MAX: u8 = 8;

impl Framer {
    /// The framing of a fresh connection.
    #[must_use]
    pub const fn new(chunked: Chunked) -> Self {
        Self { state: State::Between, head: Vec::new(), passed: Vec::new(), chunked }
    }

    /// Whole heads and the bodies after them, as far as they came and were not taken before.
    pub fn take_passed(&mut self) -> Vec<u8> {
        mem::take(&mut self.passed)
    }

    /// Where the last byte stood.
    #[must_use]
    pub const fn place(&self) -> StreamPosition {
        match self.state {
            State::Between | State::Over => StreamPosition::Between,
            State::BlankCr | State::Blank | State::Head | State::Dead(_) => StreamPosition::Head,
            State::Sized { .. } | State::Chunks(_) => StreamPosition::Body,
        }
    }

    /// Looks at the bytes that arrived. Returns how many requests ended among them, body and all.
    ///
    /// # Errors
    /// The first byte that makes the request malformed. From then on every byte is refused.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Refused> {
        let mut ended = 0;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let next = match self.state {
                State::Sized { left } | State::Chunks(Chunk::Data { left }) => {
                    let rest = bytes.get(at..).unwrap_or_default();
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.passed.extend(rest.iter().take(here));
                    at += here;
                    Ok(self.after_data(left - u64::try_from(here).unwrap_or(left)))
                }
                State::Between | State::BlankCr | State::Blank | State::Head => {
                    at += 1;
                    self.head_byte(byte)
                }
                State::Chunks(chunk) => {
                    at += 1;
                    let next = chunk_byte(chunk, byte);
                    if next.is_ok() {
                        self.passed.push(byte);
                    }
                    next
                }
                State::Over => return Ok(ended),
                State::Dead(why) => {
                    at += 1;
                    Err(why)
                }
            };
            match next {
                Ok(state) => {
                    if matches!(state, State::Between | State::Over) {
                        ended += 1;
                    }
                    self.state = state;
                }
                Err(why) => {
                    self.state = State::Dead(why);
                    self.head = Vec::new();
                    return Err(Refused { at: at - 1, why });
                }
            }
        }
        Ok(ended)
    }

    const fn after_data(&self, left: u64) -> State {
        match (self.state, left) {
            (State::Chunks(_), 0) => State::Chunks(Chunk::DataEnd),
            (State::Chunks(_), left) => State::Chunks(Chunk::Data { left }),
            (_, 0) => State::Between,
            (_, left) => State::Sized { left },
        }
    }

    /// One byte of a head, or of the empty line before it.
    fn head_byte(&mut self, byte: u8) -> Result<State, BadFraming> {
        match (self.state, byte) {
            (State::Between, b'\r') => return Ok(State::BlankCr),
            (State::BlankCr, b'\n') => return Ok(State::Blank),
            (State::BlankCr, _) => return Err(BadFraming::BareCr),
            (State::Between | State::Blank, b'\n') => return Err(BadFraming::BareLf),
            (State::Between | State::Blank, first) if !is_token_byte(first) => return Err(BadFraming::RequestLine),
            _ => {}
        }
        follows(self.head.last().copied(), byte)?;
        if self.head.len() >= HEAD_MAX {
            return Err(BadFraming::HeadTooLarge);
        }
        self.head.push(byte);
        if self.head.ends_with(b"\r\n\r\n") {
            let head = mem::take(&mut self.head);
            let state = judge(&head, self.chunked)?;
            self.passed.extend(if state == State::Over { plain(&head) } else { head });
            return Ok(state);
        }
        Ok(State::Head)
    }
}

/// Whether a byte of a head may follow the one before it.
const fn follows(before: Option<u8>, byte: u8) -> Result<(), BadFraming> {
    match (before, byte) {
        (Some(b'\r'), b'\n') => Ok(()),
        (Some(b'\r'), _) => Err(BadFraming::BareCr),
        (_, b'\n') => Err(BadFraming::BareLf),
        (Some(b'\n'), b' ' | b'\t') => Err(BadFraming::Folded),
        (_, b'\r' | b'\t') => Ok(()),
        (_, control) if control.is_ascii_control() => Err(BadFraming::Control),
        _ => Ok(()),
    }
}

/// The head of a request on the proxy face.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyHead {
    /// `CONNECT`, with its target in authority form (RFC 9112 3.2.3) as it was written.
    Connect(String),
    /// Any other method.
    Other,
}

/// Reads a whole head, with the empty line that ends it, of a connection that carries one request and then becomes a
/// tunnel (RFC 9110 9.3.6). As strict as [`Framer`]: what follows is never read as another request, and nothing in the
/// head may let somebody believe so.
///
/// # Errors
/// The rule that was broken.
pub fn proxy_head(head: &[u8]) -> Result<ProxyHead, BadFraming> {
    // Whoever reads no further than this has no whole head, and what follows would be taken for the service's bytes.
    if head.len() > HEAD_MAX {
        return Err(BadFraming::HeadTooLarge);
    }
    let mut before = None;
    for byte in head {
        follows(before, *byte)?;
        before = Some(*byte);
    }
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut parts = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(BadFraming::RequestLine);
    };
    if !is_token(method) {
        return Err(BadFraming::RequestLine);
    }
    if version != b"HTTP/1.1" {
        return Err(BadFraming::Version);
    }
    let mut fields = Fields::default();
    for line in lines.filter(|line| !line.is_empty()) {
        fields.take(line)?;
    }
    if method != b"CONNECT" {
        return Ok(ProxyHead::Other);
    }
    if !is_host(target) {
        return Err(BadFraming::Target);
    }
    let host = fields.host.ok_or(BadFraming::NoHost)?;
    if !host.eq_ignore_ascii_case(target) {
        return Err(BadFraming::HostDiffers);
    }
    match (fields.length, fields.encoding) {
        (_, Some(_)) => Err(BadFraming::TransferEncoding),
        (Some(1..), None) => Err(BadFraming::ContentLength),
        (None | Some(0), None) => Ok(ProxyHead::Connect(String::from_utf8_lossy(target).into_owned())),
    }
}

/// The request line of a head and nothing else.
fn plain(head: &[u8]) -> Vec<u8> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    [line, b"\r\n\r\n"].concat()
}

/// What a client of HTTP/1.0 may ask for, since balancers do: they look whether anybody is there, and without `Host`.
const FOR_OLD_CLIENTS: [&[u8]; 2] = [b"/healthz", b"/readyz"];

/// What a whole head says about the body after it.
fn judge(head: &[u8], chunked: Chunked) -> Result<State, BadFraming> {
    // Ends in two CRLFs, and every LF has its CR: checked byte by byte before.
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line = request_line(lines.next().unwrap_or_default())?;
    let mut fields = Fields::default();
    for line in lines.filter(|line| !line.is_empty()) {
        fields.take(line)?;
    }
    let authority = match line {
        Line::Http11 { authority } => authority,
        Line::Http10 if fields.encoding.is_none() && matches!(fields.length, None | Some(0)) => {
            return Ok(State::Over);
        }
        Line::Http10 => return Err(BadFraming::Version),
    };
    let host = fields.host.ok_or(BadFraming::NoHost)?;
    if authority.is_some_and(|authority| !authority.eq_ignore_ascii_case(host)) {
        return Err(BadFraming::HostDiffers);
    }
    match (fields.length, fields.encoding) {
        (Some(_), Some(_)) => Err(BadFraming::LengthAndEncoding),
        (None, Some(encoding)) => match chunked {
            Chunked::Allowed if encoding.eq_ignore_ascii_case(b"chunked") => {
                Ok(State::Chunks(Chunk::Size { digits: 0, value: 0 }))
            }
            Chunked::Allowed | Chunked::Refused => Err(BadFraming::TransferEncoding),
        },
        (None | Some(0), None) => Ok(State::Between),
        (Some(left), None) => Ok(State::Sized { left }),
    }
}

/// What a request line says.
enum Line<'a> {
    /// A request of our version, with the authority of a target in absolute form.
    Http11 { authority: Option<&'a [u8]> },
    /// What is answered to an older client, which need not say a host.
    Http10,
}

/// RFC 9112 3.
fn request_line(line: &[u8]) -> Result<Line<'_>, BadFraming> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(BadFraming::RequestLine);
    };
    if !is_token(method) || target.is_empty() {
        return Err(BadFraming::RequestLine);
    }
    if version == b"HTTP/1.0" && matches!(method, b"GET" | b"HEAD") && FOR_OLD_CLIENTS.contains(&target) {
        return Ok(Line::Http10);
    }
    if version != b"HTTP/1.1" {
        return Err(BadFraming::Version);
    }
    // RFC 3986: printable ASCII, and a fragment is never sent. The library's own reading comes last: it must not find
    // anything to refuse by itself.
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') || Uri::try_from(target).is_err() {
        return Err(BadFraming::Target);
    }
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok(Line::Http11 { authority: None });
    }
    let authority = ["http://", "https://"]
        .iter()
        .find_map(|scheme| {
            let (start, rest) = target.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
        })
        .ok_or(BadFraming::Target)?;
    let end = authority.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(authority.len());
    let authority = &authority[..end];
    if is_host(authority) { Ok(Line::Http11 { authority: Some(authority) }) } else { Err(BadFraming::Target) }
}

/// The header fields that decide about framing.
#[derive(Default)]
struct Fields<'a> {
    count: usize,
    host: Option<&'a [u8]>,
    length: Option<u64>,
    encoding: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, line: &'a [u8]) -> Result<(), BadFraming> {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(BadFraming::FieldName)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if !is_token(name) {
            return Err(BadFraming::FieldName);
        }
        self.count += 1;
        if self.count > FIELDS_MAX {
            return Err(BadFraming::TooManyFields);
        }
        if name.eq_ignore_ascii_case(b"host") {
            if self.host.is_some() {
                return Err(BadFraming::TwoHosts);
            }
            if !is_host(value) {
                return Err(BadFraming::BadHost);
            }
            self.host = Some(value);
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(BadFraming::TwoContentLengths);
            }
            let length = content_length(value)?;
            if length > LENGTH_MAX {
                return Err(BadFraming::LengthTooLarge);
            }
            self.length = Some(length);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // A second one would have to be read together with the first.
            if self.encoding.is_some() {
                return Err(BadFraming::TransferEncoding);
            }
            self.encoding = Some(value);
        }
        Ok(())
    }
}

/// RFC 9112 6.3: `1*DIGIT`; no sign, no list, nothing beyond 64 bits.
fn content_length(value: &[u8]) -> Result<u64, BadFraming> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(BadFraming::ContentLength);
    }
    value
        .iter()
        .try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or(BadFraming::ContentLength)
}

/// One byte of a chunked body, outside the data.
fn chunk_byte(chunk: Chunk, byte: u8) -> Result<State, BadFraming> {
    Ok(State::Chunks(match (chunk, byte) {
        (Chunk::Size { digits, value }, hex) if hex.is_ascii_hexdigit() && digits < CHUNK_DIGITS_MAX => {
            let digit = char::from(hex).to_digit(16).unwrap_or_default();
            Chunk::Size { digits: digits + 1, value: value << 4 | u64::from(digit) }
        }
        (Chunk::Size { digits: 1.., value }, b'\r') => Chunk::SizeCr { value },
        (Chunk::SizeCr { value: 0 }, b'\n') => Chunk::LastCr,
        (Chunk::SizeCr { value }, b'\n') => Chunk::Data { left: value },
        (Chunk::DataEnd, b'\r') => Chunk::DataCr,
        (Chunk::DataCr, b'\n') => Chunk::Size { digits: 0, value: 0 },
        (Chunk::LastCr, b'\r') => Chunk::LastLf,
        (Chunk::LastLf, b'\n') => return Ok(State::Between),
        _ => return Err(BadFraming::Chunk),
    }))
}

/// RFC 9110 5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// RFC 9110 7.2, without what no DNS name, address or port has: user names, percent signs, lists.
fn is_host(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']'))
}
