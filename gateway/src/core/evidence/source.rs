//! Where documents come from that are maintained outside the gateway, and how old they may be.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// Where a document is. This comes from the attestor's section of the configuration, never from evidence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentSource {
    /// A file on the gateway's machine.
    File(PathBuf),
    /// An https URL.
    Url(HttpsUrl),
}

impl fmt::Display for DocumentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

/// An https URL to fetch a document from, and whom it may lead to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpsUrl {
    /// Host as in the URL: a name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// A PEM file with the CAs that its certificate must be by, instead of those of the system.
    pub ca: Option<PathBuf>,
    /// The addresses that its host may have.
    pub reach: Reach,
}

/// Addresses that a fetch may connect to.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Those of the internet alone.
    Public,
    /// Also those of this machine and of private networks.
    Any,
}

/// Longest URL, in bytes.
const URL_MAX: usize = 1024;

impl HttpsUrl {
    /// Reads an https URL without user, password and fragment.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, ca: Option<PathBuf>, reach: Reach) -> Result<Self, &'static str> {
        let rest = text.strip_prefix("https://").ok_or("it does not begin with https://")?;
        if text.len() > URL_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it is too long, or has other characters than a URL");
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') || text.contains('#') {
            return Err("it has a user or a fragment");
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']').ok_or("its IPv6 address does not end")?;
                host.parse::<Ipv6Addr>().map_err(|_| "its IPv6 address is none")?;
                (host, rest)
            }
            None => {
                let (host, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
                let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
                if host.is_empty() || !host.bytes().all(known) {
                    return Err("its host is no name or address");
                }
                (host, rest)
            }
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => digits.parse().ok().filter(|port| *port != 0).ok_or("its port is no number")?,
            None if port.is_empty() => 443,
            None => return Err("its host is no name or address"),
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { host: host.to_ascii_lowercase(), port, path, ca, reach })
    }

    /// Host and port as in a `Host` header (RFC 9110 7.2).
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority(), self.path)
    }
}

impl Reach {
    /// Whether a fetch may connect to this address.
    #[must_use]
    pub fn admits(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Any, _) => true,
            (Self::Public, IpAddr::V4(address)) => public_v4(address),
            (Self::Public, IpAddr::V6(address)) => public_v6(address),
        }
    }
}

/// By the IANA registry of special-purpose addresses (RFC 6890).
fn public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special
}

/// Global unicast addresses (RFC 4291 2.4) that stand for no IPv4 address and are in no other special block. Those of NAT64 (RFC 6052)
/// and 6to4 (RFC 3056) may lead to a private IPv4 address.
fn public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, _, _, _, _, _] = address.segments();
    match (a, b, c) {
        (0x2002, ..) => {
            let [high, low] = [b, c].map(u16::to_be_bytes);
            public_v4(Ipv4Addr::new(high[0], high[1], low[0], low[1]))
        }
        // IETF protocol assignments, with Teredo (RFC 4380); documentation (RFC 3849, RFC 9637)
        (0x2001, 0..=0x01ff | 0x0db8, _) | (0x3fff, 0..=0x0fff, _) => false,
        (0x2000..=0x3fff, ..) => true,
        (0x64, 0xff9b, 0) => {
            let [.., high, low] = address.segments();
            let [high, low] = [high, low].map(u16::to_be_bytes);
            public_v4(Ipv4Addr::new(high[0], high[1], low[0], low[1]))
        }
        // mapped IPv4 addresses (RFC 4291 2.5.5.2)
        _ => address.to_ipv4_mapped().is_some_and(public_v4),
    }
}

/// How long a document is kept that is about one machine alone, and that there is none: an owner writes it while the machine waits.
pub const OF_NAME_AGE: Duration = Duration::from_secs(15);

/// How new a document must be.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// As it is kept: read or fetched in the last minutes, or older if that fails.
    Kept,
    /// Fetched just now, since what is sought is not in the one that is kept. This is limited in rate: it may be half a minute old.
    Newest,
    /// At most [`OF_NAME_AGE`] old. The name in its source is one that anybody may ask for, so such documents are kept apart from the
    /// others, limited in number and rate for all names together, and it is no fault of the operator's if there is none.
    OfName,
}

/// A document that is maintained outside the gateway, such as a CRL or a key set.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its contents.
    pub bytes: Arc<[u8]>,
    /// Time since a file was last modified, or since a URL was last fetched. The attestor decides whether it is too old.
    pub age: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, want) in [
            ("https://a.example/keys", Ok(("a.example", 443, "/keys", "https://a.example/keys"))),
            ("https://A.example:8443", Ok(("a.example", 8443, "/", "https://a.example:8443/"))),
            ("https://a.example?v=1", Ok(("a.example", 443, "/?v=1", "https://a.example/?v=1"))),
            ("https://127.0.0.1:1/", Ok(("127.0.0.1", 1, "/", "https://127.0.0.1:1/"))),
            ("https://[::1]:8/x", Ok(("::1", 8, "/x", "https://[::1]:8/x"))),
            ("http://a.example/", Err("it does not begin with https://")),
            ("HTTPS://a.example/", Err("it does not begin with https://")),
            ("https://", Err("its host is no name or address")),
            ("https:///x", Err("its host is no name or address")),
            ("https://a b/", Err("it is too long, or has other characters than a URL")),
            ("https://a\n/", Err("it is too long, or has other characters than a URL")),
            ("https://u:p@a.example/", Err("it has a user or a fragment")),
            ("https://a.example/#x", Err("it has a user or a fragment")),
            ("https://a.example:/", Err("its port is no number")),
            ("https://a.example:0/", Err("its port is no number")),
            ("https://a.example:65536/", Err("its port is no number")),
            ("https://[::1/", Err("its IPv6 address does not end")),
            ("https://[a.example]/", Err("its IPv6 address is none")),
            ("https://[::1]x/", Err("its host is no name or address")),
            ("https://a_b/", Err("its host is no name or address")),
        ] {
            let parsed = HttpsUrl::parse(text, None, Reach::Public);
            let shown = parsed.as_ref().map(ToString::to_string).unwrap_or_default();
            let found = parsed.as_ref().map(|url| (url.host.as_str(), url.port, url.path.as_str(), shown.as_str()));
            assert_eq!(found.map_err(|why| *why), want, "{text}");
        }
    }

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for public in
            ["1.1.1.1", "9.255.255.255", "100.63.0.1", "100.128.0.1", "172.15.0.1", "172.32.0.1", "2606:4700::1"]
        {
            assert!(Reach::Public.admits(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "5f00::1",
        ] {
            let address = private.parse().unwrap();
            assert!(!Reach::Public.admits(address), "{private}");
            assert!(Reach::Any.admits(address), "{private}");
        }
        for public in ["::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"] {
            assert!(Reach::Public.admits(public.parse().unwrap()), "{public}");
        }
    }
}
