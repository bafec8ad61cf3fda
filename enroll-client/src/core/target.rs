//! The argument of `join`: a join token or a URL. Only the form of a token is checked: the client cannot verify the signature, and
//! uses only the gateway's address and the pin.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pki::{KeyDigest, Name, UnixTime};
use wire::evidence::{JOIN_TOKEN_AUDIENCE, JoinTokenClaims};

use crate::text::report::{Complaint, Exit};

/// The port of `https` URLs that name none (RFC 9110 4.2.2).
const HTTPS_PORT: u16 = 443;

/// Longest argument of `join`, in bytes. A token has about 600 bytes; the limit allows longer names and RSA signatures.
const INPUT_MAX: usize = 8 * 1024;

/// `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why a string is not an address or a pin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum BadTarget {
    #[error("nothing to join is given")]
    Empty,
    #[error("that is longer than {INPUT_MAX} bytes, so neither a token nor a URL")]
    TooLong,
    #[error("`{0}` is not an https URL")]
    NotHttps(String),
    #[error("`{0}` has parts that a gateway's URL does not have (only https://HOST[:PORT][#PIN])")]
    TooManyParts(String),
    #[error("`{0}` is not a host name or an IP address")]
    BadHost(String),
    #[error("`{0}` is not a port")]
    BadPort(String),
    #[error("`{0}` is not a pin: 64 hex digits, the SHA-256 of the root's public key")]
    BadPin(String),
    /// The three parts are there but do not decode.
    #[error("the token is damaged: {0}")]
    BadToken(&'static str),
    /// There is a token in it, and more than that. It is not repeated: it is a secret.
    #[error("that looks like a join token with something else around it")]
    Mangled,
    #[error("the token is not a join token but one for `{0}`")]
    OtherAudience(String),
}

impl From<BadTarget> for Complaint {
    fn from(bad: BadTarget) -> Self {
        let hint = match &bad {
            BadTarget::BadToken(_) | BadTarget::OtherAudience(_) | BadTarget::Mangled => {
                "copy the whole token again, from `ey` to its end"
            }
            BadTarget::BadPin(_) => "the gateway's operator knows the pin; `lychgate-gateway` prints it at start",
            _ => "use `lychgate join TOKEN` or `lychgate join https://HOST[:PORT] --pin PIN`",
        };
        Self::new(Exit::Usage, "usage", bad.to_string()).hint(hint)
    }
}

impl Address {
    /// Parses `host`, `host:port`, `1.2.3.4:port` or `[v6]:port`.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, BadTarget> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(|| BadTarget::BadHost(text.to_owned()))?;
                let port = match after {
                    "" => None,
                    _ => Some(after.strip_prefix(':').ok_or_else(|| BadTarget::BadPort(after.to_owned()))?),
                };
                (host, port)
            }
            // A bare IPv6 address has several colons and so no port.
            None if text.matches(':').count() > 1 => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            None => default_port,
            Some(digits) => match digits.parse::<u16>() {
                Ok(port) if port != 0 && digits.bytes().all(|b| b.is_ascii_digit()) => port,
                _ => return Err(BadTarget::BadPort(digits.to_owned())),
            },
        };
        let host = host.to_ascii_lowercase();
        if !is_host(&host) {
            return Err(BadTarget::BadHost(host));
        }
        Ok(Self { host, port })
    }

    /// The name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The form of a `Host` header and a URL: IPv6 in brackets, without the default port (RFC 9110 4.2.3).
    #[must_use]
    pub fn authority(&self) -> String {
        let full = self.to_string();
        full.strip_suffix(":443").map_or(full.clone(), str::to_owned)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An IP address or a DNS name (RFC 1123 2.1, with underscores that some networks use).
fn is_host(host: &str) -> bool {
    if host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    (1..=253).contains(&name.len()) && name.split('.').all(label)
}

/// A DNS name (not an address) from another party: only letters, digits, `.`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsName(String);

impl DnsName {
    /// Converts to lower case and drops a trailing dot.
    ///
    /// # Errors
    /// [`BadTarget`]: neither a join token nor an https URL of a gateway.
    pub fn parse(text: &str) -> Result<Self, BadTarget> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if is_host(&name) && name.parse::<IpAddr>().is_err() {
            Ok(Self(name))
        } else {
            Err(BadTarget::BadHost(text.to_owned()))
        }
    }
}

impl std::fmt::Display for DnsName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A join token and its claims.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token itself, a secret.
    pub text: String,
    /// The enroll face.
    pub gateway: Address,
    /// The root to expect.
    pub pin: KeyDigest,
    /// End of its validity, by the gateway's clock.
    pub expires: UnixTime,
    /// `machine` or `person`.
    pub role: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("gateway", &self.gateway).field("role", &self.role).finish_non_exhaustive()
    }
}

/// The argument of `join`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinTarget {
    /// A token: gateway, pin and admission in one string.
    Token(Token),
    /// A gateway, perhaps with its pin behind `#`.
    Url {
        /// The enroll face.
        gateway: Address,
        /// The root to expect.
        pin: Option<KeyDigest>,
    },
}

impl JoinTarget {
    /// Parses pasted text. White space inside a token is dropped: terminals and chat programs insert line breaks.
    ///
    /// # Errors
    /// When it is neither a join token nor a gateway's URL.
    pub fn parse(raw: &str) -> Result<Self, BadTarget> {
        if raw.len() > INPUT_MAX {
            return Err(BadTarget::TooLong);
        }
        if let Some(token) = token_in(raw) {
            return Token::parse(token).map(Self::Token);
        }
        let around = |c: char| c.is_whitespace() || matches!(c, '"' | '\'');
        let raw = raw.trim_start_matches('\u{feff}').trim_matches(around);
        let text: String = raw.chars().filter(|c| !c.is_whitespace()).collect();
        if text.is_empty() {
            return Err(BadTarget::Empty);
        }
        // `{"` in base64url: every JWT starts so, also a truncated one, and no host name does.
        if text.starts_with("eyJ") && !text.contains([':', '/']) {
            return Token::parse(text).map(Self::Token);
        }
        Self::parse_url(&text).map_err(|bad| if looks_like_a_token(&text) { BadTarget::Mangled } else { bad })
    }

    fn parse_url(text: &str) -> Result<Self, BadTarget> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => rest,
            Some(_) => return Err(BadTarget::NotHttps(text.to_owned())),
            None => text,
        };
        let (place, fragment) = match rest.split_once('#') {
            Some((place, fragment)) => (place, Some(fragment)),
            None => (rest, None),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        if place.contains(['/', '?', '@', '\\']) {
            return Err(BadTarget::TooManyParts(text.to_owned()));
        }
        let pin = fragment.map(|pin| parse_pin(pin.strip_prefix("pin=").unwrap_or(pin))).transpose()?;
        Ok(Self::Url { gateway: Address::parse(place, HTTPS_PORT)?, pin })
    }
}

/// Whether a text contains a token, so that messages, which end in journals, must not quote it.
fn looks_like_a_token(text: &str) -> bool {
    text.to_ascii_lowercase().contains("eyj")
}

/// Finds the token in a file: with a byte order mark, in quotes, after `TOKEN=`, below a comment, on one line or wrapped.
fn token_in(raw: &str) -> Option<String> {
    let of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let lines = raw.trim_start_matches('\u{feff}').lines().filter(|line| !line.trim_start().starts_with('#'));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    // A URL, even if its pin looks like a token.
    if text.contains("://") {
        return None;
    }
    let at = text.find("eyJ").filter(|at| !text[..*at].ends_with(of_token))?;
    let rest = text.get(at..)?;
    let word: String = rest.chars().take_while(|c| of_token(*c)).collect();
    let whole = word.matches('.').count() == 2 && word.rsplit('.').next().is_some_and(|last| last.len() >= SIGNATURE);
    let wrapped = rest.chars().take_while(|c| of_token(*c) || c.is_whitespace()).filter(|c| !c.is_whitespace());
    let token = if whole { word } else { wrapped.collect() };
    (token.matches('.').count() == 2).then_some(token)
}

/// Least length of a token's signature: P-256, in base64url. If it is shorter, the token continues on the next line.
const SIGNATURE: usize = 86;

impl Token {
    fn parse(text: String) -> Result<Self, BadTarget> {
        let [_, payload, _] = text.split('.').collect::<Vec<&str>>()[..] else {
            return Err(BadTarget::BadToken("it does not have three parts"));
        };
        let json =
            URL_SAFE_NO_PAD.decode(payload).map_err(|_| BadTarget::BadToken("its middle part is not base64url"))?;
        // The audience first, for a precise message about other JWTs.
        let claims: serde_json::Value =
            serde_json::from_slice(&json).map_err(|_| BadTarget::BadToken("its middle part is not JSON"))?;
        let audience = claims.get("aud").and_then(serde_json::Value::as_str).unwrap_or_default();
        if audience != JOIN_TOKEN_AUDIENCE {
            return Err(BadTarget::OtherAudience(audience.chars().take(64).collect()));
        }
        let claims: JoinTokenClaims =
            serde_json::from_value(claims).map_err(|_| BadTarget::BadToken("a claim is missing"))?;
        let gateway = Address::parse(&claims.gateway, HTTPS_PORT)
            .map_err(|_| BadTarget::BadToken("its gateway is not host:port"))?;
        let pin = parse_pin(&claims.pin).map_err(|_| BadTarget::BadToken("its pin is not 64 hex digits"))?;
        Ok(Self { text, gateway, pin, expires: UnixTime::new(claims.exp), role: claims.role })
    }
}

/// Parses a pin: 64 hex digits in any case, optionally with blanks, colons or hyphens between them, and after `sha256:`.
pub fn parse_pin(text: &str) -> Result<KeyDigest, BadTarget> {
    let bad = || BadTarget::BadPin(text.chars().take(80).collect());
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.strip_prefix("sha256:").or_else(|| lower.strip_prefix("sha-256:")).unwrap_or(&lower);
    let hex: String = digits.chars().filter(|c| !matches!(c, ' ' | ':' | '-')).collect();
    if hex.len() != 64 {
        return Err(bad());
    }
    KeyDigest::parse_hex(&hex).map_err(|_| bad())
}

/// Parses the requested name, so that an invalid one is refused before anything is sent.
pub fn parse_name(text: &str) -> Result<Name, Complaint> {
    Name::parse(text).map_err(|bad| {
        Complaint::new(Exit::Usage, "usage", format!("`{text}` cannot be a name: {bad}"))
            .hint("use lower-case letters, digits and inner hyphens, at most 63 characters")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn pin() -> KeyDigest {
        KeyDigest::parse_hex(PIN).unwrap()
    }

    fn url(host: &str, port: u16, pin: Option<KeyDigest>) -> JoinTarget {
        JoinTarget::Url { gateway: Address { host: host.into(), port }, pin }
    }

    fn jwt(payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#), URL_SAFE_NO_PAD.encode(payload))
    }

    fn claims(gateway: &str, pin: &str) -> String {
        format!(
            r#"{{"iss":"spiffe://td","aud":"lychgate-join","jti":"t1","iat":1,"nbf":1,"exp":9,"gateway":"{gateway}","pin":"{pin}","role":"machine","later":true}}"#
        )
    }

    #[track_caller]
    fn check(raw: &str, want: Result<JoinTarget, BadTarget>) {
        assert_eq!(JoinTarget::parse(raw), want, "{raw}");
    }

    /// Files as people, other systems and mail programs write them. Messages about invalid ones do not quote them.
    #[test]
    fn tokens_as_people_write_them() {
        let claims = "eyJhdWQiOiJ4In0";
        let token = format!("eyJhbGciOiJFUzI1NiJ9.{claims}.{}", "s".repeat(86));
        let wrapped = format!("{}\r\n{}\r\n", &token[..70], &token[70..]);
        for (what, text) in [
            ("as it is", token.clone()),
            ("a line", format!("{token}\r\n")),
            ("a byte order mark", format!("\u{feff}{token}\n")),
            ("quotes", format!("\"{token}\"")),
            ("single quotes", format!("'{token}'\n")),
            ("a variable", format!("TOKEN={token}\n")),
            ("a variable in quotes", format!("export LYCHGATE_TOKEN=\"{token}\"\n")),
            ("a comment", format!("# for edge-7\n{token}\n")),
            ("words around it", format!("the token: {token} (good for a day)\n")),
            ("wrapped", wrapped),
            (
                "wrapped within the signature",
                format!("{}\n{}\n", &token[..token.len() - 20], &token[token.len() - 20..]),
            ),
        ] {
            assert_eq!(token_in(&text).as_deref(), Some(token.as_str()), "{what}");
        }
        for text in [
            format!("x{token}"),
            format!("http://gw.example/{token}"),
            format!("https://gw.example/?t={token}"),
            format!("https://gw.example#{token}"),
            format!("https://{token}"),
        ] {
            let said = JoinTarget::parse(&text).unwrap_err().to_string();
            assert!(!said.to_lowercase().contains(&claims.to_lowercase()), "{said}");
        }
    }

    #[test]
    fn urls() {
        check("https://gw.example", Ok(url("gw.example", 443, None)));
        check("https://gw.example/", Ok(url("gw.example", 443, None)));
        check("HTTPS://GW.example:8443", Ok(url("gw.example", 8443, None)));
        check("gw.example:8443", Ok(url("gw.example", 8443, None)));
        check("localhost", Ok(url("localhost", 443, None)));
        check("https://127.0.0.1:8443", Ok(url("127.0.0.1", 8443, None)));
        check("https://[::1]:8443/", Ok(url("::1", 8443, None)));
        check("::1", Ok(url("::1", 443, None)));
        check(&format!("https://gw.example#{PIN}"), Ok(url("gw.example", 443, Some(pin()))));
        check(&format!("https://gw.example/#pin={PIN}"), Ok(url("gw.example", 443, Some(pin()))));
        check(" https://gw.example \n", Ok(url("gw.example", 443, None)));
    }

    #[test]
    fn not_urls() {
        check("", Err(BadTarget::Empty));
        check("http://gw", Err(BadTarget::NotHttps("http://gw".into())));
        check("https://gw/path", Err(BadTarget::TooManyParts("https://gw/path".into())));
        check("https://me@gw", Err(BadTarget::TooManyParts("https://me@gw".into())));
        check("https://gw:0", Err(BadTarget::BadPort("0".into())));
        check("https://gw:65536", Err(BadTarget::BadPort("65536".into())));
        check("https://gw:+80", Err(BadTarget::BadPort("+80".into())));
        check("https://[::1]8443", Err(BadTarget::BadPort("8443".into())));
        check("https://[::1", Err(BadTarget::BadHost("[::1".into())));
        check("https://-gw", Err(BadTarget::BadHost("-gw".into())));
        check("https://", Err(BadTarget::BadHost(String::new())));
        check("https://gw#12", Err(BadTarget::BadPin("12".into())));
        check(&"a".repeat(INPUT_MAX + 1), Err(BadTarget::TooLong));
    }

    #[test]
    fn tokens() {
        let text = jwt(&claims("gw.example:8443", PIN));
        let token = Token {
            text: text.clone(),
            gateway: Address { host: "gw.example".into(), port: 8443 },
            pin: pin(),
            expires: UnixTime::new(9),
            role: "machine".into(),
        };
        check(&text, Ok(JoinTarget::Token(token.clone())));
        let wrapped = format!(" {}\n  {}\n", &text[..40], &text[40..]);
        check(&wrapped, Ok(JoinTarget::Token(token)));
    }

    #[test]
    fn damaged_tokens() {
        for cut in ["eyJ", "eyJ0eXAi", "eyJ0eXAi.eyJpc3Mi", "eyJ0.eyJp.c2ln.c2ln"] {
            check(cut, Err(BadTarget::BadToken("it does not have three parts")));
        }
        check("eyJ.!!.x", Err(BadTarget::BadToken("its middle part is not base64url")));
        check(&jwt("nonsense"), Err(BadTarget::BadToken("its middle part is not JSON")));
        check(&jwt(r#"{"aud":"elsewhere"}"#), Err(BadTarget::OtherAudience("elsewhere".into())));
        check(&jwt(r#"{"aud":"lychgate-join"}"#), Err(BadTarget::BadToken("a claim is missing")));
        check(&jwt(&claims("a b", PIN)), Err(BadTarget::BadToken("its gateway is not host:port")));
        check(&jwt(&claims("gw:1", "12")), Err(BadTarget::BadToken("its pin is not 64 hex digits")));
    }

    #[test]
    fn a_token_never_shows_itself() {
        let Ok(JoinTarget::Token(token)) = JoinTarget::parse(&jwt(&claims("gw:1", PIN))) else { panic!("no token") };
        assert!(!format!("{token:?}").contains(&token.text));
    }

    #[test]
    fn authorities() {
        for (text, want) in
            [("gw.example:443", "gw.example"), ("gw:8443", "gw:8443"), ("[::1]:443", "[::1]"), ("::1", "[::1]")]
        {
            assert_eq!(Address::parse(text, 443).unwrap().authority(), want);
        }
    }

    #[test]
    fn pins_as_people_write_them() {
        let grouped = PIN.as_bytes().chunks(4).map(|g| std::str::from_utf8(g).unwrap()).collect::<Vec<_>>().join(" ");
        for text in
            [PIN.to_owned(), PIN.to_uppercase(), grouped.clone(), grouped.replace(' ', ":"), format!("sha256:{PIN}")]
        {
            assert_eq!(parse_pin(&text), Ok(pin()), "{text}");
        }
        for text in ["", "zz", &PIN[1..], &PIN.replace('0', "g")] {
            assert!(parse_pin(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(raw in "\\PC{0,200}") {
            let _ = JoinTarget::parse(&raw);
            let _ = Address::parse(&raw, 1);
            let _ = parse_pin(&raw);
        }

        #[test]
        fn damaged_tokens_never_panic(cut in 0usize..400, byte in any::<u8>()) {
            let mut bytes = jwt(&claims("gw.example:8443", PIN)).into_bytes();
            let at = cut % bytes.len();
            bytes[at] = byte & 0x7f;
            let _ = JoinTarget::parse(&String::from_utf8(bytes).unwrap());
        }

        #[test]
        fn addresses_survive_printing(host in "[a-z][a-z0-9]{0,8}(\\.[a-z]{1,5}){0,3}", port in 1u16..) {
            let address = Address::parse(&format!("{host}:{port}"), 443).unwrap();
            prop_assert_eq!(Address::parse(&address.to_string(), 443).unwrap(), address);
        }
    }
}
